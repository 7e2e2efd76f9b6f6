"""Losses for teachers, against their formulas written out."""
import pytest
import torch
import torch.nn.functional as F

from sskd_tutor.distill.teaching import SubclassLoss, away_loss, class_logits, purity, spread_loss
from sskd_tutor.measure.fidelity import fitted_temperature
from helpers.losses import check_half_precision, check_value_and_gradient, randn, unit

n, p, y = randn(6, 10, seed=1), randn(6, 10, seed=2), torch.tensor([0, 1, 1, 0, 1, 0])

def naive_away(n, p, T=4.):
    total = 0
    for a, b in zip(n, p):
        q, r = (a/T).exp()/(a/T).exp().sum(), (b/T).exp()/(b/T).exp().sum()
        total -= T**2*(q*(q/r).log()).sum()
    return total/len(n)

def naive_spread(z, T=1.):
    z = torch.stack([unit(v) for v in z])
    rows = [sum((z[i] @ z[j]/T).exp() for j in range(len(z))).log() for i in range(len(z))]
    return sum(rows)/len(z) - 1/T - torch.tensor(len(z), dtype=z.dtype).log()

@pytest.mark.parametrize('loss, naive', [(lambda a: away_loss(a, p), lambda b: naive_away(b, p.double())), (spread_loss, naive_spread)])
def test_value_and_gradient(loss, naive):
    assert check_value_and_gradient(loss, naive, n) < 0

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    for loss in (lambda a: away_loss(a, p.to(dtype)), spread_loss):
        check_half_precision(loss, 1e3*n, dtype=dtype)

def test_classes_are_sums_of_their_subclasses():
    q = class_logits(n, 2).softmax(1)
    torch.testing.assert_close(q[:, 1], n.softmax(1)[:, 5:].sum(1))
    by_hand = -q.gather(1, y[:, None]).log().mean() + .5*naive_spread(n)
    assert SubclassLoss(2, beta=.5)(n, y).item() == pytest.approx(by_hand.item(), rel=1e-5)
    torch.testing.assert_close(class_logits(n, 10), n)   # one subclass each: an ordinary network
    with pytest.raises(ValueError, match='10 subclasses for 3'): class_logits(n, 3)

def test_purity_is_counted():
    groups, hidden = torch.tensor([0, 0, 0, 4, 4, 2]), torch.tensor([1, 1, 7, 7, 7, 0])
    assert purity(groups, hidden) == pytest.approx(5/6)
    assert purity(torch.zeros(10, dtype=torch.long), torch.arange(10)) == pytest.approx(.1)

def test_the_fitted_temperature_is_a_minimum():
    logits = 5*randn(500, 4, seed=3)
    labels = (logits + 8*randn(500, 4, seed=4)).argmax(1)
    T = fitted_temperature(logits, labels)
    def nll(T): return F.cross_entropy(logits.double()/T, labels).item()
    assert nll(T) <= min(nll(.99*T), nll(1.01*T)) and T > 1
    t = torch.tensor(T, dtype=torch.double, requires_grad=True)
    slope, = torch.autograd.grad(F.cross_entropy(logits.double()/t, labels), t)
    assert abs(slope.item()) < 1e-4
    for bad in ((logits, labels[:3]), (logits[:0], labels[:0])):
        with pytest.raises(ValueError, match='of the same images'): fitted_temperature(*bad)
