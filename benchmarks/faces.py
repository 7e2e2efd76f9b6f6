"""Faces / verification: the teacher, then stage by stage against labels only, on persons whom nobody has met.

    python benchmarks/faces.py teacher
    python benchmarks/faces.py compare                  # a row a seed and method in sskd_tutor/data_files/benchmarks/results/faces.csv; resumable
    python benchmarks/faces.py classes                  # six classes learned, four held out, into sskd_tutor/data_files/benchmarks/results/faces_classes.csv

Persons are made up of four pieces of Fashion-MNIST each (`sskd_tutor.data.made.made_up`). The teacher has 400 of them, the student 200
others, with 12 pictures each; the test is on 40 more, with pieces from the test pictures. Each seed: stage by stage, measured with a
copy of the teacher's head (no name) and then with a head of its own; and the same student trained on names alone, for as many
multiply-adds as the whole stage-by-stage run took. Both learn by the same margin loss. The last epoch is measured, never the best;
nothing was chosen on the strangers.
"""
import argparse, csv, hashlib, time
from datetime import date
from pathlib import Path

import torch
from fastai.callback.all import ChannelsLast
from fastai.vision.all import Learner, set_seed

import sskd_tutor.distill.fit  # noqa: F401, adds Learner.fit_sskd
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.core.device import Bf16
from sskd_tutor.compare.runner import loaders
from sskd_tutor.data.views import Views
from sskd_tutor.data.images import embedded_fashion, mean, std, vocab
from sskd_tutor.core.files import pkg_data
from sskd_tutor.tasks.faces import check_open_set, embed, face_net, faces_teacher, identities
from sskd_tutor.tasks.pairs import verification
from sskd_tutor.data.made import crowds, made_up
from sskd_tutor.distill.joint import joint_gmacs
from sskd_tutor.distill.check import first_batch
from sskd_tutor.distill.costs import step_macs
from sskd_tutor.core.state import environment
from sskd_tutor.nets.weights import load_weights, save_weights

RESULTS = pkg_data/'benchmarks/results/faces.csv'  # travels with the package: pages draw it
MEASURES = 'tar_0.1 tar_0.01 tar_0.001 auc'.split()
FIELDS = ['method', 'seed', *MEASURES, *(f'tar_0.001_of_{n}' for n in (2, 5)), 'gmacs', 'seconds', 'epochs', 'images', 'width', 'lr', 'tested_on', 'machine', 'date']
CARD = """# Teacher `teacher_faces`

| | |
| --- | --- |
| network | `face_net(width={width}, blocks=2, n_identities={people})`: three stages and a head that gives embeddings of 64 numbers |
| data it has seen | {n:,} pictures of {people} made-up persons (numbers {first} to {last}, {each} each), composed of the 8,000 embedded training pictures of Fashion-MNIST; no piece from a test picture, no person of the student's crowd or of the test |
| verification | TAR {tar_01:.2f} % at FAR 0.1, **{tar_001:.2f} %** at FAR 0.01, {tar_0001:.2f} % at FAR 0.001; AUC {auc:.4f} |
| tested on | 800 pictures of 40 strangers, pieces from the embedded test pictures: every two of them, {impostors:,} impostor pairs (half-precision weights, last epoch) |
| recipe | AdamW, one cycle to {lr}, weight decay {wd}, batch {bs}, {epochs} epochs, ArcFace (margin 28.6 degrees, scale 16), views: {views} |
| precision | bfloat16 autocast, channels_last, weights stored as float16 |
| seed | {seed} |
| sha256 | `{sha}` |
| command | `python benchmarks/faces.py teacher --epochs {epochs}` |
| trained | {day}, {minutes:.1f} minutes on {threads} CPU thread(s), torch {torch} |
| license | Apache-2.0 (weights); images: MIT, Zalando SE |

This teacher has seen {people} persons in {n:,} pictures, its student {students} others in {student_n:,}. Its margin's directions are in the file, one a
person; `embedder` drops them.
"""
EACH = dict(teacher=60, student=12)

