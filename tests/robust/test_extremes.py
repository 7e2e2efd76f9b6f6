"""Numbers and states at their ends: each trains right, or a sentence says what is expected."""
import copy
import warnings

import pytest
import torch
from fastai.vision.all import CrossEntropyLossFlat, DataLoaders, OptimWrapper, SGD
from torch import nn

from helpers.matrix import check
from helpers.pairs import cpu, new_learner, snapshot, staged
from sskd_tutor.core.device import Bf16
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.checkpoint import Checkpoint
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.nets.staged import StagedNet

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

def dls(change=lambda x: x, n=12, labels=lambda i: i % 3, bs=4, side=12):
    x = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))
    data = [(change(image), torch.tensor(labels(i))) for i, image in enumerate(x)]
    return DataLoaders(*(torch.utils.data.DataLoader(data, batch_size=bs) for _ in range(2)), device=cpu)

def trained(images=None, teacher=None, student=None, cbs=(), opt=None, **kwargs):
    torch.manual_seed(0)
    teacher, student = teacher or staged(8, n_out=3), student or staged(4, n_out=3)
    learn = new_learner(student, images or dls(), loss_func=CrossEntropyLossFlat(), metrics=None, **({'opt_func': opt} if opt else {}))
    own, flags = snapshot(teacher), [p.requires_grad for p in student.stages.parameters()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            run = learn.fit_sskd(teacher, **{**dict(epochs=1, head_epochs=1), **kwargs}, cbs=list(cbs))
    finally:
        assert same_bits(own, snapshot(teacher)) and [p.requires_grad for p in student.stages.parameters()] == flags
    assert all(p.isfinite().all() for p in student.parameters() if p.is_floating_point())
    assert run.gmacs >= 0

def same_bits(before, after):
    "NaN equals NaN here"
    return all(torch.allclose(value, after[name], rtol=0, atol=0, equal_nan=True) for name, value in before.items())

def filled(value):
    net = staged(8, n_out=3)
    with torch.no_grad():
        for p in net.parameters(): p.fill_(value)
    return net

def nan_loss(pred, hint): return (pred - hint).mean()*float('nan')
def vector_loss(pred, hint): return (pred - hint).square().flatten(1).mean(1)
def number_loss(pred, hint): return 3.
def detached_loss(pred, hint): return (pred - hint).square().mean().detach()
def negative_loss(pred, hint): return -(pred*hint).mean()
def flat(net): return StagedNet(dict(all=nn.Sequential(*net.stages.values())), net.head)
class Dead(nn.Module):
    def forward(self, x): return x*0

settings = {
    **{f'lr {lr}': dict(lr=lr) for lr in (0, 1e-30, 1e30, float('nan'), float('inf'), -1e-3, '0.1', None, [.1, .2])},
    **{f'epochs {n}': dict(epochs=n) for n in (0, -1, 1.5, '2', None, True, dict(stage1=2), dict(stage9=1), {}, dict(stage1=0))},
    **{f'head_epochs {n}': dict(head_epochs=n) for n in (0, -1, 1.5, '2', None)},
    **{f'valid_every {n}': dict(valid_every=n) for n in (0, 2, 99)},
    **{f'loss {f.__name__}': dict(loss=f) for f in (nan_loss, vector_loss, number_loss, detached_loss, negative_loss)},
    **{f'loss {word!r}': dict(loss=word) for word in ('mse', 'msee', None, 3)},
    **{f'adapter {word!r}': dict(adapter=word) for word in ('conv', 'none', None, 3)},
    'adapter of nothing': dict(adapter=lambda s, t: Dead()), 'adapter of another shape': dict(adapter=lambda s, t: nn.Conv2d(s[0], 3, 1)),
    'weight decay 1e30': dict(wd=1e30), 'pct_start 0': dict(pct_start=0.), 'pct_start 1': dict(pct_start=1.),
    'an unknown word': dict(epoch=3), 'feed of nobody': dict(feed='nobody')}

data = {
    'images all zero': dict(change=lambda x: x*0), 'images of 1e30': dict(change=lambda x: x*1e30), 'images of 1e-40': dict(change=lambda x: x*1e-40),
    'images of -1e6': dict(change=lambda x: x*-1e6), 'constant images': dict(change=lambda x: x*0 + .5),
    'one label only': dict(labels=lambda i: 0), 'ignored labels': dict(labels=lambda i: -100), 'labels 255': dict(labels=lambda i: 255),
    'one image': dict(n=1), 'batches of one': dict(bs=1), 'a last batch of one': dict(n=9), 'a batch larger than the set': dict(bs=99),
    'images of 1 pixel': dict(side=1), 'images of 2 pixels': dict(side=2), 'images of 200 pixels': dict(side=200, n=4)}

nets = {
    'a teacher of zeros': lambda: dict(teacher=filled(0.)), 'a teacher of 1e20': lambda: dict(teacher=filled(1e20)),
    'a teacher of NaN': lambda: dict(teacher=filled(float('nan'))), 'a student of zeros': lambda: dict(student=filled(0.)),
    'a student of 1e20': lambda: dict(student=filled(1e20)), 'one stage each': lambda: dict(teacher=flat(staged(8, n_out=3)), student=flat(staged(4, n_out=3))),
    'one channel': lambda: dict(student=staged(1, n_out=3)), 'a thousand outputs': lambda: dict(student=staged(4, n_out=1000)),
    'two outputs for three labels': lambda: dict(student=staged(4, n_out=2)), 'the same network twice': lambda: twice(),
    'a copy as teacher': lambda: copied(), 'a class as teacher': lambda: dict(teacher=StagedNet), 'no teacher': lambda: dict(teacher='resnet18')}

def twice():
    net = staged(4, n_out=3)
    return dict(teacher=net, student=net)

def copied():
    net = staged(4, n_out=3)
    return dict(teacher=copy.deepcopy(net), student=net)

callbacks = {
    'views 0': lambda f: CacheFeatures(views=0), 'views 1000': lambda f: CacheFeatures(views=1000), 'budget 0': lambda f: CacheFeatures(budget=0),
    'budget 1 byte': lambda f: CacheFeatures(budget='1 B'), 'budget NaN': lambda f: CacheFeatures(budget=float('nan')),
    'budget -1': lambda f: CacheFeatures(budget=-1), 'budget of words': lambda f: CacheFeatures(budget='much'),
    'budget of an exabyte': lambda f: CacheFeatures(budget='1000000 TB'), 'a place that is none': lambda f: CacheFeatures(where='cloud'),
    'a sample of 0': lambda f: RecordAlignment(sample=0), 'a sample of 1': lambda f: RecordAlignment(sample=1, images=1),
    'a share of 2': lambda f: RecordAlignment(share=2), 'checkpoint each step': lambda f: Checkpoint(f/'c', every=0),
    'checkpoint in a file': lambda f: Checkpoint((f/'c').write_text('x') and f/'c'), 'resume of nothing': lambda f: Checkpoint(f/'d', resume=True),
    'bfloat16': lambda f: Bf16(), 'a callback that is none': lambda f: 'GradientClip'}

@pytest.mark.parametrize('name', settings)
def test_setting(name): check('extremes', name, lambda: trained(**settings[name]))

@pytest.mark.parametrize('name', data)
def test_data(name): check('extremes', name, lambda: trained(dls(**data[name])))

@pytest.mark.parametrize('name', data)
def test_data_with_everything(name, tmp_path):
    cbs = [RecordAlignment(sample=8, images=2), Checkpoint(tmp_path/'c')]
    check('extremes', f'{name}, recorded and kept', lambda: trained(dls(**data[name]), cbs=cbs))

@pytest.mark.parametrize('name', nets)
def test_nets(name):
    def f():
        kwargs = nets[name]()
        if not isinstance(kwargs.get('teacher'), (type, str)): return trained(**kwargs)
        new_learner(staged(4), dls()).fit_sskd(kwargs['teacher'], 1, 1)
    check('extremes', name, f)

@pytest.mark.parametrize('name', callbacks)
def test_callbacks(name, tmp_path): check('extremes', name, lambda: trained(cbs=[callbacks[name](tmp_path)]))

optimizers = dict(sgd=SGD, torch_sgd=lambda p, **kw: OptimWrapper(p, torch.optim.SGD, lr=.1), bound=OptimWrapper([nn.Parameter(torch.ones(1))], torch.optim.SGD))

@pytest.mark.parametrize('name', optimizers)
def test_optimizers(name): check('extremes', f'optimizer {name}', lambda: trained(opt=optimizers[name]))
