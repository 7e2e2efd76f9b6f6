"""The teacher-student pairs that are timed, and the seconds of each side: `ours`, `published`, `labels`, `floor`."""
import gc, time
from dataclasses import dataclass

import torch
from fastai.vision.all import DataLoaders, IntToFloatTensor, Learner, Normalize, TensorImage, set_seed
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from plain import Precision, bare_fill, bare_stage, ordinary, plain_macs, plain_sskd
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.callbacks import mimic_net
from sskd_tutor.data.loaders import DeviceDL, ImageSet, fashion_dls
from sskd_tutor.data.images import Images, balanced, embedded_fashion
from sskd_tutor.data.views import Views
import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.distill.check import check_pair, first_batch
from sskd_tutor.distill.adapters import make_adapters
from sskd_tutor.distill.costs import step_macs
from sskd_tutor.distill.losses import mimic_nmse
from sskd_tutor.nets.staged import StagedNet
from sskd_tutor.nets.weights import fashion_teacher
from sskd_tutor.nets.small import tutorial_resnet

class ColorSet(ImageSet): image_type = TensorImage

def synthetic_dls(n, side, bs, n_out=10, views=Views(), device='cpu', seed=0):
    "Random color images: for time, never for accuracy"
    rng = torch.Generator().manual_seed(seed)
    def images(n): return Images(torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=rng), torch.arange(n) % n_out, torch.arange(n))
    kw = dict(after_batch=[IntToFloatTensor(), Normalize.from_stats([0.5]*3, [0.29]*3, cuda=False)], device=torch.device(device))
    return DataLoaders(DeviceDL(ColorSet(images(n)), bs=bs, shuffle=True, drop_last=True, views=views, seed=seed, **kw),
                       DeviceDL(ColorSet(images(n_out), 1), bs=bs, **kw), device=torch.device(device))

def staged(net: ResNet) -> StagedNet:
    stem = ['conv1', 'bn1', 'relu', 'maxpool']
    return StagedNet.from_modules(net, {f'stage{k}': [*(stem if k == 1 else []), f'layer{k}'] for k in (1, 2, 3, 4)}, ['avgpool', nn.Flatten(), 'fc'])

def embedded(n, bs=128, device='cpu', **kwargs):
    dls = fashion_dls(n=n, bs=bs, device=device, **kwargs)
    few = balanced(embedded_fashion('valid'), 10)[0]  # a run without head epochs ends with one validation
    return DataLoaders(dls.train, dls.valid.new(ImageSet(few, 1)), device=dls.device)

@dataclass
class Pair:
    name: str
    data: object      # n -> DataLoaders
    teacher: object   # () -> StagedNet
    student: object   # () -> StagedNet
    n: int            # images
    epochs: int       # a stage: E
    views: int        # remembered: R
    precision: Precision
    budget: object = None
    compile: bool = False  # the stage that learns: in ours, in the floor and in ordinary training; the plain way stays eager

    def make(self, n=None):
        "A fresh student, so that each side starts from the same weights"
        set_seed(0)
        student = self.student()
        return self.data(n or self.n), student, self.teacher().eval().requires_grad_(False)

    def macs(self):
        "Forward multiply-adds an image of each stage: (teacher's, student's)"
        dls, student, teacher = self.make()
        x = first_batch(dls.train)[0][:2]
        return tuple(net.to(x.device).stage_table(x).macs.iloc[:-1].tolist() for net in (teacher, student))

    def formula(self):
        "Speed-up over the plain way and wall time over ordinary training, as the cost formulas give them"
        t, s = (float(sum(m)) for m in self.macs())
        E, R, K = self.epochs, self.views, len(self.macs()[0])
        ours = R*(t + s) + 3*E*s
        return dict(speedup=E*(K*(t + s) + 3*s)/ours, over_ordinary=ours/(3*E*s))

    def counted_speedup(self):
        "The same with every multiply-add of the real steps counted: no gradient for the first layer's input, stage k's forward once"
        dls, student, teacher = self.make()
        x = first_batch(dls.train)[0][:2]
        adapters = adapters_of(dls, student, teacher)
        (ts, ss), E, R = self.macs(), self.epochs, self.views
        hints = [teacher.forward_to(x, k) for k in range(len(ts))]
        steps = sum(step_macs(mimic_net(student, k, a), [n, 'head'], mimic_nmse, lambda x: hints[k], x) - sum(ss[:k])
                    for k, (n, a) in enumerate(zip(student.stage_names, adapters)))
        return E*sum(plain_macs(student, teacher, adapters, x))/(R*sum(ts + ss) + E*steps)

