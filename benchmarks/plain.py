"""What stage-by-stage distillation is compared with: the plain published way, the floor, and ordinary training.

`plain_sskd` is the reference: the whole teacher and the whole student in each step of each stage, fresh views, a torch loop.
`bare_stage` is the floor: the current stage's forward, backward and optimizer step on tensors that are there already.
`ordinary` trains the same student on labels through fastai's Learner. None of them validates.
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
        if name not in ('float32', 'bfloat16'): raise ValueError(f"precision is {name!r}; expected 'float32' or 'bfloat16'")
        self.name, self.low = name, name == 'bfloat16'
    def tune(self, learn, compile=False): return learn.tuned('bf16' if self.low else 'fp32', compile=compile)  # ours and ordinary training alike
    def autocast(self, device): return torch.autocast(torch.device(device).type, torch.bfloat16) if self.low else nullcontext()
    def layout(self, *nets):
        for net in nets: net.to(memory_format=torch.channels_last if self.low else torch.contiguous_format)

def adamw(*modules):  # fastai's defaults: Adam with decoupled weight decay, none on norms and biases
    net = nn.ModuleList(modules)
    free = {id(p) for p in norm_bias_params(net)}
    params = [p for p in net.parameters() if p.requires_grad]
    groups = [dict(params=[p for p in params if (id(p) in free) == f], weight_decay=0. if f else 0.01) for f in (False, True)]
    return torch.optim.AdamW([g for g in groups if g['params']], eps=1e-5, fused=True) if params else None

def one_cycle(opt, done, lr):  # fastai's fit_one_cycle at `done` (0 to 1) of the steps
    def cosine(a, b, t): return a + (1 - math.cos(math.pi*t))*(b - a)/2
    def at(low, high, last): return cosine(low, high, done/0.25) if done < 0.25 else cosine(high, last, (done - 0.25)/0.75)
    for g in opt.param_groups: g['lr'], g['betas'] = at(lr/25, lr, lr/1e5), (at(0.95, 0.85, 0.95), 0.99)

def steps_of(batches, epochs, opt, lr, one_step):  # the loop that every bare way shares
    done, total = 0, epochs*len(batches)
    for epoch in range(epochs):
        if hasattr(batches, 'set_epoch'): batches.set_epoch(epoch)
        for x, y in batches:
            one_cycle(opt, done/total, lr)
            one_step(x.as_subclass(Tensor), y.as_subclass(Tensor)).backward()
            opt.step()
            opt.zero_grad()
            done += 1

def only(net, *train):  # the modules that learn; all else frozen and in eval mode
    net.eval().requires_grad_(False)
    for m in train: m.train().requires_grad_(True)

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
    "One stage as published: in each step the whole teacher and the whole student run, and hooks read the taps"
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
    "The head on labels, behind the whole frozen backbone"
    only(student, student.head)
    def one_step(x, y):
        with precision.autocast(x.device): pred = student(x)
        return F.cross_entropy(pred.float(), y)
    steps_of(dl, epochs, adamw(student.head), lr, one_step)

def plain_sskd(student, teacher, adapters, dl, epochs, head_epochs=0, lr=5e-3, loss=mimic_nmse, precision=Precision('float32')):
    "All stages, then the head; `adapters` is a list, one a stage"
    teacher.eval().requires_grad_(False)
    precision.layout(student, teacher, *adapters)
    for k, adapter in enumerate(adapters): plain_stage(student, teacher, k, adapter, dl, epochs, lr, loss, precision)
    if head_epochs: plain_head(student, dl, head_epochs, lr, precision)

def plain_macs(student, teacher, adapters, x) -> list:
    "Multiply-adds an image of one real step of each stage, forward and backward, counted on copies"
    student, teacher, adapters = copy.deepcopy((student, teacher, adapters))
    teacher.eval().requires_grad_(False)
    one = [(x, torch.zeros(len(x)))]
    return [count_macs(lambda: plain_stage(student, teacher, k, a, one, 1))/len(x) for k, a in enumerate(adapters)]

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

def ordinary(student, dls, epochs, lr=5e-3, precision=Precision('float32'), compile=False):
    "The same student on labels, through fastai's Learner"
    learn = precision.tune(Learner(dls, student, loss_func=nn.CrossEntropyLoss(), cbs=ValidEvery(0)), compile)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr)
    return learn
