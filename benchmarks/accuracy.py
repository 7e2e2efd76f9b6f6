"""Accuracy at equal epochs and at equal multiply-adds: `python benchmarks/accuracy.py` (resumable; see
--help).

One row a run in sskd_tutor/data_files/benchmarks/results/accuracy.csv. `budget` says what a method was given:
'recipe' is stage by stage itself (E epochs a stage, then H for the head); 'equal_epochs' is E + H epochs of
the whole network; 'equal_gmacs' as many epochs as cost the same multiply-adds, counted on the real step, the
teacher's included. Students are `tutorial_resnet(width=32, blocks=1)`, trained on the embedded 8,000 images
with fresh views. Last epoch, never the best. The labels-only optimizer is chosen by `--stage choose`, on
2,000 held-out training images; no test image is used for that.
"""
import argparse, os, sys, time
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import torch
from fastai.callback.all import ChannelsLast
from fastai.vision.all import SGD, DataLoaders, Learner, accuracy, set_seed
from jobs import run_cells
from rows import append_rows, read_rows

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.core.device import Bf16
from sskd_tutor.data.images import balanced, embedded_fashion, full_fashion
from sskd_tutor.data.loaders import ImageSet, fashion_dls
from sskd_tutor.data.views import Views
from sskd_tutor.distill.adapters import make_adapters
from sskd_tutor.distill.callbacks import mimic_net
from sskd_tutor.distill.check import check_pair
from sskd_tutor.distill.costs import mean_square, step_macs
from sskd_tutor.distill.joint import Term
from sskd_tutor.distill.losses import StitchedLoss, mimic_mse, mimic_nmse, soft_kl
from sskd_tutor.measure.alignment import dl_accuracy
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import fashion_teacher

RESULTS = Path(__file__).parent/'results'
PACKAGE = Path(__file__).resolve().parent.parent/'sskd_tutor'
RECORDED = PACKAGE/'data_files/benchmarks/results/accuracy.csv'  # travels with the package
FIELDS = ('method teacher budget seed epochs gmacs accuracy seconds images evaluated_on opt lr width '
          'precision machine date').split()
KEY = 'method teacher budget seed opt lr width evaluated_on'.split()   # tells a run from all others
CHOICES = 'labels_adamw labels_sgd sskd sskd_late sskd_stitched sskd_mse'.split()   # of `--stage choose`

SGD_LR, ADAMW_LR = 0.1, 5e-3
E, H = 8, 4                                 # epochs of each stage, and of the head
LATE = dict(stage1=4, stage2=6, stage3=12)  # costs what E = 8 for each stage does, within 3 %

# --- rows

def key(row): return tuple(str(row[name]) for name in KEY)

# --- which runs

def cells(a):
    "(method, teacher, seed) of each cell; a cell is one to three rows"
    if a.stage == 'choose':
        return [(method, 'none' if method.startswith('labels') else 'full', 0) for method in CHOICES]
    found = []
    for teacher in ('full', 'same-data'):
        for seed in range(a.seeds):
            if teacher == 'full': found.append((best_labels(), 'none', seed))
            found.append(('sskd', teacher, seed))
            found.append(('kd', teacher, seed))
    return found

def best_labels():
    "AdamW or SGD, by what `--stage choose` found on held-out training images"
    tried = [row for row in read_rows(RESULTS/'choose.csv') if row['method'] == 'labels']
    if {row['opt'] for row in tried} != {'adamw', 'sgd'}:
        sys.exit("run `python benchmarks/accuracy.py --stage choose` first: "
                 "it picks the labels-only optimizer")
    best = max(tried, key=lambda row: float(row['accuracy']))
    return 'labels_' + best['opt']

# --- a cell

