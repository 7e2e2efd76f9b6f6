"""Which of fastai's callbacks work in `fit_sskd`, and how: each runs, or is refused with a sentence."""
import fastai.callback.all  # noqa: F401, defines them
import pytest
import torch
from fastai.callback.all import (ActivationStats, BnFreeze, CollectDataCallback, CSVLogger, CutMix, EarlyStoppingCallback,
                                 GradientAccumulation, GradientClip, MCDropoutCallback, MixUp, ParamScheduler,
                                 ProgressCallback, ReduceLROnPlateau,
                                 SaveModelCallback, ShortEpochCallback, ShowGraphCallback, TerminateOnNaNCallback, TrackerCallback)
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback, FetchPredsCallback
from fastai.callback.schedule import SchedCos
from fastai.learner import Learner

from helpers.pairs import moved, new_learner, pair, small_dls, snapshot

torch.set_num_threads(1)

def tensorboard(**kwargs):
    from fastai.callback.tensorboard import TensorBoardCallback   # needs TensorBoard: the extra [track]
    return TensorBoardCallback('logs', **kwargs)

works = dict(
    ActivationStats=lambda: ActivationStats(with_hist=True), BnFreeze=BnFreeze, CollectDataCallback=CollectDataCallback,
    CSVLogger=CSVLogger, CutMix=CutMix, EarlyStoppingCallback=EarlyStoppingCallback, FetchPredsCallback=FetchPredsCallback,
    GradientAccumulation=lambda: GradientAccumulation(40), GradientClip=GradientClip, MCDropoutCallback=MCDropoutCallback,
    MixUp=MixUp, ReduceLROnPlateau=ReduceLROnPlateau, SaveModelCallback=SaveModelCallback,
    ShortEpochCallback=lambda: ShortEpochCallback(pct=.5), ShowGraphCallback=ShowGraphCallback,
    TerminateOnNaNCallback=TerminateOnNaNCallback, TrackerCallback=TrackerCallback, ChannelsLast=ChannelsLast)

with_a_change = dict(   # how: keyword arguments of `fit_sskd`
    ParamScheduler=dict(fit=Learner.fit, cbs=lambda: ParamScheduler(dict(lr=SchedCos(1e-2, 1e-3)))),
    SkipToEpoch=dict(fit=Learner.fit, start_epoch=1),
    TensorBoardCallback=dict(cbs=lambda: tensorboard(log_preds=False)))

# as it comes: what it says instead of a run
refused = dict(TensorBoardCallback=(lambda: tensorboard(), 'stage1 predicts feature maps; pass log_preds=False'))

# used by other means: by fastai itself, by `learn.lr_find`, `get_preds`, `to_fp16` (on a GPU; `Bf16` on a CPU), or for texts
elsewhere = {'CastToTensor', 'GatherPredsCallback', 'HookCallback', 'LRFinder', 'MixHandler', 'MixedPrecision', 'ModelResetter',
             'ModelToHalf',
             'NonNativeMixedPrecision', 'ProgressCallback', 'RNNCallback', 'RNNRegularizer', 'Recorder', 'TensorBoardBaseCallback',
             'TensorBoardProjectorCallback', 'TrainEvalCallback'}

def distill(**kwargs):
    teacher, student = pair()
    learn, before = new_learner(student, small_dls(n=100, bs=25)), snapshot(teacher)
    if isinstance(kwargs.get('cbs'), ShowGraphCallback): learn.add_cb(ProgressCallback())  # which it draws beside
    run = learn.fit_sskd(teacher, **{**dict(epochs=2, head_epochs=2), **kwargs})
    assert not moved(before, teacher) and learn.model is student
    learn.validate()
    return run

@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

@pytest.mark.parametrize('name', works)
def test_works(name):
    run = distill(cbs=works[name]())
    assert list(run.stages.index) == ['stage1', 'stage2', 'stage3', 'head']
    assert run.stages.nmse[['stage1', 'stage2', 'stage3']].notna().all()

@pytest.mark.parametrize('name', with_a_change)
def test_works_with_a_change(name):
    how = dict(with_a_change[name])
    if 'cbs' in how: how['cbs'] = how['cbs']()
    run = distill(**how)
    left_out = how.get('start_epoch', 0)
    assert run.stages.epochs.tolist() == [2 - left_out]*4

@pytest.mark.parametrize('name', refused)
def test_refused_with_a_sentence(name):
    make, says = refused[name]
    with pytest.raises(ValueError, match=says): distill(cbs=make())

def test_predictions_may_be_shown_where_they_are_classes():
    distill(cbs=dict(head=tensorboard(trace_model=False)))

def kinds(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from kinds(sub)

def test_all_are_here():
    "Every callback that fastai defines for images has its row"
    import fastai.callback.tensorboard  # noqa: F401, defines three more
    names = {kind.__name__ for kind in kinds(Callback) if kind.__module__.startswith('fastai.')}
    assert names == {*works, *with_a_change, *elsewhere}
