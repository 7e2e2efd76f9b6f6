"""CIFAR-100, ResNet-56 teaches ResNet-20, as registered in sskd_tutor/data_files/benchmarks/cifar100.toml.

    python benchmarks/cifar100.py teacher     # a kill loses at most a fifth of an epoch; the same line goes on
    touch runs/cifar100/finish       # lets its rate fall; then weights and card are in benchmarks/weights
    python benchmarks/cifar100.py tune        # a row a try in results/cifar100_tuning.csv, on held-out training images
    python benchmarks/cifar100.py a           # a row a run in results/cifar100.csv, a row a stage in results/cifar100_stages.csv; then b, c
    python benchmarks/cifar100.py plan        # what the runs cost; nothing trains

SSKD_DATA names the folder that holds cifar-100-binary. Everything is resumable: what is in a file is not made again. One thread.
"""
import argparse, csv, hashlib, json, os, time, tomllib
from datetime import date
from itertools import product
from pathlib import Path

import torch
from fastai.callback.all import ChannelsLast
from fastai.callback.schedule import ParamScheduler
from fastai.vision.all import Callback, CancelFitException, Learner, accuracy, set_seed

from sskd_tutor.compare.methods import schedule
from sskd_tutor.compare.results import append_run, read_runs
from sskd_tutor.compare.runner import examine, loaders, start, stats_of, train_cell, valid_accuracy
from sskd_tutor.compare.study import cells, load_data, run_key, study
from sskd_tutor.core.device import Bf16, fast_bf16, quiet
from sskd_tutor.core.files import pkg_data, read_snapshot
from sskd_tutor.core.state import environment
from sskd_tutor.data.formats import open_data
from sskd_tutor.data.loaders import DeviceDL
from sskd_tutor.data.views import Views
from sskd_tutor.distill.callbacks import StopOnNaN
from sskd_tutor.distill.checkpoint import KeepEpochs
from sskd_tutor.distill.labels import optimizers
from sskd_tutor.distill.phase import ValidEvery
from sskd_tutor.measure.fidelity import all_logits
from sskd_tutor.nets.small import cifar_net
from sskd_tutor.nets.weights import load_weights, save_weights
from sskd_tutor.nets.words import NetSource, build_model, net_sources

here = Path(__file__).resolve().parent
CONFIG = pkg_data/'benchmarks/cifar100.toml'
RESULTS = pkg_data/'benchmarks/results'
WEIGHTS = here/'weights/cifar100_resnet56.safetensors'
AUGMENT = dict(crop=4, flip=True, erase=0)
PAIR = dict(teacher='cifar100:resnet56', student='cifar:resnet20', seen='cifar100', teacher_data='the 50,000 training images of CIFAR-100')
COMMON = dict(data='cifar100', bs=64, augment=AUGMENT, allow_seen=True)  # 10 test images are training images, too

CARD = """# Teacher `cifar100_resnet56`

| | |
| --- | --- |
| network | `cifar:resnet56`: three stages of 16, 32 and 64 channels, {params:.2f} M parameters |
| data it has seen | the 50,000 labeled training images of CIFAR-100 (Krizhevsky, 2009); no test image |
| accuracy | **{acc:.2f} %** on the 10,000 test images (half-precision weights, last epoch; looked at once). RepDistiller publishes 72.34 % after 240 epochs |
| recipe | SGD with momentum 0.9, rate {lr}, falling to 0 in the last fifth, weight decay {wd}, batch {bs}, {epochs:g} epochs, cross-entropy, shift by up to 4 pixels and mirror |
| precision | bfloat16 autocast where the processor has it, else float32; channels_last; weights stored as float16 |
| seed | {seed} |
| sha256 | `{sha}` |
| command | `python benchmarks/cifar100.py teacher` |
| trained | {day}, one CPU thread of a shared machine, torch {torch} |
| license | Apache-2.0 (weights); the images are not in this repository |
"""

def config(): return tomllib.loads(CONFIG.read_text())

# --- the teacher

