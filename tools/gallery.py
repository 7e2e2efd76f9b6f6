"""The gallery's first page and its thumbnails, from sskd_tutor/data_files/gallery.toml.

    python tools/gallery.py    writes nbs/pages/gallery.ipynb and nbs/images/gallery_*.svg

A thumbnail is a drawing of a paper's idea, made of bars, lines or a grid of numbers from 0 to 1.
It shows no result.
"""
import re
from collections import Counter
from html import escape
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sskd_tutor.compare.gallery import papers
from sskd_tutor.viz.style import class_colors, gray, paper as papers_of_themes

nbs = Path(__file__).resolve().parent.parent/'nbs'
page_path = nbs/'pages/gallery.ipynb'
images = nbs/'images'              # where the thumbnails lie

width, height = 120, 68            # of a thumbnail, in pixels
edge = 8                           # pixels around its drawing
inside_width, inside_height = width - 2*edge, height - 2*edge
colors = class_colors[:4]
paper_color, line_color = papers_of_themes['light'], gray

# --- the thumbnails

def _bars(values):
    "One bar for each value; the tallest has a color of its own"
    step = inside_width/len(values)
    tallest = values.index(max(values))
    shapes = []
    for i, value in enumerate(values):
        tall = value*inside_height
        left, top = edge + i*step + 2, height - edge - tall
        color = colors[0] if i == tallest else colors[1]
        shapes.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{step - 4:.1f}" height="{tall:.1f}" '
                      f'fill="{color}"/>')
    return shapes

def _points(heights):
    "The points of a line, from the left edge to the right one"
    step = inside_width/(len(heights) - 1)
    points = [(edge + i*step, height - edge - y*inside_height) for i, y in enumerate(heights)]
    return ' '.join(f'{x:.1f},{y:.1f}' for x, y in points)

def _lines(lines):
    "One curve for each list of heights"
    return [f'<polyline points="{_points(heights)}" fill="none" stroke="{color}" stroke-width="3"/>'
            for color, heights in zip(colors, lines)]

def _grid(rows):
    "A square for each number; the higher, the fuller"
    side = inside_height/len(rows)
    left = (width - side*len(rows[0]))/2
    shapes = []
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            x, y, opacity = left + j*side, edge + i*side, .08 + .92*value
            shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}" '
                          f'fill="{colors[0]}" fill-opacity="{opacity:.2f}"/>')
    return shapes

kinds = dict(bars=_bars, lines=_lines, grid=_grid)

def thumbnail(paper):
    "SVG of a paper's idea"
    (kind, values), = paper.thumb.items()
    if kind not in kinds:
        raise ValueError(f"{paper.title}: no thumbnail {kind!r}; expected one of {list(kinds)}")
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">')
    title = f'<title>{escape(paper.title)}: a drawing of the idea</title>'
    frame = f'<rect width="{width}" height="{height}" rx="6" fill="{paper_color}" stroke="{line_color}"/>'
    shapes = ''.join(kinds[kind](values))
    return f'{head}{title}{frame}{shapes}</svg>\n'

def drawings():
    "File name -> SVG, of all thumbnails"
    return {f'gallery_{key}.svg': thumbnail(paper) for key, paper in papers().items() if paper.thumb}

# --- the page

head = """# The paper gallery

> What related papers claim, and how much of it you can try in minutes."""

intro = """The package grew out of three reading lists with {n} systems. \
Here, {complete} of them are complete, {partly} are partly done, and {missing} are missing. \
*Complete* means that you can use the idea, that its formula is tested, \
and that its claim is tried as far as small images allow. \
It does not mean that we reached the paper's numbers. \
We have not built systems that need pretrained language models: \
knowledge selection, training wheels, interactive and speculative distillation at the size of their papers.

The longer experiments have pages of their own. Each page begins with a table that has, for each paper, \
*the claim, our smallest honest test, what would refute it*.

{pages}

A thumbnail draws an idea, not a result."""

table_head = '''| system | who | arXiv | here | where, or why not |
| --- | --- | --- | --- | --- |'''

measured = """## What the runs say

Each comparison was written down before its first run, in `sskd_tutor/data_files/benchmarks/gallery.toml`, \
with five seeds, 2,000 images, and a student of half the teacher's width. \
Holm's adjustment counts all of the comparisons. A smaller calibration error is better, so a difference \
below 0 is a gain there."""

verdict_imports = "#| hide\nfrom sskd_tutor.compare.gallery import gallery_verdicts"
verdict_table = "gallery_verdicts()[['paper', 'question', 'measure', 'seeds', 'says']]"

def name_of(link):
    "What a linked notebook calls itself"
    first = nbformat.read(nbs/link, 4).cells[0].source
    return re.match(r'# (.+)', first)[1]

def source(paper): return f'[{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})'

def card(key, paper):
    "What the page says of a paper that is here"
    links = ' · '.join(f'[{name_of(link)}](../{link})' for link in paper.links)
    asked = ''.join(f' `{name}`' for name in paper.methods)
    by_name = f' In `compare`:{asked}.' if asked else ''
    return '\n\n'.join([
        f'### {paper.title}',
        f'![A drawing of the idea](../images/gallery_{key}.svg)',
        f'{paper.who}, {source(paper)}. **{paper.state}**',
        paper.says,
        f'*Verdict:* {paper.verdict}{by_name}',
        links])

def row(paper):
    "A paper's row in the table of all systems"
    where = ', '.join(f'[{name_of(link)}](../{link})' for link in paper.links) or paper.why
    return f'| {paper.title} | {paper.who} | {source(paper)} | {paper.state} | {where} |'

def titles(prefix):
    "A list of links to the gallery's longer pages"
    paths = sorted((nbs/'pages').glob(f'{prefix}_[0-9]_*.ipynb'))
    return '\n'.join(f'- [{name_of(path.relative_to(nbs).as_posix())}]({path.name})' for path in paths)

def introduction(every):
    "How many systems there are, and how far each of them is here"
    count = Counter(paper.state for paper in every.values())
    return intro.format(n=len(every), complete=count['complete'], partly=count['partly'],
                        missing=count['not here'], pages=titles('gallery'))

def page():
    "The first page as the file says it should be"
    every = papers()
    table = '\n'.join([table_head, *map(row, every.values())])
    cards = '\n\n'.join(card(key, paper) for key, paper in every.items() if paper.state != 'not here')
    cells = [
        new_markdown_cell(head, id='9a110001'),
        new_markdown_cell(introduction(every), id='9a110002'),
        new_markdown_cell(f'## All systems\n\n{table}', id='9a110003'),
        new_markdown_cell(f'## The papers, one by one\n\n{cards}', id='9a110004'),
        new_markdown_cell(measured, id='9a110005'),
        new_code_cell(verdict_imports, id='9a110006'),
        new_code_cell(verdict_table, id='9a110007')]
    kernel = dict(display_name='python3', language='python', name='python3')
    return new_notebook(cells=cells, metadata=dict(kernelspec=kernel))

def keep_outputs(made, before):
    "Outputs of cells that have not changed stay"
    old = {cell.id: cell for cell in before.cells}
    for cell in made.cells:
        if cell.cell_type != 'code' or cell.id not in old: continue
        if old[cell.id].source == cell.source: cell.outputs = old[cell.id].outputs

def write():
    for name, svg in drawings().items(): (images/name).write_text(svg)
    made = page()
    if page_path.exists(): keep_outputs(made, nbformat.read(page_path, 4))
    nbformat.write(made, page_path)

if __name__ == '__main__': write()
