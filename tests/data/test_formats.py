"""Sets in their own formats, on small files that are written here: the right images and labels; what is damaged is named."""
import hashlib, os, pickle, shutil, tarfile

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import Subset
from torchvision.datasets import CIFAR100, ImageFolder
from torchvision.datasets import imagenet as tv_imagenet

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.data.images import vocab
from sskd_tutor.data.lists import by_parent, csv_dls, csv_rows, listed_dls
from sskd_tutor.data.formats import (Format, cifar_sets, find_data, format_of, formats, imagenet_rows, open_data,
    read_cifar, stored_dls)
from sskd_tutor.data.datasets import dataset_dls
from sskd_tutor.data import pickled
from sskd_tutor.nets.small import tutorial_resnet
from helpers.pairs import new_learner
from helpers.files import fashion, picture, wnids, write_cifar, write_devkit, write_folders, write_imagenet, write_kaggle

torch.set_num_threads(1)
plain = dict(views=None, device='cpu')

# --- CIFAR

def test_the_bytes_that_are_read_are_those_that_were_checked(tmp_path, monkeypatch):
    "A pickle that is swapped after its md5 was taken is not read"
    path, good = tmp_path/'meta', pickle.dumps(['apple', 'bear'])
    path.write_bytes(good)
    md5, taken = hashlib.md5(good).hexdigest(), hashlib.md5
    def swapped_behind(raw, **kwargs):
        path.write_bytes(pickle.dumps(['swapped']))
        return taken(raw, **kwargs)
    monkeypatch.setattr(pickled.hashlib, 'md5', swapped_behind)
    assert pickled.read_pickled(path, md5, 'its page') == ['apple', 'bear']

def test_an_unknown_cifar_is_named(tmp_path):
    with pytest.raises(ValueError, match="no kind of CIFAR 'cifar-100'; did you mean 'cifar100'"): read_cifar(tmp_path, 'cifar-100')

@pytest.mark.parametrize('kind', cifar_sets)
def test_cifar(tmp_path, kind):
    train, test, classes = read_cifar(write_cifar(tmp_path, kind), kind)
    assert classes == vocab and train.x.dtype == torch.uint8 and train.y.dtype == torch.int64
    x, y = torch.cat([train.x, test.x]), torch.cat([train.y, test.y])
    assert len(train.y) == 20 and torch.equal(y, fashion.y[:30])
    assert all((x[i].permute(1, 2, 0).numpy() == np.asarray(picture(i))).all() for i in range(30))

def test_cifar_as_torchvision_reads_it(tmp_path, monkeypatch):
    "Both versions hold the same numbers, so torchvision's reader of the other one must give the same images and classes"
    train, _, _ = read_cifar(write_cifar(tmp_path/'b'))
    rows = np.frombuffer((tmp_path/'b/train.bin').read_bytes(), 'u1').reshape(20, -1)
    python = tmp_path/'p/cifar-100-python'
    python.mkdir(parents=True)
    (python/'train').write_bytes(pickle.dumps(dict(data=rows[:, 2:], fine_labels=rows[:, 1].tolist())))
    (python/'meta').write_bytes(pickle.dumps(dict(fine_label_names=vocab)))
    monkeypatch.setattr(CIFAR100, '_check_integrity', lambda self: True)
    monkeypatch.setitem(CIFAR100.meta, 'md5', None)
    theirs = CIFAR100(tmp_path/'p')
    assert (theirs.data == train.x.permute(0, 2, 3, 1).numpy()).all() and theirs.targets == train.y.tolist()

def published(monkeypatch, folder, files, meta):
    "torchvision's fingerprints as if these files were the published ones"
    def md5(name): return hashlib.md5((folder/name).read_bytes()).hexdigest()
    for name, part in files.items(): monkeypatch.setattr(CIFAR100, f'{part}_list', [[name, md5(name)]])
    monkeypatch.setattr(CIFAR100, 'meta', CIFAR100.meta | dict(md5=md5(meta)))

