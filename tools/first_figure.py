"""How long from nothing to the first figure of the first lesson, for three kinds of users, into benchmarks/results/first_figure.csv.

    python tools/first_figure.py [lab wheel colab]     # takes ten minutes and 15 GB of disk for a while

lab clones and types `make lab`; wheel types `pip install` and `sskd_tutor lessons`; colab opens the copy where Colab's packages
are there already. Downloads come from wherever pip is told to look: a mirror on this disk makes them free.
"""
import csv, os, re, subprocess, sys, tempfile, time
from datetime import date
from pathlib import Path

import nbformat

root = Path(__file__).resolve().parent.parent
path = root/'sskd_tutor/data_files/benchmarks/results/first_figure.csv'
lesson = '01_first.ipynb'
columns = 'user install_s first_figure_s disk_gb cores device date'.split()

def call(*cmd, cwd):
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    env = clean | dict(HOME=str(cwd), PIP_CACHE_DIR=os.environ.get('PIP_CACHE_DIR', str(Path.home()/'.cache/pip')))
    subprocess.run(list(map(str, cmd)), cwd=cwd, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

def plain(source): return re.sub(r'^#\|.*\n', '', source, flags=re.M).strip()

def first_figure():
    "The source of the first cell that leaves a figure in the saved lesson"
    for cell in nbformat.read(root/'nbs/lessons'/lesson, 4).cells:
        kinds = {kind for o in cell.get('outputs', []) for kind in o.get('data', {})}
        if kinds & {'image/png', 'application/vnd.plotly.v1+json'}: return plain(cell.source)
    raise SystemExit(f'{lesson} has no saved figure')

def cut_short(notebook, to):
    "A copy of a lesson that ends at the first figure"
    nb, last = nbformat.read(notebook, 4), first_figure()
    at = next(i for i, c in enumerate(nb.cells) if c.cell_type == 'code' and plain(c.source) == last)
    nb.cells = nb.cells[:at + 1]
    nbformat.write(nb, to)
    return to

def execute(python, notebook):
    call(python, '-m', 'nbconvert', '--to', 'notebook', '--execute', '--output', 'done', notebook, cwd=notebook.parent)
    drawn = nbformat.read(notebook.parent/'done.ipynb', 4).cells[-1].outputs
    if not any('data' in o for o in drawn): raise SystemExit('the last cell has drawn nothing')

def lab(away):
    call('git', 'clone', '--quiet', '--depth', '1', root.as_uri(), away/'clone', cwd=away)
    call('make', f'PYTHON={sys.executable}', '.venv/.core', cwd=away/'clone')
    return away/'clone/.venv/bin/python', away/'clone/nbs/lessons'/lesson

def wheel(away):
    call(sys.executable, '-m', 'venv', away/'env', cwd=away)
    call(away/'env/bin/python', '-m', 'pip', 'install', '--quiet', next((away/'dist').glob('*.whl')), cwd=away)
    call(away/'env/bin/sskd_tutor', 'lessons', away/'lessons', '--no-lab', cwd=away)
    return away/'env/bin/python', away/'lessons'/lesson

def colab(away):
    from colab import missing
    python = away/'env/bin/python'
    call(python, '-m', 'pip', 'install', '--quiet', '--no-deps', next((away/'dist').glob('*.whl')), *missing(), cwd=away)
    return python, root/'colab'/lesson

ways = dict(lab=lab, wheel=wheel, colab=colab)

def prepare(user, away):
    "What a user has before the clock starts: the wheel on PyPI, Colab's own packages"
    call(sys.executable, '-m', 'build', '--no-isolation', '--wheel', '--outdir', away/'dist', root, cwd=away)
    if user != 'colab': return
    call(sys.executable, '-m', 'venv', away/'env', cwd=away)
    from colab import there
    call(away/'env/bin/python', '-m', 'pip', 'install', '--quiet', '--constraint', root/'tools/colab_pins.txt', *there(), cwd=away)

def gigabytes(folder): return sum(f.stat().st_size for f in folder.rglob('*') if f.is_file() and not f.is_symlink())/1e9

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

def write(row):
    "A user's new row takes the place of the old one"
    old = [r for r in csv.DictReader(path.open()) if r['user'] != row['user']] if path.exists() else []
    with path.open('w', newline='') as f:
        out = csv.DictWriter(f, columns, lineterminator='\n')
        out.writeheader()
        out.writerows([*old, row])

def main(users):
    for user in users: write(timed(user))
    print(path.read_text())

if __name__ == '__main__': main(sys.argv[1:] or list(ways))
