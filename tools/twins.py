"""The PNG twin of each saved figure, drawn again from the figure's own data, sharp enough for GitHub.

    python tools/twins.py nbs/lessons/*.ipynb        only figures whose twin is missing or too small
    python tools/twins.py --all nbs/lessons/*.ipynb  every figure

A full-width figure becomes 1,400 pixels wide and is shown at half of that. JupyterLab would show the twin of
a saved figure at its full size, cut off at the edge of the page, until the pointer touches it. So a still
figure is saved as an image, with its data in the output's metadata, from which the site draws it. A figure
that plays stays live, and its twin is 700 pixels wide.
"""
import argparse, base64, tempfile
from pathlib import Path

import kaleido
import nbformat
import plotly.graph_objects as go

from small import small
from sskd_tutor.viz.panels import clear
from sskd_tutor.viz.style import paper

plotly, png = 'application/vnd.plotly.v1+json', 'image/png'
width, scale = 700, 2   # of a figure that states no width; pixels for each of its own

def figure_of(out):
    "The figure of an output in plotly's JSON, or None"
    return out.get('data', {}).get(plotly) or out.get('metadata', {}).get('figure')

def saved_figures(nb):
    "The outputs of a notebook that hold a figure"
    return [out for cell in nb.cells for out in cell.get('outputs', []) if figure_of(out)]

def plays(out): return bool(figure_of(out).get('frames'))

def shown_width(out): return figure_of(out)['layout'].get('width') or width

def wanted_width(out):
    "Pixels that the twin should be wide"
    return shown_width(out)*(1 if plays(out) else scale)

def twin_size(out):
    "(width, height) of the twin in pixels; (0, 0) where there is none"
    if png not in out.data: return 0, 0
    header = base64.b64decode(out.data[png])[:24]
    return int.from_bytes(header[16:20], 'big'), int.from_bytes(header[20:24], 'big')

def is_faint(out):
    "Is the twin missing, or not as wide as it should be?"
    return twin_size(out)[0] != wanted_width(out)

def on_paper(figure):
    "A figure that takes the paper of its page gets white: its words are dark, and the page may be dark too"
    if figure.layout.paper_bgcolor == clear: figure.layout.paper_bgcolor = paper['light']
    return figure

def order(out, path):
    "What kaleido is told to draw"
    saved = figure_of(out)
    figure = on_paper(go.Figure({part: saved[part] for part in ('data', 'layout')}, skip_invalid=True))
    size = dict(width=shown_width(out), height=figure.layout.height or 450)
    options = dict(format='png', scale=1 if plays(out) else scale, **size)
    return dict(fig=figure.to_dict(), path=path, opts=options)

def redraw(outs):
    "Give each output a new twin; one browser draws them all"
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder)/f'{i}.png' for i in range(len(outs))]
        kaleido.write_fig_from_object_sync([order(*o) for o in zip(outs, paths)], kopts=dict(mathjax=False))
        for out, path in zip(outs, paths): out.data[png] = small(base64.b64encode(path.read_bytes()).decode())

def as_saved(out):
    "An output's data and metadata: a still figure is an image of a stated size, and its data stand aside"
    if plays(out): return dict(out.data), {}
    size = dict(zip(('width', 'height'), (n//scale for n in twin_size(out))))
    data = {kind: value for kind, value in out.data.items() if kind != plotly}
    return data, {png: size, 'figure': figure_of(out)}

def settle(out):
    "Save an output that way; was it otherwise before?"
    before, after = (out.data, out.metadata), as_saved(out)
    out.data, out.metadata = map(nbformat.from_dict, after)
    return before != (out.data, out.metadata)

def to_draw(outs, every):
    "Those outputs whose twin is drawn again: all, or those that need it"
    return outs if every else [out for out in outs if is_faint(out)]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('notebooks', nargs='+', type=Path)
    p.add_argument('--all', action='store_true', help='also those that are wide enough')
    a = p.parse_args()
    opened = {path: nbformat.read(path, 4) for path in a.notebooks}
    figures = {path: saved_figures(nb) for path, nb in opened.items()}
    due = {path: to_draw(outs, a.all) for path, outs in figures.items()}
    every = [out for outs in due.values() for out in outs]
    if every: redraw(every)
    for path, nb in opened.items():
        settled = sum(map(settle, figures[path]))
        if not due[path] and not settled: continue
        nbformat.write(nb, path)
        print(f'{path}: {len(due[path])} drawn, {settled} saved as images')

if __name__ == '__main__': main()
