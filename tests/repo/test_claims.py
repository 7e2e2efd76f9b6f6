"""Sentences with numbers, and what each number must be.

A claim is a page, a sentence as a reader sees it there, and an expression that recomputes its numbers from the committed runs. The
numbers that are checked stand in braces; the braces are no part of the sentence. A claim without braces is a statement: its
expression must be true. A claim fails when the page no longer has the sentence, or when the runs no longer give the number.

What a reader sees of a page: its text, the text that its cells printed when it was saved, and the titles of its figures. Means,
intervals and Holm's adjustment are computed here by themselves, not by the package.
"""
import ast
import json
import re
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from conftest import root
from sskd_tutor.core.files import pkg_data
from sskd_tutor.distill.rivals import simkd_projector
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.staged import count_macs
from sskd_tutor.nets.weights import weights_meta

places = pkg_data/'benchmarks/results', pkg_data/'photo_recording', pkg_data, root/'benchmarks/results'

@lru_cache
def table(name):
    "A file of results: rows of a CSV, or what a run.json says"
    path = next(place/name for place in places if (place/name).exists())
    return json.loads(path.read_text()) if path.suffix == '.json' else pd.read_csv(path)

# the few numbers that claims are made of

def where(t, **values):
    for column, value in values.items(): t = t[t[column].isin(value) if isinstance(value, list) else t[column] == value]
    return t

def mean(t, method, column='accuracy_last'): return where(t, method=method)[column].mean()

def differences(t, a, b, column='accuracy_last'):
    by_seed = t.pivot(index='seed', columns='method', values=column)
    return (by_seed[a] - by_seed[b]).dropna()

def gap(t, a, b, column='accuracy_last'): return differences(t, a, b, column).mean()

def interval(values):
    "(mean, low, high), Student's t"
    half = stats.t.ppf(.975, len(values) - 1)*values.std(ddof=1)/len(values)**.5
    return values.mean(), values.mean() - half, values.mean() + half

def between(t, a, b, column='accuracy_last'): return interval(differences(t, a, b, column))

def shown(families, alpha=.05):
    "Which of these lists of differences are still significant after Holm"
    p = np.array([stats.ttest_1samp(d, 0).pvalue for d in families])
    order, running, found = p.argsort(), 0., np.zeros(len(p), bool)
    for k, i in enumerate(order):
        running = max(running, p[i]*(len(p) - k))
        found[i] = running < alpha
    return found.tolist()

def curve(t, times):
    "The runs of the curves at so many times 1,300 GMACs, 8,000 images"
    return where(t, study='curves', images=8000, budget=1300*times)

def few_images(t, times):
    "The same runs on 1,000 images"
    return where(t, study='few_images', budget=1300*times)

def of_5000(t):
    "The runs on 5,000 photographs of CIFAR-100"
    return where(t, images=6000)

all_but_labels = 'kd', 'sskd_teacher_head', 'sskd', 'simkd', 'all_at_once_teacher_head'   # of the runs on CIFAR-100

def gained(t, method):
    "Points on held-out photographs by the learning rate 0.03 over 0.012"
    at = where(t, method=method).set_index('lr').accuracy_valid
    return at[.03] - at[.012]

def tuned(t, name, lr=.005):
    "Held-out accuracy of a method with its knob, at the small budget, with this learning rate"
    tries = where(t, study='tuning', budget=1300)
    settings = tries.settings.map(json.loads)
    return tries.accuracy[settings.map(lambda s: (s['as'], s['lr']) == (name, lr))].item()

def line_of(t, method, seed=None):
    "(costs, accuracies) of a method at 1, 4 and 16 times: of a seed, or the means of the seeds that have run at all of them"
    own = where(t, study='curves', images=8000, method=method)
    if seed is None:
        every = own.groupby('seed').budget.nunique() == own.budget.nunique()
        own = own[own.seed.isin(every.index[every])]
    else: own = where(own, seed=seed)
    means = own.groupby('budget')[['gmacs', 'accuracy']].mean()
    return means.gmacs.to_numpy(), means.accuracy.to_numpy()

def added_by_simkd():
    "What SimKD's projector adds to its student, in percent of it: parameters, multiply-adds"
    student, x = tutorial_resnet(blocks=1).eval(), torch.zeros(1, 1, 28, 28)
    tap = student.forward_to(x, student.stage_names[-1])
    projector = simkd_projector(tap.shape[1:], tap.shape[1:], factor=1).eval()
    sizes = [sum(p.numel() for p in net.parameters()) for net in (projector, student)]
    return 100*sizes[0]/sizes[1], 100*count_macs(lambda: projector(tap))/count_macs(lambda: student(x))

def ahead_at(t, a, b, times):
    "a - b by seed at equal cost, on straight lines over its logarithm: at 1 times the larger of the two costs, then the smaller"
    here = curve(t, times)
    costs = [mean(here, method, 'gmacs') for method in (a, b)]
    cost = np.log(max(costs) if times == 1 else min(costs))
    def read(method, seed):
        gmacs, accuracy = line_of(t, method, seed)
        return np.interp(cost, np.log(gmacs), accuracy)
    both = set(where(here, method=a).seed) & set(where(here, method=b).seed)
    return pd.Series([read(a, seed) - read(b, seed) for seed in sorted(both)])

def cost_of(t, method, level):
    "Where the line of the means reaches an accuracy; it rises"
    gmacs, accuracy = line_of(t, method)
    return np.exp(np.interp(level, accuracy, np.log(gmacs)))

def by_what(t, part, column):
    "A row a seed, a column for each run of a part of the study of what is handed on"
    return where(t, part=part).pivot(index='seed', columns='what', values=column)

def written_down():
    "The agreement, %, that the study of what is handed on asked for before its first run"
    return int(re.search(r'agreement on test images above (\d+) %', (pkg_data/'benchmarks/handed_on.toml').read_text())[1])

def tail_gaps(t): return by_what(t, 'tail', 'rare').eval('kd - labels')
def trace_change(t): return by_what(t, 'rounds', 'trace').pipe(lambda wide: wide['3'] - wide['0'])
def step_of(t): return by_what(t, 'start', 'agreement').pipe(lambda wide: wide['0.375'] - wide['0.25'])
def started(t, share): return 100*by_what(t, 'start', 'agreement')[str(share)].mean()

def own_and_other(t, method, measure):
    "A column for the student's own teacher, one for the other"
    t = where(t, method=method).assign(own=lambda d: d.taught_by == d.measured_against)
    return t.pivot(index=['taught_by', 'seed'], columns='own', values=measure)

def handed(t, method, measure):
    "Mean likeness to the own teacher, and to the other"
    wide = own_and_other(t, method, measure)
    return wide[True].mean(), wide[False].mean()

def shown_to_come(t, method, measures=('agreement', 'slope', 'fooled', 'cam', 'attended')):
    "The measures in which a method's students are more like their own teacher, after Holm over the study"
    asked = [(m, measure) for m in t.method.unique() for measure in measures]
    wide = {pair: own_and_other(t, *pair) for pair in asked}
    found = shown([table[True] - table[False] for table in wide.values()])
    more = [table[True].mean() > table[False].mean() for table in wide.values()]
    return [measure for (m, measure), yes, up in zip(asked, found, more) if m == method and yes and up]

def waited(t, user):
    "Seconds to install, and from there to the first figure"
    row = where(t, user=user).iloc[0]
    return row.install_s, row.first_figure_s - row.install_s

# the groups of runs in compare.csv

wide, narrow = 'teacher > tutorial:blocks=1', 'teacher > tutorial:width=16,blocks=1'
joint = 'simultaneous[weight=100]'
soft = ['label_smoothing', 'tf_kd', 'lw_kd[alpha=.1]', 'kd', 'sskd']

def equal(c): return where(c, pair=wide, labels=1250, images=1250, budget='1300 gmacs')
def half(c): return where(c, pair=narrow, labels=1250, images=1250, budget='1300 gmacs')
def cost(c, times): return where(c, pair=wide, labels=1250, images=1250, budget=f'{1300*times} gmacs', seed=[0, 1, 2])
def few(c, labels): return where(c, labels=labels, images=8000, budget='7800 gmacs')
def twelve(c): return where(c, budget='12 epochs')
def more(c, images): return where(c, images=images, budget='6900 gmacs')
def own(c): return where(c, pair='teacher:same-data > tutorial')
def same_data(c): return where(c, pair='teacher:same-data > tutorial:blocks=1')
def against_labels(t): return shown([differences(t, m, 'labels') for m in soft])

def of_teacher():
    "The accuracy of the teacher that has seen all labels, which teaches in `curves.csv`, too"
    return equal(table('compare.csv')).accuracy_teacher.mean()/100

def above_floor(t, method):
    "Points of agreement above what two networks owe to being right alone"
    t = where(t, method=method).set_index('seed')
    a, teacher = t.accuracy_last/100, of_teacher()
    return 100*(t.agreement - a*teacher - (1 - a)*(1 - teacher)/9)

def pairs_of(t, seeds=5):
    "How many pairs the methods make that have run with so many seeds"
    return comb((t.groupby('method').seed.nunique() == seeds).sum(), 2)

# the other files

def at_length(a, teacher, budget):
    "accuracy.csv: runs with this teacher or none"
    return where(a, teacher=[teacher, 'none'], budget=['recipe', budget])

