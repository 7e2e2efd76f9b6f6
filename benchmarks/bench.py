"""Speed and memory against the plain published way, ordinary training and a bare loop: `python benchmarks/bench.py` (see --help).

Ratios come from one run with the sides interleaved in each repeat; the value is the median of the repeats, `low` and `high` their
extremes. Whole runs of ours are timed, every epoch of them. The plain way and ordinary training do the same work in each epoch, so
`timed_epochs` of theirs are timed and multiplied; the figure 'plain way: epochs are alike' is one whole run that says whether that is right.
No side validates, and the head is left out on all sides, as in the formulas. Rows are written as soon as they are there, so that
`--only` can do the table in parts. Where `target` is empty the row is for information.
"""
import argparse, csv, json, os, re, subprocess, sys, time
from datetime import date
from pathlib import Path
from statistics import mean, median, stdev

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
default_views = 4

def machine_name():
    import torch
    if torch.cuda.is_available(): return re.sub(r'\W+', '-', torch.cuda.get_device_name().lower())
    cpu = Path('/proc/cpuinfo')
    return f"cpu-{os.cpu_count()}-cores" + ('-amx' if cpu.exists() and 'amx_bf16' in cpu.read_text() else '')

class Table:
    "The rows on disk; a new row takes the place of the old one of the same figure and pair"
    def __init__(self, path, precision, command, judge=True):
        self.path, self.precision, self.command, self.judge = Path(path), precision, command, judge
        self.rows = json.loads(self.path.read_text()) if self.path.exists() else []

    def add(self, figure, pair, value, target='', command=None, digits=3, **extra):
        import torch
        target = target if self.judge else ''
        low, high = (float(b) if b else None for b in re.fullmatch(r'(?:>= ([-\d.]+))?(?: and )?(?:<= ([-\d.]+))?', target).groups())
        holds = None if low is high is None else bool((low is None or value >= low) and (high is None or value <= high))
        def short(v): return round(v, digits) if isinstance(v, float) else [short(o) for o in v] if isinstance(v, list) else v
        row = dict(figure=figure, pair=pair, value=short(float(value)), target=target, holds=holds, command=command or self.command, **{k: short(v) for k, v in extra.items()})
        here_now = dict(machine=machine_name(), threads=torch.get_num_threads(), precision=self.precision, load=round(os.getloadavg()[0], 1), torch=torch.__version__, date=str(date.today()))
        row |= {k: v for k, v in here_now.items() if k not in extra}
        self.rows = [r for r in self.rows if (r['figure'], r['pair']) != (figure, pair)] + [row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text('[\n' + ',\n'.join(json.dumps(r) for r in self.rows) + '\n]\n')
        say(f"{figure} | {pair}: {row['value']} {target} {dict([(True, 'holds'), (False, 'MISSED'), (None, '')])[holds]}")

    def verdict(self):
        judged = [r for r in self.rows if r['holds'] is not None]
        return f"{sum(r['holds'] for r in judged)} of {len(judged)} targets hold ({self.path.name})"

def say(line): print(time.strftime('[%H:%M:%S]'), line, flush=True)

def spread(values): return dict(value=median(values), low=min(values), high=max(values), repeats=len(values))

# --- time

def in_turn(sides, repeats, what, until=None):
    "Each side once a repeat, in an order that turns round; {side: [what it gave]}. No repeat begins that would not be over `until` (time.time())"
    got, longest = {k: [] for k in sides}, 0
    for r in range(repeats):
        begin = time.time()
        if r and until is not None and begin + longest > until: say(f"{what}: no time for repeat {r+1}"); break
        for k in (list(sides) if r % 2 == 0 else list(sides)[::-1]):
            start = time.perf_counter()
            got[k].append(sides[k]())
            say(f"{what}: repeat {r+1} of {repeats}, {k}, {time.perf_counter() - start:.1f} s")
        longest = max(longest, time.time() - begin)
    return got

def times(table, pair, a):
    from pairs import floor, labels, ours, published
    E, R, timed = pair.epochs, pair.views, dict(published=a.plain_epochs, labels=min(2, pair.epochs))
    sides = dict(ours=lambda: ours(pair), published=lambda: published(pair, timed['published'])*E/timed['published'],
                 labels=lambda: labels(pair, timed['labels'])*E/timed['labels'], floor=lambda: floor(pair))
    say(f"{pair.name}: warming up")
    small = min(pair.n, 256)
    for f in (lambda: ours(pair, R + 1, small), lambda: published(pair, 1, small), lambda: labels(pair, 1, small), lambda: floor(pair, small)): f()
    got = in_turn(sides, a.repeats, pair.name, a.until)
    formula, counted = pair.formula(), pair.counted_speedup()
    runs = [o[2] for o in got['ours']]
    facts = dict(E=E, R=R, n=pair.n, timed_epochs=timed, gmacs=runs[0].gmacs, planned_gmacs=runs[0].plan.gmacs, remembered=str(runs[0].plan.kept),
                 seconds=dict(ours=[round(o[0], 2) for o in got['ours']], published=[round(o, 2) for o in got['published']], labels=[round(o, 2) for o in got['labels']],
                              floor_fill=[round(o[0], 3) for o in got['floor']], floor_epoch=[round(o[1], 3) for o in got['floor']], ours_epoch=[round(o[1], 3) for o in got['ours']]))
    rows = list(zip(*got.values()))
    table.add('wall time over the floor, epochs on remembered features', pair.name, target=a.over_floor, **spread([o[1]/f[1] for o, _, _, f in rows]), **facts)
    table.add('wall time over the floor, whole run with filling', pair.name, target=a.over_floor, **spread([o[0]/(R*f[0] + E*f[1]) for o, _, _, f in rows]), **facts)
    speedups = [p/o[0] for o, p, _, _ in rows]
    table.add('speed-up over the plain way / what the formula predicts', pair.name, target='>= 0.85', **spread([s/formula['speedup'] for s in speedups]),
              speedup=median(speedups), predicted=formula['speedup'], predicted_by_counting=counted, **facts)
    table.add('speed-up over the plain way', pair.name, **spread(speedups), predicted=formula['speedup'], **facts)
    table.add("the floor's own speed-up over the plain way / what the formula predicts", pair.name, **spread([p/(R*f[0] + E*f[1])/formula['speedup'] for _, p, _, f in rows]), **facts)
    table.add('wall time over ordinary training / what the formula gives', pair.name, target='<= 1.1', **spread([o[0]/w/formula['over_ordinary'] for o, _, w, _ in rows]),
              over_ordinary=median(o[0]/w for o, _, w, _ in rows), predicted=formula['over_ordinary'], **facts)
    if not a.whole_n: return runs
    n = min(pair.n, a.whole_n)
    def one(): return published(pair, timed['published'], n)*E/timed['published']
    say(f"{pair.name}: one whole run of the plain way, {n} images")
    before, whole, after = one(), published(pair, E, n), one()
    table.add('plain way: epochs are alike (whole run / what was timed, multiplied)', pair.name, whole/mean((before, after)), '>= 0.9 and <= 1.1', E=E, n=n, seconds=whole)
    return runs

# --- growth

def growth(table, pairs, a):
    from pairs import Pair, embedded, ours
    base, folder = list(pairs.values())[0], a.folder if Path(a.folder).exists() else None
    sizes = a.sizes if folder else [n for n in a.sizes if n <= 8_000]
    if len(sizes) < 2: raise SystemExit(f"growth needs the official files in {a.folder} (apt-get install dataset-fashion-mnist), or two sizes up to 8,000: --sizes 2000 8000")
    pair = Pair(base.name, lambda n: embedded(n, folder=folder), base.teacher, base.student, sizes[-1], 1, 1, base.precision)
    ours(pair, 1, sizes[0])
    got = in_turn({n: lambda n=n: ours(pair, 1, n)[0] for n in sizes}, a.repeats, 'growth')
    each = {n: [s/n for s in v] for n, v in got.items()}
    ratios = [l/s for s, l in zip(each[sizes[0]], each[sizes[-1]])]
    table.add(f'growth of wall time, {sizes[0]:,} to {sizes[-1]:,} images (seconds an image, large over small)', pair.name, target='>= 0.9 and <= 1.1', **spread(ratios),
              E=1, R=1, seconds={str(n): round(median(v), 2) for n, v in got.items()})

# --- memory and import, each in processes of their own

def child(*args, env=None):
    p = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL)
    if p.returncode: raise SystemExit(f"{args} gave {p.returncode}\n{p.stderr[-2000:]}")
    return json.loads(p.stdout.splitlines()[-1])

