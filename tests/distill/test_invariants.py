"""What stage-by-stage training must leave alone, and what it must equal; each comparison is shown to fail when broken."""
import zipfile
from contextlib import ExitStack
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from fastai.vision.all import (Adam, Callback, CutMix, GradientAccumulation, GradientClip,
                               Learner, MixUp, OptimWrapper, SGD)
from torch import nn

from sskd_tutor.distill.callbacks import FreezeStages, MimicFeatures, mimic_net
from sskd_tutor.data.loaders import DeviceDL
import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.distill.costs import step_macs
from sskd_tutor.distill.losses import StitchedLoss, mimic_mse
from sskd_tutor.nets.small import tutorial_resnet
from helpers.pairs import Spy, conv_adapter, moved, new_learner, norms, pair, small_dls, snapshot, staged, state

torch.set_num_threads(1)

# --- training one stage leaves everything else alone, to the bit

hows = dict(
    fit=dict(fit=Learner.fit),
    fit_one_cycle=dict(),
    adam_wd=dict(fit=Learner.fit, wd=0.1, opt_func=Adam, first=True),
    sgd_momentum=dict(fit=Learner.fit, wd=0.1, opt_func=partial(SGD, mom=0.9), first=True),
    torch_adamw=dict(fit=Learner.fit, wd=0.1, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW), first=True),
    accumulation=dict(cbs=[GradientAccumulation(100)], wd=0.1),
    clip=dict(cbs=[GradientClip(0.1)]))

def train_stage(stage, norm, opt_func=Adam, first=False, **kwargs):
    teacher, student = pair(norm=norms[norm])
    learn = new_learner(student, opt_func=opt_func)
    if first: learn.fit(1)  # leaves zero gradients and an optimizer with state
    before, teacher_before = snapshot(student), snapshot(teacher)
    if stage == 'head': learn.fit_head(1, 1e-2, **kwargs)
    else: learn.fit_stage(teacher, stage, 1, 1e-2, conv_adapter(student.eval(), teacher.eval(), stage), **kwargs)
    assert not moved(teacher_before, teacher)
    return moved(before, student), student

@pytest.mark.parametrize('how', hows)
@pytest.mark.parametrize('norm', norms)
@pytest.mark.parametrize('stage', ['stage1', 'stage2', 'stage3', 'head'])
def test_nothing_else_moves(stage, norm, how):
    names, student = train_stage(stage, norm, **hows[how])
    prefix = 'head.' if stage == 'head' else f'stages.{stage}.'
    assert all(n.startswith(prefix) for n in names)
    own = {n for n in snapshot(student) if n.split('.', 1)[1].startswith(prefix)}
    assert len(names) == len(own)  # and all of the stage does: parameters, running statistics, batch count

@pytest.mark.parametrize('opt_func', [partial(Adam, wd=0.1), partial(SGD, mom=0.9, wd=0.1)])
def test_an_optimizer_that_knew_everything(opt_func):
    "FreezeStages alone, on a learner whose optimizer holds momentum for every parameter"
    teacher, student = pair()
    learn = new_learner(student, opt_func=opt_func, wd=0.1)
    learn.fit(1, 1e-2)
    before, opt = snapshot(student), learn.opt
    learn.fit(1, 1e-2, cbs=FreezeStages('stage2'))
    assert learn.opt is opt and {n.split('.')[1] for n in moved(before, student)} == {'stage2'}

def test_teeth_modes(monkeypatch):
    "Without `before_train`, running statistics of the prefix drift"
    monkeypatch.setattr(FreezeStages, 'before_train', lambda self: None)
    names, _ = train_stage('stage2', 'BatchNorm')
    assert 'stages.stage1.1.running_mean' in names

