"""Figures of a recording that was written by hand: what is drawn, its frames, its size, its bad input."""
import base64, inspect, io, json, math, re, sys
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from conftest import browser_flags
from sskd_tutor.core.files import pkg_data
from sskd_tutor.measure.recording import Recording, measure_columns, step_columns
import sskd_tutor.viz.alignment, sskd_tutor.viz.maps, sskd_tutor.viz.outcome, sskd_tutor.viz.points
from sskd_tutor.viz.alignment import channel_match, cka_map, measure_curves, pair_curve
from sskd_tutor.viz.points import projection
from sskd_tutor.viz.blocks import recorded_block
from sskd_tutor.viz.explorer import Explorer
from sskd_tutor.viz.film import film, frame
from sskd_tutor.viz.player import player
from sskd_tutor.viz.walls import image_uri, image_wall, ten_images
from sskd_tutor.viz.gallery import chapters_of, figures as registered, gallery, save_figures
from sskd_tutor.viz.maps import feature_maps, map_wall
from sskd_tutor.viz.moments import moment
from sskd_tutor.viz.motion import animated, redraw
from sskd_tutor.viz.outcome import agreement, cost_panel, reliability
from sskd_tutor.viz.style import gray
from sskd_tutor.runs.saved import save_run, write_report
from sskd_tutor.nets.small import tutorial_resnet
from test_report import history, info

stages, schedule = ['stage1', 'stage2'], dict(stage1=2, stage2=2, head=1)
when = [('start', 0), ('stage1', 1), ('stage1', 2), ('stage2', 1), ('stage2', 2), ('head', 1)]
n, m, side = 3, 5, dict(stage1=6, stage2=4)
nan = math.nan

def card(acc, agree, over):
    bins = dict(confidence=[.3, .6, .9], accuracy=[.3 - over, .6 - over, .9 - over], count=[10, 0, 30])
    return dict(accuracy=acc, agreement=agree, kl=.5, ece=over, by_class=[acc, None, acc - .1], reliability=bins)

def by_hand(steps=len(when)):
    "Every number says where it comes from: CKA is step/10 + (i + 1)/100 + (j + 1)/1000 for stages i and j"
    rng, rows = np.random.default_rng(0), []
    for k, (p, e) in enumerate(when[:steps]):
        def row(measure, s, t, v, control=''):
            rows.append(dict(zip(measure_columns, (k, p, e, measure, s, t, control, v, v - .01, v + .01))))
        for i, s in enumerate(stages):
            for j, t in enumerate(stages):
                row('cka_pooled', s, t, nan if (i, j, k) == (1, 1, 0) else k/10 + (i + 1)/100 + (j + 1)/1000)
                row('cka_pooled', s, t, .1*(j + 1), 'random')
                row('cka_pooled', s, t, -.02, 'shuffled')
            row('stitched', s, s, .1 + .1*k)
            row('stitched', s, s, .05, 'random')
            row('nmse', s, s, 1/(1 + k))
            row('probe', s, s, .3 + .1*k)
            row('probe', '', s, .9)
    maps, points, match = {}, {}, {}
    for s in stages:
        maps['teacher', s] = rng.integers(40, 200, (1, n, 2, side[s], side[s]), np.uint8)
        maps['student', s] = rng.integers(0, 256, (steps, n, 2, side[s], side[s]), np.uint8)
        points['teacher', s] = rng.normal(size=(1, m, 2)).astype('f2')
        points['student', s] = rng.normal(size=(steps, m, 2)).astype('f2')
        match[s] = rng.uniform(-1, 1, (steps, 3, 4)).astype('f2')
    table = [dict(zip(step_columns, (k, p, e, 10.*k, .5, 100.*k, 1e8, nan))) for k, (p, e) in enumerate(when[:steps])]
    final = dict(student=card(.8, .75, .1), teacher=card(.9, 1., .05),
                 controls=dict(random=dict(agreement=.3, kl=2.), shuffled=dict(agreement=.35, kl=3.)))
    return Recording(
        measures=pd.DataFrame(rows)[measure_columns], images=rng.integers(0, 256, (n, 3, 8, 8), np.uint8),
        labels=np.array([0, 1, 2]), vocab=['cat', 'dog', 'emu'], maps=maps, scale={s: (-1., 4.) for s in stages},
        channels={s: [5, 9] for s in stages}, projection=points,
        point_labels=np.array([0, 1, 2, 0, 1]), match=match, steps=pd.DataFrame(table), schedule=schedule,
        final=final if steps == len(when) else {}, checksums={s: ['0'*8]*steps for s in stages},
        info=dict(partners={s: s for s in stages}))

