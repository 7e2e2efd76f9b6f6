"""The gallery's first page and its thumbnails, from sskd_tutor/data_files/gallery.toml: `python tools/gallery.py`.

A thumbnail is a drawing of a paper's idea, made of bars, lines or a grid of numbers from 0 to 1. It shows no result.
"""
import re
from html import escape
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sskd_tutor.compare.gallery import papers, states
from sskd_tutor.viz.style import class_colors, gray, paper as papers_of_themes

nbs = Path(__file__).resolve().parent.parent/'nbs'
page_path, images = nbs/'pages/gallery.ipynb', nbs/'images'
width, height, edge = 120, 68, 8
colors, paper_color, line_color = class_colors[:4], papers_of_themes['light'], gray

def _bars(values):
    step = (width - 2*edge)/len(values)
    tall = height - 2*edge
    return [f'<rect x="{edge + i*step + 2:.1f}" y="{height - edge - v*tall:.1f}" width="{step - 4:.1f}" height="{v*tall:.1f}" '
            f'fill="{colors[0 if i == max(range(len(values)), key=values.__getitem__) else 1]}"/>' for i, v in enumerate(values)]

def _lines(lines):
    def points(ys):
        step = (width - 2*edge)/(len(ys) - 1)
        return ' '.join(f'{edge + i*step:.1f},{height - edge - y*(height - 2*edge):.1f}' for i, y in enumerate(ys))
    return [f'<polyline points="{points(ys)}" fill="none" stroke="{color}" stroke-width="3"/>' for color, ys in zip(colors, lines)]

def _grid(rows):
    side = (height - 2*edge)/len(rows)
    left = (width - side*len(rows[0]))/2
    return [f'<rect x="{left + j*side:.1f}" y="{edge + i*side:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}" fill="{colors[0]}" '
            f'fill-opacity="{.08 + .92*v:.2f}"/>' for i, row in enumerate(rows) for j, v in enumerate(row)]

kinds = dict(bars=_bars, lines=_lines, grid=_grid)

def thumbnail(paper):
    "SVG of a paper's idea"
    (kind, values), = paper.thumb.items()
    if kind not in kinds: raise ValueError(f"{paper.title}: no thumbnail {kind!r}; expected one of {list(kinds)}")
    frame = f'<rect width="{width}" height="{height}" rx="6" fill="{paper_color}" stroke="{line_color}"/>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
            f'<title>{escape(paper.title)}: a drawing of the idea</title>{frame}{"".join(kinds[kind](values))}</svg>\n')

def name_of(link):
    "What a linked notebook calls itself"
    first = nbformat.read(nbs/link, 4).cells[0].source
    return re.match(r'# (.+)', first)[1]

def source(paper): return f'[{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})'

def card(key, paper):
    links = ' · '.join(f'[{name_of(link)}](../{link})' for link in paper.links)
    asked = ''.join(f' `{name}`' for name in paper.methods)
    by_name = f' In `compare`:{asked}.' if asked else ''
    return (f'### {paper.title}\n\n![A drawing of the idea](../images/gallery_{key}.svg)\n\n{paper.who}, {source(paper)}. **{paper.state}**\n\n'
            f'{paper.says}\n\n*Verdict:* {paper.verdict}{by_name}\n\n{links}')

def row(key, paper):
    where = ', '.join(f'[{name_of(link)}](../{link})' for link in paper.links) or paper.why
    return f'| {paper.title} | {paper.who} | {source(paper)} | {paper.state} | {where} |'

head = """# The paper gallery

> What related papers claim, and how much of it you can try in minutes."""

intro = """The package grew out of three reading lists with {n} systems. Here, {complete} of them are complete, {partly} are partly done, and {missing} are missing. \
*Complete* means that you can use the idea, that its formula is tested, and that its claim is tried as far as small images allow. It does not mean that \
we reached the paper's numbers. We have not built systems that need pretrained language models: knowledge selection, training wheels and \
speculative distillation at the size of their papers.

The longer experiments have pages of their own. Each page begins with a table that has, for each paper, *the claim, our smallest honest test, what would refute it*.

{pages}

A thumbnail draws an idea, not a result."""

def titles(prefix):
    return '\n'.join(f'- [{name_of(p.relative_to(nbs).as_posix())}]({p.name})' for p in sorted((nbs/'pages').glob(f'{prefix}_[0-9]_*.ipynb')))

def page():
    "The first page as the file says it should be"
    every = papers()
    count = {state: sum(p.state == state for p in every.values()) for state in states}
    words = dict(n=len(every), complete=count['complete'], partly=count['partly'], missing=count['not here'], pages=titles('gallery'))
    table = '\n'.join(['| system | who | arXiv | here | where, or why not |', '| --- | --- | --- | --- | --- |', *(row(*one) for one in every.items())])
    cards = '\n\n'.join(card(key, p) for key, p in every.items() if p.state != 'not here')
    measured = """## What the runs say

Each comparison was written down before its first run, in `sskd_tutor/data_files/benchmarks/gallery.toml`, with five seeds, 2,000 images, and a student \
of half the teacher's width. Holm's adjustment counts all of the comparisons."""
    cells = [('9a110001', head), ('9a110002', intro.format(**words)), ('9a110003', f'## All systems\n\n{table}'),
             ('9a110004', f'## The papers, one by one\n\n{cards}'), ('9a110005', measured)]
    made = [new_markdown_cell(text, id=id) for id, text in cells]
    made.append(new_code_cell("#| hide\nfrom sskd_tutor.compare.gallery import gallery_verdicts", id='9a110006'))
    made.append(new_code_cell("gallery_verdicts()[['paper', 'question', 'measure', 'seeds', 'says']]", id='9a110007'))
    return new_notebook(cells=made, metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')))

def drawings(): return {f'gallery_{key}.svg': thumbnail(p) for key, p in papers().items() if p.thumb}

def write():
    for name, svg in drawings().items(): (images/name).write_text(svg)
    made = page()
    if page_path.exists():   # outputs of cells that have not changed stay
        old = {c.id: c for c in nbformat.read(page_path, 4).cells}
        for c in made.cells:
            if c.cell_type == 'code' and c.id in old and old[c.id].source == c.source: c.outputs = old[c.id].outputs
    nbformat.write(made, page_path)

if __name__ == '__main__': write()
