"""Loaders as people have them: fastai's, PyTorch's, their own. Each trains right, or a sentence says what is expected."""
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.vision.all import (BCEWithLogitsLossFlat, Callback, Categorize, CategoryBlock, CrossEntropyLossFlat, CutMix, DataBlock, DataLoader,
                               DataLoaders, Datasets, ImageBlock, ImageDataLoaders, IntToFloatTensor, MixUp, MSELossFlat, MultiCategoryBlock,
                               PILImage, PILImageBW, RandomSplitter, RegressionBlock, Resize, ToTensor, aug_transforms, get_image_files, parent_label)
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader as TorchDL
from torch.utils.data import IterableDataset, TensorDataset, WeightedRandomSampler

from helpers.matrix import check
from helpers.pairs import cpu, moved, new_learner, snapshot, staged
from sskd_tutor.data.datasets import dataset_dls
from sskd_tutor.data.folders import folder_dls
from sskd_tutor.data.lists import csv_dls, listed_dls
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.checkpoint import Checkpoint
from sskd_tutor.measure.recorder import RecordAlignment

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

def pixels(n=24, c=3, side=16): return torch.rand(n, c, side, side, generator=torch.Generator().manual_seed(0))
def items(n=24, y=lambda i: torch.tensor(i % 3), **kwargs): return [(x, y(i)) for i, x in enumerate(pixels(n, **kwargs))]
def both(make, data): return DataLoaders(make(data), make(data), device=cpu)
def torch_dls(data, **kwargs): return both(lambda d: TorchDL(d, batch_size=8, **kwargs), data)
def fastai_dls(data, **kwargs): return both(lambda d: DataLoader(d, bs=8, num_workers=0, **kwargs), data)

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Three classes of eight images, and a table of them"
    top, rows = tmp_path_factory.mktemp('images'), []
    for i in range(24):
        path = top/f'class{i % 3}'/f'{i}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.RandomState(i).randint(0, 255, (20, 24, 3), np.uint8)).save(path)
        rows.append((path.relative_to(top).as_posix(), f'class{i % 3}', f'class{i % 3} class{(i + 1) % 3}', i/24, i % 4 == 0))
    pd.DataFrame(rows, columns=['name', 'label', 'labels', 'value', 'is_valid']).to_csv(top/'table.csv', index=False)
    return top

class Stream(IterableDataset):
    def __iter__(self): return iter(items())

class Named(torch.utils.data.Dataset):
    "Items are dicts, as Hugging Face has them"
    def __len__(self): return 24
    def __getitem__(self, i): return dict(image=pixels()[i], label=i % 3)

class Fails(torch.utils.data.Dataset):
    def __len__(self): return 24
    def __getitem__(self, i):
        if i == 20: raise OSError('the disk is gone')
        return pixels()[i], i % 3

def block(folder, *blocks, get_y=parent_label, batch_tfms=(), item_tfms=Resize(16)):
    return DataBlock((ImageBlock, *blocks), get_items=get_image_files, get_y=get_y, splitter=RandomSplitter(seed=0),
                     item_tfms=item_tfms, batch_tfms=batch_tfms).dataloaders(folder, bs=8, num_workers=0, device=cpu)

def as_uint8(n=24): return [((x*255).byte(), torch.tensor(i % 3)) for i, (x, _) in enumerate(items(n))]
def collated(batch): return torch.stack([b[0] for b in batch]), torch.tensor([int(b[1]) for b in batch])
def weighted(data): return TorchDL(data, batch_size=8, sampler=WeightedRandomSampler(torch.rand(24) + .1, 24))
def nan_image():
    x = pixels()
    x[3, 0, 0, 0] = float('nan')
    return TensorDataset(x, torch.arange(24) % 3)

