"""Images on disk, read as they are needed: always the same ones, two batches at most, and what cannot be read is named."""
import json, os, sys, tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.data.views import Views
from sskd_tutor.data.images import embedded_fashion
from sskd_tutor.data.folders import FolderDL, fewer, folder_dls
from sskd_tutor.data.lists import by_parent
from sskd_tutor.data.formats import open_data
from sskd_tutor.nets.small import tutorial_resnet
from conftest import root
from helpers.pairs import moved, new_learner, snapshot, staged

fashion = embedded_fashion('valid')
names = 'ab', 'c d', 'ü'  # a blank and a letter beyond ASCII

def write(folder, n, classes=names, size=40, ext='jpg', mode='RGB'):
    for i in range(n):
        (folder/classes[i % len(classes)]).mkdir(parents=True, exist_ok=True)
        im = Image.fromarray(fashion.x[i, 0].numpy()).convert(mode).resize((size, size))
        im.save(folder/classes[i % len(classes)]/f'{i:05d}.{ext}')
    return folder

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return write(tmp_path_factory.mktemp('images'), 90)

def dls(folder, **kwargs): return folder_dls(folder, **{**dict(size=10, bs=12, views=None, device='cpu'), **kwargs})

def everything(dl): return [tuple(t.as_subclass(torch.Tensor) for t in b) for b in dl]

# --- the right pixels

@pytest.mark.parametrize('ext,mode', [('png', 'RGB'), ('png', 'L'), ('jpg', 'RGB'), ('jpg', 'L')])
def test_pixels(tmp_path, ext, mode):
    "At its own size an image is what any reader gives, in the order of its label"
    data = dls(write(tmp_path, 30, ext=ext, mode=mode), size=40).train_ds
    x, y = data.take(torch.arange(len(data)))
    for i, p in enumerate(data.images.paths):
        with Image.open(tmp_path/p) as im: want = np.array(im)
        assert (x[i].permute(1, 2, 0).numpy().squeeze() == want).all() and data.vocab[y[i]] == p.split('/')[0]

def test_the_middle_is_kept(tmp_path):
    "A wide image loses its sides, equally; it is not squeezed"
    for c in 'ab':
        for i in range(3):
            a = np.zeros((20, 60, 3), 'u1')
            a[:, 20:40] = 200
            (tmp_path/c).mkdir(exist_ok=True)
            Image.fromarray(a).save(tmp_path/c/f'{i}.png')
    assert (dls(tmp_path, size=20, bs=2).train_ds.take(torch.tensor([0]))[0] == 200).all()

def test_turned_by_its_tag(tmp_path):
    "A camera writes which way is up into the file"
    write(tmp_path, 12)
    upright = next(tmp_path.glob('*/*.jpg'))
    im, tag = Image.open(upright), Image.Exif()
    before = np.array(im)
    tag[0x0112] = 3  # upside down
    im.rotate(180).save(upright, exif=tag, quality=100)
    data = dls(tmp_path, size=40, bs=2, valid=0.1)
    data = next(d for d in (data.train_ds, data.valid_ds) if str(upright.relative_to(tmp_path)) in d.images.paths)
    got = data.pixels(data.images.paths.index(str(upright.relative_to(tmp_path)))).astype(int)
    assert abs(got - before).mean() < 5 < abs(got - before[::-1, ::-1]).mean()

def test_split(folder):
    "Each image is in one part; the same share of each class; the seed decides"
    a, b = dls(folder), dls(folder, seed=1)
    both = [set(d.images.paths) for d in (a.train_ds, a.valid_ds)]
    assert not both[0] & both[1] and len(both[0] | both[1]) == 90
    assert a.valid_ds.images.y.bincount().tolist() == [6, 6, 6]
    assert a.valid_ds.images.paths == dls(folder).valid_ds.images.paths != b.valid_ds.images.paths

# --- the same batches as from memory

def test_batches_are_those_of_take(folder):
    "Decoding ahead changes neither order nor images"
    dl = dls(folder).train
    want = [dl.after_batch(dl.draw(idx)) for idx in torch.tensor(dl.get_idxs()).split(dl.bs) if len(idx) == dl.bs]
    got = everything(dl)
    assert len(got) == len(want) == 6 and all(torch.equal(a, b) for g, w in zip(got, want) for a, b in zip(g, w))

