"""The PNG twin of each saved figure, drawn again from the figure's own data, sharp enough for GitHub.

    python tools/twins.py nbs/lessons/*.ipynb        only figures whose twin is missing or too small
    python tools/twins.py --all nbs/lessons/*.ipynb  every figure

A full-width figure becomes 1,400 pixels wide and is shown at half of that. The site draws the figure itself, and so does JupyterLab where
a notebook is trusted. GitHub shows the twin, and JupyterLab does when a clone is opened for the first time.
"""
import argparse, base64, tempfile
from pathlib import Path

import kaleido
import nbformat
import plotly.graph_objects as go

from small import small

plotly, png = 'application/vnd.plotly.v1+json', 'image/png'
width, scale = 700, 2   # of a figure that states no width; pixels for each of its own

def figure_outputs(nb):
    "The outputs of a notebook that hold a figure"
    return [out for cell in nb.cells for out in cell.get('outputs', []) if plotly in out.get('data', {})]

def wanted_width(bundle):
    "Pixels that the twin should be wide"
    return scale*(bundle[plotly]['layout'].get('width') or width)

def twin_size(bundle):
    "(width, height) of the twin in pixels; (0, 0) where there is none"
    if png not in bundle: return 0, 0
    header = base64.b64decode(bundle[png])[:24]
    return int.from_bytes(header[16:20], 'big'), int.from_bytes(header[20:24], 'big')

def say_size(out):
    "Tell a viewer to show the twin as large as the figure itself; is that news?"
    if png not in out.data: return False
    shown = {png: {side: n//scale for side, n in zip(('width', 'height'), twin_size(out.data))}}
    if out.metadata == shown: return False
    out.metadata = shown
    return True

def order(bundle, path):
    "What kaleido is told to draw"
    saved = bundle[plotly]
    figure = go.Figure({part: saved[part] for part in ('data', 'layout')}, skip_invalid=True)
    size = dict(width=figure.layout.width or width, height=figure.layout.height or 450)
    return dict(fig=figure.to_dict(), path=path, opts=dict(format='png', scale=scale, **size))

def redraw(bundles):
    "Give each bundle a new twin; one browser draws them all"
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder)/f'{i}.png' for i in range(len(bundles))]
        orders = [order(bundle, path) for bundle, path in zip(bundles, paths)]
        kaleido.write_fig_from_object_sync(orders, kopts=dict(mathjax=False))
        for bundle, path in zip(bundles, paths): bundle[png] = small(base64.b64encode(path.read_bytes()).decode())

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('notebooks', nargs='+', type=Path)
    p.add_argument('--all', action='store_true', help='also those that are wide enough')
    a = p.parse_args()
    opened = {path: nbformat.read(path, 4) for path in a.notebooks}
    figures = {path: figure_outputs(nb) for path, nb in opened.items()}
    due = {path: [out.data for out in outs if a.all or twin_size(out.data)[0] != wanted_width(out.data)] for path, outs in figures.items()}
    every = [bundle for bundles in due.values() for bundle in bundles]
    if every: redraw(every)
    for path, nb in opened.items():
        told = [say_size(out) for out in figures[path]]
        if not due[path] and not any(told): continue
        nbformat.write(nb, path)
        print(f'{path}: {len(due[path])} figures drawn, {sum(told)} sizes told')

if __name__ == '__main__': main()
