"""The same table on a GPU, in 8 minutes on a bare machine (see --help); `--tiny` runs the same code on a CPU.

    python benchmarks/gpu.py

A machine that has torch but neither fastai nor a network gets its wheels from a folder, fetched where there
is a network:

    python benchmarks/gpu.py --fetch-wheels wheels --python-version 3.12
    python benchmarks/gpu.py --wheels wheels            # there

bfloat16, channels_last, the stage that learns compiled (the plain way runs eager, as published), images and
features resident on the device. ResNet-56-like to ResNet-20-like on CIFAR-shaped random images. Beside the
ratios of bench.py: seconds of a full run with head, and for each stage the share of the arithmetic and of the
bandwidth that a large matrix product and a large copy reach on the same device in the same minute.
"""
import argparse, subprocess, sys, tempfile, time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

# torch, fastai and what needs them are imported where they are used: `install` may have to bring them first

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]

# what a machine with torch alone lacks
WHEELS = '''fastai>=2.8 fastcore>=2.2.22 fasttransform fastdownload fastprogress plum-dispatch<2.10 beartype
            python-fasthtml starlette python-multipart itsdangerous
            plotly anywidget psygnal ipywidgets traitlets comm ipython safetensors psutil'''.split()
PLATFORMS = 'manylinux2014_x86_64', 'manylinux_2_17_x86_64', 'manylinux_2_28_x86_64', 'any'

# --- wheels for a bare machine

def pip(*args): subprocess.run([sys.executable, '-m', 'pip', *args], check=True)

def fetch(folder, version):
    "Download the wheels for a Python version"
    platforms = [word for platform in PLATFORMS for word in ('--platform', platform)]
    pip('download', '--quiet', '--no-deps', '--only-binary=:all:', '--implementation', 'cp',
        '--python-version', version, *platforms, '-d', folder, *WHEELS)
    wheels = list(Path(folder).glob('*.whl'))
    print(f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels)/1e6:.0f} MB in {folder}")

def install(folder):
    "Beside what the machine has, for this process alone"
    to = tempfile.mkdtemp(prefix='sskd_tutor-wheels-')
    wheels = map(str, Path(folder).glob('*.whl'))
    pip('install', '--quiet', '--no-index', '--no-deps', '--target', to, *wheels)
    sys.path.append(to)

# --- how near a stage comes to what the device can do

def seconds_of(f, device, repeats=10):
    "Mean seconds of a call"
    from pairs import sync
    f()
    sync(device)
    start = time.perf_counter()
    for _ in range(repeats): f()
    sync(device)
    return (time.perf_counter() - start)/repeats

@dataclass
class Reach:
    "What a device can do"
    macs: float    # multiply-adds a second of a large matrix product
    bytes: float   # bytes a second of a large copy

