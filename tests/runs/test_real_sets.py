"""Each recipe for a real set, `--quick`, where SSKD_DATA has that set."""
import json, os, time
from pathlib import Path

import pytest

from conftest import root
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
        examined = dict(camvid='images', lfw='pairs')[name]
        assert f"{real_set['train']:,} images to train on, {real_set['valid']:,} {examined} to evaluate on" in told

@pytest.mark.slow
@pytest.mark.parametrize('name', names)
def test_quick(name, tmp_path, capsys):
    "One epoch of everything: two minutes on two cores, but for CIFAR-100, which takes longer; the student leaves"
    top, run = real(name), tmp_path/'run'
    begun = time.perf_counter()
    assert main(['recipe', names[name], '--data', str(top), '--quick', '--out', str(run), '--json', '--device', 'cpu']) == 0
    seconds = time.perf_counter() - begun
    assert json.loads(capsys.readouterr().out)['folder']
    info = json.loads((run/'run.json').read_text())
    assert set(info['results']) >= {'teacher', 'distilled'} and 0 <= info['results']['distilled'] <= 100
    assert (run/'report.html').stat().st_size > 1e5
    assert main(['export', str(run), '--out', str(tmp_path/'out'), '--formats', 'safetensors', 'torch']) == 0
    print(f"{name}: {seconds:.0f} s, its parts {info['seconds']:.0f} s")   # two minutes are promised; not asserted, machines differ

def test_the_teacher_of_cifar100_is_what_its_card_says():
    from fastai.vision.all import Learner, accuracy
    from sskd_tutor.core.device import quiet
    from sskd_tutor.data.formats import open_data
    from sskd_tutor.nets.small import cifar_net
    from sskd_tutor.nets.weights import load_weights, weights_meta
    path = root/'benchmarks/weights/cifar100_resnet56.safetensors'
    told = weights_meta(path)['accuracy']
    assert f'**{told:.2f} %**' in path.with_suffix('.md').read_text()
    dls = open_data('cifar100', real('cifar100'), 32, 250, device='cpu')
    net = load_weights(cifar_net('resnet56'), path)
    with quiet(Learner(dls, net, metrics=accuracy)) as learn: found = 100*learn.validate()[1]
    assert abs(found - told) < .2, 'float32 differs from bfloat16 by a few images at most'