@pytest.fixture(scope='module')
def rec(): return by_hand()

with_step = dict(cka=(cka_map, {}), maps=(feature_maps, dict(stage='stage1', image=1, channel=1)),
                 wall=(map_wall, dict(stage='stage2')), match=(channel_match, dict(stage='stage1')),
                 points=(projection, dict(stage='stage2', chosen=1)), curves=(measure_curves, dict(measure='stitched')))
whole = dict(agreement=(agreement, {}), reliability=(reliability, {}), cost=(cost_panel, {}),
             curves=(measure_curves, dict(measure='cka_pooled')))
plain = lambda fig: json.loads(fig.to_json())
cells = lambda z: [list(row) for row in z]
def words(node):  # every text in a figure, but for packed arrays
    if isinstance(node, str): yield node
    elif isinstance(node, dict): yield from (w for k, v in node.items() if k != 'bdata' for w in words(v))
    elif isinstance(node, list): yield from (w for v in node for w in words(v))

# --- what every figure has in common

@pytest.mark.parametrize('name', {**with_step, **whole})
def test_pure_titled_and_same_in_both_themes_but_for_the_layout(rec, name):
    f, kw = {**with_step, **whole}[name]
    table, image = rec.measures.copy(), rec.images.copy()
    light, dark = plain(f(rec, **kw)), plain(f(rec, theme='dark', **kw))
    assert light == plain(f(rec, **kw)) and light['data'] == dark['data'] and light['layout'] != dark['layout']
    pd.testing.assert_frame_equal(rec.measures, table)
    assert np.array_equal(rec.images, image)
    assert light['layout']['title']['text'] and not any(re.search(r'\bnan\b', w, re.I) for w in words(light))
    with pytest.raises(ValueError, match='light'): f(rec, theme='blue', **kw)

@pytest.mark.parametrize('name', with_step)
def test_traces_stay_in_place(rec, name):
    f, kw = with_step[name]
    seen = {tuple((t.type, t.name) for t in f(rec, step=k, **kw).data) for k in range(len(when))}
    assert len(seen) == 1 and f(rec, step=-1, **kw) == f(rec, step=len(when) - 1, **kw)
    for step in (len(when), -len(when) - 1, 1.5, 'last'):
        with pytest.raises(ValueError, match=f'expected 0 to {len(when) - 1}'): f(rec, step=step, **kw)

def test_live_figure_is_changed_in_place(rec):
    for f, kw in with_step.values():
        live = go.FigureWidget(f(rec, step=0, **kw))
        ids = [id(t) for t in live.data]
        redraw(live, f(rec, step=3, theme='dark', **kw))
        assert plain(live) == plain(f(rec, step=3, theme='dark', **kw)) and ids == [id(t) for t in live.data]
    with pytest.raises(ValueError, match='same function'): redraw(live, cka_map(rec))

def test_every_figure_is_in_the_gallery(rec):
    public = [getattr(module, name) for module in (sskd_tutor.viz.alignment, sskd_tutor.viz.maps, sskd_tutor.viz.outcome, sskd_tutor.viz.points) for name in module.__all__]
    of_recording = [f for f in public if inspect.isfunction(f) and f.__annotations__.get('rec') is Recording]
    assert {f for f, _ in gallery(rec).values()} == set(of_recording) - {pair_curve}  # `measure_curves` draws it
    drawn = [f(rec, **kw) for f, kw in gallery(rec).values()]
    assert all(fig.layout.title.text for fig in drawn)
    assert all('sendChartToCloud' in fig.layout.modebar.remove for fig in drawn)   # plotly 7 would upload it

def test_entries_name_arguments_of_their_function(rec):
    for figure in registered.values():
        takes = inspect.signature(figure.draw).parameters
        assert {'rec', 'theme', *figure.controls} <= set(takes) and figure.moves <= ('step' in takes)
        assert figure.place or not figure.controls

def test_a_new_entry_is_in_gallery_and_report(rec):
    def steps(rec, theme='light'): return go.Figure().update_layout(title_text='steps')
    registered.add('steps', replace(registered['cost'], draw=steps, name='steps'))
    try:
        assert gallery(rec)['steps'] == (steps, {})
        assert [d.figure.draw for d in chapters_of(rec)[-1].drawings] == [cost_panel, steps]
    finally: del registered['steps']

# --- values

