"""Accuracy against compute: the study that `curves.toml` describes (resumable; see --help).

One row a run in sskd_tutor/data_files/benchmarks/results/curves.csv. Rows of the study `tuning` are examined
on held-out training images, all others on the test images. `settings` holds what the run was made with; `as`
in it is the method with its knob, as `sskd_tutor compare` takes it. `cpu_seconds` is what the process itself
computed, on one thread.
"""
import argparse, json, time, tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import torch
from rows import append_rows

from sskd_tutor.compare.curves import whole_rows
from sskd_tutor.compare.budget import schedule, train
from sskd_tutor.compare.methods import parsed
from sskd_tutor.compare.runner import run_cell, start
from sskd_tutor.compare.study import cells, study
from sskd_tutor.core.errors import nearest
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.state import environment
from sskd_tutor.measure.fidelity import all_logits, fidelity

FOLDER = pkg_data/'benchmarks'
COLUMNS = ('study method settings pair images budget seed epochs gmacs accuracy agreement kl seconds '
           'cpu_seconds evaluated_on device date').split()
KEY = ['study', 'method', 'settings', 'pair', 'images', 'budget', 'seed']

@dataclass(frozen=True)
class Setting:
    "What may be chosen for a method"
    name: str    # the method with its knob, e.g. 'kd[T=2.]'
    lr: float
    bs: int

@dataclass(frozen=True)
class Run:
    "One run of the study"
    study: str
    method: str      # without its knob
    setting: Setting
    images: int
    budget: int      # in units
    seed: int

# --- the plan

def read_config(path=FOLDER/'curves.toml'):
    "The study as a dict, checked"
    config = tomllib.loads(Path(path).read_text())
    known = [*config['methods'], 'crd_or_reviewkd', 'best_rival']
    for entry in config['order']:
        for method in entry.get('tune', entry.get('methods')):
            if method not in known: raise ValueError(f"order names {method!r}; {nearest(method, known)}")
    return config

def settings_of(config, method):
    "The six settings of a method"
    how = config['methods'][method]
    usual, *others = how['as']
    first = config['tuning']['first']
    found = [Setting(usual, **point) for point in first['grid']]
    found += [Setting(other, **first['knobs']) for other in others]
    return found + [Setting(usual, **point) for point in how.get('more', [])]

def row_key(config, run):
    "The columns that tell a run from all others, as text"
    settings = dict(config['fixed'], lr=run.setting.lr, bs=run.setting.bs)
    settings['as'] = run.setting.name
    pair = f"{config['pair']['teacher']} > {config['pair']['student']}"
    values = dict(study=run.study, method=run.method, settings=json.dumps(settings, sort_keys=True),
                  pair=pair, images=run.images, budget=run.budget*config['unit'], seed=run.seed)
    return {name: str(value) for name, value in values.items()}

def key_of(config, run): return tuple(row_key(config, run).values())

def cell_of(config, run):
    "The same run for the package's own runner"
    budget = dict(gmacs=run.budget*config['unit'])
    described = dict(methods=[run.setting.name], seeds=[run.seed], pairs=[config['pair']], images=run.images,
                     budget=budget, lr=run.setting.lr, bs=run.setting.bs, **config['fixed'])
    return cells(study(described))[0]

# --- what is there

def read_rows(path):
    "Key -> row of a file; a line that was cut off is left out, a file of another kind refused"
    if not Path(path).exists(): return {}
    head, found = whole_rows(path)
    if head != COLUMNS:
        raise ValueError(f"{path} is no file of this study: its columns are {head}; name another file")
    rows = {}
    for row in found: rows.setdefault(tuple(row[name] for name in KEY), row)
    return rows

# --- choosing, on held-out images

def tuning_runs(config, rows, method):
    "The runs that choose a method's settings, as far as they are known: the second round needs the first"
    t = config['tuning']
    def run(setting, budget): return Run('tuning', method, setting, t['images'], budget, t['seed'])
    first = [run(setting, t['first']['budget']) for setting in settings_of(config, method)]
    done = [accuracy_of(config, rows, one) for one in first]
    if None in done: return first
    best = sorted(range(len(first)), key=lambda i: -done[i])[:t['again']['best']]
    return first + [run(first[i].setting, t['again']['budget']) for i in sorted(best)]

def accuracy_of(config, rows, run):
    "Of a run that is there, else None"
    row = rows.get(key_of(config, run))
    return float(row['accuracy']) if row else None

def chosen(config, rows, method):
    "(the best setting of a method, its accuracy on held-out images), or None while its tuning is not over"
    budget = config['tuning']['again']['budget']
    again = [run for run in tuning_runs(config, rows, method) if run.budget == budget]
    found = [(accuracy_of(config, rows, run), run.setting) for run in again]
    if not found or any(accuracy is None for accuracy, _ in found): return None
    accuracy, setting = max(found, key=lambda pair: pair[0])
    return setting, accuracy

rivals = dict(crd_or_reviewkd=['crd', 'reviewkd'],
              best_rival=['dkd', 'simkd', 'crd', 'reviewkd', 'normalized'])   # beside KD, which always runs

def resolved(config, rows, method):
    "The method that a name stands for; None while that is not known"
    if method not in rivals: return method
    found = {name: chosen(config, rows, name) for name in rivals[method]}
    if None in found.values(): return None
    return max(found, key=lambda name: found[name][1])

# --- in which order

def seeds_of(config, entry):
    "All of the study, or an entry's first few"
    return config['seeds'][:entry.get('n_seeds')]

