"""Faces on LFW, street scenes on CamVid, blood cells on BCCD, as registered in real.toml.

    python benchmarks/real.py lfw     # teacher, choice of the learning rates, the runs; likewise camvid, bccd

The registration is sskd_tutor/data_files/benchmarks/real.toml. A row a run in results/lfw.csv (camvid.csv,
bccd.csv), a row a try in results/lfw_tuning.csv. SSKD_DATA names the folder that holds the sets. What is in a
file is not made again; teachers are kept in --folder. One thread; bfloat16 where the processor has it.
"""
import argparse, csv, os, time, tomllib
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from fastai.callback.all import ChannelsLast
from fastai.vision.all import Learner, set_seed
from rows import read_rows
from torch.utils.data import Subset

from sskd_tutor.core.device import Bf16, fast_bf16, quiet
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import environment
from sskd_tutor.data.formats import channel_stats
from sskd_tutor.data.images import Images
from sskd_tutor.data.views import Views
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.adapters import make_adapters
from sskd_tutor.distill.check import check_pair
from sskd_tutor.distill.checkpoint import KeepEpochs
from sskd_tutor.distill.joint import Term, joint_gmacs
from sskd_tutor.distill.phase import ValidEvery
from sskd_tutor.nets.weights import load_weights, save_weights
from sskd_tutor.runs.coco import coco_sets
from sskd_tutor.tasks.boxes import detection_dls
from sskd_tutor.tasks.detection import (StagedDetector, detection_learner, detection_map, detector_macs,
    small_detector)
from sskd_tutor.tasks.faces import embed, face_dls, face_learner, face_net, identities
from sskd_tutor.tasks.folds import fold_accuracies, halves, pairs_of, people_of
from sskd_tutor.tasks.lfw import lfw_pairs, lfw_people, pair_scores
from sskd_tutor.tasks.pairs import tar_at_far, verification
from sskd_tutor.tasks.segmentation import scores, segment_stages, segmentation_learner
from sskd_tutor.tasks.streets import street_dls, street_unet

CONFIG = pkg_data/'benchmarks/real.toml'
RESULTS = pkg_data/'benchmarks/results'
CAMVID_TRAINING = 367    # scenes with a mask
cpu = torch.device('cpu')

def precision(): return [Bf16(), ChannelsLast()] if fast_bf16(cpu) else []

@dataclass(frozen=True)
class Case:
    "What a student is trained on"
    seed: int
    labeled: int | None = None    # images with labels; all if None
    tuning: bool = False          # judged on held-out training images
    part: int | None = None       # of the set, where it is learned in parts

class RealSet:
    "What the three sets have in common; `how` is the set's table of the config"
    parts = [None]    # of which each method is trained once: LFW's halves
    plain = True      # losses and networks are `fit_joint`'s
    def __init__(self, a):
        self.how = tomllib.loads(CONFIG.read_text())[a.what]
        self.data, self.folder = a.data, a.folder/a.what

    def dls(self, case): raise NotImplementedError
    def network(self, who, part=None): raise NotImplementedError
    def learner(self, dls, net): raise NotImplementedError
    def score(self, net, dls): raise NotImplementedError      # the number to choose by, on held-out images
    def rows(self, nets): raise NotImplementedError           # column -> value; `nets` by part

    def cbs(self): return []    # for `fit_sskd`: what is remembered
    def epoch_gmacs(self, learn): return joint_gmacs(learn, None)(1)

    def teacher(self, part=None):
        "Trained once for each part"
        path = self.folder/f"teacher{'' if part is None else part}.safetensors"
        set_seed(0, reproducible=True)
        net = self.network('teacher', part)
        if not path.exists(): self.train_teacher(net, part, path)
        return load_weights(net, path).eval().requires_grad_(False)

    def train_teacher(self, net, part, path):
        "An interrupted training goes on"
        learn, begin = self.learner(self.dls(Case(0, part=part)), net), time.time()
        keep = KeepEpochs(self.folder/path.stem, self.how, every=0)
        keep.go_on(learn)
        epochs, lr = self.how['teacher_epochs'], self.how['teacher_lr']
        with quiet(learn): learn.fit_one_cycle(epochs, lr, cbs=[keep, ValidEvery(0)])
        save_weights(net.float(), path)
        print(f'{path} trained, {time.time() - begin:.0f} s', flush=True)

    def new(self, case):
        "The learner of a fresh student"
        set_seed(case.seed, reproducible=True)
        net = self.network('student', case.part)
        return self.learner(self.dls(case), net)

