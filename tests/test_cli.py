"""The command line as a user meets it: real commands, their exit codes, what they print and leave behind."""
import json, re, resource, shlex, signal, subprocess, sys
from dataclasses import replace
from pathlib import Path

import pytest

import sskd_tutor
from sskd_tutor.cli import main
from sskd_tutor.runs.demo import DemoJob
from sskd_tutor.runs.job import checkpoints_of, interrupted_job
from sskd_tutor.runs.lesson_files import copy_lessons
from sskd_tutor.runs.saved import load_run
from sskd_tutor.core.state import tensors_sha256
from sskd_tutor.nets.weights import load_weights
from sskd_tutor.nets.small import tutorial_resnet
from helpers.command import call, cmd, env
from conftest import root

tiny = ['--images', '130', '--epochs', '1', '--head-epochs', '1', '--device', 'cpu']

@pytest.fixture(scope='module')
def first(tmp_path_factory):
    "A tiny demo: (finished process, its JSON line, folder in which it ran)"
    cwd = tmp_path_factory.mktemp('demo')
    p = call('demo', *tiny, '--seed', 3, '--out', 'runs/first', '--json', cwd=cwd)
    assert p.returncode == 0, p.stderr
    return p, json.loads(p.stdout.splitlines()[-1]), cwd

# --- demo

def test_demo_json(first):
    p, table, cwd = first
    assert len(p.stdout.splitlines()) == 1  # nothing but the table, so that `| jq` works
    for k in ('teacher', 'labels_only', 'distilled'): assert 0 <= table[k] <= 100
    assert table['teacher'] > 80
    assert [r['stage'] for r in table['stages']] == ['stage1', 'stage2', 'stage3']
    assert all(r['mimic_loss'] > 0 and 0 <= r['stitched'] <= 100 for r in table['stages'])
    assert table['folder'] == str(Path('runs/first')) and table['seconds'] > 0
    assert table['gmacs']['labels_only'] == pytest.approx(table['gmacs']['distilled'], rel=.25)  # whole epochs of a short run

def test_demo_says_what_it_does(first):
    err = first[0].stderr
    assert '130 images, seed 3' in err and 'has seen 60,000 labels' in err
    for row in (r'stage1\s+1/1\s+mimic loss \d', r'stage3\s+1/1.*stitched', r'head\s+1/1.*accuracy',
                r'labels only.*\[100 %, done\]'):
        assert re.search(row, err), row
    assert '\r' not in err and '\x1b' not in err  # a log, not a terminal
    assert all(f'{first[1][k]:.2f} %' in err for k in ('teacher', 'labels_only', 'distilled')) and 'Traceback' not in err

def test_demo_leaves_a_run(first):
    run = load_run(first[2]/'runs/first')
    assert 'multiply-adds, 10⁹, planned' in (run.path/'report.html').read_text()
    assert all(r['planned_seconds'] > 0 and r['planned_gmacs'] == pytest.approx(r['gmacs']) for r in run.info['stages'])
    left = {'student.safetensors', 'metrics.csv', 'settings.json', 'run.json', 'report.html', 'alignment.csv', 'alignment.json', 'alignment.npz', 'look.json'}
    assert set(run.info['files']) == left == {f.name for f in run.path.iterdir()}
    student = load_weights(tutorial_resnet(width=32, blocks=1), run.path/'student.safetensors')
    assert tensors_sha256(student) == run.info['student_sha256'] == first[1]['student_sha256']
    assert set(run.history.phase) == {'mimic', 'head', 'labels_only'}
    for k in ('settings', 'environment', 'data', 'teacher', 'sha256', 'cost', 'seconds', 'command'): assert run.info[k], k
    assert run.info['settings']['seed'] == 3 and run.info['environment']['sskd_tutor'] == sskd_tutor.__version__

@pytest.mark.slow
def test_the_same_run_again(first):
    "run.json is enough to get the same student, to the bit"
    p = call('demo', '--like', 'runs/first/run.json', '--out', 'runs/again', '--json', cwd=first[2])
    assert p.returncode == 0, p.stderr
    table = json.loads(p.stdout)
    assert table['repeats']['same_bits'] and table['student_sha256'] == first[1]['student_sha256']
    assert table['labels_only'] == first[1]['labels_only'] and 'is the same as' in p.stderr
    a, b = (load_run(first[2]/'runs'/n).history.query("measure != 'seconds'").reset_index(drop=True) for n in ('first', 'again'))
    assert a.equals(b)