def long_gap(a, teacher, budget, *pair): return between(at_length(a, teacher, budget), *pair, 'accuracy')
all_16 = [(t, b, x, y) for t in ('full', 'same-data') for b in ('equal_epochs', 'equal_gmacs') for x in ('sskd', 'sskd_teacher_head') for y in ('labels', 'kd')]
def long_shown(a): return [q for q, is_shown in zip(all_16, shown([differences(at_length(a, t, b), x, y, 'accuracy') for t, b, x, y in all_16])) if is_shown]

def views_gap(v, views):
    by = v.assign(views=v.views.astype(str)).pivot(index='seed', columns='views', values='accuracy_last')
    return interval((by[views] - by['plain']).dropna())

def views_gmacs(v, views): return v[v.views.astype(str) == views].gmacs.mean()
def tried(c, method): return c[(c.method == method) & (c.opt == 'adamw')].accuracy.item()
def stitched(m): return (100*where(m, measure='stitched').groupby('stage').value.last()).tolist()
def recorded(r, measure, student, teacher, step, control=None):
    r = where(r, measure=measure, student=student, teacher=teacher, step=step)
    return (r[r.control.isna()] if control is None else where(r, control=control)).value.item()

def choice(c, variant): return between(c.rename(columns=dict(variant='method')), variant, 'usual', 'accuracy')

def tar(f, method, rate): return tuple(100*v for v in between(f, method, 'labels', rate))
rates = 'tar_0.1', 'tar_0.01', 'tar_0.001', 'tar_0.001_of_2', 'tar_0.001_of_5'

def beside_labels(lfw_2):
    "The second study on faces, with the first one's runs on labels only"
    return pd.concat([where(table('lfw.csv'), method='labels'), lfw_2])

def half_of(roc, half):
    "True accepts at a false accept rate of 0.1, in one half of the folds; labels only are the first study's"
    return where(pd.concat([where(table('lfw_roc.csv'), method='labels'), roc]), half=half, far=.1)

def true_accepts(roc, half, method): return where(roc, half=half, far=.1, method=method).tar.mean()

def n_seeds(t, method): return where(t, method=method).seed.nunique()

def staging(c):
    """Points by which stage by stage is ahead of all at once, both with the teacher's head: (images, times) -> points.
    Only where that is shown among the twenty comparisons named before the runs"""
    rivals = 'kd', 'all_at_once_teacher_head', 'teacher_fed', 'normalized'
    runs = {(8000, times): curve(c, times) for times in (1, 4, 16)} | {(1000, times): few_images(c, times) for times in (1, 4)}
    gaps = {(place, rival): differences(t, 'sskd_teacher_head', rival, 'accuracy') for place, t in runs.items() for rival in rivals}
    return {place: gap.mean() for ((place, rival), gap), yes in zip(gaps.items(), shown([*gaps.values()]))
            if yes and rival == 'all_at_once_teacher_head'}

def kd_above_labels(c, times):
    "How much further above the floor of agreement KD is, by seed"
    runs = curve(c, times).rename(columns=dict(accuracy='accuracy_last'))
    return above_floor(runs, 'kd') - above_floor(runs, 'labels')

def kd_at_16(c): return differences(curve(c, 16), 'sskd_teacher_head', 'kd', 'accuracy')

class Claim(NamedTuple):
    page: str
    says: str
    numbers: object   # table -> the numbers in braces, or whether the statement is true

better, copied, few_labels_page, light_teacher = (f'nbs/lessons/{n}.ipynb' for n in ('09_better', '10_copies', '11_few_labels', 'a1_light_teacher'))
faster = 'nbs/lessons/09a_only_faster.ipynb'
results, boards = 'nbs/pages/results.ipynb', 'nbs/pages/leaderboards.ipynb'
recipe, reference = 'nbs/lessons/06_recipe.ipynb', 'nbs/distill/13_fit.ipynb'  # where the table of silent choices stands
faces_page, own_folder = 'nbs/applications/faces.ipynb', 'nbs/lessons/12_your_own.ipynb'
photographs = 'nbs/applications/cifar100.ipynb'
resnet56 = root/'benchmarks/weights/cifar100_resnet56.safetensors'
scenes, crowd, masks = (f'nbs/applications/{n}.ipynb' for n in ('detection', 'faces', 'segmentation'))

first = 'nbs/index.ipynb'
gallery = 'nbs/pages/gallery.ipynb'
handed_on = 'nbs/pages/gallery_1_handed_on.ipynb'

