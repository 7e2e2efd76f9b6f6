"""Networks of torchvision, timm, fastai and one's own: split, unchanged, trained by a stage, and out again in their own class."""
import copy, json, pickle, random, sys
from functools import partial

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from fastai.vision.all import (Callback, DataLoader, DataLoaders, DynamicUnet, Learner, create_body, create_head, xresnet18,
                               xresnet34, xse_resnext18)
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.nets.converter import make_converter, wanted
from sskd_tutor.nets.cut import CannotCut, as_stages, image_shape
from sskd_tutor.nets.tapped import as_taps
from sskd_tutor.cli import main
from sskd_tutor.nets.words import build_model, build_net
from sskd_tutor.nets.maps import channels_of, first_conv, unchanged
from sskd_tutor.distill.pairing import pair_stages
from sskd_tutor.nets.staged import StagedNet
from conftest import root
from helpers.pairs import moved, new_learner, snapshot

torch.set_num_threads(1)

# --- networks of one's own

class Own(nn.Module):
    "Functions for all that has no weights, one dropout for all stages, a batch norm by hand"
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.c = nn.Conv2d(width, 2*width, 3, 1, 1)
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
        self.prefix = nn.Parameter(torch.randn(1, n_prefix, width))
        self.pos = nn.Parameter(torch.randn(1, n_prefix + side*side, width))
        block = partial(nn.TransformerEncoderLayer, width, 2, 32, 0.1, batch_first=True, norm_first=True)
        self.blocks = nn.ModuleList(block() for _ in range(n))
        self.fc = nn.Linear(width, 10)
    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.prefix.expand(t.shape[0], -1, -1), t], 1) + self.pos
        for b in self.blocks: t = b(t)
        return self.fc(t[:, 0])

def unet_encoder(): return DynamicUnet(create_body(torchvision.models.resnet18(), cut=-2), 5, (64, 64)).layers[0]

def nested():
    body = create_body(torchvision.models.resnet18(), cut=-2)
    return nn.Sequential(nn.Sequential(nn.Sequential(body, create_head(512, 10))))

# --- the matrix: name -> (network, side of the images, reductions)

R5, R4, R16 = [2, 4, 8, 16, 32], [4, 8, 16, 32], [16]*4

def of_timm(names, side=64, reductions=R5, **kwargs):
    kwargs = dict(num_classes=10) | kwargs
    return {f'timm:{n}': (partial(timm.create_model, n, **kwargs), side, reductions) for n in names.split()}

def of_tv(names, side=64, reductions=R5, **kwargs):
    kwargs = dict(num_classes=10, weights=None) | kwargs
    return {f'torchvision:{n}': (partial(torchvision.models.get_model, n, **kwargs), side, reductions) for n in names.split()}

def of(f, reductions=R5, **kwargs): return {f.__name__: (partial(f, **kwargs), 64, reductions)}

vit = dict(reductions=R16, img_size=64, embed_dim=32, depth=5, num_heads=2)
vit14 = vit | dict(side=56, reductions=[14]*4, img_size=56)

fast = dict(
    **of_timm('regnety_002 mobilenetv4_conv_small_050'), **of_timm('convnext_atto pvt_v2_b0', 64, R4),
    **of_timm('vit_tiny_patch16_224', **vit),
    **of_timm('swin_tiny_patch4_window7_224', 224, R4, embed_dim=12, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 2)),
    **of_tv('resnet18 mobilenet_v3_small'), **of_tv('squeezenet1_1', 64, [2.06, 4.27, 9.14, 21.33]),
    **of_tv('shufflenet_v2_x0_5', 64, [2, 8, 16, 32]), **of_timm('tinynet_d'), **of_tv('mnasnet0_75'),
    **of(xresnet18, n_out=10), **of(nested), **of(Own, [2, 4]), **of(Isotropic, [8]*4), **of(unet_encoder))

