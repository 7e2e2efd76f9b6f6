"""Stages fed by the teacher: independent of each other to the bit, and the same as student-fed where both must agree."""
import copy

import pytest
import torch
from fastai.callback.core import Callback

from sskd_tutor.core.state import bits, changed
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.checkpoint import Checkpoint
from sskd_tutor.distill.losses import mimic_mse
from sskd_tutor.distill.teacher_fed import Fed
from sskd_tutor.nets.staged import StagedNet
from sskd_tutor.measure.recorder import RecordAlignment
from helpers.pairs import moved, new_learner, norms, small_dls, snapshot, staged

def two_views():
    dls = small_dls()
    dls.train.n_views = 2
    return dls

def pair(width=8, norm='BatchNorm', p=0.):
    torch.manual_seed(0)
    return staged(8, norm=norms[norm], p=p), staged(width, norm=norms[norm], p=p)   # teacher, student

def fitted(feed, width=8, cbs=None, epochs=2, dls=None, **kwargs):
    teacher, student = pair(width)
    learn = new_learner(student, dls or two_views())
    torch.manual_seed(1)
    run = learn.fit_sskd(teacher, epochs, kwargs.pop('head_epochs', 1), 1e-2, cbs=cbs, feed=feed, **kwargs)
    return learn, run

def stage_bits(net, name): return bits(net.stages[name])

def test_stage1_is_that_of_student_fed_to_the_bit():
    (a, _), (b, _) = fitted('student'), fitted('teacher')
    assert not changed(stage_bits(a.model, 'stage1'), b.model.stages['stage1'])
    assert changed(stage_bits(a.model, 'stage2'), b.model.stages['stage2'])   # teeth: the others differ

@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_any_order_gives_the_same_bits(order):
    whole, _ = fitted('teacher', head_epochs=0)
    teacher, student = pair()
    learn = new_learner(student, two_views())
    for k in order: learn.fit_stage(teacher, k, 2, 1e-2, feed='teacher')
    for name in student.stage_names: assert not changed(stage_bits(whole.model, name), student.stages[name])

def test_teeth_order_matters_when_the_student_feeds():
    found = []
    for order in ((0, 1), (1, 0)):
        teacher, student = pair()
        learn = new_learner(student, two_views())
        for k in order: learn.fit_stage(teacher, k, 1, 1e-2)
        found.append(student)
    assert changed(stage_bits(found[0], 'stage2'), found[1].stages['stage2'])

@pytest.mark.parametrize('cbs', [None, 'cache'])
def test_a_perfect_student_gets_the_same_from_both_feeds(cbs):
    "Without batch norm, dropout and weight decay a copy of the teacher has nothing to learn, so both feeds agree"
    nets = []
    for feed in ('student', 'teacher'):
        teacher, _ = pair(norm='GroupNorm')
        student = copy.deepcopy(teacher)
        learn = new_learner(student, two_views())
        run = learn.fit_sskd(teacher, 1, 1, 1e-2, loss=mimic_mse, wd=0., feed=feed, cbs=CacheFeatures(2) if cbs else None)
        assert run.history.query("measure == 'train_loss' and phase == 'mimic'").value.max() == 0
        nets.append(student)
        assert not changed(bits(teacher.stages), student.stages)
    assert not changed(bits(nets[0]), nets[1])

@pytest.mark.parametrize('width', [8, 4])
@pytest.mark.parametrize('budget', [0, None])
def test_remembered_is_the_same_student(width, budget):
    (a, _), (b, _) = fitted('teacher', width), fitted('teacher', width, CacheFeatures(2, budget))
    assert not changed(bits(a.model), b.model)

@pytest.mark.parametrize('width', [8, 4])
@pytest.mark.parametrize('cached', [False, True])
def test_planned_is_spent(width, cached):
    dls = two_views()
    cbs = CacheFeatures(2) if cached else None
    _, run = fitted('teacher', width, cbs, epochs=dict(stage1=1, stage2=3, stage3=2), dls=dls)
    table = run.stages
    assert table.gmacs.to_numpy() == pytest.approx(table.planned_gmacs.to_numpy(), rel=1e-3)

