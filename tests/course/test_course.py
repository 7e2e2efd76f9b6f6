"""The course: copies are made from lessons and solutions, and each lesson runs with every exercise unsolved, then solved."""
import json, os, re, subprocess, sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from conftest import root
from sskd_tutor.course.exercises import lessons as registered_lessons
from sskd_tutor.course.grading import exercises

sys.path.insert(0, str(root/'tools'))
from course import CourseError, absolute, chosen, copies, read_course, read_lesson, write_course

seconds = 100  # of CPU, in quick mode: a lesson that hangs or forgot `quick`, not a slow machine
lessons = sorted((root/'nbs/lessons').glob('*.ipynb'))
name = lambda p: p.stem

# --- the generator, on small notebooks

head = '### Exercise 1.1 · Twice\n\n*fill in, level 1 of 3*\n\nTwice of it?'
there = {'1.1': 'Twice'}
links = 'See [that](02_b.ipynb#x), [this](../data/00_images.ipynb), [all](https://x.y).'
work = "def twice(n):\n    ...  # your code\n\ncheck('1.1', twice)"
solution = "# %% 1.1\ndef twice(n): return 2*n\n# note: Any number\n# note: will do.\n"

def small(folder, *cells, solved=solution, file='01_small.ipynb'):
    "A course of one small lesson; what is given replaces its exercise"
    code = lambda s: new_code_cell(s, outputs=[new_output('stream', text='said')])
    given = [new_markdown_cell(s) if s.startswith('#') and s[1] != '|' else code(s) for s in cells or (head, work)]
    first = [new_markdown_cell('# Small\n\n> A lesson'), code('#| hide\nimport math'), new_markdown_cell(links)]
    (folder/'lessons').mkdir(exist_ok=True)
    (folder/'solutions').mkdir(exist_ok=True)
    spec = dict(name='python3', display_name='python3', language='python')
    nbformat.write(new_notebook(cells=first + given, metadata=dict(kernelspec=spec)), folder/'lessons'/file)
    (folder/'solutions/01.py').write_text(solved)
    return folder/'lessons', folder/'solutions'

def made(folder, *cells, **kw):
    course, solved = read_course(*small(folder, *cells, **kw), there)
    return {kind: nb.cells for kind, nb in copies(course[0], solved, ['01_small.ipynb', '02_b.ipynb']).items()}

def test_copies_of_an_exercise(tmp_path):
    nbs = made(tmp_path)
    assert [c.source for c in nbs['student'][4:]] == [work]
    solved, note = [c.source for c in nbs['instructor'][4:]]
    assert solved == "def twice(n): return 2*n\n\ncheck('1.1', twice)" and note == '> **For the instructor.** Any number will do.'
    assert [c.metadata.get('tags') for c in nbs['both'][4:]] == [['skeleton'], ['solution']]
    assert all(c.outputs == [] for cells in nbs.values() for c in cells[4:] if c.cell_type == 'code')
    assert nbs['student'][1].outputs[0].text == 'said', "other outputs stay"

def test_the_students_copy_holds_no_solution(tmp_path):
    course, solved = read_course(*small(tmp_path), there)
    write_course(course, solved, tmp_path/'made')
    student, both = ((tmp_path/f'made/{k}/01_small.ipynb').read_text() for k in ('student', 'both'))
    assert '2*n' not in student and 'instructor' not in student and '2*n' in both
    for p in (tmp_path/'made').rglob('*.ipynb'): nbformat.validate(nbformat.read(p, 4))

def test_only_what_the_tool_wrote_goes(tmp_path):
    "A lesson of before goes; what a teacher keeps in the same folder stays"
    course, solved = read_course(*small(tmp_path, file='01_before.ipynb'), there)
    write_course(course, solved, tmp_path/'made')
    (tmp_path/'made/student/mine.ipynb').write_text('{}')
    (tmp_path/'made/instructor/grades.csv').write_text('me,1')
    (tmp_path/'lessons/01_before.ipynb').rename(tmp_path/'lessons/01_small.ipynb')
    course, solved = read_course(*small(tmp_path), there)
    for _ in range(2): write_course(course, solved, tmp_path/'made')
    left = {kind: sorted(p.name for p in (tmp_path/'made'/kind).iterdir()) for kind in ('student', 'instructor', 'both')}
    assert left == dict(student=['01_small.ipynb', 'mine.ipynb'], instructor=['01_small.ipynb', 'grades.csv'], both=['01_small.ipynb'])

