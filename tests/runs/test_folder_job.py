"""Own teacher, student and images, on the command line: looked at, distilled, resumed; what is wrong is told in one line."""
import json, re, resource, shutil, signal, subprocess
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from PIL import Image
from safetensors.torch import load_file

from sskd_tutor.cli import main
from sskd_tutor.core.settings import as_words
from sskd_tutor.data.images import embedded_fashion, vocab
from sskd_tutor.runs.demo import DemoJob, DemoSettings
from sskd_tutor.runs.job import checkpoints_of, claim, interrupted_job, run
from sskd_tutor.runs.saved import load_run
from sskd_tutor.runs.classes import weights_note
from sskd_tutor.runs.folder import distill_dls, FolderJob, FolderSettings
from sskd_tutor.nets.words import build_model
from sskd_tutor.distill.losses import mimic_mse
from sskd_tutor.distill.pairing import Pairing
from sskd_tutor.core.files import file_sha256, sealed
from sskd_tutor.nets.staged import count_macs
from sskd_tutor.nets.weights import load_weights, save_weights
from sskd_tutor.core.state import tensors_sha256
from helpers.command import call, cmd, env
from helpers.pairs import moved, new_learner, snapshot

torch.set_num_threads(1)
fashion, classes = embedded_fashion('valid'), ['bag', 'sneaker', 'trouser']
teacher_word, student_word = 'tutorial:width=8,blocks=1', 'tutorial:width=4,blocks=1'

def write(folder, n=60, names=classes, mode='L'):
    for c in names:
        (folder/c).mkdir(parents=True)
        for k, i in enumerate((fashion.y == vocab.index(c)).nonzero()[:n, 0].tolist()):
            Image.fromarray(fashion.x[i, 0].numpy()).convert(mode).save(folder/c/f'{k:03d}.png')
    return folder

@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "Images, and weights of a teacher that knows them"
    work = tmp_path_factory.mktemp('work')
    dls = distill_dls(FolderSettings(str(write(work/'photos')), teacher_word, student_word, size=28, bs=16, device='cpu'))
    torch.manual_seed(0)
    teacher = build_model('tutorial:width=8,blocks=1,n_out=3')
    learn = new_learner(teacher, dls)
    learn.fit_one_cycle(6, 1e-2)
    assert learn.validate()[1] > .8
    save_weights(teacher, work/'teacher.safetensors', dict(classes=classes))
    torch.save(teacher.state_dict(), work/'teacher.pth')
    return work

def options(work):
    weights = str(work/'teacher.safetensors')
    return dict(data=str(work/'photos'), teacher=teacher_word, teacher_weights=weights, student=student_word, size=28, bs=16,
                epochs=1, head_epochs=1, device='cpu')

def settings(work, **kwargs):
    return FolderSettings(**options(work) | kwargs)

def line(work, **kwargs):
    "The same as options"
    return ['distill', *as_words(settings(work, **kwargs)), '--device', 'cpu']

def prepared(s):
    "Everything checked, nothing trained"
    return FolderJob(s).prepare()

# --- a teacher that is still to be made

def test_the_teacher_is_trained_first(work, tmp_path):
    "For your own images there is often no teacher yet; 0.1 refused the run"
    s = settings(work, teacher_weights=None, train_teacher=6, lr=1e-2)
    assert FolderJob(replace(s)).plan().gmacs > 0, "a plan trains nothing and asks for no weights"
    found = run(FolderJob(s), tmp_path/'run')
    assert found.info['results']['teacher'] > 60 and found.info['teacher']['labels_seen'] == len(FolderJob(s).prepare().dls.train_ds)
    path = tmp_path/'run/teacher.safetensors'
    assert file_sha256(path) == found.info['teacher']['sha256'] and weights_note(path)['classes'] == classes
    leaving = FolderJob.to_export(load_run(tmp_path/'run'))
    assert list(leaving.nets) == ['teacher', 'student'] and leaving.warning == ''
    with pytest.raises(ValueError, match='train_teacher=8'): prepared(settings(work, teacher_weights=None))

# --- from end to end

@pytest.fixture(scope='module')
def first(work):
    p = call(*line(work, license='CC BY 4.0'), '--out', 'runs/first', '--json', cwd=work)
    assert p.returncode == 0, p.stderr
    return p, json.loads(p.stdout), load_run(work/'runs/first')

