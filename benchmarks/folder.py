"""A folder larger than the budget: distill from JPEGs on disk, with remembered features on disk (see --help).

    python benchmarks/folder.py

Writes the 10,000 embedded Fashion-MNIST images as 64 px JPEGs, then runs `fit_sskd` over `folder_dls` with
`CacheFeatures(where='disk')`, once on a part of them and once on all, each in a fresh process. Reported:
seconds, the largest anonymous memory above that of the same process before the run (so that the libraries do
not count), its growth from the part to the whole, and the largest size of the cache's folder over the budget.
The networks are untrained: this is time and memory, not accuracy.
"""
import argparse, json, os, subprocess, sys, tempfile, threading, time
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]

SIDE = 64                   # pixels of a JPEG
RGB_BYTES = SIDE*SIDE*3     # of an image as uint8 RGB
STAGES = 3                  # each looks at every image in every epoch
HANDED_ON = 'epochs', 'views', 'budget', 'bs'    # options of the fresh processes

def write_folder(folder, n):
    "n images in ten class folders, gray 64 px JPEGs"
    import torch
    from PIL import Image
    from sskd_tutor.data.images import embedded_fashion, vocab
    train, valid = embedded_fashion('train'), embedded_fashion('valid')
    x, y = [torch.cat(both) for both in zip(train[:2], valid[:2])]
    if not 1 <= n <= len(y): raise SystemExit(f"--n is {n}; expected 1 to {len(y)}")
    for name in vocab: (folder/name).mkdir(parents=True, exist_ok=True)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    for i in order[:n].tolist():
        image = Image.fromarray(x[i, 0].numpy()).resize((SIDE, SIDE))
        image.save(folder/vocab[int(y[i])]/f'{i:05d}.jpg', quality=90)

def anonymous():
    "Bytes of this process that no file backs"
    line = next(line for line in open('/proc/self/status') if line.startswith('RssAnon'))
    return 1024*int(line.split()[1])

def size_of(folder):
    "Bytes of the files in a folder"
    total = 0
    for entry in os.scandir(folder):
        try: total += entry.stat().st_size
        except FileNotFoundError: pass  # removed in between
    return total

class Watch(threading.Thread):
    "The largest values of some functions while a block runs"
    def __init__(self, **functions):
        super().__init__(daemon=True)
        self.functions, self.over = functions, threading.Event()
        self.peaks = dict.fromkeys(functions, 0)

    def look(self):
        for name, function in self.functions.items(): self.peaks[name] = max(self.peaks[name], function())

    def run(self):
        while not self.over.wait(0.02): self.look()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.look()

def seconds_to_read(dl):
    "Of one epoch of batches, without any training"
    start = time.perf_counter()
    for _ in zip(range(len(dl)), dl): pass
    return time.perf_counter() - start

def one(a):
    "One run, in this process; a line of JSON"
    import torch
    from fastai.learner import Learner
    from sskd_tutor.data.folders import folder_dls
    from sskd_tutor.distill.cache import CacheFeatures
    from sskd_tutor.distill.fit import SSKDRun  # noqa: F401, patches Learner.fit_sskd
    from sskd_tutor.nets.small import tutorial_resnet
    torch.manual_seed(0)
    taps = Path(tempfile.mkdtemp(dir=a.folder.parent))
    dls = folder_dls(a.folder, bs=a.bs, device='cpu')
    teacher, student = tutorial_resnet(width=8, blocks=2), tutorial_resnet(width=8, blocks=1)
    learn = Learner(dls, student)
    reading = seconds_to_read(dls.train)
    cache = CacheFeatures(views=a.views, where='disk', budget=a.budget, half=True, folder=taps)
    before, start = anonymous(), time.perf_counter()
    watch = Watch(anonymous=anonymous, disk=lambda: size_of(taps))
    with learn.no_bar(), learn.no_logging(), watch:
        run = learn.fit_sskd(teacher, epochs=a.epochs, head_epochs=1, cbs=cache, valid_every=0)
    seconds = time.perf_counter() - start
    found = dict(n=len(dls.train_ds), seconds=seconds, reading=reading,
                 anonymous=watch.peaks['anonymous'] - before, libraries=before, disk=watch.peaks['disk'],
                 budget=cache.asked, remembered=str(run.plan.kept), gmacs=run.gmacs)
    print(json.dumps(found))

def run_of(n, a, folder):
    "What `one` says about n images, in a fresh process"
    write_folder(folder/f'{n}', n)
    options = [f'--{name}={getattr(a, name)}' for name in HANDED_ON]
    command = [sys.executable, '-W', 'ignore', __file__, '--one', f'--folder={folder}/{n}', *options]
    out = subprocess.check_output(command, text=True)
    return json.loads(out.splitlines()[-1])

def add_rows(table, a, small, large):
    "The figures of two runs, on a part of the images and on all"
    # the words of a pair and of a figure are keys of the stored rows, so they stay
    pair = f"{large['n']} training pictures of 64 px from disk, {a.budget} of disk"
    images = large['n']*a.epochs*STAGES
    table.add('folder: seconds', pair, large['seconds'], remembered=large['remembered'], gmacs=large['gmacs'],
              reading=large['reading'], images_a_second=images/large['seconds'])
    table.add('folder: largest anonymous memory above the libraries, MB', pair, large['anonymous']/1e6,
              libraries=large['libraries']/1e6)
    per_image = (large['anonymous'] - small['anonymous'])/(large['n'] - small['n'])
    table.add('folder: growth of anonymous memory with n, bytes a further picture over 12,288 '
              '(one as uint8 RGB)', pair, per_image/RGB_BYTES, target='<= 0.5', n=[small['n'], large['n']],
              anonymous=[small['anonymous'], large['anonymous']])
    table.add('folder: largest size of the cache on disk over the budget', pair,
              large['disk']/large['budget'], target='<= 1.1')
    # of a larger folder less is remembered, and more computed
    of_part, of_all = small['seconds']/small['gmacs'], large['seconds']/large['gmacs']
    table.add('folder: time a multiply-add, whole over part', pair, of_all/of_part, target='<= 1.1',
              gmacs=[small['gmacs'], large['gmacs']])

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--n', type=int, default=10_000, help='images, training and validation')
    p.add_argument('--part', type=int, help='images of the smaller run; a half of --n if not given')
    p.add_argument('--epochs', type=int, default=4, help='a stage')
    p.add_argument('--views', type=int, default=2)
    p.add_argument('--budget', default='400 MB', help='of the disk, for remembered features')
    p.add_argument('--bs', type=int, default=128)
    p.add_argument('--out', type=Path,
                   help='rows as JSON; benchmarks/results/<machine>-folder.json if not given')
    p.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    p.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one: return one(a)
    from bench import Table, machine_name, say
    command = f"python benchmarks/folder.py {' '.join(sys.argv[1:])}".strip()
    table = Table(a.out or here/'results'/f'{machine_name()}-folder.json', 'float32', command)
    runs = []
    with tempfile.TemporaryDirectory() as tmp:
        for n in (a.part or a.n//2, a.n):
            runs.append(run_of(n, a, Path(tmp)))
            say(f"{n} images: {runs[-1]}")
    add_rows(table, a, *runs)
    say(table.verdict())

if __name__ == '__main__': main()