@pytest.mark.parametrize('step', [1, 4])
def test_cka_map(rec, step):
    fig = cka_map(rec, step=step)
    assert list(fig.data[1].x) == list(fig.data[1].y) == stages and (fig.data[1].zmin, fig.data[1].zmax) == (0, 1)
    assert np.allclose(np.array(fig.data[1].z, float), [[step/10 + .01*i + .001*j for j in (1, 2)] for i in (1, 2)])
    words, value = fig.data[1].text[0][1], f'{step/10 + .012:.2f}'
    assert f'">{value}<br>' in words and fig.data[1].customdata[0][1].startswith(f'{value}<br>')
    assert cells(fig.data[0].z) == [[None, None], [None, None]]
    assert f'CKA of pooled maps · {moment(rec, step)}' in fig.layout.title.text
    assert 'random network 0.10 to 0.20; shuffled pairs −0.02' in fig.layout.title.text

def test_undefined_is_said(rec):
    fig = cka_map(rec, step=0)
    assert fig.data[1].z[1][1] is None and cells(fig.data[0].z) == [[None, None], [None, 1]]
    assert '>undefined<' in fig.data[0].text[1][1]
    curves = {t.name: t for t in measure_curves(rec, 'cka_pooled').data}
    assert curves['stage2'].y[0] is None and list(curves['undefined'].x) == [0] and curves['undefined'].text == ('undefined',)
    gone = replace(rec, measures=rec.measures.assign(value=nan, low=nan, high=nan))
    assert 'random network undefined' in cka_map(gone).layout.title.text
    for measure in ('cka_pooled', 'nmse', 'stitched'): assert len(measure_curves(gone, measure).data[-2].x) == 2*len(when)

def test_a_pair_that_was_not_measured(rec):
    t = rec.measures
    fig = cka_map(replace(rec, measures=t[~((t.student == 'stage1') & (t.teacher == 'stage2'))]))
    assert '>not measured<' in fig.data[0].text[0][1]

def test_negative_cka_is_not_clipped(rec):
    low = replace(rec, measures=rec.measures.assign(value=rec.measures.value.where(rec.measures.student != 'stage1', -.2)))
    assert cka_map(low).data[1].z[0][0] == -.2 and cka_map(low).data[1].customdata[0][0].startswith('−0.20')
    for curves in (measure_curves(low, 'cka_pooled'), pair_curve(low, 'cka_pooled', 'stage1', 'stage2')):
        assert curves.layout.yaxis.range[0] < -.2

def test_curves(rec):
    fig = measure_curves(rec, 'stitched', step=3)
    t = {t.name: t for t in fig.data}
    assert list(t['stage1'].x) == [0, 1, 2, 3, 4, 5] and list(t['stage1'].y) == pytest.approx([10, 20, 30, 40, 50, 60])
    assert list(t['teacher'].y) == [90, 90] and t['teacher'].line.dash == 'dash' and t['stage1'].line.dash is None
    thin = t['random network']
    assert (thin.line.color, thin.line.width, set(thin.y)) == (gray, 1, {5., None})
    assert list(t['this step'].x) == [3, 3] and fig.layout.yaxis.title.text == 'stitched accuracy, %'
    assert list(t['stage1, interval'].y[:2]) == pytest.approx([11, 21])
    probe = {t.name: t for t in measure_curves(rec, 'probe').data}
    assert list(probe["teacher's stage2"].y) == [90, 90] and probe["teacher's stage2"].line.dash == 'dash'
    assert measure_curves(rec, 'nmse').layout.yaxis.type == 'log'
    one, other = ({t.name: t.line.color for t in measure_curves(rec, f).data} for f in ('stitched', 'nmse'))
    assert one['stage1'] == other['stage1'] != one['stage2'] == other['stage2']

@pytest.mark.parametrize('step', [0, 3])
def test_feature_maps(rec, step):
    fig = feature_maps(rec, 'stage1', step=step, image=2, channel=1)
    t, s = (-1 + 5*rec.maps[who, 'stage1'][at, 2, 1].astype(float)/255 for who, at in (('teacher', 0), ('student', step)))
    for trace, want in zip(fig.data[1:], (t, s, s - t)): assert np.allclose(trace.z, want, atol=1e-5)
    assert fig.data[1].coloraxis == fig.data[2].coloraxis == 'coloraxis' and fig.data[3].coloraxis == 'coloraxis2'
    assert fig.layout.title.text == f'stage1, channel 9 · {moment(rec, step)}' and fig.layout.annotations[0].text == 'emu'
    assert f'rms {np.sqrt(((s - t)**2).mean()):.2f}' in fig.layout.annotations[3].text

def test_colors_stand_still(rec):
    fixed = lambda fig: json.dumps([fig['layout'].get(a) for a in ('coloraxis', 'coloraxis2', 'xaxis', 'yaxis')])
    for f, kw in (with_step[k] for k in ('maps', 'wall', 'points', 'match')):
        assert len({fixed(plain(f(rec, step=k, **kw))) for k in (0, 2, 5)}) == 1
    axis = feature_maps(rec, 'stage1').layout.coloraxis2
    t, s = (rec.maps[w, 'stage1'].astype(int)[:, 0, 0] for w in ('teacher', 'student'))
    assert axis.cmax == -axis.cmin == pytest.approx(np.abs(s - t).max()/51)