def test_what_is_said(first):
    p, table, run = first
    assert len(p.stdout.splitlines()) == 1 and 'Traceback' not in p.stderr
    for row in (r'144 images to train on, 36 to validate, 3 classes', r'stage3 +stage3 +16 +32', 'the teacher is right on',
                'GMACs', r'stage1 +1/1 +mimic loss \d', r'head +1/1.*accuracy',
                'The student is runs/first/export', 'Open runs/first/report.html'):
        assert re.search(row, p.stderr), row
    assert 0 <= table['distilled'] <= 100 and table['teacher'] > 80 and table['gmacs']['distilled'] > 0
    assert table['classes'] == classes

def test_what_is_left(first):
    _, table, run = first
    left = {'student.safetensors', 'metrics.csv', 'run.json', 'report.html', 'alignment.csv', 'alignment.json', 'alignment.npz', 'look.json',
            'pairing.json', 'images.json', 'classes.txt', 'export', 'settings.json'}
    assert {p.name for p in run.path.iterdir()} == left == set(run.info['files'])
    assert (run.path/'classes.txt').read_text().splitlines() == classes == weights_note(run.path/'student.safetensors')['classes']
    assert set(run.history.phase) == {'mimic', 'head'} and run.info['results']['distilled'] == table['distilled']
    page = (run.path/'report.html').read_text()
    assert 'How many labels the teacher' in page and 'Planned and spent' in page
    for r in run.info['stages']:
        assert r['planned_gmacs'] == pytest.approx(r['gmacs'], rel=1e-9) and r['planned_seconds'] > 0 and r['seconds'] > 0
        row = [r['stage'], *(f"{round(r[k], 1):,.4g}" for k in ('planned_gmacs', 'gmacs', 'planned_seconds', 'seconds'))]
        assert ''.join(f'<td>{v}</td>' for v in row) in page
    card = (run.path/'export/README.md').read_text()
    assert 'an unknown number of labels' in card and 'sskd_tutor distill --data' in card
    assert 'License**: CC BY 4.0' in card and "--license 'CC BY 4.0'" in card
    sizes = {n: float(v.replace(',', '')) for n, v in re.findall(r'^\| (teacher|student) \| ([\d,]+) \|', card, re.M)}
    assert sizes == {n: sum(p.numel() for p in build_model(w + ',n_out=3').parameters())
                     for n, w in dict(teacher=teacher_word, student=student_word).items()}
    assert Pairing.load(run.path/'pairing.json')['ends'] == dict(stage1='stage1', stage2='stage2', stage3='stage3')

def test_the_student_leaves_in_its_own_class(first):
    _, table, run = first
    student = build_model('tutorial:width=4,blocks=1,n_out=3')
    load_weights(student, run.path/'export/student.safetensors')
    assert tensors_sha256(student) == table['student_sha256'] == run.info['student_sha256']

def test_the_accuracy_is_that_of_the_saved_student(first, work):
    _, table, run = first
    job = prepared(settings(work))
    student = load_weights(build_model('tutorial:width=4,blocks=1,n_out=3'), run.path/'export/student.safetensors').eval()
    right = [(student(x).argmax(1) == y).float() for x, y in job.dls.valid]
    assert 100*torch.cat(right).mean().item() == pytest.approx(table['distilled'], abs=.01)

foreign = dict(teacher='timm:resnet10t', teacher_weights=None, student='torchvision:mobilenet_v3_small', size=64,
               teacher_size=96, mode='RGB', weak_teacher=True)

def test_a_foreign_pair(work):
    "timm teaches torchvision, gray images in color; a teacher that knows nothing is taken if that is meant"
    job = prepared(settings(work, **foreign))
    assert job.pairing.converter.size == (96, 96) and len(job.pairing.ends) == 5 and type(job.student).__name__ == 'MobileNetV3'

@pytest.mark.slow
def test_a_foreign_pair_to_the_end(work, tmp_path):
    s = settings(work, **foreign)
    r = run(FolderJob(s), tmp_path/'run')
    student = build_model('torchvision:mobilenet_v3_small:num_classes=3')
    assert {*student.state_dict()} == {*load_file(r.path/'export/student.safetensors')}
    load_weights(student, r.path/'student.safetensors')
    assert tensors_sha256(student) == r.info['student_sha256'] and len(r.info['stages']) == 6

