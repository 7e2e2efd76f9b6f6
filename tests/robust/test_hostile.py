"""Files that somebody made to keep a machine busy, or to have it run something: each is refused in a sentence, at once."""
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import time
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin, Image
from safetensors.torch import save
from sklearn.datasets import fetch_lfw_pairs
from test_faces import lfw  # noqa: F401, a fixture
from torch import nn

from helpers.matrix import check
from helpers.readers import readers as sets
from sskd_tutor.compare.curves import read_curves
from sskd_tutor.compare.results import read_runs
from sskd_tutor.compare.study import studies
from sskd_tutor.core.files import file_sha256, most_text, read_snapshot, write_snapshot
from sskd_tutor.data.images import read_idx
from sskd_tutor.data.lists import read_table
from sskd_tutor.distill.pairing import Pairing
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.weights import load_weights, most_header, weights_meta
from sskd_tutor.runs.classes import weights_note
from sskd_tutor.runs.folder import FolderSettings
from sskd_tutor.runs.saved import load_run
from sskd_tutor.runs.look import look_section
from sskd_tutor.runs.options import from_config
from sskd_tutor.runs.recipe_file import read_recipe
from sskd_tutor.tasks.boxes import check_coco
from sskd_tutor.tasks.detection import read_weights
from sskd_tutor.tasks.lfw import lfw_pairs
from sskd_tutor.tasks.streets import street_images

def header(path, raw):
    "A safetensors file of this header, and nothing else"
    path.write_bytes(len(raw).to_bytes(8, 'little') + raw)
    return path

def sparse(path, n):
    "A file of n bytes that takes no room on the disk"
    with path.open('wb') as f: f.truncate(n)
    return path

def notes(path, text): return header(path, json.dumps({'__metadata__': dict(sskd_tutor=text)}).encode())
def many_tensors(path):
    entry = '"a%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return header(path, ('{' + ','.join(entry % i for i in range(200_000)) + '}').encode())

def beside_weights(folder, text):
    (folder/'images.json').write_text(text)
    (folder/'w.pt').write_bytes(b'')
    return weights_note(folder/'w.pt')

def copied_recording(folder, text):
    (folder/'alignment.json').write_text(text)
    return Recording.load(folder)

def written(folder, name, text):
    (folder/name).write_text(text)
    return folder/name

brackets = '['*200_000
readers = {
    'a run.json': lambda f, text: load_run(written(f, 'run.json', text).parent),
    'a look.json': lambda f, text: look_section(written(f, 'look.json', text).parent),
    'a recording': copied_recording, 'images.json beside weights': beside_weights,
    'notes of weights': lambda f, text: weights_meta(notes(f/'w.safetensors', text)),
    'a pairing': lambda f, text: Pairing.load(written(f, 'p.json', text)),
    'COCO': lambda f, text: check_coco(f, written(f, 'a.json', text)),
    'a config file': lambda f, text: from_config(written(f, 'c.toml', 'epochs = ' + text), FolderSettings, {}),
    'a recipe': lambda f, text: read_recipe(str(written(f, 'r.toml', 'a = ' + text))),
    'a study': lambda f, text: studies(str(written(f, 's.toml', 'a = ' + text)))}

@pytest.mark.parametrize('name', readers)
def test_a_riddle_of_brackets(name, tmp_path):
    check('hostile files', f'{name}, brackets', lambda: at_once(lambda: readers[name](tmp_path, brackets)), expect=('named',))

of_json = [name for name in readers if name not in ('a recipe', 'a study', 'a config file')]

@pytest.mark.parametrize('name', of_json)
@pytest.mark.parametrize('text', ['3', '[]', 'null', '"x"'])
def test_something_else(name, text, tmp_path):
    "JSON, and no table of names and values"
    check('hostile files', f'{name}, {text}', lambda: at_once(lambda: readers[name](tmp_path, text)), expect=('named',))

tables = {
    'a table of images': lambda f, text: read_table(written(f, 't.csv', text)),
    'a table of runs': lambda f, text: read_runs(written(f, 'r.csv', text)),
    'curves': lambda f, text: read_curves(written(f, 'c.csv', text))}
