"""Detection: the teacher, then stage by stage against labels only on scenes of Fashion-MNIST images.

    python benchmarks/detection.py teacher
    python benchmarks/detection.py compare     # a row a seed and method in results/detection.csv; resumable

The scenes are written in COCO's format and read from it. The teacher learns from 3,000 labeled scenes; a
student sees the first 600 of them. Stage by stage: each stage mimics the teacher's, without a box, then neck
and heads learn on the frozen backbone. Labels only: the same student, all of it trained on the same 600
scenes, for as many multiply-adds as the whole stage-by-stage run took, the teacher's included. Its learning
rate is chosen among three on 300 other scenes made of training images (`choose`). 500 scenes of test
images are measured once, after the last epoch; nothing was chosen on them. The results are in
sskd_tutor/data_files/benchmarks/results.
"""
import argparse, hashlib, tempfile, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from fastai.vision.all import Learner, set_seed
from rows import append_rows, read_rows

from sskd_tutor.tasks.boxes import CocoSet, detection_dls
from sskd_tutor.core.files import pkg_data
from sskd_tutor.tasks.detection import (StagedDetector, detection_learner, detection_map, detection_teacher,
    detector_macs, small_detector, staged_pair)
from sskd_tutor.distill.phase import ValidEvery
from sskd_tutor.core.state import environment
from sskd_tutor.data.made import make_scenes, write_coco
from sskd_tutor.nets.weights import load_weights, save_weights

RESULTS = pkg_data/'benchmarks/results/detection.csv'  # travels with the package: pages draw it
CHOICE = Path(__file__).parent/'results/detection_choice.csv'   # of the learning rate of labels only
FIELDS = ('method seed map map_50 map_75 gmacs seconds epochs lr scenes tested_on width machine threads '
          'date').split()
BS = 8
E, H = 10, 10                # epochs of each stage, and of neck and heads
LR = 5e-3
TRIED = {2e-3, 5e-3, 1e-2}   # learning rates of labels only
# as stored rows have them
TEST, HOLDOUT = '500 scenes of test pictures', '300 scenes of training pictures'

CARD = """# Teacher `teacher_detection`

| | |
| --- | --- |
| network | `small_detector(width={width}, blocks=2)`: Faster R-CNN with a pyramid of 32 channels \
on a three-stage ResNet, {params:,} parameters |
| data it has seen | {n:,} labeled scenes, `make_scenes({n})`, made of the embedded training images \
of Fashion-MNIST; no test image |
| COCO mean average precision | **{map:.1f} %** (IoU 0.50 to 0.95), {map_50:.1f} % at IoU 0.50, \
{map_75:.1f} % at 0.75, on 500 scenes of test images, `make_scenes(500, 'valid')` \
(half-precision weights, last epoch) |
| recipe | AdamW, one cycle to {lr}, batch {bs}, {epochs} epochs, the detector's own losses, \
half of the images mirrored |
| precision | float32, weights stored as float16 |
| seed | {seed} |
| sha256 | `{sha}` |
| command | `python benchmarks/detection.py teacher --scenes {n} --epochs {epochs}` |
| trained | {day}, {minutes:.0f} minutes on {threads} CPU thread(s), torch {torch} |
| license | Apache-2.0 (weights); images: MIT, Zalando SE |

This teacher has seen five times as many labeled scenes as the student of the comparison.
"""


# --- scenes

def coco_set(folder, n, split, seed=0):
    "So many scenes; written once, read as COCO"
    folder = Path(folder)/f'{split}-{n}-{seed}'
    if not (folder/'annotations.json').exists(): write_coco(make_scenes(n, split, seed=seed), folder)
    return CocoSet(folder/'images', folder/'annotations.json', 'L')

def dls_of(folder, n, detector, holdout=False):
    "n training scenes, and test scenes or those to choose a setting by"
    valid = coco_set(folder, 300, 'train', seed=1) if holdout else coco_set(folder, 500, 'valid')
    return detection_dls(coco_set(folder, n, 'train'), valid, detector, BS, device='cpu')

def fit(learn, f, *args, **kwargs):
    "(what a method of the learner gives, its seconds)"
    start = time.time()
    with learn.no_bar(): result = f(*args, **kwargs)
    return result, time.time() - start

# --- the teacher

def teacher(a):
    set_seed(a.seed, reproducible=True)
    detector = small_detector(a.width, blocks=2)
    dls = dls_of(a.folder, a.scenes, detector)
    learn = detection_learner(dls, StagedDetector(detector), metrics=[])
    _, seconds = fit(learn, learn.fit_one_cycle, a.epochs, a.lr, cbs=ValidEvery(0))
    publish(a, dls, detector, seconds)

