"""Whatever stops a distillation: going on gives the student of an unbroken run, to the bit, and trains nothing twice."""
import ast, hashlib, inspect, io, itertools, json, multiprocessing, os, pickle, platform, random, resource, signal, subprocess, sys, textwrap, time, warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.data.load import DataLoader
from fastai.vision.all import (Callback, CrossEntropyLossFlat, DataLoaders, FocalLossFlat, GradientAccumulation, GradientClip,
                               LabelSmoothingCrossEntropy, Learner, OptimWrapper, SaveModelCallback)
from safetensors.torch import load_file, save_file
from torch import nn

import sskd_tutor.distill.fit_state as fit_state
import sskd_tutor.core.files as snapshot
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.core.device import Bf16
from sskd_tutor.distill.checkpoint import Checkpoint, KeepEpochs, _learner_settings
from sskd_tutor.core.state import differences
from sskd_tutor.distill.losses import StitchedLoss, mimic_mse
from sskd_tutor.distill.plan import macs_per_byte
from sskd_tutor.distill.precision import CompileStage
from sskd_tutor.core.files import pack, read_snapshot, snapshots, unpack, write_snapshot
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.nets.small import tutorial_resnet
from helpers.pairs import gap, new_learner, pair, small_dls
from conftest import root

torch.set_num_threads(1)

# --- one small distillation: three stages of two epochs and a head of two, five batches an epoch, with dropout

class Scaled(Bf16):
    "Loss scaling on the CPU, by factors that are no powers of two, so that the scale shows in the last bits"
    def before_fit(self):
        super().before_fit()
        self.learn.scaler = torch.amp.GradScaler('cpu', init_scale=1000., growth_factor=1.7, growth_interval=3)

cases = dict(
    float32=dict(), bf16=dict(cbs=[Bf16]), scaled=dict(cbs=[Scaled]), no_head=dict(head_epochs=0),
    flat_cos=dict(fit=Learner.fit_flat_cos), constant=dict(fit=Learner.fit),
    stitched=dict(loss=StitchedLoss(), cbs=[partial(GradientClip, 0.1)], adapter='conv_bn'),
    torch_sgd=dict(opt_func=partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=0.9, nesterov=True))),
    torch_adamw=dict(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW)),
    accumulate=dict(cbs=[partial(GradientAccumulation, 40)]),
    cached=dict(cbs=[partial(CacheFeatures, views=2)]),
    cached_longer=dict(cbs=[partial(CacheFeatures, views=2)], epochs=3),
    cached_little=dict(cbs=[partial(CacheFeatures, views=2, budget='100 kB')]),
    channels_last=dict(cbs=[ChannelsLast]),
    best=dict(cbs=[partial(SaveModelCallback, monitor='valid_loss')]))
steps = {n: 40 for n in cases} | dict(no_head=30, cached_longer=55)

class Count(Callback):
    "Training batches by phase"
    order = 98
    def __init__(self): self.batches = {}
    def after_batch(self):
        if self.training: self.batches[self.learn.sskd_phase] = self.batches.get(self.learn.sskd_phase, 0) + 1

class Interrupt(Callback):
    "Stops at the n-th time that an event comes"
    def __init__(self, n, event='after_batch', error=KeyboardInterrupt, order=100):
        self.left, self.order = n, order
        def stop():
            if event != 'after_batch' or self.training:
                self.left -= 1
                if self.left == 0: raise error
        setattr(self, event, stop)

def distill(cbs=(), case='float32', count=None, dls=None, path=None, nets=None, learner=None, **changed):
    "(weights of student and adapters, SSKDRun, batches trained by phase)"
    kwargs = {**dict(epochs=2, head_epochs=2, opt_func=None), **cases[case], **changed}
    opt_func, own = kwargs.pop('opt_func'), [cb() for cb in kwargs.pop('cbs', [])]
    teacher, student = nets or pair()
    own_kwargs = {k: v for k, v in dict(opt_func=opt_func, path=path).items() if v is not None}
    learn = new_learner(student, dls or small_dls(n=100, bs=20), **own_kwargs, **(learner or {}))
    count = count or Count()
    run = learn.fit_sskd(teacher, cbs=[*own, count, *cbs], **kwargs)
    assert not {'_do_fit', 'all_batches'} & vars(learn).keys()
    nets = dict(student=run.student) | run.adapters
    return {f'{n}.{k}': v for n, net in nets.items() for k, v in net.state_dict().items()}, run, count.batches

def rows(run): return [{**r, 'value': float('nan') if r['measure'] == 'seconds' else r['value']} for r in run.rows]