left_out = 'notes of weights', 'COCO'   # a header has a bound of its own; COCO's lists may be larger
bounded = {name: readers[name] for name in readers if name not in left_out} | tables

@pytest.mark.parametrize('name', bounded)
def test_no_file_at_all(name, tmp_path, monkeypatch):
    "A pipe that nobody writes into, under the name of a file"
    def pipe(self, text, *args, **kwargs): os.mkfifo(self)
    monkeypatch.setattr(Path, 'write_text', pipe)
    check('hostile files', f'{name}, a pipe', lambda: at_once(lambda: bounded[name](tmp_path, '')), expect=('named',))

@pytest.mark.parametrize('name', bounded)
def test_as_large_as_a_disk(name, tmp_path, monkeypatch):
    "What a reader opens is grown after it was written"
    plain = Path.write_text
    def grown(self, text, *args, **kwargs):
        plain(self, text, *args, **kwargs)
        sparse(self, most_text + 1)
    monkeypatch.setattr(Path, 'write_text', grown)
    check('hostile files', f'{name}, too large', lambda: at_once(lambda: bounded[name](tmp_path, '{}')), expect=('named',))

def at_once(f, seconds=5):
    "Whatever it does, it does soon"
    start = time.process_time()
    try: f()
    finally: assert time.process_time() - start < seconds

headers = {
    'a header of 2**63 bytes': lambda p: p.write_bytes((2**63).to_bytes(8, 'little')),
    'a header that is cut off': lambda p: p.write_bytes((1000).to_bytes(8, 'little') + b'{'),
    'an empty file': lambda p: p.write_bytes(b''), 'three bytes': lambda p: p.write_bytes(b'abc'),
    'a header of 90 MB': lambda p: sparse(p, 8 + 90*2**20) and p.open('r+b').write((90*2**20).to_bytes(8, 'little')),
    'tensors by the hundred thousand': many_tensors, 'a header of brackets': lambda p: header(p, brackets.encode()),
    'a tensor outside': lambda p: header(p, b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    'a tensor of 2**60 numbers': lambda p: header(p, b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,8]}}')}

@pytest.mark.parametrize('name', headers)
def test_weights(name, tmp_path):
    path = tmp_path/'w.safetensors'
    headers[name](path)
    check('hostile files', f'weights, {name}', lambda: at_once(lambda: load_weights(nn.Linear(2, 2), path)), expect=('named',))

def test_the_bound_is_wide():
    "A thousand tensors need a hundredth of it"
    raw = save({f'layers.{i}.some.module.weight': torch.zeros(1) for i in range(1000)})
    assert 50*int.from_bytes(raw[:8], 'little') < most_header

def test_weights_in_a_pipe(tmp_path):
    os.mkfifo(tmp_path/'w.safetensors')
    check('hostile files', 'weights, a pipe', lambda: load_weights(nn.Linear(2, 2), tmp_path/'w.safetensors'), expect=('named',))

# --- what unpacks to more than there is memory

def packed_weights(path):
    "PyTorch's own format, packed: 256 MB of zeros in 1 MB"
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        z.writestr('w/data.pkl', b'')
        with z.open('w/data/0', 'w', force_zip64=True) as f:
            for _ in range(16): f.write(bytes(2**24))
    return path

of_torch = {'load_weights': lambda p: load_weights(nn.Linear(2, 2), p), 'a detector': lambda p: read_weights(nn.Linear(2, 2), p)}

@pytest.fixture(scope='module')
def bomb(tmp_path_factory): return packed_weights(tmp_path_factory.mktemp('bomb')/'w.pt')

@pytest.mark.parametrize('name', of_torch)
def test_a_bomb_of_weights(name, bomb):
    check('hostile files', f'{name}, a bomb', lambda: at_once(lambda: of_torch[name](bomb)), expect=('named',))
    with pytest.raises(ValueError, match='would unpack to 268,435,456'): of_torch[name](bomb)

