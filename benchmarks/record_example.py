"""Record the example run that the lessons open: `python benchmarks/record_example.py --device cuda` (or cpu).

Three stages x 10 epochs with maps, bf16, and the labels-only student at about the same cost, as a run folder.
run.json names the device; over 3 MB is a failure. `sskd_tutor.runs.report.write_report(folder)` makes its
page.
"""
import argparse, time
from dataclasses import asdict, dataclass

import pandas as pd
from fastai.torch_core import default_device

from sskd_tutor.core.device import Bf16
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import environment, tensors_sha256
from sskd_tutor.core.tables import records
from sskd_tutor.data.images import fashion_sha256
from sskd_tutor.distill.check import first_batch
from sskd_tutor.distill.costs import whole_step_macs
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.nets.weights import fashion_teacher
from sskd_tutor.runs.demo import (DemoSettings, labels_history, new_learner, percent_right, teacher_card)
from sskd_tutor.runs.saved import save_run

MOST_MB = 3    # of the folder, which travels with the package

def distill(learn, teacher, settings, look, cbs=(Bf16(),)):
    "The SSKDRun of the student that learns stage by stage, with `look` recording it"
    with learn.no_bar(), learn.no_logging():
        return learn.fit_sskd(teacher, epochs=settings.epochs, head_epochs=settings.head_epochs,
                              lr=settings.lr, cbs=[*cbs, look])

@dataclass
class LabelsOnly:
    "The same student, trained on labels"
    learn: object   # fastai's Learner
    epochs: int
    gmacs: float

def train_on_labels(learn, settings, gmacs, cbs=(Bf16(),)):
    "For about so many multiply-adds"
    x = first_batch(learn.dls.train)[0][:2]
    images = len(learn.dls.train)*settings.bs
    once = whole_step_macs(learn.model.to(x.device), x)*images/1e9
    epochs = max(1, round(gmacs/once))
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, settings.lr, cbs=list(cbs))
    return LabelsOnly(learn, epochs, epochs*once)

def command_of(settings):
    options = f'--device {settings.device} --images {settings.images} --epochs {settings.epochs}'
    return f'python benchmarks/record_example.py {options}'

def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--device', default=str(default_device()))
    p.add_argument('--images', type=int, default=2_000)
    p.add_argument('--epochs', type=int, default=10, help='of each stage')
    p.add_argument('--folder', default=pkg_data/'example_recording')
    a = p.parse_args()
    start = time.time()
    s = DemoSettings(images=a.images, epochs=a.epochs, head_epochs=4, width=16, bs=64, device=a.device)
    teacher = fashion_teacher(s.teacher, device=s.device)
    run = distill(new_learner(s), teacher, s, RecordAlignment(share=1))
    labels = train_on_labels(new_learner(s), s, run.gmacs)
    networks = dict(teacher=teacher, labels_only=labels.learn.model, distilled=run.student)
    results = {name: percent_right(net, labels.learn.dls) for name, net in networks.items()}
    env = environment(s.device)
    info = dict(
        title='The example recording: stage by stage on Fashion-MNIST',
        settings=asdict(s),
        precision=run.record.info['precision'],
        results=results,
        stages=records(run.stages.astype(dict(epochs=int))),
        cost=dict(distilled=run.gmacs, labels_only=labels.gmacs),
        labels_only=dict(epochs=labels.epochs, sha256=tensors_sha256(labels.learn.model)),
        fit_sskd=run.settings,
        teacher=teacher_card(s.teacher),
        data=dict(name='Fashion-MNIST, embedded', sha256=fashion_sha256, n_train=s.images,
                  n_valid=len(labels.learn.dls.valid_ds)),
        environment=env,
        seconds=time.time() - start,
        command=command_of(s))
    history = pd.concat([run.history, labels_history(labels.learn)], ignore_index=True)
    folder = save_run(a.folder, history, info, run.student, overwrite=True, extra=run.record.save)
    report(folder, run, info)

def report(folder, run, info):
    "A line about the folder; an error if it is too large"
    size = sum(file.stat().st_size for file in folder.iterdir())/2**20
    spent = 100*run.record.info['share_spent']
    print(f"{folder}: {len(run.record.steps)} steps, {size:.2f} MB, {info['environment']['device_name']}, "
          f"{info['precision']}, {info['seconds']:.0f} s, measuring {spent:.1f} % of the time; "
          f"{info['results']}")
    if size > MOST_MB:
        raise SystemExit(f"{size:.2f} MB is over {MOST_MB} MB; record fewer images or channels")

if __name__ == '__main__': main()
