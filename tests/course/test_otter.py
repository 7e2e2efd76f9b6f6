"""nbs/pages/grading_a_class.ipynb with otter-grader really there, in an environment of its own: otter brings what breaks Voila."""
import sys, venv
from unittest.mock import Mock

import nbformat
import pytest

from conftest import root

sys.path.insert(0, str(root/'tools'))
from for_otter import answers_only, collected, main, with_note

page = root/'nbs/pages/grading_a_class.ipynb'

def test_an_answer_is_kept_before_the_next_takes_its_name():
    code = [nbformat.v4.new_code_cell(s) for s in ("guess = 9\ncheck('3.1', guess)", "guess = 2.6\ncheck('3.3', guess)")]
    text, ns = nbformat.v4.new_markdown_cell("check('1', x)"), dict(check=lambda *a: None)
    made = collected(nbformat.v4.new_notebook(cells=[text, *code]))
    for c in made.cells[1:]: exec(c.source, ns)
    assert ns['handed_in'] == {'3.1': 9, '3.3': 2.6}
    assert "check('3.1'" in code[0].source and made.cells[0].source == text.source

endings = ["check('1.1', f)  # done", "check('1.1', f)\n# done", 'check("1.1",f)', "check('1.1', f);", "v = check('1.1', f)\nprint(v)",
           "check(id='1.1', answer=f)", "check(\n    '1.1',\n    f)", "if 1: print(check('1.1', f))", "check('1.1', f); print(1)", "%time v = 1\ncheck('1.1', f)"]

@pytest.mark.parametrize('end', endings)
def test_a_check_is_found_however_it_is_written(end):
    ns = dict(check=lambda id, answer: asked.append(answer), get_ipython=Mock())
    asked = []
    exec(with_note(f'f = 7\n{end}'), ns)
    assert asked == [7] and ns['handed_in'] == {'1.1': 7}

def test_no_check_no_note():
    for source in ("x = 1  # check('1.1', x)", "def f(): check('1.1', x)", "print('check')\n", 'check(id, x)', "check('1.1',", '%%time\nx'):
        assert with_note(source) == source

def test_answers_that_are_missing_are_named(tmp_path, capsys):
    lesson = nbformat.read(root/'nbs/lessons/01_first.ipynb', 4)
    nbformat.write(lesson, tmp_path/'whole.ipynb')
    for cell in lesson.cells: cell.source = cell.source.replace("check('1.2'", "judge('1.2'")
    nbformat.write(lesson, tmp_path/'part.ipynb')
    nbformat.write(nbformat.v4.new_notebook(), tmp_path/'other.ipynb')
    main(['--answers', *(str(tmp_path/f'{name}.ipynb') for name in ('whole', 'part', 'other'))])
    said = [line.partition(': ')[2] for line in capsys.readouterr().out.splitlines()]
    assert said == ['an answer to every exercise', 'no answer to 1.2', 'no exercise of any lesson']
    assert sorted(p.name for p in tmp_path.iterdir()) == ['other.ipynb', 'part.ipynb', 'whole.ipynb']

@pytest.mark.parametrize('change', ["memo['a'] = 3", "memo.update(a=3)", "del memo['b']", "memo['c'] += 1"])
def test_a_students_change_of_an_object_counts(change):
    sources = ["memo = dict(b=1, c=2)", change, 'other = {}', "other['a'] = 3", "def f(): return memo\ncheck('1.1', f)"]
    made = answers_only(collected(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])))
    assert [c.source for c in made.cells[:-1]] == sources[:2]

def test_only_what_answers_need_is_run():
    sources = ['from math import *', 'import time', 'time.sleep(99)', 'base = 2', 'def twice(x): return base*x', 'unused = 1',
               'def mine(x):\n    unused = x\n    return twice(unused)\ncheck(\'3.2\', mine)']
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    made, ns = answers_only(collected(nb)), dict(check=lambda *a: None)
    assert [c.source for c in made.cells[:-1]] == ['from math import *', 'base = 2', 'def twice(x): return base*x']
    for c in made.cells: exec(c.source, ns)
    assert ns['handed_in']['3.2'](4) == 8

def test_a_lessons_training_is_not_needed_to_grade_it():
    lesson = nbformat.read(root/'nbs/lessons/01_first.ipynb', 4)
    made = answers_only(collected(lesson))
    assert len(made.cells) == 5 and 'fit_sskd' not in ''.join(c.source for c in made.cells)

@pytest.mark.parametrize('args, says', [([], 'tools/for_otter.py 01_first'), (['01_first'], 'tools/for_otter.py 01_first'),
                                        (['01_frist', 'to'], "no lesson '01_frist'; expected one of: 01_first, 02_kd")])
def test_arguments_that_are_missing_or_misspelled(tmp_path, monkeypatch, args, says):
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit, match=says): main(args)

@pytest.mark.slow
def test_a_class_is_graded(tmp_path, run):
    "Needs the package index: otter-grader is installed, over what this environment has"
    venv.create(tmp_path/'env', with_pip=True)
    packages = next((tmp_path/'env/lib').glob('python3*'))/'site-packages'
    here = next(p for p in sys.path if p.endswith('site-packages'))
    (packages/'also.pth').write_text(f'{here}\n{root}\n')
    run(tmp_path/'env/bin/python', '-m', 'pip', 'install', '--quiet', 'otter-grader>=7', cwd=tmp_path)
    nbconvert = '-m', 'nbconvert', '--to', 'notebook', '--execute', '--output', tmp_path/'done.ipynb', page
    run(tmp_path/'env/bin/python', *nbconvert, cwd=root/'nbs', timeout=3000)
    outputs = [o for c in nbformat.read(tmp_path/'done.ipynb', 4).cells for o in c.get('outputs', [])]
    said = ''.join(o.get('text', '') + o.get('data', {}).get('text/plain', '') for o in outputs)
    assert '30 submissions' in said and 'possible' in said, "the page itself asserts that every mark is the one that is due"