claims = {
    'choices.csv': [
        Claim(results, 'Taps before the ReLU cost {0.43} points on average ({-0.98} to {0.12})',
              lambda c: (-choice(c, 'taps_before_relu')[0], *choice(c, 'taps_before_relu')[1:])),
        Claim(results, 'and the batch norm in train mode {0.06} ({-0.36} to {0.24})',
              lambda c: (-choice(c, 'frozen_batch_norm_in_train_mode')[0], *choice(c, 'frozen_batch_norm_in_train_mode')[1:])),
        *[Claim(page, 'taken before it {-0.43} points ({-0.98} to {0.12}, 5 seeds)', lambda c: choice(c, 'taps_before_relu')) for page in (recipe, reference)],
        *[Claim(page, 'train mode {-0.06} points ({-0.36} to {0.24}, 5 seeds', lambda c: choice(c, 'frozen_batch_norm_in_train_mode')) for page in (recipe, reference)],
        Claim(results, 'Neither choice is shown to matter.',
              lambda c: not any(shown([differences(c.rename(columns=dict(variant='method')), v, 'usual', 'accuracy') for v in ('taps_before_relu', 'frozen_batch_norm_in_train_mode')])))],
    'compare.csv': [
        Claim(better, 'it gets {94.6} % of the 10,000 test images right',
              lambda c: equal(c).accuracy_teacher.mean()),
        Claim(better, 'KD gets {9} epochs for it, {279} steps of the optimizer',
              lambda c: (mean(equal(c), 'kd', 'epochs'), mean(equal(c), 'kd', 'epochs')*(1000//32))),
        Claim(better, 'stage by stage is better than labels only by {8.70} points ({7.53} to {9.87}, 5 seeds)',
              lambda c: between(equal(c), 'sskd', 'labels')),
        Claim(better, 'Primary comparison, at the teacher\'s width: **stage by stage is better than KD by {9.40} points ({8.33} to {10.47}, 5 seeds)**',
              lambda c: between(equal(c), 'sskd', 'kd')),
        Claim(better, 'At half the width: **stage by stage is better than KD by {2.70} points ({2.07} to {3.32}, 5 seeds)**',
              lambda c: between(half(c), 'sskd', 'kd')),
        Claim(better, 'KD has the higher mean, {79.0} % against {78.0} % for labels alone',
              lambda c: (mean(twelve(c), 'kd', 'accuracy_last'), mean(twelve(c), 'labels', 'accuracy_last'))),
        Claim(better, 'the other way around, {77.3} against {78.0}. The same twelve epochs cost KD a quarter more, {1,654} GMACs against {1,324}',
              lambda c: (mean(equal(c), 'kd', 'accuracy_last'), mean(equal(c), 'labels', 'accuracy_last'), mean(twelve(c), 'kd', 'gmacs'), mean(twelve(c), 'labels', 'gmacs'))),
        Claim(better, "stage by stage, teacher's head 5 {88.76} {88.43} {89.08} {1664.5}",
              lambda c: (*interval(where(twelve(c), method='sskd_teacher_head').accuracy_last), mean(twelve(c), 'sskd_teacher_head', 'gmacs'))),
        Claim(better, 'labels only 5 {78.03} {76.95} {79.11} {1324.2}',
              lambda c: (*interval(where(twelve(c), method='labels').accuracy_last), mean(twelve(c), 'labels', 'gmacs'))),
        Claim(better, '100 labels: stage by stage, teacher\'s head is better than KD, soft targets only by {2.62} points ({2.24} to {3.00}, 5 seeds)',
              lambda c: between(few(c, 100), 'sskd_teacher_head', 'kd_soft')),
        Claim(better, '500 labels: stage by stage, teacher\'s head is better than KD, soft targets only by {2.65} points ({2.40} to {2.89}, 5 seeds)',
              lambda c: between(few(c, 500), 'sskd_teacher_head', 'kd_soft')),
        Claim(better, '2,000 labels: stage by stage, teacher\'s head is better than KD, soft targets only by {2.65} points ({2.52} to {2.78}, 5 seeds)',
              lambda c: between(few(c, 2000), 'sskd_teacher_head', 'kd_soft')),
        Claim(better, "the teacher's width: label smoothing is better than labels only by {0.80} points ({0.46} to {1.15}, 5 seeds)",
              lambda c: between(equal(c), 'label_smoothing', 'labels')),
        Claim(better, "the teacher's width: no difference shown between teacher-free KD and labels only: {0.57} points ({0.09} to {1.05}, 5 seeds); on its own it would be shown, but not as one of 5 comparisons",
              lambda c: between(equal(c), 'tf_kd', 'labels')),
        Claim(better, "the teacher's width: no difference shown between KD and labels only: {-0.70} points ({-1.20} to {-0.20}, 5 seeds); on its own it would be shown, but not as one of 5 comparisons",
              lambda c: between(equal(c), 'kd', 'labels')),
        Claim(better, 'half of it: stage by stage is better than labels only by {3.41} points ({1.94} to {4.89}, 5 seeds)',
              lambda c: between(half(c), 'sskd', 'labels')),
        Claim(better, 'half of it: no difference shown between label smoothing and labels only: {0.72} points ({0.11} to {1.33}, 5 seeds); on its own it would be shown, but not as one of 5 comparisons',
              lambda c: between(half(c), 'label_smoothing', 'labels')),
        Claim(better, 'Every comparison with labels alone, adjusted for their number',
              lambda c: against_labels(equal(c)) == [True, False, False, False, True] and against_labels(half(c)) == [False]*4 + [True]),
        Claim(copied, 'about {0.6} nats, than students that only saw labels, below {0.5}',
              lambda c: (mean(equal(c), 'kd', 'kl'), mean(equal(c), 'labels', 'kl'))),
        Claim(better, "the default recipe is {9.4} points ahead of Hinton's distillation at the teacher's width, {2.7} at half of it",
              lambda c: (gap(equal(c), 'sskd', 'kd'), gap(half(c), 'sskd', 'kd'))),
        Claim(better, 'Losses that compare only summaries of the maps (attention, similarity, relations) stay within a point of the labels.',
              lambda c: all(abs(gap(t, m, 'labels')) < 1 for t in (equal(c), half(c)) for m in ('attention[weight=100]', 'similarity[weight=300]', 'relational[weight=.1]'))),
        Claim(better, 'then trains by KD, and ends level with KD.',
              lambda c: (r := between(equal(c), 'fitnets', 'kd'))[1] < 0 < r[2]),
        Claim(better, 'copy maps too, from the first epoch to the last, and are far ahead as well.',
              lambda c: all(gap(equal(c), m, 'kd') > 8 for m in (joint, 'fitnets_joint'))),
        Claim(better, "Nothing that was tried at the teacher's width is shown to be better than the default.",
              lambda c: not any(shown([differences(equal(c), m, 'sskd') for m in set(equal(c).method) - {'sskd'} if gap(equal(c), m, 'sskd') > 0]))),
        Claim(better, 'At half the width all at once is {0.4} points ahead, once its weight is found.',
              lambda c: gap(half(c), joint, 'sskd')),
        Claim(better, "(At the teacher's width, weight 1 instead of 100 costs it {3.3} points.)",
              lambda c: gap(equal(c), joint, 'simultaneous')),
        Claim(better, 'is {2.62}, {2.65} and {2.65} points ahead of soft targets alone with 100, 500 and 2,000 labels',
              lambda c: [gap(few(c, n), 'sskd_teacher_head', 'kd_soft') for n in (100, 500, 2000)]),
        Claim(better, 'Over labels alone the lead does depend on them: {24} points with 100 labels, {5} with 2,000.',
              lambda c: [gap(few(c, n), 'sskd_teacher_head', 'labels') for n in (100, 2000)]),
        Claim(better, 'With 2,000 labels it is {2.6} points ahead.',
              lambda c: gap(few(c, 2000), 'sskd', 'kd_soft')),
        Claim(faster, 'Over KD it is {9.0} points, then {6.2} with twice and {4.1} with four times the multiply-adds',
              lambda c: [gap(cost(c, n), 'sskd', 'kd') for n in (1, 2, 4)]),
        Claim(faster, 'over labels alone {8.2}, {7.7} and {6.3}',
              lambda c: [gap(cost(c, n), 'sskd', 'labels') for n in (1, 2, 4)]),
        Claim(faster, 'Between stage by stage and all stages at once no difference is shown at any of the three budgets.',
              lambda c: not any(shown([differences(cost(c, n), joint, 'sskd') for n in (1, 2, 4)]))),
        Claim(better, 'at equal cost it is {2.8} and {9.6} points behind',
              lambda c: [-gap(t, 'sskd_stitched', 'sskd') for t in (equal(c), half(c))]),

        Claim(copied, "stage by stage, teacher's head {87.236} {0.890}",
              lambda c: (mean(equal(c), 'sskd_teacher_head'), mean(equal(c), 'sskd_teacher_head', 'agreement'))),
        Claim(copied, 'KD, soft targets only 1250 {87.307} {88.947} {0.267} 3.0',
              lambda c: (mean(more(c, 1250), 'kd_soft'), 100*mean(more(c, 1250), 'kd_soft', 'agreement'), mean(more(c, 1250), 'kd_soft', 'kl'))),
        Claim(copied, "stage by stage, teacher's head 1250 {90.863} {93.237} {0.116} 3.0",
              lambda c: (mean(more(c, 1250), 'sskd_teacher_head'), 100*mean(more(c, 1250), 'sskd_teacher_head', 'agreement'), mean(more(c, 1250), 'sskd_teacher_head', 'kl'))),
        Claim(copied, 'labels only {78.172} {80.104} {0.370}',
              lambda c: (mean(own(c), 'labels'), 100*mean(own(c), 'labels', 'agreement'), mean(own(c), 'labels', 'kl'))),
        Claim(copied, "stage by stage, teacher's head {90.356} {96.978} {0.018} {91.14} 5.0",
              lambda c: (mean(own(c), 'sskd_teacher_head'), 100*mean(own(c), 'sskd_teacher_head', 'agreement'), mean(own(c), 'sskd_teacher_head', 'kl'), own(c).accuracy_teacher.mean())),
        Claim(copied, 'The student that is told only the answers has {9} epochs here.',
              lambda c: mean(own(c), 'kd_soft', 'epochs')),
        Claim(copied, "told the teacher's soft answers are no further above that floor ({4.9} points) than students that only saw labels ({5.1})",
              lambda c: [above_floor(equal(c), m).mean() for m in ('kd_soft', 'labels')]),
        Claim(copied, 'and kept its head, are furthest: {6.4}',
              lambda c: above_floor(equal(c), 'sskd_teacher_head').mean()),
        Claim(copied, 'With four times the budget KD is {6.2} above its floor and labels alone {5.8}: three seeds',
              lambda c: [above_floor(cost(c, 4), m).mean() for m in ('kd', 'labels')]),
        Claim(copied, 'and still no difference shown',
              lambda c: not shown([above_floor(cost(c, 4), 'kd') - above_floor(cost(c, 4), 'labels')])[0]),
        Claim(copied, 'soft answers lead to {80.6} % agreement, labels alone to {80.1} %, features to {97.0} %',
              lambda c: [100*mean(own(c), m, 'agreement') for m in ('kd_soft', 'labels', 'sskd_teacher_head')]),
        Claim(copied, 'from 1,250 to 8,000 images agreement moves by {0.2} points at most',
              lambda c: max(abs(100*(mean(more(c, 8000), m, 'agreement') - mean(more(c, 1250), m, 'agreement'))) for m in ('kd_soft', 'sskd_teacher_head'))),

        Claim(few_labels_page, 'every method gets the same multiply-adds, 7,800 GMACs within 5 %',
              lambda c: (where(c, images=8000, budget='7800 gmacs').gmacs/7800 - 1).abs().max() < .05),
        Claim(few_labels_page, 'not shown to be better than soft targets alone** ({+0.31} points)',
              lambda c: gap(few(c, 100), 'sskd', 'kd_soft')),
        Claim(few_labels_page, "On average it ends {2.3} points below the teacher's",
              lambda c: gap(few(c, 100), 'sskd_teacher_head', 'sskd')),
        Claim(few_labels_page, 'With 500 labels the default is {2.0} points ahead, with 2,000 {2.6}',
              lambda c: [gap(few(c, n), 'sskd', 'kd_soft') for n in (500, 2000)]),
        Claim(few_labels_page, 'the very same teacher, is {13} points *behind* KD without them when there are 100',
              lambda c: gap(few(c, 100), 'kd_soft', 'kd')),
        Claim(few_labels_page, "over {5} seeds, stage by stage with the teacher's head is ahead of it by {2.62} to {2.65} points",
              lambda c: (few(c, 100).seed.nunique(), *sorted(gap(few(c, n), 'sskd_teacher_head', 'kd_soft') for n in (100, 500, 2000))[::2])),

        Claim(light_teacher, "{+0.41} points against labels alone at the teacher's width, {+0.44} at half of it",
              lambda c: [gap(t, 'lw_kd[alpha=.1]', 'labels') for t in (equal(c), half(c))]),
        Claim(light_teacher, 'at its own width ({-0.70} points; its work is counted)',
              lambda c: gap(equal(c), 'kd', 'labels')),
        Claim(light_teacher, 'stage by stage is {8.7} points ahead of labels alone, {3.4} at half the width',
              lambda c: [gap(t, 'sskd', 'labels') for t in (equal(c), half(c))]),
        Claim(light_teacher, 'lw_kd[alpha=.1] 3 {0.55} {-0.22} {1.31} no difference shown',
              lambda c: between(cost(c, 1), 'lw_kd[alpha=.1]', 'labels')),
        Claim(light_teacher, 'Taken alone, the interval of LW-KD at the teacher\'s width lies above 0',
              lambda c: between(equal(c), 'lw_kd[alpha=.1]', 'labels')[1] > 0),
        Claim('nbs/lessons/01_first.ipynb', 'the mean gain is [{8.7} points (95 % interval {7.5} to {9.9})]',
              lambda c: between(equal(c), 'sskd', 'labels')),

        Claim(boards, "at the teacher's width three of the five seeds were known by then, at half the width none",
              lambda c: set(equal(c).seed) == set(range(5)) == set(half(c).seed)),
        Claim(boards, 'Primary comparison: stage by stage is better than KD by {2.70} points ({2.07} to {3.32}, 5 seeds).',
              lambda c: between(half(c), 'sskd', 'kd')),
        Claim(boards, 'Primary comparison: stage by stage is better than KD by {8.18} points ({6.93} to {9.43}, 5 seeds).',
              lambda c: between(twelve(c), 'sskd', 'kd')),
        Claim(boards, 'Primary comparison: stage by stage is better than labels only by {8.46} points ({7.43} to {9.49}, 5 seeds).',
              lambda c: between(same_data(c), 'sskd', 'labels')),
        Claim(boards, "no difference shown between stage by stage, teacher's head, adapter conv_bn and stage by stage: {0.80} points ({-0.23} to {1.83}, 3 seeds)",
              lambda c: between(half(c), 'sskd_teacher_head[adapter=conv_bn]', 'sskd')),
        Claim(boards, 'no difference shown between stage by stage, loss mse and stage by stage: {-0.16} points ({-0.73} to {0.42}, 3 seeds)',
              lambda c: between(half(c), 'sskd[loss=mse]', 'sskd')),
        *(Claim(page, 'inside the method: `mse` {-0.16} points ({-0.73} to {0.42}, 3 seeds)', lambda c: between(half(c), 'sskd[loss=mse]', 'sskd')) for page in (recipe, reference)),
        Claim('nbs/lessons/01_first.ipynb', 'with a teacher that had seen 8,000, the student got {86.5} % instead of {86.7} %, over five seeds',
              lambda c: (mean(same_data(c), 'sskd'), mean(equal(c), 'sskd'))),
        *(Claim(page, 'with batch norm after it {+0.22} points ({-0.26} to {0.69}, 3 seeds)', lambda c: between(half(c), 'sskd[adapter=conv_bn]', 'sskd')) for page in (recipe, reference)),
        Claim(boards, "Holm's adjustment over all {253} pairs of a table", lambda c: pairs_of(equal(c))),
        Claim(boards, 'pairs of a table', lambda c: pairs_of(equal(c)) == pairs_of(half(c))),
    ],
    'accuracy.csv': [
        Claim(results, '| full | stage by stage | labels only | equal epochs | 3 | {+2.62} ({+1.83} to {+3.41}) | no difference shown |',
              lambda a: long_gap(a, 'full', 'equal_epochs', 'sskd', 'labels')),
        Claim(results, '| full | stage by stage | labels only | equal GMACs | 3 | {+0.80} ({+0.35} to {+1.25}) | no difference shown |',
              lambda a: long_gap(a, 'full', 'equal_gmacs', 'sskd', 'labels')),
        Claim(results, '| full | stage by stage | Hinton KD | equal GMACs | 3 | {+0.41} ({-0.19} to {+1.01}) | no difference shown |',
              lambda a: long_gap(a, 'full', 'equal_gmacs', 'sskd', 'kd')),
        Claim(results, '| same-data | stage by stage | Hinton KD | equal epochs | 3 | {-0.19} ({-0.58} to {+0.20}) | no difference shown |',
              lambda a: long_gap(a, 'same-data', 'equal_epochs', 'sskd', 'kd')),
        Claim(results, '| same-data | stage by stage | Hinton KD | equal GMACs | 3 | {-0.70} ({-0.77} to {-0.63}) | worse |',
              lambda a: long_gap(a, 'same-data', 'equal_gmacs', 'sskd', 'kd')),
        Claim(results, "| same-data | stage by stage, teacher's head | labels only | equal epochs | 3 | {+1.15} ({+0.06} to {+2.25}) | no difference shown |",
              lambda a: long_gap(a, 'same-data', 'equal_epochs', 'sskd_teacher_head', 'labels')),
        Claim(results, 'ahead of labels alone on average: by {2.62} points at equal epochs, and by {0.80} at equal multiply-adds',
              lambda a: [long_gap(a, 'full', b, 'sskd', 'labels')[0] for b in ('equal_epochs', 'equal_gmacs')]),
        Claim(results, 'the lead is {0.41} points, from {-0.19} to {1.01}',
              lambda a: long_gap(a, 'full', 'equal_gmacs', 'sskd', 'kd')),
        Claim(results, 'None of these leads is shown once all 16 comparisons are counted.',
              lambda a: not any(t == 'full' for t, *_ in long_shown(a))),
        Claim(results, "**{0.70} points below Hinton's distillation**",
              lambda a: -long_gap(a, 'same-data', 'equal_gmacs', 'sskd', 'kd')[0]),
        Claim(results, 'the one difference that this table shows',
              lambda a: long_shown(a) == [('same-data', 'equal_gmacs', 'sskd', 'kd')]),
        Claim(results, 'and {0.74} below labels alone ({-0.94} to {-0.53} as a single comparison)',
              lambda a: (-(g := long_gap(a, 'same-data', 'equal_gmacs', 'sskd', 'labels'))[0], *g[1:])),
        Claim(first, "On clothes, with a teacher that has seen only the student's images, an older study (three seeds, KD not tuned, about 21,000 GMACs) finds KD {0.70} points above",
              lambda a: -long_gap(a, 'same-data', 'equal_gmacs', 'sskd', 'kd')[0]),
        Claim(faster, 'the lead over KD is {0.41} points, somewhere from {-0.19} to {1.01}',
              lambda a: long_gap(a, 'full', 'equal_gmacs', 'sskd', 'kd')),
        Claim(faster, 'ends {0.74} points higher on average ({0.53} to {0.94}, three seeds',
              lambda a: [-v for v in np.array(long_gap(a, 'same-data', 'equal_gmacs', 'sskd', 'labels'))[[0, 2, 1]]]),
        Claim(faster, 'has all 8,000 labels and sixteen times the budget',
              lambda a: round(a[(a.method == 'labels') & (a.budget == 'equal_gmacs')].gmacs.mean()/1300) == 16),
    ],
    'choose.csv': [
        Claim(results, '(`sskd_late` in the table under *What was chosen, and on what*) gave {0.25} points less',
              lambda c: tried(c, 'sskd') - tried(c, 'sskd_late')),
        Claim(results, 'was {0.65} points higher there, also one seed',
              lambda c: tried(c, 'sskd_stitched') - tried(c, 'sskd')),
        Claim(results, 'for {47} % more multiply-adds',
              lambda c: 100*(where(c, method='sskd_stitched').gmacs.item()/where(c, method='sskd').gmacs.item() - 1)),
    ],
    'views.csv': [
        Claim(results, '4 remembered 5 {10342} 90.68 {0.01} {-0.12} {0.14}',
              lambda v: (views_gmacs(v, '4'), *views_gap(v, '4'))),
        Claim(results, '2 remembered 5 {8450} 90.58 {-0.09} {-0.21} {0.04}',
              lambda v: (views_gmacs(v, '2'), *views_gap(v, '2'))),
        Claim(results, '1 remembered 5 {7502} 90.58 {-0.09} {-0.20} {0.02}',
              lambda v: (views_gmacs(v, '1'), *views_gap(v, '1'))),
        Claim(results, "at {0.37} of the published way's multiply-adds",
              lambda v: views_gmacs(v, '4')/views_gmacs(v, 'plain')),
        Claim(results, 'With four remembered views we see no loss: the whole interval lies within a fifth of a point.',
              lambda v: max(map(abs, views_gap(v, '4'))) < .2),
    ],
    'demo_run/metrics.csv': [
        Claim(first, 'The student ends at {88.7} %, labels alone at {85.4} % (one seed)',
              lambda m: [100*where(m, measure='accuracy', stage=part).value.iloc[-1] for part in ('head', 'labels_only')]),
        Claim(results, 'stage1 {92.65} stage2 {91.65} stage3 {88.25}', stitched),
        Claim(results, 'In this run the first two stages cost little and the last one costs the most.',
              lambda m: table('demo_run/run.json')['results']['teacher'] - stitched(m)[1] < stitched(m)[1] - stitched(m)[2]),
    ],
    'photo_recording/run.json': [
        Claim(first, 'Trained on {10,000} photographs, the student gets {55.4} % of {2,000} test images right',
              lambda r: (r['data']['n_train'], r['results']['distilled'], r['data']['n_valid'])),
        Claim(first, 'Trained on labels alone, for as many multiply-adds, the same student gets {27.6} %',
              lambda r: r['results']['labels_only']),
        Claim(first, 'for as many multiply-adds',
              lambda r: .9 < r['cost']['labels_only']/r['cost']['distilled'] < 1.05),
        Claim(first, 'has learned from {50,000} photographs and gets {67.5} %',
              lambda r: (r['teacher']['labels_seen'], r['results']['teacher'])),
    ],
    'alignment.csv': [
        Claim('nbs/lessons/07_watch.ipynb', 'Stage 1 of the run on photographs stands at {65.8} % stitched accuracy',
              lambda r: 100*recorded(r, 'stitched', 'stage1', 'stage1', r.step.max())),
        Claim('nbs/lessons/07_watch.ipynb', 'with the best linear adapter has {13} % already',
              lambda r: 100*recorded(r, 'stitched', 'stage1', 'stage1', 0, 'random')),
        Claim('nbs/lessons/07_watch.ipynb', "at the end it was {0.54} and {0.92}",
              lambda r: [recorded(r, 'cka_pooled', 'stage3', t, r.step.max()) for t in ('stage2', 'stage3')]),
    ],
    'detection.csv': [
        Claim(scenes, '**COCO mAP**: no difference shown between stage by stage and labels only: {-0.47} points ({-1.57} to {0.63}, 3 seeds)',
              lambda d: between(d, 'distilled', 'labels_only', 'map')),
        Claim(scenes, 'At an overlap of 0.50: no difference shown between stage by stage and labels only: {1.26} points ({-0.40} to {2.91}, 3 seeds)',
              lambda d: between(d, 'distilled', 'labels_only', 'map_50')),
        Claim(scenes, 'At 0.75: no difference shown between stage by stage and labels only: {-1.00} points ({-2.10} to {0.11}, 3 seeds)',
              lambda d: between(d, 'distilled', 'labels_only', 'map_75')),
        Claim(scenes, 'No difference shown in COCO mAP: {-0.5} points, {-1.6} to {0.6}',
              lambda d: between(d, 'distilled', 'labels_only', 'map')),
        Claim(scenes, 'Verdicts count all three comparisons, and three seeds decide little.',
              lambda d: not any(shown([differences(d, 'distilled', 'labels_only', m) for m in ('map', 'map_50', 'map_75')]))),
    ],
    'detection_choice.csv': [
        Claim(scenes, 'was chosen from 0.01, 0.005 and 0.002 on other scenes, made of training images. The lowest was best',
              lambda c: c.set_index('lr')['map'].idxmax() == .002 == c.lr.min()),
    ],
    'segmentation.csv': [
        Claim(masks, 'no difference shown between stage by stage and labels only: {-13.50} points ({-21.79} to {-5.21}, 3 seeds); on its own it would be shown, but not as one of 3 comparisons',
              lambda s: between(s, 'stage by stage', 'labels only', 'miou')),
        Claim(masks, 'no difference shown between stage by stage + fine-tune and labels only: {-6.32} points ({-11.13} to {-1.51}, 3 seeds); on its own it would be shown, but not as one of 3 comparisons',
              lambda s: between(s, 'stage by stage + fine-tune', 'labels only', 'miou')),
        Claim(masks, 'the plain recipe is **{13.5} points behind** the same student trained on the masks (from {5} to {22} as a single comparison)',
              lambda s: [-v for v in np.array(between(s, 'stage by stage', 'labels only', 'miou'))[[0, 2, 1]]]),
        Claim(masks, 'calls even that *not shown*',
              lambda s: not any(shown([differences(s, a, b, 'miou') for a, b in (('stage by stage', 'labels only'), ('stage by stage + fine-tune', 'labels only'), ('stage by stage + fine-tune', 'stage by stage'))]))),
        Claim(masks, 'Labels only got about {3} % more multiply-adds',
              lambda s: 100*(mean(s, 'labels only', 'gmacs')/mean(s, 'stage by stage', 'gmacs') - 1)),
        Claim(masks, 'On average labels only is first, {6.3} points before stage by stage + fine-tune',
              lambda s: gap(s, 'labels only', 'stage by stage + fine-tune', 'miou')),
    ],
    'segmentation_masks.csv': [
        Claim(masks, 'no difference shown between stage by stage + fine-tune and labels only: {3.56} points ({-2.54} to {9.65}, 3 seeds)',
              lambda s: between(s, 'stage by stage + fine-tune', 'labels only', 'miou')),
        Claim(masks, 'its lead of {3.6} points over labels only runs from {-2.5} to {9.7} and is not shown',
              lambda s: between(s, 'stage by stage + fine-tune', 'labels only', 'miou')),
        Claim(masks, "they are {3.7} points below training on 40 masks",
              lambda s: gap(s, 'labels only', "stage by stage, teacher's head", 'miou')),
        Claim(masks, 'has the highest mean of the four',
              lambda s: s.groupby('method').miou.mean().idxmax() == 'stage by stage + fine-tune'),
    ],
    'curves.csv': [
        Claim(first, '| 8,000 clothes (Fashion-MNIST) | 60,000 | 1,300 | {79.6} | {75.6} | {85.8} | {87.5} |',
              lambda c: [mean(curve(c, 1), method, 'accuracy') for method in ('labels', 'kd', 'all_at_once_teacher_head', 'sskd_teacher_head')]),
        Claim(first, '| the same | 60,000 | 5,200 | {86.5} | {85.0} | {91.1} | {90.9} |',
              lambda c: [mean(curve(c, 4), method, 'accuracy') for method in ('labels', 'kd', 'all_at_once_teacher_head', 'sskd_teacher_head')]),
        Claim(first, '| the same | 60,000 | 20,800 | {90.4} | {91.9} | {92.4} | {91.9} |',
              lambda c: [mean(curve(c, 16), method, 'accuracy') for method in ('labels', 'kd', 'all_at_once_teacher_head', 'sskd_teacher_head')]),
        Claim(first, '| 1,000 clothes | 60,000 | 5,200 | {83.2} | {85.6} | {91.2} | {90.8} |',
              lambda c: [mean(few_images(c, 4), method, 'accuracy') for method in ('labels', 'kd', 'all_at_once_teacher_head', 'sskd_teacher_head')]),
        Claim(first, 'Read at equal cost, stage by stage is {11.3} points above KD after about 1,300 GMACs',
              lambda c: (ahead_at(c, 'sskd_teacher_head', 'kd', 1).mean(),)),
        Claim(first, 'after about 20,000 no difference is shown ({-0.06} points, 95 % interval {-0.28} to {0.17})',
              lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'kd', 16))),
        Claim(first, 'after the longest training on clothes, copying all stages at once is ahead',
              lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'all_at_once_teacher_head', 16))[2] < 0),
        Claim(first, 'SimKD, ReviewKD and all stages at once together with the labels are {0.8} to {2.0} points above stage by stage',
              lambda c: [pick(-ahead_at(c, 'sskd_teacher_head', m, 16).mean() for m in ('simkd', 'reviewkd', 'normalized')) for pick in (min, max)]),
        Claim(faster, "labels alone get {78.8} and {83.2} % there, KD {78.3} and {85.6} %, stage by stage with the teacher's head {88.7} and {90.8} %, and all at once with that head {87.7} and {91.2} %",
              lambda c: [mean(few_images(c, times), m, 'accuracy') for m in ('labels', 'kd', 'sskd_teacher_head', 'all_at_once_teacher_head') for times in (1, 4)]),
        Claim(faster, 'labels alone lose {0.8} and {3.3} points',
              lambda c: [mean(curve(c, times), 'labels', 'accuracy') - mean(few_images(c, times), 'labels', 'accuracy') for times in (1, 4)]),
        Claim(faster, 'and these three do about as well or better',
              lambda c: all(mean(few_images(c, times), m, 'accuracy') > mean(curve(c, times), m, 'accuracy') - .2 for m in ('kd', 'sskd_teacher_head', 'all_at_once_teacher_head') for times in (1, 4))),
        Claim(faster, 'stage by stage is still {1.5} points ahead of them ({1.26} to {1.66})',
              lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'labels', 16))),
        Claim(results, 'At 16 x KD is {1.5} points above labels alone',
              lambda c: gap(curve(c, 16), 'kd', 'labels', 'accuracy')),
        Claim(first, "It reaches 90 % with {28} % of KD's compute",
              lambda c: 100*cost_of(c, 'sskd_teacher_head', 90)/cost_of(c, 'kd', 90)),
        Claim(reference, 'and {0.47} behind ({0.37} to {0.58}) at about 20,000, 5 seeds',
              lambda c: [-v for v in np.array(interval(ahead_at(c, 'sskd_teacher_head', 'all_at_once_teacher_head', 16)))[[0, 2, 1]]]),
        Claim(gallery, 'SimKD ends at {82.0}, {91.2} and {93.9} % at the three budgets, labels alone at {79.6}, {86.5} and {90.4} %',
              lambda c: [mean(curve(c, times), m, 'accuracy') for m in ('simkd', 'labels') for times in (1, 4, 16)]),
        Claim(results, 'At 1 and 4 times all methods have run, with five seeds.',
              lambda c: all(curve(c, times).groupby('method').seed.nunique().eq(5).all() for times in (1, 4))),
        Claim(results, '32 is the smallest batch that was tried, and every method chose it',
              lambda c: {json.loads(s)['bs'] for s in c[c.study == 'curves'].settings} == {32} == {min(json.loads(s)['bs'] for s in c.settings)}),
        Claim(better, 'the tuning gives {81.3} % with weight 1 and {83.8} % with weight 10',
              lambda c: [tuned(c, f'normalized[weight={w}]') for w in (1, 10)]),
        Claim(first, 'five seeds for 8,000 clothes',
              lambda c: all(n_seeds(curve(c, times), m) == 5 for times in (1, 4, 16) for m in ('labels', 'kd', 'all_at_once_teacher_head', 'sskd_teacher_head'))),
        Claim(first, 'above stage by stage (three seeds)',
              lambda c: all(n_seeds(curve(c, 16), m) == 3 for m in ('simkd', 'reviewkd', 'normalized'))),
        Claim(results, 'At 16 times, the five methods that questions a, c and d and the labels need have five seeds, and the other five have three',
              lambda c: sorted(curve(c, 16).groupby('method').seed.nunique()) == 5*[3] + 5*[5]),
        Claim(results, "in two of the five, stage by stage does not reach KD's 16 x accuracy within that budget, and its mean does not reach KD's",
              lambda c: (kd_at_16(c) < 0).sum() == 2 and kd_at_16(c).mean() < 0),
        Claim(faster, 'At sixteen times that it is behind, and that is shown, too. At four times its mean is behind; this would be shown on its own, but not as one of twenty comparisons.',
              lambda c: staging(c)[8000, 16] < 0 and (8000, 4) not in staging(c) and interval(differences(curve(c, 4), 'sskd_teacher_head', 'all_at_once_teacher_head', 'accuracy'))[2] < 0),
        Claim(results, 'at 1 x staging is ahead, with 8,000 images and with 1,000, and at 16 x it is behind',
              lambda c: {place: gap > 0 for place, gap in staging(c).items()} == {(8000, 1): True, (1000, 1): True, (8000, 16): False}),
        Claim(results, "stage by stage ends {0.44} points higher than with the teacher's: level with KD ({0.29} points, {-0.03} to {0.61})",
              lambda c: (ahead_at(c, 'sskd', 'sskd_teacher_head', 16).mean(), *interval(ahead_at(c, 'sskd', 'kd', 16)))),
        Claim(faster, 'stages fed by the teacher are lower, at {89.6} %',
              lambda c: mean(curve(c, 4), 'teacher_fed', 'accuracy')),
        Claim(faster, 'one stage after the other is {1.4} points ahead of all at once, for the same cost. At four times as much it is {0.4} *behind*, and at sixteen times {0.5}',
              lambda c: [sign*ahead_at(c, 'sskd_teacher_head', 'all_at_once_teacher_head', times).mean() for times, sign in ((1, 1), (4, -1), (16, -1))]),
        Claim(faster, "Of the three methods that take only the teacher's head, all at once ends highest, at {92.4} %",
              lambda c: curve(c, 16).groupby('method').accuracy.mean()[['all_at_once_teacher_head', 'sskd_teacher_head', 'teacher_fed']].max()),
        Claim(faster, "SimKD is {2.0} ({1.88} to {2.07}) points ahead",
              lambda c: [-v for v in np.array(interval(ahead_at(c, 'sskd_teacher_head', 'simkd', 16)))[[0, 2, 1]]]),
        *(Claim(page, words, lambda c: added_by_simkd()[0]) for page, words in (
            (faster, 'its projector, which has {59} % as many parameters as the student'),
            (first, 'a *projector*, with {59} % as many parameters as the student'))),
        Claim(results, 'its projector, which has {59} % as many parameters as the student and takes {24} % as many multiply-adds',
              lambda c: added_by_simkd()),
        Claim(results, 'but at 16 times the best rival is already ahead',
              lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'normalized', 16))[2] < 0),
        Claim(faster, 'labels alone are {4.0} and {1.5} points above KD',
              lambda c: [gap(curve(c, times), 'labels', 'kd', 'accuracy') for times in (1, 4)]),
        Claim(faster, 'KD has caught up: {91.9} % against {91.9} %',
              lambda c: [mean(curve(c, 16), m, 'accuracy') for m in ('kd', 'sskd_teacher_head')]),
        Claim(faster, 'For 90 % it needs {3,862} GMACs and KD {13,836}; for 88 % it needs {1,654} and KD {9,161}',
              lambda c: [cost_of(c, m, level) for level in (90, 88) for m in ('sskd_teacher_head', 'kd')]),
        Claim(results, "{18} % for 88 %, {28} % for 90 %, {37} % for 91 %",
              lambda c: [100*cost_of(c, 'sskd_teacher_head', level)/cost_of(c, 'kd', level) for level in (88, 90, 91)]),
        Claim(reference, 'read at equal cost: stage by stage is {1.37} points ahead ({1.07} to {1.67}) at about 1,300 GMACs',
              lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'all_at_once_teacher_head', 1))),
        Claim(reference, '{0.43} behind ({0.34} to {0.53}) at about 5,000',
              lambda c: [-v for v in np.array(interval(ahead_at(c, 'sskd_teacher_head', 'all_at_once_teacher_head', 4)))[[0, 2, 1]]]),
        Claim(recipe, '{1.4} points ahead at about 1,300 GMACs, {0.4} behind at 5,000, {0.5} behind at 20,000',
              lambda c: [sign*interval(ahead_at(c, 'sskd_teacher_head', 'all_at_once_teacher_head', times))[0] for times, sign in ((1, 1), (4, -1), (16, -1))]),
        *(Claim(page, 'behind by {2.37} points ({1.61} to {3.12}) at about 1,300 GMACs', lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'teacher_fed', 1))) for page in (recipe, reference)),
        *(Claim(page, 'GMACs, {1.25} ({0.86} to {1.65}) at about 5,500', lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'teacher_fed', 4))) for page in (recipe, reference)),
        *(Claim(page, 'and {1.42} ({1.20} to {1.64}) at about 20,000, 5 seeds', lambda c: interval(ahead_at(c, 'sskd_teacher_head', 'teacher_fed', 16))) for page in (recipe, reference)),
        Claim(results, 'student-fed stages are ahead of teacher-fed ones at 1 x, 4 x and 16 x',
              lambda c: all(interval(ahead_at(c, 'sskd_teacher_head', 'teacher_fed', times))[1] > 0 for times in (1, 4, 16))),
        Claim(copied, 'At 4 times this is not shown: the difference is {-0.11} points ({-0.39} to {0.16}). At 16 times it is {0.51} points ({0.31} to {0.70})',
              lambda c: [v for times in (4, 16) for v in interval(kd_above_labels(c, times))]),
        Claim(copied, 'At 4 times this is not shown',
              lambda c: shown([kd_above_labels(c, times) for times in (1, 4, 16)]) == [True, False, True]),
        Claim(copied, 'KD is also {1.5} points more accurate than labels alone there',
              lambda c: gap(curve(c, 16), 'kd', 'labels', 'accuracy')),
        Claim(copied, 'KD goes from {4.69} to {5.99} to {7.31} points',
              lambda c: [above_floor(curve(c, times).rename(columns=dict(accuracy='accuracy_last')), 'kd').mean() for times in (1, 4, 16)])],
    'bccd.csv': [
        Claim(first, '| 292 images of blood cells (BCCD), mAP | the same | equal | {56.9} | – | – | {56.4} |',
              lambda c: [mean(where(c, labeled=292), method, 'metric') for method in ('labels', 'sskd')]),
        Claim(faster, 'on cells {0.5} points of mAP ({-2.5} to {3.6}, not shown)',
              lambda c: between(where(c, labeled=292), 'labels', 'sskd', 'metric')),
        Claim(faster, 'On cells and on faces, students that learn from labels alone end above the teacher on average',
              lambda c: mean(where(c, labeled=292), 'labels', 'metric') > mean(c, 'teacher', 'metric')),
        Claim(scenes, 'its {56.4} % (one run) is no higher than the {56.9} % of a student that learns from all boxes alone',
              lambda c: (mean(c, 'teacher', 'metric'), mean(where(c, labeled=292), 'labels', 'metric'))),
        Claim(scenes, '292 images with boxes: no difference shown between stage by stage and labels only: {-0.53} points ({-3.58} to {2.51}, 3 seeds)',
              lambda c: between(where(c, labeled=292), 'sskd', 'labels', 'metric')),
        Claim(scenes, '60 images with boxes: no difference shown between stage by stage and labels only: {0.71} points ({-0.81} to {2.24}, 3 seeds)',
              lambda c: between(where(c, labeled=60), 'sskd', 'labels', 'metric')),
        Claim(scenes, 'stage by stage is {8.1} points of mAP ahead on red cells ({5.7} to {10.5})',
              lambda c: between(where(c, labeled=60), 'sskd', 'labels', 'map_RBC')),
        Claim(scenes, 'behind on white cells ({3.9}) and platelets ({2.1})',
              lambda c: [-gap(where(c, labeled=60), 'sskd', 'labels', f'map_{name}') for name in ('WBC', 'Platelets')])],
    'cifar100_tuning.csv': [
        Claim(photographs, 'On the held-out images it gains {1.1} points for KD, {4.8} for SimKD, and {1.3} to {2.1} for the other three',
              lambda t: (gained(t, 'kd'), gained(t, 'simkd'), gained(t, 'sskd'), gained(t, 'all_at_once_teacher_head')))],
    'lfw_2.csv': [
        Claim(first, 'With a second pair of teachers, one better than labels alone and one worse, labels alone are {2.4} points ahead ({2.1} to {2.6})',
              lambda c: between(beside_labels(c), 'labels', 'sskd', 'metric')),
        Claim(faster, 'with other teachers 2.4, 2.1 to 2.6',
              lambda c: shown([differences(beside_labels(c), 'labels', 'sskd', 'metric')]) == [True]),
        Claim(faces_page, 'stage by stage is worse than labels only by {2.37} points ({2.14} to {2.60}, 3 seeds)',
              lambda c: between(beside_labels(c), 'labels', 'sskd', 'metric'))],
    'lfw_2_roc.csv': [
        Claim(faces_page, 'The first teacher went from {79.7} to {89.1} %',
              lambda r: [true_accepts(half, 0, 'teacher') for half in (table('lfw_roc.csv'), r)]),
        Claim(faces_page, "KD's mean is {2.5} points above labels only ({-0.3} to {5.2}, so this is not shown), and stage by stage is {1.2} below ({-0.7} to {3.0}, not shown either)",
              lambda r: [*between(half_of(r, 0), 'kd', 'labels', 'tar'), *between(half_of(r, 0), 'labels', 'sskd', 'tar')]),
        Claim(faces_page, "The second teacher fell from {72.3} to {67.8} %, far below labels only. There KD's student drops to {50.0} %",
              lambda r: [true_accepts(table('lfw_roc.csv'), 1, 'teacher'), true_accepts(r, 1, 'teacher'), true_accepts(r, 1, 'kd')]),
        Claim(faces_page, 'Stage by stage with its own head loses least',
              lambda r: true_accepts(r, 1, 'sskd') > max(true_accepts(r, 1, m) for m in ('kd', 'sskd_teacher_head', 'teacher')))],
    'lfw.csv': [
        Claim(first, '| faces (LFW) | the same | equal | {87.4} | {86.5} | – | {83.7} |',
              lambda c: [mean(c, method, 'metric') for method in ('labels', 'kd', 'sskd')]),
        Claim(first, 'On faces, labels alone are {3.7} points ahead ({2.8} to {4.7}), and {4.0} above the teacher itself',
              lambda c: (*between(c, 'labels', 'sskd', 'metric'), mean(c, 'labels', 'metric') - mean(c, 'teacher', 'metric'))),
        Claim(faster, 'on faces {3.7} points of accuracy ({2.8} to {4.7}, shown;',
              lambda c: between(c, 'labels', 'sskd', 'metric')),
        Claim(faster, 'on faces 3.7 points of accuracy',
              lambda c: shown([differences(c, 'labels', 'sskd', 'metric')]) == [True]),
        Claim(own_folder, 'our teacher got {83.4} % of the pairs right and a student on labels alone {87.4} %',
              lambda c: (mean(c, 'teacher', 'metric'), mean(c, 'labels', 'metric'))),
        Claim(own_folder, 'copying that teacher made students worse',
              lambda c: between(c, 'sskd', 'labels', 'metric')[2] < 0),
        Claim(faces_page, 'stage by stage is worse than labels only by {3.71} points ({2.75} to {4.66}, 3 seeds)',
              lambda c: between(c, 'labels', 'sskd', 'metric')),
        Claim(faces_page, 'For labels only, and for KD in the first half, the best rate is 0.0691',
              lambda c: [where(c, method=m).lr.unique().tolist() for m in ('labels', 'kd')] == [['0.0691/0.0691'], ['0.0691/0.0288']])],
    'camvid.csv': [
        Claim(first, '| 367 street scenes (CamVid), mIoU | the same | equal | {37.3} | – | – | {33.8} |',
              lambda c: [mean(where(c, labeled=367), method, 'metric') for method in ('labels', 'sskd')]),
        Claim(faster, 'On streets it is {3.6} points of mIoU behind ({-0.1} to {7.2}, not shown)',
              lambda c: between(where(c, labeled=367), 'labels', 'sskd', 'metric'))],
    'cifar100.csv': [
        Claim(first, '| 5,000 photographs (CIFAR-100) | 50,000 | 18,000 | {30.9} | {39.1} | {59.8} | {60.1} |',
              lambda c: [mean(of_5000(c), method) for method in ('labels', 'kd', 'all_at_once_teacher_head', 'sskd_teacher_head')]),
        Claim(first, 'a faster start, not a better end',
              lambda c: all(between(part, 'sskd_teacher_head', 'all_at_once_teacher_head')[1] < 0 for part in (of_5000(c), where(c, images=50000)))),
        Claim(first, '| 49,000 photographs | 50,000 | 90,000 | {58.9} | {62.5} | {62.2} | {62.0} |',
              lambda c: [mean(where(c, images=50000), method) for method in ('labels', 'kd', 'all_at_once_teacher_head', 'sskd_teacher_head')]),
        Claim(faster, "labels alone get {30.9} % right, KD {39.1} %, stage by stage with the teacher's head {60.1} %, and all stages at once with that head {59.8} %",
              lambda c: [mean(of_5000(c), method) for method in ('labels', 'kd', 'sskd_teacher_head', 'all_at_once_teacher_head')]),
        Claim(faster, 'So features beat answers by {21.0} points ({18.9} to {23.1})',
              lambda c: between(of_5000(c), 'sskd_teacher_head', 'kd')),
        Claim(faster, 'it is {0.29} points ahead of all at once ({-1.00} to {1.57})',
              lambda c: between(of_5000(c), 'sskd_teacher_head', 'all_at_once_teacher_head')),
        Claim(gallery, 'On 5,000 photographs (CIFAR-100, three seeds) SimKD is {25.2} points better than labels alone',
              lambda c: gap(of_5000(c), 'simkd', 'labels')),
        Claim(photographs, 'a student with a teacher ends between {62.0} and {62.5} %, and one on labels alone at {58.9} %',
              lambda c: [pick(mean(where(c, images=50000), method) for method in methods) for pick, methods in ((min, all_but_labels), (max, all_but_labels), (max, ['labels']))]),
        Claim(photographs, "no difference shown between stage by stage, teacher's head and KD: {-0.47} points ({-3.27} to {2.33}, 2 seeds)",
              lambda c: between(where(c, images=50000), 'sskd_teacher_head', 'kd')),
        Claim(photographs, "gives the teacher's answer on {81} % of the test images, after KD on {76} %",
              lambda c: [100*mean(where(c, images=50000), method, 'agreement') for method in ('sskd_teacher_head', 'kd')]),
        Claim(faster, "KD gets {62.5} %, all at once with the teacher's head {62.2} %, stage by stage with that head {62.0} %, and labels alone {58.9} %: the lead over KD is gone",
              lambda c: [mean(where(c, images=50000), method) for method in ('kd', 'all_at_once_teacher_head', 'sskd_teacher_head', 'labels')]),
        Claim(photographs, "It gets {66.14} % right ({66.05} % in bfloat16",
              lambda c: (weights_meta(resnet56)['accuracy'], of_5000(c).accuracy_teacher.mean())),
        Claim(photographs, 'All stages at once, with the teacher\'s head, ends at {59.8} %, and SimKD, which mimics the last map only, at {56.2} %',
              lambda c: [mean(of_5000(c), method) for method in ('all_at_once_teacher_head', 'simkd')])],
    'handed_on.csv': [
        Claim(gallery, 'A student of an easy teacher nearly copies it, {96.7} % agreement',
              lambda t: 100*where(t, part='easy').agreement.mean()),
        Claim(gallery, "KD's students lose {3} to {14} points on the rarest classes",
              lambda t: (-tail_gaps(t).max(), -tail_gaps(t).min())),
        Claim(gallery, 'the trace of the Hessian falls on average, but only in two seeds of three',
              lambda t: trace_change(t).mean() < 0 and (trace_change(t) < 0).sum() == 2),
        Claim(handed_on, 'they agree on {96.7} % of the test images. That is less than the {99} % that we had written down, in all three seeds',
              lambda t: (100*where(t, part='easy').agreement.mean(), written_down())),
        Claim(handed_on, 'in all three seeds',
              lambda t: (where(t, part='easy').agreement < .99).all() and (tail_gaps(t) < 0).all()),
        Claim(handed_on, 'From a random start, the student ends up agreeing with its teacher on {93.7} % of the test images. If it starts halfway, it gets to {97.0} %',
              lambda t: [started(t, s) for s in (0., .5)]),
        Claim(handed_on, 'moves it away again, to {98.6} %', lambda t: started(t, 1.)),
        Claim(handed_on, 'Here it rises by {0.7} points between those two, which three seeds do not show, and by {2.3} points in the next step',
              lambda t: (started(t, .375) - started(t, .25), started(t, .5) - started(t, .375))),
        Claim(handed_on, 'KD loses {3.2}, {5.5} and {14.2} points on the rare classes',
              lambda t: -tail_gaps(t)),
        Claim(handed_on, 'from {2,052} to {1,595}, but it rises in one seed of three and varies from {1,118} to {3,012}',
              lambda t: (*[where(t, part='rounds', what=w).trace.mean() for w in ('0', '3')], where(t, part='rounds').trace.min(), where(t, part='rounds').trace.max())),
        Claim(handed_on, 'Not one of the four is shown',
              lambda t: not any(shown([where(t, part='easy').agreement - .99, step_of(t), tail_gaps(t), trace_change(t)])))],
    'inherited.csv': [
        Claim(gallery, "fool it in {70} % of cases, images made for another teacher in {57} %",
              lambda t: [100*each for each in handed(t, 'sskd', 'fooled')]),
        Claim(gallery, "overlap by {68} % with its own teacher's (intersection over union) and by {48} % with another's",
              lambda t: [100*each for each in handed(t, 'sskd', 'attended')]),
        Claim(gallery, "KD's students have {1.04} on average, those that learned stage by stage {0.68}",
              lambda t: (handed(t, 'kd', 'slope')[0], handed(t, 'sskd', 'slope')[0])),
        Claim(gallery, "For KD's students only the places that they look at are shown to come from their own teacher",
              lambda t: shown_to_come(t, 'kd') == ['cam']),
        Claim(handed_on, "Students of labels alone are as much like one teacher as like the other",
              lambda t: shown_to_come(t, 'labels') == []),
        Claim(handed_on, "gives more of its own teacher's answers, looks where that teacher looks, and falls for images that were made to fool it, also with a head of its own",
              lambda t: {*shown_to_come(t, 'sskd')} & {*shown_to_come(t, 'sskd_teacher_head')} >= {'agreement', 'cam', 'fooled', 'attended'}),
        Claim(handed_on, 'Nine of the 24 runs were made on another machine',
              lambda t: (t.device.nunique(), t.device.eq('x86_64 AVX2').sum(), len(t)) == (2, 18, 48))],
    'first_figure.csv': [
        Claim(first, 'the first figure of lesson 1 is there after three and a half minutes: {194} seconds to install, {18} to draw it',
              lambda t: waited(t, 'lab')),
        Claim(first, 'three and a half minutes',
              lambda t: round(2*where(t, user='lab').first_figure_s.item()/60) == 7),
        Claim(first, '`sskd_tutor lessons`: {228} and {20} seconds. With Colab\'s packages already installed, imitated on the same machine: {6} and {19}',
              lambda t: (*waited(t, 'wheel'), *waited(t, 'colab')))],
    'faces.csv': [
        Claim(crowd, '**Stage by stage with a head of its own**: {+4.2} ({−2.1} to {+10.6}) at FAR 0.001, {+0.2} ({−1.9} to {+2.2}) at 0.01.',
              lambda f: (*tar(f, 'sskd', 'tar_0.001'), *tar(f, 'sskd', 'tar_0.01'))),
        Claim(crowd, 'With templates of five, at 0.001, it is shown to be better: {+2.2} ({+1.9} to {+2.5}).',
              lambda f: tar(f, 'sskd', 'tar_0.001_of_5')),
        Claim(crowd, "**Stage by stage with the teacher's head**: {+6.3} ({+2.2} to {+10.3}) at 0.001",
              lambda f: tar(f, 'sskd_teacher_head', 'tar_0.001')),
        Claim(crowd, 'With templates of two, at 0.001, it is shown to be better: {+9.3} ({+7.2} to {+11.4}).',
              lambda f: tar(f, 'sskd_teacher_head', 'tar_0.001_of_2')),
        Claim(crowd, 'once these ten comparisons are counted, two of the leads are shown',
              lambda f: shown([differences(f, m, 'labels', r) for m in ('sskd', 'sskd_teacher_head') for r in rates]) == [False]*4 + [True] + [False]*3 + [True, False]),
        Claim(crowd, 'It was given no name at all, and cost {12} % less.',
              lambda f: 100*(1 - mean(f, 'sskd_teacher_head', 'gmacs')/mean(f, 'sskd', 'gmacs'))),
    ],
    'faces_classes.csv': [
        Claim(crowd, 'It knows the six well. On strangers, **pixels beat it**.',
              lambda f: (f.pivot(index='strangers', columns='who', values='tar_0.01_strangers').eval('network < pixels')).all()),
    ],
}
every = [pytest.param(runs, claim, id=f'{claim.page.rsplit("/", 1)[1][:-6]}: {claim.says[:60]}') for runs, of_runs in claims.items() for claim in of_runs]

