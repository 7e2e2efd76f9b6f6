"Files that are whole or not there, whatever happens"
import os

import pytest
import torch

from sskd_tutor.core import files as f
from sskd_tutor.core.errors import Registry


def test_a_killed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = f.write_whole(tmp_path/'a.txt', 'old')
    def killed(*_): raise KeyboardInterrupt
    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt): f.write_whole(path, 'new')
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.txt']


def test_text_is_utf8_and_bytes_are_bytes(tmp_path):
    assert f.write_whole(tmp_path/'a', 'Größe').read_bytes() == 'Größe'.encode()
    assert f.write_whole(str(tmp_path/'a'), b'\0\1').read_bytes() == b'\0\1'


def test_a_folder_is_renamed_whole(tmp_path):
    (tmp_path/'x').mkdir()
    (tmp_path/'x/a').write_text('1')
    f.replace_whole(tmp_path/'x', tmp_path/'y')
    assert (tmp_path/'y/a').read_text() == '1' and not (tmp_path/'x').exists()


def test_no_snapshots():
    assert f.snapshots('/no/such/folder') == []
    assert f.read_snapshot('/no/such/folder') is None


def test_a_failing_state_leaves_no_snapshot(tmp_path):
    with pytest.raises(TypeError, match="/net holds a Linear; expected tensors"):
        f.write_snapshot(tmp_path, dict(net=torch.nn.Linear(1, 1)))
    assert os.listdir(tmp_path) == []


def test_only_halves_are_cleared(tmp_path):
    for name in ('000003.tmp', 'mine.tmp', '000004'): (tmp_path/name).mkdir()
    f.clear_halves(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['000004', 'mine.tmp']


def test_a_registry_without_entries():
    empty = Registry('loss')
    with pytest.raises(ValueError, match=r"no loss 'mse'; expected one of \[\]"): empty['mse']
    assert empty.get('mse') is None and 'mse' not in empty
