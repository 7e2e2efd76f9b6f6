"""Faces on LFW, street scenes on CamVid, blood cells on BCCD, as registered in real.toml.

    python benchmarks/real.py lfw     # teacher, choice of the learning rates, the runs; likewise camvid, bccd
    python benchmarks/real.py lfw_2   # lfw with better teachers, at the rates that lfw chose

The registration is sskd_tutor/data_files/benchmarks/real.toml. A row a run in results/lfw.csv (camvid.csv,
bccd.csv), a row a try in results/lfw_tuning.csv, points of the curves in results/lfw_roc.csv. SSKD_DATA names
the folder that holds the sets. What is in a file is not made again; teachers, backbones and students are kept
in --folder. One thread; bfloat16 where the processor has it.
"""
import argparse, json, os, resource, time, tomllib
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from fastai.callback.all import ChannelsLast
from fastai.vision.all import Learner, set_seed
from rows import append_new, append_rows, read_rows
from sklearn.metrics import roc_auc_score
from torch.utils.data import Subset

from sskd_tutor.core.device import Bf16, fast_bf16, quiet
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import differences, environment
from sskd_tutor.data.formats import channel_stats
from sskd_tutor.data.images import Images
from sskd_tutor.data.views import Views
from sskd_tutor.distill.adapters import make_adapters
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.callbacks import StopOnNaN
from sskd_tutor.distill.check import check_pair
from sskd_tutor.distill.checkpoint import KeepEpochs
from sskd_tutor.distill.fit import teachers_head
from sskd_tutor.distill.joint import Term, joint_gmacs
from sskd_tutor.distill.phase import EpochRows, ValidEvery
from sskd_tutor.distill.precision import layout_fault
from sskd_tutor.nets.weights import load_weights, save_weights, weights_meta
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
FARS = .1, .01                             # of the rows of LFW
CURVE = .001, .003, .01, .03, .1, .3       # of lfw_roc.csv
MORE_RATES = 2                             # beyond those of the config
cpu = torch.device('cpu')

def precision(net):
    "Callbacks for the fastest training that this network and this processor allow"
    if not fast_bf16(cpu): return []
    return [Bf16()] if layout_fault(net, cpu) else [Bf16(), ChannelsLast()]

@dataclass(frozen=True)
class Case:
    "What a student is trained on"
    seed: int
    labeled: int | None = None    # images with labels, chosen by the seed; all if None
    tuning: bool = False          # judged on held-out training images
    part: int | None = None       # of the set, where it is learned in parts

class RealSet:
    "What the three sets have in common; `how` is the set's table of the config"
    parts = [None]    # of which each method is trained once: LFW's halves
    plain = True      # losses and networks are `fit_joint`'s
    points = ()       # of the curves of the networks that `rows` saw last, as rows of a file
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

    def path(self, *words):
        "Of weights in the folder"
        return self.folder/('-'.join(str(word) for word in words if word is not None) + '.safetensors')

    def teacher(self, part=None):
        "Trained once for each part"
        path = self.path('teacher', part)
        set_seed(0, reproducible=True)
        net = self.network('teacher', part)
        if path.exists(): self.check_teacher(path)
        else: self.train_teacher(net, part, path)
        return load_weights(net, path).eval().requires_grad_(False)

    def teacher_settings(self):
        matters = 'teacher', 'teacher_epochs', 'teacher_lr', 'bs', 'size', 'detector'
        return {name: self.how.get(name) for name in matters}

    def check_teacher(self, path):
        "A kept teacher of other settings is not taken for this one"
        now = self.teacher_settings()
        made_with = weights_meta(path).get('settings', now)   # a file that notes none is believed
        lines = differences(made_with, now)
        if lines: raise ValueError(f"{path} was trained with other settings: {'; '.join(lines)}. "
                                   "Take the file away, or name another --folder")

    def train_teacher(self, net, part, path):
        "An interrupted training goes on"
        learn, begin = self.learner(self.dls(Case(0, part=part)), net), time.time()
        epochs, lr = self.how['teacher_epochs'], self.how['teacher_lr']
        keep = KeepEpochs(self.folder/path.stem, self.teacher_settings(), every=0)
        keep.go_on(learn)
        diary = EpochRows('joint', 'all')
        with quiet(learn):
            learn.fit_one_cycle(epochs, lr, cbs=[diary, StopOnNaN('the teacher'), ValidEvery(0), keep])
        an_epoch = (time.time() - begin)/max(1, diary.epochs)   # of those since the interruption
        save_weights(net.float(), path, dict(seconds=an_epoch*epochs, settings=self.teacher_settings()))
        print(f'{path} trained, {an_epoch*epochs:.0f} s', flush=True)

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
    earlier: float = 0.  # seconds of a backbone that was trained before