@pytest.mark.parametrize('name', of_torch)
@pytest.mark.parametrize('how', ['a folder', 'missing', 'empty', 'text'])
def test_no_weights(name, how, tmp_path):
    path = tmp_path/'w.pt'
    dict(missing=lambda: 0, empty=path.touch, text=lambda: path.write_text('no weights'), **{'a folder': path.mkdir})[how]()
    check('hostile files', f'{name}, {how}', lambda: of_torch[name](path), expect=('named',))

@pytest.mark.parametrize('shape', [(2, 2), (2**31 - 1, 1000)])
def test_a_bomb_of_bytes(shape, tmp_path):
    "3 GB of zeros after the header of a small set, or of a huge one"
    part = gzip.compress(bytes(2**24))
    head = b'\0\0\x08\x02' + struct.pack('>2i', *shape)
    (tmp_path/'x.gz').write_bytes(gzip.compress(head) + part*200)
    check('hostile files', f'idx of shape {shape}, a bomb', lambda: at_once(lambda: read_idx(tmp_path/'x.gz')), expect=('named',))

# --- images: only the readers that were chosen, and no more pixels than a photo has

def chunk(kind, raw): return struct.pack('>I', len(raw)) + kind + raw + struct.pack('>I', zlib.crc32(kind + raw))

def image_bomb(path):
    "A png of 3.6 billion pixels"
    head = struct.pack('>2I5B', 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))

def postscript(path):
    "What Pillow would hand to Ghostscript, under the name of a png"
    raw = io.BytesIO()
    Image.new('RGB', (48, 48)).save(raw, 'EPS')
    path.write_bytes(raw.getvalue())

of_images = {name: sets[name].read for name in ('COCO', 'CamVid', 'class folders')}
of_images['COCO, headers alone'] = lambda f: check_coco(f/'images', f/'annotations.json')
of_images['streets'] = lambda f: street_images(sorted((f/'images').glob('*.png')))
made = {'COCO, headers alone': 'COCO', 'streets': 'CamVid'}

@pytest.mark.parametrize('make', [image_bomb, postscript])
@pytest.mark.parametrize('name', of_images)
def test_images(name, make, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **kwargs: asked.append(args))
    sets[made.get(name, name)].write(tmp_path)
    make(next(p for p in sorted(tmp_path.rglob('*.png')) if 'labels' not in p.parts))
    def f():
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            at_once(lambda: of_images[name](tmp_path))
    check('hostile files', f"{name}, {make.__name__.replace('_', ' ')}", f, expect=('named',))
    assert not asked

@pytest.mark.parametrize('make', [image_bomb, postscript])
def test_masks(make, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **kwargs: asked.append(args))
    sets['CamVid'].write(tmp_path)
    make(min((tmp_path/'labels').glob('*.png')))
    check('hostile files', f"a mask, {make.__name__.replace('_', ' ')}", lambda: sets['CamVid'].read(tmp_path), expect=('named',))
    assert not asked

# --- a manifest that says something else

fields = dict(sha256=[3, [], None, 'x', dict(a=3), {'../../secret.txt': 'x'}, {'/etc/hostname': 'x'}], needs=[3, None, [3], 'x', ['../secret.txt']],
              files=[3, None, [3], 'x'], settings=[3, None, []], results=[3, None, []])

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')/'run'
    sets['run folder'].write(folder)
    return folder

@pytest.mark.parametrize('field, value', [(field, value) for field, values in fields.items() for value in values])
def test_a_manifest(field, value, whole, tmp_path):
    "Without a seal, as somebody would write it who wants it read"
    run = shutil.copytree(whole, tmp_path/'run')
    info = json.loads((run/'run.json').read_text()) | {field: value}
    del info['seal']
    (run/'run.json').write_text(json.dumps(info))
    check('hostile files', f'run.json, {field} is {value!r}', lambda: load_run(run), expect=('named',))