@dataclass
class Cell:
    "What the runs of a cell share"
    a: argparse.Namespace
    method: str
    teacher: str
    seed: int
    dls: DataLoaders
    test_dl: object      # what is examined, once, at the end
    evaluated_on: str    # in words
    done: set            # keys of the rows that are there

    @property
    def images(self): return len(self.dls.train)*self.dls.train.bs    # of an epoch

    def two_images(self):
        return self.dls.train.one_batch()[0][:2].as_subclass(torch.Tensor)

    def student(self):
        return tutorial_resnet(width=self.a.width, blocks=1)

    def learner(self, **kwargs):
        "A fresh student, always the same one"
        set_seed(self.seed, reproducible=True)
        self.dls.train.set_epoch(0)
        cbs = [] if self.a.float32 else [Bf16(), ChannelsLast()]
        return Learner(self.dls, self.student(), metrics=accuracy, cbs=cbs, **kwargs)

    def identity(self, name, budget, opt, lr):
        "The columns that tell a run from all others"
        return dict(method=name, teacher=self.teacher, budget=budget, seed=self.seed, opt=opt, lr=lr,
                    width=self.a.width, evaluated_on=self.evaluated_on)

    def is_wanted(self, name, budget, opt='adamw', lr=ADAMW_LR):
        return key(self.identity(name, budget, opt, lr)) not in self.done

    def tested(self, net):
        "Accuracy in percent"
        return 100*dl_accuracy(net.eval().to(memory_format=torch.contiguous_format), self.test_dl)

    def write(self, net, epochs, gmacs, seconds, name, budget, opt='adamw', lr=ADAMW_LR):
        "Examine a trained student and add its row"
        row = self.identity(name, budget, opt, lr)
        row |= dict(epochs=epochs, gmacs=round(gmacs), accuracy=round(self.tested(net), 2),
                    seconds=round(seconds), images=self.images,
                    precision='float32' if self.a.float32 else 'bfloat16',
                    machine=f'{os.cpu_count()} CPU cores', date=date.today())
        append_rows(self.a.csv, FIELDS, [row])
        print(*(row[name] for name in FIELDS[:8]), flush=True)

def test_images(a, dls):
    "(the images that are examined, their name)"
    folder = Path(a.folder)
    if a.stage == 'choose': return dls.valid_ds.images, 'holdout-2000'
    if folder.exists(): return full_fashion('valid', folder), 'official-10000'
    return embedded_fashion('valid'), 'official-2000'

def make_cell(a, method, teacher, seed):
    done = {key(row) for row in read_rows(a.csv)}
    valid = 'holdout' if a.stage == 'choose' else 'official'
    dls = fashion_dls(valid=valid, n=None, seed=seed, views=Views(seed=seed))
    test, evaluated_on = test_images(a, dls)
    test_dl = dls.valid.new(ImageSet(test, 1))
    watched = dls.valid.new(ImageSet(balanced(test, 10)[0], 1))   # watched, not chosen on
    dls = DataLoaders(dls.train, watched, device=dls.device)
    return Cell(a, method, teacher, seed, dls, test_dl, evaluated_on, done)

def run_cell(a, method, teacher, seed):
    "The rows of a cell that are not there yet"
    cell = make_cell(a, method, teacher, seed)
    if method.startswith('sskd'): return by_stages(cell)
    of_whole_network(cell)

# --- multiply-adds

def head_macs(net, x):
    "Of a step of the head, an image; any loss will do to count it"
    return step_macs(net, ['head'], mean_square, lambda x: None, x)

def macs_of_whole_network(cell, teacher, x):
    "Of a step of labels only or of a teacher's answers, the teacher's included, an image"
    net = cell.student()
    def answers(x): return teacher(x) if teacher else None
    return step_macs(net, [*net.stages, 'head'], mean_square, answers, x)

def recipe_gmacs(cell, x):
    "Of stage by stage with this teacher's shape, counted on a step of each phase"
    device = cell.dls.device
    student, teacher = cell.student().to(device), fashion_teacher('full').to(device)
    adapters = make_adapters(student.stage_names, *check_pair(Learner(cell.dls, student), teacher), 'conv')
    stages = 0
    for k, name in enumerate(student.stage_names):
        net = mimic_net(student, k, adapters[name])
        stages += step_macs(net, [name, 'head'], mimic_nmse, lambda x: teacher.forward_to(x, k), x)
    return (E*stages + H*head_macs(student, x))*cell.images/1e9

