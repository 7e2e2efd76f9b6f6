"""Kills with -9 at random moments and at each place of a writing: the resumed student is the unbroken one to the bit."""
import pytest
import test_checkpoint as checkpoints
from test_checkpoint import check_kill, check_killed_writing, process, unbroken  # noqa: F401, fixtures

from helpers.matrix import check

pytestmark = pytest.mark.slow
cases = 'float32', 'bf16', 'stitched', 'torch_adamw', 'cached'

@pytest.mark.parametrize('seed', range(100, 120))
def test_killed(seed, tmp_path, unbroken, process):  # noqa: F811
    case, kills = cases[seed % 5], 1 + seed % 3
    def f(): check_kill(seed, case, [0, .1][seed % 2], tmp_path, unbroken, process, kills=kills)
    check('faults', f'{case}, killed {kills} times, seed {seed}', f, expect=('right',))

@pytest.mark.parametrize('at', [*range(18), *range(60, 66)])
def test_killed_while_writing(at, tmp_path, unbroken, process):  # noqa: F811
    check('faults', f'killed at writing {at}', lambda: check_killed_writing(at, tmp_path, unbroken, process), expect=('right',))

@pytest.mark.parametrize('n, lost', [(13, False), (28, True)])
def test_killed_while_it_fills_the_disk_cache(n, lost, tmp_path, unbroken, process):  # noqa: F811
    def f(): checkpoints.test_killed_while_it_fills_the_disk_cache(n, lost, tmp_path, unbroken, process)
    check('faults', f'killed in batch {n}, taps on disk{", lost" if lost else ""}', f, expect=('right',))

# --- a disk that is full, and files that are damaged

full = {'for a while': 'test_full_disk_is_told_once', 'while it is interrupted': 'test_interrupted_while_the_disk_is_full'}

@pytest.mark.parametrize('when', full)
def test_full(when, tmp_path, unbroken):  # noqa: F811
    check('faults', f'the disk is full {when}', lambda: getattr(checkpoints, full[when])(unbroken, tmp_path), expect=('right',))

def test_full_file_system(unbroken, tiny_disk):  # noqa: F811
    check('faults', 'a file system of 1 MB is full', lambda: checkpoints.test_full_file_system(unbroken, tiny_disk), expect=('right',))

@pytest.mark.parametrize('name', ['tensors.safetensors', 'state.json', 'manifest.json'])
@pytest.mark.parametrize('how', ['bit', 'cut', 'missing', 'empty'])
def test_damaged(name, how, tmp_path):
    check('faults', f'a snapshot, {name}: {how}', lambda: checkpoints.test_damaged(name, how, tmp_path), expect=('right',))

def test_the_newest_is_damaged(tmp_path, unbroken):  # noqa: F811
    check('faults', 'the newest snapshot is damaged', lambda: checkpoints.test_going_on_from_the_older_one(unbroken, tmp_path), expect=('right',))