def test_shards(folder):
    "Two processes' loaders give what one gives that draws for both"
    one = dls(folder).train.new(shards=2)
    ranks = [one.new(rank=r, bs=6) for r in range(2)]
    assert all(isinstance(dl, FolderDL) for dl in ranks)
    batches = [everything(dl) for dl in (one, *ranks)]
    assert list(map(len, batches)) == [6, 6, 6]
    for whole, *parts in zip(*batches):
        for i in (0, 1): assert torch.equal(whole[i], torch.cat([part[i] for part in parts]))   # images, labels

def test_left_in_the_middle(folder):
    "An epoch that is broken off leaves nothing running, and the next is whole"
    dl = dls(folder).train
    want = everything(dl)
    dl.set_epoch(0)
    next(iter(dl))
    dl.set_epoch(0)
    again = everything(dl)
    assert len(again) == len(want) and all(torch.equal(a[0], b[0]) for a, b in zip(again, want))

def test_one_batch_ahead_and_no_more(folder, monkeypatch):
    "The number of images that are decoded and not yet used is bounded, whatever the size of the set"
    dl, decoded, used = dls(folder, bs=4).train, [], 0
    real = dl.dataset.decoded
    monkeypatch.setattr(dl.dataset, 'decoded', lambda idx: (decoded.append(len(idx)), real(idx))[1])
    for x, y in dl:
        used += len(x)
        assert sum(decoded) - used <= 4
    assert used == sum(decoded) == 72

# --- training

def distill(folder, cbs=(), **kwargs):
    torch.manual_seed(0)
    teacher, student = [tutorial_resnet(width=8, blocks=b, c_in=3, n_out=3) for b in (2, 1)]  # enough work to be worth a disk
    learn = new_learner(student, dls(folder, **kwargs))
    learn.fit_sskd(teacher, epochs=4, head_epochs=2, cbs=list(cbs))
    return student

def test_remembered_on_disk(folder, tmp_path):
    "With the cache on disk the same student, to the bit; a second run finds the files; changed images are another key"
    views = Views(crop=1, erase=3)
    plain = snapshot(distill(folder, views=views, n_views=2))
    cache = lambda: CacheFeatures(views=2, where='disk', folder=tmp_path/'taps', budget='20 MB')
    assert not moved(plain, distill(folder, [cache()], views=views))
    files = {p.name: p.stat().st_ino for p in (tmp_path/'taps').glob('*.tap')}
    assert files and not moved(plain, distill(folder, [cache()], views=views))
    assert {p.name: p.stat().st_ino for p in (tmp_path/'taps').glob('*.tap')} == files
    os.utime(next(folder.glob('*/*.jpg')), ns=(1, 1))
    distill(folder, [cache()], views=views)
    assert len(list((tmp_path/'taps').glob('*.tap'))) > len(files)

def test_predict_and_export(folder, tmp_path):
    "A learner over a folder can be exported, loaded, and asked about one image"
    from fastai.learner import load_learner
    learn = new_learner(staged(4, n_out=3, c_in=3), dls(folder))
    want = learn.get_preds()[0]
    learn.export(tmp_path/'learner.pkl')
    again = load_learner(tmp_path/'learner.pkl')
    assert again.dls.vocab == list(names)
    assert torch.allclose(again.get_preds(dl=dls(folder).valid)[0], want)

# --- memory

peak = """
import json, sys
from sskd_tutor.data.folders import folder_dls
dls = folder_dls(sys.argv[1], size=32, bs=16, views=None, device='cpu', workers=1)
anonymous = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1])
for _ in zip(range(20), dls.train): pass
before = anonymous()
for x, y in dls.train: pass
print(json.dumps([len(dls.train_ds), anonymous() - before]))
"""

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason="reads /proc")
def test_memory_does_not_grow(tmp_path, run):
    "Three thousand images (9 MB as uint8) pass through; what stays is less than half of them"
    write(tmp_path, 60, size=32, ext='png')
    for i in range(60, 4000): os.link(tmp_path/names[i % 3]/f'{i % 60:05d}.png', tmp_path/names[i % 3]/f'{i:05d}.png')
    out = run(sys.executable, '-W', 'ignore', '-c', peak, tmp_path, cwd=tmp_path, package=root)
    n, grown = json.loads(out.splitlines()[-1])
    assert n > 3000 and grown*1024 < n*3*32*32/2

