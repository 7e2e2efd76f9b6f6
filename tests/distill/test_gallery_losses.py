"""The gallery's losses against their formulas, written out one image or pair at a time; and the one rule for mixed images."""
from functools import partial
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from fastai.callback.mixup import CutMix, MixUp
from fastai.learner import Callback, Learner
from fastai.metrics import accuracy
from fastai.torch_core import set_seed

from sskd_tutor.core.device import quiet
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.comparing import RRD, ChannelMatch, channel_correlations, comparative_loss, matched_channels
from sskd_tutor.distill.joint import DistillJointly, Term
from sskd_tutor.distill.learned import CRD, Batch, Shapes
from sskd_tutor.distill.losses import dkd_loss, soft_kl
from sskd_tutor.distill.partial import partial_answers, partial_kl
from sskd_tutor.nets.small import tutorial_resnet
from helpers.losses import check_half_precision, check_value_and_gradient, randn, unit

s, t, y = randn(6, 10, seed=1), 3*randn(6, 10, seed=2), torch.tensor([0, 3, 9, 3, 5, 1])
nothing = Batch(None, None)

# --- the formulas

def naive_comparative(s, t):
    total = 0
    for i in range(len(s)):
        for j in range(len(s)): total += (((s[i] - s[j]) - (t[i] - t[j]))**2).mean()
    return total/len(s)**2

def naive_partial(s, t, y, keep=0, T=4.):
    total = 0
    for a, b, c in zip(s, t, y.tolist()):
        p = ((b/T).exp()/(b/T).exp().sum()).tolist()
        wrong = sorted((k for k in range(len(p)) if k != c), key=lambda k: -p[k])
        rest = wrong[keep:]
        level = sum(p[k] for k in rest)/max(1, len(rest))
        for k in rest: p[k] = level
        q = (a/T).exp()/(a/T).exp().sum()
        total += T**2*sum(p[k]*(torch.tensor(p[k], dtype=a.dtype)/q[k]).log() for k in range(len(p)))
    return total/len(s)

formulas = {'comparative': (comparative_loss, naive_comparative, {}),
            **{f'partial {k}': (partial(partial_kl, y=y), partial(naive_partial, y=y), dict(keep=k)) for k in (0, 1, 4, 9)}}

@pytest.mark.parametrize('name', formulas)
def test_value_and_gradient(name):
    loss, naive, how = formulas[name]
    check_value_and_gradient(lambda a: loss(a, t, **how), lambda b: naive(b, t.double(), **how), s)

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', formulas)
def test_half_precision(name, dtype):
    loss, _, how = formulas[name]
    check_half_precision(lambda a: loss(a, t.to(dtype), **how), s, dtype=dtype)

# --- partial answers

def test_limits_are_known_methods():
    assert partial_kl(s, t, y, keep=9).item() == pytest.approx(soft_kl(s, t, T=4.).item(), rel=1e-5)
    for a, T in ((.9, 20.), (.99, 4.)):   # teacher-free distillation, whatever the teacher says
        rule = torch.full((6, 10), (1 - a)/9).scatter(1, y[:, None], a).log()
        for teacher in (t, -t): assert partial_kl(s, teacher, y, T=T, right=a).item() == pytest.approx(soft_kl(s, rule, T).item(), rel=1e-4)

def test_the_gradient_of_the_right_class_is_weighted_by_confidence():
    "Tang's example weighting, in closed form: (q - p)/(q - 1) of the labels' own gradient"
    ratio = []
    for loss in (lambda z: partial_kl(z, t, y, keep=0, T=1.), lambda z: F.cross_entropy(z, y)):
        z = s.clone().requires_grad_()
        ratio.append(torch.autograd.grad(loss(z), z)[0].gather(1, y[:, None]))
    p, q = (o.softmax(1).gather(1, y[:, None]) for o in (t, s))
    torch.testing.assert_close(ratio[0]/ratio[1], (q - p)/(q - 1), rtol=1e-3, atol=1e-5)

def test_shuffled_answers_keep_confidence_and_entropy_but_no_class():
    whole, moved = (partial_answers(t, y, 9, shuffle=shuffle) for shuffle in (False, True))
    torch.testing.assert_close(whole.sort(1)[0], moved.sort(1)[0])
    torch.testing.assert_close(whole.gather(1, y[:, None]), moved.gather(1, y[:, None]))
    for i, c in enumerate(y.tolist()):
        others = [k for k in range(10) if k != c]
        assert (whole[i, others] != moved[i, others]).all()
    two = torch.tensor([[1., 2.]])   # one wrong class: nowhere to go
    torch.testing.assert_close(partial_answers(two, y[:1], 1, shuffle=True), partial_answers(two, y[:1], 1))

