"""Segmentation at length: the teacher, then a comparison.

    python benchmarks/segmentation.py teacher
    python benchmarks/segmentation.py

The first trains the teacher that travels with the package and writes its card. The second compares, over a
few seeds and at equal multiply-adds: the student stage by stage (ten stages, then the head), the same on
labels only, and half as many epochs a stage followed by a fine-tune of everything. All students see the same
training scenes, the first half of the teacher's; the test scenes are composed of official test images and
looked at once, after the last epoch. A row of results/segmentation.csv for each run; runs that are there
already are left out. The learning rate was chosen with --holdout, for both methods the same.

`python benchmarks/segmentation.py --masks 40` is the case for which the recipe is made: as many scenes, but
only the first 40 have masks. The stages learn from all scenes; head, fine-tune and labels only from the 40,
for as many steps as otherwise. One row more: the student under the teacher's own last layer, which needs no
mask at all. Written to results/segmentation_masks.csv.
"""
import argparse, hashlib, time
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from fastai.torch_core import set_seed
from fastai.vision.all import Learner

import sskd_tutor.distill.precision  # noqa: F401, patches Learner.tuned
from sskd_tutor.tasks.masks import scene_dls
from sskd_tutor.core.device import quiet
from sskd_tutor.core.files import pkg_data
from sskd_tutor.distill.phase import ValidEvery
from sskd_tutor.distill.joint import joint_gmacs
from sskd_tutor.distill.check import first_batch
from sskd_tutor.distill.costs import step_macs
from sskd_tutor.data.made import make_scenes
from sskd_tutor.tasks.segmentation import scores, segment_stages, segmentation_teacher, small_unet
from sskd_tutor.nets.weights import load_weights, save_weights

METHODS = 'stage by stage', 'labels only', 'stage by stage + fine-tune'   # the first sets the budget
UNDER_TEACHER = "stage by stage, teacher's head"                          # of few masks: needs none at all
COLUMNS = ('method seed miou pixel_accuracy gmacs seconds epochs images evaluated_on teacher_miou '
           'teacher_pixel_accuracy width blocks lr bs precision machine date').split()
MACHINE = '2 CPU cores, one thread'
TEACHER_SCENES, STUDENT_SCENES = 1500, 750

CARD = """# Teacher `teacher_segmentation`

| | |
| --- | --- |
| network | fastai's `DynamicUnet` by `small_unet()`: five stages of encoder (width 16, 2 blocks), \
11 classes with background, {params:.2f} M parameters |
| data it has seen | {n:,} scenes of 96 px, `make_scenes({n})`, composed of the embedded Fashion-MNIST \
training images; no test image |
| mean IoU | **{miou:.2f} %** over background and the ten classes, {pixels:.2f} % of pixels right, \
on `make_scenes({n_test}, 'valid')` (half-precision weights, last epoch) |
| recipe | AdamW, one cycle to {lr}, batch {bs}, {epochs} epochs, cross-entropy of each pixel, \
views: {views} |
| precision | {precision}, weights stored as float16 |
| seed | {seed} |
| sha256 | `{sha}` |
| command | `python benchmarks/segmentation.py teacher` |
| trained | {day}, {minutes:.0f} minutes on {threads} CPU thread(s) of a shared machine, \
torch {torch} |
| license | Apache-2.0 (weights); images: MIT, Zalando SE |

The students of `benchmarks/segmentation.py` see the first half of these scenes: less than it has seen.
"""


# --- data and learners

def loaders(a, seed, test=True):
    """The training scenes and the test scenes.

    To choose a setting, other scenes of training images instead of the test scenes."""
    held = make_scenes(a.n_test, 'valid') if test else make_scenes(a.n_test, 'train', seed=9)
    return scene_dls(make_scenes(a.n), held, bs=a.bs, seed=seed, device='cpu')

def masked(a, dls, seed):
    "The scenes with masks: all, or the first few"
    if not a.masks: return dls
    return scene_dls(make_scenes(a.masks), make_scenes(8), bs=a.bs, seed=seed, device='cpu')

