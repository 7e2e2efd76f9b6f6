"""Each recipe for a real set, `--quick`, where SSKD_DATA has that set."""
import json, os
from pathlib import Path

import pytest

from sskd_tutor.cli import main
from sskd_tutor.runs.recipe_file import read_recipe

pytest.importorskip('pytorch_metric_learning')
places = dict(cifar100='cifar-100-binary', camvid='camvid', lfw='lfw_home', bccd='bccd')
names = dict(cifar100='cifar100_resnet56_resnet20', camvid='camvid_resnet34_resnet10', lfw='lfw_resnet', bccd='bccd_resnet')

def real(name):
    "The folder that holds a set, or a skip that says what to do"
    top = Path(os.environ.get('SSKD_DATA', ''))
    if not os.environ.get('SSKD_DATA') or not (top/places[name]).is_dir():
        pytest.skip(f"needs the real {name}: set SSKD_DATA to the folder that holds {places[name]}")
    return top

@pytest.mark.parametrize('name', names)
def test_plan(name, capsys):
    "The set is opened and found to be the recipe's, networks are built and matched, costs counted"
    top, real_set = real(name), read_recipe(names[name]).get('real', {})
    assert main(['recipe', names[name], '--data', str(top), '--plan', '--device', 'cpu']) == 0
    told = capsys.readouterr().err
    assert 'GMACs' in told
    if name in ('camvid', 'lfw'):
        assert f"{real_set['train']:,} images to train on, {real_set['valid']:,} to examine on" in told

@pytest.mark.slow
@pytest.mark.parametrize('name', names)
def test_quick(name, tmp_path, capsys):
    "One epoch of everything: two minutes on two cores; CIFAR-100 takes longer"
    top = real(name)
    assert main(['recipe', names[name], '--data', str(top), '--quick', '--out', str(tmp_path/'run'), '--json', '--device', 'cpu']) == 0
    assert json.loads(capsys.readouterr().out)['folder']
    info = json.loads((tmp_path/'run/run.json').read_text())
    assert set(info['results']) >= {'teacher', 'distilled'} and 0 <= info['results']['distilled'] <= 100
    assert (tmp_path/'run/report.html').stat().st_size > 1e5
