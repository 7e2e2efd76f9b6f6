"""A lesson as an assignment for otter-grader.

Its exercises' own checks become otter tests, worth as many points as they have levels. Submissions are made
ready, so that an answer is kept under its exercise's number before the next one takes its name.

    python tools/for_otter.py 01_first assignment/           # assignment/tests/*.py and otter_config.json
    otter generate -t assignment/tests -c assignment/otter_config.json -o assignment/autograder.zip
    python tools/for_otter.py --collect handed_in/*.ipynb    # in place
    python tools/for_otter.py --answers handed_in/*.ipynb    # also without cells that no answer needs

For each submission, the last two name the exercises to which it has no answer.
"""
import ast, json, re, symtable, sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbdev.config import get_config

from course import heading, read_lesson
from sskd_tutor.core.files import write_whole

template = '''\
from otter.test_files import test_case

OK_FORMAT = False
name = {id!r}
points = {points}

@test_case()
def {name}(env):
    from sskd_tutor.course.exercises import check
    answer = env.get('handed_in', {{}}).get({id!r}, ...)
    verdict = check({id!r}, answer)
    assert verdict, verdict.says
'''

def write_assignment(
    lesson,       # a notebook of nbs/lessons
    to: Path,
) -> list:        # ids of its exercises
    "otter's tests of a lesson, and a configuration"
    (to/'tests').mkdir(parents=True, exist_ok=True)
    tasks = read_lesson(Path(lesson)).tasks.values()
    for t in tasks:
        name = 'exercise_' + t.id.replace('.', '_').lower()
        (to/f'tests/{name}.py').write_text(template.format(id=t.id, points=t.level, name=name))
    (to/'otter_config.json').write_text(json.dumps(dict(show_stdout=True, show_hidden=True)))
    return [t.id for t in tasks]

def note_of(node):
    "The line that notes what a call of `check` is given as an answer; None for other parts of a syntax tree"
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) == 'check'): return None
    given = dict(zip(('id', 'answer'), node.args)) | {keyword.arg: keyword.value for keyword in node.keywords}
    id, answer = given.get('id'), given.get('answer')
    if not isinstance(id, ast.Constant) or answer is None: return None
    return f"handed_in = {{**globals().get('handed_in', {{}}), {str(id.value)!r}: {ast.unparse(answer)}}}"

def notes_in(statement):
    "The notes of all calls of `check` in a statement, however it uses their verdicts"
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)): return []   # answers there are local
    return [note for note in map(note_of, ast.walk(statement)) if note]

def with_note(source):
    "The source of a cell that also notes each answer below its check; unchanged if it checks none"
    try:
        python = TransformerManager().transform_cell(source)   # %time and the like become calls
        statements = ast.parse(python).body
    except SyntaxError: return source
    below = {}   # number of a line -> notes
    for statement in statements:
        ends = [other.end_lineno for other in statements if other.lineno <= statement.end_lineno]   # f(); g()
        below.setdefault(max(ends), []).extend(notes_in(statement))
    if not any(below.values()): return source
    noted = []
    for number, line in enumerate(python.rstrip().split('\n'), 1): noted += [line, *below.get(number, [])]
    return '\n'.join(noted)

def collected(
    nb,  # a student's notebook
):       # a copy that keeps the answers
    "Below `check('3.2', freeze)`, `freeze` is noted as the answer to 3.2"
    nb = nbformat.from_dict(nb)
    for cell in nb.cells:
        if cell.cell_type == 'code': cell.source = with_note(cell.source)
    return nb

noted_id = re.compile(r"^handed_in = .*\('handed_in', {}\), '([^']+)': ", re.M)

def noted_in(nb):
    "Ids of the exercises to which a notebook from `collected` notes an answer"
    return {id for cell in nb.cells if cell.cell_type == 'code' for id in noted_id.findall(cell.source)}

@cache
def all_lessons(): return [read_lesson(path) for path in sorted(lesson_folder().glob('*.ipynb'))]

def lesson_in(nb):
    "The lesson that a notebook is a copy of, by its exercises; None if it has none"
    texts = [cell.source for cell in nb.cells if cell.cell_type == 'markdown']
    ids = noted_in(nb) | {id for text in texts for id, *_ in heading.findall(text)}
    return next((lesson for lesson in all_lessons() if ids & {t.id for t in lesson.tasks.values()}), None)

