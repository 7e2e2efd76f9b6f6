"""Run colab/*.ipynb as Colab would: another environment with Colab's versions (tools/colab_pins.txt; Python is our own), the wheel
only, a folder without a clone, and a stand-in for the module `google.colab` alone. `make test-colab` makes the environment.

    python tools/try_colab.py [07_watch ...]
"""
import json, os, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from colab import missing, pins

root = Path(__file__).resolve().parent.parent
bin = root/'.venv-colab/bin'
refusing = '07_watch'  # this one a second time where Colab refuses widgets

def call(*cmd, **kw):
    p = subprocess.run(list(map(str, cmd)), capture_output=True, text=True, stdin=subprocess.DEVNULL, **kw)
    if p.returncode: raise RuntimeError(f'{cmd[0]} gave {p.returncode}\n{p.stdout[-2000:]}\n{p.stderr[-4000:]}')
    return p.stdout

def versions():
    "Of what Colab has and our first cell must leave alone"
    held = pins().keys() - {Requirement(r).name for r in missing()}
    found = dict(line.split('==') for line in call(bin/'pip', 'list', '--format=freeze').split())
    return {name: version for name, version in found.items() if canonicalize_name(name) in held}

def install(away):
    "The wheel, made of what git knows, into the environment; torch stays what it was"
    names = call('git', '-c', 'safe.directory=*', 'ls-files', '-z', '-co', '--exclude-standard', cwd=root).split('\0')
    for f in filter(None, names):
        if not (root/f).is_file() or f.startswith(('nbs/', 'tests/', 'colab/')): continue
        (away/'src'/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/f, away/'src'/f)
    call(sys.executable, '-m', 'build', '--no-isolation', '--wheel', '--outdir', away/'dist', away/'src')
    before, wheel = versions(), next((away/'dist').glob('*.whl'))
    call(bin/'pip', 'install', '--quiet', '--no-deps', '--force-reinstall', wheel, *missing())  # as the first cell of a copy does
    if versions() != before: raise RuntimeError(f'{before} became {versions()}: the wheel asks for more than Colab has')
    return before

def run(path, away, **env):
    "One lesson, executed where only the wheel is; the notebook with its outputs"
    own = dict(SSKD_QUICK='1', SSKD_PROGRESS=str(away/'progress.json'), PYTHONPATH=str(root/'tests/colab'), HOME=str(away),
               PYTHONWARNINGS='ignore', OMP_NUM_THREADS='1', COLAB_NOTEBOOK_ID='tried', **env)  # by the last, plotly knows Colab
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(('JPY', 'JUPYTER', 'PLOTLY', 'VIRTUAL_ENV'))}
    options = ['--TagRemovePreprocessor.enabled=True', '--TagRemovePreprocessor.remove_cell_tags=slow',
               '--ExecutePreprocessor.timeout=600', '--ExecutePreprocessor.store_widget_state=False']
    call(bin/'jupyter', 'nbconvert', '--to', 'notebook', '--execute', *options, '--output', away/f'done_{path.name}', path,
         cwd=away, env=inherited | own)
    return nbformat.read(away/f'done_{path.name}', 4)

def need(ok, what):
    if not ok: raise RuntimeError(what)

def tried(path, away):
    "A lesson that ran in a folder of its own, and what its first cell said"
    away = away/path.stem
    away.mkdir()
    nb = run(Path(shutil.copy(path, away)), away)
    first = ''.join(o.text for o in nb.cells[1].outputs if o.output_type == 'stream').strip()
    need('GPU' in first and 'No live widgets' not in first, f'the first cell of {path.name} said {first!r}')
    if path.stem == refusing:
        said = json.dumps(run(away/path.name, away, NO_WIDGETS='1'))
        need('No live widgets here' in said and 'Colab refuses custom widgets' in said, 'no word of the refused widgets')
        need('widget-view+json' not in said and 'Plotly.newPlot' in said, 'no static figures in place of the widgets')
    return first

def outcome(path, away):
    "(name, seconds, what was said, whether it failed)"
    start = time.perf_counter()
    try: said, failed = tried(path, away), False
    except RuntimeError as e: said, failed = f'FAILED\n{e}\n', True
    return path.stem, time.perf_counter() - start, said, failed

def main(names):
    failed, paths = [], [p for p in sorted((root/'colab').glob('*.ipynb')) if not names or p.stem in names]
    with tempfile.TemporaryDirectory() as d:
        away = Path(d).resolve()
        has = install(away)
        named = {name: has[name] for name in ('torch', 'fastai', 'ipywidgets', 'pandas')}
        print(f'{len(paths)} lessons, the wheel beside {named}', flush=True)
        where = call(bin/'python', '-c', 'import sskd_tutor; print(sskd_tutor.__file__)', cwd=away).strip()
        if Path(where).is_relative_to(root/'sskd_tutor'): raise RuntimeError(f'{where} is the clone, not the wheel')
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # a lesson has one thread: as many at once as there are cores
            for name, seconds, said, bad in pool.map(lambda p: outcome(p, away), paths):
                print(f'{name:18} {seconds:4.0f} s  {said}', flush=True)
                if bad: failed.append(name)
    if failed: sys.exit(f'failed where Colab would run them: {failed}')

if __name__ == '__main__': main(sys.argv[1:])
