"""The teacher-student pairs that are timed, and the seconds of each side.

The sides are `ours`, `published`, `labels` and `floor`.
"""
import gc, time
from dataclasses import dataclass

import torch
from fastai.vision.all import DataLoaders, Learner, set_seed
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from plain import Precision, bare_fill, bare_stage, labels_only, plain_macs, plain_sskd
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.callbacks import mimic_net
from sskd_tutor.data.formats import ColorSet
from sskd_tutor.data.loaders import ImageSet, fashion_dls, set_dls
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

def synthetic_dls(n, side, bs, n_out=10, views=Views(), device='cpu', seed=0):
    "Random color images: for time, never for accuracy"
    rng = torch.Generator().manual_seed(seed)
    train = ColorSet(random_images(n, side, n_out, rng))
    valid = ColorSet(random_images(n_out, side, n_out, rng), 1)
    return set_dls(train, valid, ([0.5]*3, [0.29]*3), bs, views, seed=seed, device=device)

def random_images(n, side, n_out, rng):
    "Random pixels; the classes take turns"
    pixels = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=rng)
    return Images(pixels, torch.arange(n) % n_out, torch.arange(n))

def staged(net: ResNet) -> StagedNet:
    "torchvision's ResNet in four stages; the stem belongs to the first"
    stages = {f'stage{k}': [f'layer{k}'] for k in (1, 2, 3, 4)}
    stages['stage1'] = ['conv1', 'bn1', 'relu', 'maxpool', 'layer1']
    return StagedNet.from_modules(net, stages, ['avgpool', nn.Flatten(), 'fc'])

def embedded(n, bs=128, device='cpu', **kwargs):
    "The embedded Fashion-MNIST, with ten images to validate on"
    dls = fashion_dls(n=n, bs=bs, device=device, **kwargs)
    few = balanced(embedded_fashion('valid'), 10)[0]  # a run without head epochs ends with one validation
    return DataLoaders(dls.train, dls.valid.new(ImageSet(few, 1)), device=dls.device)

@dataclass
class Pair:
    "A teacher and a student with their data, and how they are trained"
    name: str
    data: object      # n -> DataLoaders
    teacher: object   # () -> StagedNet
    student: object   # () -> StagedNet
    n: int            # images
    epochs: int       # a stage: E
    views: int        # remembered: R
    precision: Precision
    budget: object = None
    # the stage that learns: in ours, in the floor and in labels-only training; the plain way stays eager
    compile: bool = False

    def make(self, n=None):
        "A fresh student, so that each side starts from the same weights"
        set_seed(0)
        student = self.student()
        return self.data(n or self.n), student, self.teacher().eval().requires_grad_(False)

    def macs(self):
        "Forward multiply-adds an image of each stage: (teacher's, student's)"
        dls, student, teacher = self.make()
        x = first_batch(dls.train)[0][:2]
        tables = [net.to(x.device).stage_table(x) for net in (teacher, student)]
        return tuple(table.macs.iloc[:-1].tolist() for table in tables)   # without the head

    def formula(self):
        "Speed-up over the plain way and wall time over labels-only training, as the cost formulas give them"
        teacher_macs, student_macs = self.macs()
        t, s = float(sum(teacher_macs)), float(sum(student_macs))
        E, R, K = self.epochs, self.views, len(teacher_macs)
        ours = R*(t + s) + 3*E*s
        return dict(speedup=E*(K*(t + s) + 3*s)/ours, over_labels_only=ours/(3*E*s))

    def counted_speedup(self):
        """The speed-up with every multiply-add of the real steps counted.

        The first layer's input needs no gradient, and stage k's forward runs once."""
        dls, student, teacher = self.make()
        x = first_batch(dls.train)[0][:2]
        adapters = adapters_of(dls, student, teacher)
        teacher_macs, student_macs = self.macs()
        hints = [teacher.forward_to(x, k) for k in range(len(teacher_macs))]
        steps = 0
        for k, (name, adapter) in enumerate(zip(student.stage_names, adapters)):
            net = mimic_net(student, k, adapter)
            step = step_macs(net, [name, 'head'], mimic_nmse, lambda x: hints[k], x)
            steps += step - sum(student_macs[:k])   # the stages before k are remembered
        E, R = self.epochs, self.views
        plain = E*sum(plain_macs(student, teacher, adapters, x))
        return plain/(R*sum(teacher_macs + student_macs) + E*steps)

