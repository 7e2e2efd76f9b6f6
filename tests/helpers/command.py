"""The command line, called as a user does."""
import os, subprocess, sys
from pathlib import Path

root = Path(__file__).resolve().parents[2]

cmd = [sys.executable, '-m', 'sskd_tutor.cli']

env = os.environ | {'PYTHONPATH': str(root), 'PYTHONUTF8': '1', 'OMP_WAIT_POLICY': 'PASSIVE'}

def call(*args, cwd, timeout=900):
    return subprocess.run([*cmd, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)