# name -> (folder -> loaders, what the learner is told)
loaders = {
    'torch, tensors': (lambda f: torch_dls(TensorDataset(pixels(), torch.arange(24) % 3)), {}),
    'torch, list': (lambda f: torch_dls(items()), {}),
    'torch, shuffled, last dropped': (lambda f: torch_dls(items(), shuffle=True, drop_last=True), {}),
    'torch, weighted sampler': (lambda f: both(weighted, items()), {}),
    'torch, own collate': (lambda f: torch_dls(items(), collate_fn=collated), {}),
    'torch, workers': (lambda f: torch_dls(items(), num_workers=1), {}),
    'torch, an iterable set': (lambda f: both(lambda d: TorchDL(d, batch_size=8), Stream()), {}),
    'torch, dicts': (lambda f: torch_dls(Named()), {}),
    'torch, no labels': (lambda f: torch_dls(TensorDataset(pixels())), {}),
    'torch, labels as numpy': (lambda f: torch_dls(items(y=lambda i: np.int64(i % 3))), {}),
    'torch, labels as int': (lambda f: torch_dls(items(y=lambda i: i % 3)), {}),
    'torch, labels as text': (lambda f: torch_dls(items(y=lambda i: 'abc'[i % 3])), {}),
    'torch, labels int32': (lambda f: torch_dls(items(y=lambda i: torch.tensor(i % 3, dtype=torch.int32))), {}),
    'torch, labels of shape (1)': (lambda f: torch_dls(items(y=lambda i: torch.tensor([i % 3]))), {}),
    'torch, one-hot labels': (lambda f: torch_dls(items(y=lambda i: torch.eye(3)[i % 3])), dict(loss_func=nn.CrossEntropyLoss())),
    'torch, three parts': (lambda f: torch_dls([(x, y, torch.tensor(1.)) for x, y in items()]), {}),
    'torch, two images': (lambda f: torch_dls([(x, x, y) for x, y in items()]), {}),
    'torch, nested labels': (lambda f: torch_dls([(x, dict(a=y)) for x, y in items()]), {}),
    'torch, bytes': (lambda f: torch_dls(as_uint8()), {}),
    'torch, float64': (lambda f: torch_dls([(x.double(), y) for x, y in items()]), {}),
    'torch, float16': (lambda f: torch_dls([(x.half(), y) for x, y in items()]), {}),
    'torch, channels last': (lambda f: torch_dls([(x.permute(1, 2, 0), y) for x, y in items()]), {}),
    'torch, flat images': (lambda f: torch_dls([(x.flatten(), y) for x, y in items()]), {}),
    'torch, gray images': (lambda f: torch_dls(items(c=1)), {}),
    'torch, four channels': (lambda f: torch_dls(items(c=4)), {}),
    'torch, NaN': (lambda f: torch_dls(nan_image()), {}),
    'torch, infinite': (lambda f: torch_dls([(x*float('inf'), y) for x, y in items()]), {}),
    'torch, images of many sizes': (lambda f: torch_dls([(x[:, :16 - i % 2], y) for i, (x, y) in enumerate(items())]), {}),
    'torch, a label too high': (lambda f: torch_dls(items(y=lambda i: torch.tensor(i % 4))), {}),
    'torch, a negative label': (lambda f: torch_dls(items(y=lambda i: torch.tensor(i % 3 - 1))), {}),
    'torch, empty': (lambda f: torch_dls([]), {}),
    'torch, one image': (lambda f: torch_dls(items(1)), {}),
    'torch, no validation': (lambda f: DataLoaders(TorchDL(items(), batch_size=8), device=cpu), {}),
    'torch, empty validation': (lambda f: DataLoaders(TorchDL(items(), batch_size=8), TorchDL([], batch_size=8), device=cpu), {}),
    'torch, regression': (lambda f: torch_dls(items(y=lambda i: torch.tensor([i/24]))), dict(loss_func=MSELossFlat(), n_out=1)),
    'torch, regression as one number': (lambda f: torch_dls(items(y=lambda i: i/24)), dict(loss_func=MSELossFlat(), n_out=1)),
    'torch, many labels': (lambda f: torch_dls(items(y=lambda i: (torch.arange(3) == i % 3).float())),
                           dict(loss_func=BCEWithLogitsLossFlat())),
    'torch, yes or no': (lambda f: torch_dls(items(y=lambda i: torch.tensor(i % 2))), dict(loss_func=BCEWithLogitsLossFlat(), n_out=1)),
    'fastai, plain': (lambda f: fastai_dls(items()), {}),
    'fastai, Datasets': (lambda f: Datasets(get_image_files(f), [[PILImage.create, lambda i: i.resize((16, 16))], [parent_label, Categorize()]],
                                            splits=RandomSplitter(seed=0)(get_image_files(f))).dataloaders(
        bs=8, num_workers=0, after_item=ToTensor, after_batch=IntToFloatTensor), {}),
    'fastai, from_folder': (lambda f: ImageDataLoaders.from_folder(f, valid_pct=.25, item_tfms=Resize(16), bs=8, num_workers=0), {}),
    'fastai, from_csv': (lambda f: ImageDataLoaders.from_csv(f, 'table.csv', item_tfms=Resize(16), bs=8, num_workers=0), {}),
    'fastai, augmented': (lambda f: block(f, CategoryBlock, batch_tfms=aug_transforms(size=16)), {}),
    'fastai, many labels': (lambda f: block(f, MultiCategoryBlock, get_y=lambda p: [parent_label(p), 'all']), dict(n_out=4)),
    'fastai, regression': (lambda f: block(f, RegressionBlock, get_y=lambda p: float(p.stem)), dict(n_out=1)),
    'fastai, regression of two': (lambda f: block(f, RegressionBlock(n_out=2), get_y=lambda p: [float(p.stem), 1.]), dict(n_out=2)),
    'fastai, no label': (lambda f: DataBlock((ImageBlock,), get_items=get_image_files, item_tfms=Resize(16)).dataloaders(
        f, bs=8, num_workers=0, device=cpu), {}),
    'fastai, gray': (lambda f: DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=get_image_files, get_y=parent_label,
                                         item_tfms=Resize(16)).dataloaders(f, bs=8, num_workers=0), {}),
    'ours, folder': (lambda f: folder_dls(f, 16, 8, device=cpu), {}),
    'ours, table': (lambda f: csv_dls(f/'table.csv', size=16, bs=8, device=cpu), {}),
    'ours, list': (lambda f: listed_dls(f, [(p.relative_to(f).as_posix(), p.parent.name) for p in get_image_files(f)], size=16, bs=8,
                                        device=cpu), {}),
    'ours, torchvision': (lambda f: dataset_dls(*[pil_set(f)]*2, size=16, bs=8, device=cpu), {}),
}

