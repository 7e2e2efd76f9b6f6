"""The same table on a GPU, in 8 minutes on a bare machine: `python benchmarks/gpu.py` (see --help); `--tiny` runs the same code on a CPU.

A machine that has torch but neither fastai nor a network gets its wheels from a folder, fetched where there is a network:

    python benchmarks/gpu.py --fetch-wheels wheels --python-version 3.12
    python benchmarks/gpu.py --wheels wheels            # there

bfloat16, channels_last, the stage that learns compiled (the plain way runs eager, as published), images and features resident on the device. ResNet-56-like to ResNet-20-like on
CIFAR-shaped random images. Beside the ratios of bench.py: seconds of a full run with head, and for each stage the share of the
arithmetic and of the bandwidth that a large matrix product and a large copy reach on the same device in the same minute.
"""
import argparse, subprocess, sys, tempfile, time
from pathlib import Path
from statistics import median

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
WHEELS = '''fastai>=2.8 fastcore>=2.2.22 fasttransform fastdownload fastprogress plum-dispatch<2.10 beartype python-fasthtml starlette python-multipart itsdangerous
            plotly anywidget psygnal ipywidgets traitlets comm ipython safetensors psutil'''.split()

def fetch(folder, version):
    platforms = [o for p in ('manylinux2014_x86_64', 'manylinux_2_17_x86_64', 'manylinux_2_28_x86_64', 'any') for o in ('--platform', p)]
    subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--implementation', 'cp', '--python-version', version,
                    *platforms, '-d', folder, *WHEELS], check=True)
    print(f"{len(list(Path(folder).glob('*.whl')))} wheels, {sum(p.stat().st_size for p in Path(folder).glob('*.whl'))/1e6:.0f} MB in {folder}")

def install(folder):  # beside what the machine has, for this process alone
    to = tempfile.mkdtemp(prefix='sskd_tutor-wheels-')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps', '--target', to, *map(str, Path(folder).glob('*.whl'))], check=True)
    sys.path.append(to)

def seconds_of(f, device, repeats=10):
    from pairs import sync
    f()
    sync(device)
    start = time.perf_counter()
    for _ in range(repeats): f()
    sync(device)
    return (time.perf_counter() - start)/repeats

def reach(device, size):  # (multiply-adds a second, bytes a second) of a large matrix product and a large copy
    import torch
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    src = torch.empty(size*size*8, device=device, dtype=torch.uint8)
    dst = torch.empty_like(src)
    return size**3/seconds_of(lambda: a @ a, device), 2*src.numel()/seconds_of(lambda: dst.copy_(src), device)

def moved_bytes(f):
    "Bytes that the operators of a call read and write when nothing is fused; a compiled step moves fewer"
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    class Bytes(TorchDispatchMode):
        total = 0
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if not func.is_view: Bytes.total += sum(t.numel()*t.element_size() for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor))
            return out
    with Bytes(): f()
    return Bytes.total

