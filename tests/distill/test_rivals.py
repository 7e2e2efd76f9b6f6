"""Every rival's loss against its published formula, written out one image at a time: value, gradient, half precision."""
import math

import pytest
import torch
from torch import nn
from fastai.metrics import accuracy
from fastai.learner import Learner
from fastai.torch_core import set_seed

from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.core.device import Bf16
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.distill.joint import Term, joint_gmacs
from sskd_tutor.distill.learned import CRD, Batch, Fusion, ReviewKD, Shapes, pyramid_loss
from sskd_tutor.distill.losses import StitchedLoss, mimic_nmse
from sskd_tutor.distill.rivals import (SoftmaxRegression, dist_loss, pkt_loss, simkd_projector, standardized_kl)
from sskd_tutor.distill.semantic import SemCKD
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import fashion_teacher
from helpers.losses import check_half_precision, check_value_and_gradient, large, randn, unit

s, t = randn(6, 10, seed=1), randn(6, 10, seed=2)
tap, hint = randn(6, 3, 4, 4, seed=3), randn(6, 5, 4, 4, seed=4)

# --- the formulas

def soft(z, T): return (z/T).exp()/(z/T).exp().sum()

def zscore(z): return (z - z.sum()/len(z))/((z - z.sum()/len(z))**2).mean().sqrt()

def naive_standardized(s, t, T=2.):
    total = 0
    for a, b in zip(s, t):
        q, p = soft(zscore(a), T), soft(zscore(b), T)
        total += T**2*(p*(p/q).log()).sum()
    return total/len(s)

def rho(u, v):
    u, v = u - u.mean(), v - v.mean()
    return (u*v).sum()/(u*u).sum().sqrt()/(v*v).sum().sqrt()

def naive_dist(s, t, T=1., inter=2., intra=2.):
    q, p = (torch.stack([soft(z, T) for z in o]) for o in (s, t))
    rows = sum(1 - rho(q[i], p[i]) for i in range(len(q)))/len(q)
    columns = sum(1 - rho(q[:, j], p[:, j]) for j in range(q.shape[1]))/q.shape[1]
    return T**2*(inter*rows + intra*columns)

def kernel(a, b): return ((a*b).sum()/(a.norm()*b.norm()) + 1)/2

def naive_pkt(a, b):
    a, b, n, total = a.mean((2, 3)), b.mean((2, 3)), len(a), 0
    for i in range(n):
        q, p = (torch.stack([kernel(x[i], x[j]) for j in range(n)]) for x in (a, b))
        q, p = q/q.sum(), p/p.sum()
        total += (p*(p/q).log()).sum()
    return total/n**2

formulas = dict(standardized=(standardized_kl, naive_standardized, s, t), dist=(dist_loss, naive_dist, s, t),
                pkt=(pkt_loss, naive_pkt, tap, hint))

@pytest.mark.parametrize('name', formulas)
def test_value_and_gradient(name):
    loss, naive, student, teacher = formulas[name]
    check_value_and_gradient(lambda a: loss(a, teacher), lambda b: naive(b, teacher.double()), student)

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', formulas)
def test_half_precision_with_large_values(name, dtype):
    loss, _, student, teacher = formulas[name]
    check_half_precision(lambda a: loss(a, large(teacher).to(dtype)), large(student), dtype=dtype)

def test_softmax_regression_is_both_means():
    net = tutorial_resnet(width=8, blocks=1).eval().requires_grad_(False)
    a, b = randn(4, 32, 7, 7, seed=5).requires_grad_(), randn(4, 32, 7, 7, seed=6)
    value = SoftmaxRegression(.5).bind(net, 'stage3')(a, b)
    W, c = net.head.fc.weight, net.head.fc.bias
    logits = [torch.stack([W @ x.mean((1, 2)) + c for x in o]) for o in (a, b)]
    by_hand = ((a - b)**2).sum()/b.numel() + .5*((logits[0] - logits[1])**2).sum()/logits[1].numel()
    assert value.item() == pytest.approx(by_hand.item(), rel=1e-5)
    fast, slow = (torch.autograd.grad(v, a)[0] for v in (value, by_hand))
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-7)

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_softmax_regression_in_half_precision(dtype):
    net = tutorial_resnet(width=8, blocks=1).eval().requires_grad_(False)
    loss = SoftmaxRegression(.5).bind(net, 'stage3')
    a, b = (large(randn(4, 32, 7, 7, seed=seed)) for seed in (5, 6))
    check_half_precision(lambda a: loss(a, b.to(dtype)), a, dtype=dtype)

