"""What leaves is the student, in every form; nothing half-written stays."""
import json, re, resource, subprocess, sys, time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.vision.all import ImageDataLoaders, Learner
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.models import ResNet, mnasnet0_5, resnet18
from torchvision.models.resnet import BasicBlock

from sskd_tutor.cli import main
from sskd_tutor.data.images import mean, std
from sskd_tutor.core.files import pkg_data
from sskd_tutor.runs.export import export_student, fastest, model_card, sizes
from sskd_tutor.distill.pairing import pair_stages
from sskd_tutor.runs.saved import load_run, save_run
from sskd_tutor.nets.staged import StagedNet
from sskd_tutor.nets.weights import load_weights
from sskd_tutor.nets.small import tutorial_resnet

def net(width=4): return tutorial_resnet(width=width, blocks=1)
images = torch.rand(3, 1, 28, 28)

@pytest.mark.parametrize('stats', [None, (mean, std)])
@pytest.mark.parametrize('batch', [1, 5])
def test_programs_answer_as_the_student(tmp_path, stats, batch):
    student = net().train()
    student(torch.randn(64, 1, 28, 28))  # batch-norm statistics that are not those of a new network
    export_student(student, images[:1], tmp_path/'out', stats=stats)
    assert student.training and all(p.requires_grad for p in student.parameters())
    x, student = torch.rand(batch, 1, 28, 28), student.eval()
    want = student((x - mean)/std if stats else x).detach()
    import onnxruntime
    session = onnxruntime.InferenceSession(tmp_path/'out/student.onnx', providers=['CPUExecutionProvider'])
    program = torch.export.load(tmp_path/'out/student.pt2').module()
    for got in (program(x), torch.from_numpy(session.run(None, {'images': x.numpy()})[0])):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)

def test_versions_are_kept(tmp_path):
    "torchvision's MNASNet refuses weights whose versions it is not told, and a safetensors file has none"
    model, x = mnasnet0_5(num_classes=5).eval(), torch.rand(2, 3, 64, 64)
    export_student(model, x, tmp_path/'out', ['safetensors'])
    new = load_weights(mnasnet0_5(num_classes=5), tmp_path/'out/student.safetensors').eval()
    assert torch.equal(new(x), model(x))

def test_weights_fit_the_original_class(tmp_path):
    "A backbone that was made staged leaves under its own names"
    model = resnet18(num_classes=5)
    stages = dict(stage1=['conv1', 'bn1', 'relu', 'maxpool', 'layer1'], stage2=['layer2'], stage3=['layer3'], stage4=['layer4'])
    staged = StagedNet.from_modules(model, stages, ['avgpool', lambda x: x.flatten(1), 'fc'])
    with torch.no_grad():
        for p in staged.parameters(): p.add_(.01)
    export_student(model, torch.rand(2, 3, 64, 64), tmp_path/'out', ['safetensors', 'torch'])
    new = resnet18(num_classes=5)
    new.load_state_dict(load_file(tmp_path/'out/student.safetensors'))
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(new.eval()(x), staged.eval()(x))

@pytest.mark.parametrize('bad, error, says', [
    (dict(formats=['onxx']), ValueError, "did you mean 'onnx'"), (dict(formats=[]), ValueError, 'empty'),
    (dict(x='images'), TypeError, 'expected a batch of images'),
    (dict(net=nn.Identity(), x=torch.full((2, 1), float('nan'))), ValueError, 'not finite'),
    (dict(net=nn.LSTM(28, 4), x=torch.rand(2, 3, 28)), TypeError, 'gives a tuple')])
def test_bad_input_leaves_nothing(tmp_path, bad, error, says):
    with pytest.raises(error, match=says): export_student(**dict(net=net(), x=images, folder=tmp_path/'out') | bad)
    assert not list(tmp_path.iterdir())

class Coin(nn.Module):
    def forward(self, x): return x.flatten(1) + torch.rand_like(x.flatten(1))

def test_a_file_that_answers_otherwise_is_not_handed_out(tmp_path):
    with pytest.raises(ValueError, match='differ'): export_student(Coin(), images, tmp_path/'out', ['torch'])
    assert not list(tmp_path.iterdir())