@pytest.mark.parametrize('name', ['manifest.json', 'state.json'])
@pytest.mark.parametrize('text', [brackets, '3', '[]', 'null', '{}'])
def test_a_snapshot(name, text, tmp_path):
    "The older one is read, with a warning"
    older, newest = write_snapshot(tmp_path, dict(a=1)), write_snapshot(tmp_path, dict(a=2))
    (newest/name).write_text(text)
    if name == 'state.json':
        hashes = json.loads((newest/'manifest.json').read_text())
        (newest/'manifest.json').write_text(json.dumps(hashes | {name: file_sha256(newest/name)}))
    def f():
        with pytest.warns(UserWarning, match=f'{newest.name} is damaged'): assert read_snapshot(tmp_path) == dict(a=1)
        assert older.is_dir()
    short = 'brackets' if text is brackets else text
    check('hostile files', f'a snapshot, {name}: {short}', lambda: at_once(f), expect=('right',))

# --- what a report shows of a run

numbers = {'parameters': 3., 'MB': 1., 'M multiply-adds': 2., 'ms an image': None}
png = 'data:image/png;base64,'
looks = {
    'sizes of one network': dict(sizes=dict(teacher=numbers), answers=[]), 'sizes that are a list': dict(sizes=[3], answers=[]),
    'sizes of words': dict(sizes=dict(teacher=numbers, student=dict(numbers, MB='much')), answers=[]),
    'a student of nothing': dict(sizes=dict(teacher=numbers, student=dict(numbers, parameters=0)), answers=[]),
    'answers that are a number': dict(sizes=dict(teacher=numbers, student=numbers), answers=3),
    'answers that are words': dict(sizes=dict(teacher=numbers, student=numbers), answers=['x']),
    'an answer without an image': dict(sizes=dict(teacher=numbers, student=numbers), answers=[dict(truth='x', answers={})]),
    'an image elsewhere': dict(sizes=dict(teacher=numbers, student=numbers), answers=[
        dict(image='https://example.com/a.png', truth='x', answers={})])}

@pytest.mark.parametrize('name', looks)
def test_what_was_looked_at(name, tmp_path):
    (tmp_path/'look.json').write_text(json.dumps(looks[name]))
    check('hostile files', f'look.json, {name}', lambda: look_section(tmp_path), expect=('named',))

def test_what_was_looked_at_and_is_right(tmp_path):
    rows = [dict(image=png, truth='x', answers=dict(teacher='x'))]
    (tmp_path/'look.json').write_text(json.dumps(dict(sizes=dict(teacher=numbers, student=numbers), answers=rows)))
    part, = look_section(tmp_path)
    assert 'not measured' in part.html

# --- LFW, which scikit-learn reads and would remember as pickles

@pytest.mark.parametrize('make', [image_bomb, postscript])
def test_faces(make, lfw, monkeypatch):  # noqa: F811
    asked = []
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **kwargs: asked.append(args))
    make(lfw/'lfw_home/lfw_funneled/Ann_Jr./Ann_Jr._0001.jpg')
    check('hostile files', f"LFW, {make.__name__.replace('_', ' ')}", lambda: lfw_pairs('10_folds', lfw), expect=('named',))
    assert not asked

class Marks:
    def __init__(self, path): self.path = path
    def __reduce__(self): return open, (str(self.path), 'w')

def test_faces_that_are_remembered(lfw, tmp_path):  # noqa: F811
    "A pickle where joblib looks for the answer of its last call: scikit-learn runs it, we do not"
    mark, told = tmp_path/'ran', dict(subset='10_folds', data_home=lfw, download_if_missing=False)
    fetch_lfw_pairs(**told)
    def spoil():
        for path in (lfw/'lfw_home/joblib').rglob('output.pkl'): path.write_bytes(pickle.dumps(Marks(mark)))
    spoil()
    with suppress(Exception): fetch_lfw_pairs(**told)
    assert mark.exists()
    mark.unlink()
    spoil()
    def f():
        lfw_pairs('10_folds', lfw)
        assert not mark.exists()
    check('hostile files', 'LFW, a pickle of joblib', f, expect=('right',))
