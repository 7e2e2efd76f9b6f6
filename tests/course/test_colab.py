"""The lessons' copies for Colab. `make test-colab` runs them where Colab would; here is what can be seen in the files."""
import json, re, subprocess, sys, types

import nbformat
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import root
from sskd_tutor.course.grading import progress_file
from sskd_tutor.runs.lesson_files import copy_lessons

sys.path.insert(0, str(root/'tools'))
import colab

copies = sorted((root/'colab').glob('*.ipynb'))
name = lambda p: p.stem

folders = 'colab', 'sskd_tutor/data_files/lessons'

def test_committed_is_what_is_generated_now(tmp_path):
    subprocess.run([sys.executable, root/'tools/colab.py', tmp_path], cwd=root, check=True)
    for folder in folders:
        made, committed = ({p.name: p.read_text() for p in (at/folder).glob('*') if p.is_file()} for at in (tmp_path, root))
        assert not {k for k in made.keys() | committed if made.get(k) != committed.get(k)}, "out of date: make colab"
        assert made.keys() == {p.name for p in (root/'nbs/lessons').glob('*.ipynb')}

@pytest.mark.parametrize('path', sorted((root/folders[1]).glob('*.ipynb')), ids=name)
def test_a_copy_in_the_wheel(path):
    "No outputs, links between lessons relative, all others complete; drawings are there, without a network"
    nb = nbformat.read(path, 4)
    nbformat.validate(nb)
    assert not [c for c in nb.cells if c.cell_type == 'code' and (c.outputs or re.search(r'^#\|', c.source, re.M))]
    links = [m for c in nb.cells if c.cell_type == 'markdown' for m in re.findall(r'\]\(([^()\s]+)\)', c.source)]
    here = [m for m in links if not re.match(r'https?://|#', m)]
    assert all((path.parent/m.partition('#')[0]).is_file() for m in here)
    shown = [m for c in nb.cells if c.cell_type == 'markdown' for m in re.findall(r'!\[[^\]]*\]\(([^()\s]+)\)', c.source)]
    assert all(m.startswith('images/') for m in shown), "an image from the network"

def test_drawings_in_the_wheel_are_those_of_the_repository():
    found = {p.name: p.read_bytes() for p in (root/folders[1]/'images').iterdir()}
    assert len(found) >= 10
    assert all((root/'nbs/images'/name).read_bytes() == drawing for name, drawing in found.items()), "out of date: make colab"

def test_lessons_bring_their_drawings(tmp_path):
    (tmp_path/'images').mkdir()
    (tmp_path/'images/diagram_map.svg').write_text('mine')
    copy_lessons(tmp_path)
    shown = {m for p in tmp_path.glob('*.ipynb') for m in re.findall(r'\]\((images/[\w.]+)\)', p.read_text())}
    assert len(shown) >= 10 and all((tmp_path/m).is_file() for m in shown)
    assert (tmp_path/'images/diagram_map.svg').read_text() == 'mine', "what is there stays"

def hidden(path):
    cells = nbformat.read(path, 4).cells
    return [c for c in cells if c.metadata.get('jupyter', {}).get('source_hidden') or c.metadata.get('cellView') == 'form']

@pytest.mark.parametrize('path', copies, ids=name)
def test_what_is_hidden_stays_hidden(path):
    "In Colab as a form with a title, in the wheel as in the repository"
    lesson = hidden(root/'nbs/lessons'/path.name)
    in_colab = hidden(path)
    assert len(in_colab) == len(lesson) + 1 and len(hidden(root/folders[1]/path.name)) == len(lesson)
    assert all(c.source.startswith('#@title') for c in in_colab)

def test_progress_is_kept_on_drive():
    "If asked for; before any exercise is checked, and where it is kept is said"
    code = colab.first_cell('01_first').source
    asked = code.index('keep_progress_on_drive = False  #@param')
    assert code.index('#@markdown') < asked < code.index("drive.mount('/content/drive')") < code.index("os.environ['SSKD_PROGRESS']")
    assert 'MyDrive/sskd_tutor/progress.json' in code[:asked]

def test_drive_is_mounted_when_asked(monkeypatch):
    mounted = []
    google, google_colab = types.ModuleType('google'), types.ModuleType('google.colab')
    google_colab.drive = types.SimpleNamespace(mount=mounted.append)
    google.colab = google_colab
    monkeypatch.setitem(sys.modules, 'google', google)
    monkeypatch.setitem(sys.modules, 'google.colab', google_colab)
    monkeypatch.setenv('SSKD_PROGRESS', 'elsewhere')
    exec('import os' + colab.drive.replace('= False', '= True'), {})
    assert mounted == ['/content/drive']
    assert progress_file().as_posix() == '/content/drive/MyDrive/sskd_tutor/progress.json'

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

def test_install_cell_touches_nothing_loaded():
    code = colab.first_cell('01_first').source
    assert f'%pip install {colab.install_line()}' in code and '--no-deps' in colab.install_line()
    assert code.index('import sskd_tutor') < code.index('except ImportError') < code.index('%pip')
    names = {Requirement(r).name for r in colab.missing()}
    assert 'plotly' in names and not names & {*colab.loaded, 'torch', 'fastai', 'numpy', 'pandas'}

def test_the_first_page_installs_in_the_same_way():
    nb = nbformat.read(root/'nbs/index.ipynb', 4)
    assert any(f'pip install {colab.install_line()}' in c.source for c in nb.cells)

def test_a_requirement_that_colabs_kernel_holds_is_refused(monkeypatch):
    monkeypatch.setattr(colab, 'core', lambda: ['ipywidgets>=8'])
    colab.sorted_out.cache_clear()
    with pytest.raises(SystemExit, match="Colab's kernel has loaded ipywidgets 7.7.1"): colab.missing()
    colab.sorted_out.cache_clear()

def resolved(*words, tmp_path):
    "name -> version that pip would install on Colab's Python"
    report = tmp_path/'report.json'
    on_colab = '--python-version', '3.13', '--only-binary', ':all:', '--target', str(tmp_path/'site')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--dry-run', '--ignore-installed', '--quiet', '--report', report,
                    *on_colab, *words], check=True)
    found = json.loads(report.read_text())['install']
    return {canonicalize_name(o['metadata']['name']): o['metadata']['version'] for o in found}

@pytest.mark.slow
def test_pip_changes_nothing_that_colab_has_loaded(tmp_path):
    "All that we ask for fits what Colab has: pip finds a solution that holds every pin but those that we renew"
    new, has = {Requirement(r).name for r in colab.missing()}, colab.pins()
    held = tmp_path/'held.txt'
    held.write_text('\n'.join(f'{name}=={version}' for name, version in has.items() if name not in new))
    found = resolved('--constraint', str(held), *colab.core(), *colab.missing(), tmp_path=tmp_path)
    assert {n: found[n] for n in colab.loaded & found.keys()} == {n: has[n] for n in colab.loaded & found.keys()}
    assert {'ipywidgets', 'ipython', 'traitlets'} <= found.keys()
    changed = {n for n, version in found.items() if n in has and version.partition('+')[0] != has[n]}
    assert changed <= new