def test_the_python_version(tmp_path, monkeypatch):
    "Read without running anything, if each file is the published one"
    want, held, _ = read_cifar(write_cifar(tmp_path/'b'))
    python = tmp_path/'cifar-100-python'
    python.mkdir()
    def write(name, images): (python/name).write_bytes(pickle.dumps(
        dict(data=images.x.flatten(1).numpy(), fine_labels=images.y.tolist(), filenames=[b'a.png']), 2))
    write('train', want)
    write('test', held)
    (python/'meta').write_bytes(pickle.dumps(dict(fine_label_names=vocab), 2))
    with pytest.raises(ValueError, match='meta is not the published file.*Get it again from'): open_data('cifar100', tmp_path, bs=4)
    published(monkeypatch, python, dict(train='train', test='test'), 'meta')
    for folder in (tmp_path, python):
        dls = open_data('cifar100', folder, bs=4, **plain)
        assert torch.equal(dls.train_ds.images.x, want.x) and torch.equal(dls.valid_ds.images.y, held.y) and list(dls.vocab) == vocab
    assert format_of(python) == 'cifar100'

class Bomb:
    def __reduce__(self): return os.mkdir, ('ran',)

def test_a_published_bomb(tmp_path, monkeypatch):
    "Even with the right fingerprint nothing but numbers and text is read"
    python = tmp_path/'cifar-100-python'
    python.mkdir()
    for name in ('train', 'test', 'meta'): (python/name).write_bytes(pickle.dumps(Bomb()))
    monkeypatch.chdir(tmp_path)
    published(monkeypatch, python, dict(train='train', test='test'), 'meta')
    with pytest.raises(ValueError, match='mkdir, and holds more than numbers'): open_data('cifar100', tmp_path)
    assert not (tmp_path/'ran').exists()

def spoil(path, how):
    if how == 'missing': return path.unlink()
    raw = path.read_bytes()
    path.write_bytes(dict(short=raw[:-7], empty=b'', **{'class': raw[:1] + b'\x63' + raw[2:]})[how])

@pytest.mark.parametrize('file, how, error, says', [
    ('train.bin', 'short', ValueError, 'train.bin is cut short: 61473 bytes'), ('test.bin', 'empty', ValueError,
        'test.bin is empty'),
    ('test.bin', 'missing', FileNotFoundError, 'has no test.bin; unpack the binary version from https'),
    ('fine_label_names.txt', 'missing', FileNotFoundError, 'has no fine_label_names.txt'),
    ('train.bin', 'class', ValueError, 'class 99 in train.bin, but fine_label_names.txt names 10')])
def test_damaged_cifar(tmp_path, file, how, error, says):
    spoil(write_cifar(tmp_path/'cifar-100-binary')/file, how)
    with pytest.raises(error, match=says): open_data('cifar100', tmp_path)

def test_stored_batches(tmp_path):
    "Normalized by their own statistics; the loaders are those of every other set: same order and views, remembered features"
    train, test, classes = read_cifar(write_cifar(tmp_path))
    x = stored_dls(train, test, classes, bs=20, **plain).train.one_batch()[0]
    assert x.mean((0, 2, 3)).abs().max() < 1e-3 and (x.std((0, 2, 3)) - 1).abs().max() < 1e-3
    a, b = (stored_dls(train, test, classes, bs=10, device='cpu', seed=3).train for _ in range(2))
    assert all(torch.equal(p[0], q[0]) for p, q in zip(a, b))
    with pytest.raises(ValueError, match='fewer than a batch, bs=64'): stored_dls(train, test, classes, bs=64)
    with pytest.raises(ValueError, match="size is 64; CIFAR's"): open_data('cifar100', tmp_path, size=64)