def test_what_lies_there_stays(tmp_path):
    (tmp_path/'mine.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='name a new folder'): export_student(net(), images, tmp_path)
    with pytest.raises(FileExistsError): export_student(net(), images, tmp_path/'mine.txt')
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']

def test_onnx_packages_are_named(tmp_path, monkeypatch):
    def missing(name): raise ImportError(name)
    monkeypatch.setattr('sskd_tutor.runs.export.importlib.import_module', missing)
    with pytest.raises(ImportError, match=r'pip install "sskd_tutor\[export\]"'):
        export_student(net(), images, tmp_path/'out', ['onnx'])
    assert not list(tmp_path.iterdir())

alone = """
import sys, warnings
class Gone:
    def find_spec(self, name, *_):
        if name.partition('.')[0] == 'sskd_tutor': missing.append(name); raise ModuleNotFoundError(name)
missing = []
sys.meta_path.insert(0, Gone())
warnings.simplefilter('ignore')
from fastai.learner import load_learner
import numpy as np
for name in 'staged.pkl', 'alone.pkl':
    try: learn = load_learner(name)
    except UnboundLocalError: print('needs', missing[0])  # what fastai makes of an import that fails
    else:
        with learn.no_bar(): print(learn.predict(np.full((64, 64, 3), 99, 'u1'))[2].tolist())
"""

@pytest.mark.slow
def test_fastais_export_without_us(tmp_path):
    "On fastai's own loaders, with the original network put back, the pickle opens where this package is not"
    import sskd_tutor.distill.fit  # noqa: F401, patches Learner
    rng = np.random.default_rng(0)
    for i in range(24):
        (tmp_path/'photos'/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), 'u1')).save(tmp_path/'photos'/'ab'[i % 2]/f'{i}.png')
    dls = ImageDataLoaders.from_folder(tmp_path/'photos', valid_pct=.3, bs=8, device='cpu', num_workers=0)
    teacher, model = (ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2) for _ in range(2))
    pair = pair_stages(teacher, model, dls)
    learn = Learner(dls, pair.student)
    with learn.no_bar(), learn.no_logging(): learn.fit_sskd(pair.teacher, epochs=1, head_epochs=1, adapter=pair.adapter)
    learn.export(tmp_path/'staged.pkl')
    learn.model = model
    learn.export(tmp_path/'alone.pkl')
    with learn.no_bar(): want = learn.predict(np.full((64, 64, 3), 99, 'u1'))[2]
    p = subprocess.run([sys.executable, '-c', alone], cwd=tmp_path, capture_output=True, text=True)
    staged, answer = p.stdout.splitlines()
    assert staged == 'needs sskd_tutor' and np.allclose(json.loads(answer), want, atol=1e-6), p.stderr

def test_sizes():
    a, b = net(4).train(), net(8).eval()
    t = sizes(dict(a=a, b=b), images, batch=2, seconds=.01)
    assert t.parameters['a'] == sum(p.numel() for p in a.parameters()) and np.isfinite(t.iloc[:, :3].to_numpy()).all()
    assert a.training and not b.training
    assert t['M multiply-adds']['b'] == pytest.approx(b.stage_table(images[:1]).macs.sum()/1e6)

def test_networks_are_timed_in_turns():
    "One after the other, on a machine that got busy in between, a student of 0.1 looked nine times slower than its teacher"
    order = []
    calls = dict(a=lambda: order.append('a'), b=lambda: order.append('b'))
    found = fastest(calls, seconds=1e-9, turns=4, spread=np.inf)   # a busy machine measures too
    turns = re.sub(r'(.)\1+', r'\1', ''.join(order))   # each turn also warms up
    assert turns.endswith('abababab') and found['a'] > 0
    turn = iter(range(100))
    uneven = fastest(dict(busy=lambda: time.sleep(.01*(next(turn) % 2))), seconds=1e-9, turns=6)
    assert np.isnan(uneven['busy'])
    info = json.loads((pkg_data/'demo_run/run.json').read_text())
    table = pd.DataFrame({'MB': [1.5], 'ms an image': [np.nan]}, index=['student'])
    assert '| student | 1.5 | not measured |' in model_card(info, table)