# --- what is refused

def spoil(folder, how):
    p = sorted(folder.glob('*/*.jpg'))[4]
    if how == 'text': p.write_text('not an image')
    elif how == 'empty': p.write_bytes(b'')
    elif how == 'short': p.write_bytes(p.read_bytes()[:-300])
    elif how == '16 bits': Image.fromarray(np.zeros((9, 9), 'u2')).save(p, format='png')
    return f'{p.parent.name}/{p.name}'

@pytest.mark.parametrize('how', ['text', 'empty', '16 bits'])
def test_unreadable_is_named(tmp_path, how):
    name = spoil(write(tmp_path, 60), how)
    with pytest.raises(ValueError, match=fr'1 of 60 files cannot be read:\n  {name} .*\n.*skip=True'): dls(tmp_path)
    left = dls(tmp_path, skip=True)
    assert name not in left.train_ds.images.paths + left.valid_ds.images.paths
    assert len(left.train_ds) + len(left.valid_ds) == 59

def test_cut_short(tmp_path):
    "The header of such a file is sound: found before training if all is decoded, else named when it is met"
    name = spoil(write(tmp_path, 60), 'short')
    with pytest.raises(ValueError, match=fr'1 of 60 files cannot be read:\n  {name}'): dls(tmp_path, whole=True)
    assert name not in dls(tmp_path, whole=True, skip=True).train_ds.images.paths
    late = dls(tmp_path, valid=0.01)
    with pytest.raises(ValueError, match=f'{name} cannot be read .*truncated.*whole=True'): everything(late.train)

def test_many_unreadable(tmp_path):
    "Fifty are listed, one a line, then how many more; what is left out is listed whole, to whom it is said"
    write(tmp_path, 90, ext='png')
    paths = sorted(tmp_path.glob('*/*.png'))
    for p in paths[:53]: p.write_text('x')
    with pytest.raises(ValueError) as e: dls(tmp_path)
    lines = str(e.value).splitlines()
    assert lines[0].endswith('53 of 90 files cannot be read:') and lines[-2] == '  and 3 more' and len(lines) == 53
    assert all(f'{p.parent.name}/{p.name} (' in line for p, line in zip(paths, lines[1:51]))
    said = []
    with pytest.raises(ValueError, match='image'): dls(tmp_path, skip=said.append)  # of a class nothing is left
    assert len(said) == 1 and len(said[0].splitlines()) == 54

@contextmanager
def as_nobody():
    "Rights bind root, too, once it gives itself up"
    if os.geteuid(): yield; return
    os.seteuid(65534)
    try: yield
    finally: os.seteuid(0)

@pytest.mark.skipif(not hasattr(os, 'seteuid'), reason="needs rights as Unix has them")
@pytest.mark.parametrize('where', ['a class', 'all', 'an image'])
def test_what_may_not_be_read(where):
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        train = write(Path(top)/'train', 30)
        locked = dict(all=Path(top)/'train', **{'a class': train/'c d', 'an image': min(train.glob('ab/*'))})[where]
        locked.chmod(0)
        with as_nobody():
            if where == 'an image':
                says = r'1 of 30 files cannot be read:\n  ab/00000.jpg \(PermissionError'
                with pytest.raises(ValueError, match=says): dls(train)
            else:
                for read in (lambda: dls(train), lambda: by_parent(top, 'train')):
                    with pytest.raises(PermissionError, match=f'^{locked} may not be read.*; expected .* chmod -R'):
                        read()
        locked.chmod(0o755)

# --- fewer of them

