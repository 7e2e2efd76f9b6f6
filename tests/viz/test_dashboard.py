"""The logic of dashboard and explorer, without a browser; the drawn page is tested in test_browser.py."""
import copy, sys
from importlib.resources import files

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import accuracy

import sskd_tutor.distill.fit  # noqa: F401, gives Learner its fit_sskd
from sskd_tutor.viz import panels
from sskd_tutor.viz.board import Board, chips, seal_of
from sskd_tutor.viz.dashboard import LiveAlignment
from sskd_tutor.data.loaders import ImageSet, fashion_dls
from sskd_tutor.data.images import balanced, embedded_fashion
from sskd_tutor.viz.style import color_of, ink, paper
from sskd_tutor.viz.explorer import Explorer, following, views
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.weights import fashion_teacher
from sskd_tutor.nets.small import tutorial_resnet

folder = files('sskd_tutor')/'data_files'/'example_recording'

@pytest.fixture(scope='module')
def recorded(): return Recording.load(folder)

@pytest.fixture
def rec(recorded): return copy.deepcopy(recorded)

@pytest.fixture
def learn():
    dls = fashion_dls(n=100, bs=25, device='cpu')
    dls = DataLoaders(dls.train, dls.valid.new(ImageSet(balanced(embedded_fashion('valid'), 5)[0], split_idx=1)))
    return Learner(dls, tutorial_resnet(width=2, blocks=1), metrics=accuracy)

small = dict(images=2, points=16, sample=32, controls=False, final=False)

class Fail(Callback):
    order = 90
    def __init__(self, at, error): self.at, self.error = at, error
    def after_batch(self):
        if (self.learn.sskd_phase, self.epoch + 1) == self.at: raise self.error

# --- live

def test_every_panel_changes_at_every_look(rec):
    board = Board(rec.schedule)
    empty, before = {v: p.to_json() for v, p in board.panels.items()}, board.blocks['stage1'].value
    board.begin('stage1', 0)
    board.epoch_done(1, dict(train_loss=.5, valid_loss=.4, nmse=.4, stitched=.3))
    board.record(rec)
    assert all(p.to_json() != empty[v] for v, p in board.panels.items())
    assert board.blocks['stage1'].value != before and board.below.layout.display is None
    one, maps = {v: p.to_json() for v, p in board.panels.items()}, board.blocks['stage1'].value
    rec.measures = rec.measures[rec.measures.step < 3]
    rec.maps = {k: v if k[0] == 'teacher' else v[:3] for k, v in rec.maps.items()}
    rec.steps = rec.steps[:3]
    board.record(rec)
    assert all(board.panels[v].to_json() != one[v] for v in ('cka', 'curves')) and board.blocks['stage1'].value != maps

def test_maps_move_within_an_epoch_and_finished_stages_stay(learn):
    "In old versions the maps of stage 1 read 'before training' until it was over, and stage 2's took their place at once"
    class Watch(Callback):
        order, seen = 95, []
        def after_batch(self):
            if self.training: self.seen.append((self.learn.sskd_phase, {k: b.value for k, b in live.board.blocks.items()}))
        def before_batch(self): live.tick = 0.   # look after every batch
    live, watch = LiveAlignment(widgets=True, **small | dict(images=6, sample=24)), Watch()
    run = learn.fit_sskd(fashion_teacher(), epochs=2, head_epochs=1, cbs=[live, watch])
    in_stage = [blocks for phase, blocks in watch.seen if phase == 'stage1']
    assert len({b['stage1'] for b in in_stage}) >= 6, "8 batches in two epochs"
    later = [blocks for phase, blocks in watch.seen if phase == 'stage2']
    assert all('frozen' in b['stage1'] and 'learns' in b['stage2'] for b in later)
    assert len({b['stage1'] for b in later}) == 1 and later[-1]['stage1'].count('<img') == 4
    assert run.record.info['share_spent'] > 0