def test_the_projector_is_simkds():
    layers = list(simkd_projector((8, 7, 7), (16, 7, 7)))
    convs = [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in layers if isinstance(m, nn.Conv2d)]
    assert convs == [(8, 8, 1), (8, 8, 3), (8, 16, 1)] and sum(isinstance(m, nn.ReLU) for m in layers) == 3
    assert list(simkd_projector((8, 14, 14), (16, 7, 7))(torch.zeros(2, 8, 14, 14)).shape) == [2, 16, 7, 7]

# --- contrast

def filled_crd(n=20, dim=4, seed=0):
    torch.manual_seed(seed)
    crd = CRD(dim=dim).build(Shapes([(3, 4, 4)], [(5, 4, 4)], n))
    crd.banks.copy_(nn.functional.normalize(torch.randn(2, n, dim), dim=2))
    crd.labels.copy_(torch.arange(n) % 3)
    crd.labels[15:] = -1   # five have not been seen yet
    crd.Z.copy_(torch.tensor([25., 30.]))
    return crd.eval()

def naive_crd(crd, tap, hint, y, tau=.07):
    maps = [(m.weight.double(), m.bias.double()) for m in crd.maps]
    v = [[unit(W @ x.mean((1, 2)) + b) for x in o] for (W, b), o in zip(maps, (tap, hint))]
    n, total = len(crd.labels), 0
    for side in (0, 1):
        bank, Z = crd.banks[1 - side].double(), crd.Z[side].double()
        for i, label in enumerate(y.tolist()):
            others = [j for j in range(n) if crd.labels[j] >= 0 and crd.labels[j] != label]
            c = len(others)/n
            P = ((v[side][i] @ v[1 - side][i])/tau).exp()/Z
            one = -(P/(P + c)).log()
            for j in others:
                P = ((v[side][i] @ bank[j])/tau).exp()/Z
                one = one - (1 - P/(P + c)).log()
            total = total + one
    return total/len(y)

def test_contrast_is_the_formula():
    crd, y = filled_crd(), torch.tensor([0, 1, 2, 0, 1, 2])
    a, b = tap.clone().requires_grad_(), tap.double().requires_grad_()
    fast = crd([a], [hint], Batch(y, torch.arange(6)))
    slow = naive_crd(crd, b, hint.double(), y)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-4)
    fast_grads = torch.autograd.grad(fast, [a, crd.maps[0].weight, crd.maps[1].weight])
    slow_grads = torch.autograd.grad(slow, [b, crd.maps[0].weight, crd.maps[1].weight])
    for p, q in zip(fast_grads, slow_grads): assert (p - q).norm() <= 1e-3*q.norm()

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_contrast_in_half_precision(dtype):
    crd, batch = filled_crd(), Batch(torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    check_half_precision(lambda a: crd([a], [large(hint).to(dtype)], batch), large(tap), dtype=dtype)

def test_contrast_of_nothing_learned_is_log_m_plus_1_on_each_side():
    torch.manual_seed(0)
    n, m = 1000, 900
    crd = CRD(dim=128, T=1e3).build(Shapes([(3, 4, 4)], [(5, 4, 4)], n)).eval()   # so hot that all pairs look alike
    crd.banks.copy_(nn.functional.normalize(torch.randn(2, n, 128), dim=2))
    crd.labels.copy_(torch.arange(n) % 10)
    value = crd([tap], [hint], Batch(torch.zeros(6, dtype=torch.long), torch.arange(6))).item()
    one = math.log1p(m) + m*math.log1p(1/m)
    assert value == pytest.approx(2*one, rel=.01)

def test_the_first_batch_sets_Z_and_eval_changes_nothing():
    crd, y = CRD(dim=4).build(Shapes([(3, 4, 4)], [(5, 4, 4)], 20)), torch.tensor([0, 1, 2, 0, 1, 2])
    batch = Batch(y, torch.arange(6))
    crd.eval()([tap], [hint], batch)
    assert not crd.Z.any() and not crd.banks.any()
    crd.train()([tap], [hint], batch)
    first = crd.Z.clone()
    crd([tap*2], [hint], batch)
    assert (first > 0).all() and torch.equal(first, crd.Z)

# --- review

def naive_pyramid(a, b):
    total, weights, weight = ((a - b)**2).mean(), 1., 1.
    for side in (4, 2, 1):
        k = a.shape[-1]//side
        if k < 2: continue   # only smaller grids
        rows = [[(a - b)[:, :, i*k:i*k+k, j*k:j*k+k].mean((2, 3)) for j in range(side)] for i in range(side)]
        d = torch.stack([torch.stack(row, 2) for row in rows], 2)
        weight = weight/2
        total, weights = total + weight*(d**2).mean(), weights + weight
    return total/weights

@pytest.mark.parametrize('size', [8, 2])
def test_pyramid_is_the_formula(size):
    a, b = (randn(2, 3, 8, 8, seed=seed)[..., :size, :size] for seed in (7, 8))
    x, y = a.clone().requires_grad_(), a.double().requires_grad_()
    fast, slow = pyramid_loss(x, b), naive_pyramid(y, b.double())
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5)
    fast.backward()
    slow.backward()
    torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=1e-8)

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_pyramid_in_half_precision(dtype):
    a, b = (large(randn(2, 3, 8, 8, seed=seed)) for seed in (7, 8))
    check_half_precision(lambda a: pyramid_loss(a, b.to(dtype)), a, dtype=dtype)