slow = dict(
    **of_timm("""resnet10t resnet26d resnext26ts seresnext26t_32x4d skresnet18 regnetx_002 resnetv2_50 nf_resnet26 cspresnet50
        dpn48b densenet121 ese_vovnet19b_dw res2net50_14w_8s mobilenetv2_050 mobilenetv3_small_050 mobilenetv3_large_100
        mnasnet_small fbnetc_100 lcnet_050 tinynet_e efficientnet_b0 efficientnet_lite0 tf_efficientnetv2_b0 ghostnet_050
        ghostnetv2_100 rexnet_100 repvgg_a0 mobileone_s0 gernet_s mobilevit_xxs xception41"""),
    **of_timm('dla34 darknetaa53', 64, [1, *R5]), **of_timm('vgg11_bn', 64, [1, 2, 4, 8, 16]),
    **of_timm('convnextv2_atto pvt_v2_b1 poolformer_s12 inception_next_atto starnet_s1 mambaout_femto edgenext_xx_small', 64, R4),
    **of_timm('inception_v3', 128, [2.1, 4.57, 9.85, 21.33, 64], aux_logits=False),
    **of_timm('deit_tiny_distilled_patch16_224 beit_base_patch16_224', **vit),
    **of_timm('vit_small_patch14_reg4_dinov2 eva02_tiny_patch14_224', **vit14),
    **of_timm('mixer_s32_224', 64, [32]*4, img_size=64), **of_timm('focalnet_tiny_srf', 64, R4),
    **of_timm('maxvit_pico_rw_256', 256), **of_timm('coatnet_pico_rw_224', 224),
    **of_timm('swinv2_cr_tiny_224 davit_tiny hiera_tiny_224 efficientformer_l1', 224, R4),
    **of_timm('levit_128s', 224, [16, 32, 56]),
    **of_timm('nest_tiny_jx', 224, [4, 8, 16]), **of_timm('visformer_tiny', 224, [8, 16, 32]),
    **of_tv("""resnet34 resnet50 resnext50_32x4d wide_resnet50_2 regnet_y_400mf regnet_x_400mf densenet121 mobilenet_v2
        efficientnet_b0 efficientnet_v2_s mnasnet0_5"""),
    **of_tv('googlenet', aux_logits=False, init_weights=False),
    **of_tv('inception_v3', 128, [2.1, 4.57, 9.85, 21.33, 64], aux_logits=False, init_weights=False),
    **of_tv('vgg11 vgg13_bn', 64, [1, 2, 4, 8, 16]), **of_tv('alexnet', 64, [4.27, 9.14, 21.33]),
    **of_tv('convnext_tiny swin_t swin_v2_t', 64, R4), **of_tv('vit_b_16', 64, R16, image_size=64), **of_tv('maxvit_t', 224),
    **of(xresnet34, n_out=10), **of(xse_resnext18, n_out=10))

def test_the_fast_matrix_is_large(): assert sum(':' in n for n in fast) >= 12  # of torchvision and timm

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
    modules = [(n, m.training, *(len(getattr(m, h)) for h in hooks)) for n, m in net.named_modules()]
    return modules, [(n, p.requires_grad, p.grad is None) for n, p in net.named_parameters()]

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
        for k in range(len(reductions)):  # as a cache would give them
            fmap = staged.forward_to(fmap, k, after=k - 1 if k else None).contiguous()
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

def test_whole_distillation():
    "Another family as teacher, as many stages: what `fit_sskd` promises holds, and the student leaves in its own class"
    make, side, _ = fast['timm:regnety_002']
    _, x, _ = made('timm:regnety_002')
    net = make()
    teacher, student = as_stages(torchvision.models.resnet18(num_classes=10), x), as_stages(net, x)
    hints = snapshot(teacher)
    learn = new_learner(student, noise_dls(x))
    run = learn.fit_sskd(teacher, epochs=1, head_epochs=1)
    assert list(run.stages.index) == [*student.stage_names, 'head'] and (run.stages.stitched[:-1] >= 0).all()
    assert learn.model is student and not moved(hints, teacher)
    fresh = make()
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh.eval()(x), student.eval()(x))

# --- the taps that these libraries offer themselves

def taps_of(net, x):
    with torch.no_grad(): return [net.forward_to(x, k) for k in range(len(net.stages))]

