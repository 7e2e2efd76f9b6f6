"Files that are whole or not there, whatever happens"
import os
import platform
import subprocess
import sys
import tempfile

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


# --- what killed processes leave

gone = f'{platform.node()}-999999999'   # no process has this number


def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    left, other, mine = tmp_path/f'.a.txt-{gone}.tmp', tmp_path/'.a.txt-elsewhere-999999999.tmp', tmp_path/f'.b.txt-{gone}.tmp'
    for path in (left, other, mine): path.write_text('half')
    f.write_whole(tmp_path/'a.txt', 'whole')
    assert sorted(os.listdir(tmp_path)) == sorted(['a.txt', other.name, mine.name])


def test_what_another_process_is_writing_stays(tmp_path):
    with subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE) as other:
        busy = tmp_path/f'.a.txt-{platform.node()}-{other.pid}.tmp'
        busy.write_text('half')
        f.write_whole(tmp_path/'a.txt', 'whole')
        assert busy.exists()
        other.communicate(b'\n')
    f.write_whole(tmp_path/'a.txt', 'whole')
    assert os.listdir(tmp_path) == ['a.txt']


def test_a_temporary_folder_of_a_killed_process_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    left, linked = tmp_path/f'sskd_tutor-taps-{gone}-ab_c1', tmp_path/f'sskd_tutor-taps-{gone}-link'
    (left/'deep').mkdir(parents=True)
    (tmp_path/'mine').mkdir()
    linked.symlink_to(tmp_path/'mine')   # never followed
    made = f.temporary_folder('taps')
    assert sorted(os.listdir(tmp_path)) == sorted(['mine', made.name]) and f.temporary_folder('run').exists()
    assert made.exists()