@pytest.fixture
def run_folder(tmp_path):
    info = json.loads((pkg_data/'demo_run/run.json').read_text())
    info = {k: v for k, v in info.items() if k not in ('format', 'student_sha256', 'sha256', 'files')}
    info['settings'] |= dict(width=4, blocks=1)
    return save_run(tmp_path/'run', pd.DataFrame(columns=['phase', 'stage', 'epoch', 'measure', 'value']), info, net())

def test_command(run_folder, tmp_path, capsys):
    assert main(['export', str(run_folder), '--out', str(tmp_path/'out'), '--json']) == 0
    assert {r['format'] for r in json.loads(capsys.readouterr().out)} == {'safetensors', 'torch', 'onnx'}
    card = (tmp_path/'out/README.md').read_text()
    assert all(s in card for s in ('60,000 labels', 'student.onnx', 'Zalando', 'multiply-adds')) and '{files}' not in card
    assert main(['export', str(run_folder), '--out', str(tmp_path/'out')]) == 2 and 'name a new folder' in capsys.readouterr().err
    assert main(['export', str(tmp_path/'nowhere'), '--out', str(tmp_path/'x')]) == 2

def test_card_needs_no_table():
    info = json.loads((pkg_data/'demo_run/run.json').read_text())
    assert 'How large' not in model_card(info) and f"{info['results']['distilled']:.2f}" in model_card(info)

# --- the Hub, and 8 bits

def test_the_hub_reads_the_card(run_folder, tmp_path):
    "Its own reader finds license, library, tags, data, measure and base model"
    out = tmp_path/'out'
    line = ['export', str(run_folder), '--out', str(out), '--formats', 'safetensors', '--license', 'MIT', '--base-model', 'jane/big']
    assert main(line) == 0
    data = ModelCard.load(out/'README.md').data
    assert (data.license, data.library_name, data.base_model, data.metrics) == ('mit', 'pytorch', 'jane/big', ['accuracy'])
    assert data.datasets == ['zalando-datasets/fashion_mnist'] and 'knowledge-distillation' in data.tags

@pytest.mark.parametrize('license, want', [('MIT', ('mit', None)), ('not stated', ('unknown', None)),
                                           ('Apache-2.0; images: MIT', ('other', 'Apache-2.0; images: MIT'))])
def test_licenses_of_the_card(license, want, run_folder):
    data = ModelCard(model_card(load_run(run_folder).info, license=license)).data
    assert (data.license, data.get('license_name')) == want

def test_hub_plan_writes_the_folder_and_sends_nothing(run_folder, tmp_path, capsys, monkeypatch):
    import huggingface_hub
    def sent(*_, **__): raise AssertionError("something was sent")
    for name in ('create_repo', 'upload_folder'): monkeypatch.setattr(huggingface_hub, name, sent)
    line = ['export', str(run_folder), '--out', str(tmp_path/'out'), '--formats', 'safetensors', '--hub', 'jane/student']
    assert main([*line, '--plan']) == 0 and 'is ready for jane/student' in capsys.readouterr().err
    assert {p.name for p in (tmp_path/'out').iterdir()} == {'README.md', 'student.safetensors'}

def test_hub_is_sent_the_folder(run_folder, tmp_path, capsys, monkeypatch):
    "And what the Hub says is told in one line, with the cure"
    import huggingface_hub
    sent = {}
    monkeypatch.setattr(huggingface_hub, 'create_repo', lambda name, **_: sent.update(repo=name) or f'https://hub/{name}')
    monkeypatch.setattr(huggingface_hub, 'upload_folder', lambda **kwargs: sent.update(kwargs))
    line = ['export', str(run_folder), '--formats', 'safetensors', '--hub', 'jane/student', '--out']
    assert main([*line, str(tmp_path/'a')]) == 0 and 'sent to https://hub/jane/student' in capsys.readouterr().err
    assert sent['repo'] == sent['repo_id'] == 'jane/student' and sent['folder_path'] == str(tmp_path/'a')
    def refused(*_, **__): raise RuntimeError("401 Unauthorized\nand a long story")
    monkeypatch.setattr(huggingface_hub, 'create_repo', refused)
    assert main([*line, str(tmp_path/'b')]) == 2
    err = capsys.readouterr().err
    assert '(401 Unauthorized)' in err and 'hf upload jane/student' in err and 'long story' not in err
    assert (tmp_path/'b/student.safetensors').exists()