def on_labels(s, learn, gmacs, lr, terms=(), teacher=None):
    "The whole student, for about so many multiply-adds: (10^9 multiply-adds, epochs)"
    if s.plain: return jointly(s, learn, gmacs, lr, terms, teacher)
    with quiet(learn):
        one = s.epoch_gmacs(learn)
        epochs = max(1, round(gmacs/one))
        cbs = [EpochRows('joint', 'all'), StopOnNaN('labels only'), ValidEvery(0)]   # as `fit_joint` has them
        learn.fit_one_cycle(epochs, lr, cbs=cbs)
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

def under_teachers_head(learn, teacher):
    "The student gets a head of the form that `fit_sskd` gives it"
    taps, hints = check_pair(learn, teacher, head=False)
    adapters = make_adapters(learn.model.stage_names, taps, hints)
    learn.model.head = teachers_head(teacher, adapters[learn.model.stage_names[-1]], learn.model.head)

def backbone(s, learn, teacher, case, epochs, lr):
    """The stages, as they were trained for another method or number of labels, else trained now.

    (10^9 multiply-adds, seconds that they took then)"""
    path = s.path('try' if case.tuning else 'stages', case.seed, case.part, epochs, f'{lr:g}')
    if path.exists():
        if s.plain: under_teachers_head(learn, teacher)
        load_weights(learn.model, path)
        notes = weights_meta(path)
        return notes['gmacs'], notes['seconds']
    begin = time.time()
    with quiet(learn): gmacs = float(mimic(s, learn, teacher, epochs, lr))
    save_weights(learn.model, path, dict(gmacs=gmacs, seconds=time.time() - begin))
    return gmacs, 0.

def stages(s, case, lr, share=1.):
    """The backbone on all images, without a label; then a head of its own on those with labels.

    Yields after each. `share` is that of the epochs in the config."""
    learn, teacher = s.new(replace(case, labeled=None)), s.teacher(case.part)
    own_head, epochs = learn.model.head, max(1, round(share*s.how['epochs']))
    spent, earlier = backbone(s, learn, teacher, case, epochs, lr)
    yield Trained(learn, spent, f'{epochs} a stage', earlier)
    learn.model.head = own_head
    steps = share*s.how['head_epochs']*len(learn.dls.train)
    if case.labeled: learn.dls = s.dls(case)
    head_epochs = max(1, round(steps/len(learn.dls.train)))
    plan = learn.sskd_plan(teacher, 1, head_epochs, valid_every=0, timed=False)
    set_seed(case.seed, reproducible=True)   # a backbone that was there leads to the same head
    with quiet(learn): learn.fit_head(head_epochs, lr, valid_every=0)
    yield Trained(learn, spent + plan.table.gmacs['head'], f'{epochs} a stage + {head_epochs}', earlier)

def embedding_loss(pred, hint): return (1 - F.cosine_similarity(pred.float(), hint.float())).mean()

