"""Where taps are taken, and the batch norm of frozen stages: the study of `choices.toml` (resumable).

    python benchmarks/choices.py            # makes the runs that are not there yet
    python benchmarks/choices.py --verdicts # prints the comparisons

One row a run in sskd_tutor/data_files/benchmarks/results/choices.csv; float32, one thread, the 2,000 embedded
test images.
"""
import argparse, time, tomllib
from datetime import date
from pathlib import Path

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from rows import append_rows, read_rows
from scipy.stats import ttest_rel

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.compare.verdicts import holm, interval
from sskd_tutor.core.device import quiet
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import environment
from sskd_tutor.data.images import embedded_fashion
from sskd_tutor.data.loaders import ImageSet, fashion_dls
from sskd_tutor.data.views import Views
from sskd_tutor.distill.callbacks import FreezeStages
from sskd_tutor.measure.alignment import dl_accuracy
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import fashion_teacher

FOLDER = pkg_data/'benchmarks'
COLUMNS = ('variant seed accuracy stitched images epochs head_epochs gmacs seconds evaluated_on device '
           'date').split()

class FrozenInTrainMode(Callback):
    "What happens when `eval` is forgotten: frozen stages normalize with the batch, and their statistics move"
    order = FreezeStages.order + 1

    def before_train(self):
        for cb in self.learn.cbs.filter(lambda cb: isinstance(cb, FreezeStages)):
            for part in cb.parts()[1]: part.train()

def networks(how, variant):
    "(student, teacher)"
    is_after_relu = variant != 'taps_before_relu'
    teacher = fashion_teacher()
    if not is_after_relu:
        other = tutorial_resnet(relu_taps=False)
        other.load_state_dict(teacher.state_dict())
        teacher = other.eval().requires_grad_(False)
    return tutorial_resnet(**how['student'], relu_taps=is_after_relu), teacher

def run_one(how, variant, seed):
    "A row of the file"
    dls = fashion_dls(n=how['images'], bs=how['bs'], seed=seed, views=Views(seed=seed), device='cpu')
    test_dl = dls.valid.new(ImageSet(embedded_fashion('valid'), 1))
    set_seed(seed, reproducible=True)
    dls.train.set_epoch(0)
    student, teacher = networks(how, variant)
    cbs = [FrozenInTrainMode()] if variant == 'frozen_batch_norm_in_train_mode' else []
    learn, begin = Learner(dls, student, metrics=accuracy), time.time()
    with quiet(learn):
        run = learn.fit_sskd(teacher, how['epochs'], how['head_epochs'], how['lr'], cbs=cbs,
                             valid_every=how['epochs'])
    seconds = round(time.time() - begin)
    stitched = run.stages.stitched.dropna().iloc[-1]   # of the last stage
    right = dl_accuracy(learn.model.eval(), test_dl)
    return dict(variant=variant, seed=seed, accuracy=round(100*right, 2), stitched=round(100*stitched, 2),
                images=how['images'], epochs=how['epochs'], head_epochs=how['head_epochs'],
                gmacs=round(run.stages.gmacs.sum(), 1), seconds=seconds, evaluated_on='official-2000',
                device=environment('cpu')['device_name'], date=date.today())

def verdicts(how, rows):
    "Each primary comparison: mean difference in points, its 95 % interval, p, and p after Holm"
    runs = pd.DataFrame(rows).astype(dict(accuracy=float))
    # only seeds that have all variants
    by_seed = runs.pivot(index='seed', columns='variant', values='accuracy').dropna()
    found = []
    for a, b in how['primary']:
        mean, low, high = interval(by_seed[a] - by_seed[b])
        p = ttest_rel(by_seed[a], by_seed[b]).pvalue
        found.append(dict(comparison=f'{a} - {b}', seeds=len(by_seed), points=mean, low=low, high=high, p=p))
    found = pd.DataFrame(found)
    return found.assign(p_holm=holm(found.p))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--csv', type=Path, default=FOLDER/'results/choices.csv')
    p.add_argument('--verdicts', action='store_true', help='print the comparisons, make nothing')
    a = p.parse_args()
    how = tomllib.loads((FOLDER/'choices.toml').read_text())
    if a.verdicts: return print(verdicts(how, read_rows(a.csv)).round(3).to_string(index=False))
    torch.set_num_threads(1)
    for seed in how['seeds']:
        for variant in how['variants']:
            known = {(row['variant'], row['seed']) for row in read_rows(a.csv)}
            if (variant, str(seed)) in known: continue
            row = run_one(how, variant, seed)
            append_rows(a.csv, COLUMNS, [row])
            print(f"{variant}, seed {seed}: {row['accuracy']} %, {row['seconds']} s", flush=True)

if __name__ == '__main__': main()