# what a reader sees

def as_text(value): return ''.join(value) if isinstance(value, list) else value

def saved_text(output):
    "What a saved output shows: printed text, tables, titles of figures"
    if 'text' in output: return [as_text(output['text'])]
    data = output.get('data', {})
    figure = data.get('application/vnd.plotly.v1+json') or output.get('metadata', {}).get('figure', {})
    title = figure.get('layout', {}).get('title', {}).get('text', '')
    return [title, *(as_text(data[kind]) for kind in ('text/markdown', 'text/plain') if kind in data)]

def seen_in(notebook):
    "The text of a notebook and of its saved outputs, in one line"
    texts = []
    for cell in notebook['cells']:
        if cell['cell_type'] == 'markdown': texts.append(as_text(cell['source']))
        for output in cell.get('outputs', []): texts += saved_text(output)
    return ' '.join(' '.join(texts).split())

@lru_cache
def seen(page): return seen_in(json.loads((root/page).read_text()))

# what a claim needs

number = re.compile(r'\{([^{}]+)\}')

def decimals(shown): return len(shown.partition('.')[2])
def value(shown): return float(shown.replace(',', '').replace('−', '-'))

def fault(claim, runs, text):
    "Why a claim does not hold, or ''"
    if number.sub(r'\1', claim.says) not in text: return 'the page has no such sentence'
    told, found = number.findall(claim.says), claim.numbers(runs)
    if not told: return '' if found is True or found is np.True_ else f'the runs say {found}'
    found = [found] if np.ndim(found) == 0 else list(found)
    if len(found) != len(told): return f'{len(told)} numbers in the sentence, {len(found)} from the runs'
    wrong = [f'{says}: the runs say {v:.4f}' for says, v in zip(told, found) if abs(value(says) - v) > .5*10**-decimals(says) + 1e-6]
    return '; '.join(wrong)

