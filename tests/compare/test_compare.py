"""The harness: what a run may see, parallel runs, what a kill leaves, what is refused."""
import csv, json, os, random, re, signal, subprocess, sys, time

import psutil
import pytest
import torch
from fastai.callback.core import Callback
from torch import nn

from sskd_tutor.compare.results import append_run, read_runs, run_columns
from sskd_tutor.compare.runner import compare, examine, plan_table, start, train_cell, valid_accuracy
from sskd_tutor.data.images import Images, embedded_fashion
from sskd_tutor.compare.budget import schedule, train
from sskd_tutor.compare.methods import add_method, methods, phases_of, sources
from sskd_tutor.compare.phases import fresh
from sskd_tutor.compare.images import Pair, fashion_folder, guard, overlap, split_images
from sskd_tutor.compare.study import budget_words, cells, remarks, run_key, studies, study
from sskd_tutor.compare.boards import boards, leaderboard_md
from sskd_tutor.core.device import quiet
from sskd_tutor.distill.losses import losses
from helpers.files import write_cifar

pytest.importorskip('torchmetrics')
tiny = dict(methods=['labels', 'kd', 'sskd'], seeds=2, labels=100, images=200, budget=dict(epochs=3), folder='/nowhere',
            pairs=[dict(teacher='teacher', student='tutorial:width=4,blocks=1')])
silent = dict(say=lambda line: None)

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp('runs')/'a.csv'
    return path, compare(dict(tiny=tiny), path, jobs=1, **silent)

def values(t): return t.drop(columns=['seconds', 'date']).astype(str).sort_values(['method', 'seed']).reset_index(drop=True)

def test_two_processes_make_the_same_runs(made, tmp_path):
    two = compare(dict(tiny=tiny), tmp_path/'b.csv', jobs=2, **silent)
    assert values(made[1]).equals(values(two)) and len(two) == 6

def test_nothing_is_made_twice_and_studies_share_runs(made):
    path, table = made
    before, said = path.read_text(), []
    part = compare(dict(tiny=tiny, less={**tiny, 'methods': ['kd']}), path, only=['less'], say=said.append)
    assert path.read_text() == before and '0 to make' in said[0] and len(part) == 2 and len(table) == 6

def test_other_settings_are_other_runs(made):
    known = {run_key(row) for row in made[1].astype(str).to_dict('records')}
    other = dict(teacher='teacher:same-data', student='tutorial:width=4,blocks=1')
    for change in (dict(lr=1e-3), dict(views=2), dict(augment=dict(erase=0)), dict(budget=dict(epochs=4)), dict(labels=200), dict(pairs=[other])):
        assert not known & {cell.key for cell in cells(study({**tiny, **change}))}, change

def test_an_early_teacher_begins_from_nothing():
    "Attention keeps its projection in a bare parameter, which no layer draws anew"
    teacher = nn.MultiheadAttention(8, 2)
    assert not fresh(teacher).in_proj_weight.equal(teacher.in_proj_weight)

@pytest.mark.parametrize('name, part, same',
                         [(m, 'pool', True) for m in ('kd_soft', 'sskd', 'sskd_teacher_head', 'all_at_once', 'fitnets', 'simkd', 'teacher_fed',
                                                                      'all_at_once_teacher_head')]
                         + [('kd', 'labeled', False), ('sskd', 'labeled', False), ('sskd_teacher_head', 'labeled', True), ('simkd', 'labeled', True), ('teacher_fed', 'labeled', True)])
def test_labels_that_must_not_be_seen(name, part, same):
    students = []
    for scrambled in (False, True):
        trial = start(cells(study({**tiny, 'methods': [name]}))[0], 'cpu')
        if scrambled:
            data = getattr(trial, part).train.dataset
            data.images = data.images._replace(y=torch.zeros_like(data.images.y))
        students.append(train(name, trial, dict(epochs=1)).student.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in students))) == same

