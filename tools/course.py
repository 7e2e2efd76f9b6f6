"""Copies of the lessons, each made from nbs/lessons and course/solutions, into _course/:

    student/     as in the repository, exercises without outputs
    instructor/  with the solutions in place, and what is to be said about them
    both/        for tests: each exercise first as its skeleton, then with its solution
    exam/        an exam with numbers of its own, and written derivations; their answers are in instructor/

    python tools/course.py [folder] [seed]   # the same seed makes the same exam

Without a seed, the exam that is in the folder is made again; if there is none, a seed is drawn. Files of
yours in the folder stay.
"""
import posixpath, re, sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbdev.config import get_config

from exam import new_seed, noted_exam, write_exam

kinds = 'predict', 'fill in', 'find the bug', 'design'
heading = re.compile(r'^#+ Exercise (\S+) · (.+)\n+\*(.+), level (\d+) of 3\*$', re.M)
call = re.compile(r"^check\('([^']+)', .+\)$")

link = re.compile(r'(!?\[[^\[\]]*\])\(([^()\s]+)\)')   # [text] or ![text], and the address
copy_kinds = 'student', 'instructor', 'both'
list_of_copies = 'copies_made.txt'   # in the folder of the copies: their names
sheets = 'syllabus.ipynb', 'project.ipynb'   # of nbs/pages: what students get beside the lessons

class CourseError(ValueError): "What keeps the course from being made, and where"

def fail(where, what): raise CourseError(f'{where}: {what}')

# --- reading

def chosen(
    paths: list,   # of notebooks
    names,         # of lessons, e.g. 01_first
) -> list:
    "The notebooks of these names, all if no name is given"
    unknown = set(names) - {path.stem for path in paths}
    if unknown: sys.exit(f"no lesson {sorted(unknown)}; expected some of {[path.stem for path in paths]}")
    return [path for path in paths if not names or path.stem in names]

@dataclass
class Solution:
    code: str
    note: str   # for the instructor; '' if there is none

def solution_in(
    body: str,  # of a cell of a file of solutions
) -> Solution:
    notes = re.findall(r'^# note: ?(.*)$', body, re.M)
    code = re.sub(r'^# note:.*\n?', '', body, flags=re.M)
    return Solution(code.strip(), ' '.join(notes))

def solutions_in(
    file: Path,  # percent format: `# %% 3.2`, code, `# note: ...` lines
) -> dict:       # id -> Solution
    "The solutions of a lesson"
    found = {}
    for part in re.split(r'^# %% *', file.read_text(), flags=re.M)[1:]:
        head, _, body = part.partition('\n')
        id = head.strip()
        if id in found: fail(file.name, f'the solution of {id} is there twice')
        found[id] = solution_in(body)
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
    checked = checked_in(where, lines, calls)
    id, title, kind, level = heading_above(where, above, checked)
    if id != checked: fail(where, f'the heading says Exercise {id}, the code check({checked!r})')
    if kind not in kinds or not 1 <= int(level) <= 3:
        fail(where, f'exercise {id} is *{kind}, level {level}*; expected one of {kinds}, level 1 to 3')
    skeleton = '\n'.join(lines[:-1]).rstrip()
    return Task(id, title.strip(), kind, int(level), skeleton, lines[-1])

def checked_in(where, lines, calls):
    "The id of the exercise that the last line checks; `calls`: the places of all lines that check"
    first, last = lines[calls[0]].strip(), lines[-1]
    if calls != [len(lines) - 1]:
        fail(where, f'`{first}` is not the last line of its cell, or not the only check there')
    found = call.match(last)
    if not found: fail(where, f"`{last}` is not of the form check('3.2', name)")
    return found[1]