def anonymous():  # bytes of this process that no file backs
    return int(re.search(r'RssAnon:\s+(\d+)', Path('/proc/self/status').read_text())[1])*1024

def memory_child(n, budget, views, folder):
    "One run; its peak of anonymous memory above that before the run"
    import threading
    from pairs import Pair, embedded, ours
    from plain import Precision
    from sskd_tutor.data.loaders import fashion_dls
    from sskd_tutor.nets.small import tutorial_resnet
    pair = Pair('', lambda n: embedded(n, folder=folder), lambda: tutorial_resnet(width=8), lambda: tutorial_resnet(width=8, blocks=1), n, 1, views, Precision('float32'), budget)
    ours(pair, views, 500)  # so that buffers of convolutions and imports are there already
    fashion_dls(n=n, folder=folder)
    peak, going = [anonymous()], True
    def watch():
        while going:
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.005)
    watcher, before = threading.Thread(target=watch), anonymous()
    watcher.start()
    run = ours(pair, views)[2]
    going = False
    watcher.join()
    print(json.dumps(dict(peak=peak[0] - before, planned=float(run.plan.bytes), held=float(max(c.get('bytes', 0) for c in run.costs.values())), remembered=str(run.plan.kept), kept_views=run.plan.kept_views)))

def memory(table, pairs, a):
    folder = a.folder if Path(a.folder).exists() else None
    sizes = a.sizes if folder else [n for n in a.sizes if n <= 8_000]
    env, R = dict(MALLOC_MMAP_THRESHOLD_='65536', MALLOC_ARENA_MAX='1'), 2  # what is freed goes back at once: we count what is held
    def peak(n, budget):
        got = child(here/'bench.py', '--memory-child', n, budget, R, folder or '', env=env)
        say(f"memory: {n} images, budget {budget/1e6:.0f} MB: {got}")
        return got
    over, held = [], []
    for n in sizes:
        without, with_ = [peak(n, b) for b in (0, a.budget)]
        over.append((with_['peak'] - without['peak'])/a.budget)
        held.append(with_['held']/a.budget)
    facts = dict(budget=a.budget, sizes=sizes, each=over, held=held, R=R, repeats=1)
    table.add(f"peak memory over the budget, the most of {', '.join(f'{n:,}' for n in sizes)} images (anonymous, above the same run that remembers nothing)",
              'width 8, 2 blocks to 1 block', max(over), '<= 1.1', **facts)
    beyond = [o - h for o, h in zip(over, held)]
    table.add(f'growth of peak memory beyond what is remembered, {sizes[0]:,} to {sizes[-1]:,} images, over the budget', 'width 8, 2 blocks to 1 block', beyond[-1] - beyond[0], '<= 0.1', **facts)

