"""Speed and memory against the plain published way, labels-only training and a bare loop.

    python benchmarks/bench.py      # see --help

Ratios come from one run with the sides interleaved in each repeat; the value is the median of the repeats,
`low` and `high` their extremes. Whole runs of ours are timed, every epoch of them. The plain way and
labels-only training do the same work in each epoch, so `timed_epochs` of theirs are timed and multiplied; the
figure 'plain way: epochs are alike' is one whole run that says whether that is right. No side validates, and
the head is left out on all sides, as in the formulas. Rows are written as soon as they are there, so that
`--only` can do the table in parts. Where `target` is empty the row is for information.
"""
import argparse, csv, json, os, re, subprocess, sys, threading, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import mean, median, stdev

# What needs torch is imported where it is used: `gpu.py --wheels` may have to install it first.

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]

DEFAULT_VIEWS = 4            # remembered views of an image; the accuracy with so many has a target
EMBEDDED_TRAINING = 8_000    # training images that travel with the package
WORDS = {True: 'holds', False: 'MISSED', None: ''}    # of a row that has a target, or none

def say(line): print(time.strftime('[%H:%M:%S]'), line, flush=True)

def machine_name():
    import torch
    if torch.cuda.is_available(): return re.sub(r'\W+', '-', torch.cuda.get_device_name().lower())
    cpu = Path('/proc/cpuinfo')
    has_amx = cpu.exists() and 'amx_bf16' in cpu.read_text()
    return f"cpu-{os.cpu_count()}-cores" + ('-amx' if has_amx else '')

# --- the table

def meets(value, target):
    "Does a value meet a target such as '>= 0.9 and <= 1.1'? None if there is no target"
    bounds = re.fullmatch(r'(?:>= ([-\d.]+))?(?: and )?(?:<= ([-\d.]+))?', target).groups()
    low, high = [float(bound) if bound else None for bound in bounds]
    if low is None and high is None: return None
    is_high_enough = low is None or value >= low
    is_low_enough = high is None or value <= high
    return bool(is_high_enough and is_low_enough)

def rounded(value, digits):
    "A number, or the numbers of a list, rounded; all else as it is"
    if isinstance(value, float): return round(value, digits)
    if isinstance(value, list): return [rounded(each, digits) for each in value]
    return value

def circumstances(precision):
    "Where and when a row was made"
    import torch
    return dict(machine=machine_name(), threads=torch.get_num_threads(), precision=precision,
                load=round(os.getloadavg()[0], 1), torch=torch.__version__, date=str(date.today()))

