"""Faces / verification: the teacher, then stage by stage against labels only, on persons whom nobody has met.

    python benchmarks/faces.py teacher
    python benchmarks/faces.py compare     # a row a seed and method in results/faces.csv; resumable
    python benchmarks/faces.py classes     # six classes learned, four held out; results/faces_classes.csv

The results are in sskd_tutor/data_files/benchmarks/results.

Persons are made up of four pieces of Fashion-MNIST each (`sskd_tutor.data.made.made_up`). The teacher has 400
of them, the student 200 others, with 12 images each; the test is on 40 more, with pieces from the test
images. Each seed: stage by stage, measured with a copy of the teacher's head (no name) and then with a head
of its own; and the same student trained on names alone, for as many multiply-adds as the whole stage-by-stage
run took. Both learn by the same margin loss. The last epoch is measured, never the best; nothing was chosen
on the strangers.
"""
import argparse, hashlib, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from fastai.callback.all import ChannelsLast
from fastai.vision.all import Learner, set_seed
from rows import append_rows, read_rows

import sskd_tutor.distill.fit  # noqa: F401, adds Learner.fit_sskd
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.core.device import Bf16, quiet
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
MEASURES = ['tar_0.1', 'tar_0.01', 'tar_0.001', 'auc']
FIELDS = ['method', 'seed', *MEASURES, 'tar_0.001_of_2', 'tar_0.001_of_5', 'gmacs', 'seconds', 'epochs',
          'images', 'width', 'lr', 'tested_on', 'machine', 'date']
PRINTED = FIELDS[:12]    # after each run
EACH = dict(teacher=60, student=12)   # training images of a person
# classes that are strangers, one set after the other
HELD_OUT = [6, 7, 8, 9], [0, 3, 6, 9], [3, 4, 7, 8], [1, 4, 5, 8], [2, 3, 7, 8], [1, 2, 8, 9]

CARD = """# Teacher `teacher_faces`

| | |
| --- | --- |
| network | `face_net(width={width}, blocks=2, n_identities={people})`: three stages and a head that gives \
embeddings of 64 numbers |
| data it has seen | {n:,} images of {people} made-up persons (numbers {first} to {last}, {each} each), \
composed of the 8,000 embedded training images of Fashion-MNIST; no piece from a test image, \
no person of the student's crowd or of the test |
| verification | TAR {tar_01:.2f} % at FAR 0.1, **{tar_001:.2f} %** at FAR 0.01, \
{tar_0001:.2f} % at FAR 0.001; AUC {auc:.4f} |
| tested on | 800 images of 40 strangers, pieces from the embedded test images: every two of them, \
{impostors:,} impostor pairs (half-precision weights, last epoch) |
| recipe | AdamW, one cycle to {lr}, weight decay {wd}, batch {bs}, {epochs} epochs, ArcFace (margin 28.6 \
degrees, scale 16), views: {views} |
| precision | bfloat16 autocast, channels_last, weights stored as float16 |
| seed | {seed} |
| sha256 | `{sha}` |
| command | `python benchmarks/faces.py teacher --epochs {epochs}` |
| trained | {day}, {minutes:.1f} minutes on {threads} CPU thread(s), torch {torch} |
| license | Apache-2.0 (weights); images: MIT, Zalando SE |

This teacher has seen {people} persons in {n:,} images, its student {students} others in {student_n:,}. \
Its margin's directions are in the file, one a
person; `embedder` drops them.
"""

# --- data and learners

def normalized_loaders(train, valid, seed, bs):
    return loaders(train, valid, seed, bs, torch.device('cpu'), ([mean], [std]))

def dls_of(who, seed, bs):
    "The images of the teacher's or the student's crowd"
    train = made_up(crowds[who], EACH[who])
    valid = made_up(crowds[who], 2, 'valid')
    dls = normalized_loaders(train, valid, seed, bs)
    dls.train.views = Views(flip=False, erase=6, seed=seed)  # a mirrored image is another person
    return dls

def learner(net, dls): return Learner(dls, net, loss_func=net.head.loss, cbs=[Bf16(), ChannelsLast()])