def test_teeth_gradients(monkeypatch):
    "With stale gradients left in place, weight decay moves the prefix"
    def change(self, stack): return [p.requires_grad_(False) for m in self.parts()[1] for p in m.parameters()]
    monkeypatch.setattr(FreezeStages, 'change', change)
    teacher, student = pair(norm=norms['GroupNorm'])
    learn = new_learner(student, wd=0.1)
    learn.fit(1, 1e-2)
    before = snapshot(student)
    learn.fit(1, 1e-2, cbs=FreezeStages('stage2'))
    assert 'stages.stage1.0.weight' in moved(before, student)

def test_prefix_is_deterministic_during_training():
    "Dropout of a frozen stage is off: the tap in a training batch is the one of eval mode"
    teacher, student = pair(p=0.5)
    taps, learn = [], new_learner(student)
    def look(learn): taps.append((learn.xb[0].clone(), learn.model.forward_to(learn.xb[0], 'stage1'),
            learn.model.stages['stage2'][3].training))
    learn.fit_stage(teacher, 'stage2', 1, 1e-2, conv_adapter(student, teacher, 'stage2'), cbs=Spy(look))
    student.eval()
    assert len(taps) == 2
    for x, tap, stage2_trains in taps:
        assert stage2_trains and torch.equal(tap, student.forward_to(x, 'stage1'))
    assert not torch.equal(student.train().forward_to(taps[0][0], 'stage1'), taps[0][1])  # teeth

# --- the teacher

def watch_teacher(**kwargs):
    teacher, student = pair()
    teacher.train()
    teacher.stages['stage2'].eval()
    teacher.head.requires_grad_(False)
    learn, before, seen = new_learner(student), state(teacher), []
    ids = {id(t) for t in [*teacher.parameters(), *teacher.buffers()]}
    def look(learn):
        inside = {id(t) for t in [*learn.model.parameters(), *learn.model.buffers()]} & ids
        in_opt = {id(p) for group in learn.opt.param_lists for p in group} & ids
        seen.append(dict(eval=not any(m.training for m in teacher.modules()),
                frozen=not any(p.requires_grad for p in teacher.parameters()),
                         grads=sum(p.grad is not None for p in teacher.parameters()), inside=len(inside), in_opt=len(in_opt),
                         device={p.device for p in teacher.parameters()} == {learn.dls.device}))
    learn.fit_sskd(teacher, epochs=1, head_epochs=1, cbs=Spy(look, 'after_backward'), **kwargs)
    mimic = seen[:6]  # two batches a stage
    assert len(seen) == 8
    return teacher, learn, before, mimic

@pytest.mark.parametrize('loss', [mimic_mse, StitchedLoss(), StitchedLoss(-1)], ids=['mse', 'stitched1', 'stitched_all'])
def test_teacher_is_only_asked(loss):
    teacher, learn, before, mimic = watch_teacher(loss=loss)
    for s in mimic: assert s == dict(eval=True, frozen=True, grads=0, inside=0, in_opt=0, device=True)
    assert state(teacher) == before
    assert all(p.grad is None for p in teacher.parameters())

def test_teeth_teacher(monkeypatch):
    "A teacher run with gradients and in train mode is seen"
    monkeypatch.setattr(MimicFeatures, 'change', lambda self, stack: self.teacher.train().requires_grad_(True))
    monkeypatch.setattr(MimicFeatures, 'before_batch',
            lambda self: setattr(self.learn, 'yb', (self.teacher.forward_to(self.xb[0], self.tap_index),)))
    monkeypatch.setattr('sskd_tutor.distill.phase.NMSE', lambda: lambda p, y: (p - y).mean())
    monkeypatch.setattr('sskd_tutor.distill.phase.StitchedAccuracy', lambda: lambda p, y: (p - y).mean())
    _, _, _, mimic = watch_teacher(loss=mimic_mse)
    assert not any(s['eval'] for s in mimic) and all(s['grads'] for s in mimic)

def tensors_in(path):
    "Bytes of all tensors in a pickle of torch's"
    with zipfile.ZipFile(path) as z: return sum(i.file_size for i in z.infolist() if '/data/' in i.filename)

