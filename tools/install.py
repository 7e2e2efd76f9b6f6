"""pip install in a few lines: what it is at, now and then, and no line for each package and requirement.

    python tools/install.py --editable .          arguments as of `pip install`
"""
import re, subprocess, sys, time

def size(text):
    "'797.1 MB' or '13 kB' in MB"
    number, unit = text.split()
    return float(number)*dict(kB=1e-3, MB=1, GB=1e3)[unit]

first_words = ('installing: about 190 packages; with CUDA some 3 GB to download. '
               'README says how to have a CPU-only torch first')
first_report = 15   # seconds; each later one comes after twice the time
kept_lines = 25     # pip's last ones, shown if it fails
pip_options = ['--disable-pip-version-check', '--no-color', '--progress-bar', 'off']
clear_rest = '\x1b[K'   # of the line on a terminal

class Seen:
    "What pip's lines have told so far"
    def __init__(self):
        self.packages, self.mb = set(), 0.
        self.installing = 0   # how many packages

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
    "Read all lines and report; returns the last ones"
    seen, last = Seen(), []
    due = first_report
    for line in lines:
        seen.read(line)
        last = [*last, line.rstrip()][-kept_lines:]
        if out.isatty():   # there one line changes
            print(f'\r{seen}{clear_rest}', end='', file=out, flush=True)
        elif clock() - begun >= due:   # elsewhere lines come at 15, 30, 60, 120 ... seconds
            print(f'{clock() - begun:4.0f} s  {seen}', file=out, flush=True)
            due *= 2
    if out.isatty(): print(f'\r{clear_rest}', end='', file=out, flush=True)
    return last

def main(words):
    print(first_words, flush=True)
    begun = time.monotonic()
    cmd = [sys.executable, '-m', 'pip', 'install', *pip_options, *words]
    both = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with subprocess.Popen(cmd, text=True, errors='replace', **both) as pip:
        last = told(pip.stdout, begun, sys.stdout)
    if pip.returncode: print(*last, sep='\n', file=sys.stderr)
    else: print(f'installed in {time.monotonic() - begun:.0f} s')
    return pip.returncode

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
