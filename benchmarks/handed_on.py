"""Four claims about what a teacher hands on: the study of `handed_on.toml` (resumable).

    python benchmarks/handed_on.py             # makes the runs that are not there yet
    python benchmarks/handed_on.py --verdicts  # prints the comparisons

One row a run in sskd_tutor/data_files/benchmarks/results/handed_on.csv. What a part does not measure is
empty.
"""
import argparse, time, tomllib
from copy import deepcopy
from datetime import date
from pathlib import Path

import pandas as pd
import torch
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from rows import append_rows, read_rows
from scipy.stats import ttest_1samp
from torch import nn
from torch.nn import functional as F

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.compare.budget import train
from sskd_tutor.compare.phases import Trial
from sskd_tutor.compare.verdicts import holm, interval
from sskd_tutor.core.device import quiet
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import environment
from sskd_tutor.data.images import Images, embedded_fashion
from sskd_tutor.data.loaders import ImageSet, fashion_dls
from sskd_tutor.data.views import Views
from sskd_tutor.measure.fidelity import all_logits, fidelity
from sskd_tutor.measure.inherited import hessian_trace, start_between
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.staged import StagedNet

FOLDER = pkg_data/'benchmarks'
COLUMNS = ('part what seed accuracy agreement rare common trace images epochs seconds evaluated_on '
           'device date').split()

# --- parts of a run

def lenet():
    "LeNet-5 (LeCun et al., 1998) with ReLU and max pooling, for images of 28 pixels"
    first = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
    second = nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2))
    hidden = nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
    head = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(84, 10))
    return StagedNet(dict(stage1=first, stage2=second), head)

def loaders(how, seed, images=None):
    "Embedded images in seeded views; so many of them, all if None"
    return fashion_dls(n=images, bs=how['bs'], seed=seed, views=Views(seed=seed), device='cpu')

def taught_by_labels(net, dls, how, epochs):
    "The network, frozen, after a one-cycle training on labels"
    learn = Learner(dls, net, metrics=accuracy)
    with quiet(learn): learn.fit_one_cycle(epochs, how['lr'])
    return net.eval().requires_grad_(False)

def taught(method, student, teacher, dls, how, epochs):
    "The student, frozen, after so many epochs of a method"
    trial = Trial(student, teacher, dls, dls, how['lr'])
    train(method, trial, dict(epochs=epochs))
    return trial.student.eval().requires_grad_(False)

def likeness(student, teacher, dls):
    "Accuracy, %, and agreement on the test images"
    logits, y = all_logits(student, dls.valid)
    of_teacher, _ = all_logits(teacher, dls.valid)
    right = (logits.argmax(1) == y).double().mean().item()
    return dict(accuracy=round(100*right, 2), agreement=round(fidelity(of_teacher, logits)['agreement'], 4))

# --- the four parts: each yields what a row says of a run

def easy(how, part, seed):
    "A simple teacher"
    set_seed(seed, reproducible=True)
    few, dls = loaders(how, seed, part['teacher_images']), loaders(how, seed)
    teacher = taught_by_labels(lenet(), few, how, part['teacher_epochs'])
    student = taught('kd_soft', lenet(), teacher, dls, how, part['epochs'])
    yield dict(what='kd_soft', images=len(dls.train.dataset)) | likeness(student, teacher, dls)

def start(how, part, seed):
    "Starts between a random network and the teacher"
    set_seed(seed, reproducible=True)
    dls = loaders(how, seed)
    teacher = taught_by_labels(tutorial_resnet(**part['network']), dls, how, part['teacher_epochs'])
    random = tutorial_resnet(**part['network'])
    for share in part['shares']:
        student = start_between(deepcopy(random), teacher, share)
        student = taught('kd_soft', student, teacher, loaders(how, seed), how, part['epochs'])
        yield dict(what=share, images=len(dls.train.dataset)) | likeness(student, teacher, dls)

def long_tailed(images, largest, ratio, seed):
    "(fewer images, classes from the commonest to the rarest)"
    n_classes = int(images.y.max()) + 1
    order = torch.randperm(n_classes, generator=torch.Generator().manual_seed(seed)).tolist()
    kept = []
    for rank, c in enumerate(order):
        n = round(largest*ratio**(-rank/(n_classes - 1)))
        kept.append((images.y == c).nonzero().flatten()[:n])
    kept = torch.cat(kept).sort().values
    return Images(*(part[kept] for part in images)), order

def accuracy_of(student, dls, classes):
    "%, on the test images of some classes"
    logits, y = all_logits(student, dls.valid)
    some = torch.isin(y, torch.tensor(classes))
    return round(100*(logits.argmax(1) == y)[some].double().mean().item(), 2)