class Table:
    "The rows on disk; a new row takes the place of the old one of the same figure and pair"
    def __init__(self, path, precision, command, judge=True):
        self.path, self.precision = Path(path), precision
        self.command, self.judge = command, judge
        self.rows = json.loads(self.path.read_text()) if self.path.exists() else []

    def add(self, figure, pair, value, target='', command=None, digits=3, **extra):
        "A row; what `extra` says goes before what is known of this process"
        target = target if self.judge else ''
        holds = meets(value, target)
        row = dict(figure=figure, pair=pair, value=rounded(float(value), digits), target=target, holds=holds,
                   command=command or self.command)
        row |= {name: rounded(each, digits) for name, each in extra.items()}
        row |= {name: each for name, each in circumstances(self.precision).items() if name not in extra}
        self.rows = [r for r in self.rows if (r['figure'], r['pair']) != (figure, pair)]
        self.rows.append(row)
        self.write()
        say(f"{figure} | {pair}: {row['value']} {target} {WORDS[holds]}")

    def write(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ',\n'.join(json.dumps(row) for row in self.rows)
        self.path.write_text(f'[\n{lines}\n]\n')

    def verdict(self):
        judged = [r for r in self.rows if r['holds'] is not None]
        return f"{sum(r['holds'] for r in judged)} of {len(judged)} targets hold ({self.path.name})"

def spread(values):
    "The part of a row that several repeats give"
    return dict(value=median(values), low=min(values), high=max(values), repeats=len(values))

# --- time

def in_turn(sides, repeats, what, until=None):
    """{side: [what it gave in each repeat]}; each side runs once a repeat, in an order that turns round.

    No repeat begins that would not be over at `until`, a time.time()."""
    got, longest = {name: [] for name in sides}, 0
    for repeat in range(repeats):
        begin = time.time()
        if repeat and until is not None and begin + longest > until:
            say(f"{what}: no time for repeat {repeat+1}")
            break
        for name in (list(sides) if repeat % 2 == 0 else list(sides)[::-1]):
            start = time.perf_counter()
            got[name].append(sides[name]())
            say(f"{what}: repeat {repeat+1} of {repeats}, {name}, {time.perf_counter() - start:.1f} s")
        longest = max(longest, time.time() - begin)
    return got

@dataclass
class Repeat:
    "What each side gave in one repeat"
    ours: object        # a pairs.TimedRun
    published: float    # seconds of the plain way
    labels: float       # seconds of labels-only training
    floor: object       # a pairs.Floor

def warm_up(pair):
    "Each side once, on few images"
    from pairs import floor, labels, ours, published
    say(f"{pair.name}: warming up")
    few = min(pair.n, 256)
    ours(pair, pair.views + 1, few)
    published(pair, 1, few)
    labels(pair, 1, few)
    floor(pair, few)

def timed_repeats(pair, timed_epochs, a):
    "All sides in turn"
    from pairs import floor, labels, ours, published
    E, plain_epochs, label_epochs = pair.epochs, timed_epochs['published'], timed_epochs['labels']
    sides = dict(ours=lambda: ours(pair),
                 published=lambda: published(pair, plain_epochs)*E/plain_epochs,
                 labels=lambda: labels(pair, label_epochs)*E/label_epochs,
                 floor=lambda: floor(pair))
    got = in_turn(sides, a.repeats, pair.name, a.until)
    return [Repeat(*each) for each in zip(*got.values())]

def facts_of(pair, repeats, timed_epochs):
    "What every row of a pair says beside its value"
    first = repeats[0].ours.run
    seconds = dict(ours=[round(r.ours.seconds, 2) for r in repeats],
                   published=[round(r.published, 2) for r in repeats],
                   labels=[round(r.labels, 2) for r in repeats],
                   floor_fill=[round(r.floor.fill, 3) for r in repeats],
                   floor_epoch=[round(r.floor.epoch, 3) for r in repeats],
                   ours_epoch=[round(r.ours.epoch_seconds, 3) for r in repeats])
    return dict(E=pair.epochs, R=pair.views, n=pair.n, timed_epochs=timed_epochs, gmacs=first.gmacs,
                planned_gmacs=first.plan.gmacs, remembered=str(first.plan.kept), seconds=seconds)

def add_over_floor(table, pair, repeats, facts, target):
    epochs = [r.ours.epoch_seconds/r.floor.epoch for r in repeats]
    whole_runs = [r.ours.seconds/r.floor.whole_run(pair.views, pair.epochs) for r in repeats]
    table.add('wall time over the floor, epochs on remembered features', pair.name, target=target,
              **spread(epochs), **facts)
    table.add('wall time over the floor, whole run with filling', pair.name, target=target,
              **spread(whole_runs), **facts)

def add_over_plain(table, pair, repeats, facts, predicted, counted):
    "The speed-up; `predicted` by the formula, `counted` on real steps"
    speedups = [r.published/r.ours.seconds for r in repeats]
    of_floor = [r.published/r.floor.whole_run(pair.views, pair.epochs)/predicted for r in repeats]
    table.add('speed-up over the plain way / what the formula predicts', pair.name, target='>= 0.85',
              **spread([speedup/predicted for speedup in speedups]), speedup=median(speedups),
              predicted=predicted, predicted_by_counting=counted, **facts)
    table.add('speed-up over the plain way', pair.name, **spread(speedups), predicted=predicted, **facts)
    table.add("the floor's own speed-up over the plain way / what the formula predicts", pair.name,
              **spread(of_floor), **facts)

def add_over_labels_only(table, pair, repeats, facts, predicted):
    "The wall time; the figure's name is a key of the stored rows, so it keeps its old word"
    ratios = [r.ours.seconds/r.labels for r in repeats]
    table.add('wall time over ordinary training / what the formula gives', pair.name, target='<= 1.1',
              **spread([ratio/predicted for ratio in ratios]), over_labels_only=median(ratios),
              predicted=predicted, **facts)

def add_epochs_alike(table, pair, plain_epochs, most_images):
    "One whole run of the plain way, between two that are timed in part"
    from pairs import published
    E, n = pair.epochs, min(pair.n, most_images)
    def one(): return published(pair, plain_epochs, n)*E/plain_epochs
    say(f"{pair.name}: one whole run of the plain way, {n} images")
    before, whole, after = one(), published(pair, E, n), one()
    table.add('plain way: epochs are alike (whole run / what was timed, multiplied)', pair.name,
              whole/mean((before, after)), '>= 0.9 and <= 1.1', E=E, n=n, seconds=whole)

def times(table, pair, a):
    "The rows of one pair; the SSKDRuns of ours"
    timed_epochs = dict(published=a.plain_epochs, labels=min(2, pair.epochs))
    warm_up(pair)
    repeats = timed_repeats(pair, timed_epochs, a)
    formula, counted = pair.formula(), pair.counted_speedup()
    facts = facts_of(pair, repeats, timed_epochs)
    add_over_floor(table, pair, repeats, facts, a.over_floor)
    add_over_plain(table, pair, repeats, facts, formula['speedup'], counted)
    add_over_labels_only(table, pair, repeats, facts, formula['over_labels_only'])
    if a.whole_n: add_epochs_alike(table, pair, a.plain_epochs, a.whole_n)
    return [r.ours.run for r in repeats]

# --- growth

def official_folder(a):
    "The folder of the official files as a string, None if it is not there"
    return a.folder if Path(a.folder).exists() else None

def possible_sizes(a):
    "Numbers of images; without the official files only those that travel with the package"
    return a.sizes if official_folder(a) else [n for n in a.sizes if n <= EMBEDDED_TRAINING]

def growth(table, pairs, a):
    "Seconds an image with many images over those with few"
    from pairs import Pair, embedded, ours
    base = list(pairs.values())[0]
    folder, sizes = official_folder(a), possible_sizes(a)
    if len(sizes) < 2:
        raise SystemExit(f"growth needs the official files in {a.folder} "
                         "(apt-get install dataset-fashion-mnist), or two sizes up to 8,000: "
                         "--sizes 2000 8000")
    few, many = sizes[0], sizes[-1]
    pair = Pair(base.name, lambda n: embedded(n, folder=folder), base.teacher, base.student, many,
                epochs=1, views=1, precision=base.precision)
    ours(pair, 1, few)
    got = in_turn({n: lambda n=n: ours(pair, 1, n).seconds for n in sizes}, a.repeats, 'growth')
    per_image = {n: [seconds/n for seconds in values] for n, values in got.items()}
    ratios = [large/small for small, large in zip(per_image[few], per_image[many])]
    seconds = {str(n): round(median(values), 2) for n, values in got.items()}
    table.add(f'growth of wall time, {few:,} to {many:,} images (seconds an image, large over small)',
              pair.name, target='>= 0.9 and <= 1.1', **spread(ratios), E=1, R=1, seconds=seconds)

# --- memory and import, each in processes of their own

def child(*args, env=None):
    "What a new Python process with these arguments says in its last line, JSON"
    command = [sys.executable, *map(str, args)]
    p = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})},
                       stdin=subprocess.DEVNULL)
    if p.returncode: raise SystemExit(f"{args} gave {p.returncode}\n{p.stderr[-2000:]}")
    return json.loads(p.stdout.splitlines()[-1])

