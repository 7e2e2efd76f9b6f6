"""Headless Chromium on a real JupyterLab, on report.html from disk and on Voila: what is drawn follows what is done, and
nothing leaves the machine."""
import os, re, shutil, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import browser_flags, root
from helpers.keyboard import focus_next, of, walk
from helpers.pages import free_port

pytestmark = pytest.mark.browser
flags = [*browser_flags, '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1']
shots, lessons, example = root/'tests/screenshots', root/'nbs/lessons', root/'sskd_tutor/data_files/example_recording'

@contextmanager
def served(folder, *cmd):
    "A server on loopback with configuration of its own; its address"
    port = free_port()
    own = {f'JUPYTER{k}_DIR': str(folder/'.jupyter'/k) for k in ('_CONFIG', '_DATA', 'LAB_SETTINGS', 'LAB_WORKSPACES')}
    env = os.environ | own | dict(JUPYTER_PATH=own['JUPYTER_DATA_DIR'], PYTHONPATH=str(root), PYTHONWARNINGS='ignore',
                                  OMP_NUM_THREADS='1')
    env.pop('JPY_SESSION_NAME', None)
    quiet = folder/'.jupyter/LAB_SETTINGS/@jupyterlab/apputils-extension/notification.jupyterlab-settings'
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')
    with open(folder/'server.log', 'w') as log:
        cmd = [sys.executable, '-m', *cmd, '--no-browser', f'--port={port}']
        server = subprocess.Popen(cmd, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(300):
            if server.poll() is not None: break
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=60).close()
            except OSError: time.sleep(.2)
            else:
                yield f'http://127.0.0.1:{port}'
                return
        pytest.fail(f"{cmd} did not start: {(folder/'server.log').read_text()[-2000:]}")
    finally:
        server.terminate()
        server.wait(30)

@pytest.fixture(scope='module')
def browser(chromium):
    from playwright.sync_api import sync_playwright
    shots.mkdir(exist_ok=True)
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=flags)
        yield b
        b.close()

@pytest.fixture
def page(browser, request):
    "A page on which every request and every complaint is noted, and judged at the end"
    context = browser.new_context(viewport=dict(width=1300, height=1000))
    page, asked, said = context.new_page(), [], []
    context.on('request', lambda r: asked.append(r.url))
    page.on('websocket', lambda w: asked.append(w.url))
    page.on('console', lambda m: said.append(m.text) if m.type == 'error' else None)
    page.on('pageerror', lambda e: said.append(str(e)))
    page.set_default_timeout(60_000)
    yield page
    page.screenshot(path=shots/f'{request.node.name}_end.png')
    assert asked and [u for u in asked if not re.match(r'(data|blob|file):|(http|ws)://127\.0\.0\.1:', u)] == []
    assert said == []
    context.close()

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp('lab')
    for name in ('lessons', 'images'): shutil.copytree(root/'nbs'/name, folder/name)   # lessons show drawings
    options = '--ip=127.0.0.1', '--port-retries=0', '--IdentityProvider.token=', '--allow-root', '--LabApp.news_url=None'
    with served(folder, 'jupyterlab', *options) as url: yield url

# --- what a reader does

def run_all(page, lab, name):
    page.goto(f'{lab}/lab/workspaces/auto-{name}/tree/lessons/{name}.ipynb?reset')
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(state='attached')
    page.locator('.jp-CodeCell').first.wait_for()
    for _ in range(10):  # `?reset` may give the notebook a second kernel, and the first one's cells are dropped
        page.wait_for_timeout(1_500)
        page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        page.click('.lm-Menu-item[data-command="runmenu:run-all"]')
        page.wait_for_timeout(3_000)
        if any(re.search(r'\*|\d', t) for t in page.locator('.jp-CodeCell .jp-InputPrompt').all_inner_texts()): return
    pytest.fail(f"no cell of {name} began to run")

def await_in(page, condition, seconds=240):
    "Until JavaScript says true, or a cell fails; a slow machine needs a minute to import fastai"
    end = time.time() + seconds
    while not page.evaluate(condition):
        errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()
        assert errors == [] and time.time() < end, f"after {seconds} s, or an error: {condition}: {errors}"
        page.wait_for_timeout(200)

def finish(page):
    await_in(page, "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'")
    errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()
    assert errors == [] and page.locator('.jupyter-widgets-error-widget').count() == 0