@pytest.mark.parametrize('kind', ['cifar10', 'cifar100'])
def test_what_a_set_cannot_give_is_refused(tmp_path, kind):
    folder = write_cifar(tmp_path/'cifar', kind)
    with pytest.raises(ValueError, match="mode is 'L'; CIFAR's images are in color"): open_data(kind, folder, mode='L')
    assert open_data(kind, folder, mode=None, bs=10, **plain).one_batch()[0].shape[1] == 3
    with pytest.raises(ValueError, match='valid is 0.1, but .* has validation images'): open_data(kind, folder, valid=.1)

@pytest.mark.parametrize('name', ['imagenette', 'imagenet', 'cifar10'])
def test_held_out_images_of_a_set_are_its_own(tmp_path, name):
    if name == 'imagenet': folder = write_imagenet(tmp_path/name, 'kaggle')
    else: folder = write_folders(tmp_path/name, dict(train=range(20), val=range(20, 40), test=range(20, 40)))
    with pytest.raises(ValueError, match="valid is 'test', but .* has validation images"): open_data(name, folder, valid='test')

def test_remembered_features(tmp_path):
    "A run with remembered features is that of one that computes them, on images in memory and on items of a data set"
    folder = write_cifar(tmp_path/'cifar-100-binary')
    how = dict(bs=10, n_views=1, device='cpu')
    for make in (lambda: open_data('cifar100', folder, **how), lambda: items(tmp_path, **how)):
        histories = []
        for cbs in (None, [CacheFeatures(1, '1 GB')]):
            torch.manual_seed(0)
            nets = [tutorial_resnet(w, 1, c_in=3, n_stages=2) for w in (4, 2)]
            run = new_learner(nets[1], make()).fit_sskd(nets[0].eval(), 2, 1, cbs=cbs)
            assert any(run.plan.kept.values()) == ('bytes' in run.stages) == bool(cbs)  # features were remembered
            histories.append(run.history[run.history.measure == 'train_loss'].value.to_numpy())
        assert np.allclose(*histories, rtol=1e-3)

# --- lists, folders, tables

def items(folder, **kwargs):
    top = write_folders(folder/'items', dict(train=range(40), test=range(40, 80)))
    return dataset_dls(*(ImageFolder(top/p) for p in ('train', 'test')), **dict(views=None, device='cpu') | kwargs)

@pytest.mark.parametrize('kind, name, part, groups, ext', [
    ('cifar100', 'cifar100', 'test', True, 'png'), ('cifar10', 'cifar10', 'test', False, 'png'),
    ('imagenette', 'imagenette2-160', 'val', False, 'JPEG'), ('imagewoof', 'imagewoof2-160', 'val', False, 'JPEG')])
def test_fastai_sets(tmp_path, kind, name, part, groups, ext):
    write_folders(tmp_path/name, {'train': range(60), part: range(60, 80)}, ext, groups, wnids if ext == 'JPEG' else vocab)
    Image.new('L', (40, 30), 99).save(next((tmp_path/name/'train').rglob(f'*.{ext}')))  # Imagenette holds gray ones too
    dls = open_data(kind, tmp_path, 32, bs=20, **plain)
    assert (len(dls.train_ds), len(dls.valid_ds), len(dls.vocab)) == (60, 20, 10) and dls.vocab == sorted(dls.vocab)
    for ds in (dls.train_ds, dls.valid_ds):
        assert [dls.vocab[y] for y in ds.images.y] == [p.split('/')[-2] for p in ds.images.paths]
    assert dls.train.one_batch()[0].shape == (20, 3, 32, 32)