@pytest.mark.parametrize('name', ['timm:regnety_002', 'timm:mobilenetv4_conv_small_050'])
def test_taps_are_those_of_features_only(name):
    net, x, _ = made(name)
    theirs = timm.create_model(name.removeprefix('timm:'), features_only=True).eval()
    dotted = lambda k: k.replace('_', '.')  # it writes stages_0 for stages.0
    own = {dotted(k): v for k, v in net.state_dict().items()}
    theirs.load_state_dict({k: own[dotted(k)] for k in theirs.state_dict()})
    with torch.no_grad(): want = theirs(x)
    ours = taps_of(as_stages(net.eval(), x), x)
    assert len(ours) == len(want) and all(map(torch.equal, ours, want))

def test_taps_are_those_of_create_feature_extractor():
    net, x, _ = made('torchvision:resnet18')
    nodes = ['relu', 'layer1', 'layer2', 'layer3', 'layer4']
    with torch.no_grad(): want = create_feature_extractor(net.eval(), nodes)(x)
    ours = taps_of(as_stages(net, x), x)
    assert len(ours) == len(want) == 5 and all(map(torch.equal, ours, want.values()))

uncut = dict(pit_ti_224=3, crossvit_tiny_240=2, xcit_nano_12_p16_224=4, coat_tiny=4, mvitv2_tiny=4, hrnet_w18_small=5,
             twins_svt_small=4, tnt_s_patch16_224=4, volo_d1_224=2)

@pytest.mark.parametrize('name', [n if n == 'pit_ti_224' else pytest.param(n, marks=pytest.mark.slow) for n in uncut])
def test_a_teacher_that_cannot_be_cut(name):
    "As a student it is refused; as a teacher it stays whole, and its hints are what timm shows"
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=10, **(dict(img_size=64) if name == 'pit_ti_224' else {})).train()
    shape = image_shape(net)
    with pytest.raises(CannotCut, match=r'As a teacher it can stay whole: as_taps\(model\)'): as_stages(net, shape)
    x, student = torch.randn(2, *shape), Own()
    before, how = snapshot(net), state(net)
    pairing = pair_stages(net, student, noise_dls(x), teacher_input=False)
    assert not moved(before, net) and state(net) == how and 'runs whole' in pairing.text()
    with torch.no_grad():
        want = net.eval().forward_intermediates(x, intermediates_only=True, output_fmt='NCHW')
        shown = as_taps(net, x)
        taps = taps_of(shown, x)
        assert len(taps) == uncut[name] and all(any(torch.equal(t, w) for w in want) for t in taps)
        assert torch.equal(taps[-1], want[-1]) and torch.equal(shown(x), net(x)) and torch.equal(copy.deepcopy(shown)(x), net(x))
    learn, hints = new_learner(pairing.student, noise_dls(x)), []
    class Spy(Callback):
        order = 96
        def after_pred(self): hints.append((self.learn.sskd_phase, self.xb[0], self.yb[0]))
    with pytest.raises(ValueError, match='stays whole.*head_epochs=1'):
        learn.fit_sskd(pairing.teacher, epochs=1, head_epochs=0, adapter=pairing.adapter)
    run = learn.fit_sskd(pairing.teacher, epochs=1, head_epochs=1, adapter=pairing.adapter, cbs=Spy(), valid_every=0)
    assert list(run.stages.index) == [*pairing.ends, 'head'] and not moved(before, net)
    with torch.no_grad():
        for phase, xb, y in hints[:-1]: assert torch.equal(y, pairing.teacher.eval().forward_to(xb, pairing.ends[phase]))

# --- what a split network can do

@pytest.mark.parametrize('name', ['Own', 'Isotropic', 'timm:swin_tiny_patch4_window7_224', 'torchvision:resnet18'])
@pytest.mark.parametrize('how', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=['deepcopy', 'pickle'])
def test_copies(name, how):
    net, x, _ = made(name)
    staged = as_stages(net, x).eval()
    other = how(staged)
    assert torch.equal(other(x), staged(x)) and not {id(p) for p in other.parameters()} & {id(p) for p in staged.parameters()}

def test_functions_follow_the_mode():
    "Dropout as a function acts in a stage that trains, and rests in one that is frozen"
    net, x, _ = made('Own')
    staged = as_stages(net, x).train()
    fmap = staged.forward_to(x, 0)
    assert not torch.equal(staged.stages['stage2'](fmap), staged.stages['stage2'](fmap))
    staged.stages['stage2'].eval()
    assert torch.equal(staged.stages['stage2'](fmap), staged.stages['stage2'](fmap))