@pytest.mark.slow
def test_kill_and_resume(first, work, tmp_path):
    "Killed in the second stage, the run goes on and ends with the student of an unbroken one"
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p = subprocess.Popen([*cmd, *line(work), '--out', 'runs/x'], cwd=tmp_path, env=env, text=True, **pipes)
    for row in p.stderr:
        if re.match('stage2 +1/1 ', row): break
    p.send_signal(signal.SIGKILL)
    p.communicate(timeout=60)
    assert p.returncode == -signal.SIGKILL and not (tmp_path/'runs/x').exists()
    untold = call(*line(work), '--out', 'runs/x', cwd=tmp_path)
    assert untold.returncode == 2 and '--resume runs/x' in untold.stderr
    resumed = call('distill', '--resume', 'runs/x', '--json', cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    table = json.loads(resumed.stdout)
    assert all(table[k] == first[1][k] for k in ('student_sha256', 'distilled', 'teacher'))
    assert not re.search(r'^stage1 +1/1', resumed.stderr, re.M) and re.search(r'^stage3 +1/1', resumed.stderr, re.M)
    assert not (tmp_path/'runs/.x.checkpoints').exists()

@contextmanager
def full_disk(n=10):
    "No file may grow beyond so many bytes"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, old[1]))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, old)

@pytest.mark.parametrize('kind', ['demo', 'distill'])
def test_settings_survive_a_full_disk(work, kind, tmp_path, capsys):
    "Going on writes none; those of a new run are there whole or not at all; cut-off ones are told with a cure"
    job = DemoJob(DemoSettings(device='cpu')) if kind == 'demo' else FolderJob(settings(work, views=2, budget='5 MB', bf16=True))
    folder = tmp_path/'run'
    with pytest.raises(OSError), full_disk(): claim(job, folder, False)
    path = checkpoints_of(folder)/'settings.json'
    assert not path.exists()
    claim(job, folder, False)  # nothing was begun, so nothing is in the way
    whole = path.read_bytes()
    with full_disk(): assert interrupted_job(folder, [type(job)]).settings == job.settings
    assert path.read_bytes() == whole
    path.write_bytes(whole[:10])
    assert main([kind, '--resume', str(folder)]) == 2
    err = capsys.readouterr().err
    assert re.search(r'settings.json is not whole .*Put them there again.*--overwrite', err) and 'Traceback' not in err

@pytest.mark.slow
def test_remembered_on_the_command_line(work, tmp_path, monkeypatch, capsys):
    "What `plan` plans is run: the plan that is printed remembers, the run keeps to it, and the report has both"
    monkeypatch.chdir(tmp_path)
    args = line(work, views=1, budget='5 MB', epochs=2)
    assert main([*args, '--out', 'run', '--json']) == 0
    out, err = capsys.readouterr()
    run, table = load_run('run'), json.loads(out)
    assert re.search(r'stage\d remembered', err) and 'of 5 MB used' in err and table['settings']['views'] == 1
    stages = {r['stage']: r for r in run.info['stages']}
    assert max(r['bytes'] for r in stages.values()) > 0 and all(r['bytes'] <= r['planned_bytes'] <= 5e6 for r in stages.values())
    assert all(r['gmacs'] == pytest.approx(r['planned_gmacs'], rel=.1) for r in stages.values())
    assert '--views 1 --budget \'5 MB\'' in run.info['command']

def test_bf16_on_the_command_line(work):
    s = settings(work, bf16=True, views=2)
    assert [type(cb).__name__ for cb in s.callbacks()] == ['Bf16', 'CacheFeatures'] and '--bf16' in FolderJob(s).command()

@pytest.mark.slow
def test_resume_keeps_what_is_remembered(work, tmp_path):
    "An interrupted run goes on with its own settings to the student of an unbroken one"
    s = settings(work, epochs=2, views=1, bf16=True)
    whole = run(FolderJob(s), tmp_path/'a')
    assert max(r['bytes'] for r in whole.info['stages']) > 0
    class Stop(Callback):
        def after_epoch(self):
            if self.learn.sskd_phase == 'stage2': raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as m:
        m.setattr(FolderSettings, 'callbacks', lambda self, own=FolderSettings.callbacks: own(self) + [Stop()])
        with pytest.raises(KeyboardInterrupt): run(FolderJob(s), tmp_path/'b')
    resumed = run(interrupted_job(tmp_path/'b', [FolderJob]), tmp_path/'b', resume=True)
    assert resumed.info['settings'] == asdict(s) and resumed.info['student_sha256'] == whole.info['student_sha256']

