"""What a run will take, on paper: every multiply-add and second beside a naive count, every device a price."""
import random, subprocess, sys, time
from itertools import product

import pandas as pd
import pytest
import torch
from torch import nn

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.core.state import rng_state
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.data.loaders import ImageSet, fashion_dls
from sskd_tutor.data.images import balanced, embedded_fashion
from sskd_tutor.distill.costs import valid_seconds, whole_step_macs
from sskd_tutor.distill.plan import Work, _subsets, make_plan
from sskd_tutor.nets.staged import count_macs
from sskd_tutor.nets.weights import fashion_teacher
from sskd_tutor.nets.small import tutorial_resnet
from helpers.command import env
from helpers.pairs import new_learner, pair, small_dls

torch.set_num_threads(1)
names = ['stage1', 'stage2', 'stage3', 'head']

def costs(unit='macs'):
    "Four parts; student 1, 2, 3, 4, teacher 10, 20, 40 and a head that is not counted, a step 100"
    macs = {f'student_{unit}': [1., 2, 3, 4], f'teacher_{unit}': [10., 20, 40, 0], f'train_{unit}': [100.]*4}
    return pd.DataFrame(dict(student_bytes=[8, 4, 2, 0], teacher_bytes=[8, 4, 2, 0], **macs), index=names)

schedule = dict(stage1=3, stage2=3, stage3=3, head=2)

@pytest.mark.parametrize('device', ['mps', 'xpu'])
def test_a_device_without_a_price_of_its_own_is_a_gpu(device):
    for budget in (0, 3_000, 1e9):
        ours, gpu = (make_plan(costs(), schedule, 100, 10, 2, budget, d) for d in (device, 'cuda'))
        assert ours.kept == gpu.kept and ours.table.equals(gpu.table)

def test_validation_counts_what_runs():
    "By hand, an image and pass: the student up to the stage, the teacher to its end; the head is the student alone"
    both = costs().join(costs('seconds').filter(like='seconds'))
    for every, passes in ((1, [3, 3, 3, 2]), (2, [2, 2, 2, 1]), (0, [0]*4)):
        p = make_plan(both, schedule, 100, 10, None, valid_every=every)
        each = [1 + 70, 1 + 2 + 70, 1 + 2 + 3 + 70, 1 + 2 + 3 + 4]
        assert (p.table.gmacs_valid*1e9).tolist() == pytest.approx([10*n*c for n, c in zip(passes, each)])
        assert (p.table.seconds - p.table.gmacs*1e9).tolist() == pytest.approx((p.table.gmacs_valid*1e9).tolist())
        alone = make_plan(both, schedule, 100, 10, None, valid_every=every, stitched=False)
        rest = [10*n*c for n, c in zip(passes, [60, 40, 0, 0])]
        assert (1e9*(p.table.gmacs_valid - alone.table.gmacs_valid)).tolist() == pytest.approx(rest)
        slow = both.assign(student_valid_seconds=5*both.student_seconds, teacher_valid_seconds=5*both.teacher_seconds)
        slow = make_plan(slow, schedule, 100, 10, None, valid_every=every).table.seconds
        assert (slow - p.table.seconds).tolist() == pytest.approx((4e9*p.table.gmacs_valid).tolist())

@pytest.mark.parametrize('cache', [None, '1 GB'])
def test_validation_is_what_a_run_computes(cache):
    "Beside the multiply-adds that PyTorch counts in a run, training and validation together; adapters are not in the plan"
    def counted(valid_every):
        torch.manual_seed(0)
        teacher, student = pair()
        for m in [*teacher.modules(), *student.modules()]:
            if isinstance(m, nn.Dropout): m.p = 0.
        learn, runs = new_learner(student, small_dls(n=100, bs=20)), []
        kwargs = dict(epochs=2, head_epochs=1, valid_every=valid_every, cbs=CacheFeatures(2, cache) if cache else None)
        macs = count_macs(lambda: runs.append(learn.fit_sskd(teacher, **kwargs)))
        return macs, runs[0].plan
    (with_valid, plan), (without, _) = counted(1), counted(0)
    adapters = 50*2*sum(k*2*k*(10, 5, 3)[i]**2 for i, k in enumerate((4, 8, 16)))
    head = 50*2*3*32*10  # the teacher's, in the stitched network
    assert with_valid - without == pytest.approx(plan.table.gmacs_valid.sum()*1e9 + adapters + head, rel=.01)

@pytest.mark.slow
@pytest.mark.parametrize('valid_every', [0, 1])
@pytest.mark.parametrize('budget', [None, '0 B', '1 GB'])
def test_how_long(budget, valid_every, monkeypatch):
    "Predicted seconds within a factor of two of the measured ones, by the processor's clock, for the machine has other work"
    monkeypatch.setattr(time, 'perf_counter', time.process_time)
    torch.manual_seed(0)
    dls = fashion_dls(n=500, bs=50, device='cpu')
    dls.loaders[1] = dls.valid.new(ImageSet(balanced(embedded_fashion('valid'), 40)[0], split_idx=1))
    learn, teacher = new_learner(tutorial_resnet(width=16, blocks=1), dls), fashion_teacher()
    kwargs = dict(epochs=2, head_epochs=1, valid_every=valid_every, cbs=CacheFeatures(2, budget) if budget else None)
    plan = learn.sskd_plan(teacher, **kwargs)
    run = learn.fit_sskd(teacher, plan=plan, **kwargs)
    assert .5 < run.stages.planned_seconds.sum()/run.stages.seconds.sum() < 2