def test_a_dropout_that_stages_share_is_one_a_stage():
    staged = as_stages(made('Own')[0], (3, 64, 64)).train()
    staged.stages['stage1'].eval()
    drops = [[m for m in s.modules() if isinstance(m, nn.Dropout)] for s in staged.stages.values()]
    assert all(drops) and [m.training for d in drops for m in d] == [False, True]

def test_statistics_by_hand_stay_the_models():
    "A running mean that the forward itself updates is the model's own tensor"
    net, x, _ = made('Own')
    staged = as_stages(net, x).train()
    before = net.norm.running_mean.clone()
    staged(x)
    assert not torch.equal(net.norm.running_mean, before)
    staged.double()  # as `.to(device)` would, which replaces buffers
    assert net.norm.running_mean.dtype == torch.float64 and net.norm in set(staged.modules())

def tail(width): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

class WritesFirst(nn.Conv2d):
    def forward(self, x): return super().forward(x.relu_())

def test_a_tap_is_not_written_into():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), WritesFirst(4, 8, 3, 2, 1), tail(8))
    x = torch.randn(2, 3, 16, 16)
    staged = as_stages(net, x)
    tap = staged.forward_to(x, 'stage1')
    kept = tap.clone()
    staged.forward_from(tap, 'stage1')
    assert torch.equal(tap, kept) and (kept < 0).any()

def test_oblong_images_and_one_image():
    net = made('torchvision:resnet18')[0]
    staged = as_stages(net, torch.randn(1, 3, 96, 64))
    assert staged.image_shape == (3, 96, 64)
    assert staged.stage_table(torch.randn(1, 3, 96, 64))['shape'].tolist()[:2] == [(64, 48, 32), (64, 24, 16)]
    x = torch.randn(2, 3, 128, 128)
    assert torch.equal(staged.eval()(x), net.eval()(x))  # and other sizes, as far as the network takes them

def test_channels_are_not_taken_for_tokens():
    "On the way to (b,n,c) torchvision's transformer has (b,c,n), and 32 or 64 channels could be patches too"
    for dim in (32, 64):
        net, x = torchvision.models.VisionTransformer(28, 7, 4, 2, dim, 64, num_classes=10).eval(), torch.randn(2, 3, 28, 28)
        staged = as_stages(net, x)
        assert staged.stage_table(x)['shape'].tolist()[:-1] == [(dim, 1 + 4, 4)]*4 and torch.equal(staged.eval()(x), net(x))

def test_stages_of_ones_own_and_a_staged_net():
    net, x, _ = made('torchvision:resnet18')
    stages = dict(a=['conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2'], b=['layer3', 'layer4'])
    head = ['avgpool', nn.Flatten(), 'fc']
    staged = as_stages(net, x, stages=stages, head=head)
    assert staged.stage_names == ['a', 'b'] and as_stages(staged) is staged
    with pytest.raises(ValueError, match="did you mean 'layer1'"): as_stages(net, x, stages=dict(a='layer_1'), head=['fc'])
    twice = stages | dict(b=['bn1', *stages['b']])
    with pytest.raises(ValueError, match='used in a and in b'): as_stages(net, x, stages=twice, head=head)
    stages['a'].remove('relu')
    with pytest.raises(ValueError, match='(?s)do not compute what ResNet does.*conv1 +Conv2d'):
        as_stages(net, x, stages=stages, head=head)

class Doubles(nn.Sequential):
    "More than its children one after the other"
    def forward(self, x): return 2*super().forward(x)

def test_a_module_given_as_a_part_stays_whole():
    net, x = nn.Sequential(Doubles(conv(2, 3)), Doubles(conv(2)), Doubles(*tail(8))), torch.rand(2, 3, 32, 32)
    net[0].register_forward_hook(lambda module, args, out: out + 1)
    staged = as_stages(net, x, stages=dict(a=net[0], b=net[1]), head=net[2])
    assert torch.equal(staged.eval()(x), net.eval()(x)) and staged.stages['a'][0] is net[0] and staged.head[0] is net[2]
    blocks = nn.ModuleList([conv(2, 3), conv(2), conv()])  # a list, which has no forward of its own
    assert list(StagedNet.from_modules(blocks, dict(a=blocks[:2]), tail(8)).stages['a']) == list(blocks[:2])

