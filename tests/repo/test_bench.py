"""The benchmark compares the same computation: the plain published way must give the student that ours gives."""
import argparse, copy, csv, json, subprocess, sys

import pandas as pd
import pytest
import torch
from scipy import stats
from fastai.vision.all import Learner, set_seed

from conftest import root
from sskd_tutor.data.loaders import fashion_dls
import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.distill.check import check_pair, first_batch
from sskd_tutor.distill.adapters import make_adapters
from sskd_tutor.distill.costs import step_macs
from sskd_tutor.distill.callbacks import mimic_net
from sskd_tutor.distill.losses import mimic_nmse
from sskd_tutor.nets.small import tutorial_resnet

sys.path.insert(0, str(root/'benchmarks'))
import bench, gpu  # noqa: E402
from plain import Precision, bare_fill, bare_stage, labels_only, plain_macs, plain_sskd, plain_stage  # noqa: E402

@pytest.fixture
def pair():
    "A fresh small pair with adapters that learn: (dls, student, teacher, adapters)"
    set_seed(0)
    dls = fashion_dls(n=200, bs=50, device='cpu')
    student, teacher = tutorial_resnet(width=4, blocks=1), tutorial_resnet(width=6, blocks=1)
    for _, m in teacher.named_modules():  # statistics that a trained net would have, so that hints are no zeros
        if isinstance(m, torch.nn.BatchNorm2d): m.running_mean.normal_(0, 0.1); m.running_var.uniform_(0.5, 1.5)
    taps, hints = check_pair(Learner(dls, student), teacher)
    return dls, student, teacher, list(make_adapters(student.stage_names, taps, hints, 'conv').values())

def ours(dls, student, teacher, adapters, epochs, head_epochs, cbs=()):
    learn = Learner(dls, student, cbs=list(cbs))
    given = {n: (lambda *_, a=a: a) for n, a in zip(student.stage_names, adapters)}
    with learn.no_bar(), learn.no_logging(): learn.fit_sskd(teacher, epochs, head_epochs, adapter=given, valid_every=0)

def moved(a, b):  # largest difference of two networks' numbers
    return max((p.float() - q.float()).abs().max().item() for p, q in zip(a.state_dict().values(), b.state_dict().values()))

def test_plain_way_gives_the_same_student(pair):
    dls, student, teacher, adapters = pair
    start = copy.deepcopy(student)
    mine, own = copy.deepcopy((student, adapters))
    plain_sskd(student, teacher, adapters, dls.train, 3, 2)
    ours(dls, mine, teacher, own, 3, 2)
    assert moved(student, start) > 0.1
    assert moved(student, mine) < 2e-4
    assert max(map(moved, adapters, own)) < 2e-4

def test_fewer_epochs_give_another_student(pair):
    "So the comparison above can fail"
    dls, student, teacher, adapters = pair
    mine, own = copy.deepcopy((student, adapters))
    plain_sskd(student, teacher, adapters, dls.train, 3, 2)
    ours(dls, mine, teacher, own, 3, 1)
    assert moved(student.head, mine.head) > 1e-3

def test_floor_takes_the_same_steps(pair):
    "On one view, in the same batches, the bare loop trains stage 2 as the plain way does"
    dls, student, teacher, adapters = pair
    dl, k = dls.train.new(drop_last=False, n_views=1), 1
    dl.shuffle = False
    bare, own = copy.deepcopy((student, adapters))
    teacher.eval().requires_grad_(False)
    plain_stage(student, teacher, k, adapters[k], dl, 2)
    dl.set_epoch(0)
    xs = [x.as_subclass(torch.Tensor) for x, _ in dl]
    before = bare_fill(bare.stages['stage1'], xs)
    hints = bare_fill(teacher.stages['stage2'], bare_fill(teacher.stages['stage1'], xs))
    bare_stage(bare.stages['stage2'], own[k], list(zip(before, hints)), 2)
    assert moved(student.stages['stage2'], bare.stages['stage2']) < 1e-5

def test_plain_macs(pair):
    "Each step pays the whole teacher and the whole student, and the gradient of one stage as ours does; nothing moves"
    dls, student, teacher, adapters = pair
    x = first_batch(dls.train)[0][:2]
    before = copy.deepcopy(student)
    counted = plain_macs(student, teacher, adapters, x)
    assert moved(before, student) == 0
    forward = {net: net.stage_table(x).macs for net in (student, teacher)}
    for k, (n, adapter) in enumerate(zip(student.stage_names, adapters)):
        step = step_macs(mimic_net(student, k, adapter), [n, 'head'], mimic_nmse, lambda x: teacher.forward_to(x, k), x)
        behind = sum(f.iloc[k+1:].sum() for f in forward.values())
        assert counted[k] == pytest.approx(step + behind, rel=1e-6)

def test_labels_only_training_does_not_validate(pair):
    dls, student, *_ = pair
    before = copy.deepcopy(student)
    learn = labels_only(student, dls, 1, precision=Precision('bfloat16'))
    assert moved(before, student) > 1e-3 and all(v is None for v in learn.recorder.values[-1][1:])

def test_precision_has_two_names():
    with pytest.raises(ValueError, match="expected 'float32' or 'bfloat16'"): Precision('fp8')

# --- the table