def same_student(a, b):
    "The same weights and rows (but for the seconds)"
    assert a[0].keys() == b[0].keys()
    assert not [k for k in a[0] if not torch.equal(a[0][k], b[0][k])]
    assert str(rows(a[1])) == str(rows(b[1]))

def same(a, b):
    "The same weights, rows (but for the seconds) and costs"
    same_student(a, b)
    assert a[1].costs == b[1].costs  # with a cache too: what a killed process had computed is not counted again

@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    "The result of a case without any checkpoint, made once"
    made = {}
    def get(case='float32'):
        if case not in made: made[case] = distill(case=case, path=tmp_path_factory.mktemp(case))
        return made[case]
    return get

def until_done(folder, every, each, limit=30, count=None, **kwargs):
    "Interrupted after each so many batches, until it ends"
    for i in range(limit):
        try: return distill([Checkpoint(folder, every=every, resume=i > 0), Interrupt(each)], count=count, **kwargs)
        except KeyboardInterrupt: pass
    pytest.fail(f"not done after {limit} interrupts")

# --- interrupts and exceptions

rare = [pytest.param(c, marks=pytest.mark.slow) for c in ('scaled', 'constant', 'torch_sgd', 'best', 'channels_last')]

@pytest.mark.parametrize('case', [*(c for c in cases if c not in [p.values[0] for p in rare]), *rare])
def test_interrupted_again_and_again(case, unbroken, tmp_path):
    "All phases, in the middle and at the ends of epochs; without accumulated gradients no batch is trained twice"
    count = Count()
    broken = until_done(tmp_path/'c', 0, 9, count=count, case=case, path=tmp_path)
    same(unbroken(case), broken)
    if case != 'accumulate': assert sum(count.batches.values()) == steps[case] == sum(unbroken(case)[2].values())
    again = distill([Checkpoint(tmp_path/'c', resume=True)], case=case, path=tmp_path)
    same(broken, again)
    assert again[1].history.equals(broken[1].history) and not again[2]

def test_only_finished_phases(unbroken, tmp_path):
    "With nothing saved inside a phase it is trained anew, the finished ones are not"
    with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, every=1e9), Interrupt(27)])
    resumed = distill([Checkpoint(tmp_path, resume=True)])
    same(unbroken(), resumed)
    assert resumed[2] == dict(stage3=10, head=10)

events = [('after_pred', 17, 'bf16'), ('before_step', 31, 'float32'), ('before_validate', 6, 'bf16'),
          ('after_epoch', 2, 'float32'), ('after_epoch', 8, 'float32'), ('after_fit', 2, 'float32')]
more = [('before_backward', 6, 'float32'), ('after_backward', 13, 'bf16'), ('after_step', 38, 'float32'),
        ('before_train', 4, 'float32'), ('after_train', 3, 'float32'), ('after_validate', 1, 'float32'),
        ('before_fit', 3, 'float32')]

@pytest.mark.parametrize('event,n,case', [*events, *(pytest.param(*e, marks=pytest.mark.slow) for e in more)])
def test_an_error_at_any_event(event, n, case, unbroken, tmp_path):
    stop = Interrupt(n, event, RuntimeError('mine'))
    with pytest.raises(RuntimeError, match='mine'): distill([Checkpoint(tmp_path, every=0), stop], case=case)
    same(unbroken(case), distill([Checkpoint(tmp_path, resume=True)], case=case))

def test_in_the_same_learner(unbroken, tmp_path):
    "As in a notebook: the cell is run again, with the student that the interrupt has left"
    teacher, student = pair()
    learn = new_learner(student, small_dls(n=100, bs=20))
    kwargs = dict(epochs=2, head_epochs=2)
    with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, cbs=[Checkpoint(tmp_path, every=1e9), Interrupt(3)], **kwargs)
    for n in (13, 9):
        cbs = [Checkpoint(tmp_path, every=0, resume=True), Interrupt(n)]
        with pytest.raises(KeyboardInterrupt): learn.fit_sskd(teacher, cbs=cbs, **kwargs)
    run = learn.fit_sskd(teacher, cbs=Checkpoint(tmp_path, resume=True), **kwargs)
    for k, v in run.student.state_dict().items(): assert torch.equal(v, unbroken()[0][f'student.{k}'])

def test_validation_inside_a_fit_saves_nothing(tmp_path):
    class Look(Callback):
        order = 65
        def after_epoch(self):
            if not self.learn.lock.locked(): self.learn.validate()
    class Write(Callback):  # counts, and sees where each checkpoint stands
        order, at = 100, []
        def after_epoch(self): self.at.append((s := read_snapshot(tmp_path))['epoch'] + s['batch']/10)
    distill([Checkpoint(tmp_path, every=0), Write()])
    assert Write.at == [1, 2]*4

# --- the loader