def test_noisy_table(tmp_path):
    "fastai's noisy_imagenette.csv: wrong labels in a column, `is_valid`, paths below the set"
    top = write_folders(tmp_path/'imagenette2-160', dict(train=range(60), val=range(60, 80)), 'JPEG', names=wnids)
    rows = by_parent(top, 'train') + by_parent(top, 'val')
    noisy = [wnids[(wnids.index(c) + (i % 4 == 0)) % 10] for i, (_, c) in enumerate(rows)]
    lines = [f"{p},{c},{n},{p.startswith('val')}" for (p, c), n in zip(rows, noisy)]
    (top/'noisy_imagenette.csv').write_text('\n'.join(['path,noisy_labels_0,noisy_labels_25,is_valid', *lines]) + '\n')
    train, valid = csv_rows(top/'noisy_imagenette.csv', label='noisy_labels_25')
    assert train == [(p, n) for (p, _), n in zip(rows, noisy)][:60] and [p for p, _ in valid] == [p for p, _ in rows[60:]]
    dls = csv_dls(top/'noisy_imagenette.csv', label='noisy_labels_25', bs=20, size=32, **plain)
    assert [dls.vocab[y] for y in dls.train_ds.images.y] == noisy[:60]
    share = csv_dls(top/'noisy_imagenette.csv', valid=.25, bs=20, size=32, **plain)
    assert len(share.valid_ds) + len(share.train_ds) == 80 and not {*share.valid_ds.images.paths} & {*share.train_ds.images.paths}

@pytest.mark.parametrize('text, error, says', [
    ('', ValueError, 'has no rows'), ('file,kind\n', ValueError, 'has no rows'), ('file\na.png\n', ValueError,
        "one column, 'file'"),
    ('file,kind\na.png,x\nb.png,x\n', ValueError, "all of one class, 'x'"), ('file,kind\na.png,x\nb.png\n', ValueError,
        'line 3 does not have 2 cells'),
    ('file,kind\na.png,x\n,y\n', ValueError, 'line 3 lacks a file'), ('file,kind\na.png,x\nb.png,\n', ValueError,
        'line 3 lacks a kind'),
    ('file,kind\na.png,x\na.png,y\n', ValueError, "a.png is listed as 'x' and as 'y'"),
        ('file,kind\na.png,x\na.png,x\nb.png,y\n', ValueError, '1 images are listed twice'),
    ('file,kind\na.png,x\nz.png,y\n', FileNotFoundError, '1 of 2 listed files are not there: z.png'),
    ('file,kind,is_valid\na.png,x,maybe\n', ValueError, "line 2 has 'maybe' as is_valid"),
        ('file,kind,is_valid\na.png,x,0\nb.png,y,0\n', ValueError, 'no validation images'),
    ('file,kind,is_valid\na.png,x,0\nb.png,y,0\nc.png,z,1\n', ValueError, 'no training image shows the validation classes z'),
        (b'\xff\xfe\x00', ValueError, 'save it as CSV in UTF-8'),
    ('file,kind\na.png,x\nc.txt,y\nb.png,y\nd.png,x\n', ValueError, r'1 of 4 files cannot be read:\s+c.txt')])
def test_tables_that_cannot_work(tmp_path, text, error, says):
    for n in 'abd': picture(0).save(tmp_path/f'{n}.png')
    (tmp_path/'c.txt').write_text('no image')
    (tmp_path/'t.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=says): csv_dls(tmp_path/'t.csv', bs=1)
    with pytest.raises(FileNotFoundError, match='no table at'): csv_dls(tmp_path/'u.csv')

def test_folders_that_cannot_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder 'train'"): by_parent(tmp_path, 'train')
    (tmp_path/'train/fish/shark').mkdir(parents=True)
    with pytest.raises(ValueError, match='holds no images'): by_parent(tmp_path, 'train')
    (tmp_path/'train/fish/ray').mkdir()
    picture(0).save(tmp_path/'train/fish/ray/0.png')
    with pytest.raises(ValueError, match='no images in train/fish/shark'): by_parent(tmp_path, 'train')
    with pytest.raises(ValueError, match='there are no training images'): listed_dls(tmp_path, [], [])
    for share in (20., -1., 1):
        with pytest.raises(ValueError, match=f'valid is {share}; expected a share between 0 and 1'): listed_dls(tmp_path, [], share)
    with pytest.raises(FileNotFoundError, match='holds no imagewoof2-160 and no'): find_data('imagewoof', tmp_path/'train')
    with pytest.raises(FileNotFoundError, match='is not there'): find_data('imagewoof', tmp_path/'nowhere')

def test_a_loose_image_is_no_class(tmp_path):
    "train/preview.png would make a class 'train'"
    top = write_folders(tmp_path/'imagenette2-160', dict(train=range(20), val=range(20, 40)), 'JPEG')
    picture(0).save(top/'train/preview.png')
    with pytest.raises(ValueError, match='preview.png lies? in train itself'): by_parent(top, 'train')

@pytest.mark.parametrize('valid', [0, 0., 1.])
def test_a_share_that_holds_out_nothing(tmp_path, valid):
    for n in 'ab': picture(0).save(tmp_path/f'{n}.png')
    (tmp_path/'t.csv').write_text('file,kind\na.png,x\nb.png,y\n')
    with pytest.raises(ValueError, match=f'valid is {valid}; expected a share'): csv_dls(tmp_path/'t.csv', valid=valid, bs=1)

def test_cut_short_is_named(tmp_path):
    top = write_folders(tmp_path/'imagenette2-160', dict(train=range(40), val=range(40, 60)), 'JPEG')
    path = sorted((top/'train').rglob('*.JPEG'))[7]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=fr'1 of 40 files cannot be read:\s+.*{path.name}'):
        open_data('imagenette', tmp_path, bs=10)
    assert len(open_data('imagenette', tmp_path, bs=10, skip=True, **plain).train_ds) == 39