def learner(a, dls, unet): return Learner(dls, segment_stages(unet)).tuned(a.precision)

def percent(net, dls):
    found = scores(net.float(), dls.valid)
    return dict(miou=round(100*found['miou'], 2), pixel_accuracy=round(100*found['pixel_accuracy'], 2))

# --- the teacher

def teacher(a):
    set_seed(a.seed, reproducible=True)
    a.n = a.n or TEACHER_SCENES
    dls, start = loaders(a, a.seed), time.time()
    learn = learner(a, dls, small_unet())
    with quiet(learn): learn.fit_one_cycle(a.teacher_epochs, a.teacher_lr, cbs=ValidEvery(0))
    minutes = (time.time() - start)/60
    publish(a, dls, learn.model.float().to(memory_format=torch.contiguous_format).plain(), minutes)

def publish(a, dls, unet, minutes):
    "Weights in half precision, measured as they are stored, and the card"
    path = a.out/'teacher_segmentation.safetensors'
    save_weights(unet, path, half=True, overwrite=True)
    got = percent(segment_stages(load_weights(unet, path)), dls)
    meta = dict(n=a.n, seed=a.seed, epochs=a.teacher_epochs, lr=a.teacher_lr, bs=a.bs,
                views=repr(dls.train.views), precision=a.precision, **got)
    save_weights(unet, path, meta, half=True, overwrite=True)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    params = sum(p.numel() for p in unet.parameters())/1e6
    card = CARD.format(**meta, params=params, pixels=got['pixel_accuracy'], n_test=a.n_test, sha=sha,
                       day=date.today(), minutes=minutes, threads=torch.get_num_threads(),
                       torch=torch.__version__)
    path.with_suffix('.md').write_text(card)
    print(f'{path}: {meta} sha256 {sha}')

# --- the methods

@dataclass
class Trained:
    "A student, and what it took"
    learn: Learner
    gmacs: float                        # 10^9 multiply-adds
    epochs: int | str                   # in words where there are several phases
    under_teacher: dict | None = None   # its row with the teacher's head, if few scenes have masks

def student(a, dls, seed):
    "The learner of a fresh student"
    set_seed(seed, reproducible=True)
    return learner(a, dls, small_unet(a.width, a.blocks))

def by_stages(a, dls, seed, epochs, head_epochs):
    learn = student(a, dls, seed)
    own_head = learn.model.head
    now = 0 if a.masks else head_epochs   # with few masks the head learns afterwards, from those
    with quiet(learn): run = learn.fit_sskd(segmentation_teacher(), epochs, now, a.lr, valid_every=0)
    if not a.masks: return Trained(learn, run.gmacs, f'{epochs} a stage + {head_epochs}')
    under_teacher = percent(learn.model, dls) | dict(gmacs=round(run.gmacs), epochs=f'{epochs} a stage')
    learn.model.head, learn.dls = own_head, masked(a, dls, seed)
    # as many steps as with all masks
    masked_epochs = head_epochs*len(dls.train)//len(learn.dls.train)
    spent = head_gmacs(learn, masked_epochs, a.bs)
    with quiet(learn): learn.fit_head(masked_epochs, a.lr, valid_every=0)
    return Trained(learn, run.gmacs + spent, f'{epochs} a stage + {masked_epochs}', under_teacher)

def head_gmacs(learn, epochs, bs):
    "10^9 multiply-adds of so many epochs of the head"
    x, y = first_batch(learn.dls.train)
    macs = step_macs(learn.model, ['head'], learn.loss_func, lambda _: y, x)
    return macs*epochs*len(learn.dls.train)*bs/1e9

def on_labels(learn, gmacs, lr):
    "Everything on labels, for about so many multiply-adds: (10^9 multiply-adds, epochs)"
    epochs = round(gmacs/joint_gmacs(learn, None)(1))
    with quiet(learn): run = learn.fit_joint(None, epochs, lr, valid_every=0)
    return run.gmacs, epochs

def labels_only(a, dls, seed, budget):
    learn = student(a, masked(a, dls, seed), seed)
    return Trained(learn, *on_labels(learn, budget, a.lr))

