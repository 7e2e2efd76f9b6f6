"""What remembering R views costs in accuracy: `python benchmarks/views.py` (resumable; see --help).

One row a run in benchmarks/results/views.csv. 'plain' is the published way, written out in plain.py: the whole teacher and the
whole student in each step, fresh views, nothing remembered. A number is our engine with that many remembered views an image;
'fresh' (only if asked for) is our engine without a cache. Same seeds, so rows of one seed are paired; last epoch, never the best.
With E epochs a stage, R >= E views never come again, so only R < E is a question.
"""
import argparse, csv, fcntl, os, sys, time
from datetime import date
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
from jobs import run_cells

FIELDS = 'views seed accuracy_last accuracy_teacher_head gmacs seconds epochs head_epochs images evaluated_on lr teacher width precision threads machine date'.split()
LR = 5e-3

def rows_of(path): return list(csv.DictReader(path.open())) if path.exists() else []

def key(views, seed, a): return str(views), str(seed), str(a.epochs), str(a.head_epochs), str(a.images), 'float32' if a.float32 else 'bfloat16'

def done(a): return {(r['views'], r['seed'], r['epochs'], r['head_epochs'], r['images'], r['precision']) for r in rows_of(a.csv)}

def append(path, row):
    with path.open('a', newline='') as f:
        fcntl.flock(f, fcntl.LOCK_EX)  # the jobs write to one file
        w = csv.DictWriter(f, FIELDS, lineterminator='\n')
        if f.tell() == 0: w.writeheader()
        w.writerow(row)

def run_cell(a, views, seed):
    import torch
    from fastai.callback.all import ChannelsLast
    from fastai.vision.all import Learner, accuracy, set_seed
    from pairs import adapters_of, embedded
    from plain import Precision, plain_macs, plain_sskd
    from sskd_tutor.measure.alignment import dl_accuracy, stitched_accuracy
    from sskd_tutor.core.device import Bf16
    from sskd_tutor.distill.cache import CacheFeatures
    from sskd_tutor.data.loaders import ImageSet
    from sskd_tutor.data.views import Views
    from sskd_tutor.data.images import embedded_fashion, full_fashion
    import sskd_tutor.distill.fit  # noqa: F401, patches Learner
    from sskd_tutor.distill.check import first_batch
    from sskd_tutor.nets.weights import fashion_teacher
    from sskd_tutor.nets.small import tutorial_resnet

    precision, teacher = Precision('float32' if a.float32 else 'bfloat16'), fashion_teacher()
    dls = embedded(a.images, views=Views(seed=seed), seed=seed)
    official = Path(a.folder).exists()
    test = dls.valid.new(ImageSet(full_fashion('valid', a.folder) if official else embedded_fashion('valid'), 1))
    set_seed(seed, reproducible=True)
    student, images = tutorial_resnet(blocks=1), len(dls.train)*dls.train.bs
    start = time.time()
    if views == 'plain':
        adapters = adapters_of(dls, student, teacher)
        x = first_batch(dls.train)[0][:2]
        gmacs = (a.epochs*sum(plain_macs(student, teacher, adapters, x)) + a.head_epochs*float(student.stage_table(x).macs.sum()))*images/1e9
        start = time.time()
        plain_sskd(student, teacher, adapters, dls.train, a.epochs, a.head_epochs, LR, precision=precision)
    else:
        learn = Learner(dls, student, metrics=accuracy, cbs=[Bf16(), ChannelsLast()] if precision.low else [])
        with learn.no_bar(), learn.no_logging():
            run = learn.fit_sskd(teacher, a.epochs, a.head_epochs, LR, cbs=None if views == 'fresh' else CacheFeatures(views=int(views)), valid_every=0)
        adapters, gmacs = list(run.adapters.values()), run.gmacs
    seconds, last = time.time() - start, student.stage_names[-1]
    for net in (student, teacher, *adapters): net.eval().to(memory_format=torch.contiguous_format)
    row = dict(views=views, seed=seed, accuracy_last=round(100*dl_accuracy(student, test), 2),
               accuracy_teacher_head=round(100*stitched_accuracy(student, adapters[-1], teacher, last, test), 2), gmacs=round(gmacs), seconds=round(seconds), epochs=a.epochs, head_epochs=a.head_epochs,
               images=a.images, evaluated_on='official-10000' if official else 'official-2000', lr=LR, teacher='full', width=32, precision=precision.name, threads=torch.get_num_threads(),
               machine=f'{os.cpu_count()} CPU cores', date=date.today())
    append(a.csv, row)
    print(*(f'{k} {row[k]}' for k in FIELDS[:6]), flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--views', nargs='+', default=['plain', '4', '2', '1', '8'], help="numbers of remembered views, 'plain' and 'fresh'")
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--epochs', type=int, default=8, help='a stage')
    p.add_argument('--head-epochs', type=int, default=4)
    p.add_argument('--images', type=int, default=8_000)
    p.add_argument('--folder', default='/usr/share/datasets/fashion-mnist', help='the official files; without them the embedded 2,000 test images')
    p.add_argument('--float32', action='store_true', help='default is bfloat16 autocast and channels_last, as in accuracy.py')
    p.add_argument('--jobs', type=int, default=2, help='runs at once, one thread each')
    p.add_argument('--csv', type=Path, default=here/'results/views.csv')
    p.add_argument('--cell', nargs=2, metavar=('VIEWS', 'SEED'), help='one run, here; used by the jobs')
    a = p.parse_args()
    for v in a.views:
        if v not in ('plain', 'fresh') and not (v.isdigit() and int(v)): p.error(f"--views {v}: expected a number from 1, 'plain' or 'fresh'")
    a.csv.parent.mkdir(exist_ok=True, parents=True)
    if a.cell: return run_cell(a, a.cell[0], int(a.cell[1]))
    todo = [(v, s) for s in range(a.seeds) for v in a.views if key(v, s, a) not in done(a)]
    print(f"{len(todo)} runs to do, {a.seeds*len(a.views) - len(todo)} are in {a.csv.name}", flush=True)
    run_cells(todo, a.jobs)

if __name__ == '__main__': main()
