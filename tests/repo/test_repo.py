"""What settings.ini says is what every other file says, and what is generated is up to date."""
import base64, configparser, io, json, re, shutil, subprocess, sys, tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image

import sskd_tutor
from conftest import long_tests, root, tracked

bin = Path(sys.executable).parent
notebooks = [p for p in tracked(root) if p.suffix == '.ipynb']
name = lambda p: p.relative_to(root).as_posix()

@pytest.fixture(scope='module')
def settings():
    ini = configparser.ConfigParser()
    ini.read(root/'settings.ini')
    return ini['DEFAULT']

def text_files(folder):
    binary = '.xz', '.safetensors', '.png', '.npz', '.gif'
    return {p.relative_to(folder).as_posix(): p.read_text() for p in tracked(folder) if p.suffix not in binary}

def changed(clone):
    "Files of the clone that are not as they were copied"
    out = subprocess.check_output(['git', 'status', '--porcelain', '--untracked-files=all'], cwd=clone, text=True)
    return [line for line in out.splitlines() if line[1] != ' ']

# --- one place for name, version and requirements

def test_pyproject_is_made_from_settings(tmp_path, run):
    for f in ('settings.ini', 'pyproject.toml'): shutil.copy(root/f, tmp_path)
    subprocess.run(['git', 'init', '-q'], cwd=tmp_path, check=True)
    (tmp_path/'sskd_tutor').mkdir()
    run(sys.executable, root/'tools/config.py', cwd=tmp_path)
    made, own = (tomllib.loads((p/'pyproject.toml').read_text()) for p in (tmp_path, root))
    for t in made, own:
        t.pop('build-system')
        t['project'].pop('license')
    assert made == own

def test_version(settings): assert sskd_tutor.__version__ == settings['version']

def test_changelog_begins_with_the_version(settings):
    assert re.search(r'^## (\S+)', (root/'CHANGELOG.md').read_text(), re.M)[1] == settings['version']

def test_core_requirements(settings):
    core = {r.split('>=')[0] for r in settings['requirements'].split()}
    assert {'torch', 'torchvision', 'fastai', 'plotly', 'ipywidgets', 'jupyterlab', 'safetensors', 'anywidget', 'torchmetrics'} <= core

def test_extras(settings):
    "pip knows those of settings.ini, [all] of them for users, [docs] and [dev] for developers"
    made = tomllib.loads((root/'pyproject.toml').read_text())['project']['optional-dependencies']
    for_users = settings['extras'].split()
    assert list(made) == [*for_users, 'all', 'docs', 'dev']
    assert made['all'] == [r for name in for_users for r in made[name]] and {*made['all'], *made['docs']} < {*made['dev']}
    assert not {r.split('>=')[0] for r in made['dev']} & {r.split('>=')[0] for r in settings['requirements'].split()}

def test_environment_yml(settings):
    env = yaml.safe_load((root/'environment.yml').read_text())
    specs = [s.replace('pytorch>', 'torch>') for s in env['dependencies']]
    assert specs == [f"python>={settings['min_python']}", *settings['requirements'].split(), 'pip']
    assert (env['name'], env['channels']) == (settings['lib_name'], ['conda-forge'])

def test_environment_yml_is_conda_syntax():
    rattler = pytest.importorskip('rattler', reason="pip install py-rattler")
    for s in yaml.safe_load((root/'environment.yml').read_text())['dependencies']: rattler.MatchSpec(s, strict=True)

# --- one place for the address

def test_links_lead_to_git_url(settings):
    owner, lib = settings['user'], settings['repo']
    pattern = re.compile(rf'(?:github(?:usercontent)?\.com|/github)/([\w.%()-]+)/{lib}\b|([\w-]+)\.github\.io/{lib}\b')
    found = {(f, m) for f, text in text_files(root).items() for m in map(lambda o: o[0] or o[1], pattern.findall(text))}
    assert found and not {o for o in found if o[1] != owner}