def test_a_stage_before_the_one_to_start_after():
    net, x = StagedNet(dict(stage1=conv(), stage2=conv(), stage3=conv()), tail(8)), torch.rand(1, 8, 8, 8)
    with pytest.raises(ValueError, match="'stage1' comes before 'stage2'"): net.forward_to(x, 'stage1', after='stage2')
    with pytest.raises(ValueError, match='0 comes before -1'): net.forward_to(x, 0, after=-1)
    assert net.forward_to(x, 'stage2', after=1) is x

class Between(nn.Module):
    "Something runs between its modules in training only"
    def __init__(self, between):
        super().__init__()
        self.a, self.norm, self.b, self.between = conv(2, 3), nn.BatchNorm2d(8), conv(2), between
        self.aux, self.head = nn.Linear(8, 10), tail(8)
    def forward(self, x):
        x = self.norm(self.a(x))
        if self.training and self.between == 'dropout': x = F.dropout(x, .5)
        y = self.head(self.b(x))
        return (y, self.aux(x.mean((2, 3)))) if self.training and self.between == 'aux' else y

@pytest.mark.parametrize('between, says', [('dropout', '(?s)in train mode the stages do not compute what Between does.*learns=False.*norm +BatchNorm2d'),
                                           ('aux', 'gives a tuple in train mode')])
def test_stages_by_hand_are_tried_in_train_mode(between, says):
    net, plain, x = Between(between), Between('nothing'), torch.rand(1, 3, 32, 32)
    before, how, rng = snapshot(net), state(net), torch.get_rng_state()
    cut = dict(stages=dict(stage1=['a', 'norm'], stage2='b'), head='head')
    with pytest.raises(CannotCut, match=says): as_stages(net, x, **cut)
    assert len(as_stages(net, x, **cut, learns=False).stages) == 2 == len(as_stages(plain, x, **cut).stages)
    assert not moved(before, net) and state(net) == how and torch.equal(torch.get_rng_state(), rng)

def test_what_a_network_draws_by_itself_is_drawn_again():
    "A dropout and a spectral norm inside stages differ from call to call; they are not taken for a fault"
    from torch.nn.utils.parametrizations import spectral_norm
    net = nn.Sequential(spectral_norm(conv(2, 3)), nn.Dropout(.5), conv(2), tail(8))
    before = snapshot(net)
    assert len(as_stages(net, (3, 32, 32), stages=dict(stage1=['0', '1'], stage2='2'), head='3').stages) == 2
    assert not moved(before, net)

class Draws(nn.Conv2d):
    "By all generators there are, as a stochastic depth may"
    def forward(self, x): return super().forward(x)*random.random()*np.random.rand()*torch.rand(())

def test_random_numbers_are_as_before():
    def states(): return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    net, x = nn.Sequential(Draws(3, 8, 3, 2, 1), conv(2), tail(8)), torch.rand(2, 3, 16, 16)
    before = states()
    with unchanged(net): net(x)
    assert states() == before

def test_buffers_are_as_before_in_train_mode_too():
    norm = nn.BatchNorm2d(3)
    before = snapshot(norm)
    with unchanged(norm): norm.train()(torch.rand(2, 3, 4, 4))   # moves its statistics without raising their _version
    assert norm.training and not moved(before, norm)

@pytest.mark.parametrize('make', [torchvision.models.googlenet, torchvision.models.inception_v3])
def test_a_teacher_may_have_auxiliary_heads(make):
    net, x = make(num_classes=10, weights=None, init_weights=False), torch.rand(2, 3, 128, 128)
    staged = as_stages(net, x, learns=False)
    assert len(staged.stages) > 2 and torch.equal(staged.eval()(x), net.eval()(x))
    assert {id(p) for p in staged.parameters()} == {id(p) for p in net.parameters()}

