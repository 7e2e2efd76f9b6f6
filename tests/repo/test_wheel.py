"""What is published works outside the repository: data and teacher travel in the wheel."""
import json, sys, tarfile, venv, zipfile

import pytest

from conftest import tracked

@pytest.fixture
def dist(clone, tmp_path, run):
    "A folder with the sdist, and the wheel made from it"
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', tmp_path/'dist', '.', cwd=clone)
    return tmp_path/'dist'

def only(folder, pattern):
    hits = list(folder.glob(pattern))
    assert len(hits) == 1
    return hits[0]

def check_table(out):
    table = json.loads(out.strip().splitlines()[-1])
    assert all(0 < table[k] <= 100 for k in ('teacher', 'labels_only', 'distilled'))
    assert table['stages']

def test_files_travel(dist, repo):
    package = {p.relative_to(repo).as_posix() for p in tracked(repo/'sskd_tutor')}
    assert any(f.endswith('fashion.npz.xz') for f in package)
    with zipfile.ZipFile(only(dist, '*.whl')) as z: in_wheel = set(z.namelist())
    with tarfile.open(only(dist, '*.tar.gz')) as t: in_sdist = {n.partition('/')[2] for n in t.getnames()}
    assert package == {f for f in in_wheel if f.startswith('sskd_tutor/')}
    assert package | {'LICENSE', 'README.md', 'pyproject.toml'} <= in_sdist
    assert any(f.endswith('licenses/LICENSE') for f in in_wheel)

@pytest.mark.slow
def test_demo_runs_from_the_wheel(dist, tmp_path, run):
    site, away = tmp_path/'site', tmp_path/'away'
    away.mkdir()
    run(sys.executable, '-m', 'pip', 'install', '--no-deps', '--target', site, only(dist, '*.whl'), cwd=away)
    where = run(sys.executable, '-c', 'import sskd_tutor.core.files as f; print(f.__file__, f.pkg_data)', cwd=away, package=site)
    assert where.split() == [str(site/'sskd_tutor/core/files.py'), str(site/'sskd_tutor/data_files')]
    short = '--images', '130', '--epochs', '1', '--head-epochs', '1'  # .ci/run makes the quick demo
    check_table(run(site/'bin/sskd_tutor', 'demo', *short, '--json', cwd=away, package=site))

@pytest.mark.slow
def test_demo_runs_in_an_empty_environment(dist, tmp_path, run):
    venv.create(tmp_path/'env', with_pip=True)
    bin = tmp_path/'env/bin'
    run(bin/'pip', 'install', '--quiet', only(dist, '*.whl'), cwd=tmp_path, timeout=3600)
    check_table(run(bin/'sskd_tutor', 'demo', '--quick', '--json', cwd=tmp_path))
