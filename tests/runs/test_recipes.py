"""Published comparisons as files: each parses, builds and plans; small data of the exact format run through; nothing is lost."""
import io, json, os, re, shutil, signal, subprocess
from contextlib import redirect_stderr, redirect_stdout

import pandas as pd
import pytest
import torch

from sskd_tutor.nets.small import cifar_net, cifar_nets
from sskd_tutor.cli import main
from sskd_tutor.data.formats import find_data
from sskd_tutor.nets.words import build_model
from sskd_tutor.runs.coco import CocoJob
from sskd_tutor.runs.job import checkpoints_of, interrupted_job, run
from sskd_tutor.distill.checkpoint import KeepEpochs
from sskd_tutor.runs.labels_job import LabelsJob, recipe_dls
from sskd_tutor.runs.recipe import beside, RecipeJob, RecipeSettings, unlike, weights_file
from sskd_tutor.runs.recipe_file import read_recipe, recipe_folder, recipes, table_md
from sskd_tutor.runs.saved import load_run
from sskd_tutor.nets.weights import load_weights, save_weights
from sskd_tutor.core.files import sealed
from sskd_tutor.core.state import tensors_sha256
from sskd_tutor.core.tables import records
from helpers.command import call, cmd, env
from test_folder_job import full_disk
from helpers.files import wnids, write_cifar, write_folders, write_imagenet

torch.set_num_threads(1)
quiet = lambda *_: None
ours = [n for n in recipes() if read_recipe(n)['task'] == 'classification']

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "All sets in one folder, as SSKD_DATA would name it"
    top = tmp_path_factory.mktemp('data')
    write_cifar(top/'cifar-100-binary', n=64, n_test=32)
    for n in ('imagenette2-160', 'imagewoof2-160'):
        write_folders(top/n, dict(train=range(60), val=range(60, 90)), 'JPEG', names=wnids)
    write_imagenet(top/'imagenet', 'kaggle')
    return top

# --- the networks of the benchmark

def conv(a, b, k=3): return k*k*a*b

