"""How long from nothing to the first figure of the first lesson, for three kinds of users.

It writes sskd_tutor/data_files/benchmarks/results/first_figure.csv.

    python tools/first_figure.py [lab wheel colab]     # takes ten minutes and 15 GB of disk for a while

lab clones and types `make lab`; wheel types `pip install` and `sskd_tutor lessons`; colab opens the copy
where Colab's packages are there already. Downloads come from wherever pip is told to look: a mirror on this
disk makes them free.
"""
import csv, os, re, subprocess, sys, tempfile, time
from datetime import date
from pathlib import Path

import nbformat

root = Path(__file__).resolve().parent.parent
path = root/'sskd_tutor/data_files/benchmarks/results/first_figure.csv'
lesson = '01_first.ipynb'
columns = 'user install_s first_figure_s disk_gb cores device date'.split()

figure_kinds = {'image/png', 'application/vnd.plotly.v1+json'}
not_inherited = 'PYTHONPATH', 'VIRTUAL_ENV'   # a user has no such variables
our_cache = str(Path.home()/'.cache/pip')

def environment(home):
    "A user's variables: a home of their own, and our cache of downloads"
    clean = {name: value for name, value in os.environ.items() if name not in not_inherited}
    return clean | dict(HOME=str(home), PIP_CACHE_DIR=os.environ.get('PIP_CACHE_DIR', our_cache))

def call(*cmd, cwd):
    words = [str(word) for word in cmd]
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    subprocess.run(words, cwd=cwd, env=environment(cwd), check=True, **quiet)

def pip_install(python, *words, cwd): call(python, '-m', 'pip', 'install', '--quiet', *words, cwd=cwd)

# --- the lesson

def plain(source): return re.sub(r'^#\|.*\n', '', source, flags=re.M).strip()

def kinds_of(cell):
    "The forms in which a cell's outputs were saved"
    kinds = set()
    for out in cell.get('outputs', []): kinds |= set(out.get('data', {}))
    return kinds

def first_figure():
    "The source of the first cell that leaves a figure in the saved lesson"
    for cell in nbformat.read(root/'nbs/lessons'/lesson, 4).cells:
        if kinds_of(cell) & figure_kinds: return plain(cell.source)
    raise SystemExit(f'{lesson} has no saved figure')

def cut_short(notebook, to):
    "A copy of a lesson that ends at the first figure"
    nb, last = nbformat.read(notebook, 4), first_figure()
    shows_it = [cell.cell_type == 'code' and plain(cell.source) == last for cell in nb.cells]
    nb.cells = nb.cells[:shows_it.index(True) + 1]
    nbformat.write(nb, to)
    return to

def execute(python, notebook):
    command = [python, '-m', 'nbconvert', '--to', 'notebook', '--execute']
    call(*command, '--output', 'done', notebook, cwd=notebook.parent)
    drawn = nbformat.read(notebook.parent/'done.ipynb', 4).cells[-1].outputs
    if not any('data' in o for o in drawn): raise SystemExit('the last cell has drawn nothing')

# --- three ways to it: each gives the Python and the notebook

def wheel_in(away): return next((away/'dist').glob('*.whl'))

def lab(away):
    call('git', 'clone', '--quiet', '--depth', '1', root.as_uri(), away/'clone', cwd=away)
    call('make', f'PYTHON={sys.executable}', '.venv/.core', cwd=away/'clone')
    return away/'clone/.venv/bin/python', away/'clone/nbs/lessons'/lesson

def wheel(away):
    python = away/'env/bin/python'
    call(sys.executable, '-m', 'venv', away/'env', cwd=away)
    pip_install(python, wheel_in(away), cwd=away)
    call(away/'env/bin/sskd_tutor', 'lessons', away/'lessons', '--no-lab', cwd=away)
    return python, away/'lessons'/lesson

def colab(away):
    from colab import missing
    python = away/'env/bin/python'
    pip_install(python, '--no-deps', wheel_in(away), *missing(), cwd=away)
    return python, root/'colab'/lesson

ways = dict(lab=lab, wheel=wheel, colab=colab)

def prepare(user, away):
    "What a user has before the clock starts: the wheel on PyPI, Colab's own packages"
    call(sys.executable, '-m', 'build', '--no-isolation', '--wheel', '--outdir', away/'dist', root, cwd=away)
    if user != 'colab': return
    call(sys.executable, '-m', 'venv', away/'env', cwd=away)
    from colab import there
    pins = root/'tools/colab_pins.txt'
    pip_install(away/'env/bin/python', '--constraint', pins, *there(), cwd=away)

# --- the clock

def gigabytes(folder):
    files = [path for path in folder.rglob('*') if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files)/1e9

def timed(user):
    "A row of the file"
    from sskd_tutor.core.state import environment
    with tempfile.TemporaryDirectory() as d:
        away = Path(d).resolve()
        prepare(user, away)
        before, begun = gigabytes(away), time.monotonic()
        python, notebook = ways[user](away)
        installed = time.monotonic()
        execute(python, cut_short(notebook, away/'first.ipynb'))
        drawn = time.monotonic()
        return dict(user=user, install_s=round(installed - begun), first_figure_s=round(drawn - begun),
                    disk_gb=round(gigabytes(away) - before, 1), cores=os.cpu_count(),
                    device=environment('cpu')['device_name'], date=date.today())

def other_rows(user):
    "The rows of the file that other users have"
    if not path.exists(): return []
    return [row for row in csv.DictReader(path.open()) if row['user'] != user]

def write(row):
    "A user's new row takes the place of the old one"
    others = other_rows(row['user'])
    with path.open('w', newline='') as f:
        out = csv.DictWriter(f, columns, lineterminator='\n')
        out.writeheader()
        out.writerows([*others, row])

def main(users):
    for user in users: write(timed(user))
    print(path.read_text())

if __name__ == '__main__': main(sys.argv[1:] or list(ways))