def foreign():
    "A loader whose order comes from a generator of its own"
    ours = small_dls(n=100, bs=20)
    random.seed(0)
    items = [list(zip(*dl.dataset.take(torch.arange(len(dl.dataset))))) for dl in ours.loaders]
    items = [[(x.float().as_subclass(torch.Tensor)/255, y.as_subclass(torch.Tensor)) for x, y in i] for i in items]
    loaders = DataLoader(items[0], bs=20, shuffle=True, num_workers=0), DataLoader(items[1], bs=50, num_workers=0)
    return DataLoaders(*loaders, device=torch.device('cpu'))

def test_foreign_loader_repeats_the_epoch(tmp_path):
    whole, count = distill(dls=foreign()), Count()
    with pytest.warns(UserWarning, match='repeats the epoch') as told:
        with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, every=0), Interrupt(18)], dls=foreign(), count=count)
        same(whole, distill([Checkpoint(tmp_path, resume=True)], dls=foreign(), count=count))
    assert count.batches == dict(stage1=10, stage2=13, stage3=10, head=10) and len(told) == 2  # once a run

def test_teeth(unbroken, tmp_path, monkeypatch):
    "Each part of the state is needed: without it the comparison fails"
    def broken():
        with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, every=0, overwrite=True), Interrupt(18)])
        return distill([Checkpoint(tmp_path, resume=True)])
    real = fit_state.load_fit_state
    def lacking(part):
        def load(learn, state, skip=()):
            before = fit_state.fit_state(learn)
            real(learn, state | {part: before[part]}, skip)
        return load
    for part in ('opt', 'counts', 'smooth', 'callbacks'):
        monkeypatch.setattr(fit_state, 'load_fit_state', lacking(part))
        with pytest.raises(AssertionError): same(unbroken(), broken())
    monkeypatch.setattr(fit_state, 'load_fit_state', real)
    monkeypatch.setattr(fit_state, 'set_rng_state', lambda *_: None)
    with pytest.raises(AssertionError): same(unbroken(), broken())

# --- what is refused

changes = dict(epochs=3, lr=1e-3, loss=mimic_mse, adapter='conv_bn', wd=0.1, data='images', seed='seed', cache='remembered',
               student='student.stage1', teacher='teacher', clip='callbacks', extra='extra.seed',
               layout='learner.layout', compile='learner.compile', converted='learner.layout')

@pytest.mark.parametrize('what', changes)
def test_changed_settings(what, tmp_path):
    with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, extra=dict(seed=0)), Interrupt(3)])
    kwargs, extra, cbs = {}, 0, []
    if what in ('epochs', 'lr', 'loss', 'adapter', 'wd'): kwargs, word = {what: changes[what]}, what
    else: word = changes[what]
    if what == 'data': kwargs = dict(dls=small_dls(n=120, bs=20))
    if what == 'seed': kwargs = dict(dls=small_dls(n=100, bs=20, seed=1))
    if what == 'student': kwargs = dict(nets=(pair()[0], pair(p=0.1)[1]))
    if what == 'teacher':
        kwargs = dict(nets=pair())
        with torch.no_grad(): next(kwargs['nets'][0].stages['stage3'].parameters())[0, 0, 0, 0] += 1e-6
    if what == 'clip': cbs = [GradientClip(0.1)]
    if what == 'cache': cbs = [CacheFeatures(2)]
    if what == 'layout': cbs = [ChannelsLast()]
    if what == 'compile': cbs = [CompileStage(backend='eager')]
    if what == 'converted': kwargs = dict(nets=[n.to(memory_format=torch.channels_last) for n in pair()])
    if what == 'extra': extra = 1
    before = [(p.name, os.stat(p).st_mtime_ns) for p in snapshots(tmp_path)]
    with pytest.raises(ValueError, match='other settings') as e:
        distill([*cbs, Checkpoint(tmp_path, resume=True, extra=dict(seed=extra))], **kwargs)
    lines = str(e.value).splitlines()
    assert any(word in line and 'in the checkpoint' in line for line in lines[1:-1]) and 'overwrite=True' in lines[-1]
    assert before == [(p.name, os.stat(p).st_mtime_ns) for p in snapshots(tmp_path)]

losses = dict(smoothing=(CrossEntropyLossFlat(label_smoothing=.3), 'label_smoothing: 0.0 in the checkpoint, 0.3 now'),
              weight=(CrossEntropyLossFlat(weight=torch.arange(10.)), 'weight: None in the checkpoint'),
              focal=(FocalLossFlat(gamma=5), 'gamma'), eps=(LabelSmoothingCrossEntropy(eps=.3), 'eps'),
              pos_weight=(nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), 'pos_weight'))
