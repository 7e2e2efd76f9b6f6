"""What is handed on: the study of `inherited.toml` (resumable; see --help).

    python benchmarks/inherited.py             # two teachers, then the runs that are not there yet
    python benchmarks/inherited.py --verdicts  # own teacher minus other teacher, by method and measure

Two rows a run in sskd_tutor/data_files/benchmarks/results/inherited.csv, one for each teacher that the
student is measured against. Teachers are kept in --folder. float32, one thread, the 2,000 embedded test
images.
"""
import argparse, time, tomllib
from datetime import date
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from rows import append_rows, read_rows
from scipy.stats import ttest_1samp

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.compare.budget import train
from sskd_tutor.compare.phases import Trial
from sskd_tutor.compare.verdicts import holm, interval
from sskd_tutor.core.device import quiet
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import environment
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.data.views import Views
from sskd_tutor.measure.fidelity import all_logits, fidelity
from sskd_tutor.measure.inherited import attention_iou, exaggeration, fooling_rate, grad_cam, map_similarity
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import load_weights, save_weights

FOLDER = pkg_data/'benchmarks'
COLUMNS = ('method taught_by measured_against seed accuracy agreement kl slope fooled cam attended gmacs '
           'seconds evaluated_on device date').split()

def loaders(how, seed):
    dls = fashion_dls(n=how['images'], bs=how['bs'], seed=seed, views=Views(seed=seed), device='cpu')
    set_seed(seed, reproducible=True)
    dls.train.set_epoch(0)
    return dls

def the_teacher(how, letter, folder):
    "From its file, or trained now"
    path = folder/f'teacher_{letter}.safetensors'
    net = tutorial_resnet(**how['teacher'])
    if path.exists(): return load_weights(net, path).eval().requires_grad_(False)
    dls = loaders(how, how['teachers'][letter])
    net = tutorial_resnet(**how['teacher'])   # after the seed is set
    learn = Learner(dls, net, metrics=accuracy)
    with quiet(learn): learn.fit_one_cycle(how['teacher_epochs'], how['lr'])
    print(f"teacher {letter}: {100*learn.recorder.values[-1][-1]:.2f} %", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(net, path)
    return net.eval().requires_grad_(False)

def images_of(dl):
    "All images and labels of a loader, as they reach the network"
    batches = [(x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)) for x, y in dl]
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

def likeness(how, student, teacher, dl):
    "Every measure of a student against a teacher"
    logits, y = all_logits(student, dl)
    of_teacher, _ = all_logits(teacher, dl)
    x, _ = images_of(dl)
    answers = of_teacher.argmax(1)
    maps = [grad_cam(net, x, answers, how['stage']) for net in (teacher, student)]
    close = fidelity(of_teacher, logits)
    found = dict(
        accuracy=100*(logits.argmax(1) == y).double().mean().item(),
        agreement=close['agreement'],
        kl=close['kl'],
        slope=exaggeration(of_teacher, logits),
        fooled=fooling_rate(teacher, student, x, y, how['eps']),
        cam=map_similarity(*maps),
        attended=attention_iou(*maps))
    return {name: round(value, 4) for name, value in found.items()}

def run_one(how, teachers, letter, method, seed):
    "The rows of a run"
    dls = loaders(how, seed)
    student = tutorial_resnet(**how['student'])
    trial = Trial(student, teachers[letter], dls, dls, how['lr'], how['views'])
    begin = time.time()
    train(method, trial, dict(gmacs=how['gmacs']))
    seconds = round(time.time() - begin)
    common = dict(method=method, taught_by=letter, seed=seed, gmacs=round(trial.gmacs, 1), seconds=seconds,
                  evaluated_on='official-2000', device=environment('cpu')['device_name'], date=date.today())
    trial.student.eval()
    rows = []
    for other, teacher in teachers.items():
        measured = likeness(how, trial.student, teacher, dls.valid)
        rows.append(common | dict(measured_against=other) | measured)
    return rows

def verdicts(how, rows):
    "Own teacher minus other teacher: mean difference, its 95 % interval, p, and p after Holm"
    table = pd.DataFrame(rows)
    table['own'] = table.taught_by == table.measured_against
    found = []
    for method in how['methods']:
        for measure in how['measures']:
            of_method = table[table.method == method].astype({measure: float})
            wide = of_method.pivot(index=['taught_by', 'seed'], columns='own', values=measure).dropna()
            differences = wide[True] - wide[False]
            mean, low, high = interval(differences)
            found.append(dict(
                method=method, measure=measure, own=wide[True].mean(), other=wide[False].mean(),
                difference=mean, low=low, high=high, runs=len(wide), p=ttest_1samp(differences, 0).pvalue))
    found = pd.DataFrame(found)
    return found.assign(p_holm=holm(found.p))

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--csv', type=Path, default=FOLDER/'results/inherited.csv')
    a.add_argument('--folder', type=Path, default=Path('runs/inherited'), help='where the teachers are kept')
    a.add_argument('--verdicts', action='store_true', help='print the comparisons, make nothing')
    a = a.parse_args()
    how = tomllib.loads((FOLDER/'inherited.toml').read_text())
    if a.verdicts: return print(verdicts(how, read_rows(a.csv)).round(3).to_string(index=False))
    torch.set_num_threads(1)
    teachers = {letter: the_teacher(how, letter, a.folder) for letter in how['teachers']}
    for seed, letter, method in product(how['seeds'], teachers, how['methods']):
        known = {(row['method'], row['taught_by'], int(row['seed'])) for row in read_rows(a.csv)}
        if (method, letter, seed) in known: continue
        rows = run_one(how, teachers, letter, method, seed)
        append_rows(a.csv, COLUMNS, rows)
        found, seconds = rows[0]['accuracy'], rows[0]['seconds']
        print(f"{method} by {letter}, seed {seed}: {found} %, {seconds} s", flush=True)

if __name__ == '__main__': main()
