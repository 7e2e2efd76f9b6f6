"""Run folders, figures and the HTML page of a run, all from tables written by hand."""
import json, re

import pandas as pd
import pytest
import torch

from conftest import browser_flags
from sskd_tutor.runs import report
from sskd_tutor.viz import training as plots
from sskd_tutor.runs.saved import check_folder, load_run, run_files, save_run, write_report
from sskd_tutor.core.files import file_sha256
from sskd_tutor.core.tables import records, tidy
from sskd_tutor.core.state import tensors_sha256
from sskd_tutor.nets.weights import load_weights
from sskd_tutor.nets.small import tutorial_resnet

stage_names = ['stage1', 'stage2', 'stage3']
history = tidy(
    [dict(phase='mimic', stage=s, epoch=e, train_loss=.5/(e+1), valid_loss=.4/(e+1), nmse=.4/(e+1), stitched=.6 + .1*e,
          seconds=1.5) for s in stage_names for e in range(3)] +
    [dict(phase='head', stage='head', epoch=e, train_loss=.7, valid_loss=.6, accuracy=.8 + .01*e, seconds=.5) for e in range(2)] +
    [dict(phase='labels_only', stage='labels_only', epoch=e, valid_loss=.6, accuracy=.7) for e in range(4)])
stages = pd.DataFrame(dict(mimic_loss=[.13, .13, .13, None], nmse=[.13, .13, .13, None], stitched=[.8, .8, .8, None],
                           epochs=[3, 3, 3, 2], macs_per_image=[1e8]*4, gmacs=[100., 200., 300., 50.],
                           seconds=[4.5, 4.5, 4.5, 1.]),
                      index=pd.Index([*stage_names, 'head'], name='stage'))
info = dict(title='A run <by hand>', settings=dict(n=4_000, seed=0), results=dict(teacher=94., labels_only=84.2, distilled=86.6),
            stages=records(stages), cost=dict(distilled=650., labels_only=640.),
            teacher=dict(name='full', labels_seen=60_000, sha256='a'*64), seconds=20.,
            data=dict(sha256='b'*64, n_train=4_000, n_valid=2_000), command='sskd_tutor demo --like run.json',
            environment=dict(time='2026-01-01T00:00:00+00:00', device_name='x86_64', threads=2))
extra = lambda folder, history, info: report.report_html(history, info, folder/'report.html')

@pytest.fixture
def net(): return tutorial_resnet(width=2, blocks=1)

@pytest.fixture
def folder(tmp_path, net): return save_run(tmp_path/'run', history, info, net, extra=extra)

# --- run folders

def test_round_trip(folder, net):
    run = load_run(folder)
    pd.testing.assert_frame_equal(run.history, history, check_exact=True)
    assert run.info | info == run.info and set(run.info['files']) == {p.name for p in folder.iterdir()}
    again = load_weights(tutorial_resnet(width=2, blocks=1), folder/'student.safetensors')
    assert tensors_sha256(again) == tensors_sha256(net) == run.info['student_sha256']

def test_json_is_strict(folder):
    def refuse(c): raise AssertionError(f"{c} is not JSON")
    json.loads((folder/'run.json').read_text(), parse_constant=refuse)

@pytest.mark.parametrize('lost', run_files)
def test_missing_file_is_named(folder, lost):
    (folder/lost).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(lost)): load_run(folder)

@pytest.mark.parametrize('changed', run_files[:2])
def test_changed_file_is_named(folder, changed):
    raw = bytearray((folder/changed).read_bytes())
    raw[-1] ^= 1
    (folder/changed).write_bytes(raw)
    with pytest.raises(ValueError, match=f'{re.escape(changed)} is damaged'): load_run(folder)

@pytest.mark.parametrize('text, says', [('', 'damaged'), ('{"format": 1', 'damaged'), ('\udcff', 'damaged'),
                                        ('[1]', 'no `format`'), ('{}', 'no `format`'), ('{"format": 99}', 'pip install -U')])
def test_bad_run_json(folder, text, says):
    (folder/'run.json').write_text(text, errors='surrogateescape')
    with pytest.raises(ValueError, match=says): load_run(folder)

def test_nothing_is_overwritten_untold(folder, net):
    before = {p.name: file_sha256(p) for p in folder.iterdir()}
    with pytest.raises(FileExistsError, match='overwrite=True'): save_run(folder, history, info, net)
    assert before == {p.name: file_sha256(p) for p in folder.iterdir()}
    save_run(folder, history[:3], info, net, overwrite=True)
    assert len(load_run(folder).history) == 3 and not (folder/'report.html').exists()

def test_only_a_run_can_be_overwritten(tmp_path, folder):
    (tmp_path/'mine').mkdir()
    assert check_folder(tmp_path/'mine') == tmp_path/'mine'  # empty: nothing to lose
    (tmp_path/'mine/run.json').write_text('{"no": "run"}')
    with pytest.raises(ValueError, match='not the run.json of a run'): check_folder(tmp_path/'mine', overwrite=True)
    (folder/'notes.md').write_text('mine')
    with pytest.raises(FileExistsError, match='notes.md'): check_folder(folder, overwrite=True)
    with pytest.raises(FileExistsError, match='no run'): check_folder(tmp_path, overwrite=True)
    with pytest.raises(FileExistsError, match='is a file'): check_folder(folder/'run.json', overwrite=True)

