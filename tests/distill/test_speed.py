"""`learn.tuned`: precision, layout and compilation change the speed, not what is learned, and are gone when they should be."""
import shutil
from functools import partial

import pytest
import torch
from fastai.vision.all import Callback, Learner, OptimWrapper

import sskd_tutor.distill.precision as precision
from sskd_tutor.distill.losses import mimic_mse
from sskd_tutor.distill.precision import LossOnDevice
from helpers.pairs import cpu, largest_gap, moved, new_learner, norms, small_dls, snapshot, staged

def distill(device=cpu, epochs=2, cbs=(), fit=Learner.fit, **kwargs):
    "(losses by phase and epoch, student) of a run that is tuned with kwargs"
    torch.manual_seed(0)
    teacher, student = [staged(w, norm=norms['GroupNorm'], p=0.).to(device) for w in (8, 4)]
    learn = new_learner(student, small_dls(device=device), opt_func=partial(OptimWrapper, opt=torch.optim.SGD))
    learn.tuned(**kwargs)
    run = learn.fit_sskd(teacher, epochs=epochs, head_epochs=epochs, lr=0.1, fit=fit, loss=mimic_mse, cbs=list(cbs))
    losses = run.history.query("measure in ('train_loss', 'valid_loss')").set_index(['stage', 'epoch', 'measure']).value
    return losses, student

@pytest.fixture(scope='module')
def full(): return distill(precision='fp32')[0]

counts = dict(calls=0)
def counting(graph, inputs):
    "A backend of torch.compile that runs the graph as it is, and counts the compilations"
    counts['calls'] += 1
    return graph.forward

@pytest.mark.parametrize('kwargs,tolerance', [
    (dict(precision='bf16'), 0.03), (dict(precision='bf16', channels_last=False), 0.03),
    (dict(precision='fp32', channels_last=True), 1e-3), (dict(precision='fp32', compile=dict(backend=counting)), 1e-3),
    (dict(precision='bf16', compile=dict(backend=counting)), 0.03)],
    ids=['bf16', 'bf16, contiguous', 'layout', 'traced', 'traced bf16'])
def test_agrees_with_float32(full, kwargs, tolerance):
    counts['calls'] = 0
    losses, _ = distill(**kwargs)
    assert largest_gap(losses, full) < tolerance
    assert kwargs['precision'] == 'fp32' or not losses.equals(full)  # it did run in bfloat16
    assert bool(counts['calls']) == ('compile' in kwargs)

@pytest.mark.skipif(not any(map(shutil.which, ('g++', 'clang++'))), reason="needs a C++ compiler: apt-get install g++")
def test_the_real_compiler():
    "One stage, compiled by Inductor, gives the same weights up to rounding"
    from torch._dynamo.utils import counters
    def train(**kwargs):
        torch.manual_seed(0)
        teacher, student = [staged(w, norm=norms['GroupNorm'], p=0.) for w in (8, 4)]
        learn = new_learner(student, small_dls(), opt_func=partial(OptimWrapper, opt=torch.optim.SGD)).tuned('fp32', **kwargs)
        start = snapshot(student)
        learn.fit_stage(teacher, 'stage1', 2, 0.1, torch.nn.Conv2d(4, 8, 1), mimic_mse, fit=Learner.fit)
        return snapshot(student), start
    (want, start), before = train(), counters['stats']['unique_graphs']
    got, _ = train(compile=True)
    assert counters['stats']['unique_graphs'] >= before + 2  # the stage and its adapter
    assert max((want[k] - got[k]).abs().max() for k in want) < 1e-5 < max((want[k] - start[k]).abs().max() for k in want)

# --- what is compiled, and when

def test_only_what_learns_and_only_then():
    seen = {}
    def look(learn):
        names = [n for n, m in learn.sskd_run.student.named_modules() if m._compiled_call_impl is not None]
        adapters = [n for n, m in learn.sskd_run.adapters.items() if m._compiled_call_impl is not None]
        seen.setdefault((learn.sskd_phase, learn.training), set()).add((*names, *adapters))
    class Look(Callback):
        order = 30
        def after_pred(self): look(self.learn)
    _, student = distill(cbs=[Look()], compile=dict(backend='eager'))
    for s in ('stage1', 'stage2', 'stage3'): assert seen[s, True] == {(f'stages.{s}', s)} and seen[s, False] == {()}
    assert seen['head', True] == {('head',)} and seen['head', False] == {()}
    assert all(m._compiled_call_impl is None for m in student.modules())