@pytest.mark.parametrize('runs, claim', every)
def test_claim(runs, claim): assert fault(claim, table(runs), seen(claim.page)) == ''

def test_there_are_many_claims_and_none_twice():
    assert len(every) >= 60 and len({p.values[1][:2] for p in every}) == len(every)

def test_a_wrong_claim_is_found():
    text = 'it is 2.62 points ahead'
    assert fault(Claim('', 'it is {2.62} points ahead', lambda c: 2.6201), None, text) == ''
    assert 'the runs say 2.7100' in fault(Claim('', 'it is {2.62} points ahead', lambda c: 2.71), None, text)
    assert 'no such sentence' in fault(Claim('', 'it is {2.63} points ahead', lambda c: 2.63), None, text)
    assert fault(Claim('', 'points ahead', lambda c: False), None, text) == 'the runs say False'

# tables that are longer than any list of claims

row = re.compile(r'^\| (?!method|---)(.+?) \| (\d) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|', re.M)
heading = re.compile(r'Teacher and student `(.+?)`, width (\d+), (\d+) labels, (\d+) images, a budget of (.+?), judged on (\S+)\.')

def saved_boards():  # a study of three seeds shows the first three of a run that another study has made five times
    "(what was compared, its rows) for each leaderboard on the page"
    for cell in json.loads((root/boards).read_text())['cells']:
        for output in cell.get('outputs', []):
            text = as_text(output.get('data', {}).get('text/markdown', ''))
            starts = [m.start() for m in heading.finditer(text)] + [len(text)]
            if len(starts) > 1: assert 'first published' in text, 'save the page again'
            for a, b in zip(starts, starts[1:]): yield heading.match(text[a:b]).groups(), row.findall(text[a:b])

