"""Accuracy at equal epochs and at equal multiply-adds: `python benchmarks/accuracy.py` (resumable; see --help).

One row a run in sskd_tutor/data_files/benchmarks/results/accuracy.csv. `budget` says what a method was given: 'recipe' is stage by stage itself
(E epochs a stage, then H for the head); 'equal_epochs' is E + H epochs of the whole network; 'equal_gmacs' as many
epochs as cost the same multiply-adds, counted on the real step, the teacher's included. Students are
`tutorial_resnet(width=32, blocks=1)`, trained on the embedded 8,000 images with fresh views. Last epoch, never the best.
The labels-only optimizer is chosen by `--stage choose`, on 2,000 held-out training images; no test image is used for that.
"""
import argparse, csv, os, sys, time
from datetime import date
from pathlib import Path

from jobs import run_cells

RESULTS = Path(__file__).parent/'results'
RECORDED = Path(__file__).resolve().parent.parent/'sskd_tutor/data_files/benchmarks/results/accuracy.csv'  # travels with the package
FIELDS = 'method teacher budget seed epochs gmacs accuracy seconds images evaluated_on opt lr width precision machine date'.split()
SGD_LR, ADAMW_LR, E, H = 0.1, 5e-3, 8, 4
LATE = dict(stage1=4, stage2=6, stage3=12)  # costs what E = 8 for each stage does, within 3 %

def rows_of(path): return list(csv.DictReader(path.open())) if path.exists() else []

def key(r): return tuple(str(r[k]) for k in ('method', 'teacher', 'budget', 'seed', 'opt', 'lr', 'width', 'evaluated_on'))

def cells(a):
    if a.stage == 'choose':
        for method in ('labels_adamw', 'labels_sgd', 'sskd', 'sskd_late', 'sskd_stitched', 'sskd_mse'): yield dict(method=method, teacher='none' if method.startswith('labels') else 'full', seed=0)
        return
    for teacher in ('full', 'same-data'):
        for seed in range(a.seeds):
            if teacher == 'full': yield dict(method=best_labels(), teacher='none', seed=seed)
            yield dict(method='sskd', teacher=teacher, seed=seed)
            yield dict(method='kd', teacher=teacher, seed=seed)

def best_labels():  # AdamW or SGD, by what `--stage choose` found on held-out training images
    tried = [r for r in rows_of(RESULTS/'choose.csv') if r['method'] == 'labels']
    if {r['opt'] for r in tried} != {'adamw', 'sgd'}: sys.exit("run `python benchmarks/accuracy.py --stage choose` first: it picks the labels-only optimizer")
    return 'labels_' + max(tried, key=lambda r: float(r['accuracy']))['opt']