@pytest.mark.parametrize('lib, name, kwargs, shape', [
    (timm.create_model, 'vit_tiny_patch16_224', dict(img_size=96), (3, 96, 96)),
    (timm.create_model, 'vit_tiny_patch16_384', {}, (3, 384, 384)),
    (timm.create_model, 'resnet10t', dict(in_chans=1), (1, 176, 176)),
    (timm.create_model, 'tf_efficientnetv2_b3', {}, (3, 224, 224)),
    (torchvision.models.get_model, 'vit_b_32', dict(image_size=64), (3, 64, 64)),
    (torchvision.models.VisionTransformer, 288, dict(patch_size=32, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64), (3, 288, 288)),
    (torchvision.models.get_model, 'resnet18', {}, (3, 224, 224))])
def test_image_shape(lib, name, kwargs, shape): assert image_shape(lib(name, **kwargs)) == shape

class Listed(nn.Module):
    "Its first convolution is not the first that it lists"
    def __init__(self, c_in=3):
        super().__init__()
        self.late, self.fc, self.stem = nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(8, 10), nn.Conv2d(c_in, 8, 3, 2, 1)
    def forward(self, x): return self.fc(F.relu(self.late(F.relu(self.stem(x)))).mean((2, 3)))

def test_the_first_convolution_is_the_first_that_runs():
    for c in (1, 3, 4): assert image_shape(Listed(c)) == (c, 224, 224) and len(as_stages(Listed(c)).stages) == 2
    net = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 8, 3, 2, 1), nn.ReLU(), conv(2), tail(8))  # not 48
    assert image_shape(net) == (3, 224, 224) and len(as_stages(net).stages) == 2
    before, how = snapshot(net), state(net)
    assert first_conv(net, torch.zeros(1, 1, 64, 64)) == (48, 16) and not moved(before, net) and state(net) == how
    assert first_conv(nn.LazyConv2d(8, 3), torch.zeros(1, 3, 8, 8)) is None and channels_of(nn.Flatten()) is None

# --- bad input

class Decides(Own):
    def forward(self, x): return super().forward(x if x.mean() > 0 else -x)

class TiedStages(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
    def forward(self, x): return self.fc(self.block(F.max_pool2d(self.block(self.stem(x)), 2)).mean((2, 3)))

class TiedStatistics(TiedStages):
    def __init__(self):
        super().__init__()
        self.a, self.block = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8, affine=False)
    def forward(self, x): return self.fc(self.block(self.a(F.max_pool2d(self.block(self.stem(x)), 2))).mean((2, 3)))

class Insists(Own):
    "On a tensor, and says nothing"
    def forward(self, x):
        if not isinstance(x, torch.Tensor): raise AssertionError  # as a bare `assert`, to which pytest would add words
        return super().forward(x)

class MoreInTraining(Own):
    def forward(self, x): return super().forward(x + self.a.bias.mean() if self.training else x)

class Two(Own):
    def forward(self, x): return super().forward(x), x

class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.deep, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(11, 1, 3, 1, 1)
    def forward(self, x): return self.up(torch.cat([F.interpolate(self.deep(self.down(x)), scale_factor=4), x], 1))

def quantized():
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), tail(8)), {nn.Linear}, torch.qint8)

def conv(stride=1, c_in=8): return nn.Conv2d(c_in, 8, 3, stride, 1)

def inference(make):
    with torch.inference_mode(): return make(c_in=3)

def test_the_head_has_something_to_learn():
    "SqueezeNet's last weights lie before a ReLU and a pooling of the same resolution"
    staged = as_stages(torchvision.models.squeezenet1_1(num_classes=10), (3, 64, 64))
    assert sum(p.numel() for p in staged.head.parameters()) == 512*10 + 10

def compiled_in_place():
    net = nn.Sequential(conv(c_in=3), conv(2))
    net[1].compile()
    return net