def test_what_is_done_to_the_training_images():
    "Images of 32 pixels in color are not augmented as clothes are; keys of older runs stay"
    plain, other = (cells(study({**tiny, **change}))[0] for change in ({}, dict(augment=dict(crop=4, erase=0))))
    assert 'augment' not in plain.row['settings'] and '"augment": {"crop": 4, "erase": 0}' in other.row['settings']
    trial = start(other, 'cpu')
    for dls in (trial.pool, trial.labeled):
        assert repr(dls.train.views) == 'Views(crop=4, flip=True, erase=0, seed=0)' and dls.valid.views is None
    for wrong in (dict(crops=4), dict(seed=1), 4):
        with pytest.raises(ValueError, match='augment: .*settings of Views'): study({**tiny, 'augment': wrong})

def test_cifar_is_data_too(tmp_path):
    write_cifar(tmp_path/'cifar-100-binary', n=400, n_test=40)
    pair = dict(teacher='tutorial:width=4,blocks=1,c_in=3', student='tutorial:width=4,blocks=1,c_in=3', seen='cifar100')
    config = {**tiny, 'data': 'cifar100', 'folder': str(tmp_path), 'pairs': [pair], 'methods': ['labels']}
    cell = cells(study(config))[0]
    assert cell.data.evaluated_on == 'cifar100-40' and cell.data.train.x.shape[1:] == (3, 32, 32)
    trial, seconds = train_cell(cell, 'cpu')
    row = examine(cell, trial, seconds, 'cpu')
    assert row['evaluated_on'] == 'cifar100-40' and 0 <= valid_accuracy(trial, 'float32') <= 100

@pytest.mark.parametrize('labels, images', [(20, 20), (100, 100), (100, 8000), (8000, 8000)])
def test_split(labels, images):
    split = split_images(embedded_fashion(), labels, images, 3)
    pool, labeled, valid = (set(p.idx.tolist()) for p in split)
    assert labeled <= pool and not valid & pool and len(labeled | valid) == labels and len(pool | valid) == images
    assert all(len(set(p.y.bincount().tolist())) == 1 for p in split)
    assert [p.idx.tolist() for p in split] == [p.idx.tolist() for p in split_images(embedded_fashion(), labels, images, 3)]

@pytest.mark.parametrize('labels, images', [(105, 200), (10, 200), (300, 200), (200, 8010)])
def test_split_that_cannot_be(labels, images):
    with pytest.raises(ValueError): split_images(embedded_fashion(), labels, images, 0)

def test_a_class_that_is_used_up_is_named():
    "The last one: 10 images, all of them labeled"
    y = torch.arange(3).repeat_interleave(torch.tensor([30, 30, 10]))
    train = Images(torch.zeros(70, 1, 2, 2, dtype=torch.uint8), y, torch.arange(70))
    with pytest.raises(ValueError, match='images is 45, 15 of each class, but one class has only 10; expected at most 30'):
        split_images(train, 30, 45, 0)
    assert split_images(train, 15, 30, 0).pool.y.bincount().tolist() == [9, 9, 9]

def test_a_plan_leaves_the_random_state_alone():
    cudnn = torch.backends.cudnn
    before = torch.get_rng_state(), random.getstate(), cudnn.deterministic, cudnn.benchmark
    plan_table(study({**tiny, 'methods': ['labels', 'early_teacher'], 'bs': 32}))
    after = torch.get_rng_state(), random.getstate(), cudnn.deterministic, cudnn.benchmark
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]

@pytest.mark.parametrize('name', ['labels', 'kd', 'sskd', 'sskd+ft', 'assistant', 'fitnets', 'kd_soft', 'lw_kd', 'simkd', 'crd',
                                  'reviewkd', 'semckd', 'srrl', 'teacher_fed', 'all_at_once_teacher_head',
                                  'kd_mixup', 'partial_kd', 'rrd', 'kcd'])
def test_planned_is_spent(name):
    cell = cells(study({**tiny, 'methods': [name], 'labels': 100, 'images': 270, 'bs': 64}))[0]  # both loaders leave images out
    trial = start(cell, 'cpu')
    planned = schedule(name, trial, dict(epochs=3))[1]
    # a view that never comes again is not completed
    assert train(name, trial, dict(epochs=3)).gmacs == pytest.approx(planned, rel=.1)

def test_the_budget_is_what_is_planned():
    cell = cells(study({**tiny, 'labels': 100, 'images': 200, 'bs': 32}))[0]
    off = {m: schedule(m, start(cell, 'cpu'), dict(gmacs=400))[1]/400 - 1 for m in methods}
    assert max(map(abs, off.values())) < .05, off

