"""The site as it is built from the notebooks: every page, every link, every figure, in Chromium and without a network."""
import importlib, json, os, re, shutil, subprocess, sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from nbdev.config import get_config, nbpath2html

import test_browser
from conftest import root, tracked
from helpers.keyboard import focus_next, of, walk
from helpers.pages import serving
from sskd_tutor._modidx import d as modidx

sys.path.insert(0, str(root/'tools'))
import page_bytes

pytestmark = pytest.mark.long   # building the site takes minutes

browser, page, shots = test_browser.browser, test_browser.page, test_browser.shots  # its fixtures
cfg = get_config(root)
github = f'{cfg.git_url}/blob/{cfg.branch}/'
colab = github.replace('//github.com', '//colab.research.google.com/github')
nbs = [p.relative_to(root/'nbs') for p in tracked(root) if p.suffix == '.ipynb' and p.is_relative_to(root/'nbs')]
lessons = sorted(p for p in nbs if p.parent.name == 'lessons')
html_of = lambda p: nbpath2html(p).as_posix()
cells_of = lambda p: nbformat.read(root/'nbs'/p, 4).cells

def build(out, *options):
    env = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(root), PYTHONWARNINGS='ignore')
    cmd = [sys.executable, root/'docs/build.py', '--out', out, *options]
    return subprocess.run(cmd, env=env, capture_output=True, text=True, timeout=600)

@pytest.fixture(scope='module')
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp('site')/'_docs'
    return build(out), out

@pytest.fixture(scope='module')
def site(built):
    "Also with a link that leads nowhere, of which one test complains; not without pages"
    p, out = built
    assert out.exists(), p.stderr[-3000:]
    return out