def test_finished_parts_are_not_done_again(work, tmp_path, monkeypatch):
    "Killed while it writes the report, the run only writes it on resuming"
    import sskd_tutor.runs.folder as folder_module
    s = settings(work)
    def fail(*_): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(folder_module, 'write_report', fail)
        with pytest.raises(KeyboardInterrupt): run(FolderJob(s), tmp_path/'a')
    monkeypatch.setattr(FolderJob, 'distill', fail)
    resumed = run(FolderJob(s), tmp_path/'a', resume=True)
    assert (resumed.path/'report.html').exists() and (resumed.path/'export/student.safetensors').exists()
    assert not checkpoints_of(tmp_path/'a').exists()

def test_a_student_teaches_the_next(first, work):
    run = first[2]
    s = settings(work, teacher=student_word, teacher_weights=str(run.path/'student.safetensors'), weak_teacher=True)
    job = prepared(s)
    assert job.pairing.converter is None and job.teacher_accuracy == run.info['results']['distilled']
    with pytest.raises(ValueError, match='teacher_mean is .* was trained on images with mean'):
        other = settings(work, teacher=student_word, teacher_weights=s.teacher_weights, teacher_mean=[.1], teacher_std=[.1])
        prepared(other)

# --- out of the door

def exported(run, out, capsys, *more):
    assert main(['export', str(run), '--out', str(out), '--json', *more]) == 0
    table, err = capsys.readouterr()
    return {r['format']: r for r in json.loads(table)}, (out/'README.md').read_text(), err

def test_export(first, tmp_path, capsys):
    "All formats answer as the student that the run saved; the card has its sizes beside the teacher's"
    import onnxruntime
    run = first[2]
    table, card, err = exported(run.path, tmp_path/'out', capsys, '--license', 'CC0')
    assert set(table) == {'safetensors', 'torch', 'onnx'} and all(r['difference'] < 1e-4 for r in table.values())
    assert 'License**: CC0\n' in card and '`student.onnx`' in card and 'random' not in card + err
    student = load_weights(build_model('tutorial:width=4,blocks=1,n_out=3'), run.path/'student.safetensors').eval()
    images = json.loads((run.path/'images.json').read_text())
    x = torch.rand(5, 1, 28, 28)
    with torch.no_grad(): want = student((x - torch.tensor(images['mean']))/torch.tensor(images['std']))
    session = onnxruntime.InferenceSession(tmp_path/'out/student.onnx', providers=['CPUExecutionProvider'])
    program = torch.export.load(tmp_path/'out/student.pt2').module()
    for got in (program(x), torch.from_numpy(session.run(None, {'images': x.numpy()})[0])):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    macs = count_macs(lambda: student(x[:1]))/1e6
    assert re.search(rf'^\| student \| [\d,]+ \| [\d.]+ \| {macs:,.4g} \|', card, re.M) and '\n| teacher | ' in card

def test_export_without_the_teachers_weights(first, work, tmp_path, capsys):
    "It says that they are gone, or others; its size is that of the same network"
    (tmp_path/'w.safetensors').write_bytes((work/'teacher.safetensors').read_bytes())
    run = shutil.copytree(first[2].path, tmp_path/'run')
    info = json.loads((run/'run.json').read_text())
    for weights in ('nowhere.safetensors', str(tmp_path/'w.safetensors')):
        info['settings']['teacher_weights'] = weights
        (run/'run.json').write_text(json.dumps(sealed(info)))
        (tmp_path/'w.safetensors').write_bytes(b'others')
        _, card, err = exported(run, tmp_path/weights.split('/')[-1][:3], capsys, '--formats', 'safetensors')
        assert f'{weights} is no longer there, or was changed' in err
        assert '| teacher with random weights |' in card and 'License**: CC BY 4.0\n' in card

