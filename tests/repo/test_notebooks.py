"""Each notebook is a test of its own, run from the first cell to the last in a process of its own."""
import os, re, socket, sys

import nbformat
import pytest

from conftest import root
from helpers.notebooks import exit_code

room = os.environ.get('ROOM')  # `make test ROOM=distill` runs the notebooks of one room
notebooks = [p for p in sorted(root.glob(f'nbs/{room or "**"}/*.ipynb')) if '.ipynb_checkpoints' not in p.parts]
but_lessons = [p for p in notebooks if p.parent.name != 'lessons']  # tests/course/test_course.py runs those, exercises and all
name = lambda p: p.relative_to(root/'nbs').as_posix()

def flagged(flag):
    "Notebooks with a cell that carries `#| flag`"
    return [p for p in notebooks if any(re.search(rf'^#\|\s*{flag}\b', c.source, re.M) for c in nbformat.read(p, 4).cells)]

tasks = [p for p in notebooks if p.parent.name == 'applications']  # as lessons, small in `make test` and in full in `make test-slow`

def no_network(host, *args, **kwargs): raise OSError(f'a notebook asked for {host}; expected one that runs offline')

def run_all(path, force, quick):
    if quick: os.environ['SSKD_QUICK'] = '1'
    socket.getaddrinfo = no_network
    from nbdev.test import test_nb
    os.chdir(root)
    passed, _ = test_nb(path, skip_flags=['notest', 'slow', 'gpu'], force_flags=force, basepath=root)
    sys.exit(not passed)

def ran(path, log, timeout, *force, quick=False):
    code = exit_code(run_all, path, force, quick, log=log, timeout=timeout)
    assert code == 0, f"{name(path)} gave {code} (None: not done in {timeout} s)\n{log.read_text()[-4000:]}"

@pytest.mark.parametrize('path', but_lessons, ids=name)
def test_notebook(path, tmp_path): ran(path, tmp_path/'log', 300, quick=path in tasks)

@pytest.mark.slow
@pytest.mark.parametrize('path', tasks, ids=name)
def test_whole_task(path, tmp_path): ran(path, tmp_path/'log', 600)  # five minutes are promised on two cores; here is one

@pytest.mark.slow
@pytest.mark.parametrize('path', flagged('slow'), ids=name)
def test_slow_cells(path, tmp_path): ran(path, tmp_path/'log', 3600, 'slow')

@pytest.mark.gpu
@pytest.mark.parametrize('path', flagged('gpu'), ids=name)
def test_gpu_cells(path, tmp_path): ran(path, tmp_path/'log', 900, 'gpu')