# --- methods

@dataclass
class Trained:
    "A student, and what it took"
    learn: Learner
    gmacs: float         # 10^9 multiply-adds
    epochs: int | str    # in words where there are several phases

def on_labels(s, learn, gmacs, lr, terms=(), teacher=None):
    "The whole student, for about so many multiply-adds: (10^9 multiply-adds, epochs)"
    if s.plain: return jointly(s, learn, gmacs, lr, terms, teacher)
    with quiet(learn):
        one = s.epoch_gmacs(learn)
        epochs = max(1, round(gmacs/one))
        learn.fit_one_cycle(epochs, lr, cbs=ValidEvery(0))
    return epochs*one, epochs

def jointly(s, learn, gmacs, lr, terms, teacher):
    "The same by `fit_joint`, which takes a teacher's answers, too"
    with quiet(learn):
        cost = joint_gmacs(learn, teacher, terms)
        cbs = s.cbs() if terms else []   # a teacher's answers are remembered, as its maps are
        views = s.how['views'] if cbs else None
        def distance(epochs): return abs(cost(epochs, views) - gmacs)
        epochs = min(range(1, 1_000), key=distance)
        run = learn.fit_joint(teacher, epochs, lr, terms, 1., cbs=cbs, valid_every=0)
    return run.gmacs, epochs

def mimic(s, learn, teacher, epochs, lr):
    """The backbone, stage by stage: 10^9 multiply-adds.

    A detector's head takes all taps, so it cannot take over the teacher's."""
    if s.plain: return learn.fit_sskd(teacher, epochs, 0, lr, cbs=s.cbs(), valid_every=0).gmacs
    taps, hints = check_pair(learn, teacher)
    for name, adapter in make_adapters(learn.model.stage_names, taps, hints).items():
        learn.fit_stage(teacher, name, epochs, lr, adapter, valid_every=0)
    plan = learn.sskd_plan(teacher, epochs, 1, valid_every=0, timed=False)
    return plan.table.gmacs[:-1].sum()

def stages(s, case, lr, share=1.):
    """The backbone on all images, without a label; then a head of its own on those with labels.

    Yields after each. `share` is that of the epochs in the config."""
    learn, teacher = s.new(replace(case, labeled=None)), s.teacher(case.part)
    own_head, epochs = learn.model.head, max(1, round(share*s.how['epochs']))
    with quiet(learn): spent = mimic(s, learn, teacher, epochs, lr)
    yield Trained(learn, spent, f'{epochs} a stage')
    learn.model.head = own_head
    steps = share*s.how['head_epochs']*len(learn.dls.train)
    if case.labeled: learn.dls = s.dls(case)
    head_epochs = max(1, round(steps/len(learn.dls.train)))
    plan = learn.sskd_plan(teacher, 1, head_epochs, valid_every=0, timed=False)
    with quiet(learn): learn.fit_head(head_epochs, lr, valid_every=0)
    yield Trained(learn, spent + plan.table.gmacs['head'], f'{epochs} a stage + {head_epochs}')

def embedding_loss(pred, hint): return (1 - F.cosine_similarity(pred.float(), hint.float())).mean()

def fine_tuned(s, case, lr, budget):
    "Half as many epochs stage by stage; then everything on labels, for the rest of the budget"
    *_, student = stages(s, case, lr, .5)
    student.learn.model.requires_grad_(True)
    more, epochs = on_labels(s, student.learn, max(0, budget - student.gmacs), lr/3)
    return Trained(student.learn, student.gmacs + more, f'{student.epochs} + {epochs} of everything')

def trained(s, method, case, lr, budget):
    "One student by one method"
    if method == 'sskd_teacher_head': return next(stages(s, case, lr))
    if method == 'sskd': return list(stages(s, case, lr))[-1]
    if method == 'sskd+ft': return fine_tuned(s, case, lr, budget)
    terms, teacher = (), None
    if method == 'kd':
        terms = [Term(embedding_loss, weight=s.how['kd_weight'])]
        teacher = s.teacher(case.part)
    learn = s.new(case)
    return Trained(learn, *on_labels(s, learn, budget, lr, terms, teacher))

# --- the sets

@dataclass
class Half:
    "The people of one half of LFW's folds"
    images: object    # Images: all of them
    names: list
    kept: object      # Images of seven people in eight
    held: object      # Images of the others, to choose settings by

