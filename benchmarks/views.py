"""What remembering R views costs in accuracy: `python benchmarks/views.py` (resumable; see --help).

One row a run in benchmarks/results/views.csv. 'plain' is the published way, written out in plain.py: the
whole teacher and the whole student in each step, fresh views, nothing remembered. A number is our engine with
that many remembered views an image; 'fresh' (only if asked for) is our engine without a cache. Same seeds, so
rows of one seed are paired; last epoch, never the best. With E epochs a stage, R >= E views never come again,
so only R < E is a question.
"""
import argparse, os, sys, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from fastai.callback.all import ChannelsLast
from fastai.vision.all import Learner, accuracy, set_seed

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
from jobs import run_cells
from pairs import adapters_of, embedded
from plain import Precision, plain_macs, plain_sskd
from rows import append_rows, read_rows

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.core.device import Bf16
from sskd_tutor.data.images import embedded_fashion, full_fashion
from sskd_tutor.data.loaders import ImageSet
from sskd_tutor.data.views import Views
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.check import first_batch
from sskd_tutor.measure.alignment import dl_accuracy, stitched_accuracy
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import fashion_teacher

FIELDS = ('views seed accuracy_last accuracy_teacher_head gmacs seconds epochs head_epochs images '
          'evaluated_on lr teacher width precision threads machine date').split()
KEY = 'views seed epochs head_epochs images precision'.split()   # tells a run from all others
LR = 5e-3

# --- rows

def precision_name(a): return 'float32' if a.float32 else 'bfloat16'

def key(views, seed, a):
    "The values of KEY, as text"
    return str(views), str(seed), str(a.epochs), str(a.head_epochs), str(a.images), precision_name(a)

def done(a):
    "The keys of the rows that are there"
    return {tuple(row[name] for name in KEY) for row in read_rows(a.csv)}

# --- a run

@dataclass
class Trained:
    "What a run gives, and what it took"
    adapters: list
    gmacs: float
    seconds: float

def plain_way(a, student, teacher, dls, precision):
    "As published: fresh views, nothing remembered"
    adapters = adapters_of(dls, student, teacher)
    x = first_batch(dls.train)[0][:2]
    of_stages = a.epochs*sum(plain_macs(student, teacher, adapters, x))
    of_head = a.head_epochs*float(student.stage_table(x).macs.sum())
    images = len(dls.train)*dls.train.bs
    begin = time.time()
    plain_sskd(student, teacher, adapters, dls.train, a.epochs, a.head_epochs, LR, precision=precision)
    return Trained(adapters, (of_stages + of_head)*images/1e9, time.time() - begin)

def our_way(a, student, teacher, dls, precision, views):
    "With so many remembered views, or 'fresh' ones and no cache"
    begin = time.time()
    cbs = [Bf16(), ChannelsLast()] if precision.low else []
    learn = Learner(dls, student, metrics=accuracy, cbs=cbs)
    remember = None if views == 'fresh' else CacheFeatures(views=int(views))
    with learn.no_bar(), learn.no_logging():
        run = learn.fit_sskd(teacher, a.epochs, a.head_epochs, LR, cbs=remember, valid_every=0)
    return Trained(list(run.adapters.values()), run.gmacs, time.time() - begin)

def run_cell(a, views, seed):
    "Train one student, examine it, add its row"
    precision, teacher = Precision(precision_name(a)), fashion_teacher()
    dls = embedded(a.images, views=Views(seed=seed), seed=seed)
    is_official = Path(a.folder).exists()
    test_images = full_fashion('valid', a.folder) if is_official else embedded_fashion('valid')
    test = dls.valid.new(ImageSet(test_images, 1))
    set_seed(seed, reproducible=True)
    student = tutorial_resnet(blocks=1)
    if views == 'plain': trained = plain_way(a, student, teacher, dls, precision)
    else: trained = our_way(a, student, teacher, dls, precision, views)
    for net in (student, teacher, *trained.adapters): net.eval().to(memory_format=torch.contiguous_format)
    last = student.stage_names[-1]
    right = dl_accuracy(student, test)
    under_teacher = stitched_accuracy(student, trained.adapters[-1], teacher, last, test)
    row = dict(views=views, seed=seed, accuracy_last=round(100*right, 2),
               accuracy_teacher_head=round(100*under_teacher, 2), gmacs=round(trained.gmacs),
               seconds=round(trained.seconds), epochs=a.epochs, head_epochs=a.head_epochs, images=a.images,
               evaluated_on='official-10000' if is_official else 'official-2000', lr=LR, teacher='full',
               width=32, precision=precision.name, threads=torch.get_num_threads(),
               machine=f'{os.cpu_count()} CPU cores', date=date.today())
    append_rows(a.csv, FIELDS, [row])   # the jobs write to one file
    print(*(f'{name} {row[name]}' for name in FIELDS[:6]), flush=True)

# --- the command

def is_number_from_1(word): return word.isdigit() and int(word) > 0

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--views', nargs='+', default=['plain', '4', '2', '1', '8'],
                   help="numbers of remembered views, 'plain' and 'fresh'")
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--epochs', type=int, default=8, help='a stage')
    p.add_argument('--head-epochs', type=int, default=4)
    p.add_argument('--images', type=int, default=8_000)
    p.add_argument('--folder', default='/usr/share/datasets/fashion-mnist',
                   help='the official files; without them the embedded 2,000 test images')
    p.add_argument('--float32', action='store_true',
                   help='default is bfloat16 autocast and channels_last, as in accuracy.py')
    p.add_argument('--jobs', type=int, default=2, help='runs at once, one thread each')
    p.add_argument('--csv', type=Path, default=here/'results/views.csv')
    p.add_argument('--cell', nargs=2, metavar=('VIEWS', 'SEED'), help='one run, here; used by the jobs')
    return p

def main():
    p = parser()
    a = p.parse_args()
    for views in a.views:
        if views not in ('plain', 'fresh') and not is_number_from_1(views):
            p.error(f"--views {views}: expected a number from 1, 'plain' or 'fresh'")
    a.csv.parent.mkdir(exist_ok=True, parents=True)
    if a.cell:
        views, seed = a.cell
        return run_cell(a, views, int(seed))
    wanted = [(views, seed) for seed in range(a.seeds) for views in a.views]
    todo = [(views, seed) for views, seed in wanted if key(views, seed, a) not in done(a)]
    print(f"{len(todo)} runs to do, {len(wanted) - len(todo)} are in {a.csv.name}", flush=True)
    run_cells(todo, a.jobs)

if __name__ == '__main__': main()