plain = dict(focal=FocalLossFlat(), eps=LabelSmoothingCrossEntropy(), pos_weight=nn.BCEWithLogitsLoss())

@pytest.mark.parametrize('what', losses)
def test_settings_of_a_loss(what):
    "Its text says nothing of them"
    changed, says = losses[what]
    notes = lambda loss: _learner_settings(new_learner(pair()[1], small_dls(n=20, bs=20), loss_func=loss), pair()[1])
    before = notes(plain.get(what, CrossEntropyLossFlat()))
    lines = differences(before, notes(changed))
    assert len(lines) == 1 and lines[0].startswith(f'loss_settings.{says}')
    if isinstance(changed, nn.Module): changed.eval()
    assert differences(notes(changed), json.loads(json.dumps(notes(pickle.loads(pickle.dumps(changed)))))) == []

def test_another_mimic_loss_is_refused(tmp_path):
    "A module's text says nothing of its numbers; a checkpoint without them is an older one, and goes on"
    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale
        def forward(self, pred, hint): return self.scale*mimic_mse(pred, hint)
    with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, every=0), Interrupt(3)], loss=Scaled(1.))
    with pytest.raises(ValueError, match='settings.loss_settings.scale: 1.0 in the checkpoint, 2.0 now'):
        distill([Checkpoint(tmp_path, resume=True)], loss=Scaled(2.))
    def older(state): del state['settings']['settings']['loss_settings']
    restated(tmp_path, older)
    distill([Checkpoint(tmp_path, resume=True)], loss=Scaled(1.))

def test_another_loss_is_refused(tmp_path):
    "Unless the checkpoint is an older one, which notes nothing of it: with the same loss it must go on"
    run = lambda smoothing, *cbs: distill(cbs, learner=dict(loss_func=CrossEntropyLossFlat(label_smoothing=smoothing)))
    with pytest.raises(KeyboardInterrupt): run(.1, Checkpoint(tmp_path, every=0), Interrupt(18))
    with pytest.raises(ValueError, match='learner.loss_settings.label_smoothing: 0.1 in the checkpoint, 0.2 now'):
        run(.2, Checkpoint(tmp_path, resume=True))
    def older(state): del state['settings']['learner']['loss_settings']
    restated(tmp_path, older)
    same(run(.1), run(.1, Checkpoint(tmp_path, resume=True)))

def restated(folder, change):
    "The newest checkpoint with something changed, as another version or machine would have written it"
    state = read_snapshot(folder)
    change(state)
    write_snapshot(folder, state)

def test_another_machine_is_said(unbroken, tmp_path):
    "Threads, PyTorch's version and the kind of device: one warning, and the run goes on"
    with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, every=0), Interrupt(18)])
    restated(tmp_path, lambda s: s['machine'].update(threads=64, torch='1.0', device='cuda'))
    with pytest.warns(UserWarning, match='within tolerance, not to the bit') as told:
        same(unbroken(), distill([Checkpoint(tmp_path, resume=True)]))
    lines = 'threads: 64 in', f'torch: 1.0 in the checkpoint, {torch.__version__} now', 'device: cuda in the checkpoint, cpu now'
    assert len(told) == 1 and all(line in str(told[0].message) for line in lines)

def test_a_checkpoint_of_an_older_version(tmp_path):
    "One of 0.1, which had no format, is refused in words and stays as it is"
    with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path), Interrupt(3)])
    def old(state): del state['format']
    restated(tmp_path, old)
    before = [p.name for p in snapshots(tmp_path)]
    with pytest.raises(ValueError, match='its format is that of 0.1, this one reads 3.*\\. Finish .*overwrite=True'):
        distill([Checkpoint(tmp_path, resume=True)])
    assert [p.name for p in snapshots(tmp_path)] == before

def test_one_of_a_training_on_labels_too(tmp_path):
    keep = KeepEpochs(tmp_path, dict(epochs=2))
    write_snapshot(tmp_path, dict(settings=dict(epochs=2), epoch=1, batch=0))
    with pytest.raises(ValueError, match='its format is that of 0.1.*another folder'): keep.go_on(None)

# --- private methods of fastai

def body(f):
    "What a function does, without its name, its comments and its layout"
    tree = ast.parse(textwrap.dedent(inspect.getsource(f))).body[0]
    return [ast.unparse(line) for line in tree.body]

replaced = {   # what `ResumedFit` runs in its place, from the middle
    '_do_fit': ["for epoch in range(self.n_epoch):\n    self.epoch = epoch\n    "
                "self._with_events(self._do_epoch, 'epoch', CancelEpochException)"],
    'all_batches': ['self.n_iter = len(self.dl)', 'for o in enumerate(self.dl):\n    self.one_batch(*o)']}
