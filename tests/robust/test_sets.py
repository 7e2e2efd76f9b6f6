"""Real sets as they arrive: half unpacked, the wrong folder, colored masks, boxes outside. Each is named, with the cure."""
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from test_coco import coco_folder
from test_faces import lfw  # noqa: F401, a fixture

from helpers.files import write_cifar, write_folders
from helpers.matrix import check
from sskd_tutor.cli import main
from sskd_tutor.data.formats import open_data, read_cifar
from sskd_tutor.data.made import make_scenes, write_camvid
from sskd_tutor.runs.coco import coco_sets
from sskd_tutor.tasks.lfw import lfw_pairs, lfw_people
from sskd_tutor.tasks.streets import street_dls

pytestmark = pytest.mark.slow

verbs = 'add choose copy expected fill fix get give leave name pass put remove save unpack write'.split()
cure = re.compile(rf"[.;,] (or )?({'|'.join(verbs)}) ", re.I)   # at the beginning of a sentence or of a part of one

def named(case, f):
    "It is refused by a sentence of ours that says what to do"
    end = check('sets', case, f, expect=('named',))
    assert cure.search(end.says), f'no cure: {end.says}'

def cut(path, n=100): path.write_bytes(path.read_bytes()[:-n])
def edited(path, change):
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))

# --- CIFAR

cifar = {
    'no test file': lambda f: (f/'test.bin').unlink(), 'no names': lambda f: (f/'fine_label_names.txt').unlink(),
    'cut short': lambda f: cut(f/'train.bin'), 'empty': lambda f: (f/'train.bin').write_bytes(b''),
    'half of the names': lambda f: (f/'fine_label_names.txt').write_text('one\ntwo\n'),
    'names in another coding': lambda f: (f/'fine_label_names.txt').write_bytes(b'\xff\xfe\xcf'),
    'a folder in place of a file': lambda f: ((f/'test.bin').unlink(), (f/'test.bin').mkdir()),
    'all gone': lambda f: (shutil.rmtree(f), f.mkdir())}

@pytest.mark.parametrize('name', cifar)
def test_cifar(name, tmp_path):
    folder = write_cifar(tmp_path/'cifar-100-binary')
    cifar[name](folder)
    named(f'CIFAR-100, {name}', lambda: read_cifar(folder))

# --- streets

def palette(f):
    mask = Image.open(f/'labels/00001_P.png').convert('P')
    mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    mask.save(f/'labels/00001_P.png')

streets = {
    'colored masks': lambda f: Image.new('RGB', (48, 48), (128, 0, 0)).save(f/'labels/00001_P.png'), 'a palette': palette,
    'a class too many': lambda f: Image.fromarray(np.full((48, 48), 99, 'u1')).save(f/'labels/00001_P.png'),
    'no masks': lambda f: shutil.rmtree(f/'labels'), 'half of the masks': lambda f: (f/'labels/00001_P.png').unlink(),
    'a mask cut short': lambda f: cut(f/'labels/00001_P.png', 30), 'an image cut short': lambda f: cut(f/'images/00001.png'),
    'a mask of another size': lambda f: Image.new('L', (9, 9)).save(f/'labels/00001_P.png'),
    'codes in another coding': lambda f: (f/'codes.txt').write_bytes(b'\xff\xfe\xcf'), 'no codes': lambda f: (f/'codes.txt').unlink(),
    'a list that names missing images': lambda f: (f/'valid.txt').write_text('00001.png\nelsewhere.png\n'),
    'all held out': lambda f: (f/'valid.txt').write_text('\n'.join(p.name for p in (f/'images').iterdir()))}

@pytest.mark.parametrize('name', streets)
def test_streets(name, tmp_path):
    folder = write_camvid(make_scenes(6, size=48), tmp_path/'camvid')
    streets[name](folder)
    named(f'CamVid, {name}', lambda: street_dls(folder, (48, 48), 2, device='cpu'))

# --- boxes

def first(found, **new): found['annotations'][0].update(new)
annotations = 'annotations/instances_train2017.json'
boxes = {
    'a box outside its image': lambda f: edited(f/annotations, lambda o: first(o, bbox=[500, 500, 9, 9])),
    'a box of three numbers': lambda f: edited(f/annotations, lambda o: first(o, bbox=[1, 2, 3])),
    'a box of words': lambda f: edited(f/annotations, lambda o: first(o, bbox='here')),
    'an unknown category': lambda f: edited(f/annotations, lambda o: first(o, category_id=99)),
    'an unknown image': lambda f: edited(f/annotations, lambda o: first(o, image_id=99)),
    'an image that is missing': lambda f: (f/'train2017/00001.png').unlink(),
    'an image of another size': lambda f: Image.new('L', (9, 9)).save(f/'train2017/00001.png'),
    'no annotations': lambda f: edited(f/annotations, lambda o: o.update(annotations=[])),
    'a list missing': lambda f: edited(f/annotations, lambda o: o.pop('categories')),
    'an entry that is a number': lambda f: edited(f/annotations, lambda o: o['annotations'].append(3)),
    'names that are numbers': lambda f: edited(f/annotations, lambda o: o['images'][0].update(file_name=3)),
    'sizes of words': lambda f: edited(f/annotations, lambda o: o['images'][0].update(width='wide')),
    'an id that is a list': lambda f: edited(f/annotations, lambda o: first(o, image_id=[1])),
    'cut short': lambda f: cut(f/annotations), 'no file': lambda f: (f/annotations).unlink(),
    'no images at all': lambda f: shutil.rmtree(f/'train2017'), 'a way out of the folder': lambda f: edited(
        f/annotations, lambda o: o['images'][0].update(file_name='../../../etc/passwd'))}

