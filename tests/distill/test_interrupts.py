"""Whatever stops a fit, wherever it stops: everything is as before, and calling again works."""
from contextlib import nullcontext

import pytest
import torch
from fastai.vision.all import Adam, Callback, GradientAccumulation, accuracy

from sskd_tutor.compare.light import SoftLoss
from sskd_tutor.core.device import Bf16
from sskd_tutor.distill.callbacks import FreezeStages, Reversible
from sskd_tutor.distill.joint import Term
from sskd_tutor.distill.losses import StitchedLoss, mimic_mse, soft_kl
from sskd_tutor.nets.taps import tapped
from helpers.pairs import moved, new_learner, pair, small_dls, snapshot, staged, state

events = ['before_fit', 'before_epoch', 'before_train', 'before_batch', 'after_pred', 'after_loss', 'before_backward',
        'after_backward',
          'before_step', 'after_step', 'after_batch', 'after_train', 'before_validate', 'after_validate', 'after_epoch',
                  'after_fit']
phases = dict(stage1=0, stage2=1, head=3)

class Stop(Callback):
    "Raises at an event of a phase; `order` decides whether before or after the package's own callbacks"
    def __init__(self, event, phase, error, order):
        self.at, self.error, self.fits, self.order, self.raised = phase, error, -1, order, False
        own = self.before_fit if event == 'before_fit' else lambda: None
        def stop():
            own()
            if self.fits == self.at:
                self.raised = True
                raise self.error
        setattr(self, event, stop)
    def before_fit(self): self.fits += 1

def nesting():
    "How many autocast contexts are open"
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()

class Everything:
    "What a fit changes for a while, of a learner and a teacher, to compare before and after"
    def __init__(self, learn, teacher):
        self.learn, self.teacher, self.was, self.teacher_was = learn, teacher, None, snapshot(teacher)
        self.was = self.now()
    def now(self):
        learn = self.learn
        return dict(nets=state(learn.model, self.teacher), model=id(learn.model), metrics=[id(m) for m in learn.metrics],
                loss=id(learn.loss_func),
                    splitter=id(learn.splitter), opt=id(learn.opt), callbacks=[type(cb).__name__ for cb in learn.cbs],
                    attributes=[hasattr(learn, n) for n in ('freeze_stages', 'mimic_features', 'stop_on_nan', 'stop')],
                    autocast=torch.is_autocast_enabled('cpu'), nesting=nesting(), grad_mode=torch.is_grad_enabled(),
                    teacher_grads=sum(p.grad is not None for p in self.teacher.parameters()))
    def check(self):
        now = self.now()
        assert now == self.was, {k: (self.was[k], now[k]) for k in now if now[k] != self.was[k]}
        assert not moved(self.teacher_was, self.teacher)

def setting():
    teacher, student = pair()
    teacher.stages['stage2'].eval()           # modes and flags that differ from the defaults,
    teacher.head.requires_grad_(False)        # so that a reset to the defaults is seen
    student.stages['stage3'].eval()
    learn = new_learner(student)
    learn.fit(1)
    student.stages['stage1'].train()
    return learn, teacher, Everything(learn, teacher)

@pytest.mark.parametrize('phase', phases)
@pytest.mark.parametrize('event', events)
@pytest.mark.parametrize('error,bf16,order', [(KeyboardInterrupt(), True, 100), (RuntimeError('mine'), False, -100)],
                         ids=['interrupt-bf16', 'error'])
def test_stopped_anywhere(event, phase, error, bf16, order):
    learn, teacher, everything = setting()
    stop = Stop(event, phases[phase], error, order)
    with pytest.raises(type(error)): learn.fit_sskd(teacher, epochs=1, head_epochs=1, cbs=[stop] + [Bf16()]*bf16)
    assert stop.raised
    everything.check()

