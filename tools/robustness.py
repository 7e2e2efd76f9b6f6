"""Run the matrix of hard cases and write down how each ended: `python tools/robustness.py [ROOM ...]`.

Rooms are the files tests/robust/test_ROOM.py. Rows of other rooms stay as they are. It takes an hour on one core."""
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

root = Path(__file__).resolve().parent.parent
path = root/'sskd_tutor/data_files/benchmarks/results/robustness.csv'

def main(rooms):
    files = [str(root/f'tests/robust/test_{room}.py') for room in rooms] or [str(root/'tests/robust')]
    env = os.environ | dict(SSKD_ROBUSTNESS=str(path), OMP_NUM_THREADS='1')
    cmd = [sys.executable, '-m', 'pytest', '-q', '-m', '', '-k', 'not properties', '--no-header', *files]
    code = subprocess.run(cmd, cwd=root, env=env).returncode
    table = pd.read_csv(path, keep_default_na=False)
    print(table.groupby(['room', 'ends']).size().unstack(fill_value=0))
    return code

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