def measured(net):
    "Verification of the strangers, by one image of each and by the mean of several"
    test = made_up(crowds['strangers'], 20, 'valid')
    embeddings = embed(net, test.x)
    row = verification(embeddings, test.y).to_dict()
    for n in (2, 5):
        of_several = verification(embeddings, test.y, n, draws=20, fars=(.001,))
        row[f'tar_0.001_of_{n}'] = float(of_several['tar_0.001'])
    return row

# --- the teacher

def teacher(a):
    set_seed(a.seed, reproducible=True)
    dls = dls_of('teacher', a.seed, 128)
    net = face_net(a.width, 2, len(crowds['teacher']))
    learn, start = learner(net, dls), time.time()
    with learn.no_bar(): learn.fit_one_cycle(a.epochs, a.lr, wd=a.wd)
    minutes = (time.time() - start)/60
    publish(a, dls, net.float().to(memory_format=torch.contiguous_format), minutes)

def publish(a, dls, net, minutes):
    "Weights in half precision, measured as they are stored, and the card"
    path = a.out/'teacher_faces.safetensors'
    save_weights(net, path, half=True, overwrite=True)
    row = measured(load_weights(net, path))
    meta = dict(name='teacher_faces', identities=list(crowds['teacher']), n=len(dls.train_ds), seed=a.seed,
                epochs=a.epochs, lr=a.lr, wd=a.wd, bs=128, width=a.width, views=repr(dls.train.views))
    save_weights(net, path, meta, half=True, overwrite=True)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    (a.out/'teacher_faces.md').write_text(card_of(meta, row, sha, minutes))
    print(row, sha)

def card_of(meta, row, sha, minutes):
    "The model card; `row` says how well strangers are told apart"
    percent = {name.replace('.', ''): 100*row[name] for name in ('tar_0.1', 'tar_0.01', 'tar_0.001')}
    people, students = crowds['teacher'], crowds['student']
    known = dict(people=len(people), first=people[0], last=people[-1], each=EACH['teacher'],
                 students=len(students), student_n=len(students)*EACH['student'])
    made = dict(sha=sha, day=date.today(), minutes=minutes,
                threads=torch.get_num_threads(), torch=torch.__version__)
    return CARD.format(**meta, **percent, **known, **made, auc=row['auc'], impostors=int(row['impostors']))

# --- the comparison

@dataclass
class Trained:
    "A student, and what it took"
    method: str
    net: torch.nn.Module
    gmacs: float
    seconds: float
    epochs: int | str    # in words where there are several phases

def start(a, seed):
    "(a fresh student, its learner)"
    set_seed(seed, reproducible=True)
    net = face_net(a.width, 1, len(crowds['student']))
    return net, learner(net, dls_of('student', seed, 64))

def head_macs(net, head, dl):
    "Multiply-adds an image when the head alone learns, forward and backward"
    x, y = [part[:2] for part in first_batch(dl)]
    return step_macs(net, ['head'], head.loss, lambda _: y, x)

def stage_by_stage(a, seed):
    "The student with a copy of the teacher's head; then, trained further, with a head of its own"
    net, learn = start(a, seed)
    head, begin = net.head, time.time()
    remember = CacheFeatures(4, '2 GB', half=True)
    with quiet(learn): run = learn.fit_sskd(faces_teacher(), a.epochs, 0, a.lr, cbs=remember, valid_every=0)
    yield Trained('sskd_teacher_head', net, run.gmacs, time.time() - begin, f'{a.epochs} a stage')
    net.head = head
    macs = head_macs(net, head, learn.dls.train)
    with quiet(learn): learn.fit_head(a.head_epochs, a.lr, valid_every=0)
    gmacs = run.gmacs + macs*a.head_epochs*len(learn.dls.train)*learn.dls.train.bs/1e9
    yield Trained('sskd', net, gmacs, time.time() - begin, f'{a.epochs} a stage + {a.head_epochs}')