def seconds_to_import(statement):
    return child('-c', f"import time; s = time.perf_counter()\n{statement}\nimport json; print(json.dumps(time.perf_counter() - s))", env=dict(PYTHONPATH=str(here.parent)))

def imports(table, pairs, a):
    index = json.loads((here.parent/'nbs/index.ipynb').read_text())
    lines = [line for c in index['cells'] if c['cell_type'] == 'code' for line in ''.join(c['source']).splitlines()]
    page = '\n'.join(dict.fromkeys(line for line in lines if re.match(r'from (sskd_tutor|fastai)\S* import', line)))
    everything = 'import ' + ', '.join('.'.join(p.relative_to(here.parent).with_suffix('').parts) for p in sorted((here.parent/'sskd_tutor').rglob('*.py')) if not p.stem.startswith('_'))
    ways = dict(fastai='import fastai.vision.all', bare='import sskd_tutor', page=page, everything=everything)
    for w in ways.values(): seconds_to_import(w)
    got = in_turn({k: lambda w=w: seconds_to_import(w) for k, w in ways.items()}, a.import_repeats, 'import')
    for k, name in dict(bare='import sskd_tutor', page="the imports of the first page", everything='import of every module').items():
        table.add(f'{name} / import fastai.vision.all', '', target='' if k == 'everything' else '<= 1.15', **spread([m/f for f, m in zip(got['fastai'], got[k])]),
                  statement=ways[k], seconds=median(got[k]), fastai_seconds=median(got['fastai']))

# --- accuracy

