"""What a newcomer does: `make lab` in a fresh clone, the first lesson from top to bottom, its first exercise wrong and right. And
a lesson as a page of Voila; and the slides, which are read where there is no network."""
# ruff: noqa: F811
import json, os, re, shutil, signal, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from conftest import root
from helpers.pages import free_port
from test_browser import await_in, browser, finish, page, served, shadow_voilas_page, shots  # noqa: F401

sys.path.insert(0, str(root/'tools'))
import slides

pytestmark = pytest.mark.browser

def quick(folder):
    "The environment of a kernel that takes the small sizes and keeps progress in the folder"
    own = dict(SSKD_QUICK='1', PLOTLY_RENDERER='plotly_mimetype', PYTHONWARNINGS='ignore')
    return own | dict(SSKD_PROGRESS=str(folder/'progress.json'))

@contextmanager
def make_lab(clone, folder):
    "`make lab` as it stands, in a clone that has the environment already; its address"
    port = free_port()
    (clone/'.venv').symlink_to(Path(sys.prefix))
    own = {f'JUPYTER{k}_DIR': str(folder/k) for k in ('_CONFIG', '_DATA', 'LAB_SETTINGS', 'LAB_WORKSPACES')}
    env = os.environ | own | quick(folder)
    env |= dict(JUPYTER_PATH=own['JUPYTER_DATA_DIR'], PYTHONPATH=str(clone), OMP_NUM_THREADS='1')
    env.pop('JPY_SESSION_NAME', None)
    args = f'--no-browser --ip=127.0.0.1 --port={port} --port-retries=0 --IdentityProvider.token= --LabApp.news_url=None'
    with open(folder/'server.log', 'w') as log:
        server = subprocess.Popen(['make', '-o', '.venv/.core', 'lab', f'ARGS={args}'], cwd=clone, env=env, stdout=log, stderr=log,
                                  stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api', timeout=60).close()
            except OSError: time.sleep(.2)
            else: break
            if server.poll() is not None: break
        else: server.terminate()
        assert server.poll() is None, f"`make lab` did not start: {(folder/'server.log').read_text()[-2000:]}"
        yield f'http://127.0.0.1:{port}'
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)

def answer(page, id, text):
    "Write over the exercise's cell, run it with Shift+Enter, and read the card that appears"
    cell = page.locator('.jp-CodeCell').filter(has_text=f"check('{id}'").first
    cell.scroll_into_view_if_needed()
    before = cell.locator('.sskd-verdict').inner_text()
    cell.locator('.cm-content').click()
    page.keyboard.press('Control+a')
    page.keyboard.insert_text(f"{text}\n\ncheck('{id}', guess)")
    page.keyboard.press('Shift+Enter')
    for _ in range(300):
        card = cell.locator('.sskd-verdict')
        if card.count() and (now := card.inner_text()) != before: return cell, now
        page.wait_for_timeout(200)
    pytest.fail(f"the card of {id} stayed as it was: {before}")

def test_a_newcomers_path(page, browser, clone, tmp_path):
    with make_lab(clone, tmp_path) as url:
        page.set_viewport_size(dict(width=1300, height=1400))
        front = browser.new_page()  # nobody watches it: the front page's badges are images from elsewhere
        front.goto(f'{url}/lab/tree/index.ipynb')
        front.locator('.jp-Notebook h1:has-text("sskd_tutor")').first.wait_for(timeout=60_000)
        front.close()
        page.goto(f'{url}/lab/workspaces/auto-lesson/tree/lessons/01_first.ipynb?reset')
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(state='attached')
        page.locator('.jp-Notebook h1:has-text("A better student")').wait_for()
        page.wait_for_timeout(2_000)
        page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        page.click('.lm-Menu-item[data-command="runmenu:run-all"]')
        last = "[...document.querySelectorAll('.jp-CodeCell')].at(-1)?.innerText ?? ''"
        page.wait_for_timeout(3_000)
        finish(page)
        page.locator('.jp-Notebook .jp-WindowedPanel-outer, .jp-Notebook').first.evaluate("el => el.scrollTop = el.scrollHeight")
        await_in(page, f"/\\[\\d+\\]/.test({last})", 60)
        assert not (tmp_path/'progress.json').exists(), "an untouched exercise is no try"
        page.locator('.jp-Notebook .jp-WindowedPanel-outer, .jp-Notebook').first.evaluate("el => el.scrollTop = 0")
        cell, card = answer(page, '1.1', 'guess = .5')
        assert 'not yet' in card and 'Hint 1' in card and 'Hint 2' not in card and '4.5' in card
        cell.screenshot(path=shots/'exercise_wrong.png')
        cell, card = answer(page, '1.1', 'guess = .12')
        assert '✓ right' in card and 'Hint' not in card
        cell.screenshot(path=shots/'exercise_right.png')
        row = json.loads((tmp_path/'progress.json').read_text())['1.1']
        assert row['tries'] == 2 and row['passed'] is True
        page.goto('about:blank')