@pytest.mark.parametrize('name', boxes)
def test_boxes(name, tmp_path):
    folder = coco_folder(tmp_path)
    boxes[name](folder)
    named(f'COCO, {name}', lambda: coco_sets(folder))

# --- faces

faces = {
    'pairs that name missing images': lambda f: (f/'pairs.txt').write_text('1\t1\nNobody\t1\t2\nAnn_Jr.\t1\tBob_Jr.\t1\n'),
    'half unpacked': lambda f: (f/'lfw_funneled/Ann_Jr./Ann_Jr._0001.jpg').unlink(),
    'an image cut short': lambda f: cut(f/'lfw_funneled/Ann_Jr./Ann_Jr._0001.jpg', 2_000), 'no pairs': lambda f: (f/'pairs.txt').unlink(),
    'no images': lambda f: shutil.rmtree(f/'lfw_funneled'), 'pairs that are none': lambda f: (f/'pairs.txt').write_text('10\t300\nwhat\tis\tthis\there\tnow\n'),
    'pairs in another coding': lambda f: (f/'pairs.txt').write_bytes(b'\xff\xfe\xcf')}

@pytest.mark.parametrize('name', faces)
def test_faces(name, lfw):  # noqa: F811
    faces[name](lfw/'lfw_home')
    def f():
        lfw_pairs('10_folds', lfw)
        lfw_people('10_folds', data_home=lfw)
    named(f'LFW, {name}', f)

# --- folders of one's own

folders = {
    'one class': lambda f: [shutil.rmtree(p) for p in sorted(f.iterdir())[1:]], 'an empty class': lambda f: (f/'nothing').mkdir(),
    'no folder': shutil.rmtree, 'a class of one image': lambda f: ((f/'few').mkdir(), Image.new('RGB', (9, 9)).save(f/'few/a.png')),
    'a text named png': lambda f: (next(f.iterdir())/'a.png').write_text('no image'),
    '16 bits': lambda f: Image.fromarray(np.zeros((9, 9), 'u2')).save(next(f.iterdir())/'a.png'),
    'gray among colors': lambda f: Image.new('L', (9, 9)).save(next(f.iterdir())/'a.png'),
    'a dead link': lambda f: (next(f.iterdir())/'a.png').symlink_to('nowhere'),
    'a link in a circle': lambda f: (next(f.iterdir())/'a.png').symlink_to('a.png'),
    'an image of no pixels': lambda f: (next(f.iterdir())/'a.ppm').write_bytes(b'P6 0 0 255\n')}

@pytest.mark.parametrize('name', folders)
def test_folders(name, tmp_path):
    folder = write_folders(tmp_path/'photos', {'.': range(60)})
    folders[name](folder)
    def f(): open_data(folder, size=16, bs=4, device='cpu', mode=None, whole=True)
    named(f'a folder with {name}', f)

# --- SSKD_DATA

wrong = {
    'is no folder': lambda f: f/'nowhere', 'is a file': lambda f: (f/'a').write_text('x') and f/'a', 'is empty': lambda f: f,
    'holds something else': lambda f: write_folders(f/'other', {'.': range(40)}).parent}

@pytest.mark.parametrize('recipe', ['cifar100_resnet56_resnet20', 'camvid_resnet34_resnet10', 'lfw_resnet', 'bccd_resnet'])
@pytest.mark.parametrize('name', wrong)
def test_sskd_data(name, recipe, tmp_path, monkeypatch, capsys):
    "On the command line: one line, and no traceback"
    monkeypatch.setenv('SSKD_DATA', str(wrong[name](tmp_path)))
    def f():
        assert main(['recipe', recipe, '--plan', '--device', 'cpu']) == 2
        said = capsys.readouterr().err
        assert 'Traceback' not in said and str(tmp_path) in said and 'Error' not in said, said
        assert cure.search(said), f'no cure: {said}'
    check('sets', f'SSKD_DATA {name}, {recipe}', f, expect=('right',))