def fine_tuned(s, case, lr, budget):
    "Half as many epochs stage by stage; then everything on labels, for the rest of the budget"
    *_, student = stages(s, case, lr, .5)
    student.learn.model.requires_grad_(True)
    more, epochs = on_labels(s, student.learn, max(0, budget - student.gmacs), lr/3)
    return replace(student, gmacs=student.gmacs + more, epochs=f'{student.epochs} + {epochs} of everything')

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
        if not hasattr(self, 'halves'):
            self.halves, self.pairs = {}, lfw_pairs('10_folds', self.data)
            self.photographed = lfw_people([], 4, self.data)   # everybody of whom there are four images
        if half not in self.halves: self.halves[half] = self.open(half)
        return self.halves[half]

    def tested(self, half):
        "Images of the people in a half's pairs: at most ten of each, nobody with fewer than four"
        images, names = self.photographed
        in_pairs = set(people_of(halves[half], self.data))
        images = identities(images, [name for name in names if name in in_pairs], names)
        first = torch.cat([(images.y == who).nonzero()[:10, 0] for who in images.y.unique()])
        return images.x[first], images.y[first]

    def dls(self, case):
        half = self.opened(case.part or 0)
        train = half.kept if case.tuning else half.images
        few = Images(*(values[:64] for values in train))
        self.stats = channel_stats(half.images.x)
        views = Views(crop=4, erase=0, seed=case.seed)
        dls = face_dls(train, few, self.how['bs'], views, case.seed, self.stats, 'cpu')
        dls.held = half.held
        return dls

    def network(self, who, part=None):
        return face_net(**self.how[who], n_identities=len(self.opened(part or 0).names))

    def learner(self, dls, net): return face_learner(dls, net, cbs=precision(net))
    def cbs(self): return [CacheFeatures(self.how['views'], '4 GB', half=True)]

    @torch.no_grad()
    def score(self, net, dls):
        embeddings = embed(net, dls.held.x, *self.stats)
        return float(verification(embeddings, dls.held.y, fars=(.1,)).auc)

    def rows(self, nets):
        """LFW's accuracy over ten folds with its standard error; means of the halves: area under the curve,
        TAR of image against image, and of two images against two"""
        by_fold, measures, self.points = [], [], []
        for half, net in nets.items():
            stats = channel_stats(self.opened(half).images.x)
            pairs = pairs_of(self.pairs, halves[half])
            similarity = pair_scores(net.float(), pairs, *stats)
            by_fold.append(fold_accuracies(similarity, pairs.same, len(halves[half])))
            measures.append(of_images(similarity, pairs.same) | of_two(net, *self.tested(half), stats))
            self.points += [dict(point, half=half) for point in curve(similarity, pairs.same)]
        folds = torch.cat(by_fold)
        row = dict(metric=folds.mean().item(), error=(folds.std()/len(folds)**.5).item())
        row |= pd.DataFrame(measures).mean()
        return {name: 100*value for name, value in row.items()}

def of_images(similarity, same):
    "Measures of image against image"
    tars = {f'tar_{far:g}': tar for far, tar in tar_at_far(similarity, same, FARS).tar.items()}
    return dict(auc=roc_auc_score(same.numpy(), similarity.numpy())) | tars

def of_two(net, x, y, stats):
    "Measures of two images against two"
    found = verification(embed(net, x, *stats), y, size=2, draws=5, fars=FARS)
    return {f'tar_{far:g}_of_2': found[f'tar_{far:g}'] for far in FARS}

def curve(similarity, same):
    "Points of the curve of image against image"
    tars = tar_at_far(similarity, same, CURVE).tar
    return [dict(far=far, tar=round(100*tar, 2)) for far, tar in tars.items()]

class Streets(RealSet):
    def dls(self, case, examine='val'):
        return street_dls(Path(self.data)/'camvid', self.how['size'], self.how['bs'], examine, case.labeled,
                          views=Views(crop=8, erase=0, seed=case.seed), seed=case.seed, device='cpu')

    def network(self, who, part=None):
        return segment_stages(street_unet(n_out=12, size=self.how['size'], **self.how[who]))

    def learner(self, dls, net): return segmentation_learner(dls, net, cbs=precision(net))
    def score(self, net, dls): return scores(net.float(), dls.valid, dls.vocab)['miou']

    def rows(self, nets):
        if not hasattr(self, 'test'): self.test = self.dls(Case(0), 'test')
        found = scores(nets[None].float(), self.test.valid, self.test.vocab)
        return dict(metric=100*found['miou'], pixel_accuracy=100*found['pixel_accuracy'])