@pytest.mark.filterwarnings('ignore')  # of torch.jit and torch.ao, old as they are
@pytest.mark.parametrize('make, error, says', [
    (lambda: Own, TypeError, 'the class Own; call it first'),
    (lambda: 'resnet18', TypeError, 'as_stages got a str; expected an nn.Module'),
    (lambda: torch.jit.trace(conv(c_in=3), torch.zeros(1, 3, 8, 8)), TypeError, 'ScriptModule'),
    (compiled_in_place, TypeError, r'compiled by net.compile\(\); do that after the run'),
    (quantized, ValueError, '1.2 is quantized.*give the float network that it was made from'),
    (lambda: DynamicUnet(nn.Sequential(conv(2, 3), conv(2)), 5, (64, 64)), TypeError, 'use segment_stages.*or as_stages'),
    (lambda: nn.Sequential(nn.LazyConv2d(8, 3, 2), nn.ReLU()), ValueError, 'has no shape yet'),
    (lambda: inference(conv), ValueError, 'made under torch.inference_mode.*deepcopy'),
    (Insists, ValueError, r'size \(AssertionError\)'), (Decides, ValueError, "decides by a tensor's values"), (MoreInTraining, ValueError, 'something else in train mode'),
    (lambda: torchvision.models.googlenet(init_weights=False), ValueError, 'aux_logits=False'),
    (TiedStages, ValueError, 'block.0.weight is used in stage1 and in stage2'),
    (TiedStatistics, ValueError, 'block.running_mean is used in stage1 and in stage2'),
    (Two, ValueError, 'gives a tuple; expected one tensor'), (Unet, ValueError, 'where one map is all that goes on'),
    (lambda: nn.Sequential(conv(c_in=3), nn.ReLU(), conv()), ValueError, 'never lowers the resolution'),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3*64*64, 10)), ValueError, 'never lowers the resolution'),
    (lambda: conv(c_in=1), ValueError, r'cannot run on images \(2, 3, 64, 64\)')])
def test_bad_networks(make, error, says):
    net = make()
    before = (snapshot(net), state(net)) if isinstance(net, nn.Module) and says != 'has no shape yet' else None
    with pytest.raises(error, match=says): as_stages(net, (3, 64, 64))
    if before: assert not moved(before[0], net) and state(net) == before[1]

def test_an_encoder_in_its_unet():
    "What the U-Net hangs on its encoder stays there, and does not disturb"
    unet, x = DynamicUnet(create_body(torchvision.models.resnet18(), cut=-2), 5, (64, 64)).eval(), torch.randn(2, 3, 64, 64)
    how = state(unet)
    staged = as_stages(unet.layers[0], x)
    assert state(unet) == how and sum(len(m._forward_hooks) for m in unet.layers[0].modules()) == 4
    with torch.no_grad(): assert torch.equal(staged(x), unet.layers[0](x)) and unet(x).shape == (2, 5, 64, 64)

def test_a_teacher_may_share_weights():
    x = torch.rand(2, 3, 64, 64)
    for net in (TiedStages(), TiedStatistics()):
        staged = as_stages(net, x, learns=False)
        assert len(staged.stages) == 2 and torch.equal(staged.eval()(x), net.eval()(x))
        pairing = pair_stages(net, Own(), noise_dls(x), teacher_input=False)
        before = snapshot(net)
        new_learner(pairing.student, noise_dls(x)).fit_sskd(pairing.teacher, epochs=1, head_epochs=1, valid_every=0)
        assert not moved(before, net)

def test_bad_images():
    net = made('torchvision:resnet18')[0]
    says = r'at layer4.0.conv1; give larger ones: as_stages\(model, \(c,h,w\)\)'
    with pytest.raises(ValueError, match=says): as_stages(net, (3, 32, 32))
    with pytest.raises(ValueError, match=r'expected images \(b,c,h,w\)'): as_stages(net, torch.zeros(3, 64, 64))

@pytest.mark.parametrize('given, error, says', [
    (dict(x=64), TypeError, r'x has the type int; expected .*e.g. \(3, 64, 64\)'),
    (dict(x=np.zeros((2, 3, 64, 64))), TypeError, r'x has the type ndarray; expected .*torch.as_tensor'),
    (dict(n_stages='4'), ValueError, "n_stages is '4'; expected a whole number, 2 or more"),
    (dict(n_stages=1), ValueError, 'n_stages is 1; expected'), (dict(n_stages=2.), ValueError, 'n_stages is 2.0; expected'),
    (dict(head=['fc']), ValueError, 'a head is given without stages'), (dict(head=nn.Sequential()), ValueError, 'without stages'),
    (dict(head='fc', stages={}), ValueError, 'without stages')])
def test_bad_arguments(given, error, says):
    with pytest.raises(error, match=says): as_stages(nn.Sequential(conv(2, 3), conv(2), tail(8)), **dict(x=(3, 64, 64)) | given)

