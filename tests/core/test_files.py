"Files that are whole or not there, whatever happens"
import json
import os
import platform
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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


def test_threads_write_the_same_file(tmp_path):
    def write(i): return f.write_whole(tmp_path/'a.txt', str(i))
    with ThreadPoolExecutor(4) as pool: list(pool.map(write, range(80)))
    assert os.listdir(tmp_path) == ['a.txt'] and 0 <= int((tmp_path/'a.txt').read_text()) < 80


@pytest.mark.skipif(os.name == 'nt', reason="Windows has other links and modes")
def test_a_link_and_a_mode_stay(tmp_path):
    (tmp_path/'far').mkdir()
    target = f.write_whole(tmp_path/'far/a.txt', 'old')
    target.chmod(0o600)
    (tmp_path/'link').symlink_to('far/a.txt')
    assert f.write_whole(tmp_path/'link', 'new') == tmp_path/'link'
    assert (tmp_path/'link').is_symlink() and target.read_text() == 'new'
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='^there is no folder no.where; make it first$'):
        f.write_whole('no/where/a.txt', 'x')


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


def test_what_another_writer_has_begun_stays(tmp_path, monkeypatch):
    (tmp_path/'000001.tmp').mkdir()
    (tmp_path/'000001.tmp/state.json').write_text('half')
    monkeypatch.setattr(f, '_next_snapshot', lambda folder: folder/'000001')   # what was free a moment ago
    assert f.write_snapshot(tmp_path, dict(i=1)).name == '000002'
    assert (tmp_path/'000001.tmp/state.json').read_text() == 'half' and f.read_snapshot(tmp_path) == dict(i=1)


def test_what_another_writer_has_removed_is_gone(tmp_path, monkeypatch):
    seen = [f.write_snapshot(tmp_path, dict(i=i)) for i in range(2)]
    f.remove_snapshot(seen[0])
    monkeypatch.setattr(f, 'snapshots', lambda folder: [*seen, tmp_path/'000003'])   # what was there a moment ago
    assert f.write_snapshot(tmp_path, dict(i=2)).name == '000003'
    assert sorted(os.listdir(tmp_path)) == ['000002', '000003']


def test_only_halves_are_cleared(tmp_path):
    for name in ('000003.tmp', 'mine.tmp', '000004'): (tmp_path/name).mkdir()
    f.clear_halves(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['000004', 'mine.tmp']


# --- a state, and what comes back

def through_json(o):
    tensors = {}
    packed = json.dumps(f.pack(o, tensors))
    return f.unpack(json.loads(packed), tensors)


one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)

@pytest.mark.parametrize('state', [
    {'a/b': one, 'a': {'b': two}}, {1: one, '1': two}, {'a': [one], 'a/0': two},
    {'a/b': one, 'a': {'b': two}, 'a/b#2': three}, {'a/b#2': one, 'a/b': two, 'a': {'b': three}}])
def test_names_that_look_alike(state):
    assert str(through_json(state)) == str(state)


@pytest.mark.parametrize('state, where', [
    ({'t': {(1, 2): 3}}, r'/t has the key \(1, 2\), a tuple; expected text'), ({b'x': 1}, "the state has the key b'x', a bytes")])
def test_a_key_that_json_does_not_keep(state, where, tmp_path):
    with pytest.raises(TypeError, match=where): f.write_snapshot(tmp_path, state)
    assert os.listdir(tmp_path) == []


def test_keys_that_json_keeps():
    state = {None: 1, .5: 2, True: 3, np.int64(7): 4, 'a': 5}
    assert through_json(state) == state


def test_scalars_keep_their_type_and_their_bits():
    back = through_json(dict(pair=(torch.tensor(1), torch.tensor(2)), mixed=[torch.tensor(16777217), torch.tensor(.5)]))
    assert isinstance(back['pair'], tuple) and [t.item() for t in back['pair']] == [1, 2]
    assert [t.item() for t in back['mixed']] == [16777217, .5] and back['mixed'][0].dtype == torch.int64


def test_an_older_snapshot_is_read():
    packed = {'$dict': [['losses', {'$scalars': '/losses'}], ['pair', {'$tuple': [1, {'$tensor': '/pair/1'}]}]]}
    back = f.unpack(packed, {'/losses': torch.tensor([1., 2.]), '/pair/1': torch.tensor(3.)})
    assert back['losses'] == [1, 2] and back['pair'] == (1, 3)


def test_a_registry_without_entries():
    empty = Registry('loss')
    with pytest.raises(ValueError, match=r"no loss 'mse'; expected one of \[\]"): empty['mse']
    assert empty.get('mse') is None and 'mse' not in empty


# --- what killed processes leave

gone = f'{platform.node()}-999999999'   # no process has this number


def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    left, other, mine = tmp_path/f'.a.txt-{gone}.tmp', tmp_path/'.a.txt-elsewhere-999999999.tmp', tmp_path/f'.b.txt-{gone}.tmp'
    of_a_thread = tmp_path/f'.a.txt-{gone}.139.tmp'
    for path in (left, of_a_thread, other, mine): path.write_text('half')
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
