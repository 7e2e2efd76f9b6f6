"""Record the example run that the lessons open: `python benchmarks/record_example.py --device cuda` (or cpu).

Three stages x 10 epochs with maps, bf16, and the labels-only student at about the same cost, as a run folder. run.json
names the device; over 3 MB is a failure. `sskd_tutor.runs.report.write_report(folder)` makes its page.
"""
import argparse, time
from dataclasses import asdict

import pandas as pd
from fastai.torch_core import default_device

from sskd_tutor.core.device import Bf16
from sskd_tutor.data.images import fashion_sha256
from sskd_tutor.core.files import pkg_data
from sskd_tutor.runs.demo import (DemoSettings, labels_history, labels_macs, new_learner, percent_right, teacher_card)
from sskd_tutor.distill.check import first_batch
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.core.state import environment, tensors_sha256
from sskd_tutor.core.tables import records
from sskd_tutor.runs.saved import save_run
from sskd_tutor.nets.weights import fashion_teacher

def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--device', default=str(default_device()))
    p.add_argument('--images', type=int, default=2_000)
    p.add_argument('--epochs', type=int, default=10, help='of each stage')
    p.add_argument('--folder', default=pkg_data/'example_recording')
    a = p.parse_args()
    start, s = time.time(), DemoSettings(images=a.images, epochs=a.epochs, head_epochs=4, width=16, bs=64, device=a.device)
    teacher = fashion_teacher(s.teacher, device=s.device)
    learn, look = new_learner(s), RecordAlignment(share=1)
    with learn.no_bar(), learn.no_logging(): run = learn.fit_sskd(teacher, epochs=s.epochs, head_epochs=s.head_epochs, lr=s.lr, cbs=[Bf16(), look])
    labels = new_learner(s)
    x, n = first_batch(labels.dls.train)[0][:2], len(labels.dls.train)*s.bs
    once = labels_macs(labels.model.to(x.device), x)*n/1e9
    epochs = max(1, round(run.gmacs/once))
    with labels.no_bar(), labels.no_logging(): labels.fit_one_cycle(epochs, s.lr, cbs=Bf16())
    results = {k: percent_right(net, labels.dls) for k, net in dict(teacher=teacher, labels_only=labels.model, distilled=run.student).items()}
    env = environment(s.device)
    info = dict(title='The example recording: stage by stage on Fashion-MNIST', settings=asdict(s), precision=look.recording.info['precision'], results=results,
        stages=records(run.stages.astype(dict(epochs=int))), cost=dict(distilled=run.gmacs, labels_only=epochs*once),
        labels_only=dict(epochs=epochs, sha256=tensors_sha256(labels.model)), fit_sskd=run.settings, teacher=teacher_card(s.teacher),
        data=dict(name='Fashion-MNIST, embedded', sha256=fashion_sha256, n_train=s.images, n_valid=len(labels.dls.valid_ds)), environment=env, seconds=time.time() - start,
        command=f'python benchmarks/record_example.py --device {s.device} --images {s.images} --epochs {s.epochs}')
    history = pd.concat([run.history, labels_history(labels)], ignore_index=True)
    folder = save_run(a.folder, history, info, run.student, overwrite=True, extra=run.record.save)
    size = sum(f.stat().st_size for f in folder.iterdir())/2**20
    print(f"{folder}: {len(run.record.steps)} steps, {size:.2f} MB, {env['device_name']}, {info['precision']}, {info['seconds']:.0f} s, "
          f"measuring {100*run.record.info['share_spent']:.1f} % of the time; {results}")
    if size > 3: raise SystemExit(f"{size:.2f} MB is over 3 MB; record fewer images or channels")

if __name__ == '__main__': main()