def test_demo_never_overwrites_untold(first):
    p = call('demo', *tiny, '--out', 'runs/first', cwd=first[2])
    assert p.returncode == 2 and '--overwrite' in p.stderr and 'Traceback' not in p.stderr and 'stage1' not in p.stderr
    assert load_run(first[2]/'runs/first').info['settings']['seed'] == 3

def test_ctrl_c_and_resume(first, tmp_path):
    "An interrupted demo is not lost: the command that goes on is named, and ends with the student of an unbroken run"
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell ignore SIGINT
    args = ['demo', *tiny, '--seed', '3']
    p = subprocess.Popen([*cmd, *args, '--out', 'runs/x'], cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, preexec_fn=listen)
    for line in p.stderr:
        if line.startswith('stage2'): break
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and 'go on with: sskd_tutor demo --resume runs/x' in err and 'Traceback' not in err
    assert {f.relative_to(tmp_path).parts[:2] for f in tmp_path.rglob('*') if f.is_file()} == {('runs', '.x.checkpoints')}
    again = call(*args, '--out', 'runs/x', cwd=tmp_path)
    assert again.returncode == 2 and '--resume' in again.stderr and 'stage1' not in again.stderr
    other = call('demo', '--resume', 'runs/x', '--seed', 5, cwd=tmp_path)
    assert other.returncode == 2 and 'leave out --seed' in other.stderr
    moved = call('demo', '--resume', 'runs/x', '--out', 'runs/y', cwd=tmp_path)
    assert moved.returncode == 2 and 'leave out --out' in moved.stderr
    resumed = call('demo', '--resume', 'runs/x', '--json', cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    table = json.loads(resumed.stdout)
    assert all(table[k] == first[1][k] for k in ('student_sha256', 'distilled', 'labels_only', 'stages'))
    trained = re.findall(r'^(\S+) +1/1 ', resumed.stderr, re.M)
    assert 'stage3' in trained and 'stage1' not in trained
    assert not (tmp_path/'runs/.x.checkpoints').exists()

def test_a_repeated_run_that_was_interrupted_is_compared_too(first, monkeypatch, capsys):
    "Going on forgot which run it repeats, and its number of threads; a space in its folder broke the line to repeat it"
    monkeypatch.chdir(first[2])
    def interrupt(self): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(DemoJob, 'distill', interrupt)
        assert main(['demo', '--like', 'runs/first', '--out', 'runs/the second']) == 130
    job = interrupted_job('runs/the second', [DemoJob])
    assert job.threads == load_run('runs/first').info['environment']['threads']
    assert main(['demo', '--resume', 'runs/the second', '--json']) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)['repeats']['same_bits'] and 'the same as that of the run that it repeats' in err
    again = shlex.split(load_run('runs/the second').info['command'])
    assert again == ['sskd_tutor', 'demo', '--like', 'the second/run.json']

def test_a_link_to_a_folder_has_its_checkpoints(tmp_path):
    "With `--out` a link, an interrupted run was not found again"
    (tmp_path/'disk').mkdir()
    (tmp_path/'link').symlink_to(tmp_path/'disk')
    assert checkpoints_of(tmp_path/'link') == checkpoints_of(tmp_path/'disk')

def test_demo_plan_trains_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['demo', *tiny, '--plan', '--json']) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)['gmacs'] > 0 and 'plan      1 epoch a stage' in err and 'mimic loss' not in err
    assert not list(tmp_path.iterdir())

def test_runs_of_the_first_version_are_refused(tmp_path, monkeypatch, capsys):
    "One sentence each: its run folder, its checkpoint, and where a new run would take its place"
    monkeypatch.chdir(tmp_path)
    (tmp_path/'.x.checkpoints').mkdir()
    (tmp_path/'.x.checkpoints/demo.json').write_text('{"n": 200}')
    (tmp_path/'old').mkdir()
    for name in ('student.safetensors', 'metrics.csv'): (tmp_path/'old'/name).touch()
    (tmp_path/'old/run.json').write_text('{"format": 1}')
    for line, says in (('demo --resume x', 'written by sskd_tutor 0.1.*--overwrite'), ('demo --out x', 'was interrupted.*--overwrite'),
                       ('demo --like old', 'written by sskd_tutor 0.1'), ('export old --out new', 'written by sskd_tutor 0.1'),
                       ('demo --out old --overwrite', 'written by sskd_tutor 0.1')):
        assert main(line.split()) == 2
        err = capsys.readouterr().err.replace('loading PyTorch and fastai ...', '').strip()
        assert re.search(says, err) and '\n' not in err, err