# --- ImageNet

@pytest.mark.parametrize('val, below', [('folders', ''), ('devkit', ''), ('kaggle', ''), ('kaggle', 'ILSVRC/Data/CLS-LOC')])
def test_imagenet(tmp_path, val, below):
    dls = open_data('imagenet', write_imagenet(tmp_path, val, below), 32, bs=20, **plain)
    truth = {i: wnids[int(fashion.y[i])] for i in range(80)}
    assert dls.vocab == sorted(wnids) and len(dls.train_ds) == 60
    names = [dls.vocab[y] for y in dls.valid_ds.images.y]
    if val == 'folders': assert all(p.split('/')[-2] == n for p, n in zip(dls.valid_ds.images.paths, names))
    else: assert names == [truth[i] for i in range(60, 80)]

def test_devkit_as_torchvision_reads_it(tmp_path, monkeypatch):
    write_imagenet(tmp_path, 'devkit')
    with tarfile.open(tmp_path/'kit.tar.gz', 'w:gz') as t: t.add(tmp_path/'ILSVRC2012_devkit_t12', 'ILSVRC2012_devkit_t12')
    md5 = hashlib.md5((tmp_path/'kit.tar.gz').read_bytes()).hexdigest()
    monkeypatch.setitem(tv_imagenet.ARCHIVE_META, 'devkit', ('kit.tar.gz', md5))
    tv_imagenet.parse_devkit_archive(tmp_path)
    assert [c for _, c in imagenet_rows(tmp_path)[2]] == tv_imagenet.load_meta_file(tmp_path)[1]

def damage(top, what):
    kit, flat = top/'ILSVRC2012_devkit_t12/data', sorted((top/'val').iterdir())
    if what == 'no labels': return
    if what in ('one label less', 'unknown number', 'no meta', 'damaged meta'): write_devkit(top)
    truth = kit/'ILSVRC2012_validation_ground_truth.txt'
    if what == 'one label less': truth.write_text('\n'.join(truth.read_text().split()[:-1]))
    if what == 'unknown number': truth.write_text('11\n' + truth.read_text().partition('\n')[2])
    if what == 'no meta': (kit/'meta.mat').unlink()
    if what == 'damaged meta': (kit/'meta.mat').write_bytes((kit/'meta.mat').read_bytes()[:200])
    if what == 'another name':
        write_kaggle(top)
        flat[3].rename(flat[3].with_name('ILSVRC2012_val_00000077.JPEG'))
    if what == 'other columns': (top/'LOC_val_solution.csv').write_text('Id,Label\n1,2\n')
    if what == 'no val': shutil.rmtree(top/'val')

