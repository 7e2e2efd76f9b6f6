"""Each notebook is a test of its own, run from the first cell to the last in a fresh process."""
import re, sys

import nbformat
import pytest

from conftest import root

code = """import sys
from nbdev.test import test_nb
root, path, *force = sys.argv[1:]
passed, seconds = test_nb(path, skip_flags=['notest', 'slow', 'gpu'], force_flags=force, basepath=root)
sys.exit(not passed)"""
notebooks = [p for p in sorted(root.glob('nbs/**/*.ipynb')) if '.ipynb_checkpoints' not in p.parts]
but_lessons = [p for p in notebooks if p.parent.name != 'lessons']  # tests/test_course.py runs those, exercises and all
name = lambda p: p.relative_to(root/'nbs').as_posix()

def flagged(flag):
    "Notebooks with a cell that carries `#| flag`"
    return [p for p in notebooks if any(re.search(rf'^#\|\s*{flag}\b', c.source, re.M) for c in nbformat.read(p, 4).cells)]

@pytest.mark.parametrize('path', but_lessons, ids=name)
def test_notebook(path, run): run(sys.executable, '-c', code, root, path, cwd=root, timeout=300)

@pytest.mark.slow
@pytest.mark.parametrize('path', flagged('slow'), ids=name)
def test_slow_cells(path, run): run(sys.executable, '-c', code, root, path, 'slow', cwd=root, timeout=3600)

@pytest.mark.gpu
@pytest.mark.parametrize('path', flagged('gpu'), ids=name)
def test_gpu_cells(path, run): run(sys.executable, '-c', code, root, path, 'gpu', cwd=root, timeout=900)