def labels_only(a, seed, gmacs):
    "The same student on names alone, for about so many multiply-adds"
    net, learn = start(a, seed)
    epochs = max(1, round(gmacs/joint_gmacs(learn, None)(1)))
    begin = time.time()
    with quiet(learn): run = learn.fit_joint(None, epochs, a.lr, valid_every=0)
    return Trained('labels', net, run.gmacs, time.time() - begin, epochs)

def as_text(name, value):
    "A value as the file has it"
    if not isinstance(value, float): return str(value)
    if name in ('gmacs', 'seconds', 'lr'): return str(round(value, 3))
    return f'{value:.5f}'

def row_of(a, seed, student):
    "A row of the file; the student is measured here"
    student.net.float()
    row = dict(method=student.method, gmacs=student.gmacs, seconds=student.seconds, epochs=student.epochs)
    row |= measured(student.net)
    row |= dict(seed=seed, images=len(crowds['student'])*EACH['student'], width=a.width, lr=a.lr,
                # as stored rows have it
                tested_on=f'800 pictures of {len(crowds["strangers"])} strangers',
                machine=f"{environment('cpu')['device_name']}, {torch.get_num_threads()} threads, bfloat16",
                date=str(date.today()))
    return {name: as_text(name, row[name]) for name in FIELDS}

def compare(a):
    "The runs that are not there yet"
    rows = read_rows(a.csv)
    for seed in range(a.seeds):
        if not known(rows, 'sskd', seed):
            for student in stage_by_stage(a, seed): note(a, rows, seed, student)
        budget = float(known(rows, 'sskd', seed)['gmacs'])
        if not known(rows, 'labels', seed): note(a, rows, seed, labels_only(a, seed, budget))

def known(rows, method, seed):
    "The row of a run, or None"
    return next((row for row in rows if (row['method'], row['seed']) == (method, str(seed))), None)

def note(a, rows, seed, student):
    "Add a student to the rows and to the file"
    rows.append(row_of(a, seed, student))
    append_rows(a.csv, FIELDS, rows[-1:])
    print({name: rows[-1][name] for name in PRINTED}, flush=True)

# --- classes as persons

def classes(a):
    "Learn six classes, tell the other four apart; the same with bare pixels"
    rows = []
    for held in HELD_OUT:
        for row in class_rows(a, [vocab[i] for i in held]):
            rows.append(row)
            print(row, flush=True)
    path = a.csv.with_name('faces_classes.csv')
    path.unlink(missing_ok=True)   # they are few, and made anew
    append_rows(path, list(rows[0]), rows)

def class_rows(a, strangers):
    "(of the network, of the pixels) with these classes held out"
    known_classes = [name for name in vocab if name not in strangers]
    check_open_set(known_classes, strangers)
    set_seed(0, reproducible=True)
    train = identities(embedded_fashion(), known_classes)
    seen = identities(embedded_fashion('valid'), known_classes)
    unseen = identities(embedded_fashion('valid'), strangers)
    learn = learner(face_net(16, 2, len(known_classes)), normalized_loaders(train, seen, 0, 64))
    with quiet(learn): learn.fit_joint(None, a.epochs, a.lr, valid_every=0)
    for who in ('network', 'pixels'):
        row = dict(strangers=' + '.join(strangers), who=who)
        for place, images in (('known', seen), ('strangers', unseen)):
            row |= class_measures(learn, who, place, images)
        yield row | dict(images=len(train.y), epochs=a.epochs if who == 'network' else 0,
                         machine=environment('cpu')['device_name'], date=str(date.today()))

def class_measures(learn, who, place, images):
    "Two columns of the file"
    embeddings = embed(learn.model.float(), images.x) if who == 'network' else images.x.flatten(1).float()
    found = verification(embeddings, images.y).round(4)
    return {f'{measure}_{place}': found[measure] for measure in ('tar_0.01', 'auc')}

def main():
    commands = dict(teacher=teacher, compare=compare, classes=classes)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=list(commands))
    p.add_argument('--epochs', type=int, help='of the teacher (5), a stage (12), or the six classes (6)')
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
    commands[a.what](a)

if __name__ == '__main__': main()