@pytest.mark.parametrize('what, error, says', [
    ('no labels', FileNotFoundError, 'nothing says what its images show.*WordNet id.*LOC_val_solution.csv'),
        ('one label less', ValueError, '19 labels.*20 images'),
    ('unknown number', ValueError, 'which is not a class of meta.mat'), ('no meta', FileNotFoundError, 'has no meta.mat'),
        ('damaged meta', ValueError, 'meta.mat is damaged'),
    ('another name', ValueError, 'no label for ILSVRC2012_val_00000077.JPEG'), ('other columns', ValueError, "not Kaggle's"),
        ('no val', FileNotFoundError, "no folder 'val'")])
def test_imagenet_that_cannot_work(tmp_path, what, error, says):
    damage(write_imagenet(tmp_path), what)
    with pytest.raises(error, match=says): open_data('imagenet', tmp_path, bs=10)

# --- data sets of torchvision

def test_items_are_those_of_the_data_set(tmp_path):
    dls = items(tmp_path, bs=10)
    x, y = dls.train_ds.take(torch.arange(40))
    theirs = ImageFolder(tmp_path/'items/train')
    assert y.tolist() == theirs.targets
    for image, (pil, _) in zip(x, theirs, strict=True): assert np.array_equal(image.permute(1, 2, 0), pil)
    assert dls.train_ds.fingerprint() == items(tmp_path, bs=5).train_ds.fingerprint() != dls.valid_ds.fingerprint()

def test_class_lists_that_differ(tmp_path):
    "Each ImageFolder numbers its own folders, so b of {b, c} would be taught as a of {a, b, c}"
    write_folders(tmp_path, dict(train=range(60), fewer=range(5), more=range(60)))
    (tmp_path/'more/zebra').mkdir()
    picture(0).save(tmp_path/'more/zebra/0.png')
    train, fewer, more = (ImageFolder(tmp_path/p) for p in ('train', 'fewer', 'more'))
    assert train.classes != fewer.classes and max(fewer.targets) < len(train.classes)  # nothing else would notice
    lacks = 'the validation set lacks ' + ', '.join([c for c in train.classes if c not in fewer.classes][:3])
    with pytest.raises(ValueError, match=f'classes of the two data sets differ: {lacks}'): dataset_dls(train, fewer, bs=10)
    with pytest.raises(ValueError, match='has zebra, which the training set does not have'): dataset_dls(train, more, bs=10)
    parts = Subset(train, range(40)), Subset(more, range(10))
    with pytest.raises(ValueError, match='has zebra, which the training set does not have'): dataset_dls(*parts, bs=10)
    more.classes = train.classes[::-1]
    with pytest.raises(ValueError, match='in another order'): dataset_dls(train, more, bs=10, classes=train.classes)
    for c in train.classes: (tmp_path/'fewer'/c).mkdir(exist_ok=True)
    dls = dataset_dls(train, ImageFolder(tmp_path/'fewer', allow_empty=True), bs=10, **plain)  # the cure that it names
    assert [dls.vocab[y] for y in dls.valid_ds.images.y] == sorted(vocab[i] for i in fashion.y[:5])

def test_parts_of_a_set_have_its_classes(tmp_path):
    "The usual way to hold out images: two subsets of one set"
    whole = ImageFolder(write_folders(tmp_path, dict(train=range(20)))/'train')
    first = [i for i, y in enumerate(whole.targets) if y < 2]   # of two classes only
    part = Subset(Subset(whole, first), range(len(first)))
    assert dataset_dls(part, part, bs=1, **plain).vocab == whole.classes

