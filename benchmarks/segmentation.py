"""Segmentation at length: `python benchmarks/segmentation.py teacher`, then `python benchmarks/segmentation.py`.

The first trains the teacher that travels with the package and writes its card. The second compares, over a few seeds and at equal
multiply-adds: the student stage by stage (ten stages, then the head), the same on labels only, and half as many epochs a stage followed
by a fine-tune of everything. All students see the same training scenes, the first half of the teacher's; the test scenes are composed of
official test pictures and looked at once, after the last epoch. A row of results/segmentation.csv for each run; runs that are there
already are left out. The learning rate was chosen with --holdout, for both methods the same.

`python benchmarks/segmentation.py --masks 40` is the case for which the recipe is made: as many scenes, but only the first 40 have masks.
The stages learn from all scenes; head, fine-tune and labels only from the 40, for as many steps as otherwise. One row more: the student
under the teacher's own last layer, which needs no mask at all. Written to results/segmentation_masks.csv.
"""
import argparse, hashlib, time
from datetime import date
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from fastai.torch_core import set_seed
from fastai.vision.all import Learner

import sskd_tutor.distill.precision  # noqa: F401, patches Learner.tuned
from sskd_tutor.tasks.masks import scene_dls
from sskd_tutor.core.files import pkg_data
from sskd_tutor.distill.phase import ValidEvery
from sskd_tutor.distill.joint import joint_gmacs
from sskd_tutor.distill.check import first_batch
from sskd_tutor.distill.costs import step_macs
from sskd_tutor.data.made import make_scenes
from sskd_tutor.tasks.segmentation import scores, segment_stages, segmentation_teacher, small_unet
from sskd_tutor.nets.weights import load_weights, save_weights

here = Path(__file__).resolve().parent
machine = '2 CPU cores, one thread'
methods = 'stage by stage', 'labels only', 'stage by stage + fine-tune'  # the first sets the budget
unmasked = "stage by stage, teacher's head"
columns = 'method seed miou pixel_accuracy gmacs seconds epochs images evaluated_on teacher_miou teacher_pixel_accuracy width blocks lr bs precision machine date'.split()

CARD = """# Teacher `teacher_segmentation`

| | |
| --- | --- |
| network | fastai's `DynamicUnet` by `small_unet()`: five stages of encoder (width 16, 2 blocks), 11 classes with background, {params:.2f} M parameters |
| data it has seen | {n:,} scenes of 96 px, `make_scenes({n})`, composed of the embedded Fashion-MNIST training images; no test image |
| mean IoU | **{miou:.2f} %** over background and the ten classes, {pixels:.2f} % of pixels right, on `make_scenes({n_test}, 'valid')` (half-precision weights, last epoch) |
| recipe | AdamW, one cycle to {lr}, batch {bs}, {epochs} epochs, cross-entropy of each pixel, views: {views} |
| precision | {precision}, weights stored as float16 |
| seed | {seed} |
| sha256 | `{sha}` |
| command | `python benchmarks/segmentation.py teacher` |
| trained | {day}, {minutes:.0f} minutes on {threads} CPU thread(s) of a shared machine, torch {torch} |
| license | Apache-2.0 (weights); images: MIT, Zalando SE |

The students of `benchmarks/segmentation.py` see the first half of these scenes: less than it has seen.
"""

def loaders(a, seed, test=True):
    "The training scenes and the test scenes; or, to choose a setting, scenes of other training pictures' places"
    held = make_scenes(a.n_test, 'valid') if test else make_scenes(a.n_test, 'train', seed=9)
    return scene_dls(make_scenes(a.n), held, bs=a.bs, seed=seed, device='cpu')

def masked(a, dls, seed):
    "The scenes with masks: all, or the first few"
    return dls if not a.masks else scene_dls(make_scenes(a.masks), make_scenes(8), bs=a.bs, seed=seed, device='cpu')

def learner(a, dls, unet): return Learner(dls, segment_stages(unet)).tuned(a.precision)