def naive_fusion(fusion, x, above):
    phi = torch.einsum('oc,bchw->bohw', fusion.enter[0].weight[:, :, 0, 0], x)/math.sqrt(1 + 1e-5)
    up = above.repeat_interleave(2, 2).repeat_interleave(2, 3)
    weigh = fusion.weigh[0]
    z = torch.einsum('oc,bchw->bohw', weigh.weight[:, :, 0, 0], torch.cat([phi, up], 1)) + weigh.bias[:, None, None]
    z = 1/(1 + (-z).exp())
    return z[:, :1]*phi + z[:, 1:]*up

def test_fusion_is_the_formula():
    torch.manual_seed(0)
    fusion = Fusion(3, 4, 5, is_last=False).eval()
    x, above = (randn(*shape, seed=seed).requires_grad_() for shape, seed in (((2, 3, 4, 4), 9), ((2, 4, 2, 2), 10)))
    out, handed_on = fusion(x, above)
    by_hand = naive_fusion(fusion, x, above)
    torch.testing.assert_close(handed_on, by_hand, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out, fusion.leave(handed_on))
    fast, slow = (torch.autograd.grad((value**2).sum(), [x, above]) for value in (handed_on, by_hand))
    for ours, naive in zip(fast, slow): torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-5)

# --- semantic calibration

def semckd_and_maps():
    torch.manual_seed(0)
    shapes = Shapes([(3, 8, 8), (4, 4, 4)], [(5, 8, 8), (6, 2, 2)], 20)
    maps = [[randn(6, *shape, seed=11 + i) for i, shape in enumerate(some)] for some in shapes[:2]]
    return SemCKD(group=8).build(shapes).eval(), *maps

def naive_description(describe, fmap, group):
    first, _, second = describe.layers
    out = []
    for image in fmap:
        row = torch.tensor([(image*other).sum() for other in fmap] + [0.]*(group - len(fmap)))
        v = second.weight @ (first.weight @ row + first.bias).clamp(min=0) + second.bias
        out.append(unit(v))
    return torch.stack(out)