def test_a_damaged_item_is_named(tmp_path):
    top = write_folders(tmp_path, dict(train=range(20)), 'JPEG')/'train'
    data = ImageFolder(top)
    path = data.samples[7][0]
    with open(path, 'r+b') as f: f.truncate(300)
    dls = dataset_dls(data, data, bs=20, **plain)
    with pytest.raises(OSError, match=f'item 7 of the ImageFolder cannot be read .{path}.: .*Subset'): dls.one_batch()
    class Bare(torch.utils.data.Dataset):  # without targets and paths: its labels are read with its images
        def __len__(self): return len(data)
        def __getitem__(self, i): return data[i]
    with pytest.raises(OSError, match='item 7 of the Bare cannot be read: '): dataset_dls(Bare(), Bare(), bs=20)
    rest = torch.utils.data.Subset(data, [i for i in range(20) if i != 7])
    assert len(dataset_dls(rest, rest, bs=19, **plain).one_batch()[0]) == 19

def test_items_that_cannot_work(tmp_path):
    good = ImageFolder(write_folders(tmp_path, dict(train=range(20)))/'train')
    tensors = ImageFolder(tmp_path/'train', transform=torchvision.transforms.ToTensor())
    with pytest.raises(TypeError, match='item .* holds a Tensor; expected a PIL image: make the data set without transform'):
        dataset_dls(tensors, tensors, bs=10, device='cpu').one_batch()
    with pytest.raises(TypeError, match='does not give'): dataset_dls([1, 2], [3])
    with pytest.raises(ValueError, match='run up to [0-9], but there are 2 names'):
        dataset_dls(good, good, bs=10, classes=['a', 'b'])
    good.targets = good.targets[:-1]
    with pytest.raises(ValueError, match='20 items and 19 labels'): dataset_dls(good, good, bs=10)

# --- the registry

def test_a_new_format_is_one_entry(tmp_path, monkeypatch):
    "Named, found, recognized and opened by what its entry says"
    def open_flat(path, wanted):
        rows = [(p.name, p.name.split('_')[0]) for p in sorted(path.glob('*.png'))]
        return listed_dls(path, rows, .25, **wanted.files)
    entry = Format('class_number.png', open_flat, folders=('flat-1.0',), signs=('FLAT.txt',))
    monkeypatch.setitem(formats, 'flat', entry)
    home = tmp_path/'flat-1.0'
    home.mkdir()
    (home/'FLAT.txt').touch()
    for i in range(40): picture(i).save(home/f'{"ab"[i % 2]}_{i}.png')
    assert find_data('flat', tmp_path) == find_data('flat', home) == home and format_of(home) == 'flat'
    for arguments in (('flat', tmp_path), (home,)):
        dls = open_data(*arguments, size=16, bs=10, **plain)
        assert (len(dls.train_ds), len(dls.valid_ds), dls.vocab) == (30, 10, ['a', 'b'])
    (home/'FLAT.txt').unlink()
    assert format_of(home) == 'folder'  # by its name alone it is not, since nothing of it is there
    with pytest.raises(FileNotFoundError, match='holds no flat-1.0, and is none itself'): find_data('flat', home)

def test_formats_are_recognized(tmp_path):
    assert format_of(write_cifar(tmp_path/'any', 'cifar10')) == 'cifar10'
    assert format_of(write_imagenet(tmp_path/'net', 'kaggle')) == 'imagenet'
    assert format_of(write_folders(tmp_path/'imagewoof2-320', dict(train=range(4), val=range(4)))) == 'imagewoof'
    (tmp_path/'t.csv').touch()
    assert format_of(tmp_path/'t.csv') == 'csv'
    with pytest.raises(FileNotFoundError, match='is neither a folder nor a .csv table nor a format'): open_data('cifar100')

@pytest.mark.parametrize('name', ['valid', 'val', 'test'])
def test_a_folder_of_ones_own(tmp_path, name):
    write_folders(tmp_path, {'train': range(40), name: range(40, 60)})
    found = open_data(tmp_path, bs=10, **plain)
    assert (len(found.train_ds), len(found.valid_ds)) == (40, 20)
    asked = open_data('folder', tmp_path/'train', bs=10, valid=.5, mode=None, **plain)
    assert asked.train_ds.mode == 'RGB' and len(asked.valid_ds) == pytest.approx(20, abs=5)
