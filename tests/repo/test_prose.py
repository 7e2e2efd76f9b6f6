"""Spelling (codespell) and style (proselint) of all that is meant to be read: text of notebooks, markdown files, docstrings."""
import ast, json, subprocess, sys
from pathlib import Path

import nbformat
import pytest

from conftest import root, tracked

bin = Path(sys.executable).parent
words = 'fro', 'tung', 'docments'  # to and fro; an author; nbdev's word
# What is a matter of taste or of the keyboard stays out: straight quotes and `...`, hyphens after -ly, `very`, `for ever`, a
# paragraph that begins with But, what proselint calls clichés. vale's rules for style would have to be downloaded.
checks = ('annotations hedging industrial_language lexical_illusions malapropisms mixed_metaphors mondegreens needless_variants '
          'nonwords oxymorons psychology skunked_terms social_awareness spelling terms uncomparables').split()

def docstrings(code):
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    return filter(None, (ast.get_docstring(n) for n in ast.walk(ast.parse(code)) if isinstance(n, kinds)))

def text_of(path):
    if path.suffix == '.ipynb': return '\n\n'.join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == 'markdown')
    return '\n\n'.join(docstrings(path.read_text())) if path.suffix == '.py' else path.read_text()

@pytest.fixture(scope='module')
def prose(tmp_path_factory):
    "A folder with the text of each file under its own name"
    to = tmp_path_factory.mktemp('prose')
    for p in tracked(root):
        name = p.relative_to(root).as_posix()
        if p.suffix not in ('.ipynb', '.md', '.py') or name.startswith('colab/'): continue  # these are copies
        (to/name).parent.mkdir(parents=True, exist_ok=True)
        (to/f'{name}.md').write_text(text_of(p))
    return to

def said(*cmd, folder): return subprocess.run([bin/cmd[0], *cmd[1:]], cwd=folder, capture_output=True, text=True).stdout

def misspelt(folder): return said('codespell', '-L', ','.join(words), '.', folder=folder).splitlines()

def complaints(folder):
    "file, line, check and complaint"
    every = json.loads(said('proselint', 'dump-config', folder=folder))['checks']
    config = folder.parent/f'{folder.name}.json'
    config.write_text(json.dumps(dict(checks={c: c in checks for c in every}, max_errors=1000)))
    found = json.loads(said('proselint', 'check', '--config', config, '-o', 'json', '.', folder=folder))['result']
    rows = [(Path(f).name, o['pos'][0], o['check_path'], o['message']) for f, r in found.items() for o in r['diagnostics']]
    return [r for r in rows if '\n' not in r[3]]  # a text may begin with the word that its heading ends with

def test_spelling(prose): assert misspelt(prose) == []

def test_style(prose): assert complaints(prose) == []

def test_errors_would_be_found(tmp_path):
    (tmp_path/'bad').mkdir()
    (tmp_path/'bad/a.md').write_text('Recieve the\nmessage.\n\nFor all intensive purposes, the the cat is very unique.')
    assert len(misspelt(tmp_path/'bad')) == 1
    assert {c for _, _, c, _ in complaints(tmp_path/'bad')} == {'mondegreens', 'lexical_illusions', 'uncomparables'}

def test_all_of_it_was_read(prose):
    texts = {p.relative_to(prose).as_posix(): p.read_text() for p in prose.rglob('*.md')}
    assert 'student' in texts['README.md.md'] and 'import torch' not in texts['sskd_tutor/course/grading.py.md']
    assert 'distill' in texts['nbs/lessons/01_first.ipynb.md'] and 'Test an answer' in texts['sskd_tutor/course/exercises.py.md']
