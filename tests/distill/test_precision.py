"""Half precision, memory layout and accumulation change the speed, not what is learned."""
from functools import partial

import pytest
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import Callback, GradientAccumulation, Learner, MixedPrecision, OptimWrapper

from sskd_tutor.core.device import Bf16
from sskd_tutor.distill.losses import mimic_mse, mimic_nmse
from helpers.pairs import Spy, cpu, largest_gap, moved, new_learner, norms, small_dls, snapshot, staged

def distill(cbs=(), bs=50, norm='GroupNorm', epochs=3, loss=mimic_mse, device=cpu, seed=0):
    "A run of all phases: (losses by phase and epoch, student)"
    torch.manual_seed(seed)
    teacher, student = [staged(w, norm=norms[norm], p=0.).to(device) for w in (8, 4)]
    learn = new_learner(student, small_dls(bs=bs, device=device), opt_func=partial(OptimWrapper, opt=torch.optim.SGD))
    run = learn.fit_sskd(teacher, epochs=epochs, head_epochs=epochs, lr=0.1, fit=Learner.fit, cbs=list(cbs), loss=loss)
    losses = run.history.query("measure in ('train_loss', 'valid_loss')").set_index(['stage', 'epoch', 'measure']).value
    return losses, student

# --- gradient accumulation

def test_accumulation_is_the_larger_batch():
    whole, student = distill(bs=50)
    parts, accumulated = distill([GradientAccumulation(50)], bs=25)
    valid = lambda losses: losses.xs('valid_loss', level='measure')
    assert largest_gap(valid(parts), valid(whole)) < 1e-4
    for p, q in zip(accumulated.parameters(), student.parameters()): torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)
    assert largest_gap(valid(distill(bs=25)[0]), valid(whole)) > 1e-3  # teeth: small batches without accumulation differ

# --- layout

@pytest.mark.parametrize('norm', ['BatchNorm', 'GroupNorm'])
def test_channels_last(norm):
    formats = []
    def look(learn):
        teacher = learn.mimic_features.teacher if hasattr(learn, 'mimic_features') else None
        formats.extend(net.stages['stage2'][0].weight.is_contiguous(memory_format=torch.channels_last)
                       for net in (learn.model, teacher) if net is not None and 'stage2' in net.stages)
    plain, _ = distill(norm=norm)
    last, _ = distill([ChannelsLast(), Spy(look)], norm=norm)
    assert formats and all(formats)
    assert largest_gap(last, plain) < 1e-3

# --- bfloat16

@pytest.mark.parametrize('loss', [mimic_mse, mimic_nmse])
def test_bf16(loss):
    "All losses of all phases within a few percent, after several steps of SGD with a large step"
    full, _ = distill(loss=loss)
    half, _ = distill([Bf16()], loss=loss)
    assert not half.equals(full)  # it did run in bfloat16
    assert largest_gap(half, full) < 0.03
    start, end = [full['stage1'].xs('train_loss', level='measure').iloc[i] for i in (0, -1)]
    assert end < 0.9*start        # teeth: a training that stands still would miss by more

def test_bf16_uses_the_weights_of_now():
    "Each batch's prediction is the one of the current weights, not of a cast kept from an earlier batch"
    gaps = []
    class Compare(Callback):
        order = 11  # after MixedPrecision, whose order is 10
        def after_pred(self):
            if not self.training or len(self.learn.model.stages) != 1: return
            with torch.no_grad(), torch.autocast('cpu', enabled=False): now = self.learn.model(self.xb[0])
            gaps.append(((now - self.pred).abs().mean()/now.abs().mean()).item())
    distill([Bf16(), Compare()])
    assert len(gaps) == 6 and max(gaps) < 0.02, gaps

def test_bf16_masters_stay_float32():
    dtypes = set()
    _, student = distill([Bf16(), Spy(lambda learn: dtypes.add((learn.pred.dtype, learn.yb[0].dtype)))], epochs=1)
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert (torch.float32, torch.bfloat16) in dtypes  # pred as fastai gives it; the teacher runs under autocast too
    assert not torch.is_autocast_enabled('cpu')

def test_ordinary_bf16_after_an_interrupt():
    "An interrupted run in bfloat16 does not spoil a later, ordinary fit in bfloat16"
    class StopHere(Callback):
        def after_pred(self): raise KeyboardInterrupt
    def ordinary():
        torch.manual_seed(0)
        learn = new_learner(staged(4, p=0.))
        learn.fit(2, 1e-2, cbs=Bf16())
        return learn.model
    before = snapshot(ordinary())
    with pytest.raises(KeyboardInterrupt): distill([Bf16(), StopHere()])
    assert not moved(before, ordinary())

# --- on a GPU

@pytest.mark.gpu
@pytest.mark.parametrize('mode,tolerance', [('bf16', 0.03), ('fp16', 0.02)])
def test_amp_on_the_gpu(mode, tolerance):
    device = torch.device('cuda', 0)
    full, _ = distill(device=device)
    half, _ = distill([MixedPrecision(mode)], device=device)
    assert not half.equals(full) and largest_gap(half, full) < tolerance

@pytest.mark.gpu
@pytest.mark.parametrize('cbs', [[ChannelsLast], [ChannelsLast, Bf16]], ids=['float32', 'bf16'])
def test_channels_last_on_the_gpu(cbs):
    device = torch.device('cuda', 0)
    assert largest_gap(distill([cb() for cb in cbs], device=device)[0],
            distill(device=device)[0]) < (1e-2 if len(cbs) == 1 else 0.03)

@pytest.mark.gpu
def test_gpu_equals_cpu():
    assert largest_gap(distill(device=torch.device('cuda', 0))[0], distill()[0]) < 1e-2

@pytest.mark.gpu
def test_teacher_stays_on_the_device():
    torch.manual_seed(0)
    teacher, student = staged(8), staged(4)
    learn = new_learner(student, small_dls(device=torch.device('cuda', 0)))
    learn.fit_sskd(teacher, epochs=1, head_epochs=1)
    assert {p.device.type for p in teacher.parameters()} == {"cuda"}

def test_the_teacher_keeps_its_layout():
    "`learn.tuned()` trains in channels_last; the teacher can be saved afterward as before"
    teacher = staged(8)
    learn = new_learner(staged(4)).tuned('bf16')
    learn.fit_sskd(teacher, epochs=1, head_epochs=1)
    assert all(p.is_contiguous() for p in teacher.parameters())

def test_a_compilation_of_the_users_own():
    learn = new_learner(staged(4))
    stage = learn.model.stages['stage1']
    stage.compile(backend='eager')
    own = stage._compiled_call_impl
    learn.tuned('fp32', compile=dict(backend='eager'))
    learn.fit_sskd(staged(8), epochs=1, head_epochs=1)
    assert stage._compiled_call_impl is own