def anonymous():
    "Bytes of this process that no file backs"
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'RssAnon:\s+(\d+)', status)[1])*1024

def watched(f):
    "(what a call gave, its peak of anonymous memory above that before it)"
    peak, is_running = anonymous(), True
    def watch():
        nonlocal peak
        while is_running:
            peak = max(peak, anonymous())
            time.sleep(0.005)
    watcher, before = threading.Thread(target=watch), anonymous()
    watcher.start()
    out = f()
    is_running = False
    watcher.join()
    return out, peak - before

def memory_child(n, budget, views, folder):
    "One run; its peak of anonymous memory above that before the run"
    from pairs import Pair, embedded, ours
    from plain import Precision
    from sskd_tutor.data.loaders import fashion_dls
    from sskd_tutor.nets.small import tutorial_resnet
    pair = Pair('', lambda n: embedded(n, folder=folder), lambda: tutorial_resnet(width=8),
                lambda: tutorial_resnet(width=8, blocks=1), n, epochs=1, views=views,
                precision=Precision('float32'), budget=budget)
    ours(pair, views, 500)  # so that buffers of convolutions and imports are there already
    fashion_dls(n=n, folder=folder)
    timed, peak = watched(lambda: ours(pair, views))
    plan, costs = timed.run.plan, timed.run.costs
    held = max(cost.get('bytes', 0) for cost in costs.values())
    print(json.dumps(dict(peak=peak, planned=float(plan.bytes), held=float(held), remembered=str(plan.kept),
                          kept_views=plan.kept_views)))

