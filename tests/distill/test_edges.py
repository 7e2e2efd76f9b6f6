"""What 0.1 lost or got wrong without a word, at the edges: other classes, frozen inputs, short epochs, odd modules."""
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.data.load import DataLoader
from fastai.vision.all import (BCEWithLogitsLossFlat, Callback, CancelFitException, CategoryMap, CSVLogger, DataLoaders,
                               EarlyStoppingCallback, L, Learner, SaveModelCallback, ShortEpochCallback)
from torch import nn
from torch.utils.checkpoint import checkpoint

from helpers.pairs import cpu, moved, new_learner, pair, small_dls, snapshot, staged
from sskd_tutor.core.events import RunCallback
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.checkpoint import Checkpoint
from sskd_tutor.distill.joint import Term
from sskd_tutor.distill.losses import soft_kl
from sskd_tutor.distill.trackers import LogRun
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.staged import StagedNet
from sskd_tutor.nets.weights import load_weights

torch.set_num_threads(1)

def one_each(learn, teacher, **kwargs): return learn.fit_sskd(teacher, **{**dict(epochs=1, head_epochs=1), **kwargs})

# --- a teacher of other classes

def test_a_teacher_of_other_classes(capsys):
    "Its answers are no classes of the task: no stitched accuracy, no fidelity, and the run is whole"
    torch.manual_seed(0)
    learn, teacher = new_learner(staged(4)), staged(8, n_out=1000)
    learn.progress = None  # so that sentences are printed
    run = one_each(learn, teacher, cbs=RecordAlignment(sample=20))
    why = 'the teacher answers with 1,000 classes, the student with 10'
    assert run.unstitched == why and why in capsys.readouterr().out
    assert 'stitched' not in set(run.history.measure) | set(run.record.measures.measure)
    assert run.record.info['unstitched'] == why and run.record.final == {}
    assert run.stages.stitched.isna().all() and not run.plan.stitched

def two_labels(n=20):
    "Each image has a class and a color, as of a `DataBlock` with two `CategoryBlock`s"
    items = [(torch.rand(1, 10, 10), torch.tensor(i % 3), torch.tensor(i % 2)) for i in range(n)]
    dls = DataLoaders(*(DataLoader(items, 10, num_workers=0, device=cpu) for _ in range(2)), device=cpu)
    dls.train.n_inp = dls.valid.n_inp = 1
    dls.c, dls.vocab = L(3, 2), L(CategoryMap(['a', 'b', 'c']), CategoryMap(['red', 'blue']))
    return dls

def both(pred, y, z):
    y, z = y.long(), z.long()
    return nn.functional.cross_entropy(pred[:, :3], y) + nn.functional.cross_entropy(pred[:, 3:], z)

@pytest.mark.parametrize('kind', ['network', 'learner', 'learner of one label'])
def test_two_labels_for_each_image(kind, capsys):
    torch.manual_seed(0)
    learn = new_learner(staged(4, n_out=5), two_labels(), loss_func=both, metrics=None)
    learn.progress, teacher = None, staged(8, n_out=5)
    if kind != 'network': teacher = new_learner(teacher, two_labels(), loss_func=both)
    if kind == 'learner of one label': teacher.dls.vocab = CategoryMap(list('abcde'))
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)   # such as: end_run failed
        run = one_each(learn, teacher, cbs=RecordAlignment(sample=20) if kind == 'network' else None)
    if kind == 'network': assert run.record.final == {}
    assert run.unstitched == 'an image has several labels' and run.unstitched in capsys.readouterr().out
    assert run.stages.stitched.isna().all() and run.stages.nmse.notna().sum() == 3