def by_hand(name, c=3, n_out=100):
    "Weights, layer by layer as they are drawn in the papers, without PyTorch"
    if name.startswith('vgg'):
        total = 0
        for w in (64, 128, 256, 512, 512):
            for _ in range(2 if name == 'vgg13' else 1): total, c = total + conv(c, w) + w + 2*w, w
        return total + c*n_out + n_out
    depth, x4 = int(re.findall(r'\d+', name)[0]), name.endswith('x4')
    if name.startswith('wrn'):
        total, a = conv(c, 16), 16
        for w in (32, 64, 128):
            for i in range((depth - 4)//6):
                total += 2*a + conv(a, w) + 2*w + conv(w, w) + (conv(a, w, 1) if a != w else 0)
                a = w
        return total + 2*a + a*n_out + n_out
    a = 32 if x4 else 16
    total = conv(c, a) + 2*a
    for w in (64, 128, 256) if x4 else (16, 32, 64):
        for i in range((depth - 2)//6):
            total += conv(a, w) + 2*w + conv(w, w) + 2*w + (conv(a, w, 1) + 2*w if a != w else 0)
            a = w
    return total + a*n_out + n_out

@pytest.mark.parametrize('name', cifar_nets)
def test_weights_counted_by_hand(name):
    net = build_model(f'cifar:{name}')
    assert sum(p.numel() for p in net.parameters()) == by_hand(name)
    sizes = [s[1:] for s in net.stage_table(torch.zeros(1, 3, 32, 32))['shape'][:-1]]
    assert sizes == [(32, 32), (16, 16), (8, 8), (4, 4)][:len(sizes)] and len(sizes) == (4 if 'vgg' in name else 3)

def test_a_wide_block_is_the_published_one():
    "Cut after a ReLU, the network computes what blocks compute that begin with their batch norm, as the paper draws them"
    net, x = cifar_net('wrn_16_2').eval(), torch.randn(2, 3, 32, 32)
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d): torch.nn.init.uniform_(m.weight), torch.nn.init.uniform_(m.bias)
    stem, *parts = [m for s in net.stages.values() for m in s]  # three times norm, ReLU, two blocks; norm, ReLU
    y = stem(x)
    for norm, _, wide, block in zip(*[iter(parts[:12])]*4):
        conv1, norm2, _, conv2 = wide.body
        a = norm(y).relu()
        y = conv2(norm2(conv1(a)).relu()) + wide.shortcut(a)
        conv1, norm2, _, conv2 = block.body
        y = conv2(norm2(conv1(block.before[0](y).relu())).relu()) + y
    assert torch.allclose(net.head(parts[12](y).relu()), net(x), atol=1e-5)

# --- the files

def recipe_job(recipe, data=None, **given):
    "A recipe's job, from its name, its file or what was read"
    r = recipe if isinstance(recipe, dict) else read_recipe(recipe)
    return RecipeJob(RecipeSettings(r['name'], data, **given), recipe=r)

def students(job):
    "The images that the students see"
    return recipe_dls(job.student_settings(None), quiet)

def test_there_are_recipes(): assert len(ours) >= 8

facts = dict(resnet56_resnet20=(72.34, 69.06, 70.66, 69.21, 71.16, 71.97, 72.33),
             resnet32x4_resnet8x4=(79.42, 72.50, 73.33, 73.50, 75.51, 76.32, 78.28),
             wrn40_2_wrn16_2=(75.61, 73.26, 74.92, 73.58, 75.48, 76.24, 76.95),
             vgg13_vgg8=(74.64, 70.36, 72.98, 71.02, 73.94, 74.68, 75.22))
protocol = dict(opt='sgd', lr=.05, epochs=240, bs=64, wd=5e-4, drops=[150, 180, 210])

def test_published_numbers():
    "Those that were verified, none else, each with epoch and source; the stagewise paper's never without the word on its teacher"
    for pair, numbers in facts.items():
        r = read_recipe(f'cifar100_{pair}')
        assert [a for _, a, _, _ in r['published']['rows']] == list(numbers)
        assert [e for _, _, e, _ in r['published']['rows']] == ['last']*5 + ['best']*2
        assert r['train'] == protocol
    nette = read_recipe('imagenette_resnet34_resnet10')['published']
    assert [a for _, a, _, _ in nette['rows']] == [91.8, 97.4, 84.8, 95.4]
    assert 'very likely pretrained on ImageNet' in nette['remark']
    for n in ours:
        if not n.startswith(('cifar100', 'imagenette')): assert read_recipe(n)['published']['rows'] == []

@pytest.mark.parametrize('name', ours)
def test_each_parses_builds_and_plans(name, data, capsys):
    "Networks, data, pairs and costs, without any weights; teacher and student have as many stages"
    pixels = [] if 'cifar' in name else ['--size', '64']
    line = ['recipe', name, '--data', str(data), '--plan', '--bs', '4', '--device', 'cpu', *pixels]
    r = read_recipe(name)
    assert main(line) == 0
    told = capsys.readouterr().err
    n = (4 if 'vgg' in name else 3) if 'cifar' in name else 5
    assert f"{n} stages; student" in told and f"{n} stages: {n} pairs" in told and 'GMACs' in told
    said = 'weights ResNet' if r.get('teacher_weights') else f"{r['train']['epochs']} epochs, {r['train']['opt']}"
    assert said in told and re.search(rf"^stage1 +{r['distill']['epochs']} +images", told, re.M)

def test_weights_of_torchvision(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    assert weights_file('ResNet34_Weights.IMAGENET1K_V1', fetch=False).parent == tmp_path/'checkpoints'
    def offline(url, path, prefix, progress): raise OSError(f'no network for {prefix}')
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    with pytest.raises(OSError,
        match='could not be fetched from https://.*resnet34-.*no network for [0-9a-f]{8}.*teacher_weights'):
        weights_file('ResNet34_Weights.IMAGENET1K_V1')
    (tmp_path/'checkpoints/resnet34-b627a593.pth').write_bytes(b'x')
    assert weights_file('ResNet34_Weights.IMAGENET1K_V1').name == 'resnet34-b627a593.pth'

# --- from end to end

smaller = {'cifar:resnet56': 'tutorial:width=8,blocks=1,c_in=3', 'cifar:resnet20': 'tutorial:width=4,blocks=1,c_in=3'}
def tiny_recipe(folder):
    "The recipe of ResNet-56 and 20, with networks that a test can wait for"
    text = (recipe_folder/'cifar100_resnet56_resnet20.toml').read_text()
    for old, new in smaller.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    folder.mkdir(exist_ok=True)
    (folder/'tiny.toml').write_text(text)
    return folder/'tiny.toml'

def tiny_line(folder, data):
    numbers = '--epochs 1 --head-epochs 3 --train-epochs 4 --bs 16 --labels-only --weak-teacher --device cpu'
    return ['recipe', str(tiny_recipe(folder)), '--data', str(data), *numbers.split()]

@pytest.fixture(scope='module')
def first(data, tmp_path_factory):
    work, out, err = tmp_path_factory.mktemp('work'), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err): assert main([*tiny_line(work, data), '--out', str(work/'out'),
        '--json']) == 0
    return work, err.getvalue(), json.loads(out.getvalue())

def accuracy_of(net, dls): return 100*torch.cat([(net(x).argmax(1) == y).float() for x, y in dls.valid]).mean().item()

def test_the_table(first, data):
    "Ours are the accuracies of the saved networks, last epoch; theirs stand beside, and that the two are unlike is said"
    work, err, summary = first
    rows = {r['network']: r for r in summary['rows']}
    assert [r['published'] for r in summary['rows']] == [*facts['resnet56_resnet20'], None]
    job = recipe_job(work/'tiny.toml', data, bs=16, device='cpu')
    s, images = job.recipe, students(job)
    for where, who in dict(teacher='teacher', labels_only='labels only', student='stage by stage, this package').items():
        word = s['teacher'] if where == 'teacher' else s['student']
        net = load_weights(build_model(f'{word},n_out=10'), work/'out'/where/'student.safetensors').eval()
        history = load_run(work/'out'/where).history.query("measure == 'accuracy'").value
        assert rows[who]['last'] == pytest.approx(accuracy_of(net, images), abs=.01)
        assert rows[who]['best'] == pytest.approx(100*history.max(), abs=.01) and len(history) == (3 if where == 'student' else 4)
    assert rows['KD'] == dict(network='KD', published=70.66, epoch='last', source='RepDistiller', last=None, best=None)
    text = (work/'out/table.md').read_text()
    assert '**Not comparable**: this run has 64 training images, not 50,000; 32 images to evaluate on, not 10,000;' in text
    assert '| KD | 70.66 | last | RepDistiller | – | – |' in text and 'it flatters' in text and text.strip() in err
    assert pd.read_csv(work/'out/table.csv').network.tolist() == list(rows)

def test_what_is_left(first):
    work, err, _ = first
    left = 'teacher labels_only student recipe.toml settings.json run.json metrics.csv report.html table.md table.csv'
    assert {f.name for f in (work/'out').iterdir()} == {*left.split()}
    run = load_run(work/'out/student')
    assert run.info['teacher']['labels_seen'] == 64 and 'has seen 64 labels' in (run.path/'report.html').read_text()
    assert (run.path/'export/student.safetensors').exists() and run.info['settings']['loss'] == 'nmse'
    assert [len(re.findall(f'^{n} +\\d/', err, re.M)) for n in ('labels only', 'stage1', 'head')] == [8, 1, 3]

def killed(line, cwd, at):
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p = subprocess.Popen([*cmd, *line], cwd=cwd, env=env, text=True, **pipes)
    for row in p.stderr:
        if re.match(at, row): break
    p.send_signal(signal.SIGKILL)
    p.communicate(timeout=60)
    assert p.returncode == -signal.SIGKILL

@pytest.mark.slow
def test_kill_and_resume(first, data, tmp_path):
    "Killed while it distills, it goes on and ends with the same networks and table; the command line names the way"
    work, _, whole = first
    killed([*tiny_line(tmp_path, data), '--out', 'out'], tmp_path, 'stage2 +1/1 ')
    again = call(*tiny_line(tmp_path, data), '--out', 'out', cwd=tmp_path)
    assert again.returncode == 2 and 'go on with --resume out' in again.stderr
    p = call('recipe', '--resume', 'out', '--json', cwd=tmp_path)
    assert p.returncode == 0, p.stderr
    assert json.loads(p.stdout)['rows'] == whole['rows'] and 'labels only' not in ''.join(re.findall('^.*1/4.*$', p.stderr, re.M))
    for n in ('teacher', 'labels_only', 'student'):
        assert load_run(tmp_path/'out'/n).info['student_sha256'] == load_run(work/'out'/n).info['student_sha256']

def test_settings_survive_a_full_disk(data, tmp_path, monkeypatch, capsys):
    "Going on writes neither settings nor recipe; cut-off settings are told with a cure"
    job = recipe_job(tiny_recipe(tmp_path), data, bs=16, device='cpu')
    def stop(self): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(RecipeJob, 'train_teacher', stop)
        with pytest.raises(KeyboardInterrupt): run(job, tmp_path/'out')
    path = checkpoints_of(tmp_path/'out')/'settings.json'
    begun = path.read_bytes(), path.stat().st_ino
    (tmp_path/'tiny.toml').unlink()  # the run has its own copy
    with full_disk(): again = interrupted_job(tmp_path/'out', [RecipeJob, CocoJob])
    assert (path.read_bytes(), path.stat().st_ino) == begun
    assert again.settings == job.settings and again.recipe == job.recipe
    path.write_bytes(begun[0][:10])
    assert main(['recipe', '--resume', str(tmp_path/'out')]) == 2
    assert re.search(r'settings.json is not whole .*Put them there again.*--overwrite', capsys.readouterr().err)

def test_a_teacher_that_was_interrupted_goes_on(first, data, tmp_path, monkeypatch):
    work, whole = first[0], load_run(first[0]/'out/teacher')
    job = recipe_job(work/'tiny.toml', data, train_epochs=4, bs=16, device='cpu')
    def teacher():
        labels = LabelsJob(job.labels_settings(job.recipe['teacher']))
        labels.every = 0
        return labels
    def stop(self):
        if self.training and self.epoch == 2: raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(KeepEpochs, 'after_batch', stop, raising=False)
        with pytest.raises(KeyboardInterrupt): run(teacher(), tmp_path/'teacher')
    lines = []
    class Counted(KeepEpochs):
        def before_epoch(self): lines.append(self.epoch), super().before_epoch()
    monkeypatch.setattr('sskd_tutor.runs.labels_job.KeepEpochs', Counted)
    again = run(teacher(), tmp_path/'teacher', resume=True)
    assert lines == [2, 3] and again.info['student_sha256'] == whole.info['student_sha256']
    assert again.history.equals(whole.history) and not (tmp_path/'.teacher.checkpoints').exists()

@pytest.mark.slow
def test_weights_instead_of_training(first, data, tmp_path):
    "A teacher that is given is read, not trained, and has no best epoch; here with remembered views and in bfloat16"
    work, text = first[0], (first[0]/'tiny.toml').read_text()
    (tmp_path/'mine.toml').write_text(text.replace('head_epochs = 40', 'head_epochs = 40\nviews = 2\nbf16 = true'))
    weights = str(work/'out/teacher/student.safetensors')
    job = recipe_job(tmp_path/'mine.toml', data, epochs=3, head_epochs=1, bs=16, teacher_weights=weights, weak_teacher=True, device='cpu')
    result = run(job, tmp_path/'out')
    assert not (tmp_path/'out/teacher').exists() and f'its weights are {weights}' in str(result)
    row = next(r for r in result.info['rows'] if r['network'] == 'teacher')
    assert row['last'] == pytest.approx(first[2]['rows'][0]['last'], abs=4) and row['best'] is None
    info = load_run(tmp_path/'out/student').info
    assert info['stages'][1]['bytes'] > 0 and f'recipe {tmp_path}/mine.toml' in job.command()

def test_the_real_thing_is_comparable(first):
    "With the sizes of [real] and the recipe's own settings, nothing is said against the comparison"
    r = read_recipe('cifar100_vgg13_vgg8')
    info = dict(data=dict(n_train=50_000, n_valid=10_000), images=dict(classes=['c']*100))
    job = recipe_job(r, 'nowhere', labels_only=True, seed=3, device='cpu')
    s, rows = job.settings, records(beside(r, first[0]/'out'))
    assert unlike(r, s, info) == [] and 'Not comparable' not in table_md(r, rows, [], job.command())
    assert unlike(r, RecipeSettings(r['name'], train_epochs=24, device='cpu'), info) == ['other settings (train_epochs 24)']
    assert unlike(r, s, info | dict(images=dict(classes=['c']*20))) == ['20 classes, not 100']

@pytest.mark.slow
@pytest.mark.parametrize('name', ours)
def test_each_runs_to_the_end(name, data, tmp_path):
    "One epoch of everything, with the recipe's own networks, on small files of the exact format"
    r = read_recipe(name)
    given = {}
    if r.get('teacher_weights'):
        given['teacher_weights'] = str(tmp_path/'w.safetensors')
        save_weights(build_model(r['teacher'] + ':num_classes=10'), given['teacher_weights'])
    job = recipe_job(r, data, quick=True, bs=16, size=None if 'cifar' in name else 64, labels_only=True, device='cpu', **given)
    result = run(job, tmp_path/'out')
    assert pd.DataFrame(result.info['rows']).set_index('network').loc[['labels only', 'stage by stage, this package'], 'last'].between(0, 100).all()

# --- a share of the images, and files that are cut short

def test_a_share(first, data, tmp_path):
    "For the students, not for the teacher; told above the table; the rows are those that are published for a quarter"
    r = read_recipe('imagenette_resnet34_resnet10')
    job = recipe_job(r, data, share=.25, size=32, bs=4, device='cpu')
    s, counts = job.settings, students(job).train_ds.images.y.bincount().tolist()
    whole = students(recipe_job(r, data, size=32, bs=4, device='cpu')).train_ds.images.y.bincount().tolist()
    assert counts == [round(.25*n) for n in whole] and '--share 0.25' in job.command()
    info = dict(data=dict(n_train=2_367, n_valid=3_925), images=dict(classes=['c']*10))
    assert '2,367 training images, not 9,469' in unlike(r, s, info) and any('share 0.25' in w for w in unlike(r, s, info))
    out = shutil.copytree(first[0]/'out', tmp_path/'out')
    found = json.loads((out/'student/run.json').read_text())
    found['settings']['share'] = .25
    (out/'student/run.json').write_text(json.dumps(sealed(found)))
    rows = beside(r, out).set_index('network')
    assert rows.loc['labels only, a quarter of the data', ['published', 'last']].notna().all()
    assert pd.isna(rows['last']['labels only'])
    assert 'stage by stage, this package, a quarter of the data' in rows.index

def test_the_share_of_a_recipe(data, tmp_path):
    text = (recipe_folder/'imagenette_resnet34_resnet10.toml').read_text()
    (tmp_path/'mine.toml').write_text(text.replace('size = 160\n', 'size = 160\nshare = 0.5\n'))
    own, less, odd = (recipe_job(tmp_path/'mine.toml', data, share=n, bs=4, device='cpu') for n in (None, .1, 2))
    assert (own.share(), less.share()) == (.5, .1) and 'share' not in own.settings.changed(['share'])
    with pytest.raises(ValueError, match='share is 2; expected'): students(odd)

@pytest.mark.slow
def test_a_share_to_the_end(first, data, tmp_path):
    r = read_recipe(first[0]/'tiny.toml')
    once = dict(epochs=1, head_epochs=1, train_epochs=1, bs=16)
    result = run(recipe_job(r, data, **once, labels_only=True, weak_teacher=True, share=.5, device='cpu'), tmp_path/'out')
    n = {k: load_run(tmp_path/'out'/k).info['data']['n_train'] for k in ('teacher', 'labels_only', 'student')}
    assert n['teacher'] == 64 and n['labels_only'] == n['student'] <= 36 and 'share 0.5' in str(result)
    assert load_run(tmp_path/'out/student').info['teacher']['labels_seen'] == 64
    assert pd.DataFrame(result.info['rows']).set_index('network')['last'][['labels only, 50 % of the data', 'teacher']].notna().all()

def test_cut_short_and_left_out(data, tmp_path, capsys):
    "Its header is sound, so it is met in a batch; with --skip-corrupt all are decoded before, and it is listed"
    shutil.copytree(data/'imagenette2-160', tmp_path/'imagenette2-160')
    path = sorted((tmp_path/'imagenette2-160/train').glob('*/*.JPEG'))[3]
    path.write_bytes(path.read_bytes()[:-150])
    name, r = f'train/{path.parent.name}/{path.name}', read_recipe('imagenette_resnet34_resnet10')
    given = dict(data=tmp_path, size=32, bs=4, device='cpu')
    late, sound = (students(recipe_job(r, skip_corrupt=o, **given)).train.new(drop_last=False) for o in (False, True))
    with pytest.raises(ValueError, match=f'{name} cannot be read .*truncated'): sum(len(y) for _, y in late)
    assert sum(len(y) for _, y in sound) == 59
    line = ['recipe', r['name'], '--data', str(tmp_path), '--plan', '--size', '64', '--bs', '4', '--device', 'cpu']
    assert main([*line, '--skip-corrupt']) == 0
    err = capsys.readouterr().err
    assert '1 of the files in ' in err and f'are left out:\n  {name} (OSError' in err and '59 images to train on' in err
    path.write_text('no picture')
    told(line, fr'1 of 60 files cannot be read:\n  {name} .*--skip-corrupt', capsys)

# --- the folder from the environment

def test_data_from_the_environment(data, monkeypatch, capsys):
    monkeypatch.setenv('SSKD_DATA', str(data))
    assert main('recipe cifar100_vgg13_vgg8 --plan --bs 4 --device cpu'.split()) == 0
    assert '64 images to train on' in capsys.readouterr().err
    assert recipe_job('cifar100_vgg13_vgg8', device='cpu').settings.data == str(data)
    assert recipe_job('cifar100_vgg13_vgg8', 'elsewhere', device='cpu').settings.data == 'elsewhere'  # goes first

def test_cocos_data_from_the_environment(monkeypatch, tmp_path):
    from sskd_tutor.runs.coco import CocoSettings
    monkeypatch.setenv('SSKD_DATA', str(tmp_path))
    for given, data in ((None, str(tmp_path)), ('elsewhere', 'elsewhere')):
        job = CocoJob(CocoSettings('coco_resnet50_resnet18', given, device='cpu'))
        assert job.settings.data == data

def real(name):
    "The folder of a recipe's set, if SSKD_DATA holds it"
    try: return find_data(read_recipe(name)['data'], os.environ['SSKD_DATA'])
    except (KeyError, OSError, ValueError): return None

@pytest.mark.slow
@pytest.mark.parametrize('name', ours)
def test_the_real_sets(name, tmp_path):
    "Where they are: as many images and classes as the recipe says, and a short run, with a teacher of random weights"
    if not real(name): pytest.skip(f"SSKD_DATA names no folder with the real {read_recipe(name)['data']}")
    r = read_recipe(name)
    ten = ':num_classes=10' if r['data'] in ('imagenette', 'imagewoof') else ''
    save_weights(build_model(r['teacher'] + ten), tmp_path/'w.safetensors')
    given = dict(quick=True, bs=16, size=None if 'cifar' in name else 64, teacher_weights=str(tmp_path/'w.safetensors'))
    job = recipe_job(r, **given)
    job.plan()
    found = job.student
    assert dict(train=len(found.dls.train_ds), valid=len(found.dls.valid_ds), classes=len(found.classes)) == r['real']
    result = run(recipe_job(r, **given, share=2_000/r['real']['train'], labels_only=True), tmp_path/'out')
    assert 'classes, not' not in str(result) and sum(row['last'] is not None for row in result.info['rows']) == 3

def test_detection_is_sent_on(monkeypatch, tmp_path):
    "COCO's recipe goes to the detection job, with the settings that it knows"
    seen = []
    monkeypatch.setattr(CocoJob, 'plan', lambda self: seen.append(self))
    line = f'recipe coco_resnet50_resnet18 --data {tmp_path} --quick --bs 2 --size 64 --device cpu --teacher-weights w.pth --plan'
    assert main(line.split()) == 0
    job, = seen
    assert (job.settings.data, job.settings.teacher_weights) == (str(tmp_path), 'w.pth')
    want = dict(epochs=1, head_epochs=1, bs=2, min_size=64, max_size=107)
    assert {k: job.numbers()[k] for k in want} == want and job.numbers()['lr'] == job.recipe['distill']['lr']

# --- what is wrong

def told(args, says, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    err = err.replace('loading PyTorch and fastai ...', '').strip()
    assert re.search(says, err, re.S), err
    assert 'Traceback' not in err and out == ''

@pytest.mark.parametrize('args, says', [
    (['recipe', 'cifar100_vgg13_vgg9'], "no recipe 'cifar100_vgg13_vgg9'; did you mean 'cifar100_vgg13_vgg8'"), (['recipe',
        'cifar100_vgg13_vgg8'], 'no data; name the folder of cifar100 with --data'),
    (['recipe', 'imagewoof_resnet34_resnet10', '--data', '.'], 'holds no imagewoof2-160 and no'), (['recipe',
        'cifar100_vgg13_vgg8', '--data', 'nowhere'], 'nowhere is not there'),
    (['recipe', '--resume', 'nowhere'], 'no interrupted run for nowhere'), (['recipe', 'x', '--resume', 'y'], 'leave out x'),
    (['recipe', '--resume', 'y', '--seed', '3'], 'leave out --seed'), (['recipe', 'coco_resnet50_resnet18',
        '--data', '.', '--train-epochs', '3'], 'takes no --train-epochs'),
    (['recipe', 'coco_resnet50_resnet18', '--data', '.', '--share', '.5'], 'takes no --share'),
    (['recipe', 'coco_resnet50_resnet18'], "name COCO's folder with --data"), (['recipe', 'bad.toml'], 'bad.toml is not TOML')])
def test_bad_use(args, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('SSKD_DATA', raising=False)
    (tmp_path/'bad.toml').write_text('title = ')
    told(args, says, capsys)
    assert [p.name for p in tmp_path.iterdir()] == ['bad.toml']

@pytest.mark.parametrize('old, new, says', [
    ('data = "cifar100"', 'data = "cifar"', "data is 'cifar'; did you mean"), ('epochs = 240', 'epochs = 0',
        'epochs is 0; expected a positive number'), ('opt = "sgd"', 'opt = "sdg"', "did you mean 'sgd'"),
    ('crop = 4', 'crop = "4"', "crop is '4'; expected a whole number"), ('[real]', '[reel]',
        "has 'reel'; did you mean 'real'"), ('lr = 0.05', '', r'\[train\] lacks lr'),
    ('["KD", 70.66, "last", "RepDistiller"]', '["KD", 70.66]', 'expected .network, accuracy'), ('size = 32', 'size = 32.5',
        'size is 32.5; expected a whole number'),
    ('head_epochs = 40', 'head_epochs = 40\nloss = "l2"', "loss is 'l2'")])
def test_recipes_that_cannot_be_read(old, new, says, tmp_path):
    text = (recipe_folder/'cifar100_resnet56_resnet20.toml').read_text()
    assert old in text
    (tmp_path/'mine.toml').write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=says): read_recipe(tmp_path/'mine.toml')

def test_data_that_are_damaged_are_told_before_anything_trains(data, tmp_path, capsys):
    shutil.copytree(data/'cifar-100-binary', tmp_path/'cifar')
    (tmp_path/'cifar/train.bin').write_bytes((data/'cifar-100-binary/train.bin').read_bytes()[:-1])
    told([*tiny_line(tmp_path, tmp_path/'cifar'), '--out', str(tmp_path/'out')], 'train.bin is cut short', capsys)
    assert not (tmp_path/'out').exists()

def test_a_teacher_that_has_learnt_nothing(data, tmp_path, capsys):
    line = [a for a in tiny_line(tmp_path, data) if a != '--weak-teacher']
    save_weights(build_model('tutorial:width=8,blocks=1,c_in=3'), tmp_path/'w.safetensors')
    told([*line, '--teacher-weights', str(tmp_path/'w.safetensors'), '--out', str(tmp_path/'out')],
        'the teacher is right on .*images.json.*--train-epochs.*--teacher-weights.*--weak-teacher', capsys)

def test_looking_trains_nothing(data, tmp_path):
    job = recipe_job(tiny_recipe(tmp_path), data, bs=16, device='cpu')
    job.plan()
    before = tensors_sha256(job.student.student)
    job.plan()
    assert tensors_sha256(job.student.student) == before and [p.name for p in tmp_path.iterdir()] == ['tiny.toml']