def quietly(learn, what, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(): return getattr(learn, what)(*args, **kwargs)

def percent(net, dls):
    s = scores(net.float(), dls.valid)
    return dict(miou=round(100*s['miou'], 2), pixel_accuracy=round(100*s['pixel_accuracy'], 2))

def teacher(a):
    set_seed(a.seed, reproducible=True)
    a.n = a.n or 1500
    dls, start = loaders(a, a.seed), time.time()
    learn = learner(a, dls, small_unet())
    quietly(learn, 'fit_one_cycle', a.teacher_epochs, a.teacher_lr, cbs=ValidEvery(0))
    minutes, path = (time.time() - start)/60, a.out/'teacher_segmentation.safetensors'
    unet = learn.model.float().to(memory_format=torch.contiguous_format).plain()
    save_weights(unet, path, half=True, overwrite=True)
    got = percent(segment_stages(load_weights(unet, path)), dls)
    meta = dict(n=a.n, seed=a.seed, epochs=a.teacher_epochs, lr=a.teacher_lr, bs=a.bs, views=repr(dls.train.views), precision=a.precision, **got)
    save_weights(unet, path, meta, half=True, overwrite=True)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    card = dict(params=sum(p.numel() for p in unet.parameters())/1e6, pixels=got['pixel_accuracy'], n_test=a.n_test, sha=sha, day=date.today(), minutes=minutes, threads=torch.get_num_threads(), torch=torch.__version__)
    path.with_suffix('.md').write_text(CARD.format(**meta, **card))
    print(f'{path}: {meta} sha256 {sha}')

def student(a, dls, seed):
    set_seed(seed, reproducible=True)
    return learner(a, dls, small_unet(a.width, a.blocks))

def by_stages(a, dls, seed, epochs, head_epochs):
    "(learner, 10^9 multiply-adds, epochs, what it is worth under the teacher's head: only if few scenes have masks)"
    learn = student(a, dls, seed)
    own, run = learn.model.head, quietly(learn, 'fit_sskd', segmentation_teacher(), epochs, 0 if a.masks else head_epochs, a.lr, valid_every=0)
    if not a.masks: return learn, run.gmacs, f'{epochs} a stage + {head_epochs}', None
    without = percent(learn.model, dls)
    learn.model.head, learn.dls = own, masked(a, dls, seed)
    n, (x, y) = head_epochs*len(dls.train)//len(learn.dls.train), first_batch(learn.dls.train)
    spent = step_macs(learn.model, ['head'], learn.loss_func, lambda _: y, x)*n*len(learn.dls.train)*a.bs/1e9
    quietly(learn, 'fit_head', n, a.lr, valid_every=0)
    return learn, run.gmacs + spent, f'{epochs} a stage + {n}', dict(without, gmacs=round(run.gmacs), epochs=f'{epochs} a stage')

def on_labels(learn, gmacs, lr):
    epochs = round(gmacs/joint_gmacs(learn, None)(1))
    return quietly(learn, 'fit_joint', None, epochs, lr, valid_every=0).gmacs, epochs

def ran(a, dls, seed, method, budget):
    "(learner, 10^9 multiply-adds, epochs, as for `by_stages`)"
    if method == 'stage by stage': return by_stages(a, dls, seed, a.epochs, a.head_epochs)
    if method == 'labels only':
        learn = student(a, masked(a, dls, seed), seed)
        return learn, *on_labels(learn, budget, a.lr), None
    learn, spent, epochs, _ = by_stages(a, dls, seed, a.epochs//2, 1)
    more, rest = on_labels(learn, budget - spent, a.lr/3)
    return learn, spent + more, f'{epochs} + {rest} of everything', None

def compare(a):
    a.n, path = a.n or 750, a.csv or pkg_data/'benchmarks/results'/f"segmentation{'_masks'*bool(a.masks)}.csv"
    goal = percent(segmentation_teacher(), loaders(a, 0, a.test))
    for method, seed in product(methods, a.seeds):
        rows = pd.read_csv(path).to_dict('records') if path.exists() else []
        known = {r['method']: r['gmacs'] for r in rows if r['seed'] == seed}
        if method in known: continue
        dls, start = loaders(a, seed, a.test), time.time()
        learn, gmacs, epochs, without = ran(a, dls, seed, method, known.get(methods[0]))
        shared = dict(seed=seed, seconds=round(time.time() - start), images=a.n, evaluated_on=f"{a.n_test} {'test' if a.test else 'holdout'} scenes", width=a.width, blocks=a.blocks, lr=a.lr,
                      bs=a.bs, precision=a.precision, machine=machine, date=date.today(), **{f'teacher_{k}': v for k, v in goal.items()})
        found = [dict(percent(learn.model, dls), method=method, gmacs=round(gmacs), epochs=epochs, masks=a.masks)]
        if without: found.append(dict(without, method=unmasked, masks=0))
        table = pd.DataFrame([f | shared for f in found])[columns + ['masks']*bool(a.masks)]
        table.to_csv(path, mode='a', header=not path.exists(), index=False)  # several processes may add to it
        print(table.to_string(), flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('what', nargs='?', choices=['teacher', 'compare'], default='compare')
    p.add_argument('--n', type=int, help="training scenes; 1,500 for the teacher, the first 750 of them for the students")
    p.add_argument('--n-test', type=int, default=300)
    p.add_argument('--masks', type=int, help='scenes that have a mask, the first ones; all if it is not given')
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
    p.add_argument('--holdout', dest='test', action='store_false', help='judge on further training scenes, to choose a setting')
    p.add_argument('--csv', type=Path, help='results/segmentation.csv, or segmentation_masks.csv')
    p.add_argument('--out', type=Path, default=pkg_data)
    a = p.parse_args()
    torch.set_num_threads(1)
    teacher(a) if a.what == 'teacher' else compare(a)

if __name__ == '__main__': main()