def memory_of_run(n, budget, views, folder):
    "What `memory_child` says, in a process that gives back at once what is freed: we count what is held"
    env = dict(MALLOC_MMAP_THRESHOLD_='65536', MALLOC_ARENA_MAX='1')
    got = child(here/'bench.py', '--memory-child', n, budget, views, folder or '', env=env)
    say(f"memory: {n} images, budget {budget/1e6:.0f} MB: {got}")
    return got

def memory(table, pairs, a):
    "Peak memory of a run that remembers above that of one that does not, over the budget"
    folder, sizes, R = official_folder(a), possible_sizes(a), 2
    over, held = [], []
    for n in sizes:
        without = memory_of_run(n, 0, R, folder)
        remembering = memory_of_run(n, a.budget, R, folder)
        over.append((remembering['peak'] - without['peak'])/a.budget)
        held.append(remembering['held']/a.budget)
    facts = dict(budget=a.budget, sizes=sizes, each=over, held=held, R=R, repeats=1)
    networks, all_sizes = 'width 8, 2 blocks to 1 block', ', '.join(f'{n:,}' for n in sizes)
    table.add(f"peak memory over the budget, the most of {all_sizes} images "
              "(anonymous, above the same run that remembers nothing)",
              networks, max(over), '<= 1.1', **facts)
    beyond = [o - h for o, h in zip(over, held)]
    table.add(f'growth of peak memory beyond what is remembered, {sizes[0]:,} to {sizes[-1]:,} images, '
              'over the budget',
              networks, beyond[-1] - beyond[0], '<= 0.1', **facts)

def seconds_to_import(statement):
    "Of a statement, in a new process"
    lines = ["import time; s = time.perf_counter()",
             statement,
             "import json; print(json.dumps(time.perf_counter() - s))"]
    return child('-c', '\n'.join(lines), env=dict(PYTHONPATH=str(here.parent)))

