"""Two processes (gloo, CPU) train what one trains; each on its own share; a lost one is an error at once, not a hang.

This file is also the script that the processes run: `test_several.py <what> <folder>`."""
import os, signal, subprocess, sys, time
from functools import partial
from pathlib import Path

import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Callback, Learner
from fastai.optimizer import OptimWrapper
from fastai.torch_core import num_distrib, rank_distrib

from sskd_tutor.core.events import RunCallback
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.checkpoint import Checkpoint
from sskd_tutor.distill.several import together
from sskd_tutor.distill.losses import mimic_mse, mimic_nmse
from helpers.pages import free_port
from helpers.pairs import Spy, gap, moved, new_learner, norms, small_dls, snapshot, staged

losses = dict(mse=mimic_mse, nmse=mimic_nmse)
bs, n = 50, 100  # images a step, and in all

def learner(bs=bs, seed=0, **kwargs):
    torch.manual_seed(seed)
    student = staged(4, norm=norms['GroupNorm'], p=0.)
    torch.manual_seed(1)
    teacher = staged(8, norm=norms['GroupNorm'], p=0.)
    sgd = partial(OptimWrapper, opt=torch.optim.SGD)
    return new_learner(student, small_dls(n=n, bs=bs, n_valid=50), opt_func=sgd, **kwargs), teacher

def distill(learn, teacher, loss=mimic_mse, epochs=2, seed=0, cbs=()):
    "Everything that can be compared of a run"
    grads, sent = {}, {}
    def look(learn):
        stage = learn.sskd_phase
        if stage == 'head' or stage in grads: return
        grads[stage] = [p.grad.clone() for p in learn.sskd_run.adapters[stage].parameters()]
        if hasattr(learn.model, 'module'): sent[stage] = learn.model._get_ddp_logging_data()['total_parameter_size_bytes']
    torch.manual_seed(2 + seed)  # of the adapters
    cbs = [Spy(look, 'after_backward'), *cbs]
    run = learn.fit_sskd(teacher, epochs=epochs, head_epochs=epochs, lr=0.1, fit=Learner.fit, loss=loss, cbs=cbs)
    history = run.history[run.history.measure != 'seconds'].set_index(['stage', 'epoch', 'measure']).value
    adapters = {s: snapshot(a) for s, a in run.adapters.items()}
    return dict(student=snapshot(run.student), adapters=adapters, grads=grads, sent=sent, history=history.to_dict())

# --- what each process does

class Visits(RunCallback):
    "Which training images a run draws; the check before it, which looks at one batch of the whole, is left out"
    def begin_run(self, learn, run):
        data, self.seen = learn.dls.train.dataset, set()
        take = data.take
        data.take = lambda idx: (self.seen.update(idx.tolist()), take(idx))[1]

class Counted(CacheFeatures):
    "Notes how many images the remembered taps are of: (0 training or 1 validation, images)"
    held = frozenset()
    def new_store(self, part, which, tap, n):
        self.held |= {(part, n)}
        return super().new_store(part, which, tap, n)

