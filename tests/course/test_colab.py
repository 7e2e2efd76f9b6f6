"""The lessons' copies for Colab. `make test-colab` runs them where Colab would; here is what can be seen in the files."""
import re, subprocess, sys

import nbformat
import pytest
import torch

from conftest import root

sys.path.insert(0, str(root/'tools'))
import colab

copies = sorted((root/'colab').glob('*.ipynb'))
name = lambda p: p.stem

def test_committed_is_what_is_generated_now(tmp_path):
    subprocess.run([sys.executable, root/'tools/colab.py', tmp_path/'colab'], cwd=root, check=True)
    made = {p.name: p.read_text() for p in (tmp_path/'colab').glob('*')}
    committed = {p.name: p.read_text() for p in (root/'colab').glob('*') if p.is_file()}
    assert not {k for k in made.keys() | committed if made.get(k) != committed.get(k)}, "out of date: make colab"
    assert made.keys() == {p.name for p in (root/'nbs/lessons').glob('*.ipynb')}

@pytest.mark.parametrize('path', copies, ids=name)
def test_a_copy_is_clean(path):
    nb = nbformat.read(path, 4)
    nbformat.validate(nb)
    code, text = ([c for c in nb.cells if c.cell_type == k] for k in ('code', 'markdown'))
    assert not [c for c in code if c.outputs or c.execution_count or re.search(r'^#\|', c.source, re.M)]
    assert 'widgets' not in nb.metadata and nb.cells[1].metadata.cellView == 'form'
    links = [m for c in text for m in re.findall(r'\]\(([^()\s]+)\)', c.source)]
    assert links and all(re.match(r'https?://|#', m) for m in links)
    assert nb.cells[0].source.endswith(f'/blob/main/colab/{path.name})') and 'colab-badge.svg' in nb.cells[0].source
    here = [m.rpartition('/')[2].partition('#')[0] for m in links if '/colab/' in m]
    assert set(here) <= {p.name for p in copies} and len(here) > (path.stem != 'bug_museum')

def first(name, monkeypatch, capsys, **env):
    "What the first cell says, without Colab and without its first line, which is IPython's"
    for k, v in env.items(): monkeypatch.setenv(k, v)
    exec(compile(colab.first_cell(name).source.replace('%pip', 'pass  #'), name, 'exec'), {})
    return capsys.readouterr().out

def test_device_check_without_a_gpu(monkeypatch, capsys):
    if torch.cuda.is_available(): pytest.skip("there is a GPU")
    monkeypatch.delenv('COLAB_GPU', raising=False)
    assert 'none is needed' in first('01_first', monkeypatch, capsys)
    assert 'Warning: a GPU was expected' in first('12_your_own', monkeypatch, capsys)
    assert 'Warning: a GPU was expected' in first('01_first', monkeypatch, capsys, COLAB_GPU='1')
    assert 'No live widgets here' in first('01_first', monkeypatch, capsys), "there is no google.colab here"

@pytest.mark.gpu
def test_device_check_with_a_gpu(monkeypatch, capsys):
    assert first('12_your_own', monkeypatch, capsys).startswith(f'GPU: {torch.cuda.get_device_name()}')

def test_install_cell_installs_from_git_url():
    from nbdev.config import get_config
    code = colab.first_cell('01_first').source
    assert f'%pip install -q "sskd_tutor @ git+{get_config().git_url}" {colab.extras}' in code
    assert code.index('import sskd_tutor') < code.index('except ImportError') < code.index('%pip')