def test_peeks_change_nothing(learn):
    "Not a bit of the student, not a random draw"
    from sskd_tutor.core.state import tensors_sha256
    found = []
    for peek in (False, True):
        torch.manual_seed(0)
        net = tutorial_resnet(width=2, blocks=1)
        one = Learner(learn.dls, net, metrics=accuracy)
        live = LiveAlignment(widgets=peek, **small)
        one.fit_sskd(fashion_teacher(), epochs=1, head_epochs=1, cbs=live)
        found.append((tensors_sha256(net), torch.rand(1).item()))
    assert found[0] == found[1]

def test_a_broken_seal_is_shown(rec):
    done = rec.stages[0]
    digits, same = seal_of(rec, done)
    assert same and digits == rec.checksums[done][-1] and 'changed!' not in chips(rec.schedule, 'head', [done], rec)
    rec.checksums[done][-1] = 'x'*8
    assert seal_of(rec, done) == (digits, False) and 'changed!' in chips(rec.schedule, 'head', [done], rec)
    assert seal_of(rec, 'head') == ('', True)

@pytest.mark.parametrize('error, said', [(KeyboardInterrupt(), 'interrupted in stage2, epoch 2'),
                                         (RuntimeError('too small'), 'stopped by RuntimeError in stage2, epoch 2: too small')])
def test_the_last_word_is_true(learn, error, said):
    live = LiveAlignment(widgets=True, **small)
    bars = [c.name for c in learn.cbs]
    with pytest.raises(type(error)): learn.fit_sskd(fashion_teacher(), epochs=3, cbs=[live, Fail(('stage2', 2), error)])
    assert all(words in live.board.text.value for words in (said, 'class="chip broken"', 'stage2 stopped'))
    assert sorted(c.name for c in learn.cbs) == sorted(bars), "fastai's own progress bar is back"

def test_measures_and_draws_within_its_share(learn, capsys):
    live = LiveAlignment(widgets=True, share=0, **small)
    run = learn.fit_sskd(fashion_teacher(), epochs=3, head_epochs=2, cbs=live)
    looks = list(zip(run.record.steps.phase, run.record.steps.epoch))
    assert looks == [('start', 0), ('stage1', 3), ('stage2', 3), ('stage3', 3), ('head', 2)]
    assert live.board.state == 'finished' and 0 < run.record.info['share_spent'] < 1
    assert live.spent >= run.record.steps.measuring_seconds.sum(), "drawing is on the bill"
    assert 'train_loss' not in capsys.readouterr().out, "a dashboard and no table"

def test_without_a_front_end_it_says_so_once(learn, capsys):
    live = LiveAlignment(**small)
    learn.fit_sskd(fashion_teacher(), epochs=1, head_epochs=1, cbs=live)
    out = capsys.readouterr().out
    assert out.count('as a film at its end') == 1 and 'train_loss' in out and live.widget is None and len(live.figures()) == 2
    assert len(live.figures()[1].frames) == len(live.recording.steps), "at least one an epoch"
    assert live.film().html.count('<script>') == 1
    with pytest.raises(ValueError, match='cbs=live'): LiveAlignment().figures()

def test_anywidget_is_named_with_its_cure(monkeypatch):
    class Shell: kernel, user_ns = object(), {}
    monkeypatch.setattr(panels, 'get_ipython', Shell)
    monkeypatch.delenv('JPY_SESSION_NAME', raising=False)
    assert 'nbconvert' in panels.no_widgets()
    monkeypatch.setenv('JPY_SESSION_NAME', 'a.ipynb')
    assert panels.no_widgets() == ''
    monkeypatch.setitem(sys.modules, 'anywidget', None)
    assert 'pip install anywidget' in panels.no_widgets()

@pytest.mark.parametrize('channel', [4, -1])
def test_a_channel_that_is_not_recorded_is_an_error_now(channel):
    "It was an IndexError: with widgets after the dashboard was shown, without them after the whole training"
    with pytest.raises(ValueError, match=f'channel is {channel}; expected 0 to 3, or record more: channels='):
        LiveAlignment(channel=channel, **small)

