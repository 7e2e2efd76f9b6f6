"""Kills with -9 at random moments and at each place of a writing: the resumed student is the unbroken one to the bit."""
import pytest
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
