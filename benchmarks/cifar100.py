"""CIFAR-100, ResNet-56 teaches ResNet-20, as registered in sskd_tutor/data_files/benchmarks/cifar100.toml.

    python benchmarks/cifar100.py plan   # what the runs cost; nothing trains
    python benchmarks/cifar100.py tune   # a row a try, on held-out training images
    python benchmarks/cifar100.py a      # a row a run; then b and c
    python benchmarks/cifar100.py c --method kd   # its runs alone, so that two processes can share a part

The teacher comes first: benchmarks/cifar100_teacher.py. Rows go to results/cifar100_tuning.csv, cifar100.csv
and, one for each stage, cifar100_stages.csv. What is in a file is not made again. One thread.
SSKD_DATA names the folder that holds cifar-100-binary.
"""
import argparse, json, os, tomllib
from datetime import date
from itertools import product

import torch

from cifar100_teacher import AUGMENT, CONFIG, weights_of
from rows import append_new, append_rows, read_rows
from sskd_tutor.compare.budget import schedule
from sskd_tutor.compare.results import append_run, read_runs
from sskd_tutor.compare.runner import examine, loaders, start, stats_of, train_cell, valid_accuracy
from sskd_tutor.compare.images import load_data
from sskd_tutor.compare.study import cells, run_key, study
from sskd_tutor.core.device import fast_bf16
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import environment
from sskd_tutor.measure.fidelity import all_logits
from sskd_tutor.nets.small import cifar_net
from sskd_tutor.nets.weights import load_weights
from sskd_tutor.nets.words import NetSource, net_sources

RESULTS = pkg_data/'benchmarks/results'
TUNING, RUNS, STAGES = (RESULTS/f'cifar100{what}.csv' for what in ('_tuning', '', '_stages'))
TRIED = 'method lr accuracy_valid gmacs epochs seconds seed images held_out device date'.split()
STITCHED = 'method seed images budget stage stitched evaluated_on date'.split()
OF_STAGE = STITCHED[:5]   # what tells the rows of stages apart
TOLD = 'method seed images budget accuracy_last agreement gmacs seconds'.split()
PAIR = dict(teacher='cifar100:resnet56', student='cifar:resnet20', seen='cifar100',
            teacher_data='the 50,000 training images of CIFAR-100')
UNTRAINED = PAIR | dict(teacher='cifar:resnet56')   # costs the same, and needs no weights
COMMON = dict(data='cifar100', bs=64, augment=AUGMENT,
              allow_seen=True)   # 10 test images are training images, too

def config(): return tomllib.loads(CONFIG.read_text())

def trained_teacher(name):
    "'resnet56', or 'resnet56_longer', the same network after more epochs"
    net = cifar_net(name.removesuffix('_longer'))
    return load_weights(net, weights_of(name)).eval().requires_grad_(False)

net_sources.add('cifar100', NetSource('cifar100:resnet56', trained_teacher))

# --- which runs there are

def gmacs_of(part, a):
    "10^9 multiply-adds of so many epochs of labels only"
    images = dict(images=part['images'], holdout=part['holdout'], folder=str(a.data))
    probe = dict(methods=['labels'], seeds=part['seeds'][:1], pairs=[UNTRAINED])
    trial = start(cells(study(probe | images | COMMON))[0], 'cpu')
    return round(schedule('labels', trial, dict(epochs=part['labels_epochs'])).gmacs)

def chosen(rates):
    "method -> the one of these learning rates that did best on held-out images"
    best = {}
    for row in read_rows(TUNING):
        lr, found = float(row['lr']), float(row['accuracy_valid'])
        if lr not in rates: continue
        if found > best.get(row['method'], (-1, 0))[0]: best[row['method']] = found, lr
    return {method: lr for method, (_, lr) in best.items()}

def rates_of(part):
    "The learning rates among which a part's methods choose"
    tuning = config()['tune']
    return [*tuning['lr'], tuning['lr_more']] if part.get('more_rates') else tuning['lr']

def teacher_of(part): return part.get('teacher', 'resnet56')

def precision_of(seed, rows):
    "That of the seed's first run; before it, what this machine is fast in"
    for row in rows:
        if int(row['seed']) == seed: return json.loads(row['settings'])['precision']
    return 'bfloat16' if fast_bf16(torch.device('cpu')) else 'float32'

def cells_of(part, a, lrs, rows=(), pair=PAIR):
    "Every run of a part, seed by seed; `lrs`: method -> its learning rate"
    budget = dict(gmacs=gmacs_of(part, a))
    images = {name: part[name] for name in ('images', 'holdout', 'views', 'memory') if name in part}
    found = []
    for seed, method in product(part['seeds'], part['methods']):
        own = dict(methods=[method], seeds=[seed], lr=lrs[method], precision=precision_of(seed, rows))
        shared = dict(budget=budget, folder=str(a.data), pairs=[pair])
        found += cells(study(shared | own | images | COMMON))
    return found