def test_directives_and_links(tmp_path):
    cells = made(tmp_path, head, work, '#| slow\n1 + 1')['student']
    assert cells[1].source == 'import math' and cells[-1].source == '1 + 1' and cells[-1].metadata.tags == ['slow']
    assert '(02_b.ipynb#x)' in cells[2].source and '(https://x.y)' in cells[2].source
    assert '(https://github.com/' in cells[2].source and '/blob/main/nbs/data/00_images.ipynb)' in cells[2].source
    assert absolute('![a](b.png) [c](#d)', 'nbs/lessons').endswith('/nbs/lessons/b.png) [c](#d)')
    assert absolute('![a](b.png)', 'nbs').startswith('![a](https://raw.githubusercontent.com/'), 'the image, not a page about it'

wrongs = dict(
    no_solution=(dict(solved=''), 'exercise 1.1 has no solution'),
    no_exercise=(dict(solved=solution + '# %% 1.7\npass\n'), r"solutions without an exercise: \['1.7'\]"),
    two_solutions=(dict(solved=solution*2), 'the solution of 1.1 is there twice'),
    two_exercises=(dict(cells=(head, work, head, work)), 'exercise 1.1 is in 01_small.ipynb already'),
    not_last=(dict(cells=(head, work + '\ntwice(3)')), 'is not the last line'),
    within=(dict(cells=(head, "if 1:\n    check('1.1', 2)\n" + work)), 'is not the last line'),
    no_heading=(dict(cells=('# Elsewhere', work)), 'no `### Exercise 1.1'),
    no_cell_above=(dict(cells=('1 + 1', work)), 'no `### Exercise 1.1'),
    no_level=(dict(cells=(head.replace(', level 1 of 3', ''), work)), 'no `### Exercise 1.1'),
    level_of_four=(dict(cells=(head.replace('level 1', 'level 4'), work)), r'level 4\*; expected'),
    unknown_kind=(dict(cells=(head.replace('fill in', 'sing'), work)), r"\*sing, level 1\*; expected one of \('predict'"),
    other_id=(dict(cells=(head.replace('1.1', '1.2'), work)), "the heading says Exercise 1.2"),
    not_a_call=(dict(cells=(head, work.replace("'1.1'", 'x'))), "is not of the form check"),
    not_registered=(dict(registry={}), 'no check is registered for exercise 1.1'),
    no_longer_there=(dict(registry={'1.1': 'Twice', '1.9': 'Gone'}), r"checks without an exercise: \['1.9'\]"),
    another_title=(dict(registry={'1.1': 'Thrice'}), "'Twice' here and 'Thrice' to its check"))

@pytest.mark.parametrize('kind', wrongs)
def test_errors_are_named(kind, tmp_path):
    given, says = wrongs[kind]
    folders = small(tmp_path, *given.get('cells', ()), solved=given.get('solved', solution))
    with pytest.raises(CourseError, match=says): read_course(*folders, given.get('registry', there))

def test_lessons_by_name():
    "A name that no lesson has is no reason to do nothing: `make test-colab ARGS=07_wacth` would pass"
    assert chosen(lessons, []) == lessons and [p.stem for p in chosen(lessons, ['02_kd'])] == ['02_kd']
    with pytest.raises(SystemExit, match=r"no lesson \['07_wacth'\]; expected some of \['01_first'"): chosen(lessons, ['02_kd', '07_wacth'])

# --- the real lessons