def publish(a, dls, detector, seconds):
    "Weights in half precision, measured as they are stored, and the card"
    path = a.out/'teacher_detection.safetensors'
    save_weights(detector, path, half=True, overwrite=True)
    measured = detection_map(StagedDetector(load_weights(detector, path)), dls.valid)
    found = {name: 100*value for name, value in measured.items()}
    meta = dict(n=a.scenes, width=a.width, seed=a.seed, epochs=a.epochs, lr=a.lr, bs=BS, **found)
    save_weights(detector, path, meta, half=True, overwrite=True)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    params = sum(p.numel() for p in detector.parameters())
    card = CARD.format(**meta, sha=sha, params=params, day=date.today(), minutes=seconds/60,
                       threads=torch.get_num_threads(), torch=torch.__version__)
    path.with_suffix('.md').write_text(card)
    print(meta, f'\n{seconds:.0f} seconds, sha256 {sha}')

# --- the methods

@dataclass
class Trained:
    "A student, and what it took"
    learn: Learner
    gmacs: float         # 10^9 multiply-adds
    seconds: float
    epochs: int | str    # in words where there are several phases
    lr: float

def epoch_gmacs(learn):
    "Of labels-only training, of the whole detector"
    return detector_macs(learn)*len(learn.dls.train)*BS/1e9

def student(a, seed, holdout=False):
    "The learner of a fresh student"
    set_seed(seed, reproducible=True)
    detector = small_detector(a.width)
    dls = dls_of(a.folder, a.scenes, detector, holdout)
    return detection_learner(dls, StagedDetector(detector), metrics=[])

def distilled(a, seed):
    "Stage by stage, then neck and heads"
    learn = student(a, seed)
    net, _ = staged_pair(detection_teacher(), small_detector(a.width))
    run, seconds = fit(learn, learn.fit_sskd, net, E, H, LR, valid_every=0)
    return Trained(learn, run.gmacs, seconds, f'{E}+{H}', LR)

def labels_only(a, seed, gmacs, lr, holdout=False):
    "The same student on boxes, for about so many multiply-adds"
    learn = student(a, seed, holdout)
    one = epoch_gmacs(learn)
    epochs = round(gmacs/one)
    _, seconds = fit(learn, learn.fit_one_cycle, epochs, lr, cbs=ValidEvery(0))
    return Trained(learn, epochs*one, seconds, epochs, lr)

# --- rows

def row_of(a, method, seed, trained, tested_on):
    "A row of the file; the student is measured here"
    found = detection_map(trained.learn.model, trained.learn.dls.valid)
    percent = {name: round(100*value, 2) for name, value in found.items()}
    return dict(method=method, seed=seed, **percent, gmacs=round(trained.gmacs, 1),
                seconds=round(trained.seconds), epochs=trained.epochs, lr=trained.lr, scenes=a.scenes,
                tested_on=tested_on, width=a.width, machine=environment('cpu')['device_name'],
                threads=torch.get_num_threads(), date=date.today())

def append(path, row):
    append_rows(path, FIELDS, [row])
    print(*row.values(), flush=True)

def choose(a):
    "Try the learning rates of labels only, on scenes of training images"
    tried = {float(row['lr']) for row in read_rows(a.choice)}
    gmacs = float(read_rows(a.csv)[0]['gmacs'])  # of stage by stage
    for lr in TRIED - tried:
        trained = labels_only(a, 0, gmacs, lr, holdout=True)
        append(a.choice, row_of(a, 'labels_only', 0, trained, HOLDOUT))

def compare(a):
    "The runs that are not there yet"
    for seed in range(a.seeds):
        done = {row['method'] for row in read_rows(a.csv) if int(row['seed']) == seed}
        if 'distilled' not in done: append(a.csv, row_of(a, 'distilled', seed, distilled(a, seed), TEST))
        if seed == 0: choose(a)
        if 'labels_only' not in done: compare_labels(a, seed)

def compare_labels(a, seed):
    "Labels only at the chosen learning rate, for the multiply-adds of this seed's stage by stage"
    best = max(read_rows(a.choice), key=lambda row: float(row['map']))
    budget = next(float(row['gmacs']) for row in read_rows(a.csv)
                  if (row['method'], int(row['seed'])) == ('distilled', seed))
    trained = labels_only(a, seed, budget, float(best['lr']))
    append(a.csv, row_of(a, 'labels_only', seed, trained, TEST))

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('what', choices=['teacher', 'compare'])
    p.add_argument('--scenes', type=int,
                   help='labeled scenes to learn from: 3000 for the teacher, 600 for a student')
    p.add_argument('--width', type=int, default=24)
    p.add_argument('--epochs', type=int, default=10, help="the teacher's")
    p.add_argument('--lr', type=float, default=5e-3, help="the teacher's")
    p.add_argument('--seed', type=int, default=0, help="the teacher's")
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--folder', default=Path(tempfile.gettempdir())/'sskd_tutor-scenes',
                   help='where the scenes are written')
    p.add_argument('--csv', type=Path, default=RESULTS)
    p.add_argument('--out', type=Path, default=pkg_data)
    a = p.parse_args()
    a.scenes = a.scenes or dict(teacher=3000, compare=600)[a.what]
    a.choice = CHOICE if a.csv == RESULTS else a.csv.with_name(CHOICE.name)
    dict(teacher=teacher, compare=compare)[a.what](a)

if __name__ == '__main__': main()