def test_teacher_is_not_exported(tmp_path):
    sizes = {}
    for width in (8, 64):
        torch.manual_seed(0)
        teacher, learn = tutorial_resnet(width=width, blocks=1), new_learner(tutorial_resnet(width=4, blocks=1))
        learn.fit_sskd(teacher, epochs=1, head_epochs=1, loss=StitchedLoss())
        learn.export(tmp_path/f'{width}.pkl')
        sizes[width] = tensors_in(tmp_path/f'{width}.pkl')
    assert sizes[8] == sizes[64]
    learn.add_cb(MimicFeatures(teacher, 'stage1'))  # teeth: this way it would be
    learn.export(tmp_path/'with.pkl')
    assert tensors_in(tmp_path/'with.pkl') > 4*sum(p.numel() for p in teacher.parameters())

@pytest.mark.parametrize('mix', [MixUp, CutMix])
def test_teacher_sees_what_the_student_sees(mix):
    "fastai's own blends: of images for both while a stage learns, and of labels too, as fastai has it, for the head"
    teacher, student = pair(p=0.)
    learn, seen = new_learner(student, cbs=mix()), []
    own = learn.loss_func
    def look(learn): seen.append((learn.sskd_phase, learn.xb[0].clone(), learn.yb[0].clone(), learn.loss_func))
    clean = torch.cat([x.as_subclass(torch.Tensor) for x, _ in learn.dls.train])
    learn.dls.train.set_epoch(0)
    run = learn.fit_sskd(teacher, epochs=1, head_epochs=1, cbs=Spy(look))
    teacher.eval()
    assert [p for p, *_ in seen] == [n for n in ('stage1', 'stage2', 'stage3', 'head') for _ in range(2)]
    blended = [not all((clean == i).flatten(1).all(1).any() for i in x) for _, x, _, _ in seen]
    assert any(blended[:6]) and any(blended[6:])  # teeth; CutMix may cut nothing out of a batch
    for phase, x, y, loss in seen:
        if phase == 'head': assert y.dtype == torch.int64 and isinstance(loss.__self__, mix)
        else: assert torch.equal(y, teacher.forward_to(x, phase)) and loss is not own and not hasattr(loss, '__self__')
    assert learn.loss_func is own and run.history[run.history.measure == 'stitched'].value.between(0, 1).all()

# --- nothing after stage k is computed

def calls_of(stage):
    "(network, part, training?) -> number of calls while a stage trains on 2 + 1 batches"
    teacher, student = pair()
    learn, calls = new_learner(student), {}
    adapter = conv_adapter(student.eval(), teacher.eval(), stage)
    def count(key): calls[key] = calls.get(key, 0) + 1
    with ExitStack() as hooks:
        for who, net in dict(student=student, teacher=teacher).items():
            for n, m in [*net.stages.items(), ('head', net.head)]:
                hooks.callback(m.register_forward_hook(lambda *_, key=(who, n): count((*key, learn.training))).remove)
        learn.fit_stage(teacher, stage, 1, 1e-2, adapter)
    return calls

@pytest.mark.parametrize('k', range(3))
def test_nothing_after_it_runs(k):
    calls, names = calls_of(f'stage{k+1}'), ['stage1', 'stage2', 'stage3']
    expected = {(who, n, True): 2 for who in ('student', 'teacher') for n in names[:k+1]}
    expected |= {(who, n, False): 1 for who in ('student', 'teacher') for n in names[:k+1]}
    expected |= {('teacher', n, False): 1 for n in [*names[k+1:], 'head']}  # the stitched accuracy of the validation images
    assert calls == expected

def test_teeth_calls(monkeypatch):
    "A teacher run to its end in each step is counted"
    def whole(self): self.labels, self.learn.yb = self.yb[0], (self.teacher.forward_to(self.xb[0], self.tap_index),
            self.teacher(self.xb[0]))[:1]
    monkeypatch.setattr(MimicFeatures, 'before_batch', whole)
    assert calls_of('stage2')['teacher', 'head', True] == 2

# --- it equals a plain loop