def reach(device, size) -> Reach:
    import torch
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    source = torch.empty(size*size*8, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    macs_per_second = size**3/seconds_of(lambda: a @ a, device)
    copied = 2*source.numel()   # read and written
    return Reach(macs_per_second, copied/seconds_of(lambda: target.copy_(source), device))

def moved_bytes(f):
    "Bytes that the operators of a call read and write when nothing is fused; a compiled step moves fewer"
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    def bytes_of(*values):
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
        return sum(t.numel()*t.element_size() for t in tensors)
    class Bytes(TorchDispatchMode):
        total = 0
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if not func.is_view: Bytes.total += bytes_of(args, kwargs, out)
            return out
    with Bytes(): f()
    return Bytes.total

def epoch_seconds(run, first):
    "stage -> median seconds of an epoch of a run, from epoch `first` on"
    h = run.history
    late = h[(h.measure == 'seconds') & (h.epoch >= first)]
    return late.groupby('stage').value.median()

def shares(table, pair, run, device, size):
    "For each stage, on remembered features: how near an epoch of ours comes to what the device can do"
    import torch
    from dataclasses import replace
    from pairs import adapters_of
    from plain import bare_stage
    from sskd_tutor.distill.check import first_batch
    from sskd_tutor.nets.staged import count_macs
    can = reach(device, size)
    dls, student, teacher = replace(pair, compile=False).make()
    adapters = adapters_of(dls, student, teacher)
    images = len(dls.train)*dls.train.bs
    pair.precision.layout(student, teacher, *adapters)
    seconds = epoch_seconds(run, pair.views)
    tap = hint = first_batch(dls.train)[0].to(device)
    for k, (name, adapter) in enumerate(zip(student.stage_names, adapters)):
        with torch.no_grad(), pair.precision.autocast(device):
            hint = teacher.forward_to(hint, k, after=k - 1 if k else None).detach()
        def one_step(): bare_stage(student.stages[name], adapter, [(tap, hint)], 1, precision=pair.precision)
        macs = count_macs(one_step)/len(tap)*images
        moved = moved_bytes(one_step)/len(tap)*images
        facts = dict(epoch_seconds=seconds[name], images_per_second=images/seconds[name],
                     device_macs_per_second=can.macs, device_bytes_per_second=can.bytes)
        table.add(f'share of the arithmetic of a {size} x {size} bf16 matrix product, {name}', pair.name,
                  macs/seconds[name]/can.macs, **facts)
        table.add(f'share of the bandwidth of a copy, counting what unfused operators move, {name}',
                  pair.name, moved/seconds[name]/can.bytes, **facts)
        student.eval()
        with torch.no_grad(), pair.precision.autocast(device): tap = student.stages[name](tap).detach()

# --- the table

def the_pair(a, device):
    "A teacher and a student on random images, tiny or as large as CIFAR's"
    from pairs import Pair, synthetic_dls
    from plain import Precision
    from sskd_tutor.nets.small import tutorial_resnet
    side, width = (16, 4) if a.tiny else (32, 16)
    teacher_blocks, student_blocks = (2, 1) if a.tiny else (9, 3)
    def network(blocks): return lambda: tutorial_resnet(width=width, blocks=blocks, c_in=3)
    return Pair('tiny' if a.tiny else 'ResNet-56-like to ResNet-20-like, 50,000 images of 32 px',
                lambda n: synthetic_dls(n, side, a.bs, device=device),
                network(teacher_blocks), network(student_blocks),
                n=100 if a.tiny else 50_000, epochs=4 if a.tiny else 40, views=2 if a.tiny else 4,
                precision=Precision('bfloat16'), compile=a.compile or not (a.eager or a.tiny))

def the_table(a):
    from bench import Table, machine_name
    usual = here.parent/'runs/bench-tiny.json' if a.tiny else here/'results'/f'{machine_name()}.json'
    command = 'python benchmarks/gpu.py' + (' --tiny' if a.tiny else '')
    return Table(a.out or usual, 'bfloat16', command, judge=not a.tiny)

def full_run(table, pair, bs, head_epochs):
    "The row of a whole run with head; the SSKDRun"
    from pairs import ours
    timed = ours(pair, head_epochs=head_epochs)
    history = timed.run.history
    of_phases = history[history.measure == 'seconds'].groupby('stage').value.sum()
    phases = of_phases.round(2).to_dict()
    table.add('seconds of a full run, 3 stages and the head', pair.name, timed.seconds, '<= 30',
              head_epochs=head_epochs, phases=phases, gmacs=timed.run.gmacs,
              outside_of_epochs=timed.seconds - sum(phases.values()),
              E=pair.epochs, R=pair.views, n=pair.n, bs=bs, compile=pair.compile)
    return timed.run

def median_epochs(runs, first):
    "stage -> median seconds of an epoch over several runs, from epoch `first` on"
    found = {}
    for stage in runs[0].student.stage_names:
        values = []
        for run in runs:
            h = run.history
            late = h[(h.measure == 'seconds') & (h.stage == stage) & (h.epoch >= first)]
            values += [float(value) for value in late.value]
        found[stage] = round(median(values), 3)
    return found

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--tiny', action='store_true',
                   help='the same code on small networks and few images, on any device; written to runs/, '
                        'proves nothing about speed')
    p.add_argument('--minutes', type=float, default=7.5, help='no further repeat begins that would end later')
    p.add_argument('--bs', type=int, default=512)
    p.add_argument('--repeats', type=int, default=3)
    p.add_argument('--head-epochs', type=int, default=4)
    p.add_argument('--eager', action='store_true', help='do not compile')
    p.add_argument('--compile', action='store_true', help='compile even with --tiny')
    p.add_argument('--out', help='JSON file of rows; benchmarks/results/<device>.json if left out')
    p.add_argument('--wheels', help='a folder made by --fetch-wheels: install from it for this run')
    p.add_argument('--fetch-wheels', metavar='FOLDER', help='only download what a bare machine lacks')
    p.add_argument('--python-version', default='3.12', help="the bare machine's")
    return p

def main():
    a = parser().parse_args()
    until = time.time() + 60*a.minutes
    if a.fetch_wheels: return fetch(a.fetch_wheels, a.python_version)
    if a.wheels: install(a.wheels)
    import torch
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not a.tiny:
        sys.exit("There is no GPU here, so the GPU's figures are owed. "
                 "`--tiny` runs the same code on the CPU.")
    from bench import machine_name, say, times
    from pairs import ours
    torch.backends.cudnn.benchmark = True
    if a.tiny: a.bs = 50
    device = torch.device('cuda' if has_gpu else 'cpu')
    pair, table = the_pair(a, device), the_table(a)
    say(f"{machine_name()}, torch {torch.__version__}, compile {pair.compile}: warming up")
    ours(pair, pair.views + 1, 4*a.bs if pair.n > 4*a.bs else None, head_epochs=1)
    run = full_run(table, pair, a.bs, a.head_epochs)
    shares(table, pair, run, device, 256 if a.tiny else 8192)
    timing = argparse.Namespace(repeats=a.repeats, until=until, plain_epochs=1, whole_n=0,
                                over_floor='<= 1.3' if has_gpu else '<= 1.15')
    runs = [run, *times(table, pair, timing)]
    say(f"median seconds an epoch of each stage over {len(runs)} runs: {median_epochs(runs, pair.views)}")
    if a.tiny: return print("That was --tiny: the script runs; the GPU's figures are owed")
    print(table.verdict())

if __name__ == '__main__': main()
