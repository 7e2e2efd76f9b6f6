"""Run the cells of a study as processes of their own, so many at once."""
import os, subprocess, sys, time

def run_cells(
    cells: list,  # arguments of `--cell`, each a list of words
    jobs: int,    # at once, one thread each
):
    "Call this script again with its own arguments and `--cell ...` for each; leave with an error if one fails"
    todo, running, failed = list(cells), [], 0
    while todo or running:
        while todo and len(running) < jobs:
            cmd = [sys.executable, sys.argv[0], *sys.argv[1:], '--cell', *map(str, todo.pop(0))]
            running.append(subprocess.Popen(cmd, env={**os.environ, 'OMP_NUM_THREADS': '1'}))
        time.sleep(1)
        failed += sum(r.poll() not in (None, 0) for r in running)
        running = [r for r in running if r.poll() is None]
    if failed: sys.exit(f'{failed} cells failed')