def test_wall(rec):
    fig = map_wall(rec, 'stage2', step=1, channel=1)
    t, s = (rec.maps[who, 'stage2'][at, :, 1] for who, at in (('teacher', 0), ('student', 1)))
    for i in range(n):
        cut = slice(4*i, 4*i + 4)
        assert np.array_equal(fig.data[1].z[:, cut], t[i]) and np.array_equal(fig.data[2].z[:, cut], s[i])
        assert np.abs(2*fig.data[3].z[:, cut].astype(int) - (s[i].astype(int) - t[i])).max() <= 1
    assert list(fig.layout.xaxis4.ticktext) == rec.vocab
    assert [fig.layout[f'yaxis{k}'].ticktext[0] for k in ('', 2, 3, 4)] == ['image', 'teacher', 'student', 'difference']

def test_match_has_one_order(rec):
    fig, last = channel_match(rec, 'stage1', step=2), channel_match(rec, 'stage1')
    rows = [r[0] for r in fig.data[0].customdata]
    assert rows == [r[0] for r in last.data[0].customdata] and sorted(rows) == [0, 1, 2]
    assert np.allclose(fig.data[0].z, rec.match['stage1'][2].astype(float)[rows], atol=1e-3)
    dead = rec.match['stage1'].copy()
    dead[:, 1] = nan
    fig = channel_match(replace(rec, match=rec.match | dict(stage1=dead)), 'stage1')
    assert [None]*4 in cells(fig.data[0].z) and '1 constant channels: undefined' in fig.layout.title.text

def test_match_finds_a_permutation(rec):
    order = np.array([2, 0, 3, 1])
    fig = channel_match(replace(rec, match=dict(stage1=np.eye(4)[order][None].repeat(6, 0))), 'stage1', step=0)
    assert np.array_equal(np.array(fig.data[0].z, float), np.eye(4))

def test_projection(rec):
    fig = projection(rec, 'stage2', step=2, chosen=1)
    t, s = rec.projection['teacher', 'stage2'][0], rec.projection['student', 'stage2'][2]
    for trace, xy in zip(fig.data, (t, s, np.array([t[1], s[1]]))): assert np.array_equal(np.array([trace.x, trace.y]).T, xy)
    assert set(fig.data[0].marker.symbol) == {'circle-open', 'square-open', 'diamond-open'}
    assert set(fig.data[1].marker.symbol) == {'circle', 'square', 'diamond'}
    assert fig.data[0].marker.color == fig.data[1].marker.color and len(set(fig.data[0].marker.color)) == 3
    keys = [t.name for t in fig.data if t.showlegend is not False]
    assert keys == ['chosen image', 'teacher: hollow', 'student: solid', *rec.vocab]
    both = np.concatenate([rec.projection[w, 'stage2'].reshape(-1, 2) for w in ('teacher', 'student')])
    assert fig.layout.xaxis.range[0] < both[:, 0].min() and both[:, 1].max() < fig.layout.yaxis.range[1]
    assert len(projection(rec, 'stage2').data[2].x) == 0
    mean = np.hypot(*(s.astype(float) - t).T).mean()
    assert f'mean distance of student and teacher: {mean:.2f}' in fig.layout.title.text

def test_ten_classes_can_be_told_apart(rec):
    ten = replace(rec, vocab=[f'class {i}' for i in range(10)], point_labels=np.arange(10),
                  projection={k: v[:, [0]*10] for k, v in rec.projection.items()})
    look = projection(ten, 'stage1').data[1].marker
    assert len(set(look.color)) == 10 and len({*zip(look.color, look.symbol)}) == 10
    none = projection(replace(ten, point_labels=np.full(10, -1)), 'stage1')
    assert none.data[-1].name == 'no label'

def test_ends(rec):
    fig = agreement(rec)
    assert dict(zip(fig.data[0].y, fig.data[0].x)) == pytest.approx({'student': 75, 'random network': 30, 'shuffled pairs': 35})
    assert fig.data[2].marker.symbol == 'circle-open' and list(fig.data[3].x) == pytest.approx([80, None, 70])
    teacher, student = reliability(rec).data[1:]
    assert list(student.x) == [30, 90] and list(student.y) == pytest.approx([20, 80])
    assert (teacher.line.dash, student.line.dash) == ('dash', 'solid') and student.name == 'student, ECE 10.0 %'
    for f in (agreement, reliability):
        with pytest.raises(ValueError, match='stops at head, epoch 1 of 1'): f(replace(rec, final={}))