@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError])
def test_all_or_nothing(tmp_path, folder, net, error):
    def fail(*_): raise error()
    before = {p.name: file_sha256(p) for p in folder.iterdir()}
    for at in (folder, tmp_path/'new'):
        with pytest.raises(error): save_run(at, history, info, net, overwrite=True, extra=fail)
    assert before == {p.name: file_sha256(p) for p in folder.iterdir()} and [p.name for p in tmp_path.iterdir()] == ['run']

def test_fingerprint(net):
    twin = tutorial_resnet(width=2, blocks=1)
    twin.load_state_dict(net.state_dict())
    assert tensors_sha256(twin) == tensors_sha256(net)
    with torch.no_grad():  # one bit
        w = twin.head.fc.bias
        w[0] = torch.nextafter(w[0], torch.tensor(9.))
    assert tensors_sha256(twin) != tensors_sha256(net)
    assert tensors_sha256(net.half()) != tensors_sha256(twin)

# --- figures

figures = dict(timeline=lambda **k: plots.stage_timeline(history, **k),
               stitched=lambda **k: plots.stitched_curve(history, .94, .842, **k),
               methods=lambda **k: plots.method_bars(info['results'], **k),
               cost=lambda **k: plots.cost_bars(stages, 640., **k))

@pytest.mark.parametrize('name', figures)
def test_figure_is_pure_and_labeled(name):
    old = history.copy(), stages.copy()
    light, dark = figures[name](), figures[name](theme='dark')
    assert light.to_json() == figures[name]().to_json() and light.to_json() != dark.to_json()
    pd.testing.assert_frame_equal(history, old[0])
    pd.testing.assert_frame_equal(stages, old[1])
    assert (light.layout.yaxis.title.text or light.layout.xaxis.title.text) and light.layout.title.text
    with pytest.raises(ValueError, match='light'): figures[name](theme='blue')

def test_one_color_a_stage():
    color = lambda t: (t.line if t.type == 'scatter' else t.marker).color
    drawn = {f: {t.name.split(',')[0]: color(t) for t in figures[f]().data} for f in ('timeline', 'stitched', 'cost')}
    for s in stage_names: assert len({d[s] for d in drawn.values()}) == 1
    assert len({drawn['cost'][s] for s in [*stage_names, 'head']}) == 4

def test_values_that_are_drawn():
    nmse = [t for t in figures['timeline']().data if t.mode == 'lines+markers']
    assert [list(t.x) for t in nmse] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]] and list(nmse[0].y) == [.4, .2, .4/3]
    curve = {t.name: list(t.y) for t in figures['stitched']().data}
    assert curve['stage2'] == pytest.approx([60, 70, 80]) and curve['head'] == pytest.approx([80, 81])
    assert 'labels_only' not in curve
    dashes = [s.line.dash for s in figures['stitched']().layout.shapes if s.type == 'line']
    assert dashes == ['dash', 'solid']  # teacher, student

@pytest.mark.parametrize('results', [dict(teacher=94., distilled=86.), dict(teacher=94., labels_only=9.8, distilled=0.),
                                     dict(teacher=100., distilled=99.9)])
def test_bars_are_honest(results):
    fig = plots.method_bars(results)
    low = fig.layout.yaxis.range[0]
    assert [t.base + t.y[0] for t in fig.data] == pytest.approx(list(results.values())) and 0 <= low <= min(results.values())
    assert ('axis starts' in fig.layout.yaxis.title.text) == (low > 0) == any(a.text == '≈' for a in fig.layout.annotations)

@pytest.mark.parametrize('teacher, labels_only', [(.94, .842), (.6, .9), (.99, 1.), (.7, None)])
def test_nothing_is_above_the_axis(teacher, labels_only):
    "A student may end far above its teacher; and the uppermost level has room for its words, 18 pixels"
    fig = plots.stitched_curve(history, teacher, labels_only)
    low, high = fig.layout.yaxis.range
    drawn = [100*teacher, *([100*labels_only] if labels_only else []), *(y for t in fig.data for y in t.y)]
    margin = fig.layout.margin
    pixels = (high - max(drawn))/(high - low)*(fig.layout.height - margin.t - margin.b)
    assert low <= min(drawn) and pixels >= 18

def test_titles_say_what_was_found():
    said = lambda fig: fig.layout.title.text
    assert said(figures['timeline']()).startswith('Furthest from its hint is stage')
    loss = history.assign(measure=history.measure.replace('nmse', 'valid_loss'))
    assert said(plots.stage_timeline(loss, 'valid_loss')) == 'The mimic loss falls in 3 of 3 stages'
    assert said(figures['methods']()) == 'The student ends 2.4 points above labels alone, on 2,000 validation images'
    assert said(plots.method_bars(dict(teacher=94., distilled=86.))).startswith('The student ends 8.0 points below its teacher')
    assert said(plots.method_bars(dict(a=1., b=2.))) == 'Accuracy on 2,000 validation images'
    largest = stages.gmacs.idxmax()
    assert said(figures['cost']()).endswith(f'goes into {largest}')

