"""Run a copy of a lesson here and now.

Print as JSON what each exercise's check said and how many CPU seconds it all took.

    SSKD_QUICK=1 python tools/run_lesson.py _course/both/01_first.ipynb [slow]
"""
import json, os, sys
from pathlib import Path

import nbformat
from execnb.shell import CaptureShell

from sskd_tutor.course.grading import Verdict, read_progress

skipped = {'slow', 'gpu', 'notest'}

def cpu():
    "Seconds of CPU that this process and its children have used, starting Python and importing included"
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system

def run_cell(shell, source, where):
    "The value of a cell's last line"
    shell.run(source)
    if shell.exc is not None: sys.exit(f'{where}:\n{source}\n\n{shell.prettytb()}')
    return shell.result

def row(verdict, kind, counted):
    return dict(id=verdict.id, kind=kind, passed=verdict.passed, says=verdict.says, hints=len(verdict.hints),
        counted=counted)

def run(
    path,
    flags=(),  # of 'slow', 'gpu', 'notest': cells that run although they carry it
) -> dict:     # rows (of exercises) and seconds
    "Run all cells, one after the other, in one shell"
    shell, rows, spare = CaptureShell(path, mpl_format=None), [], 0.
    for i, cell in enumerate(nbformat.read(path, 4).cells):
        tags, where = set(cell.metadata.get('tags', [])), f'{path}, cell {i}'
        if cell.cell_type != 'code' or tags & skipped - set(flags): continue
        start, before = cpu(), read_progress()
        value = run_cell(shell, cell.source, where)
        kinds = tags & {'skeleton', 'solution'}
        if not kinds: continue
        if not isinstance(value, Verdict): sys.exit(f'{where}: its last line gives {value!r} and no verdict')
        if 'skeleton' in kinds: spare += cpu() - start  # a reader runs one of the two
        rows.append(row(value, kinds.pop(), read_progress() != before))
    return dict(rows=rows, seconds=cpu() - spare)

if __name__ == '__main__': print(json.dumps(run(Path(sys.argv[1]), sys.argv[2:])))