def look(explorer):
    "The drawn state of an explorer: its titles, the maps as images, the ring, the line of curves"
    return explorer.evaluate("""el => {
        const plots = [...el.querySelectorAll('.js-plotly-plot')], all = (p, what) => [...p.querySelectorAll(what)]
        const where = i => i.getAttribute('xlink:href') ?? i.getAttribute('href')
        const text = (p, what) => p.querySelector(what)?.textContent
        return { titles: plots.map(p => text(p, '.gtitle')), aria: plots.map(p => p.getAttribute('aria-label')),
            maps: all(plots[0], '.mlayer image').map(where), curves: plots[3].textContent,
            points: all(plots[1], '.scatterlayer .point').map(p => p.getAttribute('transform')).join(),
            cells: all(plots[2], '.heatmaplayer text').map(t => t.textContent).join(),
            frame: plots[2].querySelector('.shapelayer path')?.getAttribute('d'),
            says: text(el, '[role=status]') } }""")

def changed(page, explorer, before, *parts, seconds=30, also=lambda now: True):
    "Wait until these parts of the drawn state differ, and what else is asked of it holds"
    end = time.time() + seconds
    while time.time() < end:
        now = look(explorer)
        if all(now[p] != before[p] for p in parts) and also(now): return now
        page.wait_for_timeout(150)
    still = [p for p in parts if now[p] == before[p]]
    raise AssertionError(f"unchanged after {seconds} s: {still}; {now['titles']}, {now['says']}")

def press(page, explorer, label, key):
    explorer.locator(f'.noUi-handle[aria-label="{label}"]').focus()
    page.keyboard.press(key)

def press_button(page, explorer, kind, place):
    "A button of the network ('sskd-net'), of the wall of channels ('sskd-wall') or of the images, by the keyboard"
    button = explorer.locator(f'.{kind} button').nth(place)
    button.focus()
    page.keyboard.press('Enter')
    page.wait_for_function("b => b.getAttribute('aria-pressed') === 'true'", arg=button.element_handle())
    return button

def choose(explorer, label, place):
    box = explorer.locator(f'select[aria-label="{label}"]')
    box.select_option(index=place)
    return box.evaluate('el => el.selectedOptions[0].text').replace('\xa0', ' ')

def settled(page, explorer):
    "The first view, once all is drawn"
    explorer.locator('.js-plotly-plot .gtitle').nth(3).wait_for(state='attached')
    end = time.time() + 60
    while len((now := look(explorer))['maps']) < 4 or not now['points']:
        assert time.time() < end, f"not drawn after a minute: {now}"
        page.wait_for_timeout(200)
    return now

def try_all(page, explorer):
    "Every slider by keyboard, every drop-down, the images, a point and a cell"
    a = settled(page, explorer)
    assert a['titles'][0].startswith('stage') and len(a['maps']) == 4 and all(a['aria'])
    chosen = int(a['titles'][0][5]) - 1
    press_button(page, explorer, 'sskd-net', 1 if chosen == 0 else chosen - 1)
    def follows(now): return now['titles'][0].split(',')[0] in now['titles'][1]   # each figure is drawn in its turn
    b = changed(page, explorer, a, 'titles', 'maps', 'points', 'frame', 'says', also=follows)
    assert b['titles'][0][:6] != a['titles'][0][:6]
    press(page, explorer, 'epoch', 'Home')
    def untrained(now): return all('before training' in t for t in [*now['titles'][:3], now['says']])
    c = changed(page, explorer, b, 'titles', 'maps', 'points', 'cells', also=untrained)
    assert c['maps'][:2] == b['maps'][:2] and c['maps'][2] != b['maps'][2], "image and teacher stand still, the student moves"
    press(page, explorer, 'epoch', 'End')
    d = changed(page, explorer, c, 'titles', 'maps')
    assert d['maps'][:2] == b['maps'][:2] and d['maps'][2] != c['maps'][2], "image and teacher still stand where they were"
    text = press_button(page, explorer, 'sskd-wall', 1).inner_text()
    e = changed(page, explorer, d, 'titles', 'maps')
    assert text in e['titles'][0] and e['maps'][0] == d['maps'][0]
    n = explorer.locator('select[aria-label="measure"] option').count()
    for i in range(n):
        text = choose(explorer, "measure", i)
        shown = "([el, t]) => el.querySelectorAll('.js-plotly-plot')[3].textContent.toLowerCase().includes(t)"
        page.wait_for_function(shown, arg=[explorer.element_handle(), text.split(',')[0].lower()])
    before = look(explorer)
    places = explorer.locator('select[aria-label="against"] option').count()
    text = choose(explorer, 'against', 0 if e['titles'][0].startswith(f'stage{places}') else places - 1)
    told = lambda o: text.split()[-1] in o['titles'][3] and 'only pair' in o['says']  # the measure chosen last may be drawn first
    f = changed(page, explorer, before, 'frame', 'curves', 'says', also=told)
    press_button(page, explorer, 'sskd-images', 2)
    g = changed(page, explorer, f, 'maps', 'points')
    assert g['maps'][0] != f['maps'][0]
    cell = explorer.locator('.js-plotly-plot').nth(2)
    cell.scroll_into_view_if_needed()
    box = cell.locator('.nsewdrag').first.bounding_box()
    page.mouse.move(box['x'] + box['width']*.1, box['y'] + box['height']*.12)
    page.wait_for_timeout(300)
    page.mouse.click(box['x'] + box['width']*.1, box['y'] + box['height']*.1)
    h = changed(page, explorer, g, 'frame', 'titles')
    assert h['titles'][0].startswith('stage1')
    return h