def pil_set(folder):
    from torchvision.datasets import ImageFolder
    return ImageFolder(folder)

def trained(dls, n_out=3, cbs=(), **kwargs):
    torch.manual_seed(1)
    student, teacher = staged(4, n_out=n_out, c_in=3), staged(8, n_out=n_out, c_in=3)
    loss = getattr(dls.train_ds, 'loss_func', None) or CrossEntropyLossFlat()
    own, learn = snapshot(teacher), new_learner(student, dls, metrics=None, **{'loss_func': loss, **kwargs})
    learn.fit_sskd(teacher, 1, 1, cbs=list(cbs))
    assert not moved(own, teacher) and all(p.isfinite().all() for p in student.parameters())

def quiet(f):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        f()

@pytest.mark.parametrize('name', loaders)
def test_fit(name, folder):
    make, told = loaders[name]
    check('loaders', name, lambda: quiet(lambda: trained(make(folder), **told)))

@pytest.mark.parametrize('name', loaders)
def test_recorded(name, folder):
    "With every callback that looks at the images"
    make, told = loaders[name]
    check('loaders', f'{name}, recorded', lambda: quiet(lambda: trained(make(folder), cbs=[RecordAlignment(sample=12)], **told)))

@pytest.mark.parametrize('name', loaders)
def test_cached_and_kept(name, folder, tmp_path):
    make, told = loaders[name]
    cbs = [CacheFeatures(views=1), Checkpoint(tmp_path/'c')]
    check('loaders', f'{name}, cached and kept', lambda: quiet(lambda: trained(make(folder), cbs=cbs, **told)))

def test_an_item_fails():
    "Your data set's own error comes through, and the learner is whole"
    def f():
        with pytest.raises(OSError, match='the disk is gone'): trained(torch_dls(Fails()))
    check('loaders', 'torch, an item fails', f, expect=('right',))

class Reshapes(Callback):
    def before_batch(self): self.learn.xb = (self.xb[0][..., ::2, ::2],)

mixed = dict(MixUp=MixUp, CutMix=CutMix, Reshapes=Reshapes)

@pytest.mark.parametrize('name', mixed)
def test_callback(name):
    check('loaders', f'fastai, plain, {name}', lambda: trained(fastai_dls(items()), cbs=[mixed[name]()]))

def test_many_are_tried(): assert len(loaders) >= 45