def heading_above(where, above, id):
    "Id, title, kind and level from the last heading of an exercise above it"
    is_text = above is not None and above.cell_type == 'markdown'
    found = heading.findall(above.source) if is_text else []
    if not found:
        fail(where, f'no `### Exercise {id} · Title` with `*kind, level n of 3*` above check({id!r})')
    return found[-1]

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
    nb, tasks = nbformat.read(path, 4), {}
    for i, cell in enumerate(nb.cells):
        above = nb.cells[i - 1] if i else None
        task = task_in(f'{path.name}, cell {i}', cell, above)
        if task: tasks[cell.id] = task
    return Lesson(path, nb, tasks)

def all_solutions(folder):
    "id -> Solution, of all lessons"
    solved = {}
    for file in sorted(folder.glob('*.py')):
        for id, solution in solutions_in(file).items():
            if id in solved: fail(file.name, f'the solution of {id} is there twice')
            solved[id] = solution
    return solved

def agree(where, task, seen, solved, registry, solutions):
    "Fail unless an exercise is new, has a solution, and its check has the same title"
    if task.id in seen: fail(where, f'exercise {task.id} is in {seen[task.id]} already')
    if task.id not in solved: fail(where, f'exercise {task.id} has no solution in {solutions.name}/')
    if task.id not in registry: fail(where, f'no check is registered for exercise {task.id}')
    title = registry[task.id]
    if title != task.title: fail(where, f'{task.id} is {task.title!r} here and {title!r} to its check')

def read_course(
    lessons: Path,           # folder of notebooks
    solutions: Path,         # folder of *.py
    registry: dict,          # id -> title of the exercises for which there is a check
) -> tuple:                  # lessons, and id -> Solution
    "All lessons and solutions, once they agree with each other and with the registered checks"
    course = [read_lesson(path) for path in sorted(lessons.glob('*.ipynb'))]
    solved = all_solutions(solutions)
    seen = {}   # id -> the lesson that has it
    for lesson in course:
        for task in lesson.tasks.values():
            agree(lesson.path.name, task, seen, solved, registry, solutions)
            seen[task.id] = lesson.path.name
    unasked = sorted(solved.keys() - seen)
    unused = sorted(registry.keys() - seen)
    if unasked: fail(solutions.name, f'solutions without an exercise: {unasked}')
    if unused: fail('the registry', f'checks without an exercise: {unused}')
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
    raw = cfg.git_url.replace('github.com', 'raw.githubusercontent.com')   # an image, not the page about it

    def one(m):
        text, address = m[1], m[2]
        goes_out = re.match(r'[a-z]+:|#', address)
        if goes_out or address.partition('#')[0] in stay: return m[0]
        path = posixpath.normpath(posixpath.join(folder, address))
        if text.startswith('!'): return f'{text}({raw}/{cfg.branch}/{path})'
        return f'{text}({cfg.git_url}/blob/{cfg.branch}/{path})'
    return link.sub(one, text)

def plain(cell): return re.sub(r'\A(#\|.*\n)+', '', cell.source + '\n').rstrip('\n')

def flag_of(cell):
    "'slow', 'gpu' or 'notest', if a cell carries it"
    found = re.search(r'^#\| *(slow|gpu|notest)', cell.source, re.M)
    return found[1] if found else None

def change_texts(cell, change):
    "Apply `change` to every piece of Markdown in a cell, saved outputs included"
    if cell.cell_type == 'markdown': cell.source = change(cell.source)
    for o in cell.get('outputs', []):
        data = o.get('data', {})
        if 'text/markdown' in data: data['text/markdown'] = change(data['text/markdown'])

def cleaned(cell, folder, stay=()):
    "A cell without nbdev's directives, without prompt numbers; what is hidden stays hidden"
    hidden = {k: v for k, v in cell.metadata.items() if k == 'jupyter'}
    c = nbformat.from_dict(dict(cell, metadata=hidden))
    change_texts(c, lambda text: absolute(text, folder, stay))
    if c.cell_type != 'code': return c
    flag = flag_of(c)
    if flag: c.metadata['tags'] = [flag]
    c.source, c.execution_count = plain(c), None
    for o in c.outputs:
        if 'execution_count' in o: o.execution_count = None
    return c

