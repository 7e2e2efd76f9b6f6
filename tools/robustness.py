"""Run the matrix of hard cases and write down how each ended.

    python tools/robustness.py [ROOM ...]
    python tools/robustness.py --count      runs nothing and writes the counts into SECURITY.md

Rooms are the files tests/robust/test_ROOM.py. Rows of other rooms stay as they are. It takes two hours on one
core.
"""
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

root = Path(__file__).resolve().parent.parent
path = root/'sskd_tutor/data_files/benchmarks/results/robustness.csv'
page = root/'SECURITY.md'
# around the table in SECURITY.md
begin, end = '<!-- counts: python tools/robustness.py --count -->', '<!-- end of counts -->'
endings = ['right', 'named', 'raw', 'wrong']   # of a case, as in the file
head = '''| cases | right | refused in a sentence | an error of somebody else | wrong |
| --- | --- | --- | --- | --- |'''

def row(name, numbers): return f'| {name} | ' + ' | '.join(map(str, numbers)) + ' |'

def counts(table):
    "How many cases of each room ended how, in Markdown"
    found = table.groupby(['room', 'ends']).size().unstack(fill_value=0)
    found = found.reindex(columns=endings, fill_value=0)
    rows = [row(room, numbers) for room, *numbers in found.itertuples()]
    return '\n'.join([head, *rows, row('all', found.sum())])

def write_counts():
    "The counts into SECURITY.md, between their marks"
    before, rest = page.read_text().split(begin)
    after = rest.split(end)[1]
    table = counts(pd.read_csv(path, keep_default_na=False))
    page.write_text(f'{before}{begin}\n\n{table}\n\n{end}{after}')
    return table

def run(rooms):
    "The exit status of the tests, which write their rows themselves"
    files = [str(root/f'tests/robust/test_{room}.py') for room in rooms] or [str(root/'tests/robust')]
    options = ['-q', '-m', '', '-k', 'not properties', '--no-header']
    env = os.environ | dict(SSKD_ROBUSTNESS=str(path), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, '-m', 'pytest', *options, *files], cwd=root, env=env).returncode

def main(rooms): return 0 if rooms == ['--count'] else run(rooms)

if __name__ == '__main__':
    code = main(sys.argv[1:])
    print(write_counts())
    sys.exit(code)