def test_a_new_owner_changes_one_line(clone, run):
    ini = clone/'settings.ini'
    ini.write_text(re.sub(r'(?m)^user = .*', 'user = somebody-else', ini.read_text()))
    old = {f for f, t in text_files(clone).items() if re.search(r'sskd-tutor(/sskd_tutor|\.github)', t)}
    run(sys.executable, 'tools/config.py', cwd=clone, package=clone)
    run(bin/'nbdev-export', cwd=clone, package=clone)
    now = text_files(clone)
    assert {'README.md', 'nbs/index.ipynb', 'pyproject.toml', 'sskd_tutor/data/images.py'} <= old
    assert not [f for f, t in now.items() if re.search(r'sskd-tutor(/sskd_tutor|\.github)', t)]
    assert all('somebody-else' in now[f] for f in old)

# --- what is generated is up to date

@pytest.mark.parametrize('tool', ['nbdev-export', 'nbdev-clean'])
def test_nbdev_changes_nothing(tool, clone, run):
    run(bin/tool, cwd=clone, package=clone)
    assert changed(clone) == []

def test_config_changes_nothing(clone, run):
    run(sys.executable, 'tools/config.py', cwd=clone, package=clone)
    assert changed(clone) == []

def test_readme_is_made_from_index(clone, run):
    run(sys.executable, 'tools/readme.py', cwd=clone, package=clone)
    assert changed(clone) == []

def test_readme_links_lead_somewhere():
    links = re.findall(r'\]\(([^()\s]+)\)', (root/'README.md').read_text())
    here = [o.split('/blob/main/')[1] for o in links if '/blob/main/' in o and 'colab' not in o]
    assert len(here) > 10 and all((root/o.split('#')[0]).exists() for o in here)
    assert not [o for o in links if not re.match(r'https?:|#', o)]

def test_small_pictures(monkeypatch):
    monkeypatch.syspath_prepend(root/'tools')
    from small import small
    decode = lambda data: np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert('RGB')).astype(int)
    picture, out = np.full((200, 300, 3), 255, np.uint8), io.BytesIO()
    picture[:100] = np.random.default_rng(0).integers(0, 256, (100, 300, 1))  # many grays, and a rare color
    picture[150:156, 150:156] = 213, 94, 0
    bands = (222, 237, 245), (252, 243, 222), (222, 242, 237), (248, 238, 244)  # of the stages: the eye tells them apart
    inks = np.array([(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 0, 0)])
    for i, ink in enumerate(inks): picture[104 + 8*i:110 + 8*i, :, :] = 255 + np.linspace(0, 1, 300)[:, None]*(ink - 255)
    for i, color in enumerate(bands): picture[160:, 75*i:75*i + 75] = color
    Image.fromarray(picture).save(out, 'PNG')
    old = base64.b64encode(out.getvalue()).decode()
    new = small(old)
    assert len(new) < len(old) and np.abs(decode(new) - picture).max() <= 16 and small(new) == new
    assert np.abs(decode(new) - picture)[160:].max() <= 2

def test_transparent_pictures_stay_as_they_are(monkeypatch):
    monkeypatch.syspath_prepend(root/'tools')
    from small import small
    def drawing(alpha):
        picture, out = np.random.default_rng(0).integers(0, 256, (100, 100, 4), np.uint8), io.BytesIO()
        picture[..., 3] = 255
        picture[:50, :, 3] = alpha
        Image.fromarray(picture).save(out, 'PNG')
        return base64.b64encode(out.getvalue()).decode()
    assert small(drawing(0)) == drawing(0) and len(small(drawing(255))) < len(drawing(255))

def test_saved_figures_are_sharp_on_github(monkeypatch):
    "The image of a still figure has two pixels for each of the figure's own"
    monkeypatch.syspath_prepend(root/'tools')
    from twins import saved_figures, twin_size, wanted_width
    outputs = {p: saved_figures(nbformat.read(p, 4)) for p in notebooks}
    faint = [p.name for p, outs in outputs.items() if any(twin_size(o)[0] != wanted_width(o) for o in outs)]
    assert sum(map(len, outputs.values())) > 100 and faint == [], 'python tools/twins.py nbs/*/*.ipynb'