class Cells(RealSet):
    plain = False
    def opened(self):
        "Images to train on and to test on"
        if not hasattr(self, 'sets'): self.sets = coco_sets(self.data, name='bccd')
        return self.sets

    def dls(self, case):
        train, _ = self.opened()
        kept, held = hold_out(train)
        if case.tuning: train = kept
        if case.labeled: train = some_of(train, case.labeled, case.seed)
        return self.loaders(train, held, case.seed)

    def loaders(self, train, valid, seed):
        return detection_dls(train, valid, self.detector('student'), self.how['bs'], device='cpu', seed=seed)

    def detector(self, who): return small_detector(**self.how[who], **self.how['detector'])
    def network(self, who, part=None): return StagedDetector(self.detector(who))
    def learner(self, dls, net): return detection_learner(dls, net, metrics=[])
    def score(self, net, dls): return detection_map(net, dls.valid)['map']
    def epoch_gmacs(self, learn): return detector_macs(learn)*len(learn.dls.train)*learn.dls.train.bs/1e9

    def rows(self, nets):
        "COCO's measures, and the mAP of each class"
        test = self.loaders(*self.opened(), 0).valid
        found = detection_map(nets[None], test, by_class=True)
        return {('metric' if name == 'map' else name): 100*value for name, value in found.items()}

def some_of(ds, n, seed):
    "So many of a set, chosen by the seed"
    order = torch.randperm(len(ds), generator=torch.Generator().manual_seed(seed))
    return Subset(ds, order[:n].sort().values.tolist())

def hold_out(train):
    "(four images of five, every fifth)"
    kept = [i for i in range(len(train)) if i % 5]
    return Subset(train, kept), Subset(train, range(0, len(train), 5))

sets = dict(lfw=Faces, lfw_2=Faces, camvid=Streets, bccd=Cells)
of_folds = 'accuracy, mean of ten folds'
metrics = dict(lfw=of_folds, lfw_2=of_folds, camvid='mIoU', bccd='COCO mAP')

# --- files

def add(path, row):
    "Add a row to the file, and print it"
    there = read_rows(path)
    append_rows(path, list(there[0] if there else row), [row])
    print(*(value for name, value in row.items() if name != 'settings'), flush=True)

def shared(s, **known):
    "A row, with the settings, and where and when it was made"
    settings = {key: value for key, value in s.how.items() if key not in ('methods', 'seeds')}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20   # of the process so far
    in_bf16 = s.plain and fast_bf16(cpu)
    return dict(known, peak_gb=round(peak, 2), device=environment('cpu')['device_name'],
                precision='bfloat16' if in_bf16 else 'float32', date=date.today(),
                settings=json.dumps(settings))

def rates_of(s, what):
    "(method, part) -> its learning rate: that of the config, or chosen"
    if 'rates' not in s.how: return tune(s, what)
    given = {}
    for method, rates in s.how['rates'].items():
        for part, lr in zip(s.parts, rates): given[method, part] = lr
    return given

def tune(s, what):
    "(method, part) -> its learning rate, chosen on held-out training images, with all labels"
    path, rates = RESULTS/f'{what}_tuning.csv', {}
    for part, method in product(s.parts, s.how['methods']):
        if method == 'sskd+ft': continue     # it takes the rate of sskd
        lr = next_rate(s.how['lr'], tries_of(path, part, method))
        while lr is not None:
            budget = budget_of(tries_of(path, part, 'sskd'))
            add(path, try_row(s, method, part, lr, budget))
            lr = next_rate(s.how['lr'], tries_of(path, part, method))
        rates[method, part] = best_rate(tries_of(path, part, method))
    return rates

def tries_of(path, part, method):
    mine = method, '' if part is None else str(part)
    return [row for row in read_rows(path) if (row['method'], row['part']) == mine]

def budget_of(tried):
    "What stage by stage took, 10^9 multiply-adds; None before it was tried"
    return next((float(row['gmacs']) for row in tried if row['gmacs']), None)

def best_rate(tried):
    "The one that did best, the first of several; one that diverged only if all did"
    def merit(row): return row['epochs'] != 'diverged', float(row['held_out'])
    return float(max(tried, key=merit)['lr'])

def next_rate(registered, tried):
    "The rate to try next: those of the config, then one beyond an edge that is best; None: enough"
    rates = [float(row['lr']) for row in tried]
    for lr in registered:
        if lr not in rates: return lr
    if len(rates) >= len(registered) + MORE_RATES: return None
    best = best_rate(tried)
    if best == max(rates): return float(f'{2.4*best:.3g}')
    if best == min(rates): return float(f'{.4*best:.3g}')
    return None