def test_cost(rec):
    t = {t.name: t for t in cost_panel(rec).data}
    assert list(t['time'].y) == [0, 10, 20, 30, 40, 50] and list(t['spent'].y) == [0, 100, 200, 300, 400, 500]
    assert len(t['planned'].x) == 0
    assert 'time, s (5.9 % measuring)' in [a.text for a in cost_panel(rec).layout.annotations]
    plan = replace(rec, info=dict(planned_gmacs=dict(stage1=200, stage2=200, head=100)))
    assert [list(v) for v in (cost_panel(plan).data[3].x, cost_panel(plan).data[3].y)] == [[0, 2, 4, 5], [0, 200, 400, 500]]
    timed = replace(rec, info=dict(planned_seconds=dict(stage1=20, stage2=20, head=8)))
    assert list(cost_panel(timed).data[1].y) == [0, 20, 40, 48] and not cost_panel(timed).data[3].x
    busy = replace(rec, steps=rec.steps.assign(gpu_util=.5))
    assert any('GPU 50 % busy' in a.text for a in cost_panel(busy).layout.annotations)

def test_titles_say_what_was_found(rec):
    "Numbers of this recording, and nothing that another one would make false"
    said = lambda f, *args, **kw: f(*args, **kw).layout.title.text
    assert said(measure_curves, rec, 'stitched') == 'Stitched accuracy: 60, 60 %'
    assert said(measure_curves, rec, 'cka_pooled') == 'CKA of pooled maps: 0.51, 0.52'
    assert said(measure_curves, rec, 'nmse', pair=('stage1', 'stage2')) == "Student's stage1, teacher's stage2: CKA 0.51"
    assert said(agreement, rec) == "The student gives 75 % of the teacher's answers"
    assert said(reliability, rec) == 'On average, the student is 75 % sure and 65 % right'
    assert said(cost_panel, rec) == '500 GMACs in 50 s'
    assert said(cost_panel, replace(rec, steps=rec.steps.assign(gmacs=nan))) == '50 s of training'
    table = rec.measures
    gone = replace(rec, measures=table[(table.student != 'stage2') | (table.control != '')])
    assert said(measure_curves, gone, 'probe') == 'Linear-probe accuracy: 80 %'
    nothing = replace(rec, measures=table.assign(value=nan))
    assert said(measure_curves, nothing, 'probe') == 'Linear-probe accuracy, stage by stage'
    names = [f'stage{i}' for i in range(1, 8)]
    many = pd.concat([table[table.student == 'stage1'].assign(student=s, teacher=s) for s in names])
    many['value'] += many.student.map(names.index)/100
    seven = replace(rec, measures=many, checksums={s: ['0'*8]*len(when) for s in names}, info={},
                    maps={(who, s): rec.maps[who, 'stage1'] for who in ('teacher', 'student') for s in names},
                    schedule=dict.fromkeys(names, 1) | dict(head=1))
    assert said(measure_curves, seven, 'stitched') == 'Stitched accuracy of 7 stages: 60 to 66 %'

def test_rows_of_words_do_not_touch():
    "Of ten columns 700 pixels wide; 'ankle boot' takes two lines"
    ten = ten_images()
    fig = image_wall({'image': ten.x}, 'ten', {'student to stage3': ten.y, 'student alone': ten.y.roll(1)}, ten.y)
    margin, words = fig.layout.margin, fig.data[1:]
    a_pixel = (700 - margin.l - margin.r)/fig.layout.xaxis.range[1]
    assert (words[1].y[0] - words[0].y[0])*a_pixel > 2*1.3*words[0].textfont.size
    assert '✗ ' not in ''.join(words[1].text) and '✗' in ''.join(words[1].text)

# --- bad input

@pytest.mark.parametrize('f', [feature_maps, map_wall, channel_match, projection])
def test_unknown_stage(rec, f):
    with pytest.raises(ValueError, match="no stage 'stage3'.*did you mean 'stage"): f(rec, 'stage3')
    with pytest.raises(ValueError, match="expected one of"): f(rec, 'zz')