def test_saved_figures_fit_a_page_of_jupyterlab(monkeypatch):
    "Lab shows the image beside live data at its full size; without them at the size that is stated"
    monkeypatch.syspath_prepend(root/'tools')
    from twins import plays, plotly, png, saved_figures, shown_width, twin_size
    for p in notebooks:
        for out in saved_figures(nbformat.read(p, 4)):
            as_shown = twin_size(out)[0] if plotly in out.data else out.metadata[png]['width']
            assert as_shown == shown_width(out) and plays(out) == (plotly in out.data), f'python tools/twins.py {p}'

def test_words_of_saved_figures_can_be_read():
    "A figure of the theme 'auto' has no paper of its own: `small` would make it black, and its words are dark"
    from sskd_tutor.viz.style import contrast, ink
    lost = []
    for p in notebooks:
        for c in nbformat.read(p, 4).cells:
            for out in c.get('outputs', []):
                if 'figure' not in out.get('metadata', {}): continue
                image = Image.open(io.BytesIO(base64.b64decode(out.data['image/png']))).convert('RGB')
                paper = '#{:02X}{:02X}{:02X}'.format(*image.getpixel((1, 1)))
                words = out.metadata['figure']['layout'].get('font', {}).get('color', ink['light'])
                if contrast(paper, words.upper()) < 4.5: lost.append(f'{p.name} {c.id}')
    assert lost == [], 'python tools/twins.py --all, for these'

@pytest.mark.slow
def test_pages_can_be_made(clone, run):
    "nbdev runs the import cells of each notebook when it makes the documentation"
    run(sys.executable, '-c', 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=0)', cwd=clone, package=clone)
    made = {p.name for p in (clone/'_proc').rglob('*.ipynb')}
    assert made == {p.name for p in notebooks}

def test_recorded_comparisons_have_one_place():
    "They travel with the package, since lessons draw them where there is no clone; benchmarks/ writes them there"
    recorded = {p.name for p in (root/'sskd_tutor/data_files/benchmarks/results').glob('*.csv')}
    assert 'compare.csv' in recorded and not recorded & {p.name for p in (root/'benchmarks').rglob('*')}

def test_ruff(run): run(bin/'ruff', 'check', '--no-cache', '.', cwd=root)

# --- notebooks and files

@pytest.mark.parametrize('path', notebooks, ids=name)
def test_notebook_file(path):
    nb = nbformat.read(path, 4)
    nbformat.validate(nb)
    assert path.stat().st_size < 900_000, "save figures with PLOTLY_RENDERER=plotly_mimetype, then tools/twins.py"
    assert 'widgets' not in nb.metadata, "widget state was saved: nbdev-clean keeps it, save the static twin"
    assert re.match(r'# .+\n\n> .+', nb.cells[0].source), "the first cell is `# title` and a `> subtitle`"
    assert not [o for c in nb.cells for o in c.get('outputs', []) if o.output_type == 'error']

def test_no_path_of_one_machine():
    pattern = re.compile('|'.join(['/'.join(['', d, '']) for d in ('root', 'home', 'Users', 'work')]) + r'|/tmp/\w')
    hits = {f: m[0] for f, t in text_files(root).items() if (m := pattern.search(t))}
    assert hits == {}

def test_licenses():
    assert 'Apache License' in (root/'LICENSE').read_text()
    assert 'Zalando' in (root/'sskd_tutor/data_files/LICENSE-fashion-mnist').read_text()

# --- what runs elsewhere

def workflow(f):
    w = yaml.safe_load((root/'.github/workflows'/f).read_text())
    return w, w[True]  # YAML 1.1 reads the key `on` as true

