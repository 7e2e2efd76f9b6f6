"""Small pairs of networks, learners and what may not move."""
from functools import partial
import torch
from fastai.vision.all import (Callback, CrossEntropyLossFlat, DataLoaders, Learner, accuracy)
from torch import nn
from sskd_tutor.distill.adapters import make_adapter
from sskd_tutor.data.images import Images, balanced, embedded_fashion
from sskd_tutor.data.loaders import ImageSet, fashion_dls
import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.nets.staged import StagedNet

cpu = torch.device('cpu')

def small_dls(n=100, bs=50, n_valid=50, step=3, device=cpu, **kwargs):
    "Embedded images, every third pixel (10x10), with a short validation set"
    dls = fashion_dls(n=n, bs=bs, device=device, **kwargs)
    shrink = lambda i: Images(i.x[:, :, ::step, ::step], i.y, i.idx)
    valid = balanced(embedded_fashion('valid'), n_valid//10)[0]
    return DataLoaders(dls.train.new(ImageSet(shrink(dls.train_ds.images))),
            dls.valid.new(ImageSet(shrink(valid), split_idx=1)), device=device)

norms = dict(BatchNorm=nn.BatchNorm2d, BatchNormNoAffine=partial(nn.BatchNorm2d, affine=False),
             GroupNorm=partial(nn.GroupNorm, 2), LayerNorm=partial(nn.GroupNorm, 1))

def staged(width=4, norm=nn.BatchNorm2d, p=0.2, n_out=10, c_in=1):
    "Three stages with norm and dropout in each"
    def stage(i, o, stride): return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), norm(o), nn.ReLU(), nn.Dropout(p))
    stages = dict(stage1=stage(c_in, width, 1), stage2=stage(width, 2*width, 2), stage3=stage(2*width, 4*width, 2))
    return StagedNet(stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(p), nn.Linear(4*width, n_out)))

def pair(**kwargs):
    torch.manual_seed(0)
    return staged(8, **kwargs), staged(4, **kwargs)  # teacher, student

def new_learner(student, dls=None, **kwargs):
    learn = Learner(dls or small_dls(), student, **{**dict(metrics=accuracy, loss_func=CrossEntropyLossFlat()), **kwargs})
    learn.remove_cb(learn.progress)
    learn.logger = lambda *_: None
    return learn

def snapshot(*nets):
    "Copies of every parameter and buffer, those that a state_dict leaves out too"
    found = {}
    for i, net in enumerate(nets):
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]: found[f'{i}.{name}'] = tensor.detach().clone()
    return found

def moved(before, *nets):
    after = snapshot(*nets)
    assert after.keys() == before.keys()
    return {n.split('.', 1)[1] for n, t in after.items() if not torch.equal(t, before[n])}

def state(*nets):
    "Modes, requires_grad and the number of hooks"
    hooks = '_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks'
    return ([m.training for net in nets for m in net.modules()], [p.requires_grad for net in nets for p in net.parameters()],
            [len(getattr(m, h)) for net in nets for m in net.modules() for h in hooks])

def conv_adapter(student, teacher, stage):
    x = torch.zeros(2, 1, 10, 10)
    student_tap, hint = (net.forward_to(x, stage).shape[1:] for net in (student, teacher))
    return make_adapter(student_tap, hint)

class Spy(Callback):
    "Calls `at[event](learn)` in training batches"
    order = 30
    def __init__(self, f, event='after_pred'): setattr(self, event, lambda: f(self.learn) if self.training else None)

def gap(a, b):
    "Largest difference between two equally shaped nests of tensors and numbers"
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return max(gap(a[k], b[k]) for k in a)
    if isinstance(a, list): return max(map(gap, a, b))
    return float((torch.as_tensor(a).double() - torch.as_tensor(b).double()).abs().max())

def largest_gap(a, b): return ((a - b).abs()/b.abs()).max()
