"""Copies of the lessons, each made from nbs/lessons and course/solutions, into _course/:

    student/     as in the repository, exercises without outputs
    instructor/  with the solutions in place, and what is to be said about them
    both/        for tests: each exercise first as its skeleton, then with its solution
"""
import posixpath, re, shutil, sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbdev.config import get_config

kinds = 'predict', 'fill in', 'find the bug', 'design'
heading = re.compile(r'^#+ Exercise (\S+) · (.+)\n+\*(.+), level (\d+) of 3\*$', re.M)
call = re.compile(r"^check\('([^']+)', .+\)$")

class CourseError(ValueError): "What keeps the course from being made, and where"

def fail(where, what): raise CourseError(f'{where}: {what}')

# --- reading

def solutions_in(
    file: Path,  # percent format: `# %% 3.2`, code, `# note: ...` lines
) -> dict:       # id -> (code, note)
    "The solutions of a lesson"
    found = {}
    for part in re.split(r'^# %% *', file.read_text(), flags=re.M)[1:]:
        id, _, body = part.partition('\n')
        if (id := id.strip()) in found: fail(file.name, f'the solution of {id} is there twice')
        note = ' '.join(re.findall(r'^# note: ?(.*)$', body, re.M))
        found[id] = re.sub(r'^# note:.*\n?', '', body, flags=re.M).strip(), note
    return found

@dataclass
class Task:
    id: str
    title: str
    kind: str
    level: int
    skeleton: str  # all above the call of `check`
    call: str      # the line that calls it

    @property
    def untouched(self): return re.search(r'^\s*(\w+(, \w+)* = .*)?\.\.\.', self.skeleton, re.M) is not None

def task_in(
    where: str,
    cell,
    above,          # the cell above it; None for the first
) -> Task | None:   # None if the cell is no exercise
    "The exercise in a cell of code"
    lines = cell.source.rstrip().split('\n')
    calls = [i for i, line in enumerate(lines) if re.match(r'\s*check\(', line)]
    if cell.cell_type != 'code' or not calls: return
    first = lines[calls[0]].strip()
    if calls != [len(lines) - 1]: fail(where, f'`{first}` is not the last line of its cell, or not the only check there')
    if not (m := call.match(lines[-1])): fail(where, f"`{lines[-1]}` is not of the form check('3.2', name)")
    found = heading.findall(above.source) if above is not None and above.cell_type == 'markdown' else []
    if not found: fail(where, f'no `### Exercise {m[1]} · Title` with `*kind, level n of 3*` above check({m[1]!r})')
    id, title, kind, level = found[-1]
    if id != m[1]: fail(where, f'the heading says Exercise {id}, the code check({m[1]!r})')
    if kind not in kinds or not 1 <= int(level) <= 3:
        fail(where, f'exercise {id} is *{kind}, level {level}*; expected one of {kinds}, level 1 to 3')
    return Task(id, title.strip(), kind, int(level), '\n'.join(lines[:-1]).rstrip(), lines[-1])

@dataclass
class Lesson:
    path: Path
    nb: dict
    tasks: dict  # cell id -> Task

    @property
    def name(self): return self.path.stem
    @property
    def title(self): return re.match(r'# (.+)', self.nb.cells[0].source)[1]

def read_lesson(path):
    nb = nbformat.read(path, 4)
    found = ((c.id, task_in(f'{path.name}, cell {i}', c, nb.cells[i - 1] if i else None)) for i, c in enumerate(nb.cells))
    return Lesson(path, nb, {id: t for id, t in found if t})

def read_course(
    lessons: Path,           # folder of notebooks
    solutions: Path,         # folder of *.py
    registry: dict,          # id -> title of the exercises for which there is a check
) -> tuple:                  # lessons, and id -> (code, note)
    "All lessons and solutions, once they agree with each other and with the registered checks"
    course, solved, seen = [read_lesson(p) for p in sorted(lessons.glob('*.ipynb'))], {}, {}
    for f in sorted(solutions.glob('*.py')):
        for id, s in solutions_in(f).items():
            if id in solved: fail(f.name, f'the solution of {id} is there twice')
            solved[id] = s
    for where, t in ((lesson.path.name, t) for lesson in course for t in lesson.tasks.values()):
        if t.id in seen: fail(where, f'exercise {t.id} is in {seen[t.id]} already')
        if t.id not in solved: fail(where, f'exercise {t.id} has no solution in {solutions.name}/')
        if t.id not in registry: fail(where, f'no check is registered for exercise {t.id}')
        if registry[t.id] != t.title: fail(where, f'{t.id} is {t.title!r} here and {registry[t.id]!r} to its check')
        seen[t.id] = where
    if more := sorted(solved.keys() - seen): fail(solutions.name, f'solutions without an exercise: {more}')
    if more := sorted(registry.keys() - seen): fail('the registry', f'checks without an exercise: {more}')
    return course, solved