def run_cell(a, method, teacher, seed):
    import torch
    from fastai.callback.all import ChannelsLast
    from fastai.vision.all import SGD, DataLoaders, Learner, accuracy, set_seed
    from functools import partial
    from sskd_tutor.measure.alignment import dl_accuracy
    from sskd_tutor.core.device import Bf16
    from sskd_tutor.data.loaders import ImageSet, fashion_dls
    from sskd_tutor.data.views import Views
    from sskd_tutor.data.images import balanced, embedded_fashion, full_fashion
    import sskd_tutor.distill.fit  # noqa: F401, patches Learner
    from sskd_tutor.distill.joint import Term
    from sskd_tutor.distill.costs import step_macs
    from sskd_tutor.distill.losses import StitchedLoss, mimic_mse, mimic_nmse, soft_kl
    from sskd_tutor.nets.weights import fashion_teacher
    from sskd_tutor.nets.small import tutorial_resnet

    done = {key(r) for r in rows_of(a.csv)}
    holdout = a.stage == 'choose'
    folder = Path(a.folder)
    dls = fashion_dls(valid='holdout' if holdout else 'official', n=None, seed=seed, views=Views(seed=seed))
    if holdout: test, evaluated_on = dls.valid_ds.images, 'holdout-2000'
    elif folder.exists(): test, evaluated_on = full_fashion('valid', folder), 'official-10000'
    else: test, evaluated_on = embedded_fashion('valid'), 'official-2000'
    test_dl = dls.valid.new(ImageSet(test, 1))
    dls = DataLoaders(dls.train, dls.valid.new(ImageSet(balanced(test, 10)[0], 1)), device=dls.device)  # watched, not chosen on
    images = len(dls.train)*dls.train.bs
    x = dls.train.one_batch()[0][:2].as_subclass(torch.Tensor)

    def learner(**kwargs):
        set_seed(seed, reproducible=True)
        dls.train.set_epoch(0)
        cbs = [] if a.float32 else [Bf16(), ChannelsLast()]
        return Learner(dls, tutorial_resnet(width=a.width, blocks=1), metrics=accuracy, cbs=cbs, **kwargs)

    def tested(net): return 100*dl_accuracy(net.eval().to(memory_format=torch.contiguous_format), test_dl)

    def write(budget, epochs, gmacs, seconds, net, name=method, opt='adamw', lr=ADAMW_LR):
        row = dict(method=name, teacher=teacher, budget=budget, seed=seed, epochs=epochs, gmacs=round(gmacs), accuracy=round(tested(net), 2), seconds=round(seconds),
                   images=images, evaluated_on=evaluated_on, opt=opt, lr=lr, width=a.width, precision='float32' if a.float32 else 'bfloat16', machine=f'{os.cpu_count()} CPU cores', date=date.today())
        new = not a.csv.exists()
        with a.csv.open('a', newline='') as f:
            w = csv.DictWriter(f, FIELDS, lineterminator='\n')
            if new: w.writeheader()
            w.writerow(row)
        print(' '.join(f'{row[k]}' for k in FIELDS[:8]), flush=True)

    spent = '4/6/12' if method == 'sskd_late' else E

    def wanted(name, budget, opt='adamw', lr=ADAMW_LR):
        return key(dict(method=name, teacher=teacher, budget=budget, seed=seed, opt=opt, lr=lr, width=a.width, evaluated_on=evaluated_on)) not in done

    def sskd_gmacs():  # of the recipe with this teacher's shape, counted on a step of each phase
        from sskd_tutor.distill.callbacks import mimic_net
        s, t = tutorial_resnet(width=a.width, blocks=1).to(dls.device), fashion_teacher('full').to(dls.device)
        from sskd_tutor.distill.check import check_pair
        from sskd_tutor.distill.adapters import make_adapters
        probe = Learner(dls, s)
        adapters = make_adapters(s.stage_names, *check_pair(probe, t), 'conv')
        per = sum(step_macs(mimic_net(s, k, adapters[n]), [n, 'head'], mimic_nmse, lambda x: t.forward_to(x, k), x) for k, n in enumerate(s.stage_names))
        return (E*per + H*step_macs(s, ['head'], lambda p, y: p.square().mean(), lambda x: None, x))*images/1e9

    if method.startswith('sskd'):
        if not wanted(method, 'recipe') and not wanted(f'{method}_teacher_head', 'recipe'): return
        t, learn, start = fashion_teacher(teacher), learner(), time.time()
        fresh_head = learn.model.head
        loss, epochs = dict(sskd_mse=mimic_mse, sskd_stitched=StitchedLoss()).get(method, mimic_nmse), LATE if method == 'sskd_late' else E
        with learn.no_bar(), learn.no_logging(): run = learn.fit_sskd(t, epochs, head_epochs=0, lr=ADAMW_LR, loss=loss)
        seconds = time.time() - start
        if wanted(f'{method}_teacher_head', 'recipe'): write('recipe', spent, run.gmacs, seconds, learn.model, f'{method}_teacher_head')
        learn.model.head, start = fresh_head, time.time()
        with learn.no_bar(), learn.no_logging(): learn.fit_head(H, ADAMW_LR)
        head = step_macs(learn.model, ['head'], lambda p, y: p.float().square().mean(), lambda x: None, x)*images*H/1e9
        write('recipe', f'{spent}+{H}' if method == 'sskd_late' else E + H, run.gmacs + head, seconds + time.time() - start, learn.model)
        return
    sgd = method == 'labels_sgd'
    opt, lr = ('sgd', SGD_LR) if sgd else ('adamw', ADAMW_LR)
    name = 'labels' if method.startswith('labels') else method
    net = tutorial_resnet(width=a.width, blocks=1)
    t = fashion_teacher(teacher) if method == 'kd' else None
    macs = step_macs(net, [*net.stages, 'head'], lambda p, y: p.square().mean(), (lambda x: t(x)) if t else (lambda x: None), x)
    per_epoch = macs*images/1e9
    for budget, epochs in (('equal_epochs', E + H), ('equal_gmacs', round(sskd_gmacs()/per_epoch))):
        if not wanted(name, budget, opt, lr) or holdout and budget == 'equal_epochs': continue
        learn, start = learner(**(dict(opt_func=partial(SGD, mom=0.9), wd=5e-4) if sgd else {})), time.time()
        with learn.no_bar(), learn.no_logging(): learn.fit_joint(t, epochs, lr, [Term(soft_kl, weight=.9)] if t else [], .1 if t else 1.)
        write(budget, epochs, per_epoch*epochs, time.time() - start, learn.model, name, opt, lr)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--stage', choices=['choose', 'report'], default='report', help="'choose': settings, on held-out training images; 'report': the table")
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--width', type=int, default=32, help="the student's; the teachers have 32")
    p.add_argument('--folder', default='/usr/share/datasets/fashion-mnist', help='the official files; without them the embedded 2,000 test images')
    p.add_argument('--float32', action='store_true', help='default is bfloat16 autocast, 2.5 times as fast on CPUs with AMX')
    p.add_argument('--jobs', type=int, default=2, help='cells run at once, one thread each')
    p.add_argument('--csv', type=Path)
    p.add_argument('--cell', nargs=3, metavar=('METHOD', 'TEACHER', 'SEED'), help='one cell, here; used by the jobs')
    a = p.parse_args()
    if a.csv is None: a.csv = RECORDED if a.stage == 'report' else RESULTS/'choose.csv'
    a.csv.parent.mkdir(exist_ok=True, parents=True)
    if a.cell: return run_cell(a, a.cell[0], a.cell[1], int(a.cell[2]))
    run_cells([(c['method'], c['teacher'], c['seed']) for c in cells(a)], a.jobs)

if __name__ == '__main__': main()
