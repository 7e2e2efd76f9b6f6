"""Train a shipped teacher: `python benchmarks/teacher.py full --folder /usr/share/datasets/fashion-mnist`.

Writes the weights in half precision and a model card to sskd_tutor/data_files. Half precision (bfloat16) is
used on purpose: on two CPU cores with AMX it is 2.5 times as fast.
"""
import argparse, hashlib, time
from datetime import date
from pathlib import Path

import torch
from fastai.callback.all import ChannelsLast
from fastai.vision.all import Learner, accuracy, set_seed

from sskd_tutor.core.device import Bf16
from sskd_tutor.data.loaders import ImageSet, fashion_dls
from sskd_tutor.data.images import embedded_fashion, full_fashion
from sskd_tutor.core.files import pkg_data
from sskd_tutor.nets.weights import load_weights, save_weights
from sskd_tutor.nets.small import tutorial_resnet

CARD = """# Teacher `{name}`

| | |
| --- | --- |
| network | `tutorial_resnet(width=32, blocks=2)`: three stages, 0.7 M parameters |
| data it has seen | {n:,} labeled training images of Fashion-MNIST ({data}); no test image |
| accuracy | **{acc:.2f} %** on the 10,000 official test images, {acc2:.2f} % on the 2,000 embedded ones \
(half-precision weights, last epoch) |
| recipe | AdamW, one cycle to {lr}, weight decay {wd}, batch {bs}, {epochs} epochs, \
cross-entropy, views: {views} |
| precision | bfloat16 autocast, channels_last, weights stored as float16 |
| seed | {seed} |
| sha256 | `{sha}` |
| command | `python benchmarks/teacher.py {kind} --folder FOLDER --epochs {epochs}` |
| trained | {day}, {minutes:.0f} minutes on {threads} CPU threads, torch {torch} |
| license | Apache-2.0 (weights); images: MIT, Zalando SE |

{note}
"""
NOTES = {
    'full': "This teacher has seen 60,000 labels: "
            "more than a student that learns from the embedded 8,000 images.",
    'same-data': "This teacher has seen exactly the 8,000 labeled images that the student sees."}

def train(a):
    "(DataLoaders, the trained network, minutes)"
    set_seed(a.seed, reproducible=True)
    dls = fashion_dls(bs=a.bs, seed=a.seed, folder=a.folder if a.kind == 'full' else None)
    learn = Learner(dls, tutorial_resnet(), metrics=accuracy, cbs=[Bf16(), ChannelsLast()])
    start = time.time()
    learn.fit_one_cycle(a.epochs, a.lr, wd=a.wd)
    minutes = (time.time() - start)/60
    return dls, learn.model.float().to(memory_format=torch.contiguous_format), minutes

def test_accuracies(a, dls, net):
    "Percent of the official test images, and of the embedded ones"
    learn = Learner(dls, net, metrics=accuracy)
    found = {}
    for name, images in dict(acc=full_fashion('valid', a.folder), acc2=embedded_fashion('valid')).items():
        right = learn.validate(dl=dls.valid.new(ImageSet(images, 1)))[1]
        found[name] = round(100*right, 2)
    return found

def publish(a, dls, net, minutes):
    "Weights in half precision, measured as they are stored, and the card"
    name = f"teacher_{a.kind.replace('-', '_')}"
    path = a.out/f'{name}.safetensors'
    save_weights(net, path, half=True, overwrite=True)
    load_weights(net, path)
    tested = test_accuracies(a, dls, net)
    data = 'the full training set' if a.kind == 'full' else 'the embedded training images'
    meta = dict(name=name, data=data, n=len(dls.train_ds), seed=a.seed, epochs=a.epochs, lr=a.lr, wd=a.wd,
                bs=a.bs, views=repr(dls.train.views), **tested)
    save_weights(net, path, meta, half=True, overwrite=True)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    card = CARD.format(**meta, kind=a.kind, sha=sha, day=date.today(), minutes=minutes,
                       threads=torch.get_num_threads(), torch=torch.__version__, note=NOTES[a.kind])
    (a.out/f'{name}.md').write_text(card)
    print(f'{name}: {meta} sha256 {sha}')

def main():
    p = argparse.ArgumentParser()
    p.add_argument('kind', choices=list(NOTES))
    p.add_argument('--folder', default='/usr/share/datasets/fashion-mnist')
    p.add_argument('--epochs', type=int, default=20)
    p.add_argument('--lr', type=float, default=5e-3)
    p.add_argument('--wd', type=float, default=0.05)
    p.add_argument('--bs', type=int, default=128)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--out', type=Path, default=pkg_data)
    a = p.parse_args()
    publish(a, *train(a))

if __name__ == '__main__': main()
