"""What every lesson has, and that what it links to is there."""
import re, sys

import nbformat
import pytest

from conftest import root

sys.path.insert(0, str(root/'tools'))
import bib

lessons = sorted((root/'nbs/lessons').glob('*.ipynb'))
name = lambda p: p.stem
lines, width = 25, 100   # of a cell of code that a reader sees

def cells_of(path, kind): return [c for c in nbformat.read(path, 4).cells if c.cell_type == kind]

def text_of(path): return '\n\n'.join(c.source for c in cells_of(path, 'markdown'))

def is_hidden(cell): return cell.metadata.get('jupyter', {}).get('source_hidden', False)

def is_long(cell):
    rows = cell.source.split('\n')
    return len(rows) > lines or max(map(len, rows)) > width

def slug(heading): return re.sub(r'[^\w -]', '', heading.lower()).strip().replace(' ', '-')

def headings(page):
    text = text_of(root/'nbs/pages'/f'{page}.ipynb')
    return [slug(m) for m in re.findall(r'^##+ (.+)$', text, re.M)]

@pytest.mark.parametrize('path', lessons, ids=name)
def test_a_lesson_has_a_goal_and_a_summary(path):
    first = '\n'.join(c.source for c in cells_of(path, 'markdown')[:3])
    assert re.search(r'\*\*Goal|By the end', first), "what can a reader do at the end?"
    assert 'What to take away' in text_of(path)

@pytest.mark.parametrize('path', [p for p in lessons if p.stem not in ('01_first', 'bug_museum')], ids=name)
def test_a_lesson_begins_with_what_came_before(path):
    first = '\n'.join(c.source for c in cells_of(path, 'markdown')[:3])
    assert re.search(r'\*\*Recap', first)

@pytest.mark.parametrize('path', lessons, ids=name)
def test_a_lesson_asks_twelve_questions(path):
    found = re.findall(r'<details><summary>(\d+)\. (.+?)</summary>(.+?)</details>', text_of(path), re.S)
    assert [int(n) for n, *_ in found] == list(range(1, 13))
    assert all(len(question) > 10 and len(answer) > 10 for _, question, answer in found)

@pytest.mark.parametrize('path', lessons, ids=name)
def test_a_lesson_says_what_to_read(path):
    text = text_of(path)
    assert '## Further reading' in text
    reading = text.split('## Further reading')[1]
    assert len(re.findall(r'^- .*bibliography\.ipynb#\w+\).{20,}', reading, re.M)) >= 3

@pytest.mark.parametrize('path', lessons, ids=name)
def test_terms_and_citations_are_there(path):
    "A link to the glossary or the bibliography leads to an entry"
    text = text_of(path)
    for page in ('glossary', 'bibliography'):
        linked = set(re.findall(rf'{page}\.ipynb#([\w-]+)', text))
        assert linked <= set(headings(page)), linked - set(headings(page))

def test_glossary_is_in_order():
    terms = headings('glossary')
    assert terms == sorted(set(terms)) != []

def test_bibliography_is_what_the_file_says():
    page = bib.page()
    made = nbformat.read(root/'nbs/pages/bibliography.ipynb', 4)
    assert [c.source for c in made.cells] == [c.source for c in page.cells], "out of date: python tools/bib.py"
    assert headings('bibliography') == sorted(bib.entries())

def test_an_entry_that_lacks_its_year_is_named(tmp_path):
    (tmp_path/'a.bib').write_text('@misc{one2001, author = {A}, title = {B}}\n')
    with pytest.raises(ValueError, match=r"one2001 in a.bib lacks \['year'\]"): bib.entries(tmp_path/'a.bib')

def test_names_of_authors():
    assert bib.names('Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff') == 'Hinton, Vinyals and Dean'
    assert bib.names('Gao, Mengya and others') == 'Gao and others'

@pytest.mark.parametrize('path', lessons, ids=name)
def test_code_fits_on_a_page(path):
    long = [c.id for c in cells_of(path, 'code') if not is_hidden(c) and is_long(c)]
    assert not long, 'split the cell, or move code into the library'

@pytest.mark.parametrize('path', lessons[:2], ids=name)
def test_few_imports_before_the_first_image(path):
    code = [c.source for c in cells_of(path, 'code')]
    assert len(re.findall(r'^(?:from|import) ', code[0], re.M)) <= 6
    assert not re.search(r'^(?:from|import) ', code[1], re.M)