def tagged(cell, source, id, tag):
    "A cell without outputs, with one more tag"
    tags = [*cell.metadata.get('tags', []), tag]
    return nbformat.v4.new_code_cell(source, id=id, metadata=dict(cell.metadata, tags=tags))

def versions(cell, task, solution):
    "kind of copy -> the cells that stand there for an exercise"
    skeleton = tagged(cell, f'{task.skeleton}\n\n{task.call}', cell.id, 'skeleton')
    solved = tagged(cell, f'{solution.code}\n\n{task.call}', f'{cell.id}-s', 'solution')
    notes = []
    if solution.note:
        text = f'> **For the instructor.** {solution.note}'
        notes.append(nbformat.v4.new_markdown_cell(text, id=f'{cell.id}-n'))
    return dict(student=[skeleton], instructor=[solved, *notes], both=[skeleton, solved])

def copy_of(lesson, solved, kind, stay):
    "One kind of copy of a lesson"
    cells = []
    for old in lesson.nb.cells:
        new = cleaned(old, 'nbs/lessons', stay)
        task = lesson.tasks.get(old.id)
        if task is None: cells.append(new)
        else: cells += versions(new, task, solved[task.id])[kind]
    return nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=lesson.nb.metadata.kernelspec))

def copies(
    lesson: Lesson,
    solved: dict,     # id -> Solution
    stay=(),          # names of files that lie beside the copy, too
) -> dict:            # 'student', 'instructor', 'both' -> notebook
    "The copies of a lesson"
    return {kind: copy_of(lesson, solved, kind, stay) for kind in copy_kinds}

def remove_copies(to):
    "Remove the copies that were written into a folder before, and nothing else"
    listed = to/list_of_copies
    names = listed.read_text().splitlines() if listed.exists() else []
    for name in names: (to/name).unlink(missing_ok=True)

def write_course(
    course, solved,  # from `read_course`
    to: Path,
):
    "Every copy of every lesson; the copies of before go"
    names = [lesson.path.name for lesson in course]
    remove_copies(to)
    for kind in copy_kinds: (to/kind).mkdir(parents=True, exist_ok=True)
    (to/list_of_copies).write_text('\n'.join(f'{kind}/{name}' for kind in copy_kinds for name in names))
    for lesson in course:
        for kind, nb in copies(lesson, solved, names).items(): nbformat.write(nb, to/kind/lesson.path.name)

def write_sheets(pages, to, names):
    "Syllabus and project, beside the lessons"
    for name in sheets:
        nb = nbformat.read(pages/name, 4)
        cells = [cleaned(c, 'nbs/pages', sheets) for c in nb.cells]
        for c in cells: change_texts(c, lambda text: beside(text, names))
        made = nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=nb.metadata.kernelspec))
        for kind in ('student', 'instructor'): nbformat.write(made, to/kind/name)

def beside(text, names):
    "Links to lessons, which lie beside the copy"
    cfg = get_config()
    lessons = re.escape(f'{cfg.git_url}/blob/{cfg.branch}/nbs/lessons/')
    def one(m): return m[1] if m[1].partition('#')[0] in names else m[0]
    return re.sub(lessons + r'([\w.#-]+)', one, text)

def main():
    root = get_config().config_path
    to = Path(sys.argv[1] if sys.argv[1:] else root/'_course')
    exam = sys.argv[2:3] or noted_exam(to) or [new_seed()]   # a seed, and minutes if they are noted
    try: course, solved = read_course(root/'nbs/lessons', root/'course/solutions', registered())
    except CourseError as e: sys.exit(f'The course cannot be made. {e}')
    write_course(course, solved, to)
    write_sheets(root/'nbs/pages', to, [lesson.path.name for lesson in course])
    write_exam(to, *exam)
    made = f'{len(course)} lessons, {len(solved)} exercises'
    print(f'{to}: {made}; student, instructor, both and exam (seed {exam[0]})')

if __name__ == '__main__': main()