def plan(a):
    "What each kind of run is, without any weights"
    for name in ('tune', 'a', 'b', 'c'):
        part = config()[name]
        of_one_seed = part | dict(seeds=part['seeds'][:1])
        for cell in cells_of(of_one_seed, a, dict.fromkeys(part['methods'], 5e-3), pair=UNTRAINED):
            phases, gmacs = schedule(cell.method, start(cell, 'cpu'), cell.budget)
            told = ' + '.join(f'{type(p).__name__} {n}' for p, n in phases)
            print(name, cell.method, told, f'{gmacs:.0f} of {cell.budget["gmacs"]} GMACs', flush=True)

# --- tuning

def try_one(cell, lr):
    "The row of a try: how good is it on held-out training images?"
    trial, seconds = train_cell(cell, 'cpu')
    found = valid_accuracy(trial, cell.study.precision)
    return dict(
        method=cell.method, lr=lr, accuracy_valid=round(found, 2), gmacs=round(trial.gmacs),
        epochs=round(trial.passes, 1), seconds=round(seconds), seed=cell.seed,
        images=len(trial.labeled.train.dataset), held_out=len(trial.labeled.valid.dataset),
        device=environment('cpu')['device_name'], date=date.today())

def at_the_edge():
    "Methods that did best with the largest of the first rates"
    part = config()['tune']
    best = chosen(part['lr'])
    return [method for method in part['methods'] if best.get(method) == max(part['lr'])]

def check_tuned(part):
    "A part that chooses among more rates waits until they are tried"
    more = config()['tune']['lr_more']
    tried = {row['method'] for row in read_rows(TUNING) if float(row['lr']) == more}
    missing = [method for method in at_the_edge() if method not in tried]
    if part.get('more_rates') and missing:
        raise SystemExit(f"the learning rate {more:g} is not tried yet for {', '.join(missing)}; "
                         "run: python benchmarks/cifar100.py tune")

def try_rate(lr, methods, a):
    "The tries with this learning rate that are not there yet"
    part = config()['tune'] | dict(methods=methods)
    for cell in cells_of(part, a, dict.fromkeys(methods, lr)):
        there = {(row['method'], float(row['lr'])) for row in read_rows(TUNING)}
        if (cell.method, lr) in there: continue
        row = try_one(cell, lr)
        append_rows(TUNING, TRIED, [row])
        print(*row.values(), flush=True)

def tune(a):
    "Every method with every rate; then the larger one for those that did best with the largest"
    part = config()['tune']
    for lr in part['lr']: try_rate(lr, part['methods'], a)
    try_rate(part['lr_more'], at_the_edge(), a)

# --- the study

def stitched(student, teacher, dl, precision):
    "stage -> accuracy, %, of the student up to it under the rest of the teacher"
    found = {}
    student.eval()
    for name in student.stage_names:
        @torch.no_grad()
        def answer(x, name=name):
            with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16'):
                return teacher.forward_from(student.forward_to(x, name), name)
        logits, y = all_logits(answer, dl)
        found[name] = 100*(logits.argmax(1) == y).double().mean().item()
    return found

def test_dl(a):
    "The official test images, normalized as the training images are"
    data = load_data('cifar100', str(a.data))
    return loaders(data.test, data.test, 0, 256, torch.device('cpu'), stats_of(data.train))[1]

def stage_rows(cell, trial, row, a):
    "Where do the points go? A row for each stage"
    common = dict(method=cell.method, seed=cell.seed, images=cell.images, budget=row['budget'],
                  evaluated_on=row['evaluated_on'], date=date.today())
    found = stitched(trial.student, trial.teacher, test_dl(a), cell.study.precision)
    return [common | dict(stage=stage, stitched=round(value, 2)) for stage, value in found.items()]

def run(a):
    "The runs of a part that are not there yet"
    part = config()[a.what]
    check_tuned(part)
    pair = PAIR | dict(teacher=f'cifar100:{teacher_of(part)}')
    for cell in cells_of(part, a, chosen(rates_of(part)), read_runs(RUNS).to_dict('records'), pair):
        if a.method not in (None, cell.method): continue
        there = {run_key(row) for row in read_runs(RUNS, repair=True).to_dict('records')}
        if cell.key in there: continue
        trial, seconds = train_cell(cell, 'cpu')
        row = examine(cell, trial, seconds, 'cpu')
        if cell.method.startswith(('sskd', 'all_at_once')):
            append_new(STAGES, STITCHED, stage_rows(cell, trial, row, a), OF_STAGE)
        append_run(RUNS, row)   # last: where a run's row is, those of its stages are
        print(*(row[name] for name in TOLD), flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['tune', 'a', 'b', 'c', 'plan'])
    p.add_argument('--method', help='make only its runs')
    p.add_argument('--data', default=os.environ.get('SSKD_DATA'), help='holds cifar-100-binary (SSKD_DATA)')
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    if not a.data: p.error('name the folder that holds cifar-100-binary with --data, or in SSKD_DATA')
    weights = None if a.what == 'plan' else weights_of(teacher_of(config()[a.what]))
    if weights and not weights.exists():
        p.error(f'{weights} is missing: python benchmarks/cifar100_teacher.py trains the teacher '
                '(that of part c with --longer)')
    torch.set_num_threads(a.threads)
    dict(tune=tune, plan=plan).get(a.what, run)(a)

if __name__ == '__main__': main()
