"""A folder larger than the budget: distill from JPEGs on disk, with remembered features on disk: `python benchmarks/folder.py` (see --help).

Writes the 10,000 embedded Fashion-MNIST pictures as 64 px JPEGs, then runs `fit_sskd` over `folder_dls` with `CacheFeatures(where='disk')`,
once on a part of them and once on all, each in a fresh process. Reported: seconds, the largest anonymous memory above that of the same
process before the run (so that the libraries do not count), its growth from the part to the whole, and the largest size of the cache's
folder over the budget. The networks are untrained: this is time and memory, not accuracy.
"""
import argparse, json, os, subprocess, sys, tempfile, threading, time
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]

def write_folder(folder, n):
    "n pictures in ten class folders, gray 64 px JPEGs"
    import torch
    from PIL import Image
    from sskd_tutor.data.images import embedded_fashion, vocab
    x, y = [torch.cat(t) for t in zip(*(embedded_fashion(s)[:2] for s in ('train', 'valid')))]
    if not 1 <= n <= len(y): raise SystemExit(f"--n is {n}; expected 1 to {len(y)}")
    for name in vocab: (folder/name).mkdir(parents=True, exist_ok=True)
    for i in torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:n].tolist():
        Image.fromarray(x[i, 0].numpy()).resize((64, 64)).save(folder/vocab[int(y[i])]/f'{i:05d}.jpg', quality=90)

def anonymous():
    return 1024*int(next(line for line in open('/proc/self/status') if line.startswith('RssAnon')).split()[1])

def size_of(folder):
    total = 0
    for entry in os.scandir(folder):
        try: total += entry.stat().st_size
        except FileNotFoundError: pass  # removed in between
    return total

class Watch(threading.Thread):
    "The largest values of some functions while a block runs"
    def __init__(self, **fs):
        super().__init__(daemon=True)
        self.fs, self.peaks, self.over = fs, {k: 0 for k in fs}, threading.Event()
    def look(self): self.peaks = {k: max(v, self.fs[k]()) for k, v in self.peaks.items()}
    def run(self):
        while not self.over.wait(0.02): self.look()
    def __enter__(self):
        self.start()
        return self
    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.look()

def one(a):
    "One run, in this process; a line of JSON"
    import torch
    from fastai.learner import Learner
    from sskd_tutor.distill.cache import CacheFeatures
    from sskd_tutor.distill.fit import SSKDRun  # noqa: F401, patches Learner.fit_sskd
    from sskd_tutor.data.folders import folder_dls
    from sskd_tutor.nets.small import tutorial_resnet
    torch.manual_seed(0)
    taps = Path(tempfile.mkdtemp(dir=a.folder.parent))
    dls = folder_dls(a.folder, bs=a.bs, device='cpu')
    teacher, student = tutorial_resnet(width=8, blocks=2), tutorial_resnet(width=8, blocks=1)
    learn = Learner(dls, student)
    start = time.perf_counter()
    for _ in zip(range(len(dls.train)), dls.train): pass
    reading = time.perf_counter() - start
    cache, before, start = CacheFeatures(views=a.views, where='disk', budget=a.budget, half=True, folder=taps), anonymous(), time.perf_counter()
    with learn.no_bar(), learn.no_logging(), Watch(anonymous=anonymous, disk=lambda: size_of(taps)) as watch:
        run = learn.fit_sskd(teacher, epochs=a.epochs, head_epochs=1, cbs=cache, valid_every=0)
    print(json.dumps(dict(n=len(dls.train_ds), seconds=time.perf_counter() - start, reading=reading, anonymous=watch.peaks['anonymous'] - before,
                          libraries=before, disk=watch.peaks['disk'], budget=cache.asked, remembered=str(run.plan.kept), gmacs=run.gmacs)))

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--n', type=int, default=10_000, help='pictures, training and validation')
    p.add_argument('--part', type=int, help='pictures of the smaller run; a half of --n if not given')
    p.add_argument('--epochs', type=int, default=4, help='a stage')
    p.add_argument('--views', type=int, default=2)
    p.add_argument('--budget', default='400 MB', help='of the disk, for remembered features')
    p.add_argument('--bs', type=int, default=128)
    p.add_argument('--out', type=Path, help='rows as JSON; benchmarks/results/<machine>-folder.json if not given')
    p.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    p.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one: return one(a)
    from bench import Table, machine_name, say
    table = Table(a.out or here/'results'/f'{machine_name()}-folder.json', 'float32', f"python benchmarks/folder.py {' '.join(sys.argv[1:])}".strip())
    with tempfile.TemporaryDirectory() as tmp:
        runs = []
        for n in (a.part or a.n//2, a.n):
            write_folder(Path(tmp)/f'{n}', n)
            args = [f'--{k}={getattr(a, k)}' for k in ('epochs', 'views', 'budget', 'bs')]
            out = subprocess.check_output([sys.executable, '-W', 'ignore', __file__, '--one', f'--folder={tmp}/{n}', *args], text=True)
            runs.append(json.loads(out.splitlines()[-1]))
            say(f"{n} pictures: {runs[-1]}")
    small, large = runs
    pair = f"{large['n']} training pictures of 64 px from disk, {a.budget} of disk"
    pictures = large['n']*a.epochs*3
    table.add('folder: seconds', pair, large['seconds'], **{k: large[k] for k in ('remembered', 'gmacs', 'reading')}, pictures_a_second=pictures/large['seconds'])
    table.add('folder: largest anonymous memory above the libraries, MB', pair, large['anonymous']/1e6, libraries=large['libraries']/1e6)
    table.add('folder: growth of anonymous memory with n, bytes a further picture over 12,288 (one as uint8 RGB)', pair,
              (large['anonymous'] - small['anonymous'])/(large['n'] - small['n'])/12_288, target='<= 0.5', n=[small['n'], large['n']],
              anonymous=[small['anonymous'], large['anonymous']])
    table.add('folder: largest size of the cache on disk over the budget', pair, large['disk']/large['budget'], target='<= 1.1')
    table.add('folder: time a multiply-add, whole over part', pair, large['seconds']/large['gmacs']/(small['seconds']/small['gmacs']), target='<= 1.1',
              gmacs=[small['gmacs'], large['gmacs']])  # of a larger folder less is remembered, and more computed
    say(table.verdict())

if __name__ == '__main__': main()
