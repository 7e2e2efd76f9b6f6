"""The site, from the notebooks as they are saved: `make docs` fills _docs/. Nothing is executed, nothing is fetched.

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
    look = pio.templates['plotly_dark'].layout.to_plotly_json()
    return dict(ink=ink, paper=paper, words=text_swaps(), template=dict(layout={k: look[k] for k in look if k in template_parts}))

def made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

def write_sources(nbs, src, extra):
    "Notebooks for sphinx into `src`, files that it copies as they are into `extra`"
    pages = read_pages(nbs)
    site = Site(pages)
    for p in pages:
        nb = site.page(p)
        if p is pages[0]: nb = front(nb, pages)
        nb.cells += navigation(pages, p)
        nbformat.write(nb, made(src/f'{p.name}.ipynb'))
        made(extra/f'{p.name}.html.md').write_text(as_text(p))
        shutil.copy(nbs/p.path, made(extra/'notebooks'/p.path))
    for f in nbs.rglob('*'):
        if f.suffix in suffixes: shutil.copy(f, made(src/f.relative_to(nbs)))
    made(extra/'_static'/'plotly.min.js').write_text(get_plotlyjs())
    made(extra/'_static'/'palette.js').write_text(f'const palette = {json.dumps(palette())}\n')
    for name in 'moments.js', 'moments.css': shutil.copy(pkg_data/name, extra/'_static')
    pictures(pages, extra/'_static')
    made(extra/'.nojekyll').touch()
    return pages

def one_of(pattern, html):
    "Only the first of the tags that match"
    first = re.search(pattern, html)
    return html if not first else html[:first.end()] + re.sub(pattern, '', html[first.end():])

searching = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
early = re.compile(r'<script (src="[^"]*(?:doctools|sphinx_highlight|sphinx-book-theme)\.js[^"]*")></script>')

def lighter(html):
    "Nothing that this page does not use, and nothing that it waits for without need"
    html = re.sub(r'<(?:script|link)[^>]*fontawesome\.js[^>]*>(?:</script>)?', '', html)   # 1.6 MB; the style sheet has the icons too
    return early.sub(r'<script defer \1></script>', searching.sub('', html))   # only the search page searches

def finished(html, page, cfg):
    "A page as search engines and other sites want it: one viewport, one h1, one title, a description, an image"
    html = lighter(one_of(r'\s*<meta [^>]*name="viewport"[^>]*>', html))
    head, body = html.split('</head>', 1)
    printed = re.compile(r'(?s)(id="jb-print-docs-body".*?)<h1>(.*?)</h1>')   # the theme's page head for printers
    body = printed.sub(r'\1<div class="h1">\2</div>', body, 1)
    title, about = page.title.replace('`', ''), page.subtitle.replace('`', '')
    own = cfg.lib_name if title == cfg.lib_name else f'{title} · {cfg.lib_name}'
    head = re.sub(r'(?s)<title>.*?</title>', lambda m: f'<title>{escape(own)}</title>', head)
    say = dict(title=own, description=about, type='website', image=f'{cfg.doc_host}/{cfg.doc_baseurl.strip("/")}/_static/card.png')
    tags = [f'<meta name="description" content="{escape(about)}">']
    tags += [f'<meta property="og:{k}" content="{escape(v)}">' for k, v in say.items()]
    return head + '\n'.join([*tags, '<meta name="twitter:card" content="summary_large_image">', '</head>']) + body

def build(nbs, out):
    "The exit status of sphinx: a link that leads nowhere is an error"
    with tempfile.TemporaryDirectory() as folder:
        src, extra, html, trees = (Path(folder)/n for n in ('src', 'extra', 'html', 'trees'))
        pages = write_sources(nbs, src, extra)
        how = ['-b', 'html', '-d', trees, '-c', home, '-D', f'html_extra_path={extra}', '-q', '-W', '--keep-going']
        status = build_main([str(a) for a in (*how, src, html)])
        if (html/'index.html').exists():  # also with a link that leads nowhere, so that it can be looked at
            for page in pages:
                if (file := html/f'{page.name}.html').exists(): file.write_text(finished(file.read_text(), page, get_config()))
            if out.exists(): shutil.rmtree(out)
            shutil.copytree(html, out)
    return status

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, default=home.parent/'_docs', help='made anew')
    p.add_argument('--nbs', type=Path, default=home.parent/'nbs', help='the folder of notebooks')
    a = p.parse_args()
    nbs, out = a.nbs.resolve(), a.out.resolve()
    if out.exists() and not (out/'.nojekyll').exists(): p.error(f'{out} is there and is no site; name another folder')
    os.chdir(home.parent)  # where nbdev finds the project's settings
    status = build(nbs, out)
    print(f'open {out}/index.html' if status == 0 else f'{out} is not good enough to be published: see above')
    sys.exit(status)

if __name__ == '__main__': main()