class Faces(RealSet):
    parts = [0, 1]
    def open(self, half):
        "Read one half"
        images, names = lfw_people(people_of(halves[half], self.data), data_home=self.data)
        held = names[::8]
        kept = [name for name in names if name not in held]
        return Half(images, names, identities(images, kept, names), identities(images, held, names))

    def opened(self, half):
        "One half, read once"
        if not hasattr(self, 'halves'): self.halves, self.pairs = {}, lfw_pairs('10_folds', self.data)
        if half not in self.halves: self.halves[half] = self.open(half)
        return self.halves[half]

    def dls(self, case):
        half = self.opened(case.part or 0)
        train = half.kept if case.tuning else half.images
        few = Images(*(values[:64] for values in train))
        self.stats = channel_stats(half.images.x)
        dls = face_dls(train, few, self.how['bs'], Views(crop=4, erase=0), case.seed, self.stats, 'cpu')
        dls.held = half.held
        return dls

    def network(self, who, part=None):
        return face_net(**self.how[who], n_identities=len(self.opened(part or 0).names))

    def learner(self, dls, net): return face_learner(dls, net, cbs=precision())
    def cbs(self): return [CacheFeatures(self.how['views'], '4 GB', half=True)]

    @torch.no_grad()
    def score(self, net, dls):
        embeddings = embed(net, dls.held.x, *self.stats)
        return float(verification(embeddings, dls.held.y, fars=(.1,)).auc)

    def rows(self, nets):
        "LFW's accuracy over ten folds with its standard error, and TAR at two FARs; `nets` by half"
        by_fold, tars = [], []
        for half, net in nets.items():
            stats = channel_stats(self.opened(half).images.x)
            pairs = pairs_of(self.pairs, halves[half])
            similarity = pair_scores(net.float(), pairs, *stats)
            by_fold.append(fold_accuracies(similarity, pairs.same, len(halves[half])))
            tars.append(tar_at_far(similarity, pairs.same, (.1, .01)).tar)
        folds = torch.cat(by_fold)
        row = dict(metric=100*folds.mean().item(), error=100*(folds.std()/len(folds)**.5).item())
        for far in (.1, .01): row[f'tar_{far}'] = 100*sum(tar[far] for tar in tars)/len(tars)
        return row

class Streets(RealSet):
    def dls(self, case):
        has_few = case.labeled and case.labeled < CAMVID_TRAINING
        return street_dls(Path(self.data)/'camvid', self.how['size'], self.how['bs'],
                          'val' if case.tuning else 'test', case.labeled if has_few else None,
                          seed=case.seed, device='cpu')

    def network(self, who, part=None):
        return segment_stages(street_unet(n_out=12, size=self.how['size'], **self.how[who]))

    def learner(self, dls, net): return segmentation_learner(dls, net, cbs=precision())
    def score(self, net, dls): return scores(net.float(), dls.valid, dls.vocab)['miou']

    def rows(self, nets):
        net = nets[None]
        found = scores(net.float(), self.dls(Case(0)).valid, self.dls(Case(0)).vocab)
        return dict(metric=100*found['miou'], pixel_accuracy=100*found['pixel_accuracy'])

class Cells(RealSet):
    plain = False
    def dls(self, case):
        if not hasattr(self, 'sets'): self.sets = coco_sets(self.data, name='bccd')
        train, valid = self.sets
        if case.tuning: train, valid = hold_out(train)
        if case.labeled and case.labeled < len(train): train = Subset(train, range(case.labeled))
        detector = self.detector('student')
        return detection_dls(train, valid, detector, self.how['bs'], device='cpu', seed=case.seed)

    def detector(self, who): return small_detector(**self.how[who], **self.how['detector'])
    def network(self, who, part=None): return StagedDetector(self.detector(who))
    def learner(self, dls, net): return detection_learner(dls, net, metrics=[])
    def score(self, net, dls): return detection_map(net, dls.valid)['map']
    def epoch_gmacs(self, learn): return detector_macs(learn)*len(learn.dls.train)*learn.dls.train.bs/1e9

    def rows(self, nets):
        found = detection_map(nets[None], self.dls(Case(0)).valid)
        return {('metric' if name == 'map' else name): 100*value for name, value in found.items()}

def hold_out(train):
    "(four images of five, every fifth)"
    kept = [i for i in range(len(train)) if i % 5]
    return Subset(train, kept), Subset(train, range(0, len(train), 5))