def plain_loop(student, teacher, adapter, batches, stage, lr, wd):
    opt = torch.optim.AdamW([*student.stages[stage].parameters(), *adapter.parameters()], lr=lr, weight_decay=wd)
    for x in batches:
        hint, pred = teacher.forward_to(x, stage).detach(), adapter(student.forward_to(x, stage))
        loss = F.mse_loss(pred, hint)/hint.var((0, 2, 3), unbiased=False).mean()
        opt.zero_grad(); loss.backward(); opt.step()

@pytest.mark.parametrize('stage', ['stage1', 'stage2', 'stage3'])
@pytest.mark.parametrize('net', ['resnet', 'frozen_dropout'])
def test_three_steps_of_plain_torch(stage, net):
    def fresh():
        torch.manual_seed(1)
        if net == 'resnet': t, s = tutorial_resnet(8, 1).eval(), tutorial_resnet(4, 1)
        else: t, s = staged(8).eval(), staged(4, p=0.)
        return t, s, conv_adapter(s.eval(), t, stage)
    dls, lr, wd = small_dls(150), 1e-2, 0.1
    dls.train.set_epoch(0)
    batches = [x.as_subclass(torch.Tensor) for x, _ in dls.train]
    assert len(batches) == 3
    teacher, ours, adapter = fresh()
    ours.train()
    new_learner(ours, dls, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW)).fit_stage(teacher, stage, 1, lr, adapter,
            fit=Learner.fit, wd=wd)
    def by_hand(train_mode, wd):
        teacher, plain, plain_adapter = fresh()
        if train_mode: plain.train()
        else: plain.stages[stage].train()  # the prefix in eval mode
        plain_loop(plain, teacher, plain_adapter, batches, stage, lr, wd)
        return [(n, (a - b).abs().max().item()) for (n, a), b in zip(
            [*ours.named_parameters(), *adapter.named_parameters(), *ours.named_buffers()],
            [*plain.parameters(), *plain_adapter.parameters(), *plain.buffers()])]
    assert max(d for _, d in by_hand(False, wd)) < 1e-6, by_hand(False, wd)
    assert max(d for _, d in by_hand(False, 0.)) > 1e-5                       # teeth: another weight decay
    if stage != 'stage1': assert max(d for _, d in by_hand(True, wd)) > 1e-4  # teeth: a prefix in train mode

# --- seeds

def distill(seed, **kwargs):
    torch.manual_seed(9)
    teacher = staged(8)
    torch.manual_seed(seed)
    student = staged(4)
    learn = new_learner(student, small_dls(seed=seed))
    run = learn.fit_sskd(teacher, epochs=1, head_epochs=1, **kwargs)
    return learn, run

@pytest.mark.parametrize('loss', [mimic_mse, StitchedLoss()], ids=['mse', 'stitched'])
def test_same_seed_same_student(loss):
    (a, run_a), (b, run_b), (c, _) = [distill(s, loss=loss) for s in (0, 0, 1)]
    assert not moved(snapshot(a.model), b.model)
    assert moved(snapshot(a.model), c.model) >= {n for n, _ in c.model.named_parameters()}
    same = lambda run: run.history.query("measure != 'seconds'").reset_index(drop=True)
    assert same(run_a).equals(same(run_b))

# --- fit_sskd as a whole

def test_ordinary_learner_afterwards():
    "An ordinary fit afterwards moves everything again"
    learn, run = distill(0)
    before = snapshot(learn.model)
    assert all(m.training for m in learn.model.modules()) and all(p.requires_grad for p in learn.model.parameters())
    learn.fit_one_cycle(1, 1e-2)
    assert len(moved(before, learn.model)) == len(before)

def test_stages_stand_still_once_done():
    "What stage 1 learned is the same to the bit when the run ends"
    student, after_stage = staged(4), {}
    torch.manual_seed(0)
    class Keep(Callback):
        def after_fit(self): after_stage[len(after_stage)] = snapshot(student)
    new_learner(student).fit_sskd(staged(8), epochs=1, head_epochs=1, cbs=Keep())
    assert len(after_stage) == 4
    for k, before in after_stage.items():
        done = {n: t for n, t in before.items() if any(n.startswith(f'0.stages.stage{i+1}.') for i in range(min(k + 1, 3)))}
        assert done and all(torch.equal(t, after_stage[3][n]) for n, t in done.items())