def imports_of_first_page():
    "The import lines of the notebook that makes the README"
    index = json.loads((here.parent/'nbs/index.ipynb').read_text())
    cells = [''.join(cell['source']) for cell in index['cells'] if cell['cell_type'] == 'code']
    lines = [line for source in cells for line in source.splitlines()]
    found = [line for line in lines if re.match(r'from (sskd_tutor|fastai)\S* import', line)]
    return '\n'.join(dict.fromkeys(found))

def import_of_every_module():
    files = sorted((here.parent/'sskd_tutor').rglob('*.py'))
    public = [file.relative_to(here.parent) for file in files if not file.stem.startswith('_')]
    return 'import ' + ', '.join('.'.join(file.with_suffix('').parts) for file in public)

def imports(table, pairs, a):
    "Seconds to import ours over seconds to import fastai"
    statements = dict(fastai='import fastai.vision.all', bare='import sskd_tutor',
                      page=imports_of_first_page(), everything=import_of_every_module())
    for statement in statements.values(): seconds_to_import(statement)
    sides = {way: lambda s=statement: seconds_to_import(s) for way, statement in statements.items()}
    got = in_turn(sides, a.import_repeats, 'import')
    names = dict(bare='import sskd_tutor', page='the imports of the first page',
                 everything='import of every module')
    for way, name in names.items():
        ratios = [ours/fastai for fastai, ours in zip(got['fastai'], got[way])]
        table.add(f'{name} / import fastai.vision.all', '', target='' if way == 'everything' else '<= 1.15',
                  **spread(ratios), statement=statements[way], seconds=median(got[way]),
                  fastai_seconds=median(got['fastai']))

# --- accuracy

def runs_by_cell(path):
    "(epochs, views) -> {seed: row}, of views.csv"
    cells = {}
    for row in csv.DictReader(path.open()):
        cells.setdefault((row['epochs'], row['views']), {})[row['seed']] = row
    return cells

def half_interval(differences):
    "Half the width of the 95 % interval of a mean (Student's t)"
    from scipy.stats import t
    n = len(differences)
    return t.ppf(0.975, n - 1)*stdev(differences)/n**0.5

def add_accuracy(table, views, column, head, rows, plain):
    "One comparison over the seeds that both sides have; `rows` and `plain`: {seed: row}"
    seeds = sorted(rows.keys() & plain.keys())
    found = [float(rows[seed][column]) for seed in seeds]
    of_plain = [float(plain[seed][column]) for seed in seeds]
    differences = [ours - theirs for ours, theirs in zip(found, of_plain)]
    points, half = mean(differences), half_interval(differences)
    is_judged = views == str(DEFAULT_VIEWS) and column == 'accuracy_last' and len(seeds) >= 5
    first = rows[seeds[0]]
    table.add(f'test accuracy, {views} remembered views less the plain way with fresh views, points, {head}',
              f"embedded default pair, {first['epochs']} epochs", points,
              target='>= -0.5' if is_judged else '', digits=2,
              command='python benchmarks/views.py; python benchmarks/bench.py --only accuracy',
              low=points - half, high=points + half, interval='95 %, t, paired seeds', seeds=seeds,
              whole_interval_above=bool(points - half >= -0.5), evaluated_on=first['evaluated_on'],
              precision=first['precision'], threads=int(first['threads']), accuracy=mean(found),
              plain_accuracy=mean(of_plain))

def accuracy(table, pairs, a):
    "What remembering views costs, from the rows that views.py wrote"
    path = here/'results/views.csv'
    if not path.exists():
        raise SystemExit(f"{path.name} is not there; run `python benchmarks/views.py` first")
    cells = runs_by_cell(path)
    for (epochs, views), rows in cells.items():
        plain = cells.get((epochs, 'plain'), {})
        if views == 'plain' or len(rows.keys() & plain.keys()) < 2: continue
        add_accuracy(table, views, 'accuracy_last', "new head", rows, plain)
        add_accuracy(table, views, 'accuracy_teacher_head', "teacher's head", rows, plain)

# --- the command

FIGURES = dict(times=times, growth=growth, memory=memory, imports=imports, accuracy=accuracy)

