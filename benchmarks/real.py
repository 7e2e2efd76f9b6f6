"""Faces on LFW, street scenes on CamVid, blood cells on BCCD, as registered in sskd_tutor/data_files/benchmarks/real.toml.

    python benchmarks/real.py lfw        # teacher, choice of the learning rates, then the runs; likewise camvid, bccd

A row a run in results/lfw.csv (camvid.csv, bccd.csv), a row a try in results/lfw_tuning.csv. SSKD_DATA names the folder that holds the sets.
What is in a file is not made again; teachers are kept in --folder. One thread; bfloat16 where the processor has it.
"""
import argparse, csv, os, time, tomllib
from datetime import date
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from fastai.callback.all import ChannelsLast
from fastai.vision.all import set_seed
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
from sskd_tutor.tasks.detection import StagedDetector, detection_learner, detection_map, detector_macs, small_detector
from sskd_tutor.tasks.faces import embed, face_dls, face_learner, face_net, identities
from sskd_tutor.tasks.folds import fold_accuracies, halves, pairs_of, people_of
from sskd_tutor.tasks.lfw import lfw_pairs, lfw_people, pair_scores
from sskd_tutor.tasks.pairs import tar_at_far, verification
from sskd_tutor.tasks.segmentation import scores, segment_stages, segmentation_learner
from sskd_tutor.tasks.streets import street_dls, street_unet

CONFIG = pkg_data/'benchmarks/real.toml'
RESULTS = pkg_data/'benchmarks/results'
cpu = torch.device('cpu')

def precision(): return [Bf16(), ChannelsLast()] if fast_bf16(cpu) else []

class RealSet:
    "What the three sets have in common; `how` is the set's table of the config"
    parts = [None]    # of which each method is trained once: LFW's halves
    plain = True      # losses and networks are `fit_joint`'s
    def __init__(self, a):
        self.how, self.data, self.folder = tomllib.loads(CONFIG.read_text())[a.what], a.data, a.folder/a.what

    def dls(self, seed, labeled=None, tuning=False, part=None): raise NotImplementedError
    def network(self, who, part=None): raise NotImplementedError
    def learner(self, dls, net): raise NotImplementedError
    def score(self, net, dls): raise NotImplementedError      # the number to choose by, on dls.valid

    def cbs(self): return []    # for `fit_sskd`: what is remembered
    def epoch_gmacs(self, learn): return joint_gmacs(learn, None)(1)

    def teacher(self, part=None):
        "Trained once for each part; an interrupted training goes on"
        path = self.folder/f"teacher{'' if part is None else part}.safetensors"
        set_seed(0, reproducible=True)
        net = self.network('teacher', part)
        if not path.exists():
            learn, begin = self.learner(self.dls(0, part=part), net), time.time()
            keep = KeepEpochs(self.folder/path.stem, self.how, every=0)
            keep.go_on(learn)
            with quiet(learn): learn.fit_one_cycle(self.how['teacher_epochs'], self.how['teacher_lr'], cbs=[keep, ValidEvery(0)])
            save_weights(net.float(), path)
            print(f'{path} trained, {time.time() - begin:.0f} s', flush=True)
        return load_weights(net, path).eval().requires_grad_(False)

    def new(self, seed, labeled=None, tuning=False, part=None):
        set_seed(seed, reproducible=True)
        net = self.network('student', part)
        return self.learner(self.dls(seed, labeled, tuning, part), net)

# --- methods: (learner of a trained student, 10^9 multiply-adds, epochs in words)

def on_labels(s, learn, gmacs, lr, terms=(), teacher=None):
    "The whole student, for about so many multiply-adds"
    with quiet(learn):
        if not s.plain:
            one = s.epoch_gmacs(learn)
            epochs = max(1, round(gmacs/one))
            learn.fit_one_cycle(epochs, lr, cbs=ValidEvery(0))
            return epochs*one, epochs
        cost, cbs = joint_gmacs(learn, teacher, terms), s.cbs() if terms else []   # a teacher's answers are remembered, as its maps are
        views = s.how['views'] if cbs else None
        epochs = min(range(1, 1_000), key=lambda n: abs(cost(n, views) - gmacs))
        run = learn.fit_joint(teacher, epochs, lr, terms, 1., cbs=cbs, valid_every=0)
    return run.gmacs, epochs

def mimic(s, learn, teacher, epochs, lr):
    "The backbone, stage by stage; 10^9 multiply-adds. A detector's head takes all taps, so it cannot take over the teacher's"
    if s.plain: return learn.fit_sskd(teacher, epochs, 0, lr, cbs=s.cbs(), valid_every=0).gmacs
    taps, hints = check_pair(learn, teacher)
    for name, adapter in make_adapters(learn.model.stage_names, taps, hints).items():
        learn.fit_stage(teacher, name, epochs, lr, adapter, valid_every=0)
    return learn.sskd_plan(teacher, epochs, 1, valid_every=0, timed=False).table.gmacs[:-1].sum()