def test_undone_after_an_interrupt():
    class Stop(Callback):
        def after_pred(self):
            if self.sskd_phase == 'stage2': raise KeyboardInterrupt
    torch.manual_seed(0)
    learn = new_learner(staged(4, p=0.)).tuned('fp32', compile=dict(backend='eager'))
    with pytest.raises(KeyboardInterrupt): learn.fit_sskd(staged(8, p=0.), epochs=1, head_epochs=1, cbs=Stop())
    assert all(m._compiled_call_impl is None for m in learn.model.modules())
    assert type(learn.recorder.smooth_loss).__name__ == 'AvgSmoothLoss'

def test_every_run_is_compiled():
    "torch.compile gives up on code that it has compiled too often (8 times), silently; twelve phases in a row are not that"
    calls = []
    for _ in range(3):
        counts['calls'] = 0
        distill(epochs=1, precision='fp32', compile=dict(backend=counting))
        calls.append(counts['calls'])
    assert calls[0] >= 7 and len(set(calls)) == 1, calls

# --- what is chosen

@pytest.mark.parametrize('fast', [True, False])
def test_defaults(monkeypatch, fast):
    monkeypatch.setattr(precision, 'fast_bf16', lambda device: fast)
    learn = new_learner(staged(4)).tuned()
    assert hasattr(learn, 'bf16') == hasattr(learn, 'channels_last') == fast and not hasattr(learn, 'compile_stage')

def test_no_compiler(monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    learn = new_learner(staged(4))
    with pytest.raises(ValueError, match=r'needs a C\+\+ compiler on CPUs: apt-get install g\+\+'): learn.tuned(compile=True)

def test_losses_of_the_recorder():
    "Kept on the device, they are the same numbers"
    def train(cbs):
        torch.manual_seed(0)
        learn = new_learner(staged(4, p=0.))
        learn.fit(2, cbs=cbs)
        return learn.recorder
    a, b = train([]), train([LossOnDevice()])
    assert torch.equal(torch.stack(a.losses), torch.stack(b.losses)) and [v[0] for v in a.values] == [v[0] for v in b.values]

def test_nothing_else_moves():
    torch.manual_seed(0)
    teacher, student = staged(8, p=0.), staged(4, p=0.)
    learn = new_learner(student).tuned('bf16', compile=dict(backend='eager'))
    before, before_teacher = snapshot(student), snapshot(teacher)
    learn.fit_stage(teacher, 'stage2', 1, 1e-2, torch.nn.Conv2d(8, 16, 1))
    assert all(n.startswith('stages.stage2.') for n in moved(before, student)) and not moved(before_teacher, teacher)

# --- on a GPU

@pytest.mark.gpu
@pytest.mark.parametrize('kwargs,tolerance', [
    ({}, 0.03), (dict(precision='fp16'), 0.02), (dict(precision='fp32', channels_last=True), 1e-2),
    (dict(precision='fp32', compile=True), 1e-2), (dict(compile=True), 0.03)], ids=str)
def test_agrees_on_the_gpu(kwargs, tolerance):
    device = torch.device('cuda', 0)
    assert largest_gap(distill(device, **kwargs)[0], distill(device, precision='fp32')[0]) < tolerance

@pytest.mark.gpu
@pytest.mark.parametrize('fit', [Learner.fit, Learner.fit_one_cycle])
def test_no_step_waits(fit):
    "From the third step of each epoch to its last, nothing asks the GPU for a number or copies in a way that waits"
    class NoWait(Callback):
        order, steps = -300, 0
        def before_batch(self):
            if self.training and self.iter == 2: torch.cuda.set_sync_debug_mode('error')
            self.steps += self.training and self.iter > 2
        def after_train(self): torch.cuda.set_sync_debug_mode('default')
    watch = NoWait()
    torch.manual_seed(0)
    teacher, student = staged(8, p=0.).cuda(), staged(4, p=0.).cuda()
    learn = new_learner(student, small_dls(n=400, bs=50, device=torch.device('cuda', 0))).tuned()
    try: learn.fit_sskd(teacher, epochs=2, head_epochs=2, fit=fit, cbs=watch)
    finally: torch.cuda.set_sync_debug_mode('default')
    assert watch.steps == 4*2*5