strip = """b => ({ own: getComputedStyle(b).backgroundImage, open: getComputedStyle(b, '::after').content,
                   wide: getComputedStyle(b, '::after').width })"""

def try_network(page, explorer):
    "The network is drawn to scale; its channels are a wall; mouse and keyboard open teacher, student and difference"
    stages = explorer.locator('.sskd-net button')
    boxes = stages.evaluate_all("bs => bs.map(b => decodeURIComponent(getComputedStyle(b).backgroundImage).match(/ height=.[0-9.]+/g).slice(1))")
    heights = [float(re.search(r'[\d.]+', b[0])[0]) for b in boxes]
    assert heights == sorted(heights, reverse=True) and heights[0] > 2*heights[2], "each stage halves the side of the map"
    assert all(re.search(r'teacher \d+ channels of', s.get_attribute('title')) for s in stages.all())
    tiles = explorer.locator('.sskd-wall button')
    assert tiles.count() == 4
    closed = tiles.nth(2).evaluate(strip)
    assert closed['own'].startswith('url("data:image/png') and closed['open'] in ('none', 'normal')
    tiles.nth(2).hover()
    assert 'difference' in tiles.nth(2).evaluate(strip)['open']
    page.mouse.move(0, 0)
    tiles.nth(0).focus()
    page.keyboard.press('Tab')
    opened = [t.evaluate(strip)['open'] for t in tiles.all()]
    assert [i for i, text in enumerate(opened) if 'difference' in text] == [1], "the keyboard opens it too"
    play = explorer.locator('.widget-play button').first
    assert play.get_attribute('aria-label')
    before = look(explorer)
    play.focus()
    page.keyboard.press('Enter')
    changed(page, explorer, before, 'titles', 'maps')
    play.focus()
    page.keyboard.press('Enter')

def try_point(page, explorer):
    "The image behind a point is shown at the mouse, also of one whose maps were not kept"
    plot = explorer.locator('.js-plotly-plot').nth(1)
    plot.scroll_into_view_if_needed()
    tip, seen = explorer.locator('.sskd-tip'), set()
    for box in plot.locator('.scatterlayer .point').evaluate_all("ps => ps.slice(0, 200).filter((p, i) => i % 9 === 0).map(p => p.getBoundingClientRect().toJSON())"):
        page.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
        page.wait_for_timeout(120)
        if tip.is_visible(): seen.add(int(tip.get_attribute('data-point')))
    assert max(seen, default=0) > 8, seen
    page.mouse.move(0, 0)

def screenshots(page, explorer, name):
    "Light and dark, wide and narrow; text must be readable in both. On a phone JupyterLab's own panels leave a cell 22 px; Voila has none"
    widths = (1440, 900, 390) if name == 'voila' else (1440, 900)
    for theme in ('light', 'dark'):
        for width in widths:
            page.set_viewport_size(dict(width=width, height=2600))
            explorer.scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            fits = "el => [...el.querySelectorAll('.main-svg')].every(s => s.getBoundingClientRect().width <= el.clientWidth + 2)"
            page.wait_for_function(fits, arg=explorer.element_handle(), timeout=20_000)
            if name == 'voila': assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0, width
            within = "el => [...el.querySelectorAll('.gtitle')].every(t => t.getBoundingClientRect().right <= el.getBoundingClientRect().right + 6)"
            if name == 'voila': assert explorer.evaluate(within), f'a title is cut off at {width} px'
            page.wait_for_timeout(300)
            explorer.screenshot(path=shots/f'{name}_{theme}_{width}.png')
        if theme == 'light' and page.locator('.lm-MenuBar').count():
            page.set_viewport_size(dict(width=1300, height=1000))
            page.click('.lm-MenuBar-itemLabel:text-is("Settings")')
            page.hover('.lm-Menu-item:has-text("Theme")')
            page.click('.lm-Menu-item:has-text("JupyterLab Dark")')
            page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
        elif theme == 'light': break
    if theme == 'dark':
        ink = explorer.locator('.gtitle').first.evaluate("el => getComputedStyle(el).fill")
        assert sum(map(float, re.findall(r'[\d.]+', ink)[:3])) > 384, f'the title is drawn in {ink} on a dark page'

