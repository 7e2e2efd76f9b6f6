"""`make demo` and `make lab`: few lines, little to download."""
import io, re, subprocess, sys
from pathlib import Path

import pytest

from conftest import root

sys.path.insert(0, str(root/'tools'))
import install

log = """Collecting torch>=2.6 (from sskd_tutor==0.2.0)
  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (29 kB)
Collecting plotly>=6.1
  Using cached plotly-6.5.0-py3-none-any.whl (9.9 MB)
Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (797.1 MB)
Downloading nvidia_cublas-13.0.0-py3-none-manylinux_2_27_x86_64.whl (419.4 kB)
Requirement already satisfied: pip in /here
Installing collected packages: torch, plotly
Successfully installed plotly-6.5.0 torch-2.11.0
""".splitlines()

def test_what_pip_says_is_counted():
    seen = install.Seen()
    for line in log[:6]: seen.read(line)
    assert str(seen) == '2 packages found, 798 MB downloaded'
    for line in log: seen.read(line)
    assert str(seen).startswith('unpacking 2 packages')

class Terminal(io.StringIO):
    def isatty(self): return True

def test_a_terminal_shows_one_line_that_changes():
    out = Terminal()
    install.told(log, 0, out)
    assert '\n' not in out.getvalue() and out.getvalue().endswith('\r\x1b[K')

def test_a_log_has_few_lines_however_long_it_takes():
    "pip writes a line a second for an hour"
    out, now = io.StringIO(), iter(range(10**6))
    install.told([f'Collecting package-{i}' for i in range(3600)], 0, out, clock=lambda: next(now))
    assert 3 < len(out.getvalue().splitlines()) < 11

def package(folder):
    (folder/'tiny').mkdir()
    (folder/'pyproject.toml').write_text('[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
                                         '[project]\nname = "tiny"\nversion = "1"\n[tool.setuptools]\npackages = ["tiny"]\n')
    (folder/'tiny/__init__.py').touch()
    return folder

def call(*words): return subprocess.run([sys.executable, root/'tools/install.py', *map(str, words)], capture_output=True, text=True)

def test_it_installs(tmp_path):
    (tmp_path/'src').mkdir()
    p = call('--no-deps', '--no-build-isolation', '--target', tmp_path/'site', package(tmp_path/'src'))
    assert p.returncode == 0 and (tmp_path/'site/tiny/__init__.py').is_file(), p.stderr
    assert len(p.stdout.splitlines()) <= 4 and re.search(r'installed in \d+ s', p.stdout)

def test_what_failed_is_told(tmp_path):
    p = call('--no-deps', tmp_path/'nowhere')
    assert p.returncode and 'nowhere' in p.stderr and 'installed in' not in p.stdout

@pytest.mark.parametrize('target', ['demo', 'lab'])
def test_a_user_needs_no_developers_tools(target):
    rules = dict(re.findall(r'^([\w-]+): (\S+)', (root/'Makefile').read_text(), re.M))
    assert rules[target] == '.venv/.core'

def test_few_lines_before_the_demo_speaks():
    "Nothing that make runs on the way is echoed"
    text = Path(root/'Makefile').read_text()
    recipe = re.search(r'^\.venv/\.core:.*\n((?:\t.*\n)+)', text, re.M)[1] + re.search(r'^demo:.*\n((?:\t.*\n)+)', text, re.M)[1]
    commands = re.split(r'(?<!\\)\n', recipe.strip('\n'))
    assert all(c.startswith('\t@') for c in commands), commands