sets = dict(lfw=Faces, camvid=Streets, bccd=Cells)
metrics = dict(lfw='accuracy, mean of ten folds', camvid='mIoU', bccd='COCO mAP')

# --- files

def add(path, row):
    old = read_rows(path)
    names = list(old[0]) if old else list(row)
    with path.open('a', newline='') as f:
        w = csv.DictWriter(f, names, lineterminator='\n')
        if not old: w.writeheader()
        w.writerow(row)
    print(*row.values(), flush=True)

def shared(s, **known):
    "A row, with where and when it was made"
    in_bf16 = precision() and s.plain
    return dict(known, device=environment('cpu')['device_name'],
                precision='bfloat16' if in_bf16 else 'float32', date=date.today())

def tune(s, what):
    "method -> its learning rate, chosen on held-out training images, with all labels"
    path = RESULTS/f'{what}_tuning.csv'
    order = [m for m in s.how['methods'] if m != 'sskd+ft']     # it takes the rate of sskd
    for lr, method in product(s.how['lr'], order):
        tried = read_rows(path)
        if (method, lr) in {(r['method'], float(r['lr'])) for r in tried}: continue
        # the budget is what stage by stage takes there
        budget = next((float(r['gmacs']) for r in tried if r['method'] == 'sskd'), None)
        add(path, try_row(s, method, lr, budget))
    return best_rates(read_rows(path))

def try_row(s, method, lr, budget):
    "The row of a try"
    case = Case(s.how['seeds'][0] - 5, tuning=True, part=s.parts[0])
    begin = time.time()
    student = trained(s, method, case, lr, budget)
    found = round(100*s.score(student.learn.model, student.learn.dls), 2)
    return shared(s, method=method, lr=lr, held_out=found, gmacs=round(student.gmacs, 1),
                  epochs=student.epochs, seed=case.seed, seconds=round(time.time() - begin))

def best_rates(tried):
    "method -> the learning rate that did best; the first of several"
    best = {}
    for row in tried:
        method, found = row['method'], float(row['held_out'])
        if method not in best or found > float(best[method]['held_out']): best[method] = row
    return {method: float(row['lr']) for method, row in best.items()}

def run(s, what):
    "The runs that are not there yet"
    path, lrs = RESULTS/f'{what}.csv', tune(s, what)
    if not any(r['method'] == 'teacher' for r in read_rows(path)): add(path, teacher_row(s, what))
    for seed, labeled, method in product(s.how['seeds'], s.how.get('labeled', [None]), s.how['methods']):
        mine = str(seed), str(labeled or '')
        done = {r['method']: r for r in read_rows(path) if (r['seed'], r['labeled']) == mine}
        if method in done: continue
        lr = lrs[method.partition('+')[0]]
        budget = float(done['sskd']['gmacs'])/len(s.parts) if 'sskd' in done else None
        add(path, row_of(s, what, method, Case(seed, labeled), lr, budget))

def teacher_row(s, what):
    teachers = {part: s.teacher(part) for part in s.parts}
    return shared(s, method='teacher', seed=0, labeled='', lr=s.how['teacher_lr'],
                  epochs=s.how['teacher_epochs'], gmacs='', **result(s, teachers), seconds='',
                  measure=metrics[what])

def row_of(s, what, method, case, lr, budget):
    "A row of the file: one student for each part"
    begin, nets, spent = time.time(), {}, 0
    for part in s.parts:
        student = trained(s, method, replace(case, part=part), lr, budget)
        nets[part] = student.learn.model
        spent += student.gmacs
    found = result(s, nets)
    return shared(s, method=method, seed=case.seed, labeled=case.labeled or '', lr=lr, epochs=student.epochs,
                  gmacs=round(spent, 1), **found, seconds=round(time.time() - begin), measure=metrics[what])

def result(s, nets):
    "The measures of a row"
    return {name: round(value, 2) for name, value in s.rows(nets).items()}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=list(sets))
    p.add_argument('--data', default=os.environ.get('SSKD_DATA'),
                   help='holds lfw_home, camvid, bccd (SSKD_DATA)')
    p.add_argument('--folder', type=Path, default=Path('runs/real'),
                   help='where teachers and their checkpoints are kept')
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    if not a.data: p.error('name the folder that holds the sets with --data, or in SSKD_DATA')
    torch.set_num_threads(a.threads)
    s = sets[a.what](a)
    s.folder.mkdir(parents=True, exist_ok=True)
    run(s, a.what)

if __name__ == '__main__': main()