def shares(table, pair, run, device, size):
    "For each stage, on remembered features: how near an epoch of ours comes to what the device can do"
    import torch
    from dataclasses import replace
    from pairs import adapters_of
    from plain import bare_stage
    from sskd_tutor.distill.check import first_batch
    from sskd_tutor.nets.staged import count_macs
    macs_per_second, bytes_per_second = reach(device, size)
    dls, student, teacher = replace(pair, compile=False).make()
    adapters, images = adapters_of(dls, student, teacher), len(dls.train)*dls.train.bs
    pair.precision.layout(student, teacher, *adapters)
    s = h = first_batch(dls.train)[0].to(device)
    times = run.history[(run.history.measure == 'seconds') & (run.history.epoch >= pair.views)].groupby('stage').value.median()
    for k, (name, adapter) in enumerate(zip(student.stage_names, adapters)):
        with torch.no_grad(), pair.precision.autocast(device): h = teacher.forward_to(h, k, after=k - 1 if k else None).detach()
        one = lambda: bare_stage(student.stages[name], adapter, [(s, h)], 1, precision=pair.precision)
        macs, moved = count_macs(one)/len(s)*images, moved_bytes(one)/len(s)*images
        facts = dict(epoch_seconds=times[name], images_per_second=images/times[name], device_macs_per_second=macs_per_second, device_bytes_per_second=bytes_per_second)
        table.add(f'share of the arithmetic of a {size} x {size} bf16 matrix product, {name}', pair.name, macs/times[name]/macs_per_second, **facts)
        table.add(f'share of the bandwidth of a copy, counting what unfused operators move, {name}', pair.name, moved/times[name]/bytes_per_second, **facts)
        student.eval()
        with torch.no_grad(), pair.precision.autocast(device): s = student.stages[name](s).detach()

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--tiny', action='store_true', help='the same code on small networks and few images, on any device; written to runs/, proves nothing about speed')
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
    a = p.parse_args()
    until = time.time() + 60*a.minutes
    if a.fetch_wheels: return fetch(a.fetch_wheels, a.python_version)
    if a.wheels: install(a.wheels)
    import torch
    if not torch.cuda.is_available() and not a.tiny:
        sys.exit("There is no GPU here, so the GPU's figures are owed. `--tiny` runs the same code on the CPU.")
    from bench import Table, machine_name, say, times
    from pairs import Pair, ours, synthetic_dls
    from plain import Precision
    from sskd_tutor.nets.small import tutorial_resnet
    torch.backends.cudnn.benchmark = True
    device, precision = torch.device('cuda' if torch.cuda.is_available() else 'cpu'), Precision('bfloat16')
    def net(blocks): return lambda: tutorial_resnet(width=4 if a.tiny else 16, blocks=blocks, c_in=3)
    n, E, R, bs, blocks = (100, 4, 2, 50, (2, 1)) if a.tiny else (50_000, 40, 4, a.bs, (9, 3))
    name = 'tiny' if a.tiny else 'ResNet-56-like to ResNet-20-like, 50,000 images of 32 px'
    pair = Pair(name, lambda n: synthetic_dls(n, 16 if a.tiny else 32, bs, device=device), net(blocks[0]), net(blocks[1]), n, E, R, precision,
                compile=a.compile or not (a.eager or a.tiny))
    out = a.out or (here.parent/'runs/bench-tiny.json' if a.tiny else here/'results'/f'{machine_name()}.json')
    table = Table(out, 'bfloat16', ' '.join(['python benchmarks/gpu.py'] + ['--tiny']*a.tiny), judge=not a.tiny)
    say(f"{machine_name()}, torch {torch.__version__}, compile {pair.compile}: warming up")
    ours(pair, R + 1, 4*bs if n > 4*bs else None, head_epochs=1)
    seconds, _, run = ours(pair, head_epochs=a.head_epochs)
    phases = run.history[run.history.measure == 'seconds'].groupby('stage').value.sum().round(2).to_dict()
    common = dict(E=E, R=R, n=n, bs=bs, compile=pair.compile)
    table.add('seconds of a full run, 3 stages and the head', pair.name, seconds, '<= 30', head_epochs=a.head_epochs, phases=phases, gmacs=run.gmacs,
              outside_of_epochs=seconds - sum(phases.values()), **common)
    shares(table, pair, run, device, 256 if a.tiny else 8192)
    over_floor = '<= 1.3' if device.type == 'cuda' else '<= 1.15'
    runs = times(table, pair, argparse.Namespace(repeats=a.repeats, until=until, plain_epochs=1, whole_n=0, over_floor=over_floor))
    again = [run, *runs]
    say(f"median seconds an epoch of each stage over {len(again)} runs: "
        f"{ {s: round(median(float(v) for r in again for v in r.history[(r.history.measure == 'seconds') & (r.history.stage == s) & (r.history.epoch >= R)].value), 3) for s in run.student.stage_names} }")
    if a.tiny: return print("That was --tiny: the script runs; the GPU's figures are owed")
    print(table.verdict())

if __name__ == '__main__': main()