def runs_of(config, rows, entry):
    "The runs of an entry of the order, as far as they are known"
    if 'tune' in entry:
        return [run for method in entry['tune'] for run in tuning_runs(config, rows, method)]
    found = []
    for budget in entry['budgets']:
        for seed in seeds_of(config, entry):
            for name in entry['methods']:
                method = resolved(config, rows, name)
                best = chosen(config, rows, method) if method else None
                if best: found.append(Run(entry['study'], method, best[0], entry['images'], budget, seed))
    return found

def next_run(config, rows):
    "The first run that is not there, or None"
    for entry in config['order']:
        for run in runs_of(config, rows, entry):
            if key_of(config, run) not in rows: return run
    return None

def n_runs(config, entry):
    "How many runs an entry is, known or not"
    if 'tune' in entry:
        best = config['tuning']['again']['best']
        return sum(len(settings_of(config, method)) + best for method in entry['tune'])
    return len(entry['budgets'])*len(seeds_of(config, entry))*len(entry['methods'])

def tuning_units(config, method):
    "The budget of a method's tuning: every setting once, the best ones again"
    first, again = config['tuning']['first'], config['tuning']['again']
    return len(settings_of(config, method))*first['budget'] + again['best']*again['budget']

def gmacs_of(config, entry):
    "10^9 multiply-adds of all its runs"
    if 'tune' in entry: return sum(tuning_units(config, method) for method in entry['tune'])*config['unit']
    return sum(entry['budgets'])*len(seeds_of(config, entry))*len(entry['methods'])*config['unit']

def plan(config, rate=30.):
    "A row for each entry of the order: what, runs, GMACs, hours at so many GMACs a second"
    table = []
    for entry in config['order']:
        words = ', '.join(entry.get('tune', entry.get('methods')))
        if 'tune' in entry: what = 'tuning'
        else: what = f"{entry['study']}, {entry['images']:,} images, {entry['budgets']} x"
        gmacs = gmacs_of(config, entry)
        hours = round(gmacs/rate/3600, 1)
        table.append(dict(what=what, runs=n_runs(config, entry), gmacs=gmacs, hours=hours, methods=words))
    return pd.DataFrame(table)

def check_all(config, only=()):
    "Every setting of every method can be made, and spends about its budget: an error now, not after hours"
    for method in only or config['methods']:
        # a learning rate changes neither
        runs = {(run.setting.name, run.setting.bs): run for run in tuning_runs(config, {}, method)}
        for run in runs.values(): check_run(config, run)

def check_run(config, run):
    "Put one run together, and say what it spends"
    setting = run.setting
    if parsed(setting.name).name != run.method:
        raise ValueError(f"{setting.name!r} is listed as {run.method!r}")
    cell = cell_of(config, run)
    gmacs = schedule(cell.method, start(cell, 'cpu'), cell.budget).gmacs
    print(f"{setting.name}, lr {setting.lr}, bs {setting.bs}: {gmacs:.0f} of "
          f"{run.budget*config['unit']} GMACs", flush=True)

# --- making them

def held_out(cell):
    "Train, then look at the held-out images; no test image is touched"
    begin = time.time()
    trial = start(cell, 'cpu')
    train(cell.method, trial, cell.budget)
    seconds = time.time() - begin
    for net in (trial.student, trial.teacher): net.eval()
    with torch.no_grad():
        logits, y = all_logits(trial.student, trial.labeled.valid)
        of_teacher, _ = all_logits(trial.teacher, trial.labeled.valid)
    accuracy = round(100*(logits.argmax(1) == y).double().mean().item(), 2)
    close = {name: round(value, 4) for name, value in fidelity(of_teacher, logits).items()}
    return dict(close, epochs=round(trial.passes, 1), gmacs=round(trial.gmacs, 1), accuracy=accuracy,
                seconds=round(seconds), evaluated_on=f'held-out-{len(y)}')

def examined(cell):
    "Train, then look at the test images"
    row = run_cell(cell, 'cpu')
    return row | dict(accuracy=row['accuracy_last'])

def make(config, run):
    "A row of the file"
    cell, begin = cell_of(config, run), time.process_time()
    row = held_out(cell) if run.study == 'tuning' else examined(cell)
    cpu = round(time.process_time() - begin)
    own = dict(cpu_seconds=cpu, device=environment('cpu')['device_name'], date=date.today())
    row = row | own | row_key(config, run)
    return {name: str(row[name]) for name in COLUMNS}

def print_plan(config, rows):
    table = plan(config)
    hours = table.hours.sum()
    print(table.to_string(index=False), f"\n{table.runs.sum()} runs, {hours:.0f} hours of one core; "
          f"{len(rows)} runs are there")

def make_runs(config, path, most):
    "Make the runs that are not there, at most so many"
    made = 0
    while (run := next_run(config, read_rows(path))) and (most is None or made < most):
        row = make(config, run)
        append_rows(Path(path), COLUMNS, [row])
        made += 1
        setting = run.setting
        print(f"{run.study} {setting.name} lr {setting.lr} bs {setting.bs}, {run.budget} x, "
              f"{run.images} images, seed {run.seed}: {row['accuracy']} %, {row['gmacs']} G, "
              f"{row['seconds']} s ({row['cpu_seconds']} CPU)", flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--csv', type=Path, default=FOLDER/'results/curves.csv')
    p.add_argument('--plan', action='store_true', help='print the plan, make nothing')
    p.add_argument('--check', nargs='*', metavar='METHOD', help='put every setting together, make nothing')
    p.add_argument('--most', type=int, help='stop after so many runs')
    a = p.parse_args()
    config = read_config()
    if a.plan: return print_plan(config, read_rows(a.csv))
    if a.check is not None: return check_all(config, a.check)
    torch.set_num_threads(1)
    make_runs(config, a.csv, a.most)

if __name__ == '__main__': main()