class TwoAnswers(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pool, self.a, self.b = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(width, 10), nn.Linear(width, 2)
    def forward(self, x): return self.a(self.pool(x)), self.b(self.pool(x))

def test_a_head_with_two_answers():
    "Nothing says which of them is the class, so nothing is stitched"
    torch.manual_seed(0)
    teacher, student = (StagedNet(dict(staged(w).stages), TwoAnswers(4*w)) for w in (8, 4))
    def of_one(answer, y): return nn.functional.cross_entropy(answer, y.long() % answer.shape[1])
    def summed(answers, y): return sum(of_one(answer, y) for answer in answers)
    run = one_each(new_learner(student, loss_func=summed, metrics=None), teacher)
    assert run.stages.stitched.isna().all() and run.stages.nmse.notna().sum() == 3

def test_the_students_head_does_not_matter_if_it_is_replaced():
    "A student with the 1,000 outputs of its library that takes the teacher's head"
    torch.manual_seed(0)
    learn, teacher = new_learner(staged(4, n_out=1000)), staged(8)
    learn.dls.c = 10
    run = one_each(learn, teacher, head_epochs=0)
    assert run.unstitched == '' and run.stages.stitched['stage3'] >= 0

def test_a_callback_that_fails_at_the_end_does_not_cost_the_run():
    class AtEnd(RunCallback):
        def end_phase(self, learn, run):
            if learn.sskd_phase == 'head': raise ZeroDivisionError('mine')
        def end_run(self, learn, run): raise ZeroDivisionError('mine')
    teacher, student = pair()
    learn = new_learner(student)
    with pytest.warns(UserWarning, match='AtEnd.end_run failed, the run itself is whole: ZeroDivisionError: mine'):
        run = one_each(learn, teacher, cbs=AtEnd())
    assert list(run.stages.index) == ['stage1', 'stage2', 'stage3', 'head'] and learn.sskd_run is None

def test_a_callback_that_fails_earlier_stops_the_run():
    class Early(RunCallback):
        def end_phase(self, learn, run): raise ZeroDivisionError('mine')
    teacher, student = pair()
    with pytest.raises(ZeroDivisionError): one_each(new_learner(student), teacher, cbs=Early())

# --- parameters that get no gradient

class Checkpointed(nn.Module):
    def __init__(self, module, reentrant):
        super().__init__()
        self.module, self.reentrant = module, reentrant
    def forward(self, x): return checkpoint(self.module, x, use_reentrant=self.reentrant)

def checkpointed(reentrant):
    student = staged(4, p=0.)
    student.stages['stage2'] = Checkpointed(student.stages['stage2'], reentrant)
    return student

@pytest.mark.parametrize('cached', [False, True])
def test_reentrant_checkpointing(cached):
    "A frozen stage's map asks for no gradient, so nothing inside would learn"
    torch.manual_seed(0)
    student, teacher = checkpointed(True), staged(8)
    before = snapshot(student)
    cbs = CacheFeatures(views=1) if cached else None
    with warnings.catch_warnings(), pytest.raises(ValueError, match='stage2: 3 parameters should learn.*stage2.module.0.weight'):
        warnings.simplefilter('ignore')
        one_each(new_learner(student), teacher, cbs=cbs)
    assert not any('stage2' in name and 'running' not in name and 'num_batches' not in name for name in moved(before, student))

def test_checkpointing_without_reentry():
    torch.manual_seed(0)
    student = checkpointed(False)
    before = snapshot(student)
    one_each(new_learner(student), staged(8))
    assert len(moved(before, student)) == len(before)

def test_parameters_that_nothing_uses():
    teacher, student = pair()
    student.stages['stage1'].register_parameter('spare', nn.Parameter(torch.zeros(3)))
    student.head.unused = nn.Linear(2, 2)
    class Head(nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head, self.unused = head, nn.Linear(2, 2)
        def forward(self, x): return self.head(x)
    student = StagedNet(dict(student.stages.items()), Head(staged(4).head))
    with pytest.raises(ValueError, match='stage1: 1 parameters should learn.*spare'): one_each(new_learner(student), teacher)
    student.stages['stage1'].spare.requires_grad_(False)
    one_each(new_learner(student), teacher)

# --- what ran, not what was planned

class StopIn(Callback):
    "Ends the fit of a phase after so many of its batches"
    order = 90
    def __init__(self, phase, batches): self.phase, self.left = phase, batches
    def after_batch(self):
        if not self.training or self.learn.sskd_phase != self.phase: return
        self.left -= 1
        if not self.left: raise CancelFitException

def steps_of(run, phase): return run.costs[phase]['gmacs']*1e9/50

def distill(n=250, **kwargs):
    teacher, student = pair()
    return one_each(new_learner(student, small_dls(n=n)), teacher, **{**dict(epochs=5, head_epochs=2), **kwargs})

def test_cancelled_fits():
    "10 of 25 batches"
    whole, short = distill(), distill(cbs=StopIn('stage2', 10))
    assert [c['batches'] for c in whole.costs.values()] == [25, 25, 25, 10]
    assert [c['batches'] for c in short.costs.values()] == [25, 10, 25, 10]
    assert short.stages.epochs.tolist() == [5, 2, 5, 2]
    assert short.stages.gmacs['stage2'] == pytest.approx(whole.stages.gmacs['stage2']*10/25)
    assert short.stages.macs_per_image['stage2'] == pytest.approx(whole.stages.macs_per_image['stage2'])
    assert whole.stages.gmacs.tolist() == pytest.approx(whole.stages.planned_gmacs.tolist())

def test_early_stopping_keeps_the_last_epoch():
    stop = EarlyStoppingCallback('valid_loss', min_delta=1e9, patience=2)
    run = distill(cbs=stop)
    epochs = run.history.query("measure == 'valid_loss'").groupby('stage').epoch.max() + 1
    assert (run.stages.epochs == epochs[run.stages.index]).all() and run.stages.epochs.tolist() == [3, 3, 3, 2]
    assert [c['batches'] for c in run.costs.values()] == [15, 15, 15, 10]

@pytest.mark.parametrize('how,batches,epochs', [
    (dict(cbs=ShortEpochCallback(pct=.4)), 15, 5), (dict(fit=Learner.fine_tune), 30, 6),
    (dict(fit=Learner.fit, start_epoch=3), 10, 2)], ids=['short epochs', 'fine_tune', 'start_epoch'])
def test_other_ways_to_fit(how, batches, epochs):
    "A short epoch, two fits in one, epochs that are left out"
    run, plain = distill(**how | dict(head_epochs=4)), distill()
    for stage in ('stage1', 'stage2', 'stage3'):
        assert (run.costs[stage]['batches'], run.costs[stage]['epochs']) == (batches, epochs)
        assert run.stages.macs_per_image[stage] == pytest.approx(plain.stages.macs_per_image[stage])
        seen = run.history.query(f"stage == {stage!r} and measure == 'valid_loss'").epoch
        assert seen.is_unique and len(seen) == epochs
    assert run.stages.gmacs['stage3'] == pytest.approx(run.stages.planned_gmacs['stage3']*batches/25)

def test_with_a_cache():
    "Steps are counted, and each remembered map is made once"
    run = distill(cbs=[CacheFeatures(views=1), StopIn('stage3', 7)])
    assert [c['batches'] for c in run.costs.values()] == [25, 25, 7, 10]
    whole = distill(cbs=CacheFeatures(views=1))
    assert run.stages.gmacs['stage3'] < whole.stages.gmacs['stage3']
    assert whole.stages.gmacs.tolist() == pytest.approx(whole.stages.planned_gmacs.tolist())

def test_joint_training():
    teacher, student = pair()
    learn = new_learner(student, small_dls(n=250))
    run = learn.fit_joint(teacher, 5, terms=Term(soft_kl), cbs=ShortEpochCallback(pct=.4))
    assert (run.costs['joint']['batches'], run.costs['joint']['epochs']) == (15, 5)
    teacher, student = pair()
    whole = new_learner(student, small_dls(n=250)).fit_joint(teacher, 5, terms=Term(soft_kl))
    assert run.gmacs == pytest.approx(whole.gmacs*15/25)

# --- callbacks by phase

class Phases(Callback):
    def __init__(self): self.seen = []
    def before_fit(self): self.seen.append(self.learn.sskd_phase)

def test_callbacks_by_phase():
    a, b = Phases(), Phases()
    distill(epochs=1, head_epochs=1, cbs=dict(stage2=a, head=[a, b]))
    assert (a.seen, b.seen) == (['stage2', 'head'], ['head'])

def refused(match, **kwargs):
    teacher, student = pair()
    learn = new_learner(student, **{k: kwargs.pop(k) for k in ('dls',) if k in kwargs})
    before = snapshot(student)
    with pytest.raises(ValueError, match=match): one_each(learn, teacher, **kwargs)
    assert not moved(before, student)

def test_callbacks_of_no_phase():
    refused("cbs has 'stage4'.*stage3", cbs=dict(stage4=Phases()))
    refused("cbs has 'head'", cbs=dict(head=Phases()), head_epochs=0)
    refused(r"RecordAlignment follows the whole run.*learn.add_cb\(RecordAlignment", cbs=dict(stage1=RecordAlignment()))

@pytest.mark.parametrize('make', [EarlyStoppingCallback, SaveModelCallback])
def test_monitors(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a model is saved
    refused("watches 'nmse', which head does not measure: it has train_loss, valid_loss, accuracy", cbs=make('nmse'))
    refused("watches 'accuracy', which stage1 does not measure", cbs=[make('accuracy')])
    refused("watches 'stitched', which head", cbs=dict(stage1=make('stitched'), head=make('stitched')))
    refused("'valid_loss' after every epoch, but valid_every is 2", cbs=make('valid_loss'), valid_every=2)
    distill(epochs=1, head_epochs=1, cbs=dict(stage1=make('nmse'), head=make('accuracy')))

def test_a_monitor_on_the_learner():
    teacher, student = pair()
    learn = new_learner(student, cbs=EarlyStoppingCallback('nmse'))
    for head_epochs in (1, 0):
        with pytest.raises(ValueError, match="which head does not measure"): one_each(learn, teacher, head_epochs=head_epochs)
    one_each(new_learner(student), teacher, head_epochs=0, cbs=EarlyStoppingCallback('nmse'))

def test_files_by_phase(tmp_path):
    teacher, student = pair()
    learn = new_learner(student, path=tmp_path)
    save, table = SaveModelCallback(fname='best'), CSVLogger()
    one_each(learn, teacher, epochs=2, cbs=[save, table])
    phases = ['stage1', 'stage2', 'stage3', 'head']
    assert sorted(p.name for p in (tmp_path/'models').iterdir()) == sorted(f'best_{p}.pth' for p in phases)
    tables = {phase: pd.read_csv(tmp_path/f'history_{phase}.csv') for phase in phases}
    assert [len(t) for t in tables.values()] == [2, 2, 2, 1] and 'nmse' in tables['stage2'] and 'accuracy' in tables['head']
    assert (save.fname, table.fname) == ('best', Path('history.csv'))
    one_each(learn, teacher, cbs=dict(head=SaveModelCallback(fname='only')))
    assert (tmp_path/'models'/'only.pth').exists()

class Curves(dict):
    "A tracker with TensorBoard's `add_scalar`"
    def add_scalar(self, name, value, step): self.setdefault(name, []).append((step, value))

def test_a_tracker_follows_the_whole_run(tmp_path):
    "Steps count on across phases, and across a resume"
    whole = Curves()
    distill(epochs=2, head_epochs=1, cbs=[LogRun(whole), EarlyStoppingCallback('valid_loss', min_delta=1e9)])
    assert [step for step, _ in whole['stage1/nmse']] == [5, 10] and [s for s, _ in whole['stage3/stitched']] == [25, 30]
    assert [step for step, _ in whole['head/accuracy']] == [35] and 'head/nmse' not in whole
    broken = Curves()
    for resume in (False, True):
        stop = [] if resume else [StopRun('stage2')]
        try: distill(epochs=2, head_epochs=1, cbs=[LogRun(broken), Checkpoint(tmp_path, every=0, resume=resume), *stop])
        except KeyboardInterrupt: pass
    assert {name: [step for step, _ in found] for name, found in broken.items()} == {
        name: [step for step, _ in found] for name, found in whole.items()}

class Wall(Curves):
    def add_image(self, name, pixels, step, dataformats): self.setdefault(name, []).append((step, pixels))

def test_a_tracker_gets_maps():
    "Of each stage, after each of its validations, whatever feeds it; the run is the same to the bit"
    runs, walls = [], []
    for cache in ([], [CacheFeatures(views=1, budget='50 MB')]):
        walls.append(Wall())
        runs.append(distill(epochs=2, head_epochs=1, cbs=[LogRun(walls[-1], maps=3), *cache]))
    for wall in walls:
        assert [step for step, _ in wall['stage1/maps']] == [5, 10] and 'head/maps' not in wall
        assert all(pixels.dtype == np.uint8 and pixels.max() == 255 for _, pixels in wall['stage2/maps'])
    plain = distill(epochs=2, head_epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(plain.student.state_dict().values(), runs[0].student.state_dict().values()))

def test_a_tracker_with_its_own_images():
    class Run:
        def __init__(self): self.told = []
        def log(self, values, step): self.told.append(values)
    run = Run()
    distill(epochs=1, head_epochs=1, cbs=LogRun(run, maps=2, image=lambda pixels: ('image', pixels.shape)))
    assert run.told[0]['stage1/maps'][0] == 'image' and 'stage1/nmse' in run.told[0] and 'head/maps' not in run.told[-1]

class StopRun(Callback):
    "An interrupt in the second batch of a phase"
    order = 100
    def __init__(self, phase): self.phase = phase
    def after_batch(self):
        if self.training and self.learn.sskd_phase == self.phase and self.iter == 1: raise KeyboardInterrupt

# --- a layout that kills the process

def test_channels_last_on_a_cpu():
    "Refused before anything runs, wherever it was asked for"
    teacher, student = tutorial_resnet(8, 1), tutorial_resnet(4, 1)
    match = r'channels_last.*oneDNN.*learn.to_contiguous\(\)'
    learn = new_learner(student, cbs=ChannelsLast())
    with pytest.raises(ValueError, match=match): one_each(learn, teacher)
    with pytest.raises(ValueError, match=match): learn.fit_joint(teacher, 1, terms=Term(soft_kl))
    with pytest.raises(ValueError, match=match): one_each(new_learner(student), teacher, cbs=ChannelsLast())

# --- modules and loaders of other kinds

def test_a_batch_norm_without_statistics_is_not_remembered():
    "Its map of an image depends on the batch: with the cache the student was another one"
    def student():
        torch.manual_seed(0)
        return staged(4, norm=lambda c: nn.BatchNorm2d(c, track_running_stats=False), p=0.)
    def nmse(cbs):
        torch.manual_seed(1)
        net, dls = student(), small_dls(n=100)
        dls.train.n_views = 2
        run = one_each(new_learner(net, dls), staged(8), epochs=4, cbs=cbs)
        return snapshot(net), run
    with pytest.warns(UserWarning, match=r"stages.stage1.1 of the student is a batch norm without running statistics"):
        remembered, run = nmse(CacheFeatures(views=2))
    computed, _ = nmse(None)
    assert all(torch.equal(computed[k], remembered[k]) for k in computed) and 'bytes' not in run.stages

class Worded(nn.Conv2d):
    "Keeps a word in its state_dict"
    word = 'red'
    def get_extra_state(self): return [self.word]
    def set_extra_state(self, state): self.word, = state

def with_extra(net):
    net.stages['stage1'][0] = Worded(1, net.stages['stage1'][0].out_channels, 3, 1, 1, bias=False)
    return net

@pytest.mark.parametrize('cbs', [list, lambda: [CacheFeatures(views=1)], lambda: [RecordAlignment(sample=20)]],
                         ids=['plain', 'cache', 'recorder'])
def test_extra_state(cbs):
    torch.manual_seed(0)
    assert one_each(new_learner(with_extra(staged(4))), with_extra(staged(8)), cbs=cbs())

class Center(nn.Module):
    "Subtracts a running mean that it is given"
    def __init__(self, mean):
        super().__init__()
        self.register_buffer('mean', mean)
    def forward(self, x):
        if self.training: self.mean.lerp_(x.detach().mean(), .1)
        return x - self.mean

def test_a_moving_buffer_shared_by_stages():
    teacher, student = pair()
    mean = torch.zeros(())
    for name in ('stage1', 'stage3'): student.stages[name].append(Center(mean))
    learn, before = new_learner(student), snapshot(student)
    with pytest.raises(ValueError, match=r'stage1 and stage3 of the student share a buffer of shape \(\)'): one_each(learn, teacher)
    assert not moved(before, student)
    for name in ('stage1', 'stage3'): student.stages[name][-1] = Center(torch.zeros(()))
    one_each(learn, teacher)

def test_a_parameter_shared_by_stages():
    teacher, student = pair()
    extra = nn.Conv2d(1, 1, 1)
    for name in ('stage1', 'stage3'): student.stages[name].append(ForAll(extra))
    learn, before = new_learner(student), snapshot(student)
    with pytest.raises(ValueError, match='stage1 and stage3 of the student share the parameter'): one_each(learn, teacher)
    assert not moved(before, student)
    student.stages['stage3'][-1] = ForAll(nn.Conv2d(1, 1, 1))
    one_each(learn, teacher)

class ForAll(nn.Module):
    "One filter for every channel"
    def __init__(self, conv):
        super().__init__()
        self.conv = conv
    def forward(self, x): return self.conv(x.flatten(0, 1)[:, None]).view_as(x)

def plain_dls(n=60, classes=10):
    "fastai's plain `DataLoader` over a list"
    torch.manual_seed(0)
    data = [(torch.rand(1, 10, 10), torch.tensor(i % classes)) for i in range(n)]
    return DataLoaders(*(DataLoader(data, 10, num_workers=0) for _ in range(2)), device=cpu)

def test_the_recorder_on_a_plain_loader():
    teacher, student = pair()
    run = one_each(new_learner(student, plain_dls()), teacher, cbs=RecordAlignment(sample=20))
    assert run.record.final['student']['n'] == 60

def test_one_output():
    "Yes or no, with integer labels: an ordinary fit takes them"
    torch.manual_seed(0)
    loss = BCEWithLogitsLossFlat()
    learn = new_learner(staged(4, n_out=1), plain_dls(classes=2), loss_func=loss, metrics=None)
    run = one_each(learn, staged(8, n_out=1), cbs=RecordAlignment(sample=20))
    assert run.unstitched == 'a single output names no class' and run.record.final == {}
    strict = new_learner(staged(4, n_out=1), plain_dls(classes=2), metrics=None)
    with pytest.raises(ValueError, match='the head has 1 outputs'): one_each(strict, staged(8, n_out=1))

class Greedy(Callback):
    "Asks for more memory than there is"
    def after_pred(self): torch.empty(2**60, dtype=torch.uint8)

def test_out_of_memory():
    teacher, student = pair()
    with pytest.raises(torch.OutOfMemoryError, match=r"out of memory on cpu in stage1. Make the batches smaller \(bs is 50.*tuned"):
        one_each(new_learner(student), teacher, cbs=Greedy())
    with pytest.raises(torch.OutOfMemoryError, match="The plan remembers up to .*budget=.*where='disk'"):
        one_each(new_learner(student), teacher, cbs=[Greedy(), CacheFeatures(views=1)], epochs=2)

# --- weights as they are published

def test_weights_without_a_count_of_batches(tmp_path):
    "As PyTorch itself takes them"
    net = staged(4)
    weights = {k: v for k, v in staged(4).state_dict().items() if not k.endswith('num_batches_tracked')}
    torch.save(weights, tmp_path/'old.pt')
    load_weights(net, tmp_path/'old.pt')
    assert all(torch.equal(net.state_dict()[k], v) for k, v in weights.items())