def test_the_teacher_is_measured_as_it_was_fed(first, work, tmp_path):
    "Images of another size and normalization: the same answers as in the run, from the learner's images"
    torch.save(build_model(student_word + ',n_out=3').state_dict(), tmp_path/'w.pth')
    words = dict(teacher=student_word, teacher_weights=str(tmp_path/'w.pth'))
    fed = dict(teacher_size=14, teacher_mean=[.1], teacher_std=[.2], weak_teacher=True)
    job, run = prepared(settings(work, **words, **fed)), shutil.copytree(first[2].path, tmp_path/'run')
    job.pairing.save(run/'pairing.json', overwrite=True)
    info = json.loads((run/'run.json').read_text())
    info['settings'] |= words
    info['teacher']['sha256'] = file_sha256(tmp_path/'w.pth')
    info['sha256']['pairing.json'] = file_sha256(run/'pairing.json')
    (run/'run.json').write_text(json.dumps(sealed(info)))
    found = FolderJob.to_export(load_run(run))
    mean, std = map(torch.tensor, found.stats)
    x = (found.x - mean)/std
    with torch.no_grad(): assert torch.allclose(found.nets['teacher'].eval()(x), job.pairing.teacher.eval()(x), atol=1e-6)

def test_what_is_no_distillation_is_not_exported(first, tmp_path, capsys):
    run = shutil.copytree(first[2].path, tmp_path/'run')
    info = json.loads((run/'run.json').read_text())
    del info['job']
    (run/'run.json').write_text(json.dumps(sealed(info)))
    told_in_one_line(['export', str(run), '--out', str(tmp_path/'out')], 'is not a run of demo, distill, recipe, coco', capsys)
    assert not (tmp_path/'out').exists()

# --- loss and adapter

def test_loss_and_adapter_reach_fit_sskd(work, tmp_path, monkeypatch):
    "From the command line's words to the call, for the plan and for the training"
    class Reached(Exception): pass
    asked = {}
    def fit_sskd(self, teacher, epochs, head_epochs, lr, adapter, loss, **kwargs):
        asked.update(adapter=adapter, loss=loss)
        raise Reached
    monkeypatch.setattr(Learner, 'fit_sskd', fit_sskd)
    s = settings(work, adapter='conv_bn', loss='mse')
    assert ['--adapter', 'conv_bn', '--loss', 'mse'] == as_words(s)[-4:]
    job = FolderJob(s)
    job.work_folder = tmp_path
    job.plan()
    with pytest.raises(Reached): job.distill()
    assert asked == dict(adapter='conv_bn', loss=mimic_mse)

def test_loss_and_adapter_are_those_of_before_unless_named(first):
    assert first[2].info['fit_sskd']['loss'] == 'mimic_nmse' and first[2].info['fit_sskd']['adapter'] == 'conv'

# --- pairs from a file

def test_pairs(first, work, tmp_path, capsys):
    "The plan of a run, as it is and edited; one of other networks, and what is none"
    plan = Pairing.load(first[2].path/'pairing.json')
    assert main(line(work, pairs=str(first[2].path/'pairing.json')) + ['--plan']) == 0
    assert '3 pairs' in capsys.readouterr().err
    del plan['ends']['stage1']
    (tmp_path/'mine.json').write_text(json.dumps(plan))
    assert main(line(work, pairs=str(tmp_path/'mine.json')) + ['--plan']) == 0
    err = capsys.readouterr().err
    assert '2 pairs' in err and 'stage1 + stage2' in err
    plan['ends']['stage2'] = 'stage4'
    (tmp_path/'mine.json').write_text(json.dumps(plan))
    told_in_one_line(line(work, pairs=str(tmp_path/'mine.json')) + ['--plan'], 'stage4.*not a stage of the teacher', capsys)
    told_in_one_line(line(work, pairs='nowhere.json') + ['--plan'], 'there is no pairing at nowhere.json', capsys)

def test_the_teachers_pictures_of_a_plan(work, tmp_path):
    "What nothing else says of them is read from the plan"
    (tmp_path/'w.safetensors').write_bytes((work/'teacher.safetensors').read_bytes())
    prepared(settings(work, teacher_size=14, weak_teacher=True)).pairing.save(tmp_path/'mine.json')
    job = prepared(settings(work, pairs=str(tmp_path/'mine.json'), weak_teacher=True))
    assert job.pairing.converter.size == (14, 14)

# --- a mere look