def adapters_of(dls, student, teacher):
    taps, hints = check_pair(Learner(dls, student), teacher)
    made = list(make_adapters(student.stage_names, taps, hints, 'conv').values())
    for net in (student, teacher, *made): net.to(dls.device)
    return made

def sync(device):
    if torch.device(device).type == 'cuda': torch.cuda.synchronize(device)

def clock(device, f):
    gc.collect()
    sync(device)
    start = time.perf_counter()
    out = f()
    sync(device)
    return time.perf_counter() - start, out

def ours(pair, epochs=None, n=None, head_epochs=0, **cache):
    "A whole `fit_sskd` that remembers features: (seconds, seconds of the epochs after the views were filled, one epoch of each stage, the SSKDRun)"
    dls, student, teacher = pair.make(n)
    learn = pair.precision.tune(Learner(dls, student), pair.compile)
    remember = CacheFeatures(**{**dict(views=pair.views, budget=pair.budget), **cache})
    with learn.no_bar(), learn.no_logging():
        seconds, run = clock(dls.device, lambda: learn.fit_sskd(teacher, epochs or pair.epochs, head_epochs, cbs=remember, valid_every=0))
    h = run.history
    late = h[(h.measure == 'seconds') & (h.stage != 'head') & (h.epoch >= pair.views)]
    return seconds, late.groupby('stage').value.median().sum(), run

def published(pair, epochs, n=None):
    "Seconds of the plain way"
    dls, student, teacher = pair.make(n)
    adapters = adapters_of(dls, student, teacher)
    return clock(dls.device, lambda: plain_sskd(student, teacher, adapters, dls.train, epochs, precision=pair.precision))[0]

def labels(pair, epochs, n=None):
    "Seconds of ordinary training"
    dls, student, _ = pair.make(n)
    return clock(dls.device, lambda: ordinary(student, dls, epochs, precision=pair.precision, compile=pair.compile))[0]

def floor(pair, n=None):
    "Bare seconds: (one view of all features, one epoch of every stage)"
    dls, student, teacher = pair.make(n)
    adapters, fill, train = adapters_of(dls, student, teacher), 0., 0.
    pair.precision.layout(student, teacher, *adapters)
    prefix = hints = [x.as_subclass(Tensor) for x, _ in dls.train]
    for k, (s, t, adapter) in enumerate(zip(student.stages.values(), teacher.stages.values(), adapters)):
        seconds, hints = clock(dls.device, lambda: bare_fill(t, hints, pair.precision))
        fill += seconds
        if pair.compile:  # compiling is not the floor's time
            torch.compiler.reset()
            s.compile()
            bare_stage(s, adapter, [(prefix[0], hints[0])], 1, precision=pair.precision)
        train += clock(dls.device, lambda: bare_stage(s, adapter, list(zip(prefix, hints)), 1, precision=pair.precision))[0]
        s._compiled_call_impl = None
        if k < len(adapters) - 1:
            seconds, prefix = clock(dls.device, lambda: bare_fill(s, prefix, pair.precision))
            fill += seconds
    return fill, train

def resnet(layers): return staged(ResNet(BasicBlock, layers, num_classes=10))

def all_pairs(quick, precision) -> dict:
    pairs = [Pair('embedded default pair', embedded, fashion_teacher, lambda: tutorial_resnet(blocks=1), 640 if quick else 8_000, 8, 4, precision),
             Pair('ResNet-34 to ResNet-10, 64 px', lambda n: synthetic_dls(n, 64, 64), lambda: resnet([3, 4, 6, 3]), lambda: resnet([1, 1, 1, 1]), 128 if quick else 1_024, 12 if quick else 24, 4, precision)]
    return {p.name: p for p in pairs}