def agree(folder):
    out = {}
    for name, loss in losses.items():
        seed, visits = 7*rank_distrib(), Visits()  # seeds that differ: the first process decides
        learn, teacher = learner(bs//num_distrib(), seed=seed)
        before = learn.dls.loaders[:]
        with learn.distrib(): out[name] = distill(learn, teacher, loss, seed=seed, cbs=[visits])
        out[name] |= dict(visited=sorted(visits.seen), restored=all(a is b for a, b in zip(before, learn.dls.loaders)))
    own = Checkpoint(folder/f'of rank {rank_distrib()}')
    for name, cbs in dict(computed=[own], remembered=[Counted(views=2, budget='1 GB')]).items():
        learn, teacher = learner(bs//num_distrib())
        learn.dls.train.n_views = 2
        with learn.distrib(): out[name] = distill(learn, teacher, epochs=4, cbs=cbs)
        if name == 'remembered': out['held'] = sorted(cbs[0].held)
    learn, teacher = learner()
    x, y = [torch.cat(ts) for ts in zip(*learn.dls.train.new(bs=10))]
    ds = list(zip(x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)))
    learn.dls = DataLoaders(DataLoader(ds, bs=25, shuffle=True), DataLoader(ds[:50], bs=25), device='cpu')
    with learn.distrib(): out['foreign'] = distill(learn, teacher, epochs=1)
    out['wrote'] = (folder/f'of rank {rank_distrib()}').exists()
    torch.save(out, folder/f'rank{rank_distrib()}.pt')

class Hold(Callback):
    "The second process stands still in the second epoch of stage 2, for ever"
    def __init__(self, folder): self.folder = folder
    def after_batch(self):
        if not self.training or self.learn.sskd_phase != 'stage2' or self.epoch < 1 or not rank_distrib(): return
        (self.folder/'waiting').touch()
        time.sleep(1000)

def held(folder):
    learn, teacher = learner(bs//num_distrib())
    cbs = [Checkpoint(folder/'saved', every=0), Hold(folder)]
    with learn.distrib(timeout=float(sys.argv[3])): distill(learn, teacher, cbs=cbs)

def resumed(folder):
    learn, teacher = learner(bs//num_distrib(), seed=7*rank_distrib())
    trained = set()
    watch = Spy(lambda learn: trained.add(learn.sskd_phase))
    with learn.distrib(timeout=60): out = distill(learn, teacher, cbs=[Checkpoint(folder/'saved', resume=True), watch])
    torch.save(out | dict(trained=sorted(trained)), folder/f'rank{rank_distrib()}.pt')

if __name__ == '__main__': dict(agree=agree, held=held, resumed=resumed)[sys.argv[1]](Path(sys.argv[2]))

# --- the tests

tests = Path(__file__).parent.parent   # where `helpers` lies
paths = [str(tests.parent), str(tests), *filter(None, [os.environ.get('PYTHONPATH')])]
environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'PYTHONPATH': os.pathsep.join(paths)}

def torchrun(what, folder):
    "What each of two processes reports"
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    p = subprocess.run([*launch, __file__, what, folder], env=environment, capture_output=True, text=True, timeout=300)
    assert p.returncode == 0, p.stderr[-3000:]
    return [torch.load(folder/f'rank{r}.pt', weights_only=True) for r in range(2)]

@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    pytest.importorskip('accelerate', reason="needs `pip install accelerate`")
    return torchrun('agree', tmp_path_factory.mktemp('agree'))

def alone(loss, **kwargs):
    learn, teacher = learner()
    learn.dls.loaders[0] = learn.dls.train.new(shards=2, **kwargs)
    return distill(learn, teacher, losses[loss])

@pytest.mark.parametrize('loss,tolerance', [('mse', 2e-6), ('nmse', 5e-3)])  # mimic_nmse: each rank divides by its own variance
def test_two_processes_equal_one(ranks, loss, tolerance):
    one = alone(loss)
    for part in 'student', 'adapters':
        assert gap(ranks[0][loss][part], ranks[1][loss][part]) == 0
        assert gap(ranks[0][loss][part], one[part]) < tolerance
    half = alone(loss, rank=0, bs=bs//2)  # teeth: one process on its share alone is far away
    assert gap(half['student'], one['student']) > 5*tolerance

def test_gradients_of_adapters_are_averaged(ranks):
    one = alone('mse')['grads']
    assert list(one) == ['stage1', 'stage2', 'stage3'] and all(one.values())
    assert gap(ranks[0]['mse']['grads'], ranks[1]['mse']['grads']) == 0
    assert gap(ranks[0]['mse']['grads'], one) < 1e-5
    assert gap(alone('mse', rank=0, bs=bs//2)['grads'], one) > 1e-4

def test_measures_are_of_all_processes(ranks):
    one = alone('mse')['history']
    assert {m for _, _, m in one} == {'train_loss', 'valid_loss', 'nmse', 'stitched', 'accuracy'}
    for rank in ranks: assert gap(rank['mse']['history'], one) < 1e-5

def test_each_rank_sees_its_own_share(ranks):
    for r, rank in enumerate(ranks): assert rank['mse']['visited'] == list(range(r, n, 2)) and rank['mse']['restored']

def test_each_rank_remembers_its_own_share(ranks):
    "With remembered features the same student, to the bit; nobody holds more than half of the images"
    for rank in ranks:
        assert gap(rank['remembered']['student'], rank['computed']['student']) == 0
        assert rank['held'] == [(0, n//2), (1, 50//2)]

def test_only_the_stage_is_sent(ranks):
    learn, _ = learner()
    adapters, sent = alone('mse')['adapters'], ranks[0]['mse']['sent']
    for name, stage in learn.model.stages.items():
        numbers = sum(p.numel() for p in stage.parameters()) + sum(p.numel() for p in adapters[name].values())
        assert sent[name] == 4*numbers   # bytes

def test_only_the_first_process_writes(ranks):
    assert [rank['wrote'] for rank in ranks] == [True, False]

def test_loaders_that_are_not_ours(ranks):
    assert gap(ranks[0]['foreign']['student'], ranks[1]['foreign']['student']) == 0

def test_not_told(monkeypatch):
    "Several processes, but nobody made them one run"
    learn, teacher = learner()
    before = snapshot(learn.model)
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ValueError, match=r'2 processes were started.*learn.distrib.*sskd_tutor\[ddp\]'):
        distill(learn, teacher)
    assert not moved(before, learn.model)
    with pytest.raises(ValueError), together(learn): pass

def test_without_accelerate(monkeypatch):
    learn, _ = learner()
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    with learn.distrib(): pass  # one process needs none
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ImportError, match=r'sskd_tutor\[ddp\]'): learn.distrib()

def start(folder, rank, port, timeout):
    where = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    env, err = environment | {k: str(v) for k, v in where.items()}, open(folder/f'err{rank}', 'w')
    return subprocess.Popen([sys.executable, __file__, 'held', folder, timeout], env=env, stdout=subprocess.DEVNULL, stderr=err)

@pytest.mark.parametrize('how,timeout', [('killed', '120'), pytest.param('hanging', '10', marks=pytest.mark.slow)])
def test_a_lost_process(ranks, how, timeout, tmp_path):
    "The other one says so and ends, at once or when the timeout is over; what was saved goes on to the same student"
    port = free_port()
    both = [start(tmp_path, r, port, timeout) for r in range(2)]
    try:
        end = time.monotonic() + 180
        while not (tmp_path/'waiting').exists():
            assert time.monotonic() < end and all(p.poll() is None for p in both), (tmp_path/'err0').read_text()[-2000:]
            time.sleep(0.1)
        if how == 'killed': both[1].send_signal(signal.SIGKILL)
        assert both[0].wait(timeout=100) == 1
        assert 'ConnectionError: rank 0 of 2 lost another process' in (tmp_path/'err0').read_text()
    finally:
        for p in both:
            p.kill()
            p.wait()
    if how == 'hanging': return
    for rank, unbroken in zip(torchrun('resumed', tmp_path), ranks):
        assert gap(rank['student'], unbroken['mse']['student']) == 0 and gap(rank['adapters'], unbroken['mse']['adapters']) == 0
        assert rank['trained'] == ['head', 'stage2', 'stage3'] and gap(rank['history'], unbroken['mse']['history']) == 0
