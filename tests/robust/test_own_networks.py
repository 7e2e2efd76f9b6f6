"""Networks as people write them: odd parts, odd modes, odd answers. Each trains right, or a sentence says why not."""
import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from fastai.vision.all import CrossEntropyLossFlat, DataLoader, DataLoaders, vision_learner, xresnet18
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from helpers.matrix import check
from helpers.pairs import cpu, moved, new_learner, snapshot
from sskd_tutor.core.events import RunCallback
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.nets.cut import as_stages
from sskd_tutor.nets.staged import StagedNet

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

def dls(n=8, side=32, c=3):
    torch.manual_seed(0)
    data = [(torch.rand(c, side, side), torch.tensor(i % 10)) for i in range(n)]
    return DataLoaders(*(DataLoader(data, 4, num_workers=0) for _ in range(2)), device=cpu)

def conv(i, o, stride=1, **kwargs): return nn.Conv2d(i, o, 3, stride, 1, **kwargs)
def tail(width): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

def plain(*extra, width=8):
    "Two resolutions, and whatever else after the first stage"
    return nn.Sequential(nn.Sequential(conv(3, width, 2), nn.BatchNorm2d(width), nn.ReLU(), *extra),
                         nn.Sequential(conv(width, width, 2), nn.BatchNorm2d(width), nn.ReLU()),
                         nn.Sequential(conv(width, width, 2), nn.ReLU()), *tail(width))

class Watch(RunCallback):
    "While a part learns, all others stand still, and so do the networks `rest`"
    def __init__(self, *rest): self.rest = rest
    def skip_phase(self, learn, run): self.before, self.others = snapshot(run.student), snapshot(*self.rest)
    def end_phase(self, learn, run):
        part = 'head.' if learn.sskd_phase == 'head' else f'stages.{learn.sskd_phase}.'
        after = moved(self.before, run.student)
        assert all(name.startswith(part) for name in after) and after, (part, after)
        assert not moved(self.others, *self.rest)

def distills(student=plain, teacher=plain, images=dls, **kwargs):
    "The whole method between the two; nothing that is frozen moves"
    torch.manual_seed(1)
    student, teacher = student(), teacher()
    learn = new_learner(student, images())
    run = learn.fit_sskd(teacher, 1, 1, cbs=[Watch(teacher), *kwargs.pop('cbs', ())], **kwargs)
    assert run.history.value[run.history.measure == 'train_loss'].notna().all()

# --- modules

class Square(torch.autograd.Function):
    "Keeps its input alone, and computes again what it needs"
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x*torch.sigmoid(x)
    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad*(s*(1 + x*(1 - s)))

class MemorySaving(nn.Module):
    def forward(self, x): return Square.apply(x)

class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant, self.inside = reentrant, conv(8, 8)
    def forward(self, x): return checkpoint(self.inside, x, use_reentrant=self.reentrant)

class Functional(nn.Module):
    "Its weights are bare parameters"
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 1, 1))
    def forward(self, x): return F.conv2d(x, self.weight)

class Branches(nn.Module):
    "What it does depends on its input"
    def forward(self, x): return x*2 if x.sum() > 0 else x

class Random(nn.Module):
    "Noise in training, by hand"
    def forward(self, x): return x + .1*torch.randn_like(x) if self.training else x

class Drops(nn.Module):
    "Stochastic depth by Python's own random numbers"
    def __init__(self):
        super().__init__()
        self.inside = conv(8, 8)
    def forward(self, x): return torchvision.ops.stochastic_depth(self.inside(x), .5, 'row', self.training) + x

class Keeps(nn.Module):
    "Keeps its last input, as interpretability tools do"
    def forward(self, x):
        self.last = x
        return x

class Unused(nn.Module):
    "Has weights that its forward never asks for"
    def __init__(self):
        super().__init__()
        self.never = conv(8, 8)
    def forward(self, x): return x

class Normed(nn.Module):
    "Layer norm over channels, last in memory"
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
    def forward(self, x): return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

def half(net): return net.half()
def doubled(net): return net.double()
def frozen(net): return net.requires_grad_(False)
def meta():
    with torch.device('meta'): return plain()
def not_finite():
    net = plain()
    with torch.no_grad(): next(net.parameters())[0] = float('nan')
    return net
def tied():
    net = plain()
    net[1][0].weight = net[2][0].weight
    return net
def hooked():
    net = plain()
    net[0].register_forward_hook(lambda module, args, out: out*1.5)
    return net
def pruned():
    from torch.nn.utils import prune
    net = plain()
    prune.l1_unstructured(net[1][0], 'weight', .5)
    return net

class Answers(nn.Module):
    "A network that answers otherwise than with one tensor"
    def __init__(self, kind):
        super().__init__()
        self.net, self.kind = plain(), kind
    def forward(self, x):
        y = self.net(x)
        return dict(dict=dict(out=y), tuple=(y, y), list=[y], none=None)[self.kind]

class OneStage(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3*32*32, 10)
    def forward(self, x): return self.fc(x.flatten(1))

def by_hand(stochastic=False):
    "Stages named by hand; in training something runs between them that the cut leaves out"
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = conv(3, 8, 2), conv(8, 8, 2), tail(8)
        def forward(self, x):
            x = self.a(x)
            if stochastic and self.training: x = F.dropout(x, .5)
            return self.head(self.b(x))
    return as_stages(Net(), (3, 32, 32), stages=dict(stage1='a', stage2='b'), head='head')