class Fifths(DeviceDL):
    "A fifth of the images an epoch, so that a kill costs little; five of them see each image once"
    def __len__(self): return len(self.dataset)//5//self.bs

    def get_idxs(self):
        rng = torch.Generator().manual_seed(self.seed*1_000_003 + self.epoch//5)
        order = torch.randperm(len(self.dataset), generator=rng)
        return order.chunk(5)[self.epoch % 5].tolist()

class TellEpoch(Callback):
    "A line for each fifth; stop where somebody asks for the end"
    order = 100  # behind KeepEpochs
    def __init__(self, finish=None): self.finish = finish
    def before_epoch(self): self.begin = time.time()
    def after_epoch(self):
        loss, seconds = float(self.recorder.smooth_loss.value), time.time() - self.begin
        print(f'{(self.epoch + 1)/5:.1f} of {self.n_epoch/5:.1f} epochs: loss {loss:.3f}, {seconds:.0f} s', flush=True)
        if self.finish and self.finish.exists(): raise CancelFitException()

def teacher(a):
    how = config()['teacher']
    if WEIGHTS.exists(): return print(f'{WEIGHTS} is there')
    set_seed(how['seed'], reproducible=True)
    dls = open_data('cifar100', a.data, 32, how['bs'], Views(**AUGMENT), seed=how['seed'], device='cpu')
    dls.loaders[0] = dls.train.new(cls=Fifths)
    net = build_model(how['network'])
    precision = [Bf16()] if fast_bf16(torch.device('cpu')) else []
    learn = Learner(dls, net, metrics=accuracy, opt_func=optimizers[how['opt']], wd_bn_bias=True, cbs=[*precision, ChannelsLast()])
    steady, finish, n = a.folder/'teacher', a.folder/'finish', 5*how['epochs']
    begun = read_snapshot(steady)
    done = begun['epoch'] if begun else 0
    if done < n and not (done and finish.exists()):
        part(learn, steady, how, n, lambda pct: how['lr']*min(1, .05 + pct*n/2), finish)
        done = read_snapshot(steady)['epoch']
    net.load_state_dict(read_snapshot(steady)['net'])
    dls.train.seed += 1
    part(learn, a.folder/'decay', how | dict(steady=done), round(done*how['decay']), lambda pct: how['lr']*(1 - pct))
    publish(net.float().to(memory_format=torch.contiguous_format), dls, how | dict(epochs=done*(1 + how['decay'])/5))

def part(learn, folder, how, n, rate, finish=None):
    "So many fifths of an epoch at a rate; an interrupted part goes on"
    keep = KeepEpochs(folder, how, every=0)
    keep.go_on(learn)
    cbs = [keep, ParamScheduler(dict(lr=rate)), StopOnNaN('the teacher'), ValidEvery(0), TellEpoch(finish)]
    with quiet(learn): learn.fit(n, how['lr'], wd=how['wd'], cbs=cbs)

def publish(net, dls, how):
    "Weights in half precision, with what a recipe wants to know of their images, and a card"
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_weights(net, WEIGHTS, half=True, overwrite=True)
    with quiet(Learner(dls, load_weights(net, WEIGHTS), metrics=accuracy)) as learn: found = 100*learn.validate()[1]
    mean, std = stats_of(dls.train_ds.images)
    meta = dict(classes=[str(c) for c in dls.train_ds.vocab], size=32, mean=mean, std=std, labels_seen=len(dls.train_ds), accuracy=round(found, 2), **how)
    save_weights(net, WEIGHTS, meta, half=True, overwrite=True)
    facts = dict(params=sum(p.numel() for p in net.parameters())/1e6, acc=found, day=date.today(), torch=torch.__version__,
                 sha=hashlib.sha256(WEIGHTS.read_bytes()).hexdigest())
    WEIGHTS.with_suffix('.md').write_text(CARD.format(**how, **facts))
    print(f'teacher: {found:.2f} %')

def trained_teacher(name):
    return load_weights(cifar_net(name), here/f'weights/cifar100_{name}.safetensors').eval().requires_grad_(False)

net_sources.add('cifar100', NetSource('cifar100:resnet56', trained_teacher))

# --- the runs

def gmacs_of(part, a):
    "10^9 multiply-adds of so many epochs of labels only"
    probe = dict(methods=['labels'], seeds=part['seeds'][:1], images=part['images'], holdout=part['holdout'], folder=str(a.data),
                 pairs=[PAIR | dict(teacher='cifar:resnet56')], **COMMON)
    trial = start(cells(study(probe))[0], 'cpu')
    return round(schedule('labels', trial, dict(epochs=part['labels_epochs'])).gmacs)

def chosen():
    "method -> the learning rate that did best on held-out images"
    best = {}
    for row in tries():
        found = float(row['accuracy_valid'])
        if found > best.get(row['method'], (-1, 0))[0]: best[row['method']] = found, float(row['lr'])
    return {method: lr for method, (_, lr) in best.items()}

def precision_of(seed, rows):
    "That of the seed's first run; before it, what this machine is fast in"
    first = next((json.loads(row['settings'])['precision'] for row in rows if int(row['seed']) == seed), None)
    return first or ('bfloat16' if fast_bf16(torch.device('cpu')) else 'float32')

def cells_of(part, a, lrs, rows=()):
    "Every run of a part, seed by seed; `lrs`: method -> its learning rate"
    budget = dict(gmacs=gmacs_of(part, a))
    more = {k: part[k] for k in ('images', 'holdout', 'views', 'memory') if k in part}
    found = []
    for seed, method in product(part['seeds'], part['methods']):
        own = dict(methods=[method], seeds=[seed], lr=lrs[method], precision=precision_of(seed, rows))
        found += cells(study(dict(budget=budget, folder=str(a.data), pairs=[PAIR], **own, **more, **COMMON)))
    return found

# --- tuning

TUNING = RESULTS/'cifar100_tuning.csv'
TRIED = 'method lr accuracy_valid gmacs epochs seconds seed images held_out device date'.split()

def append(path, columns, row):
    new = not path.exists()
    with path.open('a', newline='') as f:
        w = csv.DictWriter(f, columns, lineterminator='\n')
        if new: w.writeheader()
        w.writerow(row)
    print(*row.values(), flush=True)

def tries(): return list(csv.DictReader(TUNING.open())) if TUNING.exists() else []

def tune(a):
    part = config()['tune']
    for lr in part['lr']:
        for cell in cells_of(part, a, dict.fromkeys(part['methods'], lr)):
            if (cell.method, lr) in {(row['method'], float(row['lr'])) for row in tries()}: continue
            trial, seconds = train_cell(cell, 'cpu')
            sizes = dict(images=len(trial.labeled.train.dataset), held_out=len(trial.labeled.valid.dataset))
            append(TUNING, TRIED, dict(method=cell.method, lr=lr, accuracy_valid=round(valid_accuracy(trial, cell.study.precision), 2), gmacs=round(trial.gmacs),
                                       epochs=round(trial.passes, 1), seconds=round(seconds), seed=cell.seed, **sizes,
                                       device=environment('cpu')['device_name'], date=date.today()))

# --- the study

STAGES = RESULTS/'cifar100_stages.csv'
STITCHED = 'method seed images budget stage stitched evaluated_on date'.split()

def stitched(student, teacher, dl, precision):
    "stage -> accuracy, %, of the student up to it under the rest of the teacher; the taps are of the same shapes"
    found = {}
    for name in student.stage_names:
        def answer(x):
            with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16'): return teacher.forward_from(student.forward_to(x, name), name)
        student.eval()
        logits, y = all_logits(torch.no_grad()(answer), dl)
        found[name] = 100*(logits.argmax(1) == y).double().mean().item()
    return found

def test_dl(a):
    data = load_data('cifar100', str(a.data))
    return loaders(data.test, data.test, 0, 256, torch.device('cpu'), stats_of(data.train))[1]

def run(a):
    "The runs of a part that are not there yet"
    path = RESULTS/'cifar100.csv'
    todo = cells_of(config()[a.what], a, chosen(), read_runs(path).to_dict('records'))
    for cell in todo:
        if cell.key in {run_key(row) for row in read_runs(path, repair=True).to_dict('records')}: continue
        trial, seconds = train_cell(cell, 'cpu')
        row = examine(cell, trial, seconds, 'cpu')
        if cell.method.startswith(('sskd', 'all_at_once')):
            for stage, found in stitched(trial.student, trial.teacher, test_dl(a), cell.study.precision).items():
                append(STAGES, STITCHED, dict(method=cell.method, seed=cell.seed, images=cell.images, budget=row['budget'], stage=stage,
                                              stitched=round(found, 2), evaluated_on=row['evaluated_on'], date=date.today()))
        append_run(path, row)
        print(*(row[k] for k in ('method', 'seed', 'images', 'budget', 'accuracy_last', 'agreement', 'gmacs', 'seconds')), flush=True)

def plan(a):
    "What each kind of run is, without any weights"
    global PAIR
    PAIR = PAIR | dict(teacher='cifar:resnet56')
    for name in ('tune', 'a', 'b', 'c'):
        part = config()[name]
        for cell in cells_of(part, a, dict.fromkeys(part['methods'], 5e-3))[:len(part['methods'])]:
            phases, gmacs = schedule(cell.method, start(cell, 'cpu'), cell.budget)
            print(name, cell.method, ' + '.join(f'{type(p).__name__} {n}' for p, n in phases), f'{gmacs:.0f} of {cell.budget["gmacs"]} GMACs', flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['teacher', 'tune', 'a', 'b', 'c', 'plan'])
    p.add_argument('--data', default=os.environ.get('SSKD_DATA'), help='holds cifar-100-binary (SSKD_DATA)')
    p.add_argument('--folder', type=Path, default=Path('runs/cifar100'), help="where the teacher's checkpoints are kept")
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    if not a.data: p.error('name the folder that holds cifar-100-binary with --data, or in SSKD_DATA')
    torch.set_num_threads(a.threads)
    dict(teacher=teacher, tune=tune, plan=plan).get(a.what, run)(a)

if __name__ == '__main__': main()