class Read(HTMLParser):
    "What a page holds: places that can be linked to, links, what is loaded, text outside of scripts"
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.text, self.tags, self.quiet = set(), [], [], [], [], False
        self.feed(path.read_text())
        self.text = ''.join(self.text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.tags.append((tag, a))
        self.quiet = tag in ('script', 'style')
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        links = [a[k] for k in ('href', 'src', 'data', 'poster') if a.get(k)]
        self.links += links
        if tag not in ('a', 'form') and a.get('rel') not in ('canonical', 'search', 'next', 'prev', 'index'): self.loads += links

    def handle_endtag(self, tag): self.quiet = self.quiet and tag not in ('script', 'style')
    def handle_data(self, data):
        if not self.quiet: self.text.append(data)

    def of_class(self, name): return [a for t, a in self.tags if name in a.get('class', '').split()]

@pytest.fixture(scope='module')
def pages(site): return {f.relative_to(site).as_posix(): Read(f) for f in site.rglob('*.html') if '_static' not in f.parts}

# --- what is there

def test_builds_without_a_complaint(built): assert built[0].returncode == 0, built[0].stderr[-3000:]

def test_each_notebook_has_its_page(site, pages):
    assert len(nbs) > 40 and {html_of(p) for p in nbs} <= set(pages)
    for p in nbs:
        title = re.match('# (.+)', cells_of(p)[0].source)[1]
        assert title.replace('`', '') in pages[html_of(p)].text
        assert (site/f'{html_of(p)}.md').read_text().startswith(f'# {title}')  # the modules' docstrings link to it
        assert (site/'notebooks'/p).read_bytes() == (root/'nbs'/p).read_bytes()

def test_course_in_order(pages):
    in_order = [html_of(p) for p in lessons]
    links = [a['href'] for a in pages['index.html'].of_class('internal') if a.get('href', '').startswith('lessons/')]
    assert list(dict.fromkeys(links)) == in_order
    assert [a['href'] for a in pages['index.html'].of_class('card')] == in_order
    assert pages['index.html'].of_class('start')[0]['href'] == in_order[0]

@pytest.mark.parametrize('path', lessons, ids=lambda p: p.name)
def test_lesson_opens_in_colab_and_downloads(path, site, pages):
    p = pages[html_of(path)]
    (on_colab,), (download,) = p.of_class('colab'), p.of_class('download')
    assert on_colab['href'] == f'{colab}colab/{path.name}' and (root/'colab'/path.name).exists()
    assert 'download' in download and (site/'lessons'/download['href']).resolve() == (site/'notebooks'/path).resolve()

def test_everything_exported_is_documented_and_can_be_linked_to(pages):
    missing = []
    for module, syms in modidx['syms'].items():
        public = importlib.import_module(module).__all__  # what `exporti` shares with other modules is not in it
        names = {n.removeprefix(f'{module}.'): where.split('#') for n, (where, _) in syms.items()}
        for n, (html, place) in names.items():
            first, last = n.split('.')[0], n.split('.')[-1]
            if first not in public or last[0] == '_' or (first in names and n != first): continue  # a class shows its own methods
            if not {place, place.replace('_', '-')} & pages[html].ids: missing.append((html, n))
    assert len(modidx['syms']) > 30 and missing == []

def test_names_lead_to_the_page_that_defines_them(pages):
    found = {html: [a['href'] for a in p.of_class('name') if 'href' in a] for html, p in pages.items()}
    assert sum(map(len, found.values())) > 100
    assert '#mimic_nmse' in found['distill/losses.html'] or any(h.endswith('losses.html#mimic_nmse') for hs in found.values() for h in hs)

def test_figures_are_live(pages):
    def holds(out): return 'application/vnd.plotly.v1+json' in out.get('data', {}) or 'figure' in out.get('metadata', {})
    saved = {p: sum(map(holds, (o for c in cells_of(p) for o in c.get('outputs', [])))) for p in nbs}
    drawn = {p: len(pages[html_of(p)].of_class('figure')) for p in nbs}
    assert drawn == saved and sum(saved.values()) > 30  # none is hidden: a figure without its code is `#| echo: false`

def test_formulas_are_drawn_without_a_script(pages):
    assert sum(t == 'math' for t, _ in pages['distill/losses.html'].tags) >= 7
    assert not [n for n, p in pages.items() if re.search(r'\$[^$]*\\(frac|mathrm|sum|alpha)\b', p.text)]

# --- where it leads

def test_links_and_places(site, pages):
    "Each link inside the site leads to a file, and each # to a place on its page"
    inner, wrong = 0, []
    for name, p in pages.items():
        for link in p.links:
            if re.match(r'(https?:)?//|mailto:|javascript:|data:', link): continue
            u, inner = urlsplit(link), inner + 1
            file = ((site/name).parent/unquote(u.path) if u.path else site/name).resolve()
            there = pages.get(file.relative_to(site.resolve()).as_posix()) if file.is_relative_to(site.resolve()) else None
            if not file.is_file() or (u.fragment and there and unquote(u.fragment) not in there.ids): wrong.append((name, link))
    assert inner > 2_000 and wrong == []

def test_links_into_the_repository(pages):
    known = {p.relative_to(root).as_posix() for p in tracked(root)}
    into_repository = re.compile(rf'(?:{re.escape(github)}|{re.escape(colab)})([^#]+)(?:#L(\d+))?$')
    found = filter(None, map(into_repository.match, {link for p in pages.values() for link in p.links}))
    def is_wrong(path, line): return path not in known or line and int(line) > len((root/path).read_text().splitlines())
    led = {m[0]: is_wrong(m[1], m[2]) for m in found}
    assert len(led) > 100 and not [link for link, wrong in led.items() if wrong]

def test_nothing_is_fetched_from_elsewhere(site, pages):
    assert not [(n, l) for n, p in pages.items() for l in p.loads if re.match(r'(https?:)?//', l)]
    for css in site.rglob('*.css'): assert not re.search(r'(@import|url\()\s*["\']?(https?:)?//', css.read_text()), css

def test_no_path_of_one_machine(pages):
    paths = re.compile('|'.join('/'.join(['', d, '']) for d in ('root', 'home', 'Users', 'work')) + r'|/tmp/\w')
    assert {n: m[0] for n, p in pages.items() if (m := paths.search(p.text))} == {}

def test_no_address_in_memory(pages):
    "As a default of a signature it helps nobody, and no two builds would be equal"
    assert [n for n, p in pages.items() if re.search(r'\bat 0x[0-9a-f]{6}', p.text)] == []

def test_a_link_that_leads_nowhere_stops_the_build(tmp_path):
    def write(name, text):
        (tmp_path/'nbs'/name).parent.mkdir(exist_ok=True, parents=True)
        cells = [nbformat.v4.new_markdown_cell(t) for t in (f'# {name}\n\n> A page', text)]
        kernel = dict(name='python3', display_name='python3', language='python')
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=kernel)), tmp_path/'nbs'/name)
    write('index.ipynb', 'One [lesson](lessons/01_one.ipynb).')
    write('lessons/01_one.ipynb', 'Back [home](../index.ipynb), or off to [nowhere](02_two.ipynb).')
    p = build(tmp_path/'out', '--nbs', tmp_path/'nbs')
    assert p.returncode and re.search('lessons/one.*WARNING.*02_two', p.stderr) and p.stderr.count('WARNING') == 1