def test_one_epoch_and_many_stages():
    many = tidy([dict(phase='mimic', stage=f's{i}', epoch=0, nmse=.1, stitched=.5) for i in range(9)])
    assert len(plots.stage_timeline(many).data) == 9
    with pytest.raises(ValueError, match="no 'valid_loss'"): plots.stage_timeline(many, measure='valid_loss')

# --- the page

def test_page_is_plain_about_labels(folder):
    text = (folder/'report.html').read_text()
    assert 'has seen 60,000 labels, both students 4,000' in text and 'A run &lt;by hand&gt;' in text
    assert '2.40 points above' in text
    same = report.seen(info | dict(teacher=dict(name='same-data', labels_seen=4_000)))
    assert 'no label that the students have not' in same
    unknown = report.seen(info | dict(teacher=dict(name='mine', labels_seen=None)))
    assert 'is not known; both students have seen 4,000' in unknown
    assert 'proves nothing' in report.outcome(info | dict(results=dict(teacher=94., labels_only=86., distilled=86.5)))
    assert 'below' in report.outcome(info | dict(results=dict(teacher=94., labels_only=88., distilled=80.)))

@pytest.mark.browser
def test_page_opens_offline(folder, chromium, repo):
    from playwright.sync_api import sync_playwright
    shots, asked, said = repo/'tests/screenshots', [], []
    shots.mkdir(exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=browser_flags)
        for scheme, width in (('light', 900), ('dark', 900), ('light', 375)):
            page = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme)
            page.on('request', lambda r: asked.append(r.url))
            page.on('console', lambda m: said.append(m.text))
            page.on('pageerror', lambda e: said.append(str(e)))
            page.goto((folder/'report.html').as_uri())
            page.wait_for_function("document.querySelectorAll('.figure .main-svg').length >= 4")
            assert page.locator('.figure .scatterlayer .trace').count() == 4 + 6
            assert page.locator('.figure .barlayer .point').count() == 3 + 5
            assert '94.0 %' in page.locator('.figure').first.text_content()
            assert page.evaluate('document.documentElement.scrollWidth <= innerWidth'), f'scrolls sideways at {width} px'
            ink = page.evaluate("getComputedStyle(document.querySelector('.figure .xtick text')).fill")
            assert (sum(map(int, re.findall(r'\d+', ink)[:3])) > 384) == (scheme == 'dark')
            page.screenshot(path=shots/f'report_{scheme}_{width}.png', full_page=True)
        page.emulate_media(color_scheme='dark')  # the reader changes the theme while it is open
        page.wait_for_function("getComputedStyle(document.querySelector('.figure .xtick text')).fill === 'rgb(230, 230, 230)'")
        browser.close()
    assert said == [] and asked and all(u.startswith(('file:', 'data:', 'blob:')) for u in asked)

# --- every file of a run is under its manifest

def with_card(folder, history, info):
    extra(folder, history, info)
    (folder/'export').mkdir()
    (folder/'export/README.md').write_text('a card')

@pytest.fixture
def whole(tmp_path, net): return save_run(tmp_path/'run', history, info, net, extra=with_card)

@pytest.mark.parametrize('name', ['report.html', 'export/README.md', 'metrics.csv'])
def test_each_changed_file_is_named(whole, name):
    (whole/name).write_text('something else')
    with pytest.raises(ValueError, match=f'{name} is damaged or was changed'): load_run(whole)
    (whole/name).unlink()
    with pytest.raises(FileNotFoundError, match=f'has no {name}'): load_run(whole)

def test_a_changed_manifest_is_named(whole):
    path = whole/'run.json'
    text = path.read_text()
    assert '86.6' in text
    path.write_text(text.replace('86.6', '96.6'))
    with pytest.raises(ValueError, match='run.json is damaged or was changed after the run: its seal'): load_run(whole)
    without = {name: value for name, value in json.loads(text).items() if name != 'seal'}
    path.write_text(json.dumps(without))
    load_run(whole)

def test_a_users_file_below_is_not_overwritten(whole, net):
    (whole/'export/mine.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match='no run made: export/mine.txt'): check_folder(whole, overwrite=True)
    (whole/'export/mine.txt').unlink()
    check_folder(whole, overwrite=True)
    save_run(whole, history, info, net, overwrite=True, extra=with_card)
    load_run(whole)

def test_a_report_made_anew_belongs_to_the_run(whole):
    write_report(whole)
    load_run(whole)

def test_a_settings_file_as_large_as_a_disk(whole):
    with (whole/'run.json').open('a') as f: f.truncate(2**30)   # sparse: it takes no room
    with pytest.raises(ValueError, match='1,073,741,824 bytes; expected'): load_run(whole)

def test_a_riddle_of_brackets(whole):
    (whole/'run.json').write_text('['*200_000)
    with pytest.raises(ValueError, match='run.json is not whole'): load_run(whole)
