"""Run a copy of a lesson here and now, and print as JSON what each exercise's check said and how many CPU seconds it all took.

    SSKD_QUICK=1 python tools/run_lesson.py _course/both/01_why.ipynb [slow]
"""
import json, os, sys
from pathlib import Path

import nbformat
from execnb.shell import CaptureShell

from sskd_tutor.course.grading import Verdict, read_progress

def cpu():  # children too
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system

def run(
    path,
    flags=(),  # of 'slow', 'gpu', 'notest': cells that run although they carry it
) -> dict:     # rows (of exercises) and seconds
    "Run all cells, one after the other, in one shell"
    shell, rows, spare = CaptureShell(path, mpl_format=None), [], 0.
    for i, c in enumerate(nbformat.read(path, 4).cells):
        tags = set(c.metadata.get('tags', []))
        if c.cell_type != 'code' or tags & {'slow', 'gpu', 'notest'} - set(flags): continue
        start, before = cpu(), read_progress()
        shell.run(c.source)
        if shell.exc is not None: sys.exit(f'{path}, cell {i}:\n{c.source}\n\n{shell.prettytb()}')
        if not (kind := tags & {'skeleton', 'solution'}): continue
        if not isinstance(v := shell.result, Verdict): sys.exit(f'{path}, cell {i}: its last line gives {v!r} and no verdict')
        if 'skeleton' in kind: spare += cpu() - start  # a reader runs one of the two
        said = dict(id=v.id, kind=kind.pop(), passed=v.passed, says=v.says, hints=len(v.hints))
        rows.append(said | dict(counted=read_progress() != before))
    return dict(rows=rows, seconds=cpu() - spare)  # starting Python and importing counts

if __name__ == '__main__': print(json.dumps(run(Path(sys.argv[1]), sys.argv[2:])))
