"What a device is asked, by a device that nobody has described and by one that a user adds"
import math

import pytest
import torch
from fastai.callback.fp16 import MixedPrecision
from fastai.learner import Learner
from fastai.vision.all import DataLoaders

from sskd_tutor.core import device as d
from sskd_tutor.core.state import environment, rng_state, same_rng, set_rng_state


class Abacus(d.DeviceKind):
    "A device that is all memory; it stands for one that a user adds"
    separate_memory = True

    def __init__(self): self.waited, self.beads = 0, torch.zeros(3)
    def name(self, device): return 'abacus'
    def free_memory(self, device): return 7
    def wait(self, device): self.waited += 1
    def fast_bf16(self, device): return True
    def all(self): return ['xpu:0']
    def in_use(self): return True
    def rng_states(self): return [self.beads.clone()]
    def set_rng_states(self, states): self.beads = states[0]


@pytest.fixture
def abacus(monkeypatch):
    kind = Abacus()
    monkeypatch.setitem(d.device_kinds, 'xpu', kind)
    return kind


def test_a_new_kind_of_device_is_asked_everywhere(abacus):
    assert d.device_name('xpu') == 'abacus' and environment('xpu')['device_name'] == 'abacus'
    assert d.free_memory(torch.device('xpu')) == 7 and d.fast_bf16('xpu')
    assert d.all_gpus()[-1] == 'xpu:0'
    d.seconds_of(lambda: None, 'xpu', n=3)
    assert abacus.waited == 4  # one call does not count


def test_its_random_generators_are_kept(abacus):
    with same_rng(): abacus.beads += 1
    assert abacus.beads.tolist() == [0, 0, 0]


def test_a_state_holds_kinds_that_were_added(abacus):
    loader = DataLoaders([], []).train
    state, before = rng_state(loader), abacus.beads
    abacus.beads = before + 1
    set_rng_state(loader, state)
    assert abacus.beads.tolist() == before.tolist()
    del state['xpu'], state['cuda']   # of a machine that knows no such kinds
    set_rng_state(loader, state)


class NVMLError(Exception): pass

@pytest.mark.parametrize('error, nvml, words', [
    (RuntimeError('no driver'), 'there', 'load unknown'), (NVMLError('Not Supported'), 'there', 'load unknown'),
    (ModuleNotFoundError(), None, 'load unknown: pip install nvidia-ml-py')])
def test_a_load_that_nobody_knows(monkeypatch, error, nvml, words):
    def fails(_): raise error
    monkeypatch.setattr(torch.cuda, 'utilization', fails)
    monkeypatch.setattr(d, 'find_spec', lambda name: nvml)
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _: (2**30, 2**31))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda _: 'a GPU')
    assert math.isnan(d.device_load('cuda'))
    assert d.device_status('cuda') == f'a GPU, {words}, 1.0 of 2 GB'


def test_an_unknown_device_gets_cautious_answers():
    kind = d.kind_of('mps')
    assert type(kind) is d.DeviceKind and d.device_name('mps') == 'mps'
    assert not d.fast_bf16('mps') and math.isnan(d.device_load('mps'))
    assert d.free_memory('mps') == pytest.approx(d.free_memory('cpu'), rel=.5)


def test_numbers_of_a_device_that_is_not_exact(monkeypatch):
    monkeypatch.setattr(d.device_kinds['cpu'], 'exact', False)
    x = torch.ones(100)
    assert d.same_numbers(x, x*1.001) and not d.same_numbers(x, x*1.1)


def test_a_state_without_gpus_is_read_anywhere():
    loader = DataLoaders([], []).train
    state = rng_state(loader)
    assert set(state) >= {'torch', 'cuda', 'numpy', 'python', 'loader'}
    set_rng_state(loader, state)


@pytest.mark.gpu
def test_gpu():
    assert d.all_gpus()[0] == 'cuda:0' and d.free_memory('cuda') < torch.cuda.get_device_properties(0).total_memory
    rows, idx = torch.rand(10, 3), torch.tensor([3, 1])
    assert torch.equal(d.take_rows(rows, idx, torch.device('cuda')).cpu(), rows[idx])
    assert torch.cuda.get_device_name() in d.device_status('cuda')
    learn = Learner(DataLoaders([], [], device='cuda'), torch.nn.Linear(2, 2).cuda(), loss_func=torch.nn.MSELoss(), cbs=MixedPrecision())
    with d.autocast_of(learn): assert learn.model(torch.ones(1, 2, device='cuda')).dtype == torch.float16