# --- the lessons

def test_watch_lesson(page, lab):
    run_all(page, lab, '07_watch')
    await_in(page, "document.querySelector('.sskd .chip') !== null")
    live = page.locator('.sskd').first.element_handle()
    page.evaluate("""live => { globalThis.looks = new Set(); globalThis.states = new Set()
        const look = p => p.querySelector('.plot-container')?.innerHTML.length + p.textContent
        setInterval(() => {
            const plots = [...live.querySelectorAll('.js-plotly-plot')], maps = [...live.querySelectorAll('.sskd-block img')]
            if (!maps.length) return
            looks.add([...maps.map(m => m.src), ...plots.map(look)].join())
            states.add(live.querySelector('.state').textContent) }, 100) }""", live)
    await_in(page, "document.querySelector('.sskd .state').textContent === 'finished'")
    assert page.evaluate('looks.size') >= 5, "the live figures must change at least five times during training"
    assert len([s for s in page.evaluate('[...states]') if 'learns' in s]) >= 5
    chips = page.locator('.sskd').first.locator('.chip').all_text_contents()  # also where the page is scrolled away
    assert len(chips) == 4 and all(re.search(r'[0-9a-f]{8}$', c) for c in chips[:3]) and 'changed' not in ' '.join(chips)
    finish(page)
    page.set_viewport_size(dict(width=1300, height=2600))
    page.locator('.sskd').first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.locator('.sskd').first.screenshot(path=shots/'live.png')
    page.set_viewport_size(dict(width=1300, height=1000))
    explorers = page.locator('.sskd:has(.noUi-handle)')
    assert explorers.count() == 2
    explorers.nth(1).scroll_into_view_if_needed()
    try_all(page, explorers.nth(1))
    screenshots(page, explorers.nth(1), 'explorer')

def test_alignment_lesson(page, lab):
    run_all(page, lab, '07a_alignment')
    page.wait_for_timeout(1000)
    finish(page)
    page.wait_for_selector('.js-plotly-plot .gtitle', state='attached')
    titles = page.locator('.js-plotly-plot .gtitle').all_text_contents()
    assert titles and 'NaN' not in ' '.join(titles)
    page.locator('.js-plotly-plot').first.screenshot(path=shots/'alignment.png')

# --- without a notebook

def test_report_slides_from_disk(page, tmp_path):
    "Every slider of a report is a native one: the keyboard reaches it, and what is drawn follows"
    from sskd_tutor.runs.saved import write_report
    shutil.copytree(example, tmp_path/'run')
    page.goto(write_report(tmp_path/'run').as_uri())
    page.locator('.sskd-film[data-on=ready]').wait_for()
    page.wait_for_selector('.moments input', state='attached')
    state = """p => { const all = what => [...p.querySelectorAll(what)]
        return all('.point, .mlayer text, .gtitle').map(t => t.getAttribute('transform') + t.textContent).join() }"""
    assert page.locator('.slider-group, .updatemenu-button').count() == 0
    plots = page.locator('.figure:has(+ .moments)')
    assert plots.count() >= 3
    for p in plots.all():
        p.scroll_into_view_if_needed()
        before, range_of = p.evaluate(state), p.locator('+ .moments input')
        range_of.focus()
        page.keyboard.press('Home')
        page.wait_for_function(f"([p, before]) => ({state})(p) !== before", arg=[p.element_handle(), before])
        assert 'start' in p.locator('+ .moments output').text_content()
    page.screenshot(path=shots/'report_sliders.png')

