"Fingerprints, settings as text, states of generators"
import json
from dataclasses import dataclass
from functools import partial
from typing import Union

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from torch import nn

from sskd_tutor.core import state as s
from sskd_tutor.core.files import pack, unpack
from sskd_tutor.core.settings import Settings, types_of
from sskd_tutor.core.tables import columns, records, tidy
from sskd_tutor.core.units import in_bytes, in_units, short_number


class Scale(Callback):
    def __init__(self, by=2, device='cpu'): self.by, self.other = by, [1, 2]


class OnWindows:
    def __repr__(self): return '<f at 0x000001E5B2> and <g at 0x7f3a>'


class Plain:
    def __init__(self, a, b=3): self.a, self.b, self.c = a, b, object()


@pytest.mark.parametrize('o, text', [
    (Scale(5), 'Scale(by=5)'), (Plain('x'), 'Plain(a=x, b=3)'), (partial(Plain, 1, b=None), 'Plain(b=None, 0=1)'),
    ((1, np.float64(.5)), [1, .5]), ({1: len}, {'1': 'len'}), (nn.ReLU(), 'ReLU()'),
    (torch.zeros(1, device='meta'), 'tensor(..., size=(1,))'), (OnWindows(), '<f> and <g>')])
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


def test_nan_is_equal_to_nan():
    net = nn.BatchNorm1d(2)
    with torch.no_grad(): net.weight[0] = float('nan')
    before = s.bits(net)
    assert s.changed(before, net) == []
    with torch.no_grad(): net.weight[1] = 3
    net.bias.data = torch.tensor([0., float('nan')])
    net.running_mean = torch.zeros(3)
    assert s.changed(before, net) == ['weight', 'bias', 'running_mean']


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
    assert [in_bytes(t) for t in ('1e3', '2 GB', '1.5T', 10)] == [1000, 2e9, 1.5e12, 10]
    assert [in_bytes(t) for t in ('1 KiB', '3MiB', '2 GiB', '.5 tib', '4Gi')] == [2**10, 3*2**20, 2**31, 2**39, 2**32]
    for wrong in ('', 'GB', '3 apples', '3 iB', '-1', [1], None):
        with pytest.raises(ValueError, match='is not an amount of memory'): in_bytes(wrong)


def test_short_numbers_below_zero():
    assert [short_number(v) for v in (-1234.5, -9.876, float('nan'))] == ['-1,234', '-9.88', 'nan']


def test_tables():
    table = tidy([dict(phase='a', stage='s', epoch=0, loss=1., extra=None)])
    assert table.measure.tolist() == ['loss']
    frame = pd.DataFrame(dict(t=[pd.NaT, None], n=[np.int64(1), np.int64(2)]))
    assert records(frame) == [dict(t=None, n=1), dict(t=None, n=2)]


def test_a_table_with_several_indices_and_lists():
    index = pd.MultiIndex.from_tuples([('a', 1), ('b', 2)], names=['stage', 'seed'])
    frame = pd.DataFrame(dict(loss=[.5, np.nan], shape=[[1, np.int64(2)], np.array([3., np.nan])]), index=index)
    assert records(frame) == [dict(stage='a', seed=1, loss=.5, shape=[1, 2]),
                              dict(stage='b', seed=2, loss=None, shape=[3., None])]
    assert json.loads(json.dumps(records(frame))) == records(frame)


def test_a_table_of_nothing():
    assert list(tidy([])) == columns and records(tidy([])) == []


def test_a_setting_of_two_types():
    @dataclass
    class Oven(Settings):
        heat: int | str = 180
        rest: Union[float, list, None] = None
    assert Oven('hot', 3).heat == 'hot' and Oven(200).rest is None
    with pytest.raises(ValueError, match=r"heat is 1.5; expected a whole number or text"): Oven(1.5)
    assert types_of(dict[str, None]) == [dict]
