"""Every figure that a lesson's saved outputs hold, as SVG and PNG, into _course/figures/<lesson>/: for slides, posters, papers.

    python tools/figures.py [01_first ...]
"""
import re, shutil, sys

import kaleido, nbformat
import plotly.graph_objects as go
from nbdev.config import get_config

from twins import figure_of

width = 900  # of a figure that says nothing of its own; about what JupyterLab gives it

def plain(html): return ' '.join(re.sub(r'<[^>]+>', ' ', html or '').split())

def figures_in(nb):  # cell id -> its figures, in order
    "The figures of a notebook's outputs"
    found = {}
    for c in nb.cells:
        outs = [f for f in map(figure_of, c.get('outputs', [])) if f]
        if outs: found[c.id] = [go.Figure({k: f[k] for k in ('data', 'layout') if k in f}, skip_invalid=True) for f in outs]
    return found

def slug(fig): return re.sub(r'\W+', '-', plain(fig.layout.title.text).lower()).strip('-')[:60].rstrip('-') or 'figure'

def draw(
    figs: dict,   # path without suffix -> figure
    *formats,     # 'svg', 'png'
):
    "Write them all with one browser, which loads nothing from outside"
    def spec(p, f, kind):
        size = dict(width=f.layout.width or width, height=f.layout.height or 450)
        opts = dict(format=kind, scale=1 + (kind == 'png'), **size)
        return dict(fig=f.to_dict(), path=p.with_name(f'{p.name}.{kind}'), opts=opts)
    specs = [spec(p, f, kind) for p, f in figs.items() for kind in formats]
    if specs: kaleido.write_fig_from_object_sync(specs, kopts=dict(mathjax=False))

def named(path, to):  # path without suffix -> figure
    "The figures of a lesson under the names of their files"
    figs = [f for fs in figures_in(nbformat.read(path, 4)).values() for f in fs]
    return {to/path.stem/f'{i:02}_{slug(f)}': f for i, f in enumerate(figs, 1)}

def main(names):
    root = get_config().config_path
    for p in sorted((root/'nbs/lessons').glob('*.ipynb')):
        if names and p.stem not in names: continue
        shutil.rmtree(folder := root/'_course/figures'/p.stem, ignore_errors=True)
        folder.mkdir(parents=True)
        draw(figs := named(p, folder.parent), 'svg', 'png')
        print(f'{folder}: {len(figs)} figures')

if __name__ == '__main__': main(sys.argv[1:])