def stages(s, seed, lr, share=1., labeled=None, tuning=False, part=None):
    "The backbone on all images, without a label; then a head of its own on those with labels: yields after each"
    learn, teacher, how = s.new(seed, None, tuning, part), s.teacher(part), s.how
    head, epochs = learn.model.head, max(1, round(share*how['epochs']))
    with quiet(learn): spent = mimic(s, learn, teacher, epochs, lr)
    yield learn, spent, f'{epochs} a stage'
    learn.model.head, steps = head, share*how['head_epochs']*len(learn.dls.train)
    if labeled: learn.dls = s.dls(seed, labeled, tuning, part)
    n = max(1, round(steps/len(learn.dls.train)))
    spent += learn.sskd_plan(teacher, 1, n, valid_every=0, timed=False).table.gmacs['head']
    with quiet(learn): learn.fit_head(n, lr, valid_every=0)
    yield learn, spent, f'{epochs} a stage + {n}'

def embedding_loss(pred, hint): return (1 - F.cosine_similarity(pred.float(), hint.float())).mean()

def trained(s, method, seed, lr, budget, labeled=None, tuning=False, part=None):
    "One student by one method"
    if method == 'sskd_teacher_head': return next(stages(s, seed, lr, 1., labeled, tuning, part))
    if method == 'sskd': return list(stages(s, seed, lr, 1., labeled, tuning, part))[-1]
    if method == 'sskd+ft':
        learn, spent, words = list(stages(s, seed, lr, .5, labeled, tuning, part))[-1]
        learn.model.requires_grad_(True)
        more, epochs = on_labels(s, learn, max(0, budget - spent), lr/3)
        return learn, spent + more, f'{words} + {epochs} of everything'
    terms, teacher = ([Term(embedding_loss, weight=s.how['kd_weight'])], s.teacher(part)) if method == 'kd' else ((), None)
    learn = s.new(seed, labeled, tuning, part)
    return learn, *on_labels(s, learn, budget, lr, terms, teacher)

# --- the sets

class Faces(RealSet):
    parts = [0, 1]
    def open(self, half):
        images, names = lfw_people(people_of(halves[half], self.data), data_home=self.data)
        held = names[::8]
        return images, names, identities(images, [n for n in names if n not in held], names), identities(images, held, names)

    def opened(self, half):
        if not hasattr(self, 'halves'): self.halves, self.pairs = {}, lfw_pairs('10_folds', self.data)
        if half not in self.halves: self.halves[half] = self.open(half)
        return self.halves[half]

    def dls(self, seed, labeled=None, tuning=False, part=None):
        images, _, kept, held = self.opened(part or 0)
        train = kept if tuning else images
        self.stats = channel_stats(images.x)
        dls = face_dls(train, Images(*(t[:64] for t in train)), self.how['bs'], Views(crop=4, erase=0), seed, self.stats, 'cpu')
        dls.held = held
        return dls

    def network(self, who, part=None): return face_net(**self.how[who], n_identities=len(self.opened(part or 0)[1]))
    def learner(self, dls, net): return face_learner(dls, net, cbs=precision())
    def cbs(self): return [CacheFeatures(self.how['views'], '4 GB', half=True)]

    def score(self, net, dls):
        with torch.no_grad(): return float(verification(embed(net, dls.held.x, *self.stats), dls.held.y, fars=(.1,)).auc)

    def rows(self, nets):
        "The row of a method: `nets` by half"
        by_fold, score, same = [], [], []
        for half, net in nets.items():
            self.opened(half)
            pairs, stats = pairs_of(self.pairs, halves[half]), channel_stats(self.opened(half)[0].x)
            score.append(pair_scores(net.float(), pairs, *stats))
            same.append(pairs.same)
            by_fold.append(fold_accuracies(score[-1], pairs.same, len(halves[half])))
        folds, tars = torch.cat(by_fold), [tar_at_far(*o, (.1, .01)).tar for o in zip(score, same)]
        return dict(metric=100*folds.mean().item(), error=100*(folds.std()/len(folds)**.5).item(),
                    **{f'tar_{far}': 100*sum(t[far] for t in tars)/len(tars) for far in (.1, .01)})

class Streets(RealSet):
    def dls(self, seed, labeled=None, tuning=False, part=None):
        masks = labeled if labeled and labeled < 367 else None
        return street_dls(Path(self.data)/'camvid', self.how['size'], self.how['bs'], 'val' if tuning else 'test', masks, seed=seed, device='cpu')

    def network(self, who, part=None): return segment_stages(street_unet(n_out=12, size=self.how['size'], **self.how[who]))
    def learner(self, dls, net): return segmentation_learner(dls, net, cbs=precision())
    def score(self, net, dls): return scores(net.float(), dls.valid, dls.vocab)['miou']

    def rows(self, nets):
        net = nets[None]
        found = scores(net.float(), self.dls(0).valid, self.dls(0).vocab)
        return dict(metric=100*found['miou'], pixel_accuracy=100*found['pixel_accuracy'])