def test_report_without_a_mouse(page, tmp_path):
    "Tab comes to the film, to every figure that moves and to what is folded; Enter, Space and arrows work"
    from sskd_tutor.runs.saved import write_report
    shutil.copytree(example, tmp_path/'run')
    page.emulate_media(reduced_motion='reduce')
    page.goto(write_report(tmp_path/'run').as_uri())
    page.locator('.sskd-film[data-on=ready]').wait_for()
    page.wait_for_selector('.moments input', state='attached')
    page.wait_for_function("[...document.querySelectorAll('.figure')].every(f => f.querySelector('.main-svg'))")
    found = walk(page)
    n = page.locator('.moments').count()
    assert n >= 3 and len(of(found, '.moments', 'input')) == len(of(found, '.moments', 'button')) == n
    assert len(of(found, '.chapters', 'button')) == 4 and len(of(found, '.sskd-film', 'input')) == 1
    folded = page.locator('summary').count()
    assert folded and len([e for e in found if e['tag'] == 'summary']) == folded
    assert [e['place'] for e in found] == sorted(e['place'] for e in found) and all(e['name'] and e['seen'] for e in found)
    page.reload()
    page.locator('.sskd-film[data-on=ready]').wait_for()
    page.wait_for_selector('.moments input', state='attached')
    focus_next(page, '.sskd-film', 'button')
    page.keyboard.press('Enter')
    page.wait_for_function("document.querySelector('.sskd-film .play').ariaLabel === 'Pause'")
    page.keyboard.press('Space')
    focus_next(page, '.moments', 'input')
    page.keyboard.press('Home')
    assert page.evaluate('document.activeElement.value') == '0'
    page.locator('summary').first.focus()
    page.keyboard.press('Enter')
    assert page.locator('details').first.evaluate('d => d.open')

@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_report_on_a_phone(page, tmp_path, theme):
    "In 0.1 labels, color bars and play buttons ran into each other at 390 px"
    from sskd_tutor.runs.saved import write_report
    shutil.copytree(example, tmp_path/'run')
    page.set_viewport_size(dict(width=390, height=844))
    page.emulate_media(color_scheme=theme, reduced_motion='reduce')
    page.goto(write_report(tmp_path/'run').as_uri())
    page.locator('.sskd-film[data-on=ready]').wait_for()
    page.wait_for_function("[...document.querySelectorAll('.figure')].every(f => f.querySelector('.main-svg'))")
    page.wait_for_timeout(500)
    assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0
    wide = page.evaluate("[...document.querySelectorAll('.figure .main-svg')].filter(s => s.getBoundingClientRect().right > innerWidth + 1).length")
    assert wide == 0 and page.locator('h1').count() == 1 and page.locator('meta[name=viewport]').count() == 1
    within = "ts => ts.every(t => t.getBoundingClientRect().right <= t.closest('.figure').getBoundingClientRect().right + 2)"
    assert page.locator('.figure .gtitle').evaluate_all(within), 'a title is cut off'
    page.screenshot(path=shots/f'report_phone_{theme}.png', full_page=True)

def shadow_voilas_page(folder):
    "It asks a CDN for icons that nothing here uses; for a server in this folder one without them takes its place"
    name = 'voila/templates/lab/index.html.j2'
    lines = (Path(sys.prefix)/'share/jupyter'/name).read_text().splitlines(True)
    shadow = folder/'.jupyter/_DATA'/name
    shadow.parent.mkdir(parents=True)
    shadow.write_text(''.join(line for line in lines if 'cdn.jsdelivr.net' not in line))

@pytest.mark.slow
def test_voila_serves_the_explorer(page, tmp_path):
    pytest.importorskip('voila', reason="pip install voila")
    from sskd_tutor.viz.voila import voila_page
    voila_page(example, tmp_path/'explorer.ipynb', 'Three stages learn')
    shadow_voilas_page(tmp_path)
    options = '--Voila.ip=127.0.0.1', '--show_tracebacks=True'
    with served(tmp_path, 'voila', 'explorer.ipynb', *options) as url:
        page.goto(url)
        page.wait_for_selector('.sskd .noUi-handle')
        assert page.title() == 'Three stages learn' and page.locator('h1').count() == 1
        explorer = page.locator('.sskd').first
        settled(page, explorer)
        assert 'stage1, epoch 2 of' in look(explorer)['says'], "it opens early in training, where something is to be seen"
        try_network(page, explorer)
        try_all(page, explorer)
        try_point(page, explorer)
        screenshots(page, explorer, 'voila')
        link, shown = explorer.locator('.sskd-link').get_attribute('href'), look(explorer)
        page.goto('about:blank')
        page.goto(url + link)
        page.wait_for_selector('.sskd .noUi-handle')
        explorer = page.locator('.sskd').first
        settled(page, explorer)
        changed(page, explorer, dict(says=''), 'says', also=lambda now: now['says'] == shown['says'] and now['maps'] == shown['maps'])
        page.goto('about:blank')
