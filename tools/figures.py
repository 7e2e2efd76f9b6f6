"""Every figure that a lesson's saved outputs hold, as SVG and PNG: for slides, posters, papers.

    python tools/figures.py [01_first ...]    into _course/figures/<lesson>/
"""
import re, shutil, sys

import kaleido, nbformat
import plotly.graph_objects as go
from nbdev.config import get_config

from course import chosen
from twins import figure_of

width, height = 900, 450  # of a figure that says nothing of its own; 900 is about what JupyterLab gives it

def plain(html): return ' '.join(re.sub(r'<[^>]+>', ' ', html or '').split())

def figure(saved):
    "A figure from its JSON"
    return go.Figure({part: saved[part] for part in ('data', 'layout') if part in saved}, skip_invalid=True)

def figures_in(nb):  # cell id -> its figures, in order
    "The figures of a notebook's outputs"
    found = {}
    for cell in nb.cells:
        saved = filter(None, map(figure_of, cell.get('outputs', [])))
        figures = [figure(one) for one in saved]
        if figures: found[cell.id] = figures
    return found

def slug(fig):
    "A figure's title as part of a file name, 60 characters at most"
    words = re.sub(r'\W+', '-', plain(fig.layout.title.text).lower())
    return words.strip('-')[:60].rstrip('-') or 'figure'

def order(path, fig, kind):
    "What kaleido is told to draw; a PNG has two pixels for each of its own"
    size = dict(width=fig.layout.width or width, height=fig.layout.height or height)
    options = dict(format=kind, scale=2 if kind == 'png' else 1, **size)
    return dict(fig=fig.to_dict(), path=path.with_name(f'{path.name}.{kind}'), opts=options)

def draw(
    figs: dict,   # path without suffix -> figure
    *formats,     # 'svg', 'png'
):
    "Write them all with one browser, which loads nothing from outside"
    orders = [order(path, fig, kind) for path, fig in figs.items() for kind in formats]
    if orders: kaleido.write_fig_from_object_sync(orders, kopts=dict(mathjax=False))

def named(path, to):  # path without suffix -> figure
    "The figures of a lesson under the names of their files"
    found = figures_in(nbformat.read(path, 4))
    figs = [fig for of_cell in found.values() for fig in of_cell]
    return {to/path.stem/f'{i:02}_{slug(fig)}': fig for i, fig in enumerate(figs, 1)}

def main(names):
    root = get_config().config_path
    for path in chosen(sorted((root/'nbs/lessons').glob('*.ipynb')), names):
        folder = root/'_course/figures'/path.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        figs = named(path, folder.parent)
        draw(figs, 'svg', 'png')
        print(f'{folder}: {len(figs)} figures')

if __name__ == '__main__': main(sys.argv[1:])