@pytest.mark.parametrize('how, says', [(dict(keep=10), '0 to 9'), (dict(keep=-1), '0 to 9'), (dict(right=1.), 'between 0 and 1'), (dict(T=0), 'above 0')])
def test_partial_refuses(how, says):
    with pytest.raises(ValueError, match=says): partial_kl(s, t, y, **how)

# --- neighbors in a queue

tap, hint = randn(4, 3, 2, 2, seed=3), randn(4, 5, 2, 2, seed=4)

def built(size=7, n=100, **how): return RRD(size=size, **how).build(Shapes([(3, 2, 2)], [(5, 2, 2)], n))

def naive_rrd(rrd, tap, hint, queue, tau_s, tau_t):
    W, c, total = rrd.map.weight.double(), rrd.map.bias.double(), 0
    for a, b in zip(tap.double(), hint.double()):
        student, teacher = unit(W @ a.mean((1, 2)) + c), unit(b.mean((1, 2)))
        p = torch.stack([(teacher @ v/tau_t).exp() for v in queue])
        q = torch.stack([(student @ v/tau_s).exp() for v in queue])
        p, q = p/p.sum(), q/q.sum()
        total -= (p*q.log()).sum()
    return total/len(tap)

def test_the_queue_is_the_formula():
    torch.manual_seed(0)
    rrd, first = built(), randn(4, 5, 2, 2, seed=5)
    rrd([tap], [first], nothing)
    value = rrd([tap], [hint], nothing)
    vectors = [unit(v.double().mean((1, 2))) for v in (*first, *hint)]
    queue = [vectors[7], *vectors[1:7]]   # the eighth took the place of the first
    torch.testing.assert_close(rrd.known().double(), torch.stack(queue), rtol=1e-5, atol=1e-6)
    assert value.item() == pytest.approx(naive_rrd(rrd, tap, hint, queue, .1, .02).item(), rel=1e-4)

def test_nothing_enters_in_validation_and_a_batch_may_be_longer_than_the_queue():
    rrd = built(size=2).eval()
    assert rrd([tap], [hint], nothing).isfinite() and rrd.seen == 0
    rrd.train()([tap], [hint], nothing)
    torch.testing.assert_close(rrd.known(), F.normalize(hint[-2:].mean((2, 3))))
    assert len(built(size=50, n=10).queue) == 10

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_learned_losses_in_half_precision(dtype):
    for how, places in ((RRD(size=7), 1), (ChannelMatch(), 2)):
        loss = how.build(Shapes([(3, 2, 2)]*places, [(5, 2, 2)]*places, 10))
        hints = [(1e4*hint).to(dtype)]*places
        check_half_precision(lambda a: loss([a]*places, hints, nothing), 1e4*tap, dtype=dtype)

# --- channels by assignment

def test_the_assignment_is_the_best_of_all():
    a, b = randn(6, 4, 3, 3, seed=6), randn(6, 5, 3, 3, seed=7)
    alike = channel_correlations(a, b)
    for i in range(4):
        for j in range(5):
            u, v = a[:, i].flatten(), b[:, j].flatten()
            assert alike[i, j].item() == pytest.approx(torch.corrcoef(torch.stack([u, v]))[0, 1].item(), abs=1e-5)
    best = max(permutations(range(5), 4), key=lambda order: sum(alike[i, j] for i, j in enumerate(order)))
    assert tuple(matched_channels(a, b).tolist()) == best

@pytest.mark.parametrize('seed', range(5))
def test_a_permuted_copy_is_found_to_the_bit(seed):
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    teacher = randn(5, 8, 4, 4, seed=seed).relu()
    teacher[:, 3] = 0                       # a dead channel correlates with nothing and finds its own place
    loss = ChannelMatch().build(Shapes([(8, 4, 4)], [(8, 4, 4)], 5))
    assert loss([teacher[:, order]], [teacher], nothing).item() == 0
    assert ChannelMatch(0).build(Shapes([(8, 4, 4)], [(8, 4, 4)], 5))([teacher[:, order]], [teacher], nothing) > .1

def test_when_an_assignment_is_made_and_at_which_size():
    loss = ChannelMatch(every=2).build(Shapes([(3, 4, 4)], [(5, 2, 2)], 5))
    def order_after(seed):
        loss([randn(6, 3, 4, 4, seed=seed)], [randn(6, 5, 2, 2, seed=seed + 50)], nothing)
        return loss.order(0).tolist()
    first = order_after(1)
    assert order_after(2) == first and order_after(3) == matched_channels(
        F.adaptive_avg_pool2d(randn(6, 3, 4, 4, seed=3), 2), randn(6, 5, 2, 2, seed=53)).tolist()
    loss.eval()
    assert order_after(5) == loss.order(0).tolist() and loss.batches == 3
    assert sorted(loss.state_dict()) == ['batches', 'order0']   # a resumed run goes on with its assignment

