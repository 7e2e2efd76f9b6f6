"""A recording or a run from somebody else may hold any text; none of it becomes markup or script on a page."""
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from torch import nn

from conftest import browser_flags
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.tables import tidy
from sskd_tutor.distill.fit import SSKDRun
from sskd_tutor.distill.pairing import pair_stages
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.staged import StagedNet
from sskd_tutor.runs.look import look_section
from sskd_tutor.runs.report import outcome, report_html, sections
from sskd_tutor.viz.board import Board, chips
from sskd_tutor.viz.explorer import Explorer
from sskd_tutor.viz.pairing import PairingEditor
from sskd_tutor.viz.panels import status_line
from sskd_tutor.viz.player import player_page
from sskd_tutor.viz.voila import voila_page

bad = '<img src=x onerror="document.hacked=1">'

class Seen(HTMLParser):
    "Tags and attributes of a piece of HTML"
    def __init__(self, text):
        super().__init__()
        self.tags, self.names, self.links = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        if tag == 'a': self.links |= {value for name, value in attrs if name == 'href'}

def safe(text):
    seen = Seen(text)
    assert not seen.tags & {'img', 'script', 'iframe'} and not any(name.startswith('on') for name in seen.names), text
    assert all(link.startswith('#sskd?') and not set(link) & set('<>"') for link in seen.links), text  # to the same view, percent-encoded
    assert '&lt;img' in text
    return seen

def hostile():
    "The example, with a hostile text wherever a recording holds one"
    rec = Recording.load(pkg_data/'example_recording')
    new = {stage: f'{stage}{bad}' for stage in rec.stages}
    def name(key): return new.get(key, key)
    for field in ('scale', 'channels', 'match', 'schedule', 'checksums'):
        setattr(rec, field, {name(key): value for key, value in getattr(rec, field).items()})
    for field in ('maps', 'projection'):
        setattr(rec, field, {(who, name(stage)): value for (who, stage), value in getattr(rec, field).items()})
    rec.steps.phase, rec.measures.phase = rec.steps.phase.map(name), rec.measures.phase.map(name)
    for column in ('student', 'teacher'): rec.measures[column] = rec.measures[column].map(name)
    rec.checksums = {stage: [bad]*len(digits) for stage, digits in rec.checksums.items()}
    rec.vocab = [f'{word}{bad}' for word in rec.vocab]
    rec.info['partners'] = {stage: stage for stage in rec.stages}
    return rec

def shortened(rec, n=2):
    "Its first steps: a page draws each figure at each step"
    rec.steps, rec.measures = rec.steps[:n], rec.measures[rec.measures.step < n]
    rec.match, rec.checksums = ({stage: values[:n] for stage, values in d.items()} for d in (rec.match, rec.checksums))
    for field in ('maps', 'projection'):
        setattr(rec, field, {key: values[:n] for key, values in getattr(rec, field).items()})
    return rec

def test_the_explorers_line():
    ex = Explorer(hostile())
    for step in range(len(ex.recording.steps)):   # the moment holds the name of a phase, and how many epochs it has
        ex.step.value = step
        safe(ex.says.value)
    ex.recording.schedule = {phase: bad for phase in ex.recording.schedule}
    ex.changed('step')
    safe(ex.says.value)
    ex.partner.value = ex.recording.stages[0]
    safe(ex.says.value)

def test_the_explorers_errors(monkeypatch):
    ex = Explorer(hostile())
    def fail(): raise ValueError(bad)
    monkeypatch.setattr(ex, 'sentence', fail)
    with pytest.raises(ValueError): ex.changed('step')
    safe(ex.says.value)

def test_the_dashboard():
    rec = hostile()
    first, second, *_ = rec.stages
    seen = safe(chips(rec.schedule, second, [first], rec))
    assert 'code' in seen.tags
    board = Board(rec.schedule, live=False, rec=rec, phase=second, machine=bad, state=bad, learning=True)
    safe(board.html())

def test_the_pairing_editor():
    def net(): return StagedNet({'s<b>1': nn.Conv2d(1, 2, 3), 's<b>2': nn.Conv2d(2, 2, 3)}, nn.Flatten())
    editor = PairingEditor(pair_stages(net(), net(), torch.rand(2, 1, 8, 8)))
    assert 'b' not in Seen(editor.says.value).tags
    assert 'b' not in Seen(editor.pairing._repr_html_()).tags

def test_markup_stays_and_text_is_escaped():
    assert status_line(Markup('<b>{}</b>').format('<i>')) == '<div role="status"><b>&lt;i&gt;</b></div>'
    assert status_line('<i>', 'alert') == '<div role="alert">&lt;i&gt;</div>'

# --- the report of a run

def hostile_info():
    stages = [dict(stage=f'stage{i}{bad}', mimic_loss=.1, nmse=.1, stitched=.5, epochs=1, gmacs=1., seconds=1.) for i in (1, 2)]
    return dict(title=bad, settings={bad: bad, 'classes': ['<!--<script>', '</script><script>document.hacked=1</script>']},
                results=dict(teacher=90., distilled=80., labels_only=70.), stages=stages, cost=dict(distilled=2., labels_only=2.),
                teacher=dict(name=bad, labels_seen=10, sha256=bad), seconds=2., data=dict(sha256=bad, n_train=10, n_valid=10),
                command=bad, environment=dict(time=bad, device_name=bad, threads=bad), student_sha256=bad, sha256={bad: bad})

