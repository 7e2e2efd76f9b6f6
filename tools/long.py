"""tests/long.txt from what a run of the tests took.

    make test-all ARGS=--durations=0 > log
    python tools/long.py log

The tests that are named there are run by `make test-all` and by CI, but not by `make test`. Those that keep
notebooks and library in step are never named: `make check` runs them.
"""
import argparse, re
from collections import Counter
from datetime import date
from pathlib import Path

file = Path(__file__).resolve().parent.parent/'tests/long.txt'
checked = 'tests/repo/test_repo.py', 'tests/core/'   # by `make check`, for which they must stay
fewest_tests = 500   # that a run of all has

def seconds_of(log):
    "Name of a test -> seconds of its call; what a fixture takes belongs to all who use it"
    took = Counter()
    for seconds, name in re.findall(r'^([0-9.]+)s call +(tests/.+)$', log, re.M):
        took[name.strip()] += float(seconds)
    return took

def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('log', type=Path,
                   help='the output of pytest --durations=0 for all tests that are not slow')
    p.add_argument('--above', type=float, default=6, help='seconds, beside one other process of tests')
    return p

def is_long(name, seconds, above): return seconds > above and not name.startswith(checked)

def main():
    p = options()
    a = p.parse_args()
    took = seconds_of(a.log.read_text())
    if len(took) < fewest_tests:
        p.error(f'{a.log} has the durations of {len(took)} tests; expected a run of all, with --durations=0')
    names = sorted(name for name, seconds in took.items() if is_long(name, seconds, a.above))
    said = f'# More than {a.above:g} s on {date.today()}; written by tools/long.py from a run of all tests'
    file.write_text('\n'.join([said, *names, '']))
    in_long = sum(took[name] for name in names)
    print(f'{len(names)} of {len(took)} tests, {in_long:.0f} of {took.total():.0f} s')

if __name__ == '__main__': main()