def test_the_tree_is_short():
    with pytest.raises(ValueError) as e: as_stages(timm.create_model('twins_pcpvt_small'))
    assert 'patch_embeds.1' in str(e.value) and str(e.value).count('\n') < 30

# --- in a word, and on the command line

nets = [('timm:regnety_002', 32), ('torchvision:resnet18:num_classes=10', 64), ('test_cut:nested', 64)]

@pytest.mark.parametrize('net, first', nets)
def test_info(net, first, capsys, monkeypatch):
    monkeypatch.syspath_prepend(root/'tests')
    assert main(['info', net, '--input', '3x64x64', '--json']) == 0
    table = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(f'{c} is no JSON'))
    assert set(table) == {'net', 'input', 'stages', 'params', 'macs'} and table['input'] == [3, 64, 64]
    assert [r['reduction'] for r in table['stages']] == [*R5, None] and table['stages'][0]['num_chs'] == first

@pytest.mark.parametrize('net, says', [
    ('timm:regnety_02', "did you mean 'regnety_"), ('torchvision:resnet_34', "did you mean 'resnet34'"),
    ('torchvision:qqq', 'e.g. torchvision:resnet18'), ('torchvision:fcn_resnet50', 'has no network'),
    ('torchvision:resnet18:classes=3', 'gave no network: TypeError'),
    ('timm:resnet18:pretrained', "option 'pretrained' has no value; write pretrained=True"),
    ('tutorial:width=', "option 'width=' has no value"), ('resnet10:=3', "option '=3' has no name; expected name=value"),
    ('timm:resnet18:in_chans=1 --input 3x64x64', 'cannot run on images')])
def test_bad_words(net, says, capsys):
    assert main(['info', *net.split()]) == 2
    out, err = capsys.readouterr()
    assert says in err and out == '' and 'Traceback' not in err

def test_values_of_options():
    "Yes, no and nothing in any case; a comma inside brackets parts no options"
    net = build_model('torchvision:resnet50:weights=none,replace_stride_with_dilation=[False,True,True],num_classes=10')
    assert net.layer4[1].conv2.dilation == (4, 4) and net.fc.out_features == 10
    assert build_model('torchvision:googlenet:aux_logits=false,init_weights=FALSE').aux1 is None
    assert build_model('torch.nn:Conv2d:in_channels=3,out_channels=8,kernel_size=(1,(3)),bias=false').bias is None

def test_without_timm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match=r'sskd_tutor\[nets\]'): build_net('timm:regnety_002')
    assert main(['info', 'timm:regnety_002']) == 2 and 'sskd_tutor[nets]' in capsys.readouterr().err
    assert isinstance(build_net('torchvision:resnet18', (3, 64, 64)), StagedNet)

# --- settings of another type

def test_stages_as_a_list():
    with pytest.raises(TypeError, match='stages is a list; expected a dict'): StagedNet.from_modules(Own(), ['stem'], 'head')

@pytest.mark.parametrize('given, error, match', [
    ('imagenet', TypeError, "teacher_input is 'imagenet'; expected e.g. dict"), (True, TypeError, 'teacher_input is True; expected'),
    (dict(size='32'), ValueError, "the size in teacher_input is '32'; expected pixels"), (dict(size=0), ValueError, 'size in teacher_input is 0'),
    (dict(size=(8, -1)), ValueError, 'expected pixels'), (dict(sice=8), ValueError, "has 'sice'; did you mean 'size'")])
def test_images_that_no_teacher_can_want(given, error, match):
    with pytest.raises(error, match=match): wanted(Own(), given)

def test_numbers_of_numpy_as_a_size():
    x = torch.rand(2, 3, 32, 32)
    for size in (np.int64(64), (np.int64(64), 64)):
        converter = make_converter(x, wanted(Own(), dict(size=size)), None)
        assert converter.size == (64, 64) and converter(x).shape == (2, 3, 64, 64)

@pytest.mark.parametrize('std', [float('nan'), float('inf'), 0., [.2, float('nan'), .2]])
def test_deviations_that_are_none(std):
    with pytest.raises(ValueError, match='expected positive numbers'):
        make_converter(torch.rand(2, 3, 8, 8), dict(mean=.5, std=std), ([.5]*3, [.25]*3))