def test_as_a_module(tmp_path):
    p = subprocess.run([sys.executable, '-m', 'sskd_tutor', '--version'], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert p.stdout.split() == ['sskd_tutor', sskd_tutor.__version__]

# --- plan

def test_plan(capsys):
    line = ('plan --student tutorial:width=4,blocks=1 --teacher tutorial:width=8,blocks=1 --images 600 --valid 100 '
            '--bs 50 --epochs 6 --device cpu')
    assert main(line.split() + ['--budget', '20 MB', '--gpus', '4', '--json']) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [r['phase'] for r in plan['phases']] == ['stage1', 'stage2', 'stage3', 'head']
    assert 0 < plan['bytes'] <= plan['budget'] == 20e6 and plan['seconds'] > 0 and plan['memory'] > plan['bytes']
    assert plan['labels_only_gmacs'] < plan['gmacs'] < plan['published_gmacs']
    params = 388, 1088, 4224, 170  # a ring of four sends each float32 gradient 2 x 3/4 times
    assert all(r["on_4_wire_bytes"] == 6*n for r, n in zip(plan["phases"], params))
    assert main(line.split()) == 0
    assert 'The published way would take' in capsys.readouterr().out

# --- bad use

@pytest.mark.parametrize('line, says', [
    ('demo --images 15', 'multiple of 10'), ('demo --images 9000', '8,000'), ('demo --images 20', 'a batch must be filled'),
    ('demo --epochs 0', '1 or more'), ('demo --teacher big', "--teacher is 'big'; expected one of ['full', 'same-data']"), ('demo --seed -1', 'seed is -1'), ('demo --device warp', "device 'warp'"),
    ('demo --like nowhere/run.json', 'no run folder'), ('demo --like a/run.json --quick --seed 1', 'leave out --quick, --seed'),
    ('demo --out file', 'is a file'), ('demo --out full', 'no run'), ('demo --out full --overwrite', 'no run'),
    ('info resnet18', "did you mean 'timm:resnet18' or 'torchvision:resnet18'?"), ('info tutorial:widht=3', "did you mean 'width'"),
    ('info tutorial:width=x', 'whole number'),
    ('info tutorial:width=0', 'whole number'), ('info no.such:net', 'ModuleNotFoundError'), ('info json:loads', 'gives no network'),
    ('info collections:OrderedDict', 'expected a StagedNet'), ('info tutorial --input 3x28x28', '--input'),
    ('info tutorial --input big', '1x28x28'),
    ('plan --images 0', '--images is 0'), ('plan --budget lots', '500 MB'), ('plan --student nope', 'package.module:function'),
    ('demo --resume nowhere', 'no interrupted run'), ('demo --like a --resume b', 'choose one'),
    ('data nowhere new.xz', 'apt-get'), ('data nowhere file', 'exists')])
def test_bad_use(line, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'file').write_text('mine')
    (tmp_path/'full').mkdir()
    (tmp_path/'full/mine.txt').write_text('mine')
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    told = err.replace('loading PyTorch and fastai ...', '').strip()
    assert says in told and '\n' not in told and out == ''
    assert (tmp_path/'file').read_text() == (tmp_path/'full/mine.txt').read_text() == 'mine'
    assert len(list(tmp_path.iterdir())) == 2

@pytest.mark.parametrize('line', ['dem', 'demo --images many', 'info', 'doctor --jsn', 'demo --epoch 3'])
def test_unknown_words(line, capsys):
    with pytest.raises(SystemExit) as e: main(line.split())
    err = capsys.readouterr().err
    assert e.value.code == 2 and len(err.splitlines()) == 2 and '--help says what there is' in err

def test_no_word_is_help(capsys):
    assert main([]) == 0 and 'usage: sskd_tutor' in capsys.readouterr().out

def test_explore_is_quiet_too(tmp_path, capsys):
    example = root/'sskd_tutor/data_files/example_recording'
    line = ['explore', str(example), '--out', str(tmp_path/'page.html'), '--no-browser', '--quiet']
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path/'page.html') and err == ''