a_run = """
from fastai.vision.all import Learner
import sskd_tutor.distill.fit
from sskd_tutor.core.device import peak_memory, quiet
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.core.state import rng_state
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import fashion_teacher
learn = Learner(fashion_dls(n=1000, bs=50, device='cpu'), tutorial_resnet(width=16, blocks=1))
how = dict(epochs=2, head_epochs=1, cbs=CacheFeatures(2, '4 GB'), valid_every=0)
plan = learn.sskd_plan(fashion_teacher(), **how)
with quiet(learn): learn.fit_sskd(fashion_teacher(), **how)
print(plan.memory, plan.bytes, peak_memory('cpu'))
"""

def test_memory_is_what_a_run_holds():
    "In a process of its own; about a quarter is remembered features"
    p = subprocess.run([sys.executable, '-W', 'ignore', '-c', a_run], env=env, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    planned, remembered, held = map(float, p.stdout.split())
    assert remembered > .2*held and planned == pytest.approx(held, rel=.2)

@pytest.mark.parametrize('timed', [False, True])
def test_a_plan_draws_nothing(timed):
    "A run that was planned is the run that was not"
    learn, teacher = new_learner(pair()[1]), pair()[0]
    state = rng_state(learn.dls.train)
    learn.sskd_plan(teacher, 1, 1, adapter='conv_bn', cbs=CacheFeatures(2, '1 MB'), timed=timed)
    after = rng_state(learn.dls.train)
    assert all(torch.equal(after[name], state[name]) for name in ('torch', 'python', 'loader'))
    assert (after['numpy'][1] == state['numpy'][1]).all() and after['numpy'][2] == state['numpy'][2]

@pytest.mark.parametrize('kwargs, match', [(dict(epochs='8'), "epochs is '8'"), (dict(head_epochs=-1), '0 or more for the head'),
                                           (dict(epoch=3), "takes no 'epoch'; did you mean 'epochs'"), (dict(valid_every=-1), 'valid_every is -1')])
def test_a_plan_refuses_what_the_run_would(kwargs, match):
    with pytest.raises((ValueError, TypeError), match=match): new_learner(pair()[1]).sskd_plan(pair()[0], timed=False, **kwargs)

def costs_of(n, draw):
    "A made table of n stages and a head"
    rows = dict(stage=[*(f's{i}' for i in range(n)), 'head'])
    for column in ('student_macs', 'teacher_macs', 'train_macs', 'student_bytes', 'teacher_bytes'):
        rows[column] = [10**draw.uniform(3, 6) for _ in range(n + 1)]
    return pd.DataFrame(rows).set_index('stage')

def naive_cheapest(work, kept_views, price, budget):
    "The cost of the cheapest pair of routes that fits, every pair priced by itself; None if none fits"
    kept = _subsets(len(work.costs) - 1) if kept_views else [frozenset()]
    found = []
    for student, teacher in product(kept, kept):
        routes = work.route('student', student, kept_views), work.route('teacher', teacher, kept_views)
        peak = max(a + b for a, b in zip(*map(work._peaks, routes)))
        if peak <= budget: found.append(sum(work._cost(route, price) for route in routes))
    return min(found, default=None)

@pytest.mark.parametrize('seed', range(8))
def test_the_cheapest_of_all_choices(seed, monkeypatch):
    draw, asked, cheapest = random.Random(seed), [], Work._cheapest
    def spy(work, kept_views, price, budget):
        choice = cheapest(work, kept_views, price, budget)
        asked.append((choice, naive_cheapest(work, kept_views, price, budget), budget))
        return choice
    monkeypatch.setattr(Work, '_cheapest', spy)
    costs = costs_of(3, draw)
    make_plan(costs, {name: 4 for name in costs.index}, 500, 100, views=4, budget=10**draw.uniform(6, 10))
    assert asked
    for choice, naive, budget in asked:
        assert (choice is None) == (naive is None)
        if choice: assert choice.cost == pytest.approx(naive) and choice.peak <= budget

def test_a_loss_that_fails_loses_no_gradients():
    net = tutorial_resnet(width=8, blocks=1)
    net(torch.randn(2, 1, 28, 28)).sum().backward()
    before = [p.grad for p in net.parameters()]
    def fails(pred, y): raise RuntimeError('mine')
    with pytest.raises(RuntimeError, match='mine'): whole_step_macs(net, torch.randn(2, 1, 28, 28), fails)
    assert all(p.grad is old for p, old in zip(net.parameters(), before))

def test_timing_changes_no_mode():
    teacher, student = pair()
    teacher.eval()
    valid_seconds(new_learner(student), teacher)
    assert student.training and not teacher.training