# --- in a browser

@pytest.fixture(scope='module')
def url(site):
    with serving(site) as address: yield address

draw_all = """async () => { for (const b of document.querySelectorAll('.figure')) {
    b.scrollIntoView(); while (!b.dataset.drawn) await new Promise(r => setTimeout(r, 20)) } }"""
state = """p => { const all = what => [...p.querySelectorAll(what)]
    return [p.querySelector('.slider-label')?.textContent, ...all('image').map(i => i.getAttribute('href')
        ?? i.getAttribute('xlink:href')), ...all('.point, .gtitle, .js-line').map(t => t.outerHTML)].join() }"""
drawn_as = """t => document.documentElement.dataset.theme === t
    && [...document.querySelectorAll('.figure[data-drawn]')].every(b => b.dataset.drawn === t)"""

def changes(page, plot, before):
    page.wait_for_function(f"([p, before]) => ({state})(p) !== before", arg=[plot.element_handle(), before])

def switch(page, theme):
    page.evaluate('scrollTo(0, 0)')
    page.click('.theme-switch-button')
    page.click(f'.theme-change-button[data-mode="{theme}"]')
    page.wait_for_function(drawn_as, arg=theme)

def move(page, plot, key):
    "Press a key on a figure's slider; where the slider moves, what is drawn must change"
    plot.scroll_into_view_if_needed()
    slider = plot.locator('+ .moments input')
    before, at = plot.evaluate(state), slider.input_value()
    slider.focus()
    page.keyboard.press(key)
    if slider.input_value() != at: changes(page, plot, before)

whole_titles = """() => [...document.querySelectorAll('.figure[data-drawn] .gtitle')].every(t => {
    const title = t.getBoundingClientRect(), box = t.closest('.figure').getBoundingClientRect()
    return title.left >= box.left - 2 && title.right <= box.right + 2 })"""

@pytest.mark.browser
def test_every_page(page, url):
    "Figures drawn, sliders moved, theme switched, no wider than a phone; `page` notes complaints and requests to the outside"
    sliders = 0
    for i, p in enumerate(map(html_of, nbs)):
        page.goto(f'{url}/{p}')
        page.evaluate(draw_all)
        for plot in page.locator('.plot:has(+ .moments)').all():
            for key in ('Home', 'ArrowRight'): move(page, plot, key)
            sliders += 1
        assert page.locator('h1').count() == 1 and page.locator('meta[name=viewport]').count() == 1, p
        theme = ('dark', 'light')[i % 2]
        switch(page, theme)
        for fill in page.locator('.figure:not(.own) .gtitle').evaluate_all("ts => ts.map(t => getComputedStyle(t).fill)"):
            bright = sum(map(float, re.findall(r'[\d.]+', fill)[:3])) > 384
            assert bright == (theme == 'dark'), f'{p}: a title is drawn in {fill}'
        page.set_viewport_size(dict(width=390, height=844))
        assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0, f'{p} is wider than a phone'
        page.wait_for_function(whole_titles, timeout=20_000)   # or a title is cut off
        page.set_viewport_size(dict(width=1300, height=1000))
    assert sliders > 3

@pytest.mark.browser
def test_front_page_plays_a_run(page, url):
    "From the start, by itself; then the reader scrubs; before that less than 2 MB have come"
    came = []
    page.on('response', lambda r: came.append(len(r.body()) if r.ok else 0))
    page.goto(url + '/index.html')
    film = page.locator('.sskd-film[data-on=ready]')
    film.wait_for()
    page.wait_for_function("+document.querySelector('.sskd-film').dataset.step >= 2")
    assert 0 < sum(came) < 2_000_000
    slider = film.locator('input[type=range]')
    slider.focus()
    page.keyboard.press('End')
    page.wait_for_function("document.querySelector('.sskd-film').dataset.step === '28'")
    assert film.locator('.block .lock').count() == 3
    for width in (1300, 390):  # the site's own style sheets must not bend the maps
        page.set_viewport_size(dict(width=width, height=1000))
        boxes = page.evaluate("[...document.querySelectorAll('.sskd-film .line canvas')].map(c => c.getBoundingClientRect())")
        assert all(abs(b['width'] - b['height']) < 1 for b in boxes) and max(b['width'] for b in boxes) > 40
    page.set_viewport_size(dict(width=1300, height=1000))
    switch(page, 'dark')
    assert film.get_attribute('data-step') == '28', 'the moment is kept when the theme changes'
    swap = page.locator('.swap')
    said = swap.locator('output').inner_text()
    swap.locator('input').focus()
    page.keyboard.press('End')
    assert swap.locator('output').inner_text() != said and 'student alone' in swap.locator('output').inner_text()
    page.screenshot(path=shots/'site_front_dark.png')