def test_saved_leaderboards_are_those_of_the_file():
    from sskd_tutor.compare.verdicts import named
    c, n = table('compare.csv'), 0
    for (pair, width, labels, images, budget, on), rows in saved_boards():
        runs = where(c, pair=pair, width=int(width), labels=int(labels), images=int(images), evaluated_on=on,
                     budget=budget.replace('GMACs', 'gmacs'))
        methods = {named(m): m for m in runs.method.unique()}
        for name, seeds, *numbers in rows:
            own = where(runs, method=methods[name]).sort_values('seed').accuracy_last[:int(seeds)]
            assert np.abs(np.array(interval(own)) - np.array(numbers, float)).max() < .0051, name
            n += 1
    assert n > 100

# credit and one standard

@pytest.mark.parametrize('page', [recipe, reference])
def test_who_did_it_first_is_said(page):
    for work in ('Bengio et al., 2006', '1812.11446', 'Progressive Blockwise', '1411.5908', '2106.07682', '1810.01937', '2203.14001', 'SRRL'):
        assert work in seen(page)

def test_one_standard_for_verdicts(files):
    "No page counts seeds instead of testing: `in each seed`, `ahead with every seed`"
    counted = re.compile(r'\b(?:in|with|on) (?:each|every|all three|all five|all) seeds?\b.{0,40}\b(?:ahead|better|worse|wins|beats)|\b(?:ahead|better|worse|wins|beats)\b.{0,40}\b(?:in|with|on) (?:each|every|all three|all five) seeds?\b')
    pages = [p for p in files if p.suffix == '.ipynb' and p.parent.name in ('lessons', 'pages', 'applications')]
    found = {p.name: m[0] for p in pages if (m := counted.search(seen_in(json.loads(p.read_text()))))}
    assert pages and not found
    assert all(map(counted.search, ('in each seed it is ahead of KD', 'it wins, with every seed')))   # teeth

