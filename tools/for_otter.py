"""A lesson as an assignment for otter-grader.

Its exercises' own checks become otter tests, worth as many points as they have levels. Submissions are made
ready, so that an answer is kept under its exercise's number before the next one takes its name.

    python tools/for_otter.py 01_first assignment/           # assignment/tests/*.py and otter_config.json
    otter generate -t assignment/tests -c assignment/otter_config.json -o assignment/autograder.zip
    python tools/for_otter.py --collect handed_in/*.ipynb    # in place
    python tools/for_otter.py --answers handed_in/*.ipynb    # also without cells that no answer needs
"""
import json, re, symtable, sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbdev.config import get_config

from course import call, read_lesson

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

def with_note(source):
    "The source of a cell that also notes its answer; unchanged if it checks none"
    *lines, last = source.rstrip().split('\n')
    found = call.match(last)
    if not found: return source
    answer = re.sub(r"^check\('[^']+', (.+)\)$", r'\1', last)
    note = f"handed_in = {{**globals().get('handed_in', {{}}), {found[1]!r}: {answer}}}"
    return '\n'.join([*lines, note])

def collected(
    nb,  # a student's notebook
):       # a copy that keeps the answers
    "`check('3.2', freeze)` also notes `freeze` as the answer to 3.2"
    nb = nbformat.from_dict(nb)
    for cell in nb.cells:
        if cell.cell_type == 'code': cell.source = with_note(cell.source)
    return nb

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

def answers_only(
    nb,  # a notebook that keeps its answers, from `collected`
):       # a copy with the exercises and whatever they need, directly or by another cell
    "Without the rest of the lesson, which takes most of the time"
    nb = nbformat.from_dict(nb)
    names = {i: names_in(cell.source) for i, cell in enumerate(nb.cells) if cell.cell_type == 'code'}
    def must_stay(i): return names[i] is None or re.search(r'handed_in|import \*', nb.cells[i].source)
    kept = with_what_they_need(filter(must_stay, names), names)
    nb.cells = [cell for i, cell in enumerate(nb.cells) if i in kept]
    return nb

def notebook_of(lesson):
    "The notebook of a lesson, e.g. '01_first'"
    folder = get_config().config_path/'nbs/lessons'
    names = sorted(p.stem for p in folder.glob('*.ipynb'))
    if lesson not in names:
        raise SystemExit(f"there is no lesson {lesson!r}; expected one of: {', '.join(names)}")
    return folder/f'{lesson}.ipynb'

def in_place(change, paths):
    for path in paths: nbformat.write(change(nbformat.read(path, 4)), path)

def main(args):
    if args[:1] == ['--collect']: in_place(collected, args[1:])
    elif args[:1] == ['--answers']: in_place(lambda nb: answers_only(collected(nb)), args[1:])
    else:
        if len(args) != 2: raise SystemExit(__doc__)
        lesson, to = args
        print(*write_assignment(notebook_of(lesson), Path(to)))

if __name__ == '__main__': main(sys.argv[1:])
