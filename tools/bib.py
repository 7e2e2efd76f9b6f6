"""The bibliography: nbs/references.bib, one entry a line, and the page that is made of it: `python tools/bib.py`."""
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
        if not head: raise ValueError(f"{path.name} has the line {line[:60]!r}; expected @misc{{key, field = {{...}}, ...}}")
        entry = {name: plain(value) for name, value in fields.findall(line)}
        missing = {'author', 'title', 'year'} - entry.keys()
        if missing: raise ValueError(f"{head[1]} in {path.name} lacks {sorted(missing)}")
        if head[1] in found: raise ValueError(f"{head[1]} is twice in {path.name}")
        found[head[1]] = entry
    return found

def names(author):
    "Family names: 'Hinton, Vinyals and Dean'"
    family = [one.split(',')[0] for one in author.split(' and ')]
    if family[-1] == 'others': return f'{", ".join(family[:-1])} and others'
    return ' and '.join([', '.join(family[:-1]), family[-1]] if len(family) > 1 else family)

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

Each entry is in [references.bib](../references.bib) under the key above it, ready for your own paper. In the lessons, each \
citation says why you would read the paper."""
    made = [('b1b00001', head), ('b1b00002', '\n\n'.join(shown(*one) for one in entries().items()))]
    cells = [new_markdown_cell(text, id=id) for id, text in made]
    return new_notebook(cells=cells, metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')))

if __name__ == '__main__': nbformat.write(page(), bib.parent/'pages/bibliography.ipynb')