# what is saved is what the code says now

saying = 'Markdown', 'styled', 'image_wall', 'tap_wall'   # calls whose words a reader sees as they stand

def unconditional(node):
    "The parts of a call that are evaluated whatever happens"
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.IfExp, ast.Lambda, ast.Subscript, ast.Call)): yield from unconditional(child)

def words_of(source):
    "Longer pieces of text that a cell prints, of f-strings too"
    tree = ast.parse(source)
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.Lambda, ast.IfExp)) for n in ast.walk(f) if n is not f}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or id(call) in inner or getattr(call.func, 'id', '') not in saying: continue
        for argument in call.args:
            texts = [n.value for n in unconditional(argument) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            for text in texts: yield from (' '.join(line.split()) for line in text.split('\n'))

def stale(notebook):
    "Pieces of text that the code prints and that the saved output does not have"
    for cell in notebook['cells']:
        if cell['cell_type'] != 'code' or not cell['outputs']: continue
        source = as_text(cell['source'])
        if re.search(r'^[!%]', source, re.M): continue
        shown = ' '.join(' '.join(text for o in cell['outputs'] for text in saved_text(o)).split())
        yield from (piece for piece in words_of(source) if len(piece) > 22 and piece not in shown)

pages = sorted(p for folder in ('lessons', 'pages', 'applications') for p in (root/'nbs'/folder).glob('*.ipynb'))

@pytest.mark.parametrize('path', pages, ids=lambda p: p.stem)
def test_saved_text_is_that_of_the_code(path): assert list(stale(json.loads(path.read_text()))) == []

def test_stale_text_is_found():
    def cell(said): return dict(cell_type='code', source='Markdown(f"It is {2} points behind the others.")', outputs=[dict(data={'text/markdown': said})])
    assert not list(stale(dict(cells=[cell('It is 2 points behind the others.')])))
    assert list(stale(dict(cells=[cell('It is 2 points ahead of the others.')]))) == ['points behind the others.']
