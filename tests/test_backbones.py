"""Networks of torchvision, timm, fastai and one's own: split, unchanged, trained by a stage, and out again in their own class."""
import copy, json, pickle, sys

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from fastai.vision.all import DataLoader, DataLoaders, Learner, create_body, create_head, xresnet18, xresnet34, xse_resnext18
from torch import nn

import sskd_tutor.distill  # noqa: F401, patches Learner
from sskd_tutor.backbones import as_stages, image_shape
from sskd_tutor.cli import main
from sskd_tutor.nets import build_net
from sskd_tutor.stages import StagedNet
from test_invariants import moved, new_learner, snapshot

torch.set_num_threads(1)

# --- networks of one's own

class Own(nn.Module):
    "Functions for all that has no weights, one dropout for all stages, a batch norm by hand"
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, 2*width, 3, 1, 1)
        self.norm, self.drop, self.fc = nn.BatchNorm2d(width), nn.Dropout(0.2), nn.Linear(2*width, 10)
        self.scale, self.never = nn.Parameter(torch.full((1, width, 1, 1), 1.1)), nn.Parameter(torch.ones(3))
    def forward(self, x, unused=None):
        x = self.drop(F.relu(self.a(x)))*self.scale
        n = self.norm
        x = x + F.batch_norm(self.b(x), n.running_mean, n.running_var, n.weight, n.bias, self.training)
        x = self.drop(F.max_pool2d(F.relu_(x), 2))
        x = F.relu(self.c(x))
        x = F.dropout(x, 0.3, self.training)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

class Isotropic(nn.Module):
    "Blocks in a list, tokens last in memory, a class token and registers"
    def __init__(self, width=16, n=4, n_prefix=6, side=8):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 64//side, 64//side)
        self.prefix, self.pos = nn.Parameter(torch.randn(1, n_prefix, width)), nn.Parameter(torch.randn(1, n_prefix + side*side, width))
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 32, 0.1, batch_first=True, norm_first=True) for _ in range(n))
        self.fc = nn.Linear(width, 10)
    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.prefix.expand(t.shape[0], -1, -1), t], 1) + self.pos
        for b in self.blocks: t = b(t)
        return self.fc(t[:, 0])

def nested(): return nn.Sequential(nn.Sequential(nn.Sequential(create_body(torchvision.models.resnet18(), cut=-2)), create_head(512, 10)))

# --- the matrix: name -> (network, side of the images, reductions)

R5, R4, R16 = [2, 4, 8, 16, 32], [4, 8, 16, 32], [16]*4
def of_timm(name, side=64, reductions=R5, **kwargs): return f'timm:{name}', (lambda: timm.create_model(name, **dict(num_classes=10) | kwargs), side, reductions)
def of_tv(name, side=64, reductions=R5, **kwargs):
    return f'torchvision:{name}', (lambda: torchvision.models.get_model(name, weights=None, **dict(num_classes=10) | kwargs), side, reductions)
def of_own(f, side=64, reductions=R5, name=None): return name or f.__name__, (f, side, reductions)

small_vit = dict(img_size=64, embed_dim=32, depth=5, num_heads=2)
fast = dict([
    of_timm('regnety_002'), of_timm('mobilenetv4_conv_small_050'), of_timm('convnext_atto', reductions=R4), of_timm('pvt_v2_b0', reductions=R4),
    of_timm('vit_tiny_patch16_224', reductions=R16, **small_vit),
    of_timm('swin_tiny_patch4_window7_224', 224, R4, embed_dim=12, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 2)),
    of_tv('resnet18'), of_tv('mobilenet_v3_small'), of_tv('squeezenet1_1', reductions=[2.06, 4.27, 9.14, 21.33]), of_tv('shufflenet_v2_x0_5', reductions=[2, 8, 16, 32]),
    of_own(lambda: xresnet18(n_out=10), name='xresnet18'), of_own(nested, name='create_body'), of_own(Own, reductions=[2, 4]), of_own(Isotropic, reductions=[8]*4)])

