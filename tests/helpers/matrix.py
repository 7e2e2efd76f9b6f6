"""A row of the matrix of hard cases: it ends *right* or *named*. `python tools/robustness.py` keeps the rows."""
import os
import re
import time
import traceback
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

import sskd_tutor

package = Path(sskd_tutor.__file__).parent
columns = ['room', 'case', 'ends', 'says', 'date', 'torch']

class End(NamedTuple):
    "How a case ended"
    ends: str   # 'right', 'named': refused by a sentence of ours; 'raw': anybody else's error; 'wrong'
    says: str   # the error

def _raised_by_us(error):
    "Is the statement that raised it ours?"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(package) and 'raise' in (last.line or '')

def judged(f):
    "Call it; what it checks, it asserts"
    try: f()
    except AssertionError as e: return End('wrong', str(e))
    except Exception as e: return End('named' if _raised_by_us(e) else 'raw', f'{type(e).__name__}: {e}')
    return End('right', '')

def _keep(path, row):
    "In the place of the same case's older row"
    old = pd.read_csv(path, keep_default_na=False).to_dict('records') if path.exists() else []
    kept = [r for r in old if (r['room'], r['case']) != (row['room'], row['case'])]
    table = pd.DataFrame([*kept, row], columns=columns).sort_values(['room', 'case'])
    half = path.with_suffix('.tmp')
    table.to_csv(half, index=False)
    half.replace(path)

def check(room, name, f, expect=('right', 'named')):
    "A case, and how it ended; a failure unless it ends as expected"
    start = time.perf_counter()
    end = judged(f)
    first_line = re.sub(r'\S*/pytest-(\d+/|of-\S*$)', '', end.says, flags=re.M).splitlines()[0][:160] if end.says.strip() else ''
    print(f'{room} | {name} | {end.ends} in {time.perf_counter() - start:.1f} s | {first_line}')
    path = os.environ.get('SSKD_ROBUSTNESS')
    row = dict(room=room, case=name, ends=end.ends, says=first_line, date=date.today().isoformat(), torch=torch.__version__)
    if path: _keep(Path(path), row)
    assert end.ends in expect, f'{name} ends {end.ends}: {end.says}'
    return end