def test_no_labels_no_head_epochs():
    "With head_epochs=0 the same student comes out whatever the labels say"
    def one(labels):
        teacher, student = pair()
        dls = small_dls()
        dls.train_ds.images.y[:] = labels
        learn = new_learner(student, dls)
        run = learn.fit_sskd(teacher, epochs=1, head_epochs=0)
        return learn.model, teacher, run
    (a, teacher, run), (b, _, _) = one(0), one(7)
    assert not moved(snapshot(a), b)
    assert torch.equal(a.head[1][3].weight, teacher.head[3].weight) and a.head[1] is not teacher.head
    assert run.stages.gmacs['head'] == 0 and all(p.requires_grad for p in a.parameters())

@pytest.mark.parametrize('fit', [Learner.fit, Learner.fit_flat_cos, Learner.fit_one_cycle])
@pytest.mark.parametrize('opt_func', [partial(OptimWrapper, opt=torch.optim.SGD), partial(OptimWrapper, opt=torch.optim.AdamW),
                         SGD])
def test_any_fit_any_optimizer(fit, opt_func):
    teacher, student = pair()
    before = snapshot(student)
    if fit is Learner.fit_one_cycle and getattr(opt_func, 'keywords', {}).get('opt') is torch.optim.SGD:
        opt_func = partial(OptimWrapper, opt=torch.optim.SGD, momentum=0.9)
    run = new_learner(student, opt_func=opt_func).fit_sskd(teacher, epochs=1, head_epochs=1, lr=1e-2, loss=mimic_mse, fit=fit)
    assert len(moved(before, student)) == len(before)
    assert run.settings['fit'] == fit.__name__

def test_a_frozen_student_is_refused():
    "A student that arrives frozen (`learn.freeze`, a pretrained body) must not come back untrained without a word"
    teacher, student = pair()
    student.requires_grad_(False)
    before = snapshot(student)
    with pytest.raises(ValueError, match='stage1 of the student is frozen'): new_learner(student).fit_sskd(teacher, epochs=1, head_epochs=1)
    assert not moved(before, student)

def test_counting_changes_nothing():
    "Gradients that are there when multiply-adds are counted are the same afterwards"
    teacher, student = pair(p=0.)
    x = torch.randn(2, 1, 10, 10)
    student(x).sum().backward()
    before, grads = snapshot(student), [p.grad.clone() for p in student.parameters()]
    step_macs(student, ['stage2', 'head'], mimic_mse, teacher, x)
    assert not moved(before, student) and all(torch.equal(p.grad, g) for p, g in zip(student.parameters(), grads))

def test_mimic_net_shares():
    teacher, student = pair()
    net = mimic_net(student, 'stage2', nn.Identity())
    assert net.stage_names == ['stage1', 'stage2'] and net.stages['stage1'] is student.stages['stage1']

@pytest.mark.gpu
def test_on_the_gpu():
    "The teacher comes along to the device; nothing else of a stage's training differs"
    device = torch.device('cuda', 0)
    teacher, student = pair()
    learn = new_learner(student, small_dls(device=device))
    devices = []
    before = snapshot(teacher)
    learn.fit_sskd(teacher, epochs=1, head_epochs=1,
            cbs=Spy(lambda learn: devices.extend(p.device for p in teacher.parameters())))
    assert set(devices) == {device} and not moved(before, teacher.cpu())

def test_data_loader_stays_resident():
    "No copy of the images an epoch: the device tensors are made once"
    dls = small_dls()
    list(dls.train)
    resident = dls.train_ds.resident
    list(dls.train)
    assert dls.train_ds.resident is resident and isinstance(dls.train, DeviceDL)
