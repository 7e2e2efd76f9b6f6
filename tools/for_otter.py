"""A lesson as an assignment for otter-grader: its exercises' own checks as otter tests, worth as many points as they have levels,
and submissions made ready, so that an answer is kept under its exercise's number before the next one takes its name.

    python tools/for_otter.py 01_first assignment/           # assignment/tests/*.py and otter_config.json
    otter generate -t assignment/tests -c assignment/otter_config.json -o assignment/autograder.zip
    python tools/for_otter.py --collect handed_in/*.ipynb    # in place
    python tools/for_otter.py --answers handed_in/*.ipynb    # the same, and only the cells that the answers need
"""
import json, re, symtable, sys
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

def collected(
    nb,  # a student's notebook
):       # a copy that keeps the answers
    "`check('3.2', freeze)` also notes `freeze` as the answer to 3.2"
    nb = nbformat.from_dict(nb)
    for c in nb.cells:
        lines = c.source.rstrip().split('\n')
        if c.cell_type != 'code' or not (m := call.match(lines[-1])): continue
        answer = re.sub(r"^check\('[^']+', (.+)\)$", r'\1', lines[-1])
        c.source = '\n'.join([*lines[:-1], f"handed_in = {{**globals().get('handed_in', {{}}), {m[1]!r}: {answer}}}"])
    return nb

def read_inside(table):
    "Names that functions and classes of a cell read from outside"
    for inner in table.get_children():
        yield from (s.get_name() for s in inner.get_symbols() if s.is_global())
        yield from read_inside(inner)

def names_in(source):   # (names that a cell makes, names that it reads); None if it is more than Python
    "What a cell gives to others and takes from them"
    try: table = symtable.symtable(source, 'cell', 'exec')
    except SyntaxError: return None
    symbols = table.get_symbols()
    made = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    read = {s.get_name() for s in symbols if s.is_referenced()}
    return made, read | {*read_inside(table)}

def answers_only(
    nb,  # a notebook that keeps its answers, from `collected`
):       # a copy with the exercises and whatever they need, directly or by another cell
    "Without the rest of the lesson, which takes most of the time"
    nb = nbformat.from_dict(nb)
    names = {i: names_in(c.source) for i, c in enumerate(nb.cells) if c.cell_type == 'code'}
    def must_stay(i): return names[i] is None or re.search(r'handed_in|import \*', nb.cells[i].source)
    keep, more = set(), {i for i in names if must_stay(i)}
    while more:
        keep |= more
        needed = {name for i in keep if names[i] for name in names[i][1]}
        more = {i for i in names.keys() - keep if names[i][0] & needed}
    nb.cells = [c for i, c in enumerate(nb.cells) if i in keep]
    return nb

def in_place(change, paths):
    for p in paths: nbformat.write(change(nbformat.read(p, 4)), p)

def main(args):
    if args[:1] == ['--collect']: in_place(collected, args[1:])
    elif args[:1] == ['--answers']: in_place(lambda nb: answers_only(collected(nb)), args[1:])
    else:
        lesson, to = args
        print(*write_assignment(get_config().config_path/f'nbs/lessons/{lesson}.ipynb', Path(to)))

if __name__ == '__main__': main(sys.argv[1:])