def test_methods_of_one_seed_begin_alike():
    found = []
    for c in cells(study({**tiny, 'methods': ['labels', 'sskd', 'kd'], 'seeds': 1})):
        t = start(c, 'cpu')
        found.append([*t.student.state_dict().values(), t.pool.train.dataset.images.idx, t.labeled.valid.dataset.images.idx,
                      torch.tensor(t.pool.train.get_idxs())])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))

def test_best_is_chosen_on_the_held_out_images():
    class Watch(Callback):
        order, seen = 66, []
        def after_epoch(self): self.seen.append(dict(zip(self.recorder.metric_names[1:], self.recorder.log[1:])).get('accuracy'))
    trial = start(cells(study(tiny))[0], 'cpu')
    trial.cbs = [Watch()]
    train('labels', trial, dict(epochs=6))
    best = trial.best.accuracy
    seen = [v for v in Watch.seen if isinstance(v, float)]  # an epoch without validation has none
    assert len(seen) > 2 and best == max(seen) and min(seen) < best
    trial.student.load_state_dict(trial.best.weights)
    learn = trial.learner(trial.student)
    with quiet(learn): assert learn.validate()[1] == pytest.approx(best)

def test_training_images_that_are_test_images(tmp_path, monkeypatch):
    (tmp_path/'leaky.py').write_text('from sskd_tutor.data.images import embedded_fashion\n'
                                     "def g(): return (embedded_fashion('valid'),)*2\n")
    monkeypatch.chdir(tmp_path)
    leaky = {**tiny, 'data': 'leaky:g', 'pairs': [dict(teacher='teacher:same-data', student='tutorial:width=4,blocks=1')]}
    with pytest.raises(ValueError, match='2000 of the test images .* among the training images'): cells(study(leaky))
    assert '2000 of the test images' in remarks(study({**leaky, 'allow_seen': True}))[0]

def test_a_file_that_cannot_be_written_is_told_before_anything_trains(tmp_path):
    (tmp_path/'file').write_text('mine')
    said = []
    with pytest.raises(OSError): compare(dict(tiny=tiny), tmp_path/'file/a.csv', jobs=1, say=said.append)
    with pytest.raises(ValueError, match='most is -1; expected 1 or more'): compare(dict(tiny=tiny), tmp_path/'a.csv', most=-1, say=said.append)
    assert not said and (tmp_path/'file').read_text() == 'mine'

def test_steps_do_not_depend_on_the_number_of_labels():
    few, all_ = (start(cells(study({**tiny, 'labels': n}))[0], 'cpu') for n in (100, 200))
    (_, e), = schedule('labels', few, dict(epochs=12))[0]
    (_, f), = schedule('labels', all_, dict(epochs=12))[0]
    assert f == 12 and e*80 == pytest.approx(12*180, rel=.05)

controls = {'all_at_once', 'all_at_once_teacher_head'}
ours = {'normalized', 'loss=nmse'}   # after a search, `add_method` says what each builds on

def test_every_method_has_a_source_or_is_ours():
    found = sources()
    assert set(methods) | {f'loss={name}' for name in losses} == set(found)
    assert {name for name, source in found.items() if source == 'ours'} == ours
    assert {name for name, source in found.items() if source == 'a control'} == controls
    published = {name: source for name, source in found.items() if source not in ('ours', 'a control', 'no teacher')}
    for name, source in published.items():
        assert re.fullmatch(r'\d{4}\.\d{4,5}|OpenReview \w+|[A-Z]+ \d{4}', source), (name, source)
    assert set(found) - set(published) == ours | controls | {'labels'}
    assert found['kd'] == '1503.02531' and found['simkd'] == found['sskd_teacher_head'] == '2203.14001'

@pytest.mark.parametrize('source', ['', 'me', 'a control', 'Hinton et al., 2015', 'sskd_tutor'])
def test_teeth_a_method_without_a_source_cannot_be_added(source):
    with pytest.raises(ValueError, match='names no publication'): add_method('mine', 'features', 'star', source)(lambda: [])
    assert '<lambda>' not in methods

def test_every_leaderboard_shows_the_source(made):
    assert '| 1503.02531 |' in leaderboard_md(made[1]) and '1812.01819' in boards('tiny', [('these', made[1])])[0]