@pytest.fixture(scope='session')
def course(tmp_path_factory):
    "All copies, from the command, which fails unless exercises, solutions and registered checks agree"
    to = tmp_path_factory.mktemp('course')
    done = subprocess.run([sys.executable, root/'tools/course.py', to], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return to

def ran(notebook, folder, *flags, quick=True):
    "What `tools/run_lesson.py` reports, from a process of its own whose progress goes elsewhere"
    own = dict(SSKD_PROGRESS=str(folder/'progress.json'), SSKD_QUICK='1'*quick, PYTHONPATH=str(root), PYTHONWARNINGS='ignore')
    if quick: own['OMP_NUM_THREADS'] = '1'
    p = subprocess.run([sys.executable, root/'tools/run_lesson.py', notebook, *flags], cwd=root/'nbs/lessons', timeout=3000,
                       env=os.environ | own, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert p.returncode == 0, f'{p.stdout[-2000:]}\n{p.stderr[-4000:]}'
    return json.loads(p.stdout.splitlines()[-1]), json.loads((folder/'progress.json').read_text())

def judged(path, made, progress):
    "Every exercise failed as a skeleton with words that help, and passed with its solution"
    tasks = {t.id: t for t in read_lesson(path).tasks.values()}
    rows = {(r['id'], r['kind']): r for r in made['rows']}
    assert tasks.keys() == progress.keys() and rows.keys() == {(id, k) for id in tasks for k in ('skeleton', 'solution')}
    for id, t in tasks.items():
        before, after = rows[id, 'skeleton'], rows[id, 'solution']
        assert after['passed'] is True, f"{id} with its solution: {after['says']}"
        assert len(before['says']) > 30 and not re.search('broke off|NameError', before['says']), before
        if t.untouched: ok = before['passed'] is None and not before['counted'] and not before['hints']
        else: ok = before['passed'] is False and before['counted'] and before['hints'] == 1
        assert ok, f"{id} {'untouched counts as no try' if t.untouched else 'with its bug earns one hint'}: {before}"
        assert progress[id]['passed'] and progress[id]['tries'] == 2 - t.untouched

@pytest.mark.parametrize('path', lessons, ids=name)
def test_lesson(path, course, tmp_path):
    made, progress = ran(course/'both'/path.name, tmp_path)
    judged(path, made, progress)
    assert made['seconds'] < seconds, f"{path.stem} took {made['seconds']:.0f} s of CPU in quick mode, of {seconds}"

@pytest.mark.slow
@pytest.mark.parametrize('path', lessons, ids=name)
def test_lesson_at_full_size(path, course, tmp_path):
    made, progress = ran(course/'both'/path.name, tmp_path, 'slow', quick=False)
    judged(path, made, progress)
    assert made['seconds'] < 600, f"{path.stem} took {made['seconds']:.0f} s of CPU; five minutes on two cores are 600"

def test_every_kind_and_level_is_there():
    tasks = [t for p in lessons for t in read_lesson(p).tasks.values()]
    assert {t.kind for t in tasks} == {'predict', 'fill in', 'find the bug', 'design'} and {t.level for t in tasks} == {1, 2, 3}
    per = {}
    for t in tasks: per.setdefault(t.id.split('.')[0], []).append(t)
    assert per.keys() == registered_lessons.keys() and {len(ts) for ts in per.values()} <= {3, 4, 5, 6, 7}

def test_nbconvert_runs_a_lesson(tmp_path, run):
    "Without a browser, without a shell of ours"
    env = f'SSKD_QUICK=1 SSKD_PROGRESS={tmp_path}/progress.json PYTHONPATH={root} OMP_NUM_THREADS=1'.split()
    jupyter = Path(sys.executable).parent/'jupyter'
    run('env', *env, jupyter, 'nbconvert', '--to', 'notebook', '--execute', '--output-dir', tmp_path, lessons[0], cwd=tmp_path)
    code = [c for c in nbformat.read(tmp_path/lessons[0].name, 4).cells if c.cell_type == 'code']
    assert all(c.execution_count for c in code) and not [o for c in code for o in c.outputs if o.output_type == 'error']
    cards = [o.data['text/html'] for c in code for o in c.outputs if 'sskd-verdict' in o.get('data', {}).get('text/html', '')]
    assert len(cards) == len(read_lesson(lessons[0]).tasks)

checks = sorted([*(root/'nbs/course').glob('*_lesson_*.ipynb'), *(root/'nbs/course').glob('*_museum.ipynb')])

@pytest.mark.slow
@pytest.mark.parametrize('path', checks, ids=name)
def test_checks_say_the_same_whatever_they_draw(path, monkeypatch):
    "Their inputs are random; a typical slip must be told by its own words each time, not most of the time"
    monkeypatch.chdir(root/'nbs')
    for id in list(exercises): monkeypatch.delitem(exercises, id)   # of the lessons before
    cells, space = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == 'code'], {'__name__': 'checks'}
    for c in cells: exec(c, space)
    again = [c for c in cells if 'said(' in c and not c.startswith('#| ')]
    assert again
    for _ in range(30):
        for c in again: exec(c, space)
