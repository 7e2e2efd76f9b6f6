import ctypes, os, shutil, subprocess
from pathlib import Path

import pytest
import torch

os.environ.update(MPLBACKEND='agg', PLOTLY_RENDERER='plotly_mimetype')
root = Path(__file__).resolve().parent.parent
browsers = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'
browser_flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
                 '--disable-background-networking', '--disable-component-update', '--disable-sync']

def find_chromium(): return next(filter(None, map(shutil.which, browsers)), None)

def long_tests():
    "Names of tests that took long when tests/long.txt was written (`tools/long.py`)"
    return {line for line in (root/'tests/long.txt').read_text().splitlines() if not line.startswith('#')}

def pytest_collection_modifyitems(items):
    names = long_tests()
    for item in items:
        if item.nodeid in names: item.add_marker('long')

def pytest_runtest_setup(item):
    if item.get_closest_marker('gpu') and not torch.cuda.is_available(): pytest.skip("needs CUDA")
    if item.get_closest_marker('browser') and not find_chromium():
        why = "no Chromium on PATH: apt-get install chromium fonts-dejavu-core"
        pytest.fail(why, pytrace=False) if os.environ.get('CI') == 'true' else pytest.skip(why)

@pytest.fixture(scope='session')
def chromium():
    "Path of the browser, for tests marked `browser`"
    return find_chromium()

@pytest.fixture(scope='session')
def repo():
    "The checkout that is tested"
    return root

def tracked(folder):
    "Files that git knows or would add; `safe.directory` for containers, where another user owns the checkout"
    cmd = ['git', '-c', 'safe.directory=*', 'ls-files', '-z', '-co', '--exclude-standard']
    names = subprocess.check_output(cmd, cwd=folder, text=True).split('\0')
    return sorted(p for n in names if n and (p := folder/n).is_file())

@pytest.fixture(scope='session')
def files(repo):
    "The files of the repository, ignored ones left out"
    return tracked(repo)

@pytest.fixture
def clone(tmp_path, repo, files):
    "A fresh copy of the repository that a test may change"
    to = tmp_path/'clone'
    for f in files:
        dst = to/f.relative_to(repo)
        dst.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(f, dst)
    for cmd in (['init', '-q'], ['add', '-A']): subprocess.run(['git', *cmd], cwd=to, check=True, capture_output=True)
    return to

@pytest.fixture
def run():
    "Run a command in a folder with another copy of the package first on the path; its output, or a failure that shows it"
    def _run(*cmd, cwd, package=None, timeout=600):
        env = {**os.environ, **({'PYTHONPATH': str(package)} if package else {})}
        p = subprocess.run([str(c) for c in cmd], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout,
                           stdin=subprocess.DEVNULL)
        assert p.returncode == 0, f"{cmd} gave {p.returncode}\n{p.stdout[-3000:]}\n{p.stderr[-3000:]}"
        return p.stdout
    return _run

@pytest.fixture
def tiny_disk(tmp_path):
    "A real file system of 1 MB"
    folder, libc = tmp_path/'disk', ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    if libc.mount(b'tmpfs', str(folder).encode(), b'tmpfs', 0, b'size=1M'):
        pytest.skip(f"mounting a file system needs root: {os.strerror(ctypes.get_errno())}")
    yield folder
    libc.umount2(str(folder).encode(), 2)