def test_nan_is_a_failure(monkeypatch, capsys, tmp_path):
    import sskd_tutor.runs.job
    def fail(*_, **__): raise FloatingPointError("stage2: the loss or a weight is not finite at epoch 0, batch 3")
    monkeypatch.setattr(sskd_tutor.runs.job, 'run', fail)
    assert main(['demo', '--out', str(tmp_path/'x')]) == 1 and 'stage2' in capsys.readouterr().err

@pytest.mark.parametrize('line', ['--traceback info resnet18', 'info resnet18 --traceback', 'info --traceback resnet18'])
def test_traceback_on_both_sides(line):
    with pytest.raises(ValueError, match='no network'): main(line.split())

@pytest.mark.parametrize('line', ['--quiet {}', '{} --quiet'])
def test_quiet_on_both_sides(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plan = 'plan --student tutorial:width=4,blocks=1 --teacher tutorial:width=4,blocks=1 --images 64 --bs 32 --epochs 1 --device cpu'
    assert main(line.format(plan).split()) == 0
    out, err = capsys.readouterr()
    assert 'The published way would take' in out and err == ''
    assert main(line.format('info resnet18').split()) == 2 and 'no network' in capsys.readouterr().err  # an error is still told

# --- config file, completion, lessons

def config(folder, text):
    (folder/'mine.toml').write_text(text)
    return ['distill', '--config', str(folder/'mine.toml')]

@pytest.mark.parametrize('text, says', [
    ('datta = "x"', "has 'datta'; did you mean 'data'?"), ('data = x', 'is not a TOML file'), ('data = "x"', '--teacher, --student must be given'),
    ('data="x"\nteacher="a:b"\nstudent="teacher"', 'allow'), ('data="x"\nteacher="teacher"\nstudent="teacher"\nsize=0', '--size is 0'),
    ('data="x"\nteacher=3\nstudent="teacher"', 'teacher is 3; expected text')])
def test_bad_config(text, says, tmp_path, capsys):
    assert main(config(tmp_path, text)) == 2
    err = capsys.readouterr().err
    assert says in err and 'Traceback' not in err

def test_what_is_typed_wins_over_the_config(tmp_path, monkeypatch):
    import sskd_tutor.runs.folder as folder
    seen = []
    class Seen(Exception): pass
    def job(settings, **_):
        seen.append(settings)
        raise Seen
    monkeypatch.setattr(folder, 'FolderJob', job)
    line = config(tmp_path, 'data = "x"\nteacher = "teacher"\nstudent = "tutorial"\nepochs = 2\nteacher_mean = [0.5]\nteacher_std = [1.0]')
    with pytest.raises(Seen): main([*line, '--epochs', '3'])
    assert (seen[0].epochs, seen[0].data, seen[0].teacher_mean, seen[0].bs) == (3, 'x', [.5], 32)

@pytest.mark.parametrize('shell', ['bash', 'zsh', 'tcsh'])
def test_completion(shell, capsys):
    "Every command and its options, in a script that calls no Python"
    assert main(['completion', shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ('distill', 'teacher-weights', 'lessons', 'no-lab', 'budget'))
    assert not re.search(r'^[^#]*\bpython3? ', script, re.M)

def test_completion_is_bash(tmp_path, capsys):
    assert main(['completion', 'bash']) == 0
    (tmp_path/'c.bash').write_text(capsys.readouterr().out)
    ask = 'source c.bash; COMP_WORDS=(sskd_tutor dist); COMP_CWORD=1; _shtab_sskd_tutor; echo "${COMPREPLY[@]}"'
    assert subprocess.run(['bash', '-c', ask], cwd=tmp_path, capture_output=True, text=True).stdout.strip() == 'distill'

def test_lessons(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['lessons', 'mine', '--no-lab']) == 0
    names = {p.name for p in (root/'nbs/lessons').glob('*.ipynb')}
    assert {p.name for p in (tmp_path/'mine').iterdir()} == names | {'images'}
    first = min((tmp_path/'mine').glob('*.ipynb'))
    first.write_text('my answers')
    assert main(['lessons', 'mine', '--no-lab']) == 0 and first.read_text() == 'my answers'
    assert f'0 new in mine, {len(names)} were there' in capsys.readouterr().err
    (tmp_path/'file').touch()
    assert main(['lessons', 'file']) == 2 and 'is a file' in capsys.readouterr().err

def test_half_a_lesson_is_not_kept(tmp_path):
    "A full disk left the beginning of a notebook, which every later call took for the user's own"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
    try:
        with pytest.raises(OSError, match='File too large'): copy_lessons(tmp_path/'mine')
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert copy_lessons(tmp_path/'mine')[1] == [], "nothing was kept"

def test_lessons_open_lab(tmp_path, monkeypatch):
    import sskd_tutor.runs.lesson_files as lesson_files
    called = []
    monkeypatch.setattr(lesson_files.subprocess, 'call', lambda line: called.append(line) or 7)
    assert main(['lessons', str(tmp_path/'mine')]) == 7
    assert called[0][1:3] == ['-m', 'jupyterlab'] and Path(called[0][3]).is_file()

# --- info, doctor, data, help

def test_help_is_quick_and_has_examples(tmp_path):
    "Quick, because nothing large is imported"
    p = call('--help', cwd=tmp_path)
    assert p.returncode == 0 and 'example: sskd_tutor' in p.stdout
    p = call('--version', cwd=tmp_path)
    assert p.stdout.split() == ['sskd_tutor', sskd_tutor.__version__]
    code = "import sys, sskd_tutor.cli; assert not {'torch', 'fastai', 'plotly', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], env=env, cwd=tmp_path, check=True)
    for command in ('demo', 'info', 'doctor', 'data'):  # the options of a run come from its settings, which know PyTorch
        p = call(command, '--help', cwd=tmp_path)
        assert p.returncode == 0 and 'example: sskd_tutor' in p.stdout

def test_info(capsys):
    assert main(['info', 'teacher', '--json']) == 0
    table = json.loads(capsys.readouterr().out)
    assert table['params'] == sum(p.numel() for p in tutorial_resnet().parameters()) == sum(r['params'] for r in table['stages'])
    assert [r['num_chs'] for r in table['stages']] == [32, 64, 128, 10]
    assert table['macs'] == sum(r['macs'] for r in table['stages'])
    assert main(['info', 'teacher']) == 0 and f"{table['params']:,}" in capsys.readouterr().out

def test_every_kind_of_network_is_in_the_help(capsys):
    with pytest.raises(SystemExit): main(['info', '--help'])
    told = capsys.readouterr().out
    assert all(f'{k}:NAME' in told for k in ('timm', 'torchvision', 'cifar'))

def test_info_of_ones_own(tmp_path):
    (tmp_path/'mynets.py').write_text('from sskd_tutor.nets.small import tutorial_resnet\n'
                                      'def build(): return tutorial_resnet(width=8, n_stages=2, c_in=3)\n')
    p = call('info', 'mynets:build', '--input', '3x32x32', '--json', cwd=tmp_path)
    assert p.returncode == 0, p.stderr
    assert [r['shape'] for r in json.loads(p.stdout)['stages']] == [[8, 32, 32], [16, 16, 16], [10]]

def test_doctor(tmp_path):
    p = call('doctor', '--device', 'cpu', cwd=tmp_path)
    assert p.returncode == 0 and 'all well' in p.stdout, p.stdout
    assert re.search(r'^ok\s+self-test', p.stdout, re.M)

def test_doctor_finds_faults(monkeypatch, capsys, tmp_path):
    import sskd_tutor.runs.doctor as d
    from sskd_tutor.nets.weights import teachers
    damaged = tmp_path/'teacher.safetensors'
    damaged.write_bytes(teachers['full'].path.read_bytes()[:-1])
    monkeypatch.setitem(teachers, 'full', replace(teachers['full'], file=str(damaged)))
    monkeypatch.setattr(d, 'self_test', lambda device: ["training stage2 changed [('student', 'stage1')]"])
    assert main(['doctor', '--json']) == 1
    found = json.loads(capsys.readouterr().out)
    status = {c['name']: c['status'] for c in found['checks']}
    assert not found['ok'] and status['teachers'] == status['self-test'] == 'fail'
    assert status['packages'] == status['data'] == 'ok'

official = Path('/usr/share/datasets/fashion-mnist')

@pytest.mark.skipif(not official.exists(), reason="needs the official files: apt-get install dataset-fashion-mnist")
def test_data_gives_the_shipped_file(tmp_path, capsys):
    assert main(['data', str(official), str(tmp_path/'new.xz')]) == 0
    assert 'equal to the file that is shipped' in capsys.readouterr().out
    assert (tmp_path/'new.xz').read_bytes() == (root/'sskd_tutor/data_files/fashion.npz.xz').read_bytes()
