"""Words that come from a file never run code: only registered kinds of networks and data are taken from one, unless you allow more."""
import json, sys
from dataclasses import asdict, fields

import pandas as pd
import pytest
import torch

from sskd_tutor.cli import main
from sskd_tutor.compare.study import studies
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.words import build_model
from sskd_tutor.runs.coco import CocoSettings
from sskd_tutor.runs.demo import DemoSettings
from sskd_tutor.runs.folder import FolderSettings
from sskd_tutor.runs.job import checkpoints_of
from sskd_tutor.runs.saved import run_format, save_run
from sskd_tutor.runs.labels_job import LabelsSettings, StudentSettings
from sskd_tutor.runs.recipe import RecipeSettings
from sskd_tutor.runs.recipe_file import read_recipe, recipe_folder, RecipeTop

word = 'evil:net'

@pytest.fixture
def evil(tmp_path, monkeypatch):
    "A module of somebody else beside the files, which leaves a mark as soon as it is imported"
    monkeypatch.chdir(tmp_path)
    (tmp_path/'evil.py').write_text("open('ran', 'a').write('x')\n"
                                    "def net(num_classes=10):\n"
                                    "    from sskd_tutor.nets.small import tutorial_resnet\n"
                                    "    return tutorial_resnet(4, 1, n_out=num_classes)\n"
                                    "def data():\n"
                                    "    from sskd_tutor.data.images import embedded_fashion\n"
                                    "    return embedded_fashion('train'), embedded_fashion('valid')\n")
    yield tmp_path/'ran'
    sys.modules.pop('evil', None)

def refused(line, ran, capsys):
    "The command ends with one line that names the word and the cure, and nothing ran"
    assert main(line) == 2
    err = capsys.readouterr().err
    assert not ran.exists(), err
    assert word in err or 'os:system' in err or 'evil:data' in err, err
    assert '--allow-code' in err and 'Traceback' not in err, err

def settings(tmp_path, **given):
    return asdict(FolderSettings(str(tmp_path/'photos'), 'tutorial:width=4', 'tutorial:width=4', device='cpu')) | given

@pytest.mark.parametrize('field', ['student', 'teacher'])
@pytest.mark.parametrize('bad', [word, "os:system:command='touch ran'"])
def test_export(evil, tmp_path, capsys, field, bad):
    info = dict(job='distill', title='t', settings=settings(tmp_path, **{field: bad}), results={}, teacher=dict(sha256=''),
                images=dict(classes=['a', 'b'], size=28, mode='L', mean=[0], std=[1]))
    history = pd.DataFrame(dict(phase=[], stage=[], epoch=[], measure=[], value=[]))
    save_run(tmp_path/'run', history, info, tutorial_resnet(4, 1))
    refused(['export', 'run', '--out', 'student'], evil, capsys)

def recipe_text(bad, field='student', name='imagenette_resnet34_resnet10'):
    text = (recipe_folder/f'{name}.toml').read_text()
    old = next(line for line in text.splitlines() if line.startswith(f'{field} ='))
    return text.replace(old, f'{field} = "{bad}"')

@pytest.mark.parametrize('plan', [['--plan'], []])
@pytest.mark.parametrize('field', ['student', 'teacher'])
def test_recipe(evil, tmp_path, capsys, plan, field):
    (tmp_path/'mine.toml').write_text(recipe_text(word, field))
    refused(['recipe', 'mine.toml', '--data', '.', *plan], evil, capsys)

def interrupted(tmp_path, document):
    place = checkpoints_of(tmp_path/'run')
    place.mkdir()
    (place/'settings.json').write_text(json.dumps(document | dict(format=run_format)))

@pytest.mark.parametrize('field', ['student', 'teacher'])
def test_resumed_distillation(evil, tmp_path, capsys, field):
    interrupted(tmp_path, dict(job='distill', settings=settings(tmp_path, **{field: word})))
    refused(['distill', '--resume', 'run'], evil, capsys)

def recipe_document(text): return dict(job='recipe', recipe=text, settings=dict(recipe='r', data='.', device='cpu'))

def test_resumed_recipe(evil, tmp_path, capsys):
    interrupted(tmp_path, recipe_document(recipe_text(word)))
    refused(['recipe', '--resume', 'run'], evil, capsys)

def test_a_recipe_does_not_hide_behind_another_task(evil, tmp_path, capsys):
    "Only recipes for classification are checked line by line; a job takes no recipe of another task"
    interrupted(tmp_path, recipe_document('task = "detection"\n' + recipe_text(word)))
    assert main(['recipe', '--resume', 'run']) == 2
    assert "task is 'detection'" in capsys.readouterr().err and not evil.exists()
    (tmp_path/'mine.toml').write_text('task = "cooking"\n' + recipe_text(word))
    assert main(['recipe', 'mine.toml', '--data', '.']) == 2 and not evil.exists()

