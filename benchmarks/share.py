"""The share of a run's time that measuring alignment takes (a row to benchmarks/results/share.csv).

    python benchmarks/share.py

The same student with RecordAlignment at several asked shares. The looks at the beginning and after each phase
are made in any case, so a short run spends more than was asked; `looks` says how many were made.
"""
import argparse, os, time
from datetime import date
from pathlib import Path

from fastai.vision.all import Learner, accuracy, set_seed
from rows import append_rows

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import fashion_teacher

def row_of(a, share):
    "One run that may spend this share of its time on measuring"
    set_seed(0)
    learn = Learner(fashion_dls(n=a.images), tutorial_resnet(a.width, 1), metrics=accuracy)
    look, start = RecordAlignment(share=share, final=a.final), time.time()
    with learn.no_bar(), learn.no_logging():
        run = learn.fit_sskd(fashion_teacher(), a.epochs, a.epochs//2, cbs=look)
    info, seconds = run.record.info, round(time.time() - start, 1)
    return dict(asked=share, spent=round(info['share_spent'], 4), looks=len(run.record.steps),
                seconds=seconds, images=a.images, epochs=a.epochs, width=a.width, final=a.final,
                device=info['device_name'], load=round(os.getloadavg()[0], 1), date=date.today())

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--shares', type=float, nargs='+', default=[0, .05, .2, 1])
    p.add_argument('--images', type=int, default=4_000)
    p.add_argument('--epochs', type=int, default=6, help='of each stage')
    p.add_argument('--width', type=int, default=32)
    p.add_argument('--final', action='store_true',
                   help='fidelity and calibration on the whole validation set, too (needs torchmetrics)')
    p.add_argument('--csv', type=Path, default=Path(__file__).parent/'results/share.csv')
    a = p.parse_args()
    for share in a.shares:
        row = row_of(a, share)
        append_rows(a.csv, list(row), [row])
        print(row, flush=True)

if __name__ == '__main__': main()