called = dict(_with_events=['self', 'f', 'event_type', 'ex', 'final'], _do_epoch=['self'], one_batch=['self', 'i', 'b'])

@pytest.mark.parametrize('name', replaced)
def test_what_a_resumed_fit_replaces(name):
    "`ResumedFit` in distill/fit_state repeats these methods of fastai; if one changes, change it there too"
    assert body(getattr(Learner, name)) == replaced[name], f"fastai's Learner.{name} has changed: see ResumedFit"

@pytest.mark.parametrize('name', called)
def test_what_a_resumed_fit_calls(name):
    assert list(inspect.signature(getattr(Learner, name)).parameters) == called[name], f"fastai's Learner.{name} has changed: see ResumedFit"

def test_watching_callbacks_may_change(unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, every=0), Interrupt(3)])
    same(unbroken(), distill([Checkpoint(tmp_path, resume=True), Interrupt(1000)]))

def test_folders(unbroken, tmp_path):
    with pytest.warns(UserWarning, match='no whole checkpoint'): same(unbroken(), distill([Checkpoint(tmp_path/'a', resume=True)]))
    with pytest.raises(FileExistsError, match='resume=True.*overwrite=True'): distill([Checkpoint(tmp_path/'a')])
    again = distill([Checkpoint(tmp_path/'a', overwrite=True)])
    same(unbroken(), again)
    assert sum(again[2].values()) == 40 and [p.name for p in snapshots(tmp_path/'a')] == ['000004', '000005']
    (tmp_path/'file').write_text('mine')
    with pytest.raises(OSError): distill([Checkpoint(tmp_path/'file')])
    write_snapshot(tmp_path/'new', dict(a=1))
    doc, m = tmp_path/'new/000001/state.json', tmp_path/'new/000001/manifest.json'
    old = sha(doc)
    doc.write_text(doc.read_text().replace('"format": 1', '"format": 2'))
    m.write_text(m.read_text().replace(old, sha(doc)))
    with pytest.raises(ValueError, match='format 2.*pip install -U'): read_snapshot(tmp_path/'new')
    assert [p.name for p in (tmp_path/'new').iterdir()] == ['000001']  # not damaged, only newer
    for name in ('000007.tmp', 'mine.tmp', '999999'): (tmp_path/'b'/name).mkdir(parents=True)
    with pytest.warns(UserWarning, match='999999 is damaged'): same(unbroken(), distill([Checkpoint(tmp_path/'b', resume=True)]))
    assert {p.name for p in (tmp_path/'b').iterdir()} == {'1000003', '1000004', 'mine.tmp', '999999.damaged'}

# --- damage

def sha(path): return hashlib.sha256(path.read_bytes()).hexdigest()