@pytest.mark.parametrize('name', ['student', 'jane/a b', 'a/b/c', 'jane/--'])
def test_a_name_that_the_hub_cannot_have(name, run_folder, tmp_path, capsys):
    "Refused before anything is written"
    assert main(['export', str(run_folder), '--out', str(tmp_path/'out'), '--hub', name]) == 2
    assert "--hub is" in capsys.readouterr().err and not (tmp_path/'out').exists()

def test_int8(run_folder, tmp_path):
    "A file of its own, judged on held-out images beside the others, in the card; notebook 03a_int8 weighs it"
    from sskd_tutor.runs.jobs import export_run
    said = []
    export_run(run_folder, tmp_path/'out', ['torch', 'onnx', 'int8'], say=said.append)
    assert {p.name for p in (tmp_path/'out').iterdir()} == {'README.md', 'student.pt2', 'student.onnx', 'student_int8.onnx'}
    card = (tmp_path/'out/README.md').read_text()
    assert 'ONNX, int8' in said[0] and 'accuracy, %' in card and '| ONNX, int8 | student_int8.onnx |' in card

def test_int8_needs_onnx_and_images(run_folder, tmp_path, monkeypatch):
    from sskd_tutor.runs import jobs
    with pytest.raises(ValueError, match='give formats onnx and int8'): jobs.export_run(run_folder, tmp_path/'out', ['int8'])
    old = jobs.DemoJob.to_export
    monkeypatch.setattr(jobs.DemoJob, 'to_export', lambda *args: replace(old(*args), loaders=None))
    with pytest.raises(ValueError, match='does not say where its images are'):
        jobs.export_run(run_folder, tmp_path/'out', ['onnx', 'int8'])
    assert not (tmp_path/'out').exists()

def test_space_is_an_option(run_folder, tmp_path, capsys):
    line = ['export', str(run_folder), '--out', str(tmp_path/'out'), '--space', '--quiet']
    assert main([*line, '--formats', 'onnx']) == 0
    about = json.loads((tmp_path/'out/space/student.json').read_text())
    assert (about['size'], about['mode'], len(about['classes'])) == (28, 'L', 10)
    assert main(['export', str(run_folder), '--out', str(tmp_path/'b'), '--space', '--formats', 'torch']) == 2
    assert '--space' in capsys.readouterr().err and not (tmp_path/'b').exists()

@pytest.mark.parametrize('change, error, match', [
    (dict(x=images[0]), ValueError, r'the network does not take x of shape \(1, 28, 28\); expected a batch of its own images'),
    (dict(x=torch.rand(2, 3, 28, 28)), ValueError, r'does not take x of shape \(2, 3, 28, 28\)'),
    (dict(stats=([.1]*3, [.2]*3)), ValueError, 'stats has a mean for 3 channels; the images have 1'),
    (dict(stats=(.1, 0.)), ValueError, r'the std in stats is \[0.0\]; expected numbers above 0'),
    (dict(stats=dict(mean=.1, std=.2)), TypeError, r'expected a pair \(mean, std\)'),
    (dict(formats='onxx'), ValueError, "no format 'onxx'; did you mean 'onnx'")])
def test_input_that_no_file_can_come_of(change, error, match, tmp_path):
    with pytest.raises(error, match=match): export_student(**{**dict(net=net(), x=images, folder=tmp_path/'out', formats=['torch']), **change})
    assert not list(tmp_path.iterdir())

def test_one_format_by_its_name(tmp_path):
    assert list(export_student(net(), images, tmp_path/'out', 'torch').index) == ['torch']

@pytest.mark.parametrize('form', ['safetensors', 'torch', 'onnx'])
def test_a_full_disk_is_no_fault_of_the_form(form, tmp_path):
    "The message said to leave the form out; in the form `torch`, PyTorch's writer then ended the whole process"
    large = nn.Sequential(nn.Flatten(), nn.Linear(784, 100))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(OSError, match='File too large'): export_student(large, images, tmp_path/'out', form)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list(tmp_path.iterdir())