def test_shares_of_a_method_are_the_whole():
    for name in methods: assert phases_of(name) and sum(p.share for p in phases_of(name)) == pytest.approx(1)

@pytest.mark.slow
def test_a_failing_run_does_not_stop_the_others(tmp_path, monkeypatch):
    (tmp_path/'late.py').write_text("""import os
from sskd_tutor.nets.small import tutorial_resnet
def net():
    if os.environ.get('OMP_NUM_THREADS') == '1' and os.path.exists('bad'): raise RuntimeError('no such luck')
    return tutorial_resnet(4, 1)
""")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    two = {**tiny, 'methods': ['labels'], 'seeds': 1, 'pairs': [dict(teacher='teacher', student='late:net'), tiny['pairs'][0]]}
    (tmp_path/'bad').touch()
    with pytest.raises(RuntimeError, match='1 of 2 runs failed'):
        compare(dict(two=two), tmp_path/'a.csv', jobs=1, **silent)
    assert len(read_runs(tmp_path/'a.csv')) == 1
    (tmp_path/'bad').unlink()
    assert len(compare(dict(two=two), tmp_path/'a.csv', jobs=1, **silent)) == 2

@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='signals')
def test_a_killed_worker_loses_nothing_that_is_done(tmp_path):
    code = f"from sskd_tutor.compare.runner import compare\nif __name__ == '__main__': compare({dict(tiny=tiny)!r}, 'a.csv', jobs=2)"
    (tmp_path/'go.py').write_text(code)
    p = subprocess.Popen([sys.executable, 'go.py'], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path/'a.csv').exists() and (tmp_path/'a.csv').stat().st_size: break
        time.sleep(.1)
    workers = [c for c in psutil.Process(p.pid).children() if 'spawn_main' in ' '.join(c.cmdline())]
    workers[0].kill()
    _, err = p.communicate(timeout=120)
    assert p.returncode == 1 and 'a worker was killed' in err and 'the same command goes on' in err
    assert 1 <= len(read_runs(tmp_path/'a.csv')) < 6