@pytest.mark.browser
def test_front_page_is_light_work(page, url):
    "What the page itself asks of the processor, which a busy machine does not change; and nothing jumps"
    cdp = page.context.new_cdp_session(page)
    cdp.send('Performance.enable', dict(timeDomain='threadTicks'))
    page.add_init_script("globalThis.shift = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) shift += e.value })"
                         ".observe({ type: 'layout-shift', buffered: true })")
    page.goto(url + '/index.html')
    page.locator('.sskd-film[data-on=ready]').wait_for()
    page.wait_for_timeout(1_500)
    spent = {m['name']: m['value'] for m in cdp.send('Performance.getMetrics')['metrics']}['TaskDuration']
    assert spent < 1.2 and page.evaluate('shift') < .1, (spent, page.evaluate('shift'))
    assert page.locator('script[src*=searchindex]').count() == 0, "only the search page searches"

@pytest.mark.browser
def test_front_page_without_a_mouse(page, url):
    "Tab comes to every control, in the order of the page; Enter, Space and arrows work"
    page.emulate_media(reduced_motion='reduce')
    page.goto(url + '/index.html')
    page.locator('.sskd-film[data-on=ready]').wait_for()
    page.keyboard.press('Tab')
    assert 'skip' in page.evaluate('document.activeElement.textContent').lower(), "past the navigation in one step"
    page.keyboard.press('Enter')
    found = walk(page)
    film = of(found, '.sskd-film')
    assert [e['name'] for e in film[:1]] == ['Play'] and all(e['seen'] for e in film)
    assert len(of(found, '.chapters', 'button')) == 4 and len(of(found, '.sskd-film', 'input')) == 1
    assert len(of(found, '.pick', 'button')) == 21 and len(of(found, '.swap', 'input')) == 1
    assert len(of(found, '.card', 'a')) == page.locator('.card').count() > 10
    assert all(e['name'] and e['ring'] for e in found), [e for e in found if not (e['name'] and e['ring'])]
    assert [e['place'] for e in found] == sorted(e['place'] for e in found), "the order of the page"
    page.goto(url + '/index.html')
    page.locator('.sskd-film[data-on=ready]').wait_for()
    step = lambda: int(page.locator('.sskd-film').get_attribute('data-step'))
    focus_next(page, '.sskd-film', 'button')
    page.keyboard.press('Space')
    page.wait_for_function("+document.querySelector('.sskd-film').dataset.step >= 2")
    page.keyboard.press('Space')
    focus_next(page, '.chapters', 'button')
    page.keyboard.press('Enter')
    assert step() == 1, "the first stage begins"
    focus_next(page, '.sskd-film', 'input')
    page.keyboard.press('ArrowRight')
    assert step() == 2
    focus_next(page, '.swap', 'input')
    page.keyboard.press('ArrowRight')
    assert page.locator('.swap input').input_value() == '1'

@pytest.mark.browser
def test_a_lesson_without_a_mouse(page, url):
    "Tab comes to the play button and the slider of each film, and the slider is moved by keys"
    page.goto(f'{url}/lessons/watch.html')
    films = page.locator('.sskd-film')
    n = films.count()
    assert n >= 2
    for film in films.all(): film.scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelectorAll('.sskd-film[data-on=ready]').length === {n}")
    page.evaluate('scrollTo(0, 0)')
    found = walk(page)
    assert len(of(found, '.sskd-film', 'input')) == n and sum('play' in e['kind'].split() for e in of(found, '.sskd-film')) == n
    step = lambda: int(films.first.get_attribute('data-step'))
    focus_next(page, '.sskd-film', 'input')
    page.keyboard.press('Home')
    assert step() == 0
    page.keyboard.press('ArrowRight')
    assert step() == 1

