"""Run the cells of a study as processes of their own, so many at once."""
import os, subprocess, sys, time

def run_cells(
    cells: list,  # arguments of `--cell`, each a list of words
    jobs: int,    # at once, one thread each
):
    """Call this script again with its own arguments and `--cell ...` for each.

    Leave with an error if one fails."""
    todo, running, failed = list(cells), [], 0
    while todo or running:
        while todo and len(running) < jobs: running.append(started(todo.pop(0)))
        time.sleep(1)
        ended = [process for process in running if process.poll() is not None]
        failed += sum(process.returncode != 0 for process in ended)
        running = [process for process in running if process not in ended]
    if failed: sys.exit(f'{failed} cells failed')

def started(cell):
    "The process of one cell"
    command = [sys.executable, sys.argv[0], *sys.argv[1:], '--cell', *map(str, cell)]
    return subprocess.Popen(command, env={**os.environ, 'OMP_NUM_THREADS': '1'})