def what_is_there(nb):
    "Of a notebook from `collected`: which exercises have no answer, in words"
    lesson = lesson_in(nb)
    if lesson is None: return 'no exercise of any lesson'
    missing = [t.id for t in lesson.tasks.values() if t.id not in noted_in(nb)]
    return f"no answer to {', '.join(missing)}" if missing else 'an answer to every exercise'

def read_inside(table):
    "Names that functions and classes of a cell read from outside"
    for inner in table.get_children():
        yield from (s.get_name() for s in inner.get_symbols() if s.is_global())
        yield from read_inside(inner)

@dataclass
class Names:
    made: set   # that a cell gives to others
    read: set   # that it takes from them

def names_in(source):
    "The names that a cell makes and reads; None if it is more than Python"
    try: table = symtable.symtable(source, 'cell', 'exec')
    except SyntaxError: return None
    symbols = table.get_symbols()
    made = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    read = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
    return Names(made, read | set(read_inside(table)))

def root_of(node):
    "`memo` of `memo['a'].b`; None if that is no name"
    while isinstance(node, (ast.Attribute, ast.Subscript)): node = node.value
    return node.id if isinstance(node, ast.Name) else None

def names_changed(source):
    "Names of objects in which a cell may change something: `memo['a'] = 3`, `found.append(x)`, `net.k = 2`"
    nodes = list(ast.walk(ast.parse(source)))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    written = [node for node in nodes if isinstance(getattr(node, 'ctx', None), (ast.Store, ast.Del))]
    inside = [node for node in called + written if isinstance(node, (ast.Attribute, ast.Subscript))]
    return set(map(root_of, inside)) - {None}

def with_what_they_need(
    kept,   # numbers of cells
    names,  # number of a cell -> its Names
):
    "These cells, and all that make a name which one of them reads"
    kept, more = set(), set(kept)
    while more:
        kept |= more
        needed = set()
        for i in kept:
            if names[i]: needed |= names[i].read
        more = {i for i in names.keys() - kept if names[i].made & needed}
    return kept

def bare(cell):
    "Its source without the lines that tell nbdev or Colab what to do"
    return re.sub(r'\A(#[|@].*\n)+', '', cell.source).strip()

def answers_only(
    nb,  # a notebook that keeps its answers, from `collected`
):       # a copy with the exercises and whatever they need, directly or by another cell
    "Without the rest of the lesson, which takes most of the time"
    nb, lesson = nbformat.from_dict(nb), lesson_in(nb)
    names = {i: names_in(cell.source) for i, cell in enumerate(nb.cells) if cell.cell_type == 'code'}
    known = {bare(cell) for cell in lesson.nb.cells} if lesson else set()
    for i in names:   # what a student's own cell changes in an object may be part of an answer
        if names[i] and bare(nb.cells[i]) not in known: names[i].made |= names_changed(nb.cells[i].source)
    def must_stay(i): return names[i] is None or re.search(r'handed_in|import \*', nb.cells[i].source)
    kept = with_what_they_need(filter(must_stay, names), names)
    nb.cells = [cell for i, cell in enumerate(nb.cells) if i in kept]
    return nb

def lesson_folder(): return get_config().config_path/'nbs/lessons'

def notebook_of(lesson):
    "The notebook of a lesson, e.g. '01_first'"
    folder = lesson_folder()
    names = sorted(p.stem for p in folder.glob('*.ipynb'))
    if lesson not in names:
        raise SystemExit(f"there is no lesson {lesson!r}; expected one of: {', '.join(names)}")
    return folder/f'{lesson}.ipynb'

def in_place(change, paths):
    "Rewrite submissions, and tell which answers they lack"
    for path in paths:
        nb = change(nbformat.read(path, 4))
        write_whole(path, nbformat.writes(nb) + '\n')
        print(f'{path}: {what_is_there(nb)}')

def main(args):
    if args[:1] == ['--collect']: in_place(collected, args[1:])
    elif args[:1] == ['--answers']: in_place(lambda nb: answers_only(collected(nb)), args[1:])
    else:
        if len(args) != 2: raise SystemExit(__doc__)
        lesson, to = args
        print(*write_assignment(notebook_of(lesson), Path(to)))

if __name__ == '__main__': main(sys.argv[1:])
