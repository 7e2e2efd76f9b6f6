"""The bibliography: nbs/references.bib, one entry a line, and the page that is made of it.

    python tools/bib.py    writes nbs/pages/bibliography.ipynb
"""
import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

bib = Path(__file__).parent.parent/'nbs/references.bib'
fields = re.compile(r'(\w+) = \{((?:[^{}]|\{[^{}]*\})*)\}')
accents = {r'\u{a}': 'ă', r'\"u': 'ü', r"\'e": 'é', r"\'a": 'á'}

def plain(text):
    "Without TeX"
    for tex, letter in accents.items(): text = text.replace(tex, letter)
    return text

def entries(
    path: Path = bib,
) -> dict:             # key -> dict of author, title, year, note, eprint
    "What the file holds; an entry without author, title and year is an error"
    found = {}
    for line in path.read_text().splitlines():
        head = re.match(r'@\w+\{(\w+), ', line)
        if not head:
            expected = '@misc{key, field = {...}, ...}'
            raise ValueError(f"{path.name} has the line {line[:60]!r}; expected {expected}")
        entry = {name: plain(value) for name, value in fields.findall(line)}
        missing = {'author', 'title', 'year'} - entry.keys()
        if missing: raise ValueError(f"{head[1]} in {path.name} lacks {sorted(missing)}")
        if head[1] in found: raise ValueError(f"{head[1]} is twice in {path.name}")
        found[head[1]] = entry
    return found

def names(author):
    "Family names: 'Hinton, Vinyals and Dean'"
    family = [one.split(',')[0] for one in author.split(' and ')]
    *firsts, last = family
    return f'{", ".join(firsts)} and {last}' if firsts else last

def shown(key, entry):
    "One entry in markdown, under a heading to link to"
    words = f'**{names(entry["author"])} ({entry["year"]}).** *{entry["title"]}*'
    if words[-2] not in '.?!': words += '.'
    if entry.get('note'): words += f' {entry["note"]}.'
    if entry.get('eprint'): words += f' [arXiv {entry["eprint"]}](https://arxiv.org/abs/{entry["eprint"]}).'
    return f'### {key}\n\n{words}'

def page():
    "The bibliography's notebook, as the file says it should be"
    head = """# Bibliography

> What the course cites, in one list.

Each entry is in [references.bib](../references.bib) under the key above it, ready for your own paper. \
In the lessons, each citation says why you would read the paper."""
    every = '\n\n'.join(shown(key, entry) for key, entry in entries().items())
    cells = [new_markdown_cell(head, id='b1b00001'), new_markdown_cell(every, id='b1b00002')]
    kernel = dict(display_name='python3', language='python', name='python3')
    return new_notebook(cells=cells, metadata=dict(kernelspec=kernel))

if __name__ == '__main__': nbformat.write(page(), bib.parent/'pages/bibliography.ipynb')
