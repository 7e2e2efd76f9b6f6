"""pip install in a few lines: what it is at, now and then, instead of a line for each package and requirement.

    python tools/install.py --editable .          arguments as of `pip install`
"""
import re, subprocess, sys, time

def size(text):
    "'797.1 MB' or '13 kB' in MB"
    number, unit = text.split()
    return float(number)*dict(kB=1e-3, MB=1, GB=1e3)[unit]

class Seen:
    "What pip's lines have told so far"
    def __init__(self): self.packages, self.mb, self.installing = set(), 0., 0

    def read(self, line):
        collected = re.match(r'Collecting ([\w.-]+)', line)
        fetched = re.match(r'\s*Downloading \S+\.(?:whl|gz|zip) \(([\d.]+ [kMG]B)\)', line)
        listed = re.match(r'Installing collected packages: (.+)', line)
        if collected: self.packages.add(collected[1].lower())
        if fetched: self.mb += size(fetched[1])
        if listed: self.installing = listed[1].count(',') + 1

    def __str__(self):
        if self.installing: return f'unpacking {self.installing} packages; this takes minutes'
        return f'{len(self.packages)} packages found, {self.mb:,.0f} MB downloaded'

def told(lines, begun, out, clock=time.monotonic):
    "Read all lines; on a terminal one line changes, elsewhere lines come at 15, 30, 60, 120 ... seconds; returns the last ones"
    seen, last, due = Seen(), [], 15
    for line in lines:
        seen.read(line)
        last = [*last, line.rstrip()][-25:]
        if out.isatty(): print(f'\r{seen}\x1b[K', end='', file=out, flush=True)
        elif clock() - begun >= due:
            print(f'{clock() - begun:4.0f} s  {seen}', file=out, flush=True)
            due *= 2
    if out.isatty(): print('\r\x1b[K', end='', file=out, flush=True)
    return last

def main(words):
    print('installing: about 190 packages; with CUDA some 3 GB to download. README says how to have a CPU-only torch first', flush=True)
    begun = time.monotonic()
    cmd = [sys.executable, '-m', 'pip', 'install', '--disable-pip-version-check', '--no-color', '--progress-bar', 'off', *words]
    with subprocess.Popen(cmd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors='replace') as pip:
        last = told(pip.stdout, begun, sys.stdout)
    if pip.returncode: print(*last, sep='\n', file=sys.stderr)
    else: print(f'installed in {time.monotonic() - begun:.0f} s')
    return pip.returncode

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