def test_bad_names_and_places(rec):
    for kw, says in ((dict(image=3), 'image is 3; expected 0 to 2'), (dict(image=-1), 'image is -1'),
                     (dict(channel=2), 'channel is 2; expected 0 to 1')):
        with pytest.raises(ValueError, match=says): feature_maps(rec, 'stage1', **kw)
    with pytest.raises(ValueError, match='chosen is 3'): projection(rec, 'stage1', chosen=3)
    with pytest.raises(ValueError, match="did you mean 'stitched'"): measure_curves(rec, 'stitch')
    with pytest.raises(ValueError, match="has no 'cosine'; it has .*nmse"): measure_curves(rec, 'cosine')
    with pytest.raises(ValueError, match='cka_flat'): cka_map(rec, measure='cka')
    with pytest.raises(ValueError, match="has no 'cka_flat' at step 5"): cka_map(rec, measure='cka_flat')
    with pytest.raises(ValueError, match="no figure 'cka'"): save_figures(rec, 'nowhere', names=['cka'])
    flat = replace(rec, maps={k: v for k, v in rec.maps.items() if k[1] != 'stage2'})
    with pytest.raises(ValueError, match='stage2 has no maps.*stage1'): feature_maps(flat, 'stage2')
    assert 'stage2_maps' not in gallery(flat)

def test_no_step_yet(rec):
    with pytest.raises(ValueError, match='no step yet'): cka_map(replace(rec, steps=rec.steps[:0]))

def test_one_step_only():
    one = by_hand(steps=1)
    for f, kw in gallery(one).values(): assert f(one, **kw).layout.title.text
    for f, kw in with_step.values(): assert len(animated(f, one, **kw).frames) == 1
    assert 'before training' in projection(one, 'stage1').layout.title.text

def test_one_image_and_gray(rec):
    one = replace(rec, images=rec.images[:1, :1], labels=np.array([-1]), maps={k: v[:, :1] for k, v in rec.maps.items()})
    fig, wall = feature_maps(one, 'stage1'), map_wall(one, 'stage1')
    assert fig.layout.annotations[0].text == 'image 0' and wall.data[1].z.shape == (6, 6) and not wall.layout.shapes
    dead = replace(one, maps={k: np.full_like(v, 7) for k, v in one.maps.items()})  # a constant channel, copied perfectly
    axis = feature_maps(dead, 'stage1').layout.coloraxis
    assert axis.cmin < axis.cmax and 'rms 0.00' in feature_maps(dead, 'stage1').layout.annotations[3].text

def test_teacher_with_other_stage_names(rec):
    names = dict(stage1='a', stage2='b')
    other = replace(rec, measures=rec.measures.replace(dict(teacher=names)), info=dict(partners=names))
    assert list(cka_map(other).data[1].x) == ['a', 'b'] and len(measure_curves(other, 'stitched').data[1].y) == 6

# --- frames

@pytest.mark.parametrize('name', with_step)
def test_frames_are_the_same_in_both_themes(rec, name):
    "So the report draws them once"
    f, kw = with_step[name]
    light, dark = (plain(animated(f, rec, theme=theme, **kw)) for theme in ('light', 'dark'))
    assert light['frames'] == dark['frames']
    assert plain(animated(f, rec, theme='dark', frames=animated(f, rec, **kw).frames, **kw)) == dark

@pytest.mark.parametrize('name', with_step)
def test_a_frame_a_step_that_equals_the_still(rec, name):
    f, kw = with_step[name]
    fig = animated(f, rec, **kw)
    slider = fig.layout.sliders[0]
    assert [fr.name for fr in fig.frames] == [str(k) for k in range(len(when))]
    assert [s.label for s in slider.steps] == ['start', 'stage1 · 1', 'stage1 · 2', 'stage2 · 1', 'stage2 · 2', 'head · 1']
    assert [list(s.args[0]) for s in slider.steps] == [[fr.name] for fr in fig.frames] and slider.active == len(when) - 1
    assert [b.label for b in fig.layout.updatemenus[0].buttons] == ['▶', '❚❚']
    for k in [3, 0, 5, 1]:  # jumps, as a reader makes them; what plotly.js does with a frame
        base, frame, still = plain(fig), plain(fig)['frames'][k], plain(f(rec, step=k, **kw))
        for place, change in zip(frame.get('traces', []), frame['data']): base['data'][place] |= change
        assert base['data'] == still['data']
        changed = base['layout'] | frame.get('layout', {})
        assert all(changed[key] == v for key, v in still['layout'].items() if key not in ('height', 'margin'))

def test_size_is_bounded(rec):
    big = replace(rec, maps={k: v.repeat(8, 3).repeat(8, 4) for k, v in rec.maps.items()})  # 48 x 48
    for limit, count in ((56_000, 2), (80_000, 4), (1_000_000, 6)):
        fig = animated(feature_maps, big, stage='stage2', limit=limit)
        kept = [int(f.name) for f in fig.frames]
        assert len(json.dumps(plain(fig))) <= limit and kept[0] == 0 and kept[-1] == 5 and len(kept) == count
        assert [s.args[0][0] for s in fig.layout.sliders[0].steps] == [f.name for f in fig.frames]
        assert fig.layout.sliders[0].currentvalue.prefix == (f'{count} of 6 steps · ' if count < 6 else '')
    with pytest.raises(ValueError, match='not even two'): animated(feature_maps, big, stage='stage2', limit=30_000)