def registered():  # id -> title
    from sskd_tutor.course.exercises import all_exercises
    return {e.id: e.title for e in all_exercises()}

# --- writing

def absolute(
    text: str,        # markdown
    folder: str,      # where its notebook lies in the repository
    stay=(),          # names of files that lie beside the copy, too
) -> str:
    "Relative links made links into the repository"
    cfg = get_config()
    def one(m):
        if re.match(r'[a-z]+:|#', m[2]) or m[2].partition('#')[0] in stay: return m[0]
        return f'{m[1]}({cfg.git_url}/blob/{cfg.branch}/{posixpath.normpath(posixpath.join(folder, m[2]))})'
    return re.sub(r'(!?\[[^\[\]]*\])\(([^()\s]+)\)', one, text)

def plain(cell): return re.sub(r'\A(#\|.*\n)+', '', cell.source + '\n').rstrip('\n')

def cleaned(cell, folder, stay=()):
    "A cell without nbdev's directives, without prompt numbers"
    c = nbformat.from_dict(dict(cell, metadata={}))
    if c.cell_type == 'markdown': c.source = absolute(c.source, folder, stay)
    if c.cell_type == 'code':
        slow, c.source, c.execution_count = re.search(r'^#\| *(slow|gpu|notest)', c.source, re.M), plain(c), None
        if slow: c.metadata['tags'] = [slow[1]]
        for o in c.outputs:
            if 'execution_count' in o: o.execution_count = None
    return c

def empty(cell, source, id, tag):
    return nbformat.v4.new_code_cell(source, id=id, metadata=dict(cell.metadata, tags=[*cell.metadata.get('tags', []), tag]))

def versions(cell, task, solved):
    "kind of copy -> the cells that stand there for an exercise"
    code, note = solved[task.id]
    skeleton, solution = (empty(cell, f'{s}\n\n{task.call}', cell.id + end, tag)
                          for s, end, tag in ((task.skeleton, '', 'skeleton'), (code, '-s', 'solution')))
    notes = [nbformat.v4.new_markdown_cell(f'> **For the instructor.** {note}', id=cell.id + '-n')] if note else []
    return dict(student=[skeleton], instructor=[solution, *notes], both=[skeleton, solution])

def copies(
    lesson: Lesson,
    solved: dict,
    stay=(),         # names of files that lie beside the copy, too
) -> dict:           # 'student', 'instructor', 'both' -> notebook
    "The copies of a lesson"
    made = {}
    for kind in ('student', 'instructor', 'both'):
        cells = [(c, cleaned(c, 'nbs/lessons', stay)) for c in lesson.nb.cells]
        cells = [[new] if old.id not in lesson.tasks else versions(new, lesson.tasks[old.id], solved)[kind] for old, new in cells]
        spec = lesson.nb.metadata.kernelspec
        made[kind] = nbformat.v4.new_notebook(cells=[c for cs in cells for c in cs], metadata=dict(kernelspec=spec))
    return made

def write_course(
    course, solved,  # from `read_course`
    to: Path,
):
    "Every copy of every lesson; what was there before goes"
    names = [lesson.path.name for lesson in course]
    for kind in ('student', 'instructor', 'both'): shutil.rmtree(to/kind, ignore_errors=True)
    for lesson in course:
        for kind, nb in copies(lesson, solved, names).items():
            (to/kind).mkdir(parents=True, exist_ok=True)
            nbformat.write(nb, to/kind/lesson.path.name)

def main():
    root = get_config().config_path
    try: course, solved = read_course(root/'nbs/lessons', root/'course/solutions', registered())
    except CourseError as e: sys.exit(f'The course cannot be made. {e}')
    write_course(course, solved, to := Path(sys.argv[1] if sys.argv[1:] else root/'_course'))
    print(f'{to}: {len(course)} lessons, {len(solved)} exercises; student, instructor and both')

if __name__ == '__main__': main()