@pytest.mark.browser
def test_a_figure_that_plays_without_a_mouse(page, url):
    "Its play button and its slider"
    page.goto(f'{url}/viz/motion.html')
    page.evaluate(draw_all)
    page.evaluate('scrollTo(0, 0)')
    found = walk(page)
    n = page.locator('.moments').count()
    assert n and len(of(found, '.moments', 'input')) == len(of(found, '.moments', 'button')) == n
    focus_next(page, '.moments', 'button')
    page.keyboard.press('Tab')
    page.keyboard.press('End')
    before = page.evaluate('document.activeElement.value')
    page.keyboard.press('ArrowLeft')
    page.keyboard.press('Home')
    assert page.evaluate('document.activeElement.value') == '0' != before

def test_bytes_of_each_page(site):
    "The table is written beside the screenshots; the front page stays far below 2 MB, and no page travels with more than 3"
    found = page_bytes.weights(site)
    shots.mkdir(exist_ok=True)
    (shots/'bytes.md').write_text(page_bytes.table(found))
    assert found['index.html'][0] < 1_500_000 and max(packed for _, packed, _ in found.values()) < 3_000_000, list(found.items())[:5]

def test_other_sites_know_what_it_is(site, pages):
    for name, p in pages.items():
        if not (site/f'{name}.md').exists(): continue
        meta = {a.get('name') or a.get('property'): a.get('content') for t, a in p.tags if t == 'meta'}
        assert meta['description'] and meta['og:image'].endswith('/_static/card.png') and meta['og:title'], name
    assert (site/'_static/card.png').stat().st_size < 300_000

@pytest.mark.browser
@pytest.mark.slow
def test_front_page_by_lighthouse(url, tmp_path, chromium):
    "Performance, accessibility, best practices, SEO: at least 95 of 100 each, by Google's own measure, on loopback"
    if not shutil.which('npm'): pytest.skip("needs npm, which brings lighthouse")
    quiet = dict(cwd=tmp_path, check=True, capture_output=True, timeout=400)
    subprocess.run(['npm', 'install', '--silent', '--no-audit', '--no-fund', 'lighthouse@12'], **quiet)
    found = tmp_path/'found.json'
    command = ['node_modules/.bin/lighthouse', f'{url}/index.html', '--quiet', '--output=json', f'--output-path={found}',
               '--only-categories=performance,accessibility,best-practices,seo', '--preset=desktop',
               '--chrome-flags=--headless --no-sandbox --disable-gpu']
    tries = []
    for _ in range(3):   # the time that a busy machine takes is not the page's: the best of three
        subprocess.run(command, env=os.environ | dict(CHROME_PATH=chromium), **quiet)
        found_now = json.loads(found.read_text())
        tries.append({name: round(100*c['score']) for name, c in found_now['categories'].items()})
        if len(tries[-1]) == 4 and min(tries[-1].values()) >= 95: break
    else: pytest.fail(f'below 95 three times: {tries}')
    assert found_now['audits']['total-byte-weight']['numericValue'] < 2_000_000

@pytest.mark.browser
def test_search(page, url):
    page.goto(f'{url}/search.html?q=adapter')
    page.wait_for_function("[...document.querySelectorAll('#search-results li a')].some(a => a.href.includes('adapters.html'))")

@pytest.mark.browser
def test_dark_figures_are_those_of_the_plots(page, url):
    "figures.js makes of a light figure exactly what the function would have drawn for a dark page"
    from sskd_tutor.core.files import pkg_data
    from sskd_tutor.measure.recording import Recording
    from sskd_tutor.viz.gallery import gallery
    rec = Recording.load(pkg_data/'example_recording')
    page.goto(url + '/index.html')
    for name, (f, kwargs) in gallery(rec).items():
        light, dark = (json.loads(f(rec, theme=t, **kwargs).to_json()) for t in ('light', 'dark'))
        made = json.loads(page.evaluate('fig => JSON.stringify(dark(fig))', light))
        assert light != dark and made['data'] == dark['data'] and made['layout'] == dark['layout'], name

# --- how it is published

def test_workflow_docs():
    w = yaml.safe_load((root/'.github/workflows/docs.yml').read_text())
    make, deploy = w['jobs']['build'], w['jobs']['deploy']
    assert w[True]['push'] == {'branches': ['main']}  # YAML 1.1 reads the key `on` as true
    assert w['permissions'] == {'contents': 'read'} and deploy['permissions'] == {'pages': 'write', 'id-token': 'write'}
    assert any(s.get('run') == 'make docs' for s in make['steps'])
    assert any(s.get('with', {}).get('path') == '_docs' for s in make['steps'])
    assert deploy['needs'] == 'build' and any(s.get('uses', '').startswith('actions/deploy-pages@') for s in deploy['steps'])