def test_plan_trains_and_writes_nothing(work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(line(work) + ['--plan']) == 0
    err = capsys.readouterr().err
    assert '1x1 conv 4 to 8' in err and 'the teacher is right on' in err and 'GMACs' in err and 'mimic loss' not in err
    assert not list(tmp_path.iterdir())

def test_looking_changes_nothing(work):
    job = prepared(settings(work))
    before = snapshot(job.student, job.pairing.teacher)
    assert job.count().gmacs > 0 and not moved(before, job.student, job.pairing.teacher)

def test_another_normalisation_is_taken_off(work):
    "The teacher of images that were normalized otherwise answers as if it were fed those"
    other = prepared(settings(work, teacher_mean=[0.], teacher_std=[1.], weak_teacher=True))
    x = other.dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    t = other.dls.train.after_batch.fs[-1]
    with torch.no_grad():
        by_hand = other.pairing.staged['teacher'].eval()(x*t.std + t.mean)
        assert torch.allclose(other.pairing.teacher.eval()(x), by_hand, atol=1e-4)

# --- what is wrong

def told_in_lines(args, says, capsys, code=2):
    assert main(args) == code
    out, err = capsys.readouterr()
    err = err.replace('loading PyTorch and fastai ...', '').strip()
    assert re.search(says, err), err
    assert 'Traceback' not in err and out == ''
    return err

def told_in_one_line(*args, **kwargs): assert '\n' not in told_in_lines(*args, **kwargs).split('sskd_tutor distill: ')[-1]

@pytest.mark.parametrize('change, says', [
    (dict(epochs=0), '--epochs is 0'), (dict(lr=-1.), '--lr is -1'), (dict(teacher_mean=[.5]), 'both or neither'),
    (dict(device='warp'), "'warp'"), (dict(teacher_weights=None), '--teacher-weights is missing'),
    (dict(teacher='timm:resnet_10t'), 'did you mean'), (dict(student='resnet18'), "did you mean 'timm:resnet18'"),
    (dict(teacher_weights='nowhere.pth'), 'no weights at nowhere.pth'), (dict(data='nowhere'), 'nowhere is not a folder'),
    (dict(bs=500), 'fewer than a batch'),
    (dict(teacher='tutorial:width=8'), "lacks 'stages.stage1.4.conv1.weight'.*for the folder's 3 classes"),
    (dict(teacher='tutorial:width=16,blocks=1'), r"\(8, 1, 3, 3\), the network's \(16, 1, 3, 3\)"),
    (dict(student='torchvision:resnet18'), r"the student takes 3 channel\(s\), the learner's images have 1.*mode='RGB'"),
    (dict(student='tutorial:width=4,blocks=1,n_out=2'), 'expected 0 to 1'),
    (dict(teacher='tutorial:width=8,blocks=1,n_out=4'), r"the network's \(4"),
    (dict(views=-1), '--views is -1'), (dict(views=2, budget='lots'), "'500 MB'"),
    (dict(views=2, where='cloud'), "where is 'cloud'"), (dict(budget='1 GB'), 'give --views'),
    (dict(loss='nmsse'), "did you mean 'nmse'"), (dict(adapter='lstm'), "adapter is 'lstm'"),
    (dict(valid='test'), 'is not a folder'), (dict(valid='2'), 'expected a share'), (dict(mode='CMYK'), "mode is 'CMYK'")])
def test_bad_use(work, change, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    s = {k: v if isinstance(v, list) else [v] for k, v in (options(work) | change).items() if v is not None}
    words = [str(w) for k, v in s.items() for w in (f"--{k.replace('_', '-')}", *v)]
    told_in_one_line(['distill', *words, '--out', 'run'], says, capsys)
    assert not list(tmp_path.iterdir())

def test_what_is_missing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told_in_one_line(['distill', '--data', 'x'], '--teacher, --student must be given', capsys)
    told_in_one_line(['distill', '--resume', 'nowhere'], 'there is no interrupted run for nowhere', capsys)
    told_in_one_line(['distill', '--resume', 'nowhere', '--seed', '0'], 'leave out --seed', capsys)

def test_corrupt_pictures(work, tmp_path, capsys):
    photos = write(tmp_path/'photos', n=30)
    whole = (photos/'bag/003.png').read_bytes()
    (photos/'bag/003.png').write_bytes(whole[:len(whole)//2])
    (photos/'trouser/004.png').write_bytes(b'no picture')
    says = r'2 of 90 files cannot be read:\n  bag/003.png .*\n  trouser/004.png .*\n.*--skip-corrupt'
    told_in_lines(line(work, data=str(photos)) + ['--plan'], says, capsys)
    assert main(line(work, data=str(photos), skip_corrupt=True) + ['--plan']) == 0
    err = capsys.readouterr().err
    assert all(o in err for o in ('2 of the files', 'bag/003.png', 'trouser/004.png', '70 images to train on'))

@pytest.mark.parametrize('what, says', [('empty', 'holds no images'), ('one', 'no images in'),
                                        ('mixed', "gray and .* color images.*--mode RGB")])
def test_folders(work, what, says, tmp_path, capsys):
    photos = tmp_path/'photos'
    photos.mkdir()
    if what != 'empty': write(photos, n=20)
    if what == 'one': (photos/'zebra').mkdir()
    if what == 'mixed': Image.new('RGB', (28, 28), 'red').save(photos/'bag/red.png')
    told_in_one_line(line(work, data=str(photos)) + ['--plan'], says, capsys)

@pytest.mark.parametrize('known, says', [
    (['sneaker', 'bag', 'trouser'], 'in another order'),
    (['bag', 'coat', 'trouser'], r"only the teacher knows \['coat'\]; only the folder has \['sneaker'\]"),
    (['bag', 'sneaker'], '2 and 3')])
@pytest.mark.parametrize('where', ['header', 'images.json', 'classes.txt'])
def test_class_lists_that_differ(work, known, says, where, tmp_path, capsys):
    teacher = load_weights(build_model('tutorial:width=8,blocks=1,n_out=3'), work/'teacher.safetensors')
    save_weights(teacher, tmp_path/'w.safetensors', dict(classes=known) if where == 'header' else None)
    text = json.dumps(dict(classes=known)) if where == 'images.json' else '\n'.join(known)
    if where != 'header': (tmp_path/where).write_text(text)
    told_in_one_line(line(work, teacher_weights=str(tmp_path/'w.safetensors')) + ['--plan'], says, capsys)

@pytest.mark.parametrize('data, says', [(b'', 'truncated or not a safetensors file'), (b'garbage', 'not a safetensors file')])
def test_damaged_weights(work, data, says, tmp_path, capsys):
    (tmp_path/'w.safetensors').write_bytes(data)
    told_in_one_line(line(work, teacher_weights=str(tmp_path/'w.safetensors')) + ['--plan'], says, capsys)

def test_weights_of_pytorch_and_code_in_them(work, tmp_path, capsys):
    assert prepared(settings(work, teacher_weights=str(work/'teacher.pth'))).teacher_accuracy > 80
    class Runs:
        def __reduce__(self): return (exec, ("raise SystemExit('ran')",))
    torch.save(Runs(), tmp_path/'w.pth')
    told_in_one_line(line(work, teacher_weights=str(tmp_path/'w.pth')) + ['--plan'], 'could run code', capsys)

def test_a_teacher_that_knows_nothing(work, tmp_path, capsys):
    "Also the sign of classes in another order, and of another normalization"
    torch.manual_seed(0)
    save_weights(build_model('tutorial:width=8,blocks=1,n_out=3'), tmp_path/'w.safetensors')
    args = line(work, teacher_weights=str(tmp_path/'w.safetensors')) + ['--plan']
    assert main(args) == 2
    assert re.search(r'the teacher is right on .*--teacher-mean.*--weak-teacher', capsys.readouterr().err)
    assert main(args + ['--weak-teacher']) == 0

def test_a_run_is_not_overwritten(first, work, capsys, monkeypatch):
    monkeypatch.chdir(work)
    before = (work/'runs/first/run.json').read_bytes()
    told_in_one_line(line(work) + ['--out', 'runs/first'], 'holds a run; pass --overwrite', capsys)
    assert (work/'runs/first/run.json').read_bytes() == before and not (work/'runs/.first.checkpoints').exists()

def test_train_and_valid_folders(work, tmp_path):
    for part, n in dict(train=30, val=10).items(): write(tmp_path/f'photos/{part}', n=n)
    job = prepared(settings(work, data=str(tmp_path/'photos')))
    assert (len(job.dls.train_ds), len(job.dls.valid_ds)) == (90, 30)

def test_a_damaged_note_beside_the_weights_is_named(work, tmp_path, capsys):
    (tmp_path/'w.safetensors').write_bytes((work/'teacher.safetensors').read_bytes())
    (tmp_path/'classes.txt').write_bytes(b'\xff\xfe\xcf')
    told_in_one_line(line(work, teacher_weights=str(tmp_path/'w.safetensors')) + ['--plan'], 'classes.txt is damaged', capsys)