def test_table(tmp_path, capsys):
    "A row holds or not by its own target; a later row of the same figure takes its place; without a target it is not judged"
    path = tmp_path/'t.json'
    table = bench.Table(path, 'float32', 'make bench')
    table.add('a', 'p', 1.2, '<= 1.15')
    table.add('a', 'q', 1.0, '>= 0.9 and <= 1.1')
    table.add('b', 'p', 7.)
    assert table.verdict() == '1 of 2 targets hold (t.json)'
    bench.Table(path, 'float32', 'make bench').add('a', 'p', 1.1, '<= 1.15', low=1.0)
    rows = {(r['figure'], r['pair']): r for r in json.loads(path.read_text())}
    assert {k: r['holds'] for k, r in rows.items()} == {('a', 'q'): True, ('b', 'p'): None, ('a', 'p'): True}
    assert {'figure', 'pair', 'value', 'target', 'holds', 'command', 'threads', 'precision', 'machine'} <= rows['a', 'p'].keys()
    with pytest.raises(AttributeError): table.add('c', 'p', 1., 'about 1')

def test_sides_take_turns(capsys):
    order = []
    got = bench.in_turn({k: lambda k=k: order.append(k) or len(order) for k in 'abc'}, 3, 'x')
    assert ''.join(order) == 'abccbaabc' and got == dict(a=[1, 6, 7], b=[2, 5, 8], c=[3, 4, 9])
    assert list(map(len, bench.in_turn({'a': lambda: 0}, 3, 'x', until=0).values())) == [1]

def test_accuracy_row(tmp_path, monkeypatch, capsys):
    "The interval is that of a paired t test, over seeds that both sides have"
    plain, four = [90.1, 90.4, 89.8, 90.0, 90.6, 91.], [90.0, 90.1, 89.9, 90.2, 90.3]
    (tmp_path/'results').mkdir()
    with (tmp_path/'results/views.csv').open('w') as f:
        w = csv.writer(f)
        w.writerow('views seed accuracy_last accuracy_teacher_head epochs evaluated_on precision threads'.split())
        for v, accs in (('plain', plain), ('4', four)):
            w.writerows([v, s, a, a + 1, 8, 'official-10000', 'bfloat16', 1] for s, a in enumerate(accs))
    monkeypatch.setattr(bench, 'here', tmp_path)
    table = bench.Table(tmp_path/'t.json', 'float32', '')
    bench.accuracy(table, {}, argparse.Namespace())
    judged, = [r for r in table.rows if r['holds'] is not None]
    low, high = stats.ttest_rel(four, plain[:5]).confidence_interval()
    assert (judged['value'], judged['low'], judged['high']) == pytest.approx((-0.08, low, high), abs=0.006)
    assert judged['target'] == '>= -0.5' and 'new head' in judged['figure'] and judged['seeds'] == list('01234')
    assert (judged['precision'], judged['threads']) == ('bfloat16', 1)  # the runs', not this process's

def test_moved_bytes():
    x = torch.ones(1000)
    assert gpu.moved_bytes(lambda: x + x) == 3*4000
    assert gpu.moved_bytes(lambda: x.view(10, 100)) == 0

def test_gpu_script_runs_without_a_gpu(tmp_path, run):
    "The same code, small: every figure is written, none is judged"
    said = run(sys.executable, root/'benchmarks/gpu.py', '--tiny', '--repeats', '1', '--out', 't.json', cwd=tmp_path)
    rows = json.loads((tmp_path/'t.json').read_text())
    assert said.splitlines()[-1].endswith('are owed')
    assert len(rows) == 13 and {r['holds'] for r in rows} == {None}
    assert all(r['value'] >= 0 for r in rows) and rows[0]['value'] > 0  # shares of a slow machine round to 0

@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_script_invents_nothing(run):
    with pytest.raises(AssertionError, match="no GPU here"): run(sys.executable, root/'benchmarks/gpu.py', cwd=root)

@pytest.mark.slow
@pytest.mark.parametrize('line, made', [
    ('segmentation.py teacher --n 32 --n-test 16 --teacher-epochs 1 --out {out}', ['teacher_segmentation']),
    ('segmentation.py --n 32 --n-test 16 --seeds 0 --csv {out}/a.csv', ['a']),
    ('segmentation.py --masks 16 --n 32 --n-test 16 --seeds 0 --csv {out}/a.csv', ['a']),
    ('detection.py teacher --scenes 16 --epochs 1 --out {out} --folder {out}/scenes', ['scenes', 'teacher_detection']),
    ('detection.py compare --scenes 16 --seeds 1 --csv {out}/a.csv --folder {out}/scenes', ['a', 'scenes']),
    ('faces.py teacher --epochs 1 --out {out}', ['teacher_faces']),
    ('faces.py compare --epochs 1 --head-epochs 1 --seeds 1 --csv {out}/a.csv', ['a'])])
def test_the_tasks_at_length_can_be_run_again(tmp_path, run, line, made):
    "The committed recipes of teachers and comparisons, with next to no data: they run, and write what they say and nothing else"
    script, *args = line.format(out=tmp_path).split()
    before = subprocess.run(['git', 'status', '--short'], cwd=root, capture_output=True, text=True).stdout
    run(sys.executable, root/'benchmarks'/script, *args, cwd=root)
    assert sorted({p.stem for p in tmp_path.iterdir()}) == made
    assert subprocess.run(['git', 'status', '--short'], cwd=root, capture_output=True, text=True).stdout == before
    if 'a' in made:
        runs = pd.read_csv(tmp_path/'a.csv')
        assert runs.gmacs.gt(0).all() and runs.groupby('method').ngroups == len(runs) > 1

class Job:
    "A process that has failed by the time it is asked again"
    def __init__(self): self.asked, self.returncode = 0, None
    def poll(self):
        self.asked += 1
        if self.asked > 1: self.returncode = 1
        return self.returncode

def test_a_job_that_fails_between_two_looks_is_counted(monkeypatch):
    import jobs
    monkeypatch.setattr(jobs, 'started', lambda cell: Job())
    monkeypatch.setattr(jobs.time, 'sleep', lambda s: None)
    with pytest.raises(SystemExit, match='2 cells failed'): jobs.run_cells([['a'], ['b']], 2)