def adapters_of(dls, student, teacher):
    "One adapter a stage; all that takes part moves to the device of the data"
    taps, hints = check_pair(Learner(dls, student), teacher)
    made = list(make_adapters(student.stage_names, taps, hints, 'conv').values())
    for net in (student, teacher, *made): net.to(dls.device)
    return made

def sync(device):
    if torch.device(device).type == 'cuda': torch.cuda.synchronize(device)

def clock(device, f):
    "(seconds of a call, what it gave)"
    gc.collect()
    sync(device)
    start = time.perf_counter()
    out = f()
    sync(device)
    return time.perf_counter() - start, out

@dataclass
class TimedRun:
    "A run of our way"
    seconds: float         # of the whole run
    epoch_seconds: float   # of one epoch of each stage, after the views were filled
    run: object            # the SSKDRun

def ours(pair, epochs=None, n=None, head_epochs=0, **cache) -> TimedRun:
    "A whole `fit_sskd` that remembers features"
    dls, student, teacher = pair.make(n)
    learn = pair.precision.tune(Learner(dls, student), pair.compile)
    settings = dict(views=pair.views, budget=pair.budget) | cache
    remember = CacheFeatures(**settings)
    epochs = epochs or pair.epochs
    def whole_run(): return learn.fit_sskd(teacher, epochs, head_epochs, cbs=remember, valid_every=0)
    with learn.no_bar(), learn.no_logging(): seconds, run = clock(dls.device, whole_run)
    h = run.history
    late = h[(h.measure == 'seconds') & (h.stage != 'head') & (h.epoch >= pair.views)]
    return TimedRun(seconds, late.groupby('stage').value.median().sum(), run)

def published(pair, epochs, n=None):
    "Seconds of the plain way"
    dls, student, teacher = pair.make(n)
    adapters = adapters_of(dls, student, teacher)
    def whole_run(): plain_sskd(student, teacher, adapters, dls.train, epochs, precision=pair.precision)
    return clock(dls.device, whole_run)[0]

def labels(pair, epochs, n=None):
    "Seconds of labels-only training"
    dls, student, _ = pair.make(n)
    def whole_run(): return labels_only(student, dls, epochs, precision=pair.precision, compile=pair.compile)
    return clock(dls.device, whole_run)[0]

@dataclass
class Floor:
    "Seconds that the bare operations take"
    fill: float    # one view of all features
    epoch: float   # one epoch of every stage

    def whole_run(self, views, epochs): return views*self.fill + epochs*self.epoch

def floor(pair, n=None) -> Floor:
    "The bare operations of every stage, timed"
    dls, student, teacher = pair.make(n)
    adapters = adapters_of(dls, student, teacher)
    precision, device = pair.precision, dls.device
    precision.layout(student, teacher, *adapters)
    parts = list(zip(student.stages.values(), teacher.stages.values(), adapters))
    fill = epoch = 0.
    prefix = hints = [x.as_subclass(Tensor) for x, _ in dls.train]
    for stage, teacher_stage, adapter in parts:
        seconds, hints = clock(device, lambda: bare_fill(teacher_stage, hints, precision))
        fill += seconds
        # compiling is not the floor's time
        if pair.compile: compile_stage(stage, adapter, [(prefix[0], hints[0])], precision)
        def one_epoch(): bare_stage(stage, adapter, list(zip(prefix, hints)), 1, precision=precision)
        epoch += clock(device, one_epoch)[0]
        stage._compiled_call_impl = None
        if stage is parts[-1][0]: break   # no further stage needs its taps
        seconds, prefix = clock(device, lambda: bare_fill(stage, prefix, precision))
        fill += seconds
    return Floor(fill, epoch)

def compile_stage(stage, adapter, batches, precision):
    "Compile a stage, and train it on a few batches so that the compiler has done its work"
    torch.compiler.reset()
    stage.compile()
    bare_stage(stage, adapter, batches, 1, precision=precision)

def resnet(layers): return staged(ResNet(BasicBlock, layers, num_classes=10))

def all_pairs(quick, precision) -> dict:
    "Name -> Pair"
    fashion = Pair('embedded default pair', embedded, fashion_teacher, lambda: tutorial_resnet(blocks=1),
                   n=640 if quick else 8_000, epochs=8, views=4, precision=precision)
    color = Pair('ResNet-34 to ResNet-10, 64 px', lambda n: synthetic_dls(n, 64, 64),
                 lambda: resnet([3, 4, 6, 3]), lambda: resnet([1, 1, 1, 1]),
                 n=128 if quick else 1_024, epochs=12 if quick else 24, views=4, precision=precision)
    return {pair.name: pair for pair in (fashion, color)}