def fine_tuned(a, dls, seed, budget):
    "Half as many epochs stage by stage; then everything on labels, for the rest of the budget"
    half = by_stages(a, dls, seed, a.epochs//2, 1)
    more, rest = on_labels(half.learn, budget - half.gmacs, a.lr/3)
    return Trained(half.learn, half.gmacs + more, f'{half.epochs} + {rest} of everything')

def trained(a, dls, seed, method, budget):
    "One student by one method"
    if method == 'stage by stage': return by_stages(a, dls, seed, a.epochs, a.head_epochs)
    if method == 'labels only': return labels_only(a, dls, seed, budget)
    return fine_tuned(a, dls, seed, budget)

# --- the comparison

def compare(a):
    "The runs that are not there yet"
    a.n = a.n or STUDENT_SCENES
    usual = 'segmentation_masks.csv' if a.masks else 'segmentation.csv'
    path = a.csv or pkg_data/'benchmarks/results'/usual
    of_teacher = percent(segmentation_teacher(), loaders(a, 0, a.test))
    for method, seed in product(METHODS, a.seeds):
        rows = pd.read_csv(path).to_dict('records') if path.exists() else []
        gmacs = {row['method']: row['gmacs'] for row in rows if row['seed'] == seed}
        if method in gmacs: continue
        table = rows_of_run(a, seed, method, gmacs.get(METHODS[0]), of_teacher)
        table.to_csv(path, mode='a', header=not path.exists(), index=False)  # several processes may add to it
        print(table.to_string(), flush=True)

def rows_of_run(a, seed, method, budget, of_teacher):
    "Train and examine one student: a row, or two where it was examined with the teacher's head as well"
    dls, start = loaders(a, seed, a.test), time.time()
    student = trained(a, dls, seed, method, budget)
    shared = dict(seed=seed, seconds=round(time.time() - start), images=a.n,
                  evaluated_on=f"{a.n_test} {'test' if a.test else 'holdout'} scenes",
                  width=a.width, blocks=a.blocks, lr=a.lr, bs=a.bs, precision=a.precision, machine=MACHINE,
                  date=date.today(), teacher_miou=of_teacher['miou'],
                  teacher_pixel_accuracy=of_teacher['pixel_accuracy'])
    own = dict(percent(student.learn.model, dls), method=method, gmacs=round(student.gmacs),
               epochs=student.epochs, masks=a.masks)
    found = [own]
    if student.under_teacher: found.append(dict(student.under_teacher, method=UNDER_TEACHER, masks=0))
    columns = [*COLUMNS, 'masks'] if a.masks else COLUMNS
    return pd.DataFrame([row | shared for row in found])[columns]

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('what', nargs='?', choices=['teacher', 'compare'], default='compare')
    p.add_argument('--n', type=int,
                   help="training scenes; 1,500 for the teacher, the first 750 of them for the students")
    p.add_argument('--n-test', type=int, default=300)
    p.add_argument('--masks', type=int,
                   help='scenes that have a mask, the first ones; all if it is not given')
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    p.add_argument('--seed', type=int, default=0, help="the teacher's")
    p.add_argument('--bs', type=int, default=8)
    p.add_argument('--width', type=int, default=8, help="of the student; the teacher's is 16")
    p.add_argument('--blocks', type=int, default=1)
    p.add_argument('--epochs', type=int, default=2, help='a stage')
    p.add_argument('--head-epochs', type=int, default=2)
    p.add_argument('--lr', type=float, default=1.5e-2)
    p.add_argument('--teacher-epochs', type=int, default=16)
    p.add_argument('--teacher-lr', type=float, default=5e-3)
    p.add_argument('--precision', default='bf16')
    p.add_argument('--holdout', dest='test', action='store_false',
                   help='judge on further training scenes, to choose a setting')
    p.add_argument('--csv', type=Path, help='results/segmentation.csv, or segmentation_masks.csv')
    p.add_argument('--out', type=Path, default=pkg_data)
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.what == 'teacher': teacher(a)
    else: compare(a)

if __name__ == '__main__': main()