def test_what_is_refused():
    with pytest.raises(ValueError, match='at least as many'): ChannelMatch().build(Shapes([(9, 2, 2)], [(5, 2, 2)], 9))
    with pytest.raises(ValueError, match='2 or more'): comparative_loss(s[:1], t[:1])
    with pytest.raises(ValueError, match='expected one'): RRD().build(Shapes([(3, 2, 2)]*2, [(5, 2, 2)]*2, 9))

# --- the teacher is asked the mixed image

@pytest.fixture(scope='module')
def teacher():
    torch.manual_seed(1)
    return tutorial_resnet(width=8, blocks=1).eval().requires_grad_(False)

def fitted(teacher, terms, cbs, **how):
    set_seed(0, reproducible=True)
    learn = Learner(fashion_dls(n=100, bs=25, device='cpu'), tutorial_resnet(width=8, blocks=1), metrics=accuracy)
    with quiet(learn): run = learn.fit_joint(teacher, 2, terms=terms, cbs=cbs, **how)
    return learn, run

class ByHand(Callback):
    "The loss of each batch, added up again"
    order = DistillJointly.order + 1
    def __init__(self, teacher): self.teacher, self.gaps, self.valid_gaps = teacher, [], []
    def after_loss(self):
        x, y, pred = (o.as_subclass(torch.Tensor) for o in (self.x, self.y, self.pred))
        if not self.training: return self.valid_gaps.append((self.loss_grad - F.cross_entropy(pred, y)).abs().item())
        mix = self.learn.mix_up if hasattr(self.learn, 'mix_up') else self.learn.cut_mix
        a, b = (F.cross_entropy(pred, o.as_subclass(torch.Tensor), reduction='none') for o in (mix.yb1[0], y))
        task = ((1 - mix.lam)*a + mix.lam*b).mean()
        self.gaps.append((self.loss_grad - .1*task - .9*soft_kl(pred, self.teacher(x), 4.)).abs().item())

@pytest.mark.parametrize('mix', [MixUp, CutMix])
def test_the_teacher_is_asked_the_mixed_image(teacher, mix):
    by_hand = ByHand(teacher)
    learn, run = fitted(teacher, Term(partial(soft_kl, T=4.), weight=.9), [mix(), by_hand], task=.1)
    assert len(by_hand.gaps) == 8 and max(by_hand.gaps) < 1e-4 and max(by_hand.valid_gaps) < 1e-4
    assert type(learn.loss_func).__name__ == 'CrossEntropyLossFlat' and not learn.cbs.filter(lambda cb: isinstance(cb, mix))

class Seeded(Callback):
    "What is drawn for blending does not depend on what was drawn before the fit"
    def before_train(self): torch.manual_seed(self.epoch)

def test_labels_alone_with_mixup_is_fastais_own_fit():
    joint, _ = fitted(None, (), [Seeded(), MixUp()])
    set_seed(0, reproducible=True)
    own = Learner(fashion_dls(n=100, bs=25, device='cpu'), tutorial_resnet(width=8, blocks=1), metrics=accuracy)
    with quiet(own): own.fit_one_cycle(2, 5e-3, cbs=[Seeded(), MixUp()])
    for a, b in zip(joint.model.parameters(), own.model.parameters()): torch.testing.assert_close(a, b)

def test_a_memory_steps_aside_for_mixed_images(teacher):
    with pytest.warns(UserWarning, match='remembers nothing'): fitted(teacher, Term(soft_kl), [MixUp(), CacheFeatures(views=1)])

def test_mixing_that_is_refused(teacher):
    with pytest.raises(ValueError, match='wants the label of one'): fitted(teacher, Term(dkd_loss, labels=True), MixUp())
    with pytest.raises(ValueError, match='blend an image twice'): fitted(teacher, Term(soft_kl), [MixUp(), CutMix()])
    with pytest.raises(ValueError, match='which images'), pytest.warns(UserWarning): fitted(teacher, Term(CRD(), -1), [MixUp(), CacheFeatures(views=1)])

@pytest.mark.parametrize('right', [None, .9])
def test_a_teacher_without_any_doubt(right):
    "Its probabilities of the wrong classes are zero in float32; their shares are still known"
    logits = torch.zeros(1, 10)
    logits[0, 0] = 120.
    answers = partial_answers(logits, torch.tensor([0]), T=1., right=right)
    assert torch.allclose(answers.sum(), torch.tensor(1.)) and torch.allclose(answers[0, 1:], answers[0, 1])