# --- stage by stage

def by_stages(cell):
    "Two rows: under the teacher's head, and with a head that has learned from labels"
    name, under_teacher = cell.method, f'{cell.method}_teacher_head'
    x = cell.two_images()
    if not cell.is_wanted(name, 'recipe') and not cell.is_wanted(under_teacher, 'recipe'): return
    is_late = name == 'sskd_late'
    losses = dict(sskd_mse=mimic_mse, sskd_stitched=StitchedLoss())
    teacher, learn, start = fashion_teacher(cell.teacher), cell.learner(), time.time()
    fresh_head = learn.model.head
    with learn.no_bar(), learn.no_logging():
        run = learn.fit_sskd(teacher, LATE if is_late else E, head_epochs=0, lr=ADAMW_LR,
                             loss=losses.get(name, mimic_nmse))
    seconds = time.time() - start
    words = '4/6/12' if is_late else E
    if cell.is_wanted(under_teacher, 'recipe'):
        cell.write(learn.model, words, run.gmacs, seconds, under_teacher, 'recipe')
    learn.model.head, start = fresh_head, time.time()
    with learn.no_bar(), learn.no_logging(): learn.fit_head(H, ADAMW_LR)
    head = head_macs(learn.model, x)*cell.images*H/1e9
    words = f'{words}+{H}' if is_late else E + H
    cell.write(learn.model, words, run.gmacs + head, seconds + time.time() - start, name, 'recipe')

# --- the whole network at once

def of_whole_network(cell):
    "Labels only, or a teacher's answers: at equal epochs and at equal multiply-adds"
    is_sgd, is_kd = cell.method == 'labels_sgd', cell.method == 'kd'
    opt, lr = ('sgd', SGD_LR) if is_sgd else ('adamw', ADAMW_LR)
    how = dict(opt_func=partial(SGD, mom=0.9), wd=5e-4) if is_sgd else {}
    name = 'labels' if cell.method.startswith('labels') else cell.method
    x = cell.two_images()
    teacher = fashion_teacher(cell.teacher) if is_kd else None
    per_epoch = macs_of_whole_network(cell, teacher, x)*cell.images/1e9
    budgets = dict(equal_epochs=E + H, equal_gmacs=round(recipe_gmacs(cell, x)/per_epoch))
    if cell.a.stage == 'choose': del budgets['equal_epochs']
    for budget, epochs in budgets.items():
        if not cell.is_wanted(name, budget, opt, lr): continue
        learn, start = cell.learner(**how), time.time()
        terms = [Term(soft_kl, weight=.9)] if is_kd else []
        label_weight = .1 if is_kd else 1.
        with learn.no_bar(), learn.no_logging(): learn.fit_joint(teacher, epochs, lr, terms, label_weight)
        cell.write(learn.model, epochs, per_epoch*epochs, time.time() - start, name, budget, opt, lr)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--stage', choices=['choose', 'report'], default='report',
                   help="'choose': settings, on held-out training images; 'report': the table")
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--width', type=int, default=32, help="the student's; the teachers have 32")
    p.add_argument('--folder', default='/usr/share/datasets/fashion-mnist',
                   help='the official files; without them the embedded 2,000 test images')
    p.add_argument('--float32', action='store_true',
                   help='default is bfloat16 autocast, 2.5 times as fast on CPUs with AMX')
    p.add_argument('--jobs', type=int, default=2, help='cells run at once, one thread each')
    p.add_argument('--csv', type=Path)
    p.add_argument('--cell', nargs=3, metavar=('METHOD', 'TEACHER', 'SEED'),
                   help='one cell, here; used by the jobs')
    a = p.parse_args()
    if a.csv is None: a.csv = RECORDED if a.stage == 'report' else RESULTS/'choose.csv'
    a.csv.parent.mkdir(exist_ok=True, parents=True)
    if a.cell:
        method, teacher, seed = a.cell
        return run_cell(a, method, teacher, int(seed))
    run_cells(cells(a), a.jobs)

if __name__ == '__main__': main()