modules = dict(
    memory_saving_function=MemorySaving, reentrant_checkpoint=lambda: Checkpointed(True), checkpoint=lambda: Checkpointed(False),
    bare_parameters=Functional, branches_on_values=Branches, noise_in_training=Random, stochastic_depth=Drops,
    keeps_a_tensor=Keeps, layer_norm_channels_last=Normed, group_norm=lambda: nn.GroupNorm(2, 8),
    instance_norm=lambda: nn.InstanceNorm2d(8), instance_norm_with_statistics=lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    batch_norm_without_statistics=lambda: nn.BatchNorm2d(8, track_running_stats=False),
    batch_norm_without_momentum=lambda: nn.BatchNorm2d(8, momentum=None), sync_batch_norm=lambda: nn.SyncBatchNorm(8),
    dropout=lambda: nn.Dropout2d(.5), prelu=nn.PReLU, in_place=lambda: nn.Sequential(conv(8, 8), nn.ReLU(inplace=True)),
    spectral_norm=lambda: parametrizations.spectral_norm(conv(8, 8)), weight_norm=lambda: parametrizations.weight_norm(conv(8, 8)),
    old_spectral_norm=lambda: nn.utils.spectral_norm(conv(8, 8)), grouped=lambda: conv(8, 8, groups=8),
    dilated=lambda: nn.Conv2d(8, 8, 3, 1, 2, dilation=2), transposed=lambda: nn.ConvTranspose2d(8, 8, 3, 1, 1),
    lazy=lambda: nn.LazyConv2d(8, 3, padding=1), pixel_shuffle=lambda: nn.Sequential(conv(8, 32), nn.PixelShuffle(2)),
    unused=Unused, identity=nn.Identity,
    attention=lambda: torchvision.ops.SqueezeExcitation(8, 4), upsample=lambda: nn.Upsample(scale_factor=2),
    in_place_residual=lambda: nn.Sequential(conv(8, 8), nn.Hardswish(inplace=True)))

@pytest.mark.parametrize('role', ['student', 'teacher'])
@pytest.mark.parametrize('name', modules)
def test_module(name, role):
    def made(): return plain(modules[name]())
    check('own networks', f'{name} in the {role}', lambda: distills(**{role: made}))

@pytest.mark.parametrize('name', ['memory_saving_function', 'branches_on_values', 'noise_in_training', 'keeps_a_tensor',
                                  'spectral_norm', 'in_place', 'instance_norm', 'stochastic_depth'])
def test_staged_by_hand(name):
    "The same in stages of your own, which need not be traced"
    def made(): return StagedNet(dict(stage1=nn.Sequential(conv(3, 8, 2), modules[name]()), stage2=conv(8, 8, 2)), tail(8))
    check('own networks', f'{name} in stages by hand', lambda: distills(made, made))

whole = dict(
    half=lambda: half(plain()), double=lambda: doubled(plain()), frozen=lambda: frozen(plain()), meta=meta, not_finite=not_finite,
    tied_weights=tied, forward_hook=hooked, pruned=pruned, answers_dict=lambda: Answers('dict'), answers_tuple=lambda: Answers('tuple'),
    answers_list=lambda: Answers('list'), answers_nothing=lambda: Answers('none'), one_stage=OneStage,
    data_parallel=lambda: nn.DataParallel(plain()), compiled=lambda: torch.compile(plain(), backend='eager'),
    scripted=lambda: torch.jit.script(plain()), traced=lambda: torch.jit.trace(plain(), torch.rand(2, 3, 32, 32)),
    eval_mode=lambda: plain().eval(), deep_copy=lambda: copy.deepcopy(plain()), gray=lambda: nn.Sequential(conv(1, 8, 2), *tail(8)),
    by_hand=by_hand, by_hand_with_dropout_between=lambda: by_hand(True), a_class=lambda: nn.Identity, a_function=lambda: F.relu,
    no_parameters=lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), a_learner_made_by_fastai=lambda: xresnet18(n_out=10),
    inception=lambda: torchvision.models.inception_v3(num_classes=10, weights=None, init_weights=False),
    inception_aux_kept=lambda: torchvision.models.googlenet(num_classes=10, weights=None, init_weights=False),
    segmentation=lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
    more_classes=lambda: nn.Sequential(*list(plain())[:-1], nn.Linear(8, 1000)),
    channels_last=lambda: plain().to(memory_format=torch.channels_last), inference_tensors=lambda: inference_made())

def inference_made():
    with torch.inference_mode(): return plain()

sides = dict(inception=128, inception_aux_kept=96, a_learner_made_by_fastai=64)
def images_for(name): return lambda: dls(side=sides.get(name, 32))

@pytest.mark.parametrize('role', ['student', 'teacher'])
@pytest.mark.parametrize('name', whole)
def test_whole(name, role):
    def f():
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            distills(**{role: whole[name]}, images=images_for(name))
    check('own networks', f'{name} as {role}', f)

@pytest.mark.parametrize('name', ['batch_norm_without_statistics', 'instance_norm', 'dropout', 'noise_in_training', 'spectral_norm'])
def test_remembered(name):
    "With a cache"
    def made(): return plain(modules[name]())
    check('own networks', f'{name} remembered', lambda: distills(made, made, cbs=[CacheFeatures(views=1)]))

def test_vision_learner():
    def f():
        learn = vision_learner(dls(side=64), torchvision.models.resnet18, n_out=10, pretrained=False, normalize=False,
                               loss_func=CrossEntropyLossFlat())
        learn.remove_cb(learn.progress)
        learn.fit_sskd(new_learner(plain(), learn.dls), 1, 1)
    check('own networks', 'vision_learner', f)
