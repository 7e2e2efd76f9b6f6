"""The recipes for streets and for faces on the command line, on small made-up sets: plan, run, go on, export."""
import json

import pytest
from safetensors.torch import load_file

from helpers.files import write_lfw, write_streets
from sskd_tutor.cli import main
from sskd_tutor.runs.job import checkpoints_of
from sskd_tutor.runs.recipe_file import read_recipe
from sskd_tutor.runs.task import TaskJob

smaller = dict(
    camvid_resnet34_resnet10={'[64, 96]': '[32, 64]', '"resnet34"': '"resnet10"\nwidth = 8', 'width = 32': 'width = 4',
                              'bs = 8': 'bs = 4'},
    lfw_resnet={'width = 24': 'width = 8', 'width = 12': 'width = 4', 'bs = 64': 'bs = 8'})

@pytest.fixture(scope='module', params=smaller)
def line(request, tmp_path_factory):
    "A command for a small set and small networks"
    top = tmp_path_factory.mktemp(request.param)
    write_streets(top/'camvid'), write_lfw(top/'lfw_home')
    text = read_recipe(request.param)['text']
    for old, new in smaller[request.param].items():
        assert old in text
        text = text.replace(old, new)
    (top/'small.toml').write_text(text)
    return ['recipe', str(top/'small.toml'), '--data', str(top), '--quick', '--device', 'cpu']

@pytest.fixture(scope='module')
def finished(line, tmp_path_factory):
    "A run folder"
    out = tmp_path_factory.mktemp('runs')/'whole'
    assert main([*line, '--out', str(out)]) == 0
    return out

def test_a_quick_plan_as_json(line, capsys):
    "It is not timed"
    assert main([*line, '--plan', '--json']) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan['gmacs'] > 0 and plan['seconds'] is None

def test_its_student_leaves(finished, tmp_path):
    assert main(['export', str(finished), '--out', str(tmp_path/'out'), '--formats', 'safetensors', 'torch']) == 0
    assert load_file(tmp_path/'out/student.safetensors')
    assert (tmp_path/'out/README.md').exists()

def test_an_interrupted_run_goes_on(line, finished, tmp_path, monkeypatch, capsys):
    "From the command line: the teacher is not trained again, and the student is that of an unbroken run"
    out = tmp_path/'parts'
    def interrupt(self): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(TaskJob, 'distill', interrupt)
        assert main([*line, '--out', str(out)]) == 130
    assert f'go on with: sskd_tutor recipe --resume {out}' in capsys.readouterr().err
    assert list(json.loads((checkpoints_of(out)/'parts.json').read_text())) == ['teacher']
    assert main(['recipe', '--resume', str(out)]) == 0
    whole, again = (json.loads((folder/'run.json').read_text()) for folder in (finished, out))
    assert again['student_sha256'] == whole['student_sha256']

def test_a_folder_without_the_set(line, tmp_path, capsys):
    "One line that says what to put where, in words of the command line"
    elsewhere = [*line[:3], str(tmp_path), *line[4:]]
    assert main([*elsewhere, '--plan']) == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said and ('camvid' in said or 'lfw_home' in said)
    assert 'name' in said and '--data' in said and 'SSKD_DATA' in said and 'download' not in said

def test_half_of_lfw(tmp_path, capsys):
    write_lfw(tmp_path/'lfw_home')
    (tmp_path/'lfw_home/pairs.txt').unlink()
    assert main(['recipe', 'lfw_resnet', '--data', str(tmp_path), '--plan', '--device', 'cpu']) == 2
    said = capsys.readouterr().err
    assert 'lfw_home lacks pairs.txt; put' in said and 'download' not in said

def test_a_plan_looks_at_the_teachers_weights(line, tmp_path, capsys):
    "A plan of a file that is not there went well; the run then failed and left a folder that had to be dropped"
    assert main([*line, '--teacher-weights', str(tmp_path/'none.safetensors'), '--out', str(tmp_path/'run')]) == 2
    assert 'none.safetensors' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