tiny = '[tiny]\nmethods = ["labels"]\nseeds = 1\nlabels = 100\nimages = 200\nfolder = "/nowhere"\n'

@pytest.mark.parametrize('line', [
    'data = "evil:data"', f'pairs = [{{teacher = "{word}", student = "tutorial:width=4"}}]',
    f'pairs = [{{teacher = "teacher", student = "{word}"}}]',
    'pairs = [{teacher = "cifar:resnet20", student = "tutorial:width=4", seen = "evil:data"}]'])
@pytest.mark.parametrize('plan', [['--plan'], []])
def test_study(evil, tmp_path, capsys, line, plan):
    (tmp_path/'study.toml').write_text(f'{tiny}{line}\n')
    refused(['compare', 'study.toml', *plan], evil, capsys)

# --- what you type, and what you allow, still runs

def test_allowed(evil, tmp_path):
    (tmp_path/'mine.toml').write_text(recipe_text(word))
    assert read_recipe('mine.toml', allow_code=True)['student'] == word
    (tmp_path/'study.toml').write_text(f'{tiny}data = "evil:data"\n')
    assert studies('study.toml', allow_code=True)['tiny'].data == 'evil:data'
    assert not evil.exists()   # reading alone runs nothing

def test_allowed_on_the_command_line(evil, tmp_path, capsys):
    (tmp_path/'study.toml').write_text(f'{tiny}data = "evil:data"\n')
    assert main(['compare', 'study.toml', '--plan', '--allow-code']) == 0, capsys.readouterr().err
    assert evil.exists()

def test_typed_in_python(evil):
    assert isinstance(build_model('evil:net:num_classes=3'), torch.nn.Module) and evil.exists()
    assert studies(dict(tiny=dict(methods=['labels'], data='evil:data')))['tiny'].data == 'evil:data'
    assert FolderSettings('photos', word, word, device='cpu').teacher == word

# --- typed words: only what gives a network is called, with plain values

@pytest.mark.parametrize('bad, says', [
    ("os:system:command='touch ran'", 'os is a module of Python itself'),
    ("subprocess:getoutput:cmd='touch ran'", 'subprocess is a module of Python itself'),
    ('evil:net:num_classes=print', "num_classes='print'.*expected a number or another literal"),
    ('evil:made', 'annotated to return int'), ('evil:Thing', 'Thing is a class, not an nn.Module'),
    ('evil:number', 'it is a int'), ('evil:wrong', 'returned a int')])
def test_typed_words(evil, tmp_path, bad, says):
    with (tmp_path/'evil.py').open('a') as f:
        f.write("def made() -> int: open('called', 'w')\n"
                "class Thing:\n    def __init__(self): open('called', 'w')\n"
                "number = 3\n"
                "def wrong(): return 3\n")
    evil.write_text('')
    with pytest.raises(ValueError, match=says): build_model(bad)
    assert not (tmp_path/'called').exists() and evil.read_text() in ('', 'x')

@pytest.mark.parametrize('option', ["checkpoint_path='x.pth'", "pretrained_cfg={'file':'x.pth'}", 'pretrained_cfg_overlay={}',
                                    "pretrained=True,cache_dir='elsewhere'"])
def test_no_weights_through_the_back_door(option):
    "They would be read by timm, in its own way; ours reads tensors alone"
    with pytest.raises(ValueError, match='load_weights'): build_model(f'timm:resnet10t:{option}')

def test_no_riddle_in_an_option():
    with pytest.raises(ValueError): build_model('timm:resnet10t:a=' + '('*100_000)

# --- nobody forgets the check

def test_every_network_in_a_settings_file_is_checked():
    kinds = FolderSettings, StudentSettings, LabelsSettings, RecipeTop, RecipeSettings, CocoSettings, DemoSettings
    words = [f for cls in kinds for f in fields(cls) if f.name in ('teacher', 'student', 'network') and 'choices' in f.metadata]
    of_networks = [f for f in words if f.metadata['choices'] is None]
    assert len(of_networks) == 7 and all(f.metadata['from_file'] for f in of_networks)

def test_shipped_files_need_no_permission():
    from sskd_tutor.compare.results import comparison_folder
    from sskd_tutor.runs.recipe_file import recipes
    for name in recipes(): read_recipe(name)
    studies(comparison_folder()/'compare.toml')