def harm(path, how):
    if how == 'missing': return path.unlink()
    raw = bytearray(path.read_bytes())
    if how == 'cut': raw = raw[:len(raw)//2]
    if how == 'bit': raw[random.Random(0).randrange(len(raw))] ^= 16
    if how == 'empty': raw = b''
    path.write_bytes(raw)

@pytest.mark.parametrize('name', ['tensors.safetensors', 'state.json', 'manifest.json'])
@pytest.mark.parametrize('how', ['bit', 'cut', 'missing', 'empty'])
def test_damaged(name, how, tmp_path):
    for i in (1, 2): write_snapshot(tmp_path, dict(i=i, t=torch.rand(100)))
    harm(tmp_path/'000002'/name, how)
    with pytest.warns(UserWarning, match='000002 is damaged'): assert read_snapshot(tmp_path)['i'] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ['000001', '000002.damaged']
    assert write_snapshot(tmp_path, dict(i=3)).name == '000003'

def test_going_on_from_the_older_one(unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt): distill([Checkpoint(tmp_path, every=0), Interrupt(18)])
    harm(snapshots(tmp_path)[-1]/'tensors.safetensors', 'bit')
    with pytest.warns(UserWarning, match='damaged'): resumed = distill([Checkpoint(tmp_path, resume=True)])
    same(unbroken(), resumed)
    assert sum(resumed[2].values()) == 40 - 17 and len(list(tmp_path.glob('*.damaged'))) == 1

class Evil:
    def __reduce__(self): return os.mkdir, (str(Evil.folder),)

def test_no_code_is_run(tmp_path):
    "A pickle in the place of the tensors, with a manifest that fits, is set aside"
    Evil.folder, c = tmp_path/'evil', write_snapshot(tmp_path/'c', dict(t=torch.rand(3)))
    torch.save(Evil(), c/'tensors.safetensors')
    m = json.loads((c/'manifest.json').read_text()) | {'tensors.safetensors': sha(c/'tensors.safetensors')}
    (c/'manifest.json').write_text(json.dumps(m))
    with pytest.warns(UserWarning, match='damaged'): assert read_snapshot(tmp_path/'c') is None
    assert not Evil.folder.exists()
    torch.load(io.BytesIO((c.with_suffix('.damaged')/'tensors.safetensors').read_bytes()), weights_only=False)
    assert Evil.folder.exists()  # what a pickle would have done

def test_pack_keeps_bits():
    o = {'a': [torch.tensor(0.1), torch.tensor(-0.)], 'b': (1, [2.5, None, float('inf')], ()), 4: torch.rand(2, 3).half().t(),
         'n': torch.arange(3).numpy()}
    tensors = {}
    back = unpack(json.loads(json.dumps(pack(o, tensors))), tensors)
    assert [t.item().hex() for t in back['a']] == [t.item().hex() for t in o['a']]
    assert back['b'] == o['b'] and list(back) == list(o)
    assert torch.equal(back[4], o[4]) and back['n'].tolist() == [0, 1, 2]
    assert differences(dict(a=1, b=dict(c=2)), dict(a=1, b=dict(d=3))) == [
        "b.c: 2 in the checkpoint, None now", "b.d: None in the checkpoint, 3 now"]

# --- a full disk

class Full(Callback):
    "The disk is full from the n-th batch to the m-th"
    order = 97
    def __init__(self, n, m, fill, free): self.n, self.m, self.i, self.fill, self.free = n, m, 0, fill, free
    def after_batch(self):
        if self.training:
            self.i += 1
            if self.i == self.n: self.fill()
            if self.i == self.m: self.free()

def limited():
    "No file may grow beyond 10 kB: the operating system refuses the rest"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    def limit(n): resource.setrlimit(resource.RLIMIT_FSIZE, (n, old[1]))
    return lambda: limit(10_000), lambda: limit(old[0])

def check_full(folder, fill, free, unbroken):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        try: result = distill([Checkpoint(folder, every=0), Full(12, 30, fill, free)])
        finally: free()
    assert len(told := [str(w.message) for w in told if 'no checkpoint could be written' in str(w.message)]) == 1, told
    same(unbroken(), result)
    assert not list(folder.glob('*.tmp')) and not distill([Checkpoint(folder, resume=True)])[2]

def test_full_disk_is_told_once(unbroken, tmp_path):
    check_full(tmp_path, *limited(), unbroken)

def test_interrupted_while_the_disk_is_full(unbroken, tmp_path):
    fill, free = limited()
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match='no checkpoint could be written'):
        try: distill([Checkpoint(tmp_path, every=0), Full(12, 99, fill, free), Interrupt(25)])
        finally: free()
    resumed = distill([Checkpoint(tmp_path, resume=True)])
    same(unbroken(), resumed)
    assert sum(resumed[2].values()) == 40 - 11

def test_full_from_the_beginning(tmp_path):
    fill, free = limited()
    fill()
    try:
        with pytest.raises(OSError): distill([Checkpoint(tmp_path)])
    finally: free()

def test_full_file_system(unbroken, tiny_disk):
    filler = tiny_disk/'filler'
    def fill():
        with pytest.raises(OSError, match='No space left'): filler.write_bytes(bytes(2**21))
    check_full(tiny_disk/'c', fill, lambda: filler.unlink(missing_ok=True), unbroken)

# --- kill -9

class Slow(Callback):
    "So that there is time to be killed in"
    order = 96
    def after_batch(self): time.sleep(0.04)

def save_result(out, result):
    save_file({k: v.contiguous() for k, v in result[0].items()}, out.with_suffix('.st'))
    out.with_suffix('.json').write_text(json.dumps(dict(rows=result[1].rows, costs=result[1].costs, batches=result[2])))

def saved(out):
    "What `save_result` has written, as if it came from `distill`"
    info = json.loads(out.with_suffix('.json').read_text())
    return load_file(out.with_suffix('.st')), SimpleNamespace(plan=None, **info), info['batches']

