"""What stage-by-stage distillation is compared with: the plain published way, the floor, labels only.

`plain_sskd` is the reference: the whole teacher and the whole student in each step of each stage, fresh
views, a torch loop. `bare_stage` is the floor: the current stage's forward, backward and optimizer step on
tensors that are there already.
`labels_only` trains the same student on labels through fastai's Learner. None of them validates.
"""
import copy, math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from fastai.vision.all import Learner, norm_bias_params
from torch import Tensor, nn

import sskd_tutor.distill.precision  # noqa: F401, gives Learner its tuned
from sskd_tutor.distill.phase import ValidEvery
from sskd_tutor.distill.losses import mimic_nmse
from sskd_tutor.nets.staged import StagedNet, count_macs
from sskd_tutor.nets.taps import tapped

class Precision:
    "float32, or bfloat16 autocast with channels_last, the same for fastai's loop and for a bare one"
    def __init__(self, name):
        if name not in ('float32', 'bfloat16'):
            raise ValueError(f"precision is {name!r}; expected 'float32' or 'bfloat16'")
        self.name, self.low = name, name == 'bfloat16'

    def tune(self, learn, compile=False):
        "The Learner in this precision; our way and labels-only training are tuned alike"
        return learn.tuned('bf16' if self.low else 'fp32', compile=compile)

    def autocast(self, device):
        if not self.low: return nullcontext()
        return torch.autocast(torch.device(device).type, torch.bfloat16)

    def layout(self, *nets):
        memory_format = torch.channels_last if self.low else torch.contiguous_format
        for net in nets: net.to(memory_format=memory_format)

def adamw(*modules):
    "fastai's defaults: Adam with decoupled weight decay, none on norms and biases"
    net = nn.ModuleList(modules)
    norms_and_biases = {id(p) for p in norm_bias_params(net)}
    learning = [p for p in net.parameters() if p.requires_grad]
    if not learning: return None
    decayed = dict(params=[p for p in learning if id(p) not in norms_and_biases], weight_decay=0.01)
    free = dict(params=[p for p in learning if id(p) in norms_and_biases], weight_decay=0.)
    groups = [group for group in (decayed, free) if group['params']]
    return torch.optim.AdamW(groups, eps=1e-5, fused=True)

def cosine(begin, end, t):
    "Half a cosine wave from one value to another, at `t` (0 to 1) of the way"
    return begin + (1 - math.cos(math.pi*t))*(end - begin)/2

def cycle_at(done, low, high, last):
    "A value of the cycle: up in the first quarter of the steps, down in the rest"
    if done < 0.25: return cosine(low, high, done/0.25)
    return cosine(high, last, (done - 0.25)/0.75)

def one_cycle(opt, done, lr):
    "Set the rate and momentum of fastai's fit_one_cycle at `done` (0 to 1) of the steps"
    for group in opt.param_groups:
        group['lr'] = cycle_at(done, lr/25, lr, lr/1e5)
        group['betas'] = cycle_at(done, 0.95, 0.85, 0.95), 0.99

def steps_of(batches, epochs, opt, lr, one_step):
    "The loop that every bare way shares"
    done, total = 0, epochs*len(batches)
    for epoch in range(epochs):
        if hasattr(batches, 'set_epoch'): batches.set_epoch(epoch)
        for x, y in batches:
            one_cycle(opt, done/total, lr)
            one_step(x.as_subclass(Tensor), y.as_subclass(Tensor)).backward()
            opt.step()
            opt.zero_grad()
            done += 1

def only(net, *learning):
    "Let these modules learn; all else of the network is frozen and in eval mode"
    net.eval().requires_grad_(False)
    for module in learning: module.train().requires_grad_(True)

def plain_stage(
    student: StagedNet, teacher: StagedNet,
    k: int,                  # place of the stage
    adapter: nn.Module,
    dl,                      # training batches of (images, labels)
    epochs: int,
    lr: float = 5e-3,
    loss=mimic_nmse,
    precision=Precision('float32'),
):
    "One stage as published: teacher and student run whole in each step, and hooks read the taps"
    name, hint_name = student.stage_names[k], teacher.stage_names[k]
    only(student, student.stages[name], adapter)
    with tapped(student, [name]) as taps, tapped(teacher, [hint_name]) as hints:
        def one_step(x, y):
            with precision.autocast(x.device):
                with torch.no_grad(): teacher(x)
                student(x)
                pred = adapter(taps[name])
            return loss(pred, hints[hint_name])
        steps_of(dl, epochs, adamw(student.stages[name], adapter), lr, one_step)

def plain_head(student, dl, epochs, lr=5e-3, precision=Precision('float32')):
    "The head on labels, after the whole frozen backbone"
    only(student, student.head)
    def one_step(x, y):
        with precision.autocast(x.device): pred = student(x)
        return F.cross_entropy(pred.float(), y)
    steps_of(dl, epochs, adamw(student.head), lr, one_step)

def plain_sskd(
    student: StagedNet, teacher: StagedNet,
    adapters: list,          # one a stage
    dl,                      # training batches of (images, labels)
    epochs: int,             # of each stage
    head_epochs: int = 0,
    lr: float = 5e-3,
    loss=mimic_nmse,
    precision=Precision('float32'),
):
    "All stages, then the head"
    teacher.eval().requires_grad_(False)
    precision.layout(student, teacher, *adapters)
    for k, adapter in enumerate(adapters):
        plain_stage(student, teacher, k, adapter, dl, epochs, lr, loss, precision)
    if head_epochs: plain_head(student, dl, head_epochs, lr, precision)

def plain_macs(student, teacher, adapters, x) -> list:
    "Multiply-adds an image of one real step of each stage, forward and backward, counted on copies"
    student, teacher, adapters = copy.deepcopy((student, teacher, adapters))
    teacher.eval().requires_grad_(False)
    one_batch = [(x, torch.zeros(len(x)))]
    found = []
    for k, adapter in enumerate(adapters):
        macs = count_macs(lambda: plain_stage(student, teacher, k, adapter, one_batch, 1))
        found.append(macs/len(x))
    return found

def bare_stage(
    stage: nn.Module, adapter: nn.Module,
    batches: list,           # of (what the stage takes, the hint), resident
    epochs: int,
    lr: float = 5e-3,
    loss=mimic_nmse,
    precision=Precision('float32'),
):
    "The floor: the stage's forward, backward and optimizer step, and nothing else"
    only(stage, stage, adapter)
    def one_step(x, hint):
        with precision.autocast(x.device): pred = adapter(stage(x))
        return loss(pred, hint)
    steps_of(batches, epochs, adamw(stage, adapter), lr, one_step)

@torch.no_grad()
def bare_fill(stage, batches, precision=Precision('float32')) -> list:
    "The forward of one frozen stage over batches: what remembering has to compute once a view"
    stage.eval()
    out = []
    for x in batches:
        with precision.autocast(x.device): out.append(stage(x))
    return out

def labels_only(student, dls, epochs, lr=5e-3, precision=Precision('float32'), compile=False):
    "The same student on labels, through fastai's Learner"
    learn = Learner(dls, student, loss_func=nn.CrossEntropyLoss(), cbs=ValidEvery(0))
    learn = precision.tune(learn, compile)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr)
    return learn