def try_row(s, method, part, lr, budget):
    "The row of a try"
    case = Case(s.how['seeds'][0] - 5, tuning=True, part=part)
    s.teacher(part)   # if it has to be trained, that is not a try's time
    begin = time.time()
    try:
        student = trained(s, method, case, lr, budget)
        seconds = time.time() - begin + student.earlier
        held_out = round(100*s.score(student.learn.model, student.learn.dls), 2)
        gmacs, epochs = round(student.gmacs, 1), student.epochs
    except FloatingPointError: held_out, gmacs, epochs, seconds = 0, '', 'diverged', time.time() - begin
    return shared(s, method=method, part=part, lr=lr, held_out=held_out, gmacs=gmacs, epochs=epochs,
                  seed=case.seed, seconds=round(seconds))

def run(s, what):
    "The runs that are not there yet"
    path, lrs = RESULTS/f'{what}.csv', rates_of(s, what)
    if not any(r['method'] == 'teacher' for r in read_rows(path)): add_run(s, what, teacher_row(s, what))
    for seed, labeled, method in product(s.how['seeds'], s.how.get('labeled', [None]), s.how['methods']):
        mine = str(seed), str(labeled or '')
        done = {r['method']: r for r in read_rows(path) if (r['seed'], r['labeled']) == mine}
        if method in done: continue
        rates = {part: lrs[method.partition('+')[0], part] for part in s.parts}
        budgets = dict.fromkeys(s.parts, 0.)
        if 'sskd' in done:
            spent = done['sskd']['gmacs_by_part'].split('/')
            budgets = dict(zip(s.parts, map(float, spent)))
        add_run(s, what, row_of(s, what, method, Case(seed, labeled), rates, budgets))

def add_run(s, what, row):
    "Points come first: where a row is, everything is"
    names = 'method', 'seed', 'half', 'far', 'tar'
    points = [dict(point, method=row['method'], seed=row['seed']) for point in s.points]
    if points: append_new(RESULTS/f'{what}_roc.csv', names, points, names[:-1])
    add(RESULTS/f'{what}.csv', row)

def teacher_row(s, what):
    "The row of the teachers"
    teachers = {part: s.teacher(part) for part in s.parts}
    seconds = sum(weights_meta(s.path('teacher', part))['seconds'] for part in s.parts)
    return shared(s, method='teacher', seed=0, labeled='', lr=s.how['teacher_lr'],
                  epochs=s.how['teacher_epochs'], gmacs='', gmacs_by_part='', **result(s, teachers),
                  seconds=round(seconds), measure=metrics[what])

def row_of(s, what, method, case, rates, budgets):
    "A row of the file: one student for each part"
    begin, students = time.time(), {}
    for part in s.parts:
        student = trained(s, method, replace(case, part=part), rates[part], budgets[part])
        path = s.path(method, case.seed, case.labeled, part)
        save_weights(student.learn.model.float(), path, overwrite=True)
        students[part] = student
    seconds = time.time() - begin + sum(student.earlier for student in students.values())
    nets = {part: student.learn.model for part, student in students.items()}
    spent = [round(student.gmacs, 1) for student in students.values()]
    epochs = {str(student.epochs): None for student in students.values()}   # usually the same for all
    return shared(s, method=method, seed=case.seed, labeled=case.labeled or '',
                  lr='/'.join(f'{lr:g}' for lr in rates.values()), epochs=' / '.join(epochs),
                  gmacs=round(sum(spent), 1), gmacs_by_part='/'.join(map(str, spent)), **result(s, nets),
                  seconds=round(seconds), measure=metrics[what])

def result(s, nets):
    "The measures of a row"
    return {name: round(float(value), 2) for name, value in s.rows(nets).items()}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=list(sets))
    p.add_argument('--data', default=os.environ.get('SSKD_DATA'),
                   help='holds lfw_home, camvid, bccd (SSKD_DATA)')
    p.add_argument('--folder', type=Path, default=Path('runs/real'),
                   help="where weights and the teachers' checkpoints are kept")
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    if not a.data: p.error('name the folder that holds the sets with --data, or in SSKD_DATA')
    torch.set_num_threads(a.threads)
    s = sets[a.what](a)
    s.folder.mkdir(parents=True, exist_ok=True)
    run(s, a.what)

if __name__ == '__main__': main()