def child(folder, out, case, every, at=None):
    "Runs in a process of its own; `at`: kill it with signal 9 at this writing, in this place of it"
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    places = itertools.count()
    def die(): os.kill(os.getpid(), signal.SIGKILL)
    if at is not None:
        def before(f, half=None):
            def g(*args, **kwargs):
                if next(places) == at:
                    if half: half(*args)
                    die()
                return f(*args, **kwargs)
            return g
        snapshot.write_synced = before(snapshot.write_synced, lambda path, raw: path.write_bytes(raw[:len(raw)//2]))
        snapshot._sync_folder = before(snapshot._sync_folder)
        snapshot.remove_snapshot = before(snapshot.remove_snapshot, lambda path: path.rename(path.with_suffix('.tmp')))
    save_result(out, distill([Slow(), Checkpoint(folder, every=every, resume=True)], case=case))

@pytest.fixture(scope='module')
def process():
    "Starts processes from a fresh interpreter that has imported everything once"
    os.environ['PYTHONPATH'] = os.pathsep.join([str(root/'tests'), str(Path(__file__).parent), *filter(None, [os.environ.get('PYTHONPATH')])])
    ctx = multiprocessing.get_context('forkserver')
    ctx.set_forkserver_preload(['test_checkpoint'])
    return lambda *args, target=child: ctx.Process(target=target, args=args)

def check_kill(seed, case, every, folder, unbroken, process, kills=1):
    "Killed at random moments, then finished"
    rng, moments, out = random.Random(seed), [], folder/'out'
    whole = unbroken(case)
    for i in range(kills):
        before, p, t = snapshots(folder/'c'), process(folder/'c', out, case, every), time.monotonic()
        p.start()
        while p.is_alive() and snapshots(folder/'c') == before: time.sleep(0.005)
        moments.append(round(rng.uniform(0, 1.5), 3))
        p.join(moments[-1])
        if p.is_alive(): os.kill(p.pid, signal.SIGKILL)
        p.join(30)
        assert i or p.exitcode == -signal.SIGKILL
        print(f"seed {seed}: killed {moments[-1]} s after its first checkpoint, {time.monotonic() - t:.1f} s after its start, "
              f"exit code {p.exitcode}; left {sorted(f.name for f in (folder/'c').iterdir())}")
    at = read_snapshot(folder/'c')
    done = 10*len(at['done']) + 5*at['epoch'] + at['batch']
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # nothing is damaged, something is there
        result = distill([Checkpoint(folder/'c', every=every, resume=True)], case=case)
    same(whole, result)
    assert sum(result[2].values()) == steps[case] - done and not set(result[2]) & set(at['done'])

@pytest.mark.parametrize('seed,case,every', [(1, 'float32', 0), (2, 'bf16', 0), (3, 'stitched', 0.2)])
def test_killed(seed, case, every, tmp_path, unbroken, process):
    check_kill(seed, case, every, tmp_path, unbroken, process)

@pytest.mark.slow
@pytest.mark.parametrize('seed', range(100, 120))
def test_killed_twenty_times(seed, tmp_path, unbroken, process):
    case = ['float32', 'bf16', 'stitched', 'torch_adamw', 'cached'][seed % 5]
    check_kill(seed, case, [0, 0.1][seed % 2], tmp_path, unbroken, process, kills=1 + seed % 3)

def check_killed_writing(at, tmp_path, unbroken, process):
    p = process(tmp_path/'c', tmp_path/'out', 'float32', 0, at)
    p.start()
    p.join(200)
    assert p.exitcode == -signal.SIGKILL
    with warnings.catch_warnings():
        warnings.simplefilter('error' if snapshots(tmp_path/'c') else 'ignore')
        same(unbroken(), distill([Checkpoint(tmp_path/'c', resume=True)]))
    assert not list((tmp_path/'c').glob('*.tmp')) and not list((tmp_path/'c').glob('*.damaged'))

@pytest.mark.parametrize('at', [1, 24])
def test_killed_while_writing(at, tmp_path, unbroken, process):
    check_killed_writing(at, tmp_path, unbroken, process)

@pytest.mark.slow
@pytest.mark.parametrize('at', [*range(18), *range(60, 66)])  # of each writing: three files, two folders, one removal
def test_killed_at_each_place_of_a_writing(at, tmp_path, unbroken, process):
    check_killed_writing(at, tmp_path, unbroken, process)

def test_killed_and_resumed_by_a_new_interpreter(tmp_path, unbroken, process):
    "Nothing of a process, like an address or a hash, is part of a checkpoint"
    p = process(tmp_path/'c', tmp_path/'out', 'stitched', 0, 150)
    p.start()
    p.join(200)
    assert p.exitcode == -signal.SIGKILL and read_snapshot(tmp_path/'c')['done']
    subprocess.run([sys.executable, '-W', 'ignore', __file__, tmp_path/'c', tmp_path/'out', 'stitched'], check=True, timeout=300)
    result = saved(tmp_path/'out')
    same(unbroken('stitched'), result)
    assert 'stage1' not in result[2]

def on_disk(folder, cbs=()):
    "A distillation with checkpoints, which remembers on disk"
    torch.set_num_threads(1)
    cache = CacheFeatures(2, where='disk', folder=folder/'taps', budget='1 GB')
    with pytest.MonkeyPatch.context() as m:
        m.setitem(macs_per_byte, 'disk', 0.)  # so that every tap is remembered
        return distill([cache, Checkpoint(folder/'c', every=0, resume=True), *cbs])

class Die(Callback):
    "Kills its own process at the n-th training batch"
    order = 100
    def __init__(self, n): self.left = n
    def after_batch(self):
        self.left -= self.training
        if not self.left: os.kill(os.getpid(), signal.SIGKILL)

def die_on_disk(folder, n): on_disk(folder, [Die(n)])

@pytest.mark.parametrize('n, lost', [(13, False), (28, True)])  # in the first epoch of stage2, in the second of stage3
def test_killed_while_it_fills_the_disk_cache(n, lost, tmp_path, unbroken, process):
    "Nothing half-written is used, nothing of it stays; what is whole is found again, what is lost is computed"
    p, taps = process(tmp_path, n, target=die_on_disk), tmp_path/'taps'
    p.start()
    p.join(200)
    assert p.exitcode == -signal.SIGKILL and list(taps.glob('*.part'))
    for f in taps.glob('*.tap') if lost else (): f.unlink()
    whole = {f: os.stat(f).st_ino for f in taps.glob('*.tap')}
    assert lost or len(whole) > 2
    (taps/f'{platform.node()}-{p.pid}-note.tmp').write_text('{')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        result = on_disk(tmp_path)
    same_student(unbroken('cached'), result)
    at_once = on_disk(tmp_path/'at_once')   # it remembers as much, which `unbroken` does not
    gmacs, spent = ({stage: row['gmacs'] for stage, row in r[1].costs.items()} for r in (at_once, result))
    broken = {13: 'stage2', 28: 'stage3'}[n]
    assert {k: v for k, v in spent.items() if k != broken} == {k: v for k, v in gmacs.items() if k != broken}
    assert gmacs[broken] <= spent[broken] < 1.2*gmacs[broken]   # what was lost with the process is computed again
    assert sum(result[2].values()) == 40 - n
    assert whole.items() <= {f: os.stat(f).st_ino for f in taps.glob('*.tap')}.items()
    assert {f.suffix for f in taps.iterdir()} == {'.tap', '.json'}

# --- several processes

def ranks(what, folder):
    "What each of two processes does"
    import test_several
    learn, teacher = test_several.learner(test_several.bs//test_several.num_distrib())
    cbs = [count := Count()] + ([Checkpoint(folder/'c', every=0, resume=what == 'resume')] if what != 'whole' else [])
    if what == 'stop': cbs.append(Interrupt(6))
    try:
        with learn.distrib(timeout=60): out = test_several.distill(learn, teacher, cbs=cbs)
        torch.save(dict(out=out, batches=count.batches), folder/f'{what}{test_several.rank_distrib()}.pt')
    except KeyboardInterrupt: pass

@pytest.mark.slow
def test_two_processes_go_on(tmp_path):
    "Stopped and started again, two processes on the gloo backend give what they give without a stop"
    import test_several
    pytest.importorskip('accelerate', reason="needs `pip install accelerate`")
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', __file__]
    for what in ('whole', 'stop', 'resume'):
        subprocess.run([*launch, 'ranks', what, tmp_path], check=True, timeout=300, env=test_several.environment)
    for r in (0, 1):
        whole, resumed = (torch.load(tmp_path/f'{w}{r}.pt') for w in ('whole', 'resume'))
        for part in ('student', 'history'): assert gap(whole['out'][part], resumed['out'][part]) == 0
        assert resumed['batches'] == dict(stage2=2, stage3=4, head=4)

@pytest.mark.parametrize('batches', [10, 30])
def test_costs_where_all_is_remembered(batches, tmp_path):
    "Nothing is missing in the memory of a resumed phase, so nothing is computed and counted for it"
    def go(*cbs):
        torch.manual_seed(0)
        nets = [tutorial_resnet(width=8, blocks=1) for _ in range(2)]
        return distill([CacheFeatures(views=1), *cbs], dls=fashion_dls(n=500, bs=64), nets=nets, epochs=3,
                       head_epochs=1, valid_every=0)
    whole = go()
    with pytest.raises(KeyboardInterrupt): go(Checkpoint(tmp_path/'c', every=0), Interrupt(batches))
    same(whole, go(Checkpoint(tmp_path/'c', resume=True)))

@pytest.mark.gpu
def test_scalars_of_two_devices():
    "Losses that were restored lie on the CPU, those since on the GPU"
    losses = [torch.tensor(1.), torch.tensor(2., device='cuda')]
    tensors = {}
    assert torch.equal(torch.stack(unpack(pack(losses, tensors), tensors)), torch.tensor([1., 2.]))

if __name__ == '__main__':
    if sys.argv[1] == 'ranks': ranks(sys.argv[2], Path(sys.argv[3]))
    else: child(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], 0)
