"""The site, from the notebooks as they are saved: `make docs` fills _docs/. Nothing is executed, nothing is fetched.

    python docs/build.py --out _docs
"""
import argparse, json, os, shutil, sys, tempfile, warnings
from pathlib import Path

import nbformat
import plotly.io as pio
from plotly.offline import get_plotlyjs
from sphinx.cmd.build import build_main

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # fastai's import

from convert import Site, as_text
from front import front, navigation
from pages import read_pages
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
    made(extra/'.nojekyll').touch()

def build(nbs, out):
    "The exit status of sphinx: a link that leads nowhere is an error"
    with tempfile.TemporaryDirectory() as folder:
        src, extra, html, trees = (Path(folder)/n for n in ('src', 'extra', 'html', 'trees'))
        write_sources(nbs, src, extra)
        how = ['-b', 'html', '-d', trees, '-c', home, '-D', f'html_extra_path={extra}', '-q', '-W', '--keep-going']
        status = build_main([str(a) for a in (*how, src, html)])
        if (html/'index.html').exists():  # also with a link that leads nowhere, so that it can be looked at
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