def test_a_share(folder):
    "As many of each class, drawn by the seed; validation, order and views are as they were"
    whole = dls(folder, bs=6)
    part, same, other = (fewer(whole, .25, seed) for seed in (0, 0, 1))
    assert part.train_ds.images.y.bincount().tolist() == [6, 6, 6] == [round(.25*24)]*3
    assert part.train_ds.images.paths == same.train_ds.images.paths != other.train_ds.images.paths
    assert set(part.train_ds.images.paths) < set(whole.train_ds.images.paths) and len(whole.train_ds) == 72
    assert part.valid_ds is whole.valid_ds and fewer(whole, 1) is whole
    assert part.train_ds.fingerprint() != whole.train_ds.fingerprint()
    for x, y in zip(part.train_ds.images.paths, part.train_ds.images.y): assert whole.vocab[y] == x.split('/')[0]
    batches = everything(part.train)
    assert [len(y) for _, y in batches] == [6]*3 and torch.cat([y for _, y in batches]).bincount().tolist() == [6]*3

def test_a_share_of_images_in_memory(tmp_path):
    from helpers.files import write_cifar
    whole = open_data('cifar100', write_cifar(tmp_path/'cifar-100-binary', n=64, n_test=32), bs=8, views=None, device='cpu')
    part = fewer(whole, .5)
    rows = part.train_ds.images.idx
    assert len(rows) == len(part.train_ds) and torch.equal(part.train_ds.images.x, whole.train_ds.images.x[rows])
    assert torch.equal(part.train_ds.images.y, whole.train_ds.images.y[rows])
    for b in part.train: assert len(b[0]) == 8

@pytest.mark.parametrize('share, says', [(0, 'share is 0; expected more than 0'), (1.5, 'share is 1.5'),
                                         (.05, '3 training images, .* fewer than a batch')])
def test_shares_that_cannot_be(folder, share, says):
    with pytest.raises(ValueError, match=says): fewer(dls(folder), share)

def test_colors(tmp_path):
    write(tmp_path, 30)
    Image.new('L', (9, 9)).save(tmp_path/'ab'/'gray.png')
    with pytest.raises(ValueError, match="1 gray and 30 color images; the gray ones are ab/gray.png. Pass mode='RGB'"):
        dls(tmp_path)
    assert dls(tmp_path, mode='L').one_batch()[0].shape == (12, 1, 10, 10)
    assert dls(tmp_path, mode='RGB').one_batch()[0].shape == (12, 3, 10, 10)
    with pytest.raises(ValueError, match="mode is 'CMYK'"): dls(tmp_path, mode='CMYK')

def test_folders_that_cannot_work(tmp_path):
    with pytest.raises(FileNotFoundError, match='is not a folder'): dls(tmp_path/'none')
    with pytest.raises(ValueError, match='holds no images'): dls(tmp_path)
    write(tmp_path, 30, classes=['one'])
    with pytest.raises(ValueError, match="one class only, 'one'"): dls(tmp_path)
    (tmp_path/'two').mkdir()
    with pytest.raises(ValueError, match=r"no images in \['two'\]"): dls(tmp_path)
    (tmp_path/'two'/'x.jpg').write_bytes(next(tmp_path.glob('one/*')).read_bytes())
    with pytest.raises(ValueError, match='two has 1 image'): dls(tmp_path)

def test_train_and_valid_folders(tmp_path):
    write(tmp_path/'train', 30)
    write(tmp_path/'valid', 20, classes=names[1:])
    both = dls(tmp_path, valid='valid')
    assert both.valid_ds.images.y.unique().tolist() == [1, 2]  # by name, not by place
    write(tmp_path/'valid', 3, classes=['new'])
    with pytest.raises(ValueError, match=r"has the classes \['new'\]"): dls(tmp_path, valid='valid')
    with pytest.raises(ValueError, match="pass its name, e.g. valid='valid'"): dls(tmp_path)
    (tmp_path/'linked').symlink_to('train')
    for name in ('train', './train', 'linked'):
        with pytest.raises(ValueError, match=f"valid is '{name}', the images that are trained on"): dls(tmp_path, valid=name)

def test_wrong_channels(folder):
    "A network for gray images, a folder of color: an error before training"
    learn = new_learner(staged(4, c_in=1), dls(folder))
    with pytest.raises(ValueError, match='first convolution takes 1 channel'): learn.fit_sskd(staged(8, c_in=1))
