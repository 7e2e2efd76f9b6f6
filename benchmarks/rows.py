"""Rows of a study's file: read, and added to as runs are finished."""
import csv, fcntl
from pathlib import Path

def read_rows(
    path: Path,   # need not be there
) -> list:        # of dicts, all values as text
    return list(csv.DictReader(path.open())) if path.exists() else []

def append_rows(path: Path, columns: list, rows: list):
    """Add rows; a new file begins with its head. Several processes may write to one file.
    A row that was cut off stays on a line of its own"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a', newline='') as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        text = path.read_text()
        if text and not text.endswith('\n'): f.write('\n')
        writer = csv.DictWriter(f, columns, lineterminator='\n')
        if not text: writer.writeheader()
        writer.writerows(rows)

def append_new(path: Path, columns: list, rows: list, key: list):
    "Add the rows that are not there yet; `key`: the columns that tell them apart"
    def mark(row): return tuple(str(row[name]) for name in key)
    there = {mark(row) for row in read_rows(path)}
    fresh = [row for row in rows if mark(row) not in there]
    if fresh: append_rows(path, columns, fresh)
