"""Record a run on photographs: `SSKD_DATA=FOLDER python benchmarks/record_photos.py --device cuda` (or cpu).

CIFAR-100, ResNet-56 teaches ResNet-20: three stages with maps of 20 images, bf16, and the labels-only
student at about the same cost. It is the run that the Explorer, the site's front page and lesson 7 open. The
teacher is benchmarks/weights/cifar100_resnet56.safetensors; FOLDER holds cifar-100-binary. Over 3 MB is a
failure.
"""
import argparse, os, time
from dataclasses import asdict, dataclass

import pandas as pd
from cifar100 import trained_teacher
from cifar100_teacher import AUGMENT, WEIGHTS
from fastai.callback.all import ChannelsLast
from fastai.torch_core import default_device, set_seed
from fastai.vision.all import Learner, accuracy
from record_example import distill, report, train_on_labels

from sskd_tutor.core.device import Bf16
from sskd_tutor.core.files import file_sha256, pkg_data
from sskd_tutor.core.state import environment, tensors_sha256
from sskd_tutor.core.tables import records
from sskd_tutor.data.formats import open_data
from sskd_tutor.data.images import balanced
from sskd_tutor.data.loaders import ImageSet
from sskd_tutor.data.views import Views
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.nets.words import build_model
from sskd_tutor.runs.demo import labels_history, percent_right
from sskd_tutor.runs.saved import save_run

CLASSES = 100
OPTIONS = 'device', 'images', 'epochs'

@dataclass
class Photos:
    "How the run is made"
    images: int = 10_000    # training images, the same number of each class
    valid: int = 2_000      # test images, the same number of each class
    epochs: int = 8         # of each stage
    head_epochs: int = 4
    views: int = 3          # remembered views of each image
    lr: float = 5e-3
    bs: int = 64
    seed: int = 0
    device: str = 'cpu'

def photos(s, data):
    "Loaders of some of the images"
    dls = open_data('cifar100', data, 32, s.bs, Views(**AUGMENT, seed=s.seed), seed=s.seed, device=s.device)
    for split, n in enumerate((s.images, s.valid)):
        loader = dls.loaders[split]
        some, _ = balanced(loader.dataset.images, n//CLASSES)
        dls.loaders[split] = loader.new(ImageSet(some, split, dls.vocab))
    return dls

def new_learner(s, data):
    "With a fresh student; the same for the same seed"
    set_seed(s.seed, reproducible=True)
    return Learner(photos(s, data), build_model('cifar:resnet20'), metrics=accuracy)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--device', default=str(default_device()))
    p.add_argument('--images', type=int, default=Photos.images)
    p.add_argument('--epochs', type=int, default=Photos.epochs, help='of each stage')
    p.add_argument('--folder', default=pkg_data/'photo_recording')
    p.add_argument('--data', default=os.environ.get('SSKD_DATA'), help='holds cifar-100-binary (SSKD_DATA)')
    a = p.parse_args()
    if not a.data: p.error('name the folder that holds cifar-100-binary with --data, or in SSKD_DATA')
    begin = time.time()
    s = Photos(images=a.images, epochs=a.epochs, device=a.device)
    teacher = trained_teacher('resnet56').to(s.device)
    cbs = [Bf16(), ChannelsLast()]
    look = RecordAlignment(images=20, channels=2, points=128, share=1)
    run = distill(new_learner(s, a.data), teacher, s, look, [*cbs, CacheFeatures(s.views)])
    labels = train_on_labels(new_learner(s, a.data), s, run.gmacs, cbs)
    networks = dict(teacher=teacher, labels_only=labels.learn.model, distilled=run.student)
    info = dict(
        title='The photo recording: stage by stage on CIFAR-100',
        settings=asdict(s),
        precision=run.record.info['precision'],
        results={name: percent_right(net, labels.learn.dls) for name, net in networks.items()},
        stages=records(run.stages.astype(dict(epochs=int))),
        cost=dict(distilled=run.gmacs, labels_only=labels.gmacs),
        labels_only=dict(epochs=labels.epochs, sha256=tensors_sha256(labels.learn.model)),
        fit_sskd=run.settings,
        teacher=dict(name='ResNet-56', labels_seen=50_000, sha256=file_sha256(WEIGHTS)),
        data=dict(name='CIFAR-100 (Krizhevsky, 2009)', n_train=s.images, n_valid=s.valid),
        environment=environment(s.device),
        seconds=time.time() - begin,
        command=f"python benchmarks/record_photos.py {' '.join(f'--{k} {getattr(a, k)}' for k in OPTIONS)}")
    history = pd.concat([run.history, labels_history(labels.learn)], ignore_index=True)
    folder = save_run(a.folder, history, info, run.student, overwrite=True, extra=run.record.save)
    report(folder, run, info)

if __name__ == '__main__': main()