@pytest.mark.parametrize('event', ['before_fit', 'after_pred', 'before_step', 'before_validate', 'after_fit'])
@pytest.mark.parametrize('bf16', [False, True], ids=['float32', 'bf16'])
def test_again_after_a_stop(event, bf16):
    "The second call does what it would have done without the first: the same student, to the bit"
    def one(stopped):
        learn, teacher, everything = setting()
        start = snapshot(learn.model)
        cbs = [Bf16()]*bf16
        if stopped:
            with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, epochs=1, head_epochs=1,
                    cbs=[Stop(event, 1, KeyboardInterrupt(), 100), *cbs])
            everything.check()
        with torch.no_grad():
            for n, t in [*learn.model.named_parameters(), *learn.model.named_buffers()]: t.copy_(start[f'0.{n}'])
        torch.manual_seed(5)
        run = learn.fit_sskd(teacher, epochs=1, head_epochs=1, cbs=cbs)
        assert len(run.stages) == 4
        return learn.model
    assert not moved(snapshot(one(False)), one(True))

def test_teeth(monkeypatch):
    "Without the undoing, the comparison fails"
    learn, teacher, everything = setting()
    monkeypatch.setattr('sskd_tutor.distill.phase.kept', lambda *nets: nullcontext())
    monkeypatch.setattr(Reversible, 'undo', lambda self: None)
    with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, epochs=1, cbs=Stop('after_pred', 1, KeyboardInterrupt(), 0))
    with pytest.raises(AssertionError, match='nets'): everything.check()

def test_teeth_autocast():
    "An autocast that is left open is seen"
    learn, teacher, everything = setting()
    with torch.autocast('cpu', torch.bfloat16):
        with pytest.raises(AssertionError, match='autocast'): everything.check()

@pytest.mark.parametrize('where', ['loss', 'model', 'teacher', 'adapter', 'data'])
@pytest.mark.parametrize('bf16', [False, True], ids=['float32', 'bf16'])
def test_stopped_outside_callbacks(where, bf16, monkeypatch):
    "A loss, a stage, an adapter or the data that raises while stage 2 trains"
    learn, teacher, everything = setting()
    calls = None   # of `boom`, once stage 2 trains
    def boom(*args):
        nonlocal calls
        if calls is None: return
        calls += 1
        if calls == 2: raise KeyboardInterrupt
    class Arm(Callback):
        def before_train(self):
            nonlocal calls
            if calls is None and len(self.learn.model.stages) == 2: calls = 0
    hooks, kwargs = [], {}
    if where == 'loss': kwargs = dict(loss=lambda p, h: (boom(), mimic_mse(p, h))[1])
    elif where == 'model': hooks = [learn.model.stages['stage2'].register_forward_hook(boom)]
    elif where == 'teacher': hooks = [teacher.stages['stage2'].register_forward_hook(boom)]
    elif where == 'adapter':
        def adapter(tap, hint):
            m = torch.nn.Conv2d(tap[0], hint[0], 1)
            m.register_forward_hook(boom)
            return m
        kwargs = dict(adapter=adapter)
    else: monkeypatch.setattr(learn.dls.train, 'after_batch', lambda b, f=learn.dls.train.after_batch: (boom(), f(b))[1])
    everything = Everything(learn, teacher)
    with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, epochs=1, head_epochs=1, cbs=[Arm()] + [Bf16()]*bf16, **kwargs)
    everything.check()
    for h in hooks: h.remove()

def test_callbacks_on_the_learner_stay():
    "Callbacks that live on the learner are still there, ours are gone"
    learn, teacher, _ = setting()
    learn.add_cbs([GradientAccumulation(100), Bf16()])
    everything = Everything(learn, teacher)
    with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, epochs=1,
            cbs=Stop('before_backward', 2, KeyboardInterrupt(), 0))
    everything.check()
    learn.fit_sskd(teacher, epochs=1, head_epochs=1)

@pytest.mark.parametrize('event', events)
def test_freeze_alone(event):
    "FreezeStages in an ordinary fit gives back what it took"
    learn, teacher, everything = setting()
    with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=[FreezeStages('stage2'), Stop(event, 0, KeyboardInterrupt(), 0)])
    everything.check()

@pytest.mark.parametrize('event', events)
def test_joint_training(event):
    learn, teacher, _ = setting()
    before, loss = state(teacher), learn.loss_func
    with pytest.raises(KeyboardInterrupt):
        learn.fit_joint(teacher, 1, terms=[Term(soft_kl)], cbs=Stop(event, 0, KeyboardInterrupt(), 0))
    assert state(teacher) == before and learn.loss_func is loss and all(p.grad is None for p in teacher.parameters())