def test_workflow_ci():
    w, on = workflow('ci.yml')
    assert {'push', 'pull_request'} <= set(on) and w['permissions'] == {'contents': 'read'}
    assert any(s.get('run') == '.ci/run' for j in w['jobs'].values() for s in j['steps'])

def test_ci_has_the_oldest_and_the_newest(settings):
    jobs = workflow('ci.yml')[0]['jobs']
    pythons = [v for job in jobs.values() for v in job.get('strategy', {}).get('matrix', {}).get('python', [])]
    assert sorted(pythons) == ['3.11', '3.12', '3.13', '3.14'] and min(pythons) == settings['min_python']
    assert any(step.get('run') == 'make test-oldest' for step in jobs['oldest']['steps'])

def test_binder(run):
    assert (root/'binder/postBuild').stat().st_mode & 0o111
    run('bash', '-n', 'binder/postBuild', cwd=root)
    lines = [o for o in (root/'binder/postBuild').read_text().splitlines() if 'pip install' in o]
    assert 'whl/cpu' in lines[0] and lines[1].endswith(' .')  # a CPU-only torch first
    assert re.fullmatch(r'python-3\.1[1-4]', (root/'binder/runtime.txt').read_text().strip())

def test_devcontainer():
    made = json.loads((root/'.devcontainer/devcontainer.json').read_text())
    assert 'whl/cpu' in made['postCreateCommand'] and made['postCreateCommand'].endswith('pip install --editable .')

def test_workflow_publish():
    w, on = workflow('publish.yml')
    assert on == {'release': {'types': ['published']}} and w['permissions'] == {'contents': 'read'}
    job = w['jobs']['publish']
    assert job['permissions'] == {'id-token': 'write'} and w['jobs'][job['needs']].get('permissions') is None
    assert any(s.get('uses', '').startswith('pypa/gh-action-pypi-publish@') for s in job['steps'])

@pytest.mark.parametrize('path', sorted((root/'.github/workflows').glob('*')), ids=name)
def test_workflows_have_no_secret(path): assert 'secrets.' not in path.read_text()

@pytest.mark.parametrize('path', sorted((root/'.github/workflows').glob('*')), ids=name)
def test_actions_are_pinned_by_hash(path):
    "A tag can be moved to other code, a hash cannot; the version stands behind it for dependabot and for you"
    used = re.findall(r'^\s*(?:- )?uses: *(.+)$', path.read_text(), re.M)
    assert used and [line for line in used if not re.fullmatch(r'[\w/.-]+@[0-9a-f]{40}  # v[\d.]+.*', line)] == []

def test_ci_run_is_executable(run):
    assert (root/'.ci/run').stat().st_mode & 0o111
    run('bash', '-n', '.ci/run', cwd=root)

def test_make_names_the_python_it_needs(clone):
    "An old Python is refused with one clear line"
    old = clone/'old-python'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.10 && exit 0\nexit 1\n')
    old.chmod(0o755)
    p = subprocess.run(['make', 'demo', f'PYTHON={old}'], cwd=clone, capture_output=True, text=True)
    assert p.returncode and 'Python 3.11 or newer is needed' in p.stderr + p.stdout and '3.8.10' in p.stderr + p.stdout
    assert not (clone/'.venv').exists()

def test_make_names_the_rooms():
    "Before anything is installed"
    make = 'make', '--no-print-directory', 'test', 'ROOM=distil'   # a make that runs these tests has it say so
    p = subprocess.run(make, cwd=root, capture_output=True, text=True)
    assert p.returncode and 'there is no room "distil"; expected one of: core data' in p.stderr and p.stdout == ''

def test_long_tests_exist(repo):
    "tests/long.txt names tests by file and function; one that was renamed would be run again by `make test`, unnoticed"
    gone = []
    for name in sorted(long_tests()):
        path, function = name.split('[')[0].split('::')
        if not (repo/path).exists() or f'def {function}(' not in (repo/path).read_text(): gone.append(name)
    assert not gone, "take these out of tests/long.txt, or write it anew with tools/long.py"