@pytest.mark.skipif(os.name == 'nt', reason='signals')
@pytest.mark.slow
def test_interrupt_and_go_on(made, tmp_path):
    study = json.dumps(dict(tiny=tiny))
    code = f"from sskd_tutor.compare.runner import compare\nif __name__ == '__main__': compare({study}, 'a.csv', jobs=2)"
    (tmp_path/'go.py').write_text(code)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell ignore SIGINT
    p = subprocess.Popen([sys.executable, 'go.py'], cwd=tmp_path, start_new_session=True, preexec_fn=listen, **pipes)
    for _ in range(600):
        if (tmp_path/'a.csv').exists() and (tmp_path/'a.csv').stat().st_size or p.poll() is not None: break
        time.sleep(.1)
    os.killpg(p.pid, signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert 'the same command goes on' in out, (out, err)
    begun = len(read_runs(tmp_path/'a.csv'))
    assert 1 <= begun <= 6
    assert values(compare(dict(tiny=tiny), tmp_path/'a.csv', jobs=1, **silent)).equals(values(made[1]))

def test_a_line_that_was_cut_off(made, tmp_path, capsys):
    whole = made[0].read_text()
    for cut in (1, 30, len(whole.splitlines()[-1])):
        (tmp_path/'a.csv').write_text(whole[:-cut])
        before = (tmp_path/'a.csv').read_text()
        assert len(read_runs(tmp_path/'a.csv')) == 5
        assert (tmp_path/'a.csv').read_text() == before  # who only looks changes nothing
        assert 'cut off' in capsys.readouterr().err
        row = next(csv.DictReader(whole.splitlines())) | dict(seed='9')
        append_run(tmp_path/'a.csv', row)  # not glued to what was cut off
        assert len(read_runs(tmp_path/'a.csv', repair=True)) == 6 + (cut == 1)  # only its newline was lacking
        assert (tmp_path/'a.csv').read_text().endswith('\n') and (tmp_path/'a.csv.cut').exists() == (cut > 1)

def test_lines_that_are_no_runs(made, tmp_path, capsys):
    lines = made[0].read_text().splitlines(keepends=True)
    odd = [lines[0], *lines[1:3], lines[3][:-30] + lines[4], '\n', lines[0], *lines[5:]]  # glued, empty, a second header
    (tmp_path/'a.csv').write_text(''.join(odd))
    assert len(read_runs(tmp_path/'a.csv')) == 4 and '3 damaged' in capsys.readouterr().err
    (tmp_path/'a.csv').write_text(lines[0].rstrip())
    assert len(read_runs(tmp_path/'a.csv')) == 0
    append_run(tmp_path/'a.csv', next(csv.DictReader(lines)))
    assert len(read_runs(tmp_path/'a.csv')) == 1

def test_a_row_twice_counts_once(made, tmp_path):
    (tmp_path/'a.csv').write_text(made[0].read_text() + made[0].read_text().splitlines()[1] + '\n')
    assert len(read_runs(tmp_path/'a.csv')) == 6

def test_another_file_is_refused(tmp_path):
    (tmp_path/'a.csv').write_text('epoch,loss\n0,1\n')
    with pytest.raises(ValueError, match='lacks'): read_runs(tmp_path/'a.csv')
    (tmp_path/'a.csv').write_text(','.join(reversed(run_columns)) + '\n')
    with pytest.raises(ValueError, match='another order'): read_runs(tmp_path/'a.csv')

def test_guard():
    test = embedded_fashion('valid')
    assert overlap(test, test) == 2000 and overlap(embedded_fashion(), test) == 0
    some = Images(*(torch.cat([a, b[:7]]) for a, b in zip(embedded_fashion(), test)))
    assert overlap(some, test) == 7
    with pytest.raises(ValueError, match='Imagenette'): _imagenette(False)
    assert 'Imagenette' in _imagenette(True)[1]

def _imagenette(allow):
    module = type(sys)('imagenette')
    module.images = lambda: (embedded_fashion(), embedded_fashion('valid'))
    sys.modules['imagenette'] = module
    pair = Pair('tutorial:width=4', 'tutorial:width=4', seen='embedded', teacher_data='ImageNet', pretrained='ImageNet-1k')
    try: return guard(pair, 'imagenette:images', fashion_folder, allow)
    finally: del sys.modules['imagenette']

def test_budget_too_small_is_told_before_anything_trains(tmp_path):
    begin = time.time()
    with pytest.raises(ValueError, match='too small for kd'):
        compare(dict(a={**tiny, 'budget': dict(gmacs=1)}), tmp_path/'a.csv', **silent)
    assert not (tmp_path/'a.csv').exists() and time.time() - begin < 60

@pytest.mark.parametrize('toml, why', [
    ('methods = ["kd"]', 'outside a study'), ('', 'no study'), ('[a]\nmethods = ["kdd"]', "did you mean 'kd'"),
    ('[a', 'not TOML'),
    ('[a]\nmethods = ["kd"]\nallow_seen = "false"', "allow_seen: 'false'; expected true or false"),
    ('[a]\nmethods = ["kd"]\nseeds = [1, 1]', 'twice'), ('[a]\nmethods = []', 'no cell')])
def test_bad_config(tmp_path, toml, why):
    (tmp_path/'c.toml').write_text(toml)
    with pytest.raises(ValueError, match=why): studies(tmp_path/'c.toml')

orphan = """
import os, signal, time
from sskd_tutor.compare.runner import _pool
if __name__ == '__main__':
    with _pool(['cpu']) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        os.kill(os.getpid(), signal.SIGKILL)
"""

def test_workers_do_not_outlive_their_parent(tmp_path):
    "Killed with -9, a comparison can tell its workers nothing"
    (tmp_path/'orphan.py').write_text(orphan)
    env = os.environ | dict(PYTHONPATH=os.getcwd() + os.pathsep + os.environ.get('PYTHONPATH', ''))
    p = subprocess.run([sys.executable, 'orphan.py'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    worker = int(p.stdout)
    for _ in range(100):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE: return
        time.sleep(.2)
    os.kill(worker, signal.SIGKILL)
    pytest.fail(f'worker {worker} waits for nobody')

def test_budgets_of_many_digits_are_two_runs():
    assert budget_words(dict(gmacs=1234567)) != budget_words(dict(gmacs=1234568))
    assert budget_words(dict(gmacs=1300)) == '1300 gmacs' and budget_words(dict(gmacs=.1)) == '0.1 gmacs'
