"""Run colab/*.ipynb as Colab would.

In another environment with Colab's versions (tools/colab_pins.txt; Python is our own), the wheel only,
a folder without a clone, and a stand-in for the module `google.colab` alone. `make test-colab` makes it.

    python tools/try_colab.py [07_watch ...]
"""
import json, os, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from colab import missing, pins
from course import chosen

root = Path(__file__).resolve().parent.parent
bin = root/'.venv-colab/bin'
refusing = '07_watch'  # this one a second time where Colab refuses widgets
not_in_wheel = 'nbs/', 'tests/', 'colab/'   # folders that a wheel is not made of
not_inherited = 'JPY', 'JUPYTER', 'PLOTLY', 'VIRTUAL_ENV'   # prefixes of variables that Colab does not have
options = [  # of nbconvert
    '--TagRemovePreprocessor.enabled=True', '--TagRemovePreprocessor.remove_cell_tags=slow',
    '--ExecutePreprocessor.timeout=600', '--ExecutePreprocessor.store_widget_state=False']

def call(*cmd, **kw):
    "What a command prints; an error tells the end of it"
    words = [str(word) for word in cmd]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, **kw)
    if done.returncode:
        said = f'{done.stdout[-2000:]}\n{done.stderr[-4000:]}'
        raise RuntimeError(f'{cmd[0]} gave {done.returncode}\n{said}')
    return done.stdout

# --- the environment

def versions():
    "Of what Colab has and our first cell must leave alone"
    held = pins().keys() - {Requirement(r).name for r in missing()}
    found = dict(line.split('==') for line in call(bin/'pip', 'list', '--format=freeze').split())
    return {name: version for name, version in found.items() if canonicalize_name(name) in held}

def copy_sources(to):
    "What git knows and the wheel is made of"
    listing = call('git', '-c', 'safe.directory=*', 'ls-files', '-z', '-co', '--exclude-standard', cwd=root)
    for name in filter(None, listing.split('\0')):
        if not (root/name).is_file() or name.startswith(not_in_wheel): continue
        (to/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/name, to/name)

def install(away):
    "The wheel into the environment, as the first cell of a copy does; torch stays what it was"
    copy_sources(away/'src')
    call(sys.executable, '-m', 'build', '--no-isolation', '--wheel', '--outdir', away/'dist', away/'src')
    before = versions()
    wheel = next((away/'dist').glob('*.whl'))
    call(bin/'pip', 'install', '--quiet', '--no-deps', '--force-reinstall', wheel, *missing())
    if versions() != before:
        raise RuntimeError(f'{before} became {versions()}: the wheel asks for more than Colab has')
    return before

def check_wheel(away):
    "The environment must not find the clone"
    where = call(bin/'python', '-c', 'import sskd_tutor; print(sskd_tutor.__file__)', cwd=away).strip()
    if Path(where).is_relative_to(root/'sskd_tutor'):
        raise RuntimeError(f'{where} is the clone, not the wheel')

# --- a lesson

def environment(away, **more):
    "The variables of a lesson: ours without those of Jupyter here, and its own"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(not_inherited)}
    own = dict(
        SSKD_QUICK='1', SSKD_PROGRESS=str(away/'progress.json'), OMP_NUM_THREADS='1',
        PYTHONPATH=str(root/'tests/colab'), PYTHONWARNINGS='ignore', HOME=str(away),
        COLAB_NOTEBOOK_ID='tried')  # by this, plotly knows Colab
    return inherited | own | more

def run(path, away, **more):
    "One lesson, executed where only the wheel is; the notebook with its outputs"
    done = away/f'done_{path.name}'
    call(bin/'jupyter', 'nbconvert', '--to', 'notebook', '--execute', *options, '--output', done, path,
         cwd=away, env=environment(away, **more))
    return nbformat.read(done, 4)

def need(ok, what):
    if not ok: raise RuntimeError(what)

def said_by_first_cell(nb):
    outputs = nb.cells[1].outputs
    return ''.join(out.text for out in outputs if out.output_type == 'stream').strip()

def try_refused(path, away):
    "Run a lesson where Colab refuses widgets: it must say so and show static figures"
    nb = json.dumps(run(path, away, NO_WIDGETS='1'))
    has_said = 'No live widgets here' in nb and 'Colab refuses custom widgets' in nb
    is_static = 'widget-view+json' not in nb and 'Plotly.newPlot' in nb
    need(has_said, 'no word of the refused widgets')
    need(is_static, 'no static figures in place of the widgets')

def tried(path, away):
    "A lesson that ran in a folder of its own, and what its first cell said"
    away = away/path.stem
    away.mkdir()
    copy = Path(shutil.copy(path, away))
    first = said_by_first_cell(run(copy, away))
    is_right = 'GPU' in first and 'No live widgets' not in first
    need(is_right, f'the first cell of {path.name} said {first!r}')
    if path.stem == refusing: try_refused(copy, away)
    return first

@dataclass
class Outcome:
    name: str       # of the lesson
    seconds: float
    said: str       # by its first cell, or what went wrong
    failed: bool

def outcome(away, path):
    start = time.perf_counter()
    try: said, failed = tried(path, away), False
    except RuntimeError as e: said, failed = f'FAILED\n{e}\n', True
    return Outcome(path.stem, time.perf_counter() - start, said, failed)

# --- all of them

def try_all(paths, away):
    "Print how each lesson ended; the names of those that failed"
    failed = []
    # a lesson has one thread: as many at once as there are cores
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for lesson in pool.map(partial(outcome, away), paths):
            print(f'{lesson.name:18} {lesson.seconds:4.0f} s  {lesson.said}', flush=True)
            if lesson.failed: failed.append(lesson.name)
    return failed

def main(names):
    paths = chosen(sorted((root/'colab').glob('*.ipynb')), names)
    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder).resolve()
        has = install(away)
        named = {name: has[name] for name in ('torch', 'fastai', 'ipywidgets', 'pandas')}
        print(f'{len(paths)} lessons, the wheel beside {named}', flush=True)
        check_wheel(away)
        failed = try_all(paths, away)
    if failed: sys.exit(f'failed where Colab would run them: {failed}')

if __name__ == '__main__': main(sys.argv[1:])