def dls_of(who, seed, bs):
    dls = loaders(made_up(crowds[who], EACH[who]), made_up(crowds[who], 2, 'valid'), seed, bs, torch.device('cpu'), ([mean], [std]))
    dls.train.views = Views(flip=False, erase=6, seed=seed)  # a mirrored picture is another person
    return dls

def learner(net, dls): return Learner(dls, net, loss_func=net.head.loss, cbs=[Bf16(), ChannelsLast()])

def measured(net):
    test = made_up(crowds['strangers'], 20, 'valid')
    e = embed(net, test.x)
    row = verification(e, test.y).to_dict()
    return row | {f'tar_0.001_of_{n}': float(verification(e, test.y, n, draws=20, fars=(.001,))['tar_0.001']) for n in (2, 5)}

def teacher(a):
    set_seed(a.seed, reproducible=True)
    dls, net = dls_of('teacher', a.seed, 128), face_net(a.width, 2, len(crowds['teacher']))
    learn, start = learner(net, dls), time.time()
    with learn.no_bar(): learn.fit_one_cycle(a.epochs, a.lr, wd=a.wd)
    minutes, path = (time.time() - start)/60, a.out/'teacher_faces.safetensors'
    net = net.float().to(memory_format=torch.contiguous_format)
    save_weights(net, path, half=True, overwrite=True)
    row, views = measured(load_weights(net, path)), repr(dls.train.views)
    meta = dict(name='teacher_faces', identities=list(crowds['teacher']), n=len(dls.train_ds), seed=a.seed, epochs=a.epochs, lr=a.lr, wd=a.wd, bs=128, width=a.width, views=views)
    save_weights(net, path, meta, half=True, overwrite=True)
    sha, percent = hashlib.sha256(path.read_bytes()).hexdigest(), {k.replace('.', ''): 100*v for k, v in row.items() if k in MEASURES[:3]}
    known = dict(people=len(crowds['teacher']), first=crowds['teacher'][0], last=crowds['teacher'][-1], each=EACH['teacher'], students=len(crowds['student']), student_n=len(crowds['student'])*EACH['student'])
    (a.out/'teacher_faces.md').write_text(CARD.format(**meta, **percent, **known, auc=row['auc'], impostors=int(row['impostors']), sha=sha, day=date.today(), minutes=minutes,
                                                      threads=torch.get_num_threads(), torch=torch.__version__))
    print(row, sha)

def start(a, seed):
    set_seed(seed, reproducible=True)
    net = face_net(a.width, 1, len(crowds['student']))
    return net, learner(net, dls_of('student', seed, 64))

