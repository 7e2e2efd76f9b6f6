"""The teacher of the CIFAR-100 study: a ResNet-56 that has seen the 50,000 training images.

    python benchmarks/cifar100_teacher.py   # a kill loses at most a fifth of an epoch; the same line goes on
    touch runs/cifar100/finish              # lets its learning rate fall; then weights and card are written
    python benchmarks/cifar100_teacher.py --longer   # the teacher of part c: the first one goes on learning
                                            # (its folder is runs/cifar100/longer)

Weights and card go to benchmarks/weights. How they learn stands in `[teacher]` and `[teacher_longer]` of
sskd_tutor/data_files/benchmarks/cifar100.toml. SSKD_DATA names the folder that holds cifar-100-binary.
"""
import argparse, hashlib, os, time, tomllib
from datetime import date
from pathlib import Path

import torch
from fastai.callback.all import ChannelsLast
from fastai.callback.schedule import ParamScheduler
from fastai.vision.all import Callback, CancelFitException, Learner, accuracy, set_seed

from sskd_tutor.compare.runner import stats_of
from sskd_tutor.core.device import Bf16, fast_bf16, quiet
from sskd_tutor.core.files import pkg_data, read_snapshot
from sskd_tutor.data.formats import open_data
from sskd_tutor.data.loaders import DeviceDL
from sskd_tutor.data.views import Views
from sskd_tutor.distill.callbacks import StopOnNaN
from sskd_tutor.distill.checkpoint import KeepEpochs
from sskd_tutor.distill.labels import optimizers
from sskd_tutor.distill.phase import ValidEvery
from sskd_tutor.nets.weights import load_weights, save_weights
from sskd_tutor.nets.words import build_model

CONFIG = pkg_data/'benchmarks/cifar100.toml'
def weights_of(teacher): return Path(__file__).resolve().parent/f'weights/cifar100_{teacher}.safetensors'
WEIGHTS = weights_of('resnet56')
LONGER = weights_of('resnet56_longer')
AUGMENT = dict(crop=4, flip=True, erase=0)
PARTS = 5   # of an epoch; after each of them the training is saved

class Parts(DeviceDL):
    "A part of the images as an epoch, so that a kill costs little; all parts together see each image once"
    def __len__(self): return len(self.dataset)//PARTS//self.bs

    def get_idxs(self):
        whole_epoch, part = divmod(self.epoch, PARTS)
        rng = torch.Generator().manual_seed(self.seed*1_000_003 + whole_epoch)
        order = torch.randperm(len(self.dataset), generator=rng)
        return order.chunk(PARTS)[part].tolist()

class Tell(Callback):
    "A line for each part; stop where somebody asks for the end"
    order = 100  # after KeepEpochs
    def __init__(self, finish: Path | None = None): self.finish = finish

    def before_epoch(self): self.begin = time.time()

    def after_epoch(self):
        done, planned = (self.epoch + 1)/PARTS, self.n_epoch/PARTS
        loss, seconds = float(self.recorder.smooth_loss.value), time.time() - self.begin
        print(f'{done:.1f} of {planned:.1f} epochs: loss {loss:.3f}, {seconds:.0f} s', flush=True)
        if self.finish and self.finish.exists(): raise CancelFitException()

def new_learner(how, data):
    "The network before its first step"
    set_seed(how['seed'], reproducible=True)
    dls = open_data('cifar100', data, 32, how['bs'], Views(**AUGMENT), seed=how['seed'], device='cpu')
    dls.loaders[0] = dls.train.new(cls=Parts)
    cbs = [ChannelsLast()]
    if fast_bf16(torch.device('cpu')): cbs.insert(0, Bf16())
    net = build_model(how['network'])
    return Learner(dls, net, metrics=accuracy, opt_func=optimizers[how['opt']], wd_bn_bias=True, cbs=cbs)

def train_part(learn, folder, how, n, rate, finish=None):
    "`n` parts of an epoch at a learning rate; an interrupted training goes on"
    keep = KeepEpochs(folder, how, every=0)
    keep.go_on(learn)
    cbs = [keep, ParamScheduler(dict(lr=rate)), StopOnNaN('the teacher'), ValidEvery(0), Tell(finish)]
    with quiet(learn): learn.fit(n, how['lr'], wd=how['wd'], cbs=cbs)

