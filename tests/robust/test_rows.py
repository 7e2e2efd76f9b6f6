"""What is committed of the matrix: every case ends right or named, and there are as many as were asked for."""
import sys

import pandas as pd
import pytest

from conftest import root

from sskd_tutor.core.files import pkg_data

@pytest.fixture(scope='module')
def rows(): return pd.read_csv(pkg_data/'benchmarks/results/robustness.csv', keep_default_na=False)

def test_nothing_is_raw_or_wrong(rows):
    assert rows[~rows.ends.isin(['right', 'named'])].empty and not rows.duplicated(['room', 'case']).any()
    assert (rows.says != '').eq(rows.ends == 'named').all()

def test_networks(rows):
    "Each taught and learned with what is frozen the same to the bit"
    ours = rows[rows.room == 'networks']
    assert len(ours) >= 60 and (ours.ends == 'right').all()
    teachers, students = zip(*(case.split(' teaches ') for case in ours.case))
    assert len(set(teachers) & set(students)) >= 55 and sum('timm:' in name for name in set(teachers)) >= 40

def test_kills(rows):
    "With signal 9 at random moments; then the student and its table of costs are those of an unbroken run"
    killed = rows[(rows.room == 'faults') & rows.case.str.contains('seed')]
    assert len(killed) == 20 and (killed.ends == 'right').all()
    assert killed.case.str.extract(r'killed (\d) times')[0].astype(int).sum() == 41
    assert {case.split(',')[0] for case in killed.case} == {'float32', 'bf16', 'stitched', 'torch_adamw', 'cached'}

def test_the_counts_on_the_page(rows, monkeypatch):
    "SECURITY.md has those of the rows: `python tools/robustness.py --count`"
    monkeypatch.setattr(sys, 'path', [*sys.path, str(root/'tools')])
    from robustness import counts
    assert counts(rows) in (root/'SECURITY.md').read_text()

def test_every_room_has_been_run(rows):
    assert rows.room.value_counts().to_dict().keys() == {
        'damaged files', 'extremes', 'faults', 'hostile files', 'loaders', 'networks', 'own networks', 'sets'}