def quietly(learn, what, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(): return getattr(learn, what)(*args, valid_every=0, **kwargs)

def stage_by_stage(a, seed):
    net, learn = start(a, seed)
    head, begin = net.head, time.time()
    run = quietly(learn, 'fit_sskd', faces_teacher(), a.epochs, 0, a.lr, cbs=CacheFeatures(4, '2 GB', half=True))
    yield dict(method='sskd_teacher_head', gmacs=run.gmacs, seconds=time.time() - begin, epochs=f'{a.epochs} a stage'), net
    net.head = head
    x, y = (o[:2] for o in first_batch(learn.dls.train))
    with torch.enable_grad(): macs = step_macs(net, ['head'], head.loss, lambda _: y, x)
    quietly(learn, 'fit_head', a.head_epochs, a.lr)
    gmacs = run.gmacs + macs*a.head_epochs*len(learn.dls.train)*learn.dls.train.bs/1e9
    yield dict(method='sskd', gmacs=gmacs, seconds=time.time() - begin, epochs=f'{a.epochs} a stage + {a.head_epochs}'), net

def labels_only(a, seed, gmacs):
    net, learn = start(a, seed)
    epochs, begin = max(1, round(gmacs/joint_gmacs(learn, None)(1))), time.time()
    run = quietly(learn, 'fit_joint', None, epochs, a.lr)
    yield dict(method='labels', gmacs=run.gmacs, seconds=time.time() - begin, epochs=epochs), net

def compare(a):
    rows = list(csv.DictReader(a.csv.open())) if a.csv.exists() else []
    def kept(method, seed): return next((r for r in rows if (r['method'], r['seed']) == (method, str(seed))), None)
    def note(seed, runs):
        for row, net in runs:
            net.float()
            row |= measured(net) | dict(seed=seed, images=len(crowds['student'])*EACH['student'], width=a.width, lr=a.lr, tested_on=f'800 pictures of {len(crowds["strangers"])} strangers',
                                        machine=f"{environment('cpu')['device_name']}, {torch.get_num_threads()} threads, bfloat16", date=str(date.today()))
            rows.append({k: f'{row[k]:.5f}' if isinstance(row[k], float) and k not in ('gmacs', 'seconds', 'lr') else str(round(row[k], 3) if isinstance(row[k], float) else row[k]) for k in FIELDS})
            with a.csv.open('w', newline='') as f:
                w = csv.DictWriter(f, FIELDS, lineterminator='\n')
                w.writeheader(), w.writerows(rows)
            print({k: rows[-1][k] for k in FIELDS[:12]}, flush=True)
    for seed in range(a.seeds):
        if not kept('sskd', seed): note(seed, stage_by_stage(a, seed))
        if not kept('labels', seed): note(seed, labels_only(a, seed, float(kept('sskd', seed)['gmacs'])))

HELD_OUT = [6, 7, 8, 9], [0, 3, 6, 9], [3, 4, 7, 8], [1, 4, 5, 8], [2, 3, 7, 8], [1, 2, 8, 9]

def classes(a):
    rows = []
    for held in HELD_OUT:
        strangers = [vocab[i] for i in held]
        known = [v for v in vocab if v not in strangers]
        check_open_set(known, strangers)
        set_seed(0, reproducible=True)
        train, seen, test = identities(embedded_fashion(), known), *(identities(embedded_fashion('valid'), o) for o in (known, strangers))
        learn = learner(face_net(16, 2, len(known)), loaders(train, seen, 0, 64, torch.device('cpu'), ([mean], [std])))
        quietly(learn, 'fit_joint', None, a.epochs, a.lr)
        for who, embedded in (('network', lambda x: embed(learn.model.float(), x)), ('pixels', lambda x: x.flatten(1).float())):
            at = {place: verification(embedded(o.x), o.y).round(4) for place, o in (('known', seen), ('strangers', test))}
            rows.append(dict(strangers=' + '.join(strangers), who=who, **{f'{m}_{place}': v[m] for place, v in at.items() for m in ('tar_0.01', 'auc')},
                             images=len(train.y), epochs=a.epochs if who == 'network' else 0, machine=environment('cpu')['device_name'], date=str(date.today())))
            print(rows[-1], flush=True)
    with a.csv.with_name('faces_classes.csv').open('w', newline='') as f:
        w = csv.DictWriter(f, list(rows[0]), lineterminator='\n')
        w.writeheader(), w.writerows(rows)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['teacher', 'compare', 'classes'])
    p.add_argument('--epochs', type=int, default=None, help='of the teacher (5), a stage (12), or the six classes (6)')
    p.add_argument('--head-epochs', type=int, default=6)
    p.add_argument('--lr', type=float, default=5e-3)
    p.add_argument('--wd', type=float, default=.05, help='of the teacher')
    p.add_argument('--width', type=int, default=24)
    p.add_argument('--seed', type=int, default=0, help='of the teacher')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--out', type=Path, default=pkg_data)
    p.add_argument('--csv', type=Path, default=RESULTS)
    a = p.parse_args()
    a.epochs = a.epochs or dict(teacher=5, compare=12, classes=6)[a.what]
    dict(teacher=teacher, compare=compare, classes=classes)[a.what](a)

if __name__ == '__main__': main()