class Cells(RealSet):
    plain = False
    def dls(self, seed, labeled=None, tuning=False, part=None):
        if not hasattr(self, 'sets'): self.sets = coco_sets(self.data, name='bccd')
        train, valid = self.sets
        if tuning: train, valid = Subset(train, [i for i in range(len(train)) if i % 5]), Subset(train, range(0, len(train), 5))
        if labeled and labeled < len(train): train = Subset(train, range(labeled))
        return detection_dls(train, valid, small_detector(**self.how['student'], **self.how['detector']), self.how['bs'], device='cpu', seed=seed)

    def network(self, who, part=None): return StagedDetector(small_detector(**self.how[who], **self.how['detector']))
    def learner(self, dls, net): return detection_learner(dls, net, metrics=[])
    def score(self, net, dls): return detection_map(net, dls.valid)['map']
    def epoch_gmacs(self, learn): return detector_macs(learn)*len(learn.dls.train)*learn.dls.train.bs/1e9
    def rows(self, nets): return {('metric' if k == 'map' else k): 100*v for k, v in detection_map(nets[None], self.dls(0).valid).items()}

sets = dict(lfw=Faces, camvid=Streets, bccd=Cells)
metrics = dict(lfw='accuracy, mean of ten folds', camvid='mIoU', bccd='COCO mAP')

# --- files

def rows_of(path): return list(csv.DictReader(path.open())) if path.exists() else []

def add(path, row):
    old = rows_of(path)
    names = list(old[0]) if old else list(row)
    with path.open('a', newline='') as f:
        w = csv.DictWriter(f, names, lineterminator='\n')
        if not old: w.writeheader()
        w.writerow(row)
    print(*row.values(), flush=True)

def shared(s, **known):
    return dict(known, device=environment('cpu')['device_name'], precision='bfloat16' if precision() and s.plain else 'float32', date=date.today())

def tune(s, what):
    "Each method's learning rate, on held-out training images, with all labels; the budget is what stage by stage takes there"
    path, seed, part = RESULTS/f'{what}_tuning.csv', s.how['seeds'][0] - 5, s.parts[0]
    order = [m for m in s.how['methods'] if m != 'sskd+ft']     # it takes the rate of sskd
    for lr, method in product(s.how['lr'], order):
        tried = rows_of(path)
        if (method, lr) in {(r['method'], float(r['lr'])) for r in tried}: continue
        budget = next((float(r['gmacs']) for r in tried if r['method'] == 'sskd'), None)
        begin = time.time()
        learn, gmacs, epochs = trained(s, method, seed, lr, budget, None, True, part)
        found = round(100*s.score(learn.model, learn.dls), 2)
        add(path, shared(s, method=method, lr=lr, held_out=found, gmacs=round(gmacs, 1), epochs=epochs, seed=seed, seconds=round(time.time() - begin)))
    best = {}
    for r in rows_of(path):
        if r['method'] not in best or float(r['held_out']) > best[r['method']][0]: best[r['method']] = float(r['held_out']), float(r['lr'])
    return {method: lr for method, (_, lr) in best.items()}

def run(s, what):
    path, lrs = RESULTS/f'{what}.csv', tune(s, what)
    if not any(r['method'] == 'teacher' for r in rows_of(path)):
        add(path, shared(s, method='teacher', seed=0, labeled='', lr=s.how['teacher_lr'], epochs=s.how['teacher_epochs'], gmacs='', **result(s, {p: s.teacher(p) for p in s.parts}), seconds='', measure=metrics[what]))
    for seed, labeled, method in product(s.how['seeds'], s.how.get('labeled', [None]), s.how['methods']):
        def mine(r): return (r['seed'], r['labeled']) == (str(seed), str(labeled or ''))
        done = {r['method']: r for r in rows_of(path) if mine(r)}
        if method in done: continue
        lr, begin, nets, spent = lrs[method.partition('+')[0]], time.time(), {}, 0
        budget = float(done['sskd']['gmacs'])/len(s.parts) if 'sskd' in done else None
        for part in s.parts:
            learn, gmacs, epochs = trained(s, method, seed, lr, budget, labeled, False, part)
            nets[part], spent = learn.model, spent + gmacs
        add(path, shared(s, method=method, seed=seed, labeled=labeled or '', lr=lr, epochs=epochs, gmacs=round(spent, 1), **result(s, nets), seconds=round(time.time() - begin), measure=metrics[what]))

def result(s, nets): return {name: round(value, 2) for name, value in s.rows(nets).items()}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=list(sets))
    p.add_argument('--data', default=os.environ.get('SSKD_DATA'), help='holds lfw_home, camvid, bccd (SSKD_DATA)')
    p.add_argument('--folder', type=Path, default=Path('runs/real'), help='where teachers and their checkpoints are kept')
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    if not a.data: p.error('name the folder that holds the sets with --data, or in SSKD_DATA')
    torch.set_num_threads(a.threads)
    s = sets[a.what](a)
    s.folder.mkdir(parents=True, exist_ok=True)
    run(s, a.what)

if __name__ == '__main__': main()