def tail(how, part, seed):
    "Rare classes"
    images, order = long_tailed(embedded_fashion('train'), part['largest'], part['ratio'], seed)
    dls = loaders(how, seed)
    dls.loaders[0] = dls.train.new(ImageSet(images))
    set_seed(seed, reproducible=True)
    teacher = taught_by_labels(tutorial_resnet(**part['teacher']), dls, how, part['teacher_epochs'])
    for method in part['methods']:
        set_seed(seed, reproducible=True)
        student = taught(method, tutorial_resnet(**part['student']), teacher, dls, how, part['epochs'])
        rare, common = (accuracy_of(student, dls, some) for some in (order[-3:], order[:3]))
        found = dict(what=method, images=len(images.y), rare=rare, common=common)
        yield found | likeness(student, teacher, dls)

def flatness(net, dls, part):
    "Trace of the Hessian of the cross-entropy on training images as they are"
    some = Images(*(values[:part['measured_on']] for values in dls.train.dataset.images))
    dl = dls.valid.new(ImageSet(some, 1), bs=part['measured_on'])
    x, y = (values.as_subclass(torch.Tensor) for values in dl.one_batch())
    net = deepcopy(net).requires_grad_(True)
    return round(hessian_trace(net, lambda n: F.cross_entropy(n(x), y), probes=part['probes']), 1)

def rounds(how, part, seed):
    "Self-distillation"
    set_seed(seed, reproducible=True)
    dls = loaders(how, seed, part['images'])
    teacher = taught_by_labels(tutorial_resnet(**part['network']), dls, how, part['epochs'])
    first = teacher
    for k in range(part['rounds'] + 1):
        facts = dict(what=k, images=len(dls.train.dataset), trace=flatness(teacher, dls, part))
        yield facts | likeness(teacher, first, dls)
        if k < part['rounds']:
            student = tutorial_resnet(**part['network'])
            teacher = taught('kd', student, teacher, loaders(how, seed, part['images']), how, part['epochs'])

PARTS = dict(easy=easy, start=start, tail=tail, rounds=rounds)

# --- the study

def make(how, csv):
    "All rows that are not there yet; a part of a seed is made whole"
    for name, run in PARTS.items():
        part = how[name]
        for seed in part['seeds']:
            if any((row['part'], row['seed']) == (name, str(seed)) for row in read_rows(csv)): continue
            begin, rows = time.time(), []
            for found in run(how, part, seed):
                rows.append(dict(part=name, seed=seed, epochs=part['epochs']) | found)
            common = dict(seconds=round(time.time() - begin), evaluated_on='official-2000',
                          device=environment('cpu')['device_name'], date=date.today())
            append_rows(csv, COLUMNS, [row | common for row in rows])
            print(f"{name}, seed {seed}: {common['seconds']} s", flush=True)

def differences(table, name, column, this, other):
    "One for each seed"
    wide = table[table.part == name].pivot(index='seed', columns='what', values=column)
    return (wide[this] - wide[other]).dropna()

def verdicts(rows):
    "The four questions, each with its mean, its 95 % interval, p, and p after Holm"
    table = pd.DataFrame(rows).replace('', None)
    numbers = ['accuracy', 'agreement', 'rare', 'common', 'trace']
    table = table.astype(dict.fromkeys(numbers, float))
    of_easy = table[table.part == 'easy'].agreement
    asked = {
        'easy: agreement minus .99': of_easy - .99,
        'start: agreement, .375 minus .25': differences(table, 'start', 'agreement', '0.375', '0.25'),
        'tail: rare classes, KD minus labels': differences(table, 'tail', 'rare', 'kd', 'labels'),
        'rounds: trace, third student minus first teacher': differences(table, 'rounds', 'trace', '3', '0')}
    found = []
    for question, values in asked.items():
        mean, low, high = interval(values)
        p = ttest_1samp(values, 0).pvalue
        found.append(dict(question=question, mean=mean, low=low, high=high, seeds=len(values), p=p))
    found = pd.DataFrame(found)
    return found.assign(p_holm=holm(found.p))

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--csv', type=Path, default=FOLDER/'results/handed_on.csv')
    a.add_argument('--verdicts', action='store_true', help='print the comparisons, make nothing')
    a = a.parse_args()
    if a.verdicts: return print(verdicts(read_rows(a.csv)).round(3).to_string(index=False))
    torch.set_num_threads(1)
    make(tomllib.loads((FOLDER/'handed_on.toml').read_text()), a.csv)

if __name__ == '__main__': main()