def test_a_run_of_forty_steps_fits(rec):
    "Eight images, maps of 28 x 28, 41 steps: each has its frame, in less than a megabyte"
    draw = lambda who: np.random.default_rng(0).integers(0, 256, (41 if who == 'student' else 1, 8, 2, 28, 28), np.uint8)
    rows = [dict(zip(step_columns, (k, 'stage1', k, 1., 1., 1., 1., nan))) for k in range(41)]
    long = replace(rec, maps={k: draw(k[0]) for k in rec.maps}, images=rec.images[[0]*8], labels=rec.labels[[0]*8],
                   schedule=dict(stage1=40, stage2=40, head=1), steps=pd.DataFrame(rows))
    fig = animated(map_wall, long, stage='stage1')
    assert len(fig.frames) == 41 and len(json.dumps(plain(fig))) < 1_000_000

# --- files and the page

@pytest.mark.browser
def test_files_for_slides(rec, tmp_path):
    paths = save_figures(rec, tmp_path/'new/figures', names=['stage1_maps', 'cka_pooled_map'])
    ends = [f'_{th}.{e}' for th in ('light', 'dark') for e in ('png', 'svg')]
    assert {p.name for p in paths} == {f + e for f in ('stage1_maps', 'cka_pooled_map') for e in ends}
    light, dark = (Image.open(tmp_path/f'new/figures/cka_pooled_map_{th}.png').convert('L') for th in ('light', 'dark'))
    assert light.size == dark.size == (1800, 2*cka_map(rec).layout.height)
    assert light.getpixel((3, 3)) > 200 > 60 > dark.getpixel((3, 3))
    svg = (tmp_path/'new/figures/cka_pooled_map_light.svg').read_text()
    assert svg.startswith('<svg') and '0.52' in svg and 'random network' in svg

def test_without_kaleido_the_cure_is_named(rec, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'kaleido', None)
    with pytest.raises(ImportError, match=r'sskd_tutor\[figures\]'): save_figures(rec, tmp_path/'x')
    assert not (tmp_path/'x').exists()

@pytest.fixture(scope='module')
def folder(rec, tmp_path_factory):
    return save_run(tmp_path_factory.mktemp('page')/'run', history, info, tutorial_resnet(width=2, blocks=1),
                    extra=lambda d, h, i: (rec.save(d, h, i), write_report(d, h, i)))

figures = 3 + 2 + 2 + 1  # CKA with its curves and the probe's; projection of two stages; the end's; cost

def test_page_with_and_without_a_recording(folder, tmp_path):
    text = (folder/'report.html').read_text()
    assert 'Where stage2 puts the images' in text and 'Watch it learn' in text and text.count('class="figure"') == 4 + figures
    again = write_report(folder).read_text()
    assert again == text
    bare = save_run(tmp_path/'bare', history, info, tutorial_resnet(width=2, blocks=1), extra=write_report)
    assert (bare/'report.html').read_text().count('class="figure"') == 4
    (folder/'alignment.json').rename(tmp_path/'alignment.json')
    with pytest.raises(FileNotFoundError, match='alignment.json'): write_report(folder)
    (tmp_path/'alignment.json').rename(folder/'alignment.json')