def parser():
    names = list(FIGURES)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--quick', action='store_true',
                   help='in minutes: so few images that setting up weighs more; written to runs/')
    p.add_argument('--only', nargs='+', default=names, metavar='FIGURE',
                   help=f"of {names}; 'times:resnet' takes the pairs whose name holds that")
    p.add_argument('--repeats', type=int, help='3 if left out, 2 with --quick')
    p.add_argument('--precision', choices=['float32', 'bfloat16'], default='float32')
    p.add_argument('--threads', type=int, help="PyTorch's own choice if left out")
    p.add_argument('--out', help='JSON file of rows; benchmarks/results/<machine>.json if left out')
    p.add_argument('--folder', default='/usr/share/datasets/fashion-mnist',
                   help='the official Fashion-MNIST files')
    p.add_argument('--sizes', type=int, nargs='+', help='images, for growth and memory')
    p.add_argument('--budget', type=float, default=800e6,
                   help='bytes, for memory; by default what one look at 60,000 taps of stage 2 nearly fills')
    p.add_argument('--memory-child', nargs=4, help=argparse.SUPPRESS)
    return p

def settle(a):
    "Fill in what was left out"
    import torch
    a.repeats = a.repeats or (2 if a.quick else 3)
    a.plain_epochs = 1 if a.quick else 2
    a.whole_n = 0 if a.quick else 256          # images of the whole run of the plain way
    a.import_repeats = 2 if a.quick else 7
    a.until = None
    a.over_floor = '<= 1.3' if torch.cuda.is_available() else '<= 1.15'
    a.sizes = a.sizes or ([500, 2_000] if a.quick else [5_000, 20_000, 60_000])
    if a.quick: a.budget = min(a.budget, 60e6)  # 2,000 images fit

def out_path(a):
    name = machine_name() + ('' if a.precision == 'float32' else f'-{a.precision}')
    if a.out: return a.out
    if a.quick: return here.parent/'runs'/f'bench-quick-{name}.json'
    return here/'results'/f'{name}.json'

def command_of(a, figure):
    words = ['python benchmarks/bench.py', '--only', figure]
    if a.quick: words.append('--quick')
    if a.precision != 'float32': words += ['--precision', a.precision]
    return ' '.join(words)

def chosen_pairs(p, pairs, part):
    "The pairs whose name holds `part`"
    chosen = [pair for pair in pairs.values() if part.lower() in pair.name.lower()]
    if not chosen: p.error(f"no pair has {part!r} in its name: {list(pairs)}")
    return chosen

def main():
    p = parser()
    a = p.parse_args()
    if a.memory_child:
        n, budget, views, folder = a.memory_child
        return memory_child(int(n), float(budget), int(views), folder or None)
    for wanted in a.only:
        if wanted.split(':')[0] not in FIGURES: p.error(f"--only {wanted}: expected some of {list(FIGURES)}")
    import torch
    from pairs import all_pairs
    from plain import Precision
    if a.threads: torch.set_num_threads(a.threads)
    settle(a)
    out = out_path(a)
    pairs, begun = all_pairs(a.quick, Precision(a.precision)), time.time()
    if a.quick: Path(out).unlink(missing_ok=True)  # it proves nothing for long
    for wanted in a.only:
        figure, _, part = wanted.partition(':')
        table = Table(out, a.precision, command_of(a, wanted))
        if figure == 'times':
            for pair in chosen_pairs(p, pairs, part): times(table, pair, a)
        elif figure == 'accuracy' and not (here/'results/views.csv').exists() and len(a.only) > 1:
            say("accuracy: results/views.csv is not there; run `python benchmarks/views.py` first")
        else: FIGURES[figure](table, pairs, a)
    print(f"{Table(out, a.precision, '').verdict()}, {(time.time() - begun)/60:.1f} minutes")

if __name__ == '__main__': main()