def halved(fmap): return fmap.reshape(*fmap.shape[:2], fmap.shape[2]//2, 2, fmap.shape[3]//2, 2).mean((3, 5))

def to_side(fmap, side): return fmap if fmap.shape[2] == side else to_side(halved(fmap), side)

def naive_semckd(semckd, taps, hints):
    q = [naive_description(d, tap, 8) for d, tap in zip(semckd.queries, taps)]
    k = [naive_description(d, hint, 8) for d, hint in zip(semckd.keys, hints)]
    total = 0
    for i in range(len(taps[0])):
        for stage, tap in enumerate(taps):
            energies = torch.stack([q[stage][i] @ key[i] for key in k])
            alpha = energies.exp()/energies.exp().sum()
            for t, hint in enumerate(hints):
                side = min(tap.shape[2], hint.shape[2])
                pred = semckd.projectors[stage*len(hints) + t](to_side(tap, side))[i]
                total = total + alpha[t]*((pred - to_side(hint, side)[i])**2).mean()
    return total/len(taps[0])/len(taps)

def test_semantic_calibration_is_the_formula():
    semckd, taps, hints = semckd_and_maps()
    assert semckd(taps, hints, Batch(None, None)).item() == pytest.approx(naive_semckd(semckd, taps, hints).item(), rel=1e-4)

def test_gradient_of_semantic_calibration():
    semckd, taps, hints = semckd_and_maps()
    a = [tap.clone().requires_grad_() for tap in taps]
    fast = torch.autograd.grad(semckd(a, hints, Batch(None, None)), a)
    for stage, place in ((0, (0, 1, 2, 3)), (1, (2, 3, 1, 0))):   # by a central difference
        values = []
        for step in (1e-2, -1e-2):
            moved = [tap.clone() for tap in taps]
            moved[stage][place] += step
            values.append(semckd(moved, hints, Batch(None, None)).item())
        assert fast[stage][place].item() == pytest.approx((values[0] - values[1])/2e-2, rel=.05, abs=1e-4)

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_semantic_calibration_in_half_precision(dtype):
    semckd, taps, hints = semckd_and_maps()
    hints = [large(hint).to(dtype) for hint in hints]
    check_half_precision(lambda *taps: semckd(list(taps), hints, Batch(None, None)), *map(large, taps), dtype=dtype)

# --- in a training

@pytest.fixture(scope='module')
def teacher(): return fashion_teacher()

@pytest.fixture(scope='module')
def dls(): return fashion_dls(n=100, bs=50)

every = dict(crd=Term(CRD(), -1, .8), review=Term(ReviewKD(), 'every'),
             semckd=Term(SemCKD(group=50), 'every'), srrl=Term(SoftmaxRegression(), -1, adapter='conv_bn'),
             dist=Term(dist_loss), standardized=Term(standardized_kl, weight=9.), pkt=Term(pkt_loss, -1, 3e4),
             stitched=Term(StitchedLoss(), 'every', adapter='conv'))

def fitted(dls, teacher, terms, own=(), **kwargs):
    set_seed(0, reproducible=True)
    dls.train.set_epoch(0)
    learn = Learner(dls, tutorial_resnet(width=8, blocks=1), metrics=accuracy, cbs=list(own))
    with learn.no_bar(), learn.no_logging():
        run = learn.fit_joint(teacher, 1, terms=terms, cbs=CacheFeatures(views=1), valid_every=0, **kwargs)
    return learn, run

@pytest.mark.parametrize('name', every)
def test_it_trains_in_both_precisions_and_leaves_the_teacher_alone(dls, teacher, name):
    before = [p.clone() for p in teacher.parameters()]
    for own in ([], [Bf16()]):   # a network this narrow must not train in channels_last (oneDNN issue 6035)
        learn, run = fitted(dls, teacher, [every[name]], own)
        assert all(p.isfinite().all() for p in learn.model.parameters())
        assert run.gmacs == pytest.approx(joint_gmacs(learn, teacher, [every[name]])(1, 1), rel=1e-3)
    assert all(torch.equal(p, q) for p, q in zip(before, teacher.parameters()))
    assert all(p.grad is None for p in teacher.parameters())

def test_weights_of_a_loss_learn(dls, teacher):
    _, still = fitted(dls, teacher, [every['crd']], lr=1e-12)
    _, run = fitted(dls, teacher, [every['crd']])
    for a, b in zip(still.adapters['0'].maps, run.adapters['0'].maps): assert (a.weight - b.weight).abs().max() > 1e-4
    assert (run.adapters['0'].labels >= 0).all() and (run.adapters['0'].Z > 0).all()

def test_all_at_once_up_to_the_last_stage_leaves_the_head(dls, teacher):
    set_seed(0, reproducible=True)
    head = [p.clone() for p in tutorial_resnet(width=8, blocks=1).head.parameters()]
    learn, run = fitted(dls, teacher, [Term(mimic_nmse, 'every', adapter='conv')], task=0., upto=-1)
    assert all(torch.equal(p, q) for p, q in zip(head, learn.model.head.parameters()))
    assert sorted(run.adapters) == ['0_0', '0_1', '0_2']

def test_what_is_refused(dls, teacher):
    with pytest.raises(ValueError, match="at='every'"): fitted(dls, teacher, [Term(ReviewKD(), -1)])
    with pytest.raises(ValueError, match='which images'):   # without a cache nobody knows
        Learner(dls, tutorial_resnet(width=8, blocks=1)).fit_joint(teacher, 1, terms=[Term(CRD(), -1)])
    with pytest.raises(ValueError, match='compares maps'): fitted(dls, teacher, [Term(CRD())])
    with pytest.raises(ValueError, match='at=-1'): fitted(dls, teacher, [Term(SoftmaxRegression(), 'stage1', adapter='conv')])

def test_logits_that_are_all_equal():
    "The first answers of a network whose head begins at zero, as a vision transformer's"
    logits = torch.zeros(3, 4, requires_grad=True)
    standardized_kl(logits, t[:3, :4]).backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().max() > 0