slow = dict([
    *[of_timm(n) for n in '''resnet10t resnet26d resnext26ts seresnext26t_32x4d skresnet18 regnetx_002 resnetv2_50 nf_resnet26 cspresnet50 darknetaa53 dla34 dpn48b
      densenet121 ese_vovnet19b_dw res2net50_14w_8s mobilenetv2_050 mobilenetv3_small_050 mobilenetv3_large_100 mnasnet_small fbnetc_100 lcnet_050 tinynet_e
      efficientnet_b0 efficientnet_lite0 tf_efficientnetv2_b0 ghostnet_050 ghostnetv2_100 rexnet_100 repvgg_a0 mobileone_s0 gernet_s mobilevit_xxs xception41'''.split() if n not in ('dla34', 'darknetaa53')],
    of_timm('dla34', reductions=[1, *R5]), of_timm('darknetaa53', reductions=[1, *R5]), of_timm('vgg11_bn', reductions=[1, 2, 4, 8, 16]),
    *[of_timm(n, reductions=R4) for n in ('convnextv2_atto', 'pvt_v2_b1', 'poolformer_s12', 'inception_next_atto', 'starnet_s1', 'mambaout_femto', 'edgenext_xx_small')],
    of_timm('inception_v3', 128, [2.1, 4.57, 9.85, 21.33, 64], aux_logits=False), of_timm('selecsls42b', 128),
    of_timm('deit_tiny_distilled_patch16_224', reductions=R16, **small_vit), of_timm('beit_base_patch16_224', reductions=R16, **small_vit),
    of_timm('vit_small_patch14_reg4_dinov2', 56, [14]*4, **small_vit | dict(img_size=56)), of_timm('eva02_tiny_patch14_224', 56, [14]*4, **small_vit | dict(img_size=56)),
    of_timm('mixer_s32_224', 64, [32]*4, img_size=64), of_timm('maxvit_pico_rw_256', 256), of_timm('coatnet_pico_rw_224', 224),
    of_timm('swinv2_cr_tiny_224', 224, R4), of_timm('focalnet_tiny_srf', 64, R4), of_timm('davit_tiny', 224, R4), of_timm('hiera_tiny_224', 224, R4),
    of_timm('levit_128s', 224, [16, 32, 56]), of_timm('efficientformer_l1', 224, R4), of_timm('nest_tiny_jx', 224, [4, 8, 16]), of_timm('visformer_tiny', 224, [8, 16, 32]),
    *[of_tv(n) for n in ('resnet34', 'resnet50', 'resnext50_32x4d', 'wide_resnet50_2', 'regnet_y_400mf', 'regnet_x_400mf', 'densenet121', 'mobilenet_v2', 'efficientnet_b0',
      'efficientnet_v2_s', 'mnasnet0_5')], of_tv('googlenet', aux_logits=False, init_weights=False),
    of_tv('inception_v3', 128, [2.1, 4.57, 9.85, 21.33, 64], aux_logits=False, init_weights=False),
    *[of_tv(n, reductions=[1, 2, 4, 8, 16]) for n in ('vgg11', 'vgg13_bn')], of_tv('alexnet', reductions=[4.27, 9.14, 21.33]),
    *[of_tv(n, reductions=R4) for n in ('convnext_tiny', 'swin_t', 'swin_v2_t')], of_tv('vit_b_16', reductions=R16, image_size=64), of_tv('maxvit_t', 224),
    of_own(lambda: xresnet34(n_out=10), name='xresnet34'), of_own(lambda: xse_resnext18(n_out=10), name='xse_resnext18')])

matrix = pytest.mark.parametrize('name', [*fast, *(pytest.param(n, marks=pytest.mark.slow) for n in slow)])

def made(name):
    make, side, reductions = (fast | slow)[name]
    torch.manual_seed(0)
    net = make()
    with torch.no_grad():
        for p in net.parameters():
            if not p.any(): p.normal_(0, 0.1)  # as for a last norm: what multiplies it would not learn in a first step
    return net, torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1)), reductions

def state(net):
    hooks = '_forward_hooks', '_forward_pre_hooks', '_backward_hooks'
    return [(n, m.training, *(len(getattr(m, h)) for h in hooks)) for n, m in net.named_modules()], [(n, p.requires_grad, p.grad is None) for n, p in net.named_parameters()]

@matrix
def test_split_changes_nothing_and_computes_the_same(name):
    net, x, reductions = made(name)
    next(net.parameters()).requires_grad_(False)
    list(net.children())[-1].eval()
    before, how, rng = snapshot(net), state(net), torch.get_rng_state()
    staged = as_stages(net, x)
    assert not moved(before, net) and state(net) == how and torch.equal(torch.get_rng_state(), rng)
    owners = [{id(p) for p in m.parameters()} for m in [*staged.stages.values(), staged.head]]
    assert sum(map(len, owners)) == len(set().union(*owners)) and set().union(*owners) == {id(p) for p in net.parameters()}
    assert all(owners[:-1])
    table = staged.stage_table(x)
    assert table.reduction.tolist()[:-1] == reductions and all(len(s) == 3 for s in table['shape'][:-1])
    with torch.no_grad():
        expected, fmap = net.eval()(x), x
        assert torch.equal(staged.eval()(x), expected)
        for k in range(len(reductions)): fmap = staged.forward_to(fmap, k, after=k - 1 if k else None).contiguous()  # as a cache would give it
        assert torch.equal(staged.head(fmap), expected)

@matrix
def test_train_mode_too(name):
    (net, x, _), (other, _, _) = made(name), made(name)
    staged = as_stages(other, x).train()
    def step(f, model):
        torch.manual_seed(2)
        y = f(x)
        y.float().square().mean().backward()
        return y, [p.grad for p in model.parameters()], list(model.buffers())
    (y, grads, buffers), (z, others, copies) = step(net.train(), net), step(staged, other)
    assert torch.equal(y, z) and all(torch.equal(a, b) for a, b in zip(buffers, copies))
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(grads, others))

def noise_dls(x):
    data = [(i, torch.tensor(0)) for i in torch.cat([x, x.flip(-1)])]
    return DataLoaders(*[DataLoader(data, bs=4, num_workers=0) for _ in range(2)])

@matrix
def test_one_step_of_one_stage(name):
    net, x, _ = made(name)
    student = as_stages(net, x)
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        for p in teacher.parameters(): p.mul_(1.1)
    keys, stage = list(net.state_dict()), student.stage_names[1]
    before, hints = snapshot(student), snapshot(teacher)
    learn = new_learner(student, noise_dls(x))
    learn.fit_stage(teacher, stage, 1, 1e-2, valid_every=0, fit=Learner.fit)
    after = moved(before, student)
    own = {n for n, p in student.named_parameters() if n.startswith(f'stages.{stage}.')}
    assert all(n.startswith(f'stages.{stage}.') for n in after) and not moved(hints, teacher)
    assert len(after & own) > 0.8*len(own)
    # out again: the class it was, the keys it had
    fresh, _, _ = made(name)
    assert list(net.state_dict()) == keys == list(fresh.state_dict())
    fresh.load_state_dict(net.state_dict())
    with torch.no_grad(): assert torch.equal(fresh.eval()(x), student.eval()(x))