def test_no_student_prefix_runs():
    ran = []
    class Watch(Callback):
        keeps_images = True
        def before_fit(self):
            if self.learn.sskd_phase == 'stage3': ran.extend(self.learn.model.stages)
    fitted('teacher', cbs=Watch())
    assert set(ran) == {'stage3'}
    dls = two_views()
    own = [fitted(feed, dls=dls)[1].costs['stage3']['gmacs'] for feed in ('student', 'teacher')]
    assert own[1] < own[0]

def test_a_narrower_student_is_put_together():
    learn, run = fitted('teacher', 4, head_epochs=0)
    x = learn.dls.train.one_batch()[0]
    stages = learn.model.eval().stages
    assert all(isinstance(stages[name], Fed) and stages[name].joined for name in stages)
    assert learn.model(x).shape == (50, 10)
    by_hand = x
    for k, name in enumerate(stages):
        if k: by_hand = stages[name].entrance(by_hand)
        by_hand = run.adapters[name](stages[name].stage(by_hand))
    torch.testing.assert_close(learn.model(x), run.teacher.head.eval()(by_hand))

def test_an_error_leaves_the_student_as_it_was():
    class Stop(Callback):
        keeps_images = True
        def after_epoch(self):
            if self.learn.sskd_phase == 'stage2': raise KeyboardInterrupt
    teacher, student = pair(4)
    learn = new_learner(student, small_dls())
    with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, 1, 1, feed='teacher', cbs=Stop())
    assert not any(isinstance(stage, Fed) for stage in student.stages.values())
    assert learn.model is student and student(learn.dls.one_batch()[0]).shape == (50, 10)

@pytest.mark.parametrize('stop', ['stage2', 'head'])
def test_an_interrupted_run_goes_on_to_the_same_student(tmp_path, stop):
    class Stop(Callback):
        order, keeps_images = 100, True
        def after_epoch(self):
            if self.learn.sskd_phase == stop and not self.epoch: raise KeyboardInterrupt
    whole, _ = fitted('teacher', 4, head_epochs=2)
    with pytest.raises(KeyboardInterrupt): fitted('teacher', 4, [Checkpoint(tmp_path, every=0), Stop()], head_epochs=2)
    resumed, _ = fitted('teacher', 4, Checkpoint(tmp_path, every=0, resume=True), head_epochs=2)
    assert not changed(bits(whole.model), resumed.model)

def test_another_feed_is_another_run(tmp_path):
    fitted('teacher', cbs=Checkpoint(tmp_path, every=0))
    with pytest.raises(ValueError, match='feed'): fitted('student', cbs=Checkpoint(tmp_path, every=0, resume=True))

def test_the_plan_is_for_one_feed():
    teacher, student = pair()
    learn = new_learner(student, small_dls())
    plan = learn.sskd_plan(teacher, 1, 1, timed=False, feed='teacher')
    assert "teacher's stage1" in plan.table.input['stage2']
    with pytest.raises(ValueError, match='its feed is teacher'): learn.fit_sskd(teacher, 1, 1, plan=plan)

def test_what_cannot_be_fed():
    class Reads(StagedNet):
        chained = False
    teacher, student = pair(4)
    learn = new_learner(student, small_dls())
    with pytest.raises(ValueError, match="did you mean 'teacher'"): learn.fit_sskd(teacher, 1, feed='techer')
    with pytest.raises(ValueError, match='stage2 takes .* adds entrances'): learn.fit_stage(teacher, 'stage2', 1, feed='teacher')
    odd = Reads(dict(student.stages), student.head)
    with pytest.raises(ValueError, match="feed='student'"): new_learner(odd, small_dls()).fit_sskd(teacher, 1, feed='teacher')
    assert not any(isinstance(stage, Fed) for stage in odd.stages.values())

def test_alignment_of_other_widths_is_refused_before_anything_trains():
    "The recorder runs stage after stage; with entrances they fit together only at the end"
    teacher, student = pair(4)
    learn, before = new_learner(student, small_dls()), snapshot(student)
    with pytest.raises(ValueError, match="RecordAlignment .*feed='teacher' stage1, stage2, stage3 take the teacher's shape.*Use"):
        learn.fit_sskd(teacher, 1, 1, feed='teacher', cbs=RecordAlignment(sample=20))
    assert not moved(before, student) and not any(isinstance(stage, Fed) for stage in student.stages.values())
    teacher, student = pair(8)
    run = new_learner(student, small_dls()).fit_sskd(teacher, 1, 1, feed='teacher', cbs=RecordAlignment(sample=20))
    assert len(run.record.steps) > 3
