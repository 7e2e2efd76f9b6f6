"""Joint training: what is remembered, what it costs, what an interrupt leaves."""
import pytest
import torch
from fastai.callback.all import ChannelsLast, EarlyStoppingCallback
from fastai.learner import Callback, Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import set_seed

from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.core.device import Bf16
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.distill.joint import Term, joint_gmacs
from sskd_tutor.distill.losses import (attention_loss, dkd_loss, mimic_mse, relational_loss, similarity_loss, soft_kl)
from sskd_tutor.nets.staged import StagedNet
from sskd_tutor.nets.weights import fashion_teacher
from sskd_tutor.nets.small import tutorial_resnet

terms = [Term(soft_kl, weight=.9), Term(mimic_mse, ['stage1', 'stage3'], adapter='conv')]

@pytest.fixture(scope='module')
def teacher(): return fashion_teacher()

@pytest.fixture(scope='module')
def dls(): return fashion_dls(n=250, bs=100)  # an epoch leaves out 50

def fitted(dls, teacher, terms=terms, epochs=3, cbs=None, own=(), width=8, **kwargs):
    set_seed(0, reproducible=True)
    dls.train.set_epoch(0)
    learn = Learner(dls, tutorial_resnet(width=width, blocks=1), metrics=accuracy, cbs=list(own))
    with learn.no_bar(), learn.no_logging(): run = learn.fit_joint(teacher, epochs, terms=terms, cbs=cbs, valid_every=0, **kwargs)
    return learn, run

def same(a, b): return all(torch.equal(u, v) for u, v in zip(a.model.state_dict().values(), b.model.state_dict().values()))

@pytest.mark.parametrize('views', [1, 2, 3, 5])
def test_planned_is_spent_and_no_budget_is_the_same_student(dls, teacher, views):
    held, run = fitted(dls, teacher, cbs=CacheFeatures(views=views))
    none, fresh = fitted(dls, teacher, cbs=CacheFeatures(views=views, budget=0))
    assert same(held, none)
    planned = joint_gmacs(Learner(dls, tutorial_resnet(width=8, blocks=1)), teacher, terms)
    assert run.gmacs == pytest.approx(planned(3, views), rel=1e-6)
    if views < 3: assert run.gmacs < fresh.gmacs
    else: assert run.gmacs <= fresh.gmacs   # in three epochs no view comes again

def test_half_precision(dls, teacher):
    every = [*terms, Term(attention_loss, 'every', 1.), Term(similarity_loss, -1), Term(relational_loss, -1, .1)]
    every += [Term(dkd_loss, labels=True)]
    held, _ = fitted(dls, teacher, every, width=16, cbs=CacheFeatures(views=3), own=[Bf16(), ChannelsLast()])
    fresh, _ = fitted(dls, teacher, every, width=16, own=[Bf16(), ChannelsLast()])
    exact, _ = fitted(dls, teacher, every, width=16)
    flat = lambda o: torch.cat([p.flatten() for p in o.model.parameters()])
    assert flat(held).isfinite().all()
    far = (flat(exact) - flat(fitted(dls, teacher, every, width=16, lr=2e-3)[0])).norm()
    assert (flat(held) - flat(fresh)).norm() < 0.2*far and (flat(held) - flat(exact)).norm() < 0.5*far

@pytest.mark.parametrize('cbs', [None, 'cache'])
def test_interrupt_gives_everything_back(dls, teacher, cbs):
    class Stop(Callback):
        order, keeps_images = 99, True
        def after_loss(self): raise KeyboardInterrupt
    learn = Learner(dls, tutorial_resnet(width=8, blocks=1), metrics=accuracy)
    loss, modes = learn.loss_func, [m.training for m in teacher.modules()]
    cache = CacheFeatures(views=2)
    with pytest.raises(KeyboardInterrupt), learn.no_bar(), learn.no_logging():
        learn.fit_joint(teacher, 1, terms=terms, cbs=[Stop(), *([cache] if cbs else [])])
    assert learn.loss_func is loss and type(learn.model) is StagedNet and learn.dls is dls and cache.taps is None
    assert modes == [m.training for m in teacher.modules()]
    learn.validate()

def test_a_loss_that_is_not_finite_names_where(dls, teacher):
    with pytest.raises(FloatingPointError, match='joint training'):
        fitted(dls, teacher, [Term(lambda s, t: s.sum()*float('nan'))])

def test_weight_zero_is_labels_alone(dls, teacher):
    a, _ = fitted(dls, teacher, [Term(soft_kl, weight=0.)])
    b, _ = fitted(dls, None, [])
    for p, q in zip(a.model.parameters(), b.model.parameters()): torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)

# --- bad input is refused before the first batch

class Moved(Callback):
    "Fails when a training step is made"
    def before_step(self): raise AssertionError("training began")

def vague(pred, y): return (pred.argmax(1) == y).float().mean()

@pytest.mark.parametrize('kwargs, error, match', [
    (dict(epochs='2'), ValueError, "epochs is '2'; expected a whole number"), (dict(epochs=terms), ValueError, "expected a whole number.*terms="),
    (dict(lr=-1), ValueError, 'the lr of the joint training is -1; expected a positive number'),
    (dict(terms=[Term('mse', 'every', adapter='conv')]), TypeError, "the loss of a term is 'mse'; expected a function"),
    (dict(terms=[Term(mimic_mse, 'every')]), ValueError, r"Term.mimic_mse, at='every'.: the loss fails on .*adapter='conv'"),
    (dict(terms=[Term(dkd_loss)]), ValueError, r"Term.dkd_loss, at='logits'.*labels=True"),
    (dict(cbs='GradientClip'), TypeError, "cbs holds 'GradientClip'; expected"),
    (dict(cbs=[EarlyStoppingCallback(monitor='acc'), Moved()]), ValueError, "EarlyStoppingCallback watches 'acc', which joint does not measure"),
    (dict(loss_func=CrossEntropyLossFlat(weight=torch.ones(3))), ValueError, 'learn.loss_func, CrossEntropyLossFlat, fails on'),
    (dict(loss_func=vague), TypeError, 'learn.loss_func, vague, gives a number that no weight moves')])
def test_refused(kwargs, error, match, dls, teacher):
    loss = kwargs.pop('loss_func', CrossEntropyLossFlat())
    learn = Learner(dls, tutorial_resnet(width=8, blocks=1), metrics=accuracy, loss_func=loss)
    before = {name: value.clone() for name, value in learn.model.state_dict().items()}
    with pytest.raises(error, match=match): learn.fit_joint(teacher, **{**dict(epochs=1, terms=terms, cbs=Moved()), **kwargs})
    assert all(torch.equal(value, before[name]) for name, value in learn.model.state_dict().items()) and learn.loss_func is loss

def test_a_student_without_stages_and_without_a_teacher(dls):
    learn = Learner(dls, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)))
    with pytest.raises(TypeError, match=r'learn.model is a Sequential; expected a StagedNet.*as_stages'): learn.fit_joint(None, 1)