def hostile_report(path):
    info = hostile_info()
    names = [r['stage'] for r in info['stages']]
    rows = [dict(phase='mimic', stage=s, epoch=0, train_loss=.5, valid_loss=.4, nmse=.4, stitched=.6) for s in names]
    rec = shortened(hostile())
    rec.vocab = ['<!--<script>']*len(rec.vocab)
    size = {'parameters': 3., 'MB': 1., 'M multiply-adds': 2., 'ms an image': None}
    answers = [dict(image='data:image/png;base64," onerror="document.hacked=1', truth=bad, answers={bad: '</figure><script>'})]
    (path.parent/'look.json').write_text(json.dumps(dict(sizes=dict(teacher=size, student=size) | {bad: size}, answers=answers)))
    return report_html(tidy(rows), info, path, look_section(path.parent) + sections(rec))

def test_the_report(tmp_path):
    text = hostile_report(tmp_path/'report.html').read_text()
    own, plotly = text.split('<script>', 1)[0], get_plotlyjs()
    own, films = re.subn(r'<script type="application/json">[^<]*</script>', '', own)   # data, and no `<` in it
    assert films == 1
    assert text.count(plotly) == 1
    text = text.replace(plotly, '')
    assert text.count('<script') == 4 == text.count('</script>') and '<!--' not in text and text.count('<img') == 1
    safe(own.replace('<img ', '<span ', 1))   # the image of an answer is ours

@pytest.mark.browser
def test_the_report_in_a_browser(tmp_path, chromium):
    from playwright.sync_api import sync_playwright
    path = hostile_report(tmp_path/'report.html')
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=browser_flags)
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector('.js-plotly-plot .gtitle', state='attached')
        drawn, wanted = page.locator('.js-plotly-plot').count(), page.locator('.figure').count()
        assert drawn == wanted > 4 and not page.evaluate('document.hacked') and page.locator('img').count() == 1   # of an answer
        assert page.locator('h1').inner_text() == bad
        browser.close()

def shown_in_a_notebook():
    "The HTML of everything that a notebook, Voila or the site shows of a run, with a hostile text in each field"
    rec = hostile()
    ex = Explorer(rec)
    for step in range(len(rec.steps)):
        ex.step.value = step
        yield ex.says.value
    first, second, *_ = rec.stages
    yield chips(rec.schedule, second, [first], rec)
    board = Board(rec.schedule, live=False, rec=rec, phase=second, machine=bad, state=bad, learning=True)
    yield from [board.html(), board.facts_html(), *(board.maps_html(stage) for stage in rec.stages)]
    def net(): return StagedNet({f's{i}{bad}'.replace('.', ','): nn.Conv2d(1 + (i > 1), 2, 3) for i in (1, 2)}, nn.Flatten())
    editor = PairingEditor(pair_stages(net(), net(), torch.rand(2, 1, 8, 8)))
    yield editor.says.value
    yield editor.pairing._repr_html_()
    run = SSKDRun(net(), net(), {}, {}, {f's1{bad}': 1, 'head': 0})
    rows = [dict(phase='mimic', stage=f's1{bad}', epoch=0, measure=m, value=.5) for m in ('valid_loss', 'nmse', 'stitched', 'seconds')]
    run.add(f's1{bad}', rows, 1, 1., images=4)
    yield run._repr_html_()
    yield run.history._repr_html_()

@pytest.mark.browser
def test_a_notebooks_output_in_a_browser(tmp_path, chromium):
    "Explorer, dashboard, pairing editor and runs as a page would hold them"
    from playwright.sync_api import sync_playwright
    pieces = list(shown_in_a_notebook())
    path = tmp_path/'page.html'
    path.write_text('<!doctype html><meta charset=utf-8>' + ''.join(f'<section>{piece}</section>' for piece in pieces))
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=browser_flags)
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_timeout(300)
        assert page.locator('section').count() == len(pieces) > 8, "no piece has opened or closed an element of the page"
        assert not page.evaluate('document.hacked') and page.locator('img[src="x"], script, iframe').count() == 0
        assert page.get_by_text('onerror').count() > 3   # it is read as text
        browser.close()

@pytest.mark.browser
def test_the_player_in_a_browser(tmp_path, chromium):
    "The film of a run, as the site's first page shows it"
    from playwright.sync_api import sync_playwright
    path = tmp_path/'player.html'
    path.write_text(player_page(hostile(), bad, bad))
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=browser_flags)
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_timeout(1_500)   # it plays
        assert not page.evaluate('document.hacked') and page.locator('img[src="x"]').count() == 0
        assert page.get_by_text('onerror').count() > 1
        browser.close()

def test_the_page_of_a_folder(tmp_path):
    "A folder's name becomes the title of a page"
    folder = shutil.copytree(pkg_data/'example_recording', tmp_path/'<img src=x onerror=1>')
    title, code = json.loads(voila_page(folder, tmp_path/'a.ipynb').read_text())['cells']
    assert '<' not in title['source'] and '&lt;img' in title['source']
    assert code['source'].count(repr(str(folder))) == 1

def test_above_or_below_the_teacher():
    info = hostile_info() | dict(results=dict(teacher=80., distilled=87.5))
    assert '7.50 points above the teacher' in outcome(info)
    assert '2.50 points below the teacher' in outcome(info | dict(results=dict(teacher=90., distilled=87.5)))
