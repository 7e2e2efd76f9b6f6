"""Exams: every answer of every template is what computing gives, and what students get holds no answer."""
import random, re, sys

import nbformat
import pytest

from conftest import root
from sskd_tutor.course.exam import draw_exam, key, paper
from sskd_tutor.course.exercises import lessons
from sskd_tutor.course.question import Question, WrongKey, answer_of, checked, questions, text_of, way_of

sys.path.insert(0, str(root/'tools'))
from exam import derivations_in, noted_exam, write_exam

def asked(name, seed): return questions[name](random.Random(seed))

@pytest.mark.parametrize('name', questions)
def test_the_answer_is_what_computing_gives(name):
    for seed in range(40): checked(asked(name, seed))

@pytest.mark.parametrize('name', questions)
def test_numbers_differ_from_exam_to_exam(name):
    assert len({text_of(asked(name, seed)) for seed in range(40)}) >= 4

@pytest.mark.parametrize('name', questions)
def test_every_number_is_put_into_words(name):
    q = asked(name, 3)
    assert not re.search(r'[{}]|\bnan\b', text_of(q) + way_of(q))
    assert text_of(q).endswith(('?', '.', ')')) and answer_of(q) in way_of(q)
    assert answer_of(q) not in text_of(q)

def test_each_lesson_has_a_template():
    assert {kind.lesson for kind in questions.values()} == set(lessons)

def test_a_wrong_formula_makes_no_exam(monkeypatch):
    kind = questions['SmoothedLabel']
    monkeypatch.setattr(kind, 'solve', lambda self, n, eps: 1 - eps)
    with pytest.raises(WrongKey, match='SmoothedLabel with .* on paper'): key([asked('SmoothedLabel', 1)])

def test_a_template_without_a_title_is_refused():
    from sskd_tutor.course.question import question
    given = dict(lesson='1', minutes=1, asks='?', worked='!')
    with pytest.raises(ValueError, match='lacks a docstring'): question(type('Nameless', (Question,), given))

def test_other_courses_have_other_numbers():
    one, other = paper(draw_exam('spring')), paper(draw_exam('fall'))
    assert one == paper(draw_exam('spring')) and one != other

def test_a_lesson_counts_once():
    assert paper(draw_exam(1, lessons=['1', 1, '1'])) == paper(draw_exam(1, lessons=['1']))
    with pytest.raises(ValueError, match=r"lessons is the text '12'; expected a list of lessons, e.g. \['1', '2', 'M'\]"): draw_exam(1, lessons='12')

def test_students_get_no_answers(tmp_path):
    write_exam(tmp_path, 'a test')
    given = ''.join(p.read_text() for p in (tmp_path/'exam').iterdir())
    told = ''.join(p.read_text() for p in (tmp_path/'instructor').iterdir())
    ways = [way_of(q) for q in draw_exam('a test')]
    assert all(way in told and way not in given for way in ways)
    assert '### Answer' not in given and 'a test' not in given and 'a test' in told

def test_an_exam_is_made_again_from_its_key(tmp_path):
    "By `make course`, which must not replace the key of an exam that is printed"
    assert noted_exam(tmp_path) is None
    write_exam(tmp_path, 'a `test`, 45', 60)
    before = {p: p.read_text() for p in tmp_path.rglob('*.md')}
    for p in (tmp_path/'exam').iterdir(): p.unlink()
    assert noted_exam(tmp_path) == ('a `test`, 45', 60)
    write_exam(tmp_path, *noted_exam(tmp_path))
    assert {p: p.read_text() for p in tmp_path.rglob('*.md')} == before
    key_of_before = tmp_path/'instructor/exam_key.md'
    key_of_before.write_text('# Exam: key\n\nThe seed of this exam: `1f`\n')
    assert noted_exam(tmp_path) == ('1f', 45)

def test_derivations_have_answers_and_points():
    found = derivations_in(root/'course/derivations.md')
    assert len(found) >= 8 and len({d.title for d in found}) == len(found)
    for d in found:
        parts = [re.findall(r'^(\d)\. ', text, re.M) for text in (d.problem, d.answer)]
        assert parts[0] == parts[1] != [], d.title
        assert d.problem.count('$') % 2 == d.answer.count('$') % 2 == 0, d.title

@pytest.mark.parametrize('text, says', [
    ('## A (3 points)\n\nShow it.\n', 'needs a problem'),
    ('## A (3 points)\n\nShow it.\n\n### Answer\n\n1. (2 points) So.\n', 'is worth 3 points, its parts 2'),
    ('# Nothing\n', 'has no heading')])
def test_a_derivation_that_is_off_is_named(tmp_path, text, says):
    (tmp_path/'d.md').write_text(text)
    with pytest.raises(ValueError, match=says): derivations_in(tmp_path/'d.md')

def test_sheets_lie_beside_the_lessons(tmp_path):
    "Their links, those in saved outputs, too, lead to files beside them or into the repository"
    from course import sheets, write_sheets
    for kind in ('student', 'instructor'): (tmp_path/kind).mkdir()
    names = ['02_kd.ipynb', '11_few_labels.ipynb']   # a table in the syllabus links to one, a text in the project to the other
    write_sheets(root/'nbs/pages', tmp_path, names)
    assert len(list(tmp_path.glob('*/*.ipynb'))) == 2*len(sheets)
    here = set()   # files that a sheet links to
    for path in tmp_path.glob('*/*.ipynb'):
        nb = nbformat.read(path, 4)
        nbformat.validate(nb)
        outputs = [o for c in nb.cells for o in c.get('outputs', [])]
        texts = [c.source for c in nb.cells if c.cell_type == 'markdown']
        texts += [o.data['text/markdown'] for o in outputs if 'text/markdown' in o.get('data', {})]
        links = re.findall(r'\]\(([^()\s]+)\)', '\n'.join(texts))
        here |= {link.partition('#')[0] for link in links if not re.match('https?://|#', link)}
    assert here == {'project.ipynb', *names}