def accuracy(table, pairs, a):
    from scipy.stats import t
    path, cells = here/'results/views.csv', {}
    if not path.exists(): raise SystemExit(f"{path.name} is not there; run `python benchmarks/views.py` first")
    for r in csv.DictReader(path.open()): cells.setdefault((r['epochs'], r['views']), {})[r['seed']] = r
    for (epochs, views), rows in cells.items():
        plain = cells.get((epochs, 'plain'), {})
        seeds = sorted(rows.keys() & plain.keys())
        if views == 'plain' or len(seeds) < 2: continue
        for column, name in dict(accuracy_last="new head", accuracy_teacher_head="teacher's head").items():
            d = [float(rows[s][column]) - float(plain[s][column]) for s in seeds]
            half = t.ppf(0.975, len(d) - 1)*stdev(d)/len(d)**0.5
            judged = views == str(default_views) and column == 'accuracy_last' and len(seeds) >= 5
            table.add(f'test accuracy, {views} remembered views less the plain way with fresh views, points, {name}', f'embedded default pair, {epochs} epochs', mean(d), '>= -0.5' if judged else '', digits=2,
                      command='python benchmarks/views.py; python benchmarks/bench.py --only accuracy', low=mean(d) - half, high=mean(d) + half, interval='95 %, t, paired seeds',
                      seeds=seeds, whole_interval_above=bool(mean(d) - half >= -0.5), evaluated_on=rows[seeds[0]]['evaluated_on'], precision=rows[seeds[0]]['precision'], threads=int(rows[seeds[0]]['threads']), accuracy=mean(float(rows[s][column]) for s in seeds),
                      plain_accuracy=mean(float(plain[s][column]) for s in seeds))

def main():
    figures = ['times', 'growth', 'memory', 'imports', 'accuracy']
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--quick', action='store_true', help='in minutes: so few images that setting up weighs more; written to runs/')
    p.add_argument('--only', nargs='+', default=figures, metavar='FIGURE', help=f"of {figures}; 'times:resnet' takes the pairs whose name holds that")
    p.add_argument('--repeats', type=int, help='3 if left out, 2 with --quick')
    p.add_argument('--precision', choices=['float32', 'bfloat16'], default='float32')
    p.add_argument('--threads', type=int, help="PyTorch's own choice if left out")
    p.add_argument('--out', help='JSON file of rows; benchmarks/results/<machine>.json if left out')
    p.add_argument('--folder', default='/usr/share/datasets/fashion-mnist', help='the official Fashion-MNIST files')
    p.add_argument('--sizes', type=int, nargs='+', help='images, for growth and memory')
    p.add_argument('--budget', type=float, default=800e6, help='bytes, for memory; by default what one look at 60,000 taps of stage 2 nearly fills')
    p.add_argument('--memory-child', nargs=4, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.memory_child:
        n, budget, views, folder = a.memory_child
        return memory_child(int(n), float(budget), int(views), folder or None)
    for o in a.only:
        if o.split(':')[0] not in figures: p.error(f"--only {o}: expected some of {figures}")
    import torch
    from pairs import all_pairs
    from plain import Precision
    if a.threads: torch.set_num_threads(a.threads)
    a.repeats = a.repeats or (2 if a.quick else 3)
    a.plain_epochs, a.whole_n, a.import_repeats = (1, 0, 2) if a.quick else (2, 256, 7)
    a.until = None
    a.over_floor = '<= 1.3' if torch.cuda.is_available() else '<= 1.15'
    a.sizes = a.sizes or ([500, 2_000] if a.quick else [5_000, 20_000, 60_000])
    if a.quick: a.budget = min(a.budget, 60e6)  # 2,000 images fit
    name = machine_name() + ('' if a.precision == 'float32' else f'-{a.precision}')
    out = a.out or (here.parent/'runs'/f'bench-quick-{name}.json' if a.quick else here/'results'/f'{name}.json')
    pairs, begun = all_pairs(a.quick, Precision(a.precision)), time.time()
    if a.quick: Path(out).unlink(missing_ok=True)  # it proves nothing for long
    for o in a.only:
        figure, _, part = o.partition(':')
        table = Table(out, a.precision, ' '.join(['python benchmarks/bench.py', '--only', o] + ['--quick']*a.quick + (['--precision', a.precision] if a.precision != 'float32' else [])))
        if figure == 'times':
            chosen = [p for p in pairs.values() if part.lower() in p.name.lower()]
            if not chosen: p.error(f"no pair has {part!r} in its name: {list(pairs)}")
            for pair in chosen: times(table, pair, a)
        elif figure == 'accuracy' and not (here/'results/views.csv').exists() and len(a.only) > 1: say("accuracy: results/views.csv is not there; run `python benchmarks/views.py` first")
        else: globals()[figure](table, pairs, a)
    print(f"{Table(out, a.precision, '').verdict()}, {(time.time() - begun)/60:.1f} minutes")

if __name__ == '__main__': main()
