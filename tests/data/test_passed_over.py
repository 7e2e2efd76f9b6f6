"""No image is passed over, clipped or turned in silence: what can be read is used, what is left out is named."""
import os, warnings

import numpy as np
import pytest
import torch
from PIL import Image

from sskd_tutor.data.datasets import dataset_dls
from sskd_tutor.data.folders import folder_dls
from sskd_tutor.data.images import embedded_fashion
from sskd_tutor.data.lists import csv_dls
from sskd_tutor.tasks.masks import read_camvid

fashion = embedded_fashion('valid')
kinds = 'jpg', 'jpeg', 'png', 'webp', 'gif', 'tif', 'tiff', 'bmp'

def photo(i): return Image.fromarray(fashion.x[i, 0].numpy()).convert('RGB')

def write(folder, classes=('a', 'b'), kinds=kinds):
    for name in classes:
        (folder/name).mkdir(parents=True)
        for i, ext in enumerate(kinds): photo(i).save(folder/name/f'{i}.{ext}')
    return folder

def dls(folder, **kwargs): return folder_dls(folder, **dict(size=16, bs=4, device='cpu') | kwargs)

def test_what_pillow_reads_is_used(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = dls(write(tmp_path), whole=True)
    assert len(found.train_ds) + len(found.valid_ds) == 2*len(kinds)
    for x, y in found.train: assert x.shape == (4, 3, 16, 16)

def test_what_is_left_out_is_named_once(tmp_path):
    write(tmp_path)
    (tmp_path/'a/2023').mkdir()
    photo(0).save(tmp_path/'a/2023/nested.png')
    photo(0).save(tmp_path/'loose.jpg')
    (tmp_path/'a/notes.txt').write_text('none of it')
    (tmp_path/'README.md').write_text('about this set')
    (tmp_path/'a/.hidden.png').write_text('')
    with pytest.warns(UserWarning, match='3 files are left out') as told: dls(tmp_path)
    words = str(told[0].message)
    assert len(told) == 1 and all(name in words for name in ('a/2023/nested.png', 'loose.jpg', 'a/notes.txt'))
    assert 'README' not in words and 'hidden' not in words

def deep(folder, name='deep.png'):
    Image.fromarray(np.full((28, 28), 40_000, 'u2')).save(folder/name)

def test_sixteen_bits_are_refused_by_all(tmp_path):
    write(tmp_path/'set')
    deep(tmp_path/'set/a')
    with pytest.raises(ValueError, match='deep.png .I;16 pixels; expected 8 bits a channel'): dls(tmp_path/'set')
    image = Image.open(tmp_path/'set/a/deep.png')
    items = [(image, 0), (photo(0), 1)]*4
    found = dataset_dls(items, items, size=16, bs=4, views=None, device='cpu')
    with pytest.raises(ValueError, match='expected 8 bits a channel'): found.one_batch()

def test_sixteen_bits_in_scenes(tmp_path):
    for part in ('images', 'labels'): (tmp_path/part).mkdir()
    for i in range(3):
        photo(i).save(tmp_path/f'images/{i}.png')
        Image.fromarray(np.zeros((28, 28), 'u1')).save(tmp_path/f'labels/{i}_P.png')
    (tmp_path/'codes.txt').write_text('nothing\nthing\n')
    (tmp_path/'valid.txt').write_text('0.png\n')
    assert len(read_camvid(tmp_path).images) == 3
    deep(tmp_path/'images', '1.png')
    with pytest.raises(ValueError, match='1.png.*expected 8 bits a channel'): read_camvid(tmp_path)

def test_sixteen_bits_in_boxes(tmp_path):
    pytest.importorskip('pycocotools')
    from sskd_tutor.tasks.boxes import check_coco
    import json
    photo(0).save(tmp_path/'0.png')
    deep(tmp_path, '1.png')
    images = [dict(id=i, file_name=f'{i}.png', width=28, height=28) for i in (0, 1)]
    boxes = [dict(id=i, image_id=i, category_id=1, bbox=[0, 0, 9, 9], area=81, iscrowd=0) for i in (0, 1)]
    content = dict(images=images, annotations=boxes, categories=[dict(id=1, name='a')])
    (tmp_path/'a.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='1.png .*expected 8 bits a channel'): check_coco(tmp_path, tmp_path/'a.json')

def test_a_data_set_turns_photos_as_a_folder_does(tmp_path):
    a = np.zeros((20, 20, 3), 'u1')
    a[:10] = 200   # bright above
    exif = Image.Exif()
    exif[0x0112] = 6   # show it turned by a quarter
    Image.fromarray(a).save(tmp_path/'a.png', exif=exif)
    items = [(Image.open(tmp_path/'a.png'), i % 2) for i in range(8)]
    data = dataset_dls(items, items, size=20, bs=4, views=None, device='cpu').train_ds
    x = data.take(torch.tensor([0]))[0][0, 0]
    assert (x[:, 10:] == 200).all() and (x[:, :10] == 0).all()

@pytest.mark.parametrize('targets', [[.2, .9], [torch.tensor(.5), torch.tensor(1.)], [np.float32(1.5), np.float32(0)]])
def test_targets_between_classes(targets):
    items = [(photo(i), targets[i % 2]) for i in range(8)]
    with pytest.raises(TypeError, match='expected the number of a class'): dataset_dls(items, items, bs=4)

def test_whole_targets_of_any_type():
    for kind in (int, float, np.int64, torch.tensor):
        items = [(photo(i), kind(i % 2)) for i in range(8)]
        assert dataset_dls(items, items, bs=4, device='cpu').train_ds.images.y.tolist() == [0, 1]*4

def test_dead_links_are_skipped(tmp_path):
    write(tmp_path)
    os.symlink(tmp_path/'gone.png', tmp_path/'a/dead.png')
    with pytest.raises(ValueError, match='1 of 17 files cannot be read:\n  a/dead.png .FileNotFoundError'): dls(tmp_path)
    said = []
    assert len(dls(tmp_path, skip=said.append, mode='RGB').train_ds) and 'a/dead.png' in said[0]
    rows = [f'{name}/{i}.{ext},{name}' for name in 'ab' for i, ext in enumerate(kinds)]
    (tmp_path/'t.csv').write_text('\n'.join(['file,label', *rows, 'a/dead.png,a']))
    found = csv_dls(tmp_path/'t.csv', size=16, bs=4, skip=said.append, mode='RGB', device='cpu')
    assert len(found.train_ds) + len(found.valid_ds) == 16 and 'a/dead.png' in said[1]

def test_labels_belong_to_the_fingerprint_of_a_run(tmp_path):
    from sskd_tutor.distill.checkpoint import Checkpoint
    from helpers.pairs import new_learner, pair, small_dls
    def fit(shuffled, resume):
        teacher, student = pair()
        data = small_dls()
        images = data.train_ds.images
        if shuffled: data.train_ds.images = images._replace(y=images.y.flip(0))
        new_learner(student, data).fit_sskd(teacher, epochs=1, head_epochs=1, cbs=Checkpoint(tmp_path, resume=resume))
    fit(False, False)
    with pytest.raises(ValueError, match='labels'): fit(True, True)
