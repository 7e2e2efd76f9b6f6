"""Run the matrix of hard cases and write down how each ended: `python tools/robustness.py [ROOM ...]`.

Rooms are the files tests/robust/test_ROOM.py. Rows of other rooms stay as they are. It takes two hours on one core.
`python tools/robustness.py --count` runs nothing and writes the counts into SECURITY.md."""
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

root = Path(__file__).resolve().parent.parent
path = root/'sskd_tutor/data_files/benchmarks/results/robustness.csv'
page = root/'SECURITY.md'
marks = '<!-- counts: python tools/robustness.py --count -->', '<!-- end of counts -->'

def counts(table):
    "How many cases of each room ended how, in Markdown"
    found = table.groupby(['room', 'ends']).size().unstack(fill_value=0).reindex(columns=['right', 'named', 'raw', 'wrong'], fill_value=0)
    lines = ['| cases | right | refused in a sentence | an error of somebody else | wrong |', '| --- | --- | --- | --- | --- |']
    lines += [f'| {room} | ' + ' | '.join(map(str, row)) + ' |' for room, *row in found.itertuples()]
    return '\n'.join([*lines, '| all | ' + ' | '.join(map(str, found.sum())) + ' |'])

def write_counts():
    before, rest = page.read_text().split(marks[0])
    after = rest.split(marks[1])[1]
    table = counts(pd.read_csv(path, keep_default_na=False))
    page.write_text(f'{before}{marks[0]}\n\n{table}\n\n{marks[1]}{after}')
    return table

def main(rooms):
    files = [str(root/f'tests/robust/test_{room}.py') for room in rooms] or [str(root/'tests/robust')]
    env = os.environ | dict(SSKD_ROBUSTNESS=str(path), OMP_NUM_THREADS='1')
    cmd = [sys.executable, '-m', 'pytest', '-q', '-m', '', '-k', 'not properties', '--no-header', *files]
    return 0 if rooms == ['--count'] else subprocess.run(cmd, cwd=root, env=env).returncode

if __name__ == '__main__':
    code = main(sys.argv[1:])
    print(write_counts())
    sys.exit(code)
