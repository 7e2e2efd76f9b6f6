"Fingerprints, settings as text, states of generators"
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from torch import nn

from sskd_tutor.core import state as s
from sskd_tutor.core.files import pack, unpack
from sskd_tutor.core.tables import records, tidy
from sskd_tutor.core.units import in_bytes, in_units


class Scale(Callback):
    def __init__(self, by=2, device='cpu'): self.by, self.other = by, [1, 2]


class Plain:
    def __init__(self, a, b=3): self.a, self.b, self.c = a, b, object()


@pytest.mark.parametrize('o, text', [
    (Scale(5), 'Scale(by=5)'), (Plain('x'), 'Plain(a=x, b=3)'), (partial(Plain, 1, b=None), 'Plain(b=None, 0=1)'),
    ((1, np.float64(.5)), [1, .5]), ({1: len}, {'1': 'len'}), (nn.ReLU(), 'ReLU()'),
    (torch.zeros(1, device='meta'), 'tensor(..., size=(1,))')])
def test_described(o, text):
    assert s.described(o) == text


def test_differences_of_kinds():
    assert s.differences(dict(a=dict(b=1)), dict(a=2)) == ["a: {'b': 1} in the checkpoint, 2 now"]


def test_fingerprint_knows_buffers_and_names():
    a, b = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    assert s.tensors_sha256(a) == s.tensors_sha256(b)
    b.running_mean += 1
    assert s.tensors_sha256(a) != s.tensors_sha256(b)
    assert s.tensors_sha256(nn.Sequential(a)) != s.tensors_sha256(a)


def test_kept_of_several_networks():
    nets = nn.Dropout(), nn.Linear(1, 1)
    with s.kept(*nets):
        for net in nets: net.eval().requires_grad_(False)
    assert nets[0].training and nets[1].weight.requires_grad


def test_generators_through_json():
    class Loader: pass
    state, tensors = s.rng_state(Loader()), {}
    packed = json.loads(json.dumps(pack(state, tensors)))
    first = torch.rand(2).tolist(), np.random.rand(2).tolist()
    s.set_rng_state(Loader(), unpack(packed, tensors))
    assert first == (torch.rand(2).tolist(), np.random.rand(2).tolist())


def test_same_rng_after_an_error():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        with s.same_rng(0):
            torch.rand(3)
            raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_units():
    assert [in_units(n) for n in (0, 999, 999_500, -2e9, 5e15)] == ['0 B', '999 B', '1 MB', '-2 GB', '5e+03 TB']
    assert [in_bytes(t) for t in ('1e3', '2 GiB', '1.5T', 10)] == [1000, 2e9, 1.5e12, 10]
    for wrong in ('', 'GB', '3 apples'):
        with pytest.raises(ValueError, match='is not an amount of memory'): in_bytes(wrong)


def test_tables():
    table = tidy([dict(phase='a', stage='s', epoch=0, loss=1., extra=None)])
    assert table.measure.tolist() == ['loss']
    frame = pd.DataFrame(dict(t=[pd.NaT, None], n=[np.int64(1), np.int64(2)]))
    assert records(frame) == [dict(t=None, n=1), dict(t=None, n=2)]
