"""The site, from the notebooks as they are saved: `make docs` fills _docs/.

Nothing is executed, nothing is fetched.

    python docs/build.py --out _docs
"""
import argparse, json, os, re, shutil, sys, tempfile, warnings
from html import escape
from pathlib import Path

import nbformat
import plotly.io as pio
from plotly.offline import get_plotlyjs
from sphinx.cmd.build import build_main

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # fastai's import

from nbdev.config import get_config
from convert import Site, as_text
from front import front, navigation, pictures
from pages import read_pages
from sskd_tutor.core.files import pkg_data
from sskd_tutor.viz.style import ink, paper, template_parts, text_swaps

home = Path(__file__).resolve().parent
suffixes = '.png', '.svg', '.jpg', '.gif'  # that a text may show

def palette():
    "How a figure of the light theme becomes one of the dark theme: `figures.js` does it"
    dark = pio.templates['plotly_dark'].layout.to_plotly_json()
    layout = {part: dark[part] for part in dark if part in template_parts}
    return dict(ink=ink, paper=paper, words=text_swaps(), template=dict(layout=layout))

def made(path):
    "A path once the folder above it is there"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

def write_sources(nbs, src, extra):
    "Notebooks for sphinx into `src`, files that it copies as they are into `extra`"
    pages = read_pages(nbs)
    site = Site(pages)
    for page in pages: write_page(site, page, nbs, src, extra)
    for file in nbs.rglob('*'):
        if file.suffix in suffixes: shutil.copy(file, made(src/file.relative_to(nbs)))
    write_static(extra/'_static')
    pictures(pages, extra/'_static')
    made(extra/'.nojekyll').touch()
    return pages

def write_page(site, page, nbs, src, extra):
    "A page for sphinx, the same in markdown, and its notebook to be downloaded"
    nb = site.page(page)
    if page is site.pages[0]: nb = front(nb, site.pages)
    nb.cells += navigation(site.pages, page)
    nbformat.write(nb, made(src/f'{page.name}.ipynb'))
    made(extra/f'{page.name}.html.md').write_text(as_text(page))
    shutil.copy(nbs/page.path, made(extra/'notebooks'/page.path))

def write_static(folder):
    "What draws the figures and plays the runs"
    made(folder/'plotly.min.js').write_text(get_plotlyjs())
    made(folder/'palette.js').write_text(f'const palette = {json.dumps(palette())}\n')
    for name in ('moments.js', 'moments.css'): shutil.copy(pkg_data/name, folder)

# --- what sphinx made, finished

viewport = re.compile(r'\s*<meta [^>]*name="viewport"[^>]*>')
# only the search page searches
searching = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
early = re.compile(r'<script (src="[^"]*(?:doctools|sphinx_highlight|sphinx-book-theme)\.js[^"]*")></script>')
# icons, 1.6 MB; the style sheet has them too
icons = re.compile(r'<(?:script|link)[^>]*fontawesome\.js[^>]*>(?:</script>)?')
printed = re.compile(r'(?s)(id="jb-print-docs-body".*?)<h1>(.*?)</h1>')   # the theme's page head for printers

def one_of(pattern, html):
    "Only the first of the tags that match"
    first = pattern.search(html)
    if first is None: return html
    return html[:first.end()] + pattern.sub('', html[first.end():])

def lighter(html):
    "Nothing that this page does not use, and nothing that it waits for without need"
    html = icons.sub('', html)
    html = searching.sub('', html)
    return early.sub(r'<script defer \1></script>', html)

def finished(html, page, cfg):
    "A page as search engines and other sites want it: one viewport, one h1, one title, what it is about"
    html = lighter(one_of(viewport, html))
    head, body = html.split('</head>', 1)
    body = printed.sub(r'\1<div class="h1">\2</div>', body, 1)
    return described(head, page, cfg) + body

def described(head, page, cfg):
    "The head of a page with a title of its own, and with what other sites show beside a link"
    title, about = page.title.replace('`', ''), page.subtitle.replace('`', '')
    if title != cfg.lib_name: title = f'{title} · {cfg.lib_name}'
    head = re.sub(r'(?s)<title>.*?</title>', lambda m: f'<title>{escape(title)}</title>', head)
    image = f'{cfg.doc_host}/{cfg.doc_baseurl.strip("/")}/_static/card.png'
    said = dict(title=title, description=about, type='website', image=image)
    tags = [f'<meta name="description" content="{escape(about)}">']
    tags += [f'<meta property="og:{name}" content="{escape(value)}">' for name, value in said.items()]
    tags += ['<meta name="twitter:card" content="summary_large_image">', '</head>']
    return head + '\n'.join(tags)

def run_sphinx(src, extra, html, trees):
    "The exit status of sphinx: a link that leads nowhere is an error"
    folders = ['-d', trees, '-c', home, '-D', f'html_extra_path={extra}']
    options = ['-b', 'html', *folders, '-q', '-W', '--keep-going']
    return build_main([str(word) for word in (*options, src, html)])

def finish(html, pages):
    "Finish every page that sphinx has made"
    for page in pages:
        file = html/f'{page.name}.html'
        if file.exists(): file.write_text(finished(file.read_text(), page, get_config()))

def build(nbs, out):
    "The site into `out`; the exit status of sphinx"
    with tempfile.TemporaryDirectory() as folder:
        src, extra, html, trees = (Path(folder)/name for name in ('src', 'extra', 'html', 'trees'))
        pages = write_sources(nbs, src, extra)
        status = run_sphinx(src, extra, html, trees)
        if (html/'index.html').exists():  # also with a link that leads nowhere, so that it can be looked at
            finish(html, pages)
            if out.exists(): shutil.rmtree(out)
            shutil.copytree(html, out)
    return status

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, default=home.parent/'_docs', help='made anew')
    p.add_argument('--nbs', type=Path, default=home.parent/'nbs', help='the folder of notebooks')
    a = p.parse_args()
    nbs, out = a.nbs.resolve(), a.out.resolve()
    if out.exists() and not (out/'.nojekyll').exists():
        p.error(f'{out} is there and is no site; name another folder')
    os.chdir(home.parent)  # where nbdev finds the project's settings
    status = build(nbs, out)
    if status == 0: print(f'open {out}/index.html')
    else: print(f'{out} is not good enough to be published: see above')
    sys.exit(status)

if __name__ == '__main__': main()
