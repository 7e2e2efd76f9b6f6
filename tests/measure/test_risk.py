"""The variance of a risk: enumeration of every draw, and draws themselves."""
from itertools import product

import pytest
import torch

from sskd_tutor.measure.risk import draw_of_the_label, from_labels, from_probabilities, worth_in_images

def made(n=3, k=3, seed=0):
    torch.manual_seed(seed)
    losses, p, q = (torch.randn(n, k, dtype=torch.double) for _ in range(3))
    return -losses.log_softmax(1), (2*p).softmax(1), (2*q).softmax(1)

def test_every_draw_of_two_images():
    "All (image, label) pairs with their probabilities: mean and variance of the mean loss of two"
    losses, p, _ = made()
    outcomes = [(p[i, y]/len(p), losses[i, y]) for i, y in product(range(3), range(3))]
    pairs = [(a*b, (u + v)/2) for (a, u), (b, v) in product(outcomes, outcomes)]
    mean = sum(w*r for w, r in pairs)
    variance = sum(w*(r - mean)**2 for w, r in pairs)
    assert from_labels(losses, p).mse(2) == pytest.approx(variance.item(), rel=1e-9)

@pytest.mark.parametrize('seed', range(5))
def test_the_law_of_total_variance(seed):
    losses, p, _ = made(40, 6, seed)
    with_p = from_probabilities(losses, p, p)
    assert from_labels(losses, p).variance == pytest.approx(with_p.variance + draw_of_the_label(losses, p), rel=1e-9)
    assert with_p.bias == pytest.approx(0, abs=1e-12)

def test_draws_agree():
    losses, p, q = made(200, 5)
    n, times = 10, 20_000
    i = torch.randint(200, (times, n))
    y = torch.multinomial(p[i].view(-1, 5), 1).view(times, n)
    truth = (p*losses).sum(1).mean()
    drawn = dict(labels=losses[i, y].mean(1), teacher=(q*losses).sum(1)[i].mean(1))
    found = dict(labels=from_labels(losses, p), teacher=from_probabilities(losses, p, q))
    for name in drawn: assert found[name].mse(n) == pytest.approx((drawn[name] - truth).square().mean().item(), rel=.05)

def test_a_teacher_is_worth_so_many_images():
    losses, p, q = made(200, 5)
    labels, teacher = from_labels(losses, p), from_probabilities(losses, p, q)
    n = worth_in_images(labels, teacher)
    assert labels.mse(n/2) > teacher.mse(n/2) and labels.mse(2*n) < teacher.mse(2*n)
    assert worth_in_images(teacher, labels) == 0
