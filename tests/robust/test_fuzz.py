"""Damaged sets and runs: no crash, no hang above 5 s, and no silent success where a manifest knows better.

Each seed changes one file: bits, bytes, its length, its name. `python tools/fuzz.py` does the same for hours, guided by atheris."""
import random
import shutil
import signal
import warnings
from contextlib import contextmanager

import pytest

from helpers.matrix import check
from helpers.readers import readers

pytestmark = pytest.mark.slow
n_seeds = 40

def damaged(raw, rng):
    "The same bytes, damaged once"
    raw, place, n = bytearray(raw), rng.randrange(len(raw) or 1), rng.randrange(1, 20)
    kind = rng.choice(['flip', 'cut', 'insert', 'remove', 'repeat', 'number', 'zeros', 'empty', 'quote'])
    if kind == 'flip' and raw: raw[place] ^= 1 << rng.randrange(8)
    if kind == 'cut': del raw[place:]
    if kind == 'insert': raw[place:place] = rng.randbytes(n)
    if kind == 'remove': del raw[place:place + n]
    if kind == 'repeat': raw[place:place] = raw[place:place + n]
    if kind == 'number': raw[place:place + 1] = rng.choice([b'-1', b'99999999999', b'1e999', b'NaN', b'null', b'[]'])
    if kind == 'zeros': raw[place:place + n] = bytes(n)
    if kind == 'empty': raw.clear()
    if kind == 'quote': raw[place:place] = b'"'
    return bytes(raw)

@contextmanager
def within(seconds):
    "Stop a hang"
    def stop(*_): raise AssertionError(f"it took more than {seconds} s")
    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)

@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    top = tmp_path_factory.mktemp('originals')
    for name, reader in readers.items():
        reader.write(top/name)
        reader.read(top/name)
    return top

@pytest.mark.parametrize('seed', range(n_seeds))
@pytest.mark.parametrize('name', readers)
def test_damage(name, seed, originals, tmp_path):
    reader, rng, folder = readers[name], random.Random(seed), tmp_path/'set'
    shutil.copytree(originals/name, folder)
    victim = rng.choice(sorted(p for p in folder.rglob('*') if p.is_file()))
    before = victim.read_bytes()
    if rng.random() < .1: victim.unlink()
    else: victim.write_bytes(damaged(before, rng))
    changed = not victim.exists() or victim.read_bytes() != before
    def f():
        with warnings.catch_warnings(), within(5):
            warnings.simplefilter('ignore')
            reader.read(folder)
    expect = ('named',) if reader.sealed and changed else ('right', 'named')
    check('damaged files', f'{name}, damage {seed}', f, expect)