def test_words_in_the_place_of_a_figure_can_be_read_in_the_dark(rec):
    "They were dark on dark, and on the white page of a notebook without paper"
    waiting = Board(rec.schedule, theme='dark').panels['curves'].layout
    def cannot(theme): raise ValueError('no maps')
    failed = panels.drawn(cannot, theme='dark').layout
    for layout in (waiting, failed):
        assert (layout.annotations[0].font.color, layout.paper_bgcolor) == (ink['dark'], paper['dark'])
    assert panels.drawn(cannot).layout.paper_bgcolor == panels.clear

def test_a_resumed_run_knows_its_finished_stages(rec):
    "They read 'waits', their epochs were counted as to come, and the first stage that was drawn had another's color"
    board = Board(rec.schedule)
    board.begin('stage2', 1)
    board.pace = 1.
    assert board.done == ['stage1'] and board.stage_state('stage1') == 'frozen' and board.seconds_left() == 9 + 10 + 4
    board.epoch_done(2, dict(train_loss=.5, valid_loss=.4, nmse=.4, stitched=.3))
    assert {trace.line.color for trace in board.panels['loss'].data} == {color_of(rec.stages)['stage2']}

# --- explorer

def test_it_plays(rec):
    ex = Explorer(rec)
    ex.play.value = 3
    assert ex.step.value == 3 and "stage1, epoch 3" in ex.says.value
    ex.step.value = 5
    assert ex.play.value == 5

def test_every_control_redraws_what_follows_it(rec):
    ex = Explorer(rec)
    assert ex.widget is not None
    other = dict(stage=rec.stages[1], step=1, image=1, channel=1, measure='nmse', partner=rec.stages[2])
    for control, value in other.items():
        before = {v: f.to_json() for v, f in ex.panels.items()}
        getattr(ex, control).value = value
        moved = {v for v, f in ex.panels.items() if f.to_json() != before[v]}
        assert moved and moved <= set(following(control)), (control, moved)
        assert all(f.layout.title.text == ex.view(v).layout.title.text for v, f in ex.panels.items()), control

def test_one_image_one_stage_one_step(rec):
    s = rec.stages[0]
    rec.images, rec.labels = rec.images[:1], rec.labels[:1]
    rec.maps = {k: v[:1, :1] for k, v in rec.maps.items() if k[1] == s}
    rec.projection = {k: v[:1] for k, v in rec.projection.items() if k[1] == s}
    rec.match, rec.checksums, rec.steps = {s: rec.match[s][:1]}, {s: rec.checksums[s][:1]}, rec.steps[:1]
    t = rec.measures
    rec.measures = t[(t.step == 0) & t.student.isin([s, '']) & t.teacher.isin([s, ''])]
    rec.schedule = {s: rec.schedule[s], 'head': rec.schedule['head']}
    ex = Explorer(rec)
    assert ex.widget is not None and all(ex.view(v).data for v in views())

def test_what_is_not_there_is_said(rec, tmp_path):
    rec.measures.loc[rec.measures.measure.str.startswith('cka'), ['value', 'low', 'high']] = np.nan
    ex = Explorer(rec)
    ex.choose_pair(rec.stages[1], rec.stages[0])
    assert 'undefined' in ex.says.value and 'undefined' in ex.view('cka').to_json()
    for v in views(): assert 'nan' not in ex.view(v).to_json().lower().replace('nanmean', '')
    rec.maps.clear()
    assert 'no maps' in ex.view('maps').layout.annotations[0].text.replace('<br>', ' ')
    with pytest.raises(ValueError, match='does not hold together'): Explorer(rec)
    with pytest.raises(FileNotFoundError, match='no alignment.csv'): Explorer.from_folder(tmp_path)
    with pytest.raises(TypeError, match='from_folder'): Explorer(str(tmp_path))