@pytest.mark.browser
def test_page_plays_offline(folder, chromium, repo):
    from playwright.sync_api import sync_playwright
    shots, asked, said = repo/'tests/screenshots', [], []
    shots.mkdir(exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=browser_flags)
        for scheme in ('light', 'dark'):
            page = browser.new_page(viewport=dict(width=900, height=900), color_scheme=scheme)
            page.on('request', lambda r: asked.append(r.url))
            page.on('console', lambda m: said.append(m.text))
            page.on('pageerror', lambda e: said.append(str(e)))
            page.goto((folder/'report.html').as_uri())
            page.wait_for_function("document.querySelectorAll('.figure .main-svg').length >= 24")
            moving = page.locator('.figure:has(+ .moments)')
            assert moving.count() == 1 + 2
            cka, page_text = moving.nth(0), page.locator('body').inner_text
            titled = lambda fig, text: page.wait_for_function("([e, t]) => e.querySelector('.gtitle').textContent.includes(t)",
                                                              arg=[fig.element_handle(), text])
            titled(cka, 'head, epoch 1')
            assert '0.51' in cka.text_content() and 'undefined' not in cka.text_content()
            page.set_viewport_size(dict(width=800, height=700))
            page.wait_for_function("document.querySelector('.figure .main-svg').clientWidth < 780")
            boxes = "[...document.querySelectorAll('.figure')].map(e => [e.clientHeight, e.querySelector('svg').clientHeight])"
            heights = page.evaluate(boxes)
            assert all(a == b for a, b in heights), f'figures overlap after a resize: {heights}'
            page.screenshot(path=shots/f'pictures_{scheme}.png', full_page=True)
            for i in range(moving.count()):
                fig = moving.nth(i)
                look = lambda: fig.evaluate("e => e.querySelector('.cartesianlayer').innerHTML")
                before = look()
                fig.locator('+ .moments input').focus()
                page.keyboard.press('Home')
                titled(fig, 'before training')
                assert look() != before
            assert 'undefined' in cka.text_content() and 'NaN' not in page_text()
            slider = cka.locator('+ .moments input')
            slider.focus()
            page.keyboard.press('Home')
            for _ in range(2): page.keyboard.press('ArrowRight')  # as a reader does
            titled(cka, 'stage1, epoch 2 of 2')
            assert '0.21' in cka.text_content()
            cka.locator('+ .moments button').click()
            titled(cka, 'head, epoch 1')
        browser.close()
    assert said == [] and asked and all(u.startswith(('file:', 'data:', 'blob:')) for u in asked)

def test_the_largest_difference_keeps_its_color():
    "255 bytes apart is half of that, rounded: 128 is no int8, and would get the color of the smallest"
    rec = by_hand()
    maps = {key: np.full_like(values, 255 if key[0] == 'student' else 0) for key, values in rec.maps.items()}
    wall = map_wall(replace(rec, maps=maps), 'stage1')
    assert np.asarray(wall.data[-1].z).max() == 127

def test_two_channels_are_no_opacity():
    image = np.stack([np.full((4, 4), 200), np.zeros((4, 4))]).astype(np.uint8)
    shown = Image.open(io.BytesIO(base64.b64decode(image_uri(image).partition(',')[2])))
    assert np.unique(np.asarray(shown.convert('RGBA'))).tolist() == [200, 255]

def test_a_film_is_longer_than_its_rests():
    rec = Recording.load(pkg_data/'example_recording')
    with pytest.raises(ValueError, match='seconds is 3; expected 5 or more'): film(rec, seconds=3)
    assert film(rec, seconds=5)[:3] == b'GIF'

@pytest.mark.parametrize('epochs', [dict(head=0), dict(stage1=700, stage2=700, stage3=700)])
def test_a_film_has_room_for_a_short_phase(epochs):
    "An epoch of less than two pixels on the bar of time, and a head that did not train, ended in an error of Pillow's"
    rec = Recording.load(pkg_data/'example_recording')
    of_stage = rec.steps[rec.steps.phase.isin(['start', 'stage1'])]
    short = replace(rec, schedule=rec.schedule | epochs, steps=of_stage)
    assert frame(short, 1).size == frame(rec, 1).size

def test_a_stage_with_fewer_channels_shows_its_last(tmp_path):
    "Widths 32, 16, 24: the film, the player and the Explorer's saved twin ended in an IndexError"
    rec = Recording.load(pkg_data/'example_recording')
    maps = {key: found[:, :, :2] if key[1] == 'stage2' else found for key, found in rec.maps.items()}
    rec = replace(rec, maps=maps, channels=rec.channels | dict(stage2=rec.channels['stage2'][:2]))
    assert frame(rec, 5, channel=3).size == frame(rec, 5).size
    of_stages = json.loads(re.search('(?s)json">(.*?)</script>', player(rec).html)[1])['stages']
    assert [stage['channels'] for stage in of_stages] == [rec.channels[stage] for stage in rec.stages]
    ex = Explorer(rec)
    ex.channel.value = 3
    assert json.dumps(rec.channels['stage1'][3]) in ex.film().html
    assert 'stage2' in recorded_block(rec, 'stage2', 'learns', channel=3)
    with pytest.raises(ValueError, match='channel is 4; expected 0 to 3'): frame(rec, 5, channel=4)

def test_names_of_digits_are_names(rec):
    "plotly took them for numbers: classes 3 and 7 lay four apart, and the ring of stages 1 and 2 lay beside its cell"
    fig = agreement(replace(rec, vocab=['3', '7', '10']))
    assert fig.layout.yaxis2.type == fig.layout.yaxis.type == 'category'
    fig = cka_map(rec)
    assert fig.layout.xaxis.type == fig.layout.yaxis.type == 'category'