def test_validate_inside_a_fit():
    "`validate` in the middle of a fit does not unfreeze"
    learn, teacher, everything = setting()
    frozen = []
    class Look(Callback):
        order, busy = 80, False
        def after_batch(self):
            if not self.training or self.busy: return
            self.busy = True
            self.learn.validate()
            self.busy = False
            frozen.append(not any(p.requires_grad for p in self.learn.model.stages['stage1'].parameters()))
    learn.fit_stage(teacher, 'stage2', 1, 1e-2, torch.nn.Conv2d(8, 16, 1), cbs=Look())
    assert frozen == [True]*len(frozen) and frozen
    everything.check()

def test_stitched_loss_lets_go():
    "The teacher that a stitched loss was bound to is not kept by the loss that was given"
    learn, teacher, everything = setting()
    loss = StitchedLoss()
    with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, epochs=1, loss=loss,
            cbs=Stop('after_loss', 1, KeyboardInterrupt(), 0))
    everything.check()
    assert loss.teacher is None

def test_taps_are_removed():
    teacher, student = pair()
    before = state(student)
    with pytest.raises(KeyboardInterrupt):
        with tapped(student):
            assert state(student) != before
            raise KeyboardInterrupt
    assert state(student) == before

def test_two_fits_in_a_row_give_the_learner_back():
    learn, teacher, _ = setting()
    learn.opt = None
    everything = Everything(learn, teacher)
    for _ in range(2):
        learn.fit_sskd(teacher, epochs=1, head_epochs=1)
        everything.check()

def test_metrics_and_optimizer_of_the_learner():
    "A learner with its own optimizer, splitter and metrics gets the same objects back"
    teacher, student = pair()
    splitter = lambda m: [list(m.stages.parameters()), list(m.head.parameters())]
    learn = new_learner(student, small_dls(), metrics=[accuracy], opt_func=Adam, splitter=splitter)
    learn.fit(1)
    opt, metrics = learn.opt, list(learn.metrics)
    with pytest.raises(RuntimeError, match='mine'): learn.fit_sskd(teacher, cbs=Stop('after_step', 0, RuntimeError('mine'), 0))
    assert learn.opt is opt and list(learn.metrics) == metrics and learn.splitter is splitter
    learn.fit_sskd(teacher, epochs=1, head_epochs=1)
    assert learn.splitter is splitter and list(learn.metrics) == metrics
    learn.fit(1)
    assert len(learn.opt.param_lists) == 2

def test_device_loader_is_not_worn():
    "An interrupt in the middle of an epoch does not change the order of the next run"
    orders = []
    for stopped in (False, True):
        teacher, student = pair()
        learn = new_learner(student)
        if stopped:
            with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, epochs=2,
                    cbs=Stop('after_step', 1, KeyboardInterrupt(), 0))
        seen = []
        class Look(Callback):
            def before_batch(self): seen.append(self.xb[0].sum().item()) if self.training else None
        learn.fit_sskd(staged(8), epochs=1, head_epochs=1, cbs=Look())
        orders.append(seen)
    assert orders[0] == orders[1]

def test_the_next_plain_fit_begins_anew():
    "`after_fit` is not called when a fit ends with an error: what was frozen learns again in the end"
    learn = new_learner(staged(4), cbs=[FreezeStages('head')])
    before = state(learn.model)
    class Once(Callback):
        def after_batch(self):
            if self.training and not hasattr(self, 'stopped'):
                self.stopped = True
                raise KeyboardInterrupt
    learn.add_cb(Once())
    with pytest.raises(KeyboardInterrupt): learn.fit(1)
    learn.fit(1)
    assert state(learn.model)[1] == before[1]

def test_the_loss_of_the_learner_comes_back():
    "Also where a callback of its own exchanges the loss during a fit"
    class Twice(SoftLoss):
        def loss(self, pred, y): return 2*self.own_loss(pred, y)
    learn = new_learner(staged(4), cbs=[Twice()])
    loss = learn.loss_func
    with pytest.raises(KeyboardInterrupt):
        learn.fit_sskd(staged(8), epochs=1, head_epochs=1, cbs=Stop('after_step', 0, KeyboardInterrupt(), 0))
    assert learn.loss_func is loss