def test_voila_serves_a_lesson(browser, tmp_path, monkeypatch):
    pytest.importorskip('voila', reason="pip install voila")
    for k, v in quick(tmp_path).items(): monkeypatch.setenv(k, v)
    shutil.copy(root/'nbs/lessons/01_first.ipynb', tmp_path)
    shadow_voilas_page(tmp_path)
    page, asked, said = browser.new_page(), [], []
    page.on('request', lambda r: asked.append(r.url))
    page.on('pageerror', lambda e: said.append(str(e)))
    with served(tmp_path, 'voila', '01_first.ipynb', '--Voila.ip=127.0.0.1', '--show_tracebacks=True') as url:
        page.goto(url, timeout=240_000)
        await_in(page, "document.querySelectorAll('.sskd-verdict').length === 4")
        await_in(page, "document.querySelectorAll('.js-plotly-plot .gtitle').length >= 5")
        text = page.locator('body').inner_text()
        assert 'A better student' in text and 'Traceback' not in text and 'What to take away' in text
        page.screenshot(path=shots/'voila_lesson.png')
        assert {u for u in asked if not re.match(r'(data|blob):|http://127\.0\.0\.1:', u)} == set()
        known = 'setData is not a function'  # how Voila greets plotly, which draws all the same
        assert {m for m in said if known not in m} == set()
        page.close()

@pytest.fixture(scope='module')
def decks(tmp_path_factory):
    to = tmp_path_factory.mktemp('slides')
    slides.make(to, ['02_kd', '07a_alignment'])
    return to

@pytest.mark.parametrize('name', ['02_kd', '07a_alignment'])
def test_slides_from_disk(page, decks, name):
    page.set_viewport_size(dict(width=1280, height=720))
    page.goto((decks/f'{name}.html').as_uri())
    page.wait_for_selector('.reveal.ready')
    n = page.evaluate('deck.getTotalSlides()')
    assert n > 15
    drawn, headings = 0, set()
    for i in range(n):
        s = page.evaluate("""() => { const s = deck.getCurrentSlide(), img = s.querySelector('img.figure')
            return { high: s.scrollHeight, wide: s.scrollWidth, img: img && img.complete && img.naturalWidth,
                     heading: s.querySelector('h1, h2, h3')?.textContent, text: s.innerText, at: deck.getSlidePastCount() } }""")
        assert s['at'] == i and s['high'] <= 700 and s['wide'] <= 1240, s
        assert s['img'] or s['heading'], s
        drawn += s['img'] is not None
        headings.add(s['heading'])
        if i in (0, n//2): page.screenshot(path=shots/f'slides_{name}_{i}.png')
        page.keyboard.press('Space')
    assert drawn >= 5 and len(headings) >= 5
    formulas = page.locator('math').count()
    assert formulas and not re.search(r'\$[^$]+\$', page.evaluate("document.querySelector('.slides').textContent"))

def test_figures_as_files(tmp_path):
    import figures
    named = {p.stem: figures.named(p, tmp_path) for p in sorted((root/'nbs/lessons').glob('*.ipynb'))}
    assert all(len(figs) >= 2 for figs in named.values()), {k: len(v) for k, v in named.items()}
    some = {p: figs[p] for figs in (named['01_first'], named['07a_alignment']) for p in list(figs)[:1]}
    for p in some: p.parent.mkdir()
    figures.draw(some, 'svg', 'png')
    for p, fig in some.items():
        svg, png = p.with_name(f'{p.name}.svg').read_text(), Image.open(p.with_name(f'{p.name}.png'))
        title = figures.plain(fig.layout.title.text)
        assert svg.startswith('<svg') and title[:20] in figures.plain(svg) and png.size == (1800, 2*(fig.layout.height or 450))
        assert len(png.convert('L').getcolors(256)) > 20, "nothing is drawn"