def train_steadily(learn, folder, how, finish):
    "At one learning rate, after a warm-up of two fifths of an epoch; returns how many parts were made"
    n = PARTS*how['epochs']
    def warmed_up(pct): return how['lr']*min(1, .05 + pct*n/2)
    begun = read_snapshot(folder)
    done = begun['epoch'] if begun else 0
    if done < n and not (done and finish.exists()):
        train_part(learn, folder, how, n, warmed_up, finish)
    kept = read_snapshot(folder)
    learn.model.load_state_dict(kept['net'])
    return kept['epoch']

def train_down(learn, folder, how, done):
    "The learning rate falls to 0"
    def falling(pct): return how['lr']*(1 - pct)
    learn.dls.train.seed += 1
    train_part(learn, folder, how | dict(steady=done), round(done*how['decay']), falling)

# --- weights and card

CARD = """# Teacher `{name}`

| | |
| --- | --- |
{rows}
"""

def card(how, path, facts):
    "What the weights are, as Markdown"
    found = (f"**{facts['accuracy']:.2f} %** on the 10,000 test images (half-precision weights, last epoch; "
             "looked at once). RepDistiller publishes 72.34 % after 240 epochs")
    recipe = (f"SGD with momentum 0.9, rate {how['lr']}, falling to 0 at the end, "
              f"weight decay {how['wd']}, batch {how['bs']}, {how['epochs']:g} epochs, cross-entropy, "
              "shift by up to 4 pixels and mirror")
    command = 'python benchmarks/cifar100_teacher.py'
    if path == LONGER:
        recipe = f"begins with the weights of `{WEIGHTS.stem}`, then {recipe}"
        command += ' --longer'
    network = f"`cifar:resnet56`: three stages of 16, 32 and 64 channels, {facts['params']:.2f} M parameters"
    seen = 'the 50,000 labeled training images of CIFAR-100 (Krizhevsky, 2009); no test image'
    rows = {
        'network': network,
        'data it has seen': seen,
        'accuracy': found,
        'recipe': recipe,
        'precision': f"{facts['precision']}, channels_last; weights stored as float16",
        'seed': how['seed'],
        'sha256': f"`{facts['sha256']}`",
        'command': f'`{command}`',
        'trained': f"{date.today()}, one CPU thread of a shared machine, torch {torch.__version__}",
        'license': 'Apache-2.0 (weights); the images are not in this repository'}
    lines = [f'| {name} | {value} |' for name, value in rows.items()]
    return CARD.format(name=path.stem, rows='\n'.join(lines))

def publish(learn, how, path):
    "Weights in half precision, with what a recipe wants to know of their images, and a card"
    net, dls = learn.model.float().to(memory_format=torch.contiguous_format), learn.dls
    path.parent.mkdir(exist_ok=True)
    save_weights(net, path, half=True, overwrite=True)
    with quiet(Learner(dls, load_weights(net, path), metrics=accuracy)) as judge:
        found = 100*judge.validate()[1]
    mean, std = stats_of(dls.train_ds.images)
    classes = [str(name) for name in dls.train_ds.vocab]
    images = dict(classes=classes, size=32, mean=mean, std=std, labels_seen=len(dls.train_ds))
    save_weights(net, path, images | how | dict(accuracy=round(found, 2)), half=True, overwrite=True)
    precision = 'bfloat16 autocast' if fast_bf16(torch.device('cpu')) else 'float32'
    facts = dict(params=sum(p.numel() for p in net.parameters())/1e6, accuracy=found, precision=precision,
                 sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    path.with_suffix('.md').write_text(card(how, path, facts))
    print(f'teacher: {found:.2f} %')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', default=os.environ.get('SSKD_DATA'), help='holds cifar-100-binary (SSKD_DATA)')
    p.add_argument('--folder', type=Path, default=Path('runs/cifar100'), help='where checkpoints are kept')
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--longer', action='store_true', help='the teacher of part c')
    a = p.parse_args()
    if not a.data: p.error('name the folder that holds cifar-100-binary with --data, or in SSKD_DATA')
    path = LONGER if a.longer else WEIGHTS
    if path.exists(): return print(f'{path} is there')
    torch.set_num_threads(a.threads)
    how = tomllib.loads(CONFIG.read_text())['teacher_longer' if a.longer else 'teacher']
    folder = a.folder/'longer' if a.longer else a.folder
    learn = new_learner(how, a.data)
    if a.longer: load_weights(learn.model, WEIGHTS)
    done = train_steadily(learn, folder/'teacher', how, folder/'finish')
    train_down(learn, folder/'decay', how, done)
    publish(learn, how | dict(epochs=done*(1 + how['decay'])/PARTS), path)

if __name__ == '__main__': main()
