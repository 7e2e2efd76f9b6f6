"""What cannot work is refused before anything moves, with the reason and the cure."""
import gzip, pickle

import pytest
import torch
from fastai.vision.all import (Callback, CrossEntropyLossFlat, DataLoader, DataLoaders, Learner, OptimWrapper, accuracy,
                               top_k_accuracy)
from torch import nn

from sskd_tutor.data.images import Images, balanced, full_fashion, read_idx
from sskd_tutor.data.loaders import ImageSet, fashion_dls
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.task import try_task
from sskd_tutor.distill.checkpoint import Checkpoint
from sskd_tutor.distill.losses import StitchedLoss, mimic_mse
from sskd_tutor.nets.staged import StagedNet
from sskd_tutor.nets.weights import load_weights, save_weights, weights_meta
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.taps import tapped
from helpers.pairs import cpu, moved, new_learner, pair, small_dls, snapshot, staged, state

def two_stages(net):
    return StagedNet(dict(stage1=net.stages['stage1'], stage2=nn.Sequential(net.stages['stage2'], net.stages['stage3'])),
            net.head)

def strided(net, k, side):
    "The network with the map of stage k brought to another side"
    net.stages[f'stage{k}'].append(nn.AdaptiveAvgPool2d(side))
    return net

class Moved(Callback):
    "Fails when a training step is made"
    def before_step(self): raise AssertionError("training began")

def refused(error, match, teacher=None, student=None, dls=None, own=None, **kwargs):
    "`own`: of the learner, e.g. its `opt_func`"
    default_teacher, default_student = pair()
    teacher, student = teacher if teacher is not None else default_teacher, student if student is not None else default_student
    learn = new_learner(student, dls, **(own or {}))
    nets = [n for n in (student, teacher) if isinstance(n, nn.Module)]
    before, states, was = snapshot(*nets), state(*nets), (learn.model, learn.loss_func, learn.splitter, list(learn.metrics),
            learn.opt)
    with pytest.raises(error, match=match): learn.fit_sskd(teacher, **{**dict(epochs=1, head_epochs=1, cbs=Moved()), **kwargs})
    assert not moved(before, *nets) and state(*nets) == states
    assert was == (learn.model, learn.loss_func, learn.splitter, list(learn.metrics), learn.opt)

def test_teeth():
    "A training that does begin is noticed"
    with pytest.raises(AssertionError, match='training began'): refused(ValueError, 'no such thing')

# --- networks

def test_number_of_stages():
    refused(ValueError, r"student has 3 stages .*the teacher 2 .*from_modules", teacher=two_stages(staged(8)))

def test_student_that_cannot_be_cut():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(100, 10))
    refused(ValueError, r"the student: .*takes no images|the student: Sequential never lowers", student=flat)

def test_teacher_that_cannot_be_cut(): refused(ValueError, r"the teacher: Linear cannot run on images", teacher=nn.Linear(2, 2))

def test_no_teacher(): refused(TypeError, r"the teacher is a str", teacher='resnet18')

def test_shared_parameters():
    net = staged(4)
    refused(ValueError, "share parameters", teacher=net, student=net)
    refused(ValueError, "share parameters", teacher=two_and_one(net), student=net)

def two_and_one(net):
    "A network of its own, but for the first stage"
    other = staged(4)
    return StagedNet(dict(a=net.stages['stage1'], b=other.stages['stage2'], c=other.stages['stage3']), other.head)

@pytest.mark.parametrize('who', ['teacher', 'student'])
def test_other_channels(who): refused(ValueError, rf"the {who}.*takes 3 channel\(s\)", **{who: staged(8, c_in=3)})

@pytest.mark.parametrize('k,side', [(1, 7), (1, 13), (2, 3)])
def test_any_spatial_sizes(k, side):
    "Maps of sizes that are no multiples of each other are matched"
    teacher, student = strided(staged(8), k, side), staged(4)
    run = new_learner(student).fit_sskd(teacher, epochs=1, head_epochs=1)
    x = torch.zeros(2, 1, 10, 10)
    hint, tap = (net.eval().forward_to(x, f'stage{k}') for net in (teacher, student))
    assert hint.shape[2:] == (side, side) != tap.shape[2:] and run.adapters[f'stage{k}'].eval()(tap).shape == hint.shape

def test_flat_taps():
    def flat(w): return StagedNet(dict(a=nn.Sequential(nn.Flatten(), nn.Linear(100, w)), b=nn.Linear(w, w)), nn.Linear(w, 10))
    refused(ValueError, r"a: taps of shapes \(4,\) and \(8,\) are not maps.*your own adapter", teacher=flat(8), student=flat(4))
    teacher, student = flat(8), flat(4)
    def adapter(tap, hint): return nn.Linear(tap[0], hint[0])
    run = new_learner(student).fit_sskd(teacher, epochs=1, head_epochs=1, adapter=adapter)   # the cure works
    assert list(run.stages.index) == ['a', 'b', 'head']

def test_stage_names_that_cannot_be():
    with pytest.raises(ValueError, match='head'): StagedNet(dict(head=nn.Identity()), nn.Identity())
    with pytest.raises(ValueError, match='empty'): StagedNet({}, nn.Identity())

def test_stage_that_does_not_exist():
    teacher, student = pair()
    learn, before = new_learner(student), snapshot(student, teacher)
    for call in (lambda: learn.fit_stage(teacher, 'stage_2', 1), lambda: student.forward_to(torch.zeros(1, 1, 10, 10), 'Stage2'),
                 lambda: tapped(student, ['stage22']).__enter__()):
        with pytest.raises(ValueError, match="did you mean 'stage2'"): call()
    assert not moved(before, student, teacher)

by_stage = dict(stage1=1, stage2=1, stage3=1)

@pytest.mark.parametrize('kwargs', [dict(adapter={'stage_2': 'conv_bn'}), dict(epochs=by_stage | dict(stage_2=5)),
                                    dict(lr=by_stage | dict(head=1, stage_2=1))], ids=['adapter', 'epochs', 'lr'])
def test_stage_misspelt_in_a_dict(kwargs): refused(ValueError, "did you mean 'stage2'", **kwargs)

# --- settings

@pytest.mark.parametrize('kwargs,match', [
    (dict(epochs=0), "at least 1 a stage"), (dict(epochs=-1), "at least 1 a stage"),
    (dict(head_epochs=-1), "0 or more for the head"),
    (dict(epochs=dict(stage1=1)), "epochs is given by stage but lacks 'stage2'"), (dict(lr=by_stage), "lr .* lacks 'head'"),
    (dict(adapter='linear'), r"stage1: adapter is 'linear'; expected one of \['conv', 'conv_bn'\]"),
    (dict(adapter=lambda t, h: nn.Identity()), r"stage1: the adapter turns \(4, 10, 10\) into .*teacher's tap is \(8, 10, 10\)")],
    ids=['no epochs', 'negative', 'negative head', 'epochs lack', 'lr lacks', 'adapter kind', 'adapter shape'])
def test_settings(kwargs, match): refused(ValueError, match, **kwargs)

def test_adapter_that_cannot_take_the_tap(): refused(ValueError, "stage1", adapter=lambda t, h: nn.Conv2d(7, h[0], 1))

def test_bound_optimizer():
    student = staged(4)
    refused(ValueError, "already bound.*partial", student=student,
            own=dict(opt_func=OptimWrapper(opt=torch.optim.SGD(student.parameters(), lr=.1))))

@pytest.mark.parametrize('opt', [torch.optim.SGD, torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=.1)])
def test_optimizer_of_pytorch(opt):
    refused(ValueError, r"learn.opt_func is PyTorch's SGD.*partial\(OptimWrapper, opt=torch.optim.SGD\)", own=dict(opt_func=opt))

def test_losses():
    with pytest.raises(ValueError, match='loss.bind'): StitchedLoss()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match='expected 1, 2'): StitchedLoss(-3)

# --- labels

def relabeled(label, split='train'):
    dls = small_dls()
    (dls.train_ds if split == 'train' else dls.valid_ds).images.y[-1] = label
    return dls

@pytest.mark.parametrize('split', ['train', 'valid'])
@pytest.mark.parametrize('label', [10, -1])
def test_labels_outside_the_head(label, split): refused(ValueError, r"labels run from .* has 10 outputs; expected 0 to 9",
        dls=relabeled(label, split))

def test_labels_outside_the_head_in_a_foreign_loader():
    "Also when the first validation batch happens to show only small labels, as a sorted folder does"
    data = sorted(((torch.rand(1, 10, 10), i % 3) for i in range(60)), key=lambda o: o[1])
    dls = DataLoaders(*(DataLoader(data, 10, device=cpu) for _ in range(2)), device=cpu)
    dls.c, dls.vocab = 3, ['a', 'b', 'c']  # fastai's own loaders say how many classes there are
    refused(ValueError, "expected 0 to 1|3 classes", student=staged(4, n_out=2), teacher=staged(8, n_out=2), dls=dls)

def test_no_labels():
    dls = DataLoaders(*(DataLoader([(torch.rand(1, 10, 10),) for _ in range(20)], 10, device=cpu) for _ in range(2)), device=cpu)
    teacher, student = pair()
    learn = Learner(dls, student, loss_func=nn.functional.cross_entropy)
    with pytest.raises(ValueError, match='no labels.*head_epochs=0'): learn.fit_sskd(teacher, epochs=1, head_epochs=1)

def test_labels_do_not_matter_without_a_head_phase():
    teacher, student = pair()
    assert new_learner(student, relabeled(10)).fit_sskd(teacher, epochs=1, head_epochs=0)

# --- the learner's own loss and metrics, which the head meets only after all stages have trained

def for_each_image(pred, y): return nn.functional.cross_entropy(pred, y.long(), reduction='none')
def of_three(pred, y, z): return pred.mean()
def detached(pred, y): return nn.functional.cross_entropy(pred.detach(), y.long())

@pytest.mark.parametrize('loss, error, match', [
    (CrossEntropyLossFlat(weight=torch.ones(3)), ValueError,
     r"learn.loss_func, CrossEntropyLossFlat, fails on the student's answers \(50, 10\) and the labels \(50,\) .RuntimeError: weight"),
    (of_three, ValueError, r"learn.loss_func, of_three, fails .*missing 1 required"),
    (for_each_image, TypeError, r"learn.loss_func, for_each_image, gives a tensor of shape .*loss.mean"),
    (detached, TypeError, "learn.loss_func, detached, gives a number that no weight moves")])
def test_a_loss_that_does_not_fit_the_labels(loss, error, match): refused(error, match, own=dict(loss_func=loss))

def test_a_metric_that_does_not_fit_the_labels():
    def top_20(pred, y): return top_k_accuracy(pred, y, k=20)
    refused(ValueError, r"the metric top_20 of learn.metrics fails on the student's answers .*out of range", own=dict(metrics=[accuracy, top_20]))

class InTens(Callback):
    "Labels as the loss below wants them"
    def before_batch(self): self.learn.yb = (self.yb[0]//10, self.yb[0] % 10)

def tens(pred, tens, ones): return nn.functional.cross_entropy(pred, ones.long())

def test_a_callback_may_bring_the_labels_in_order():
    learn = new_learner(staged(4), loss_func=tens, metrics=None)
    assert learn.fit_sskd(staged(8), 1, 1, cbs=InTens()).stages.epochs.tolist() == [1]*4

class Counts(nn.Module):
    "A loss with a state of its own, and a metric that draws random numbers"
    def __init__(self):
        super().__init__()
        self.register_buffer('n', torch.zeros(()))
    def forward(self, pred, y):
        self.n += 1
        return nn.functional.cross_entropy(pred, y.long())

def test_the_trial_leaves_nothing_behind():
    calls, loss = [], Counts()
    def noisy(pred, y): return calls.append(torch.rand(())) or calls[-1]
    learn, x = new_learner(staged(4), loss_func=loss, metrics=noisy), torch.rand(4, 1, 10, 10)
    before, modes, weights = torch.get_rng_state(), state(learn.model), snapshot(learn.model)
    try_task(learn, x, [torch.arange(4)])
    assert calls and torch.equal(before, torch.get_rng_state()) and loss.n == 0
    assert state(learn.model) == modes and not moved(weights, learn.model) and all(p.grad is None for p in learn.model.parameters())

# --- NaN

def float_dls(bad=None, n=60):
    "Float images in a fixed order, 6 batches of 10; `bad`: index of an image of NaN in the training set"
    torch.manual_seed(0)
    data = [(torch.rand(1, 10, 10), torch.tensor(i % 10)) for i in range(n)]
    train = [(torch.full_like(x, float('nan')) if i == bad else x, y) for i, (x, y) in enumerate(data)]
    return DataLoaders(DataLoader(train, 10, device=cpu), DataLoader(data[:20], 10, device=cpu), device=cpu)

def test_nan_in_the_labels():
    "Found by the loss, in the head's first epoch; the images are not the only suspects"
    items = [(x, torch.tensor(float('nan') if i == 5 else 1.)) for i, (x, _) in enumerate(images())]
    learn = new_learner(staged(4, n_out=1), torch_dls(items), loss_func=lambda pred, y: (pred[:, 0] - y).square().mean(), metrics=None)
    with pytest.raises(FloatingPointError, match="head: the loss .* batch 1 .*NaN in that batch's images or labels"):
        learn.fit_sskd(staged(8, n_out=1), epochs=1, head_epochs=1)

def test_nan_in_the_first_validation_batch():
    dls = float_dls()
    dls.valid.dataset[3][0].fill_(float('nan'))
    refused(ValueError, "images hold 100 values that are NaN", dls=dls)

@pytest.mark.parametrize('bad, error, says', [
    (0, ValueError, 'the images hold 100 values that are NaN or infinite in the first batch'),
    (34, FloatingPointError, 'stage1: the loss or a weight is not finite at epoch 0, batch 3')])
def test_nan_in_the_data(bad, error, says):
    "An image of NaN: found before training in the first batch, else stage, epoch and batch are named; no weight is NaN"
    teacher, student = pair()
    learn, before = new_learner(student, float_dls(bad)), snapshot(student, teacher)
    with pytest.raises(error, match=says): learn.fit_sskd(teacher, epochs=1, head_epochs=1)
    assert not moved(before, student, teacher)

class Poison(Callback):
    "Makes the images of one training batch NaN"
    order = 11
    def __init__(self, n_stages, epoch, batch, head=False): self.at, self.head, self.good = (n_stages, epoch, batch), head, None
    def before_train(self):
        if self.here()[:2] == self.at[:2]: self.good = snapshot(self.learn.model)
    def here(self):
        is_head = not hasattr(self.learn, 'mimic_features')
        return (len(self.learn.model.stages) if is_head == self.head else None), self.learn.epoch, getattr(self.learn, 'iter', 0)
    def before_batch(self):
        if self.training and self.here() == self.at: self.learn.xb = (self.xb[0]*float('nan'),)

@pytest.mark.parametrize('n_stages,head,name', [(1, False, 'stage1'), (2, False, 'stage2'), (3, False, 'stage3'),
                         (3, True, 'head')],
                         ids=['stage1', 'stage2', 'stage3', 'head'])
def test_nan_while_training(n_stages, head, name):
    "Stopped with stage, epoch and batch named; the weights are the last good ones"
    teacher, student = pair()
    learn, states, poison = new_learner(student), state(student, teacher), Poison(n_stages, 1, 1, head)
    with pytest.raises(FloatingPointError, match=f'{name}: the loss or a weight is not finite at epoch 1, batch 1'):
        learn.fit_sskd(teacher, epochs=3, head_epochs=3, cbs=poison)
    now = snapshot(student)
    kept = {n: t for n, t in poison.good.items() if n in now}
    assert any(n.startswith('0.stages.stage1.1.running') for n in kept)
    assert all(torch.equal(now[n], t) for n, t in kept.items()) and all(t.isfinite().all() for t in now.values())
    assert state(student, teacher) == states and learn.model is student
    learn.fit_sskd(teacher, epochs=1, head_epochs=1)

def test_loss_becomes_nan():
    "A step that is far too long"
    teacher, student = pair()
    with pytest.raises(FloatingPointError, match='stage1: .*smaller lr'):
        new_learner(student).fit_sskd(teacher, epochs=4, lr=1e30, loss=mimic_mse)
    assert all(t.isfinite().all() for t in snapshot(student).values())

def test_last_step_of_a_stage():
    "Weights that become NaN in the very last step of a stage, with no training loss left to tell, are not handed on"
    class Last(Callback):
        def after_backward(self):
            stages = self.learn.model.stages
            if self.iter == self.n_iter - 1 and len(stages) == 1: stages['stage1'][0].weight.grad.fill_(float('nan'))
    teacher, student = pair()
    with pytest.raises(FloatingPointError, match='stage1'): new_learner(student).fit_sskd(teacher, epochs=1, head_epochs=1,
            cbs=Last())
    assert all(t.isfinite().all() for t in snapshot(student).values())

# --- checkpoints

@pytest.fixture
def net(): return tutorial_resnet(4, 1)

def cannot_load(net, path, match, error=ValueError):
    before = snapshot(net)
    with pytest.raises(error, match=match) as e: load_weights(net, path)
    assert not moved(before, net) and (str(path) in str(e.value))

@pytest.mark.parametrize('keep', [0, 4, 100, 0.5, -1], ids=['empty', '4 bytes', '100 bytes', 'half', 'one byte short'])
@pytest.mark.parametrize('suffix', ['safetensors', 'pt', 'legacy.pt'])
def test_truncated(net, tmp_path, keep, suffix):
    p = tmp_path/f'a.{suffix}'
    if suffix == 'safetensors': save_weights(tutorial_resnet(4, 1), p)
    else: torch.save(tutorial_resnet(4, 1).state_dict(), p, _use_new_zipfile_serialization=suffix == 'pt')
    raw = p.read_bytes()
    p.write_bytes(raw[:int(len(raw)*keep) if isinstance(keep, float) else keep])
    cannot_load(net, p, 'truncated|damaged')
    if suffix == 'safetensors':
        with pytest.raises(ValueError, match=f'{p} is truncated.*copy it again'): weights_meta(p)

def test_bytes_that_are_no_weights(net, tmp_path):
    p = tmp_path/'a.safetensors'
    p.write_bytes(b'\xff'*500)
    cannot_load(net, p, 'truncated or not a safetensors file')

class Evil:
    def __init__(self, marker): self.marker = marker
    def __reduce__(self): return (open, (str(self.marker), 'w'))

@pytest.mark.parametrize('how', ['torch', 'torch_legacy', 'pickle', 'beside_good_weights', 'named_safetensors'])
def test_code_is_not_run(net, tmp_path, how):
    p, marker = tmp_path/'evil.pt', tmp_path/'marker'
    evil = Evil(marker)
    if how == 'pickle': p.write_bytes(pickle.dumps(evil))
    elif how == 'beside_good_weights': torch.save(net.state_dict() | {'model': evil}, p)
    elif how == 'named_safetensors': torch.save({'w': evil}, p := tmp_path/'evil.safetensors')
    else: torch.save({'w': evil}, p, _use_new_zipfile_serialization=how == 'torch')
    cannot_load(net, p, 'could run code|not a safetensors file')
    assert not marker.exists()
    if how == 'pickle':
        pickle.loads(p.read_bytes()).close()  # teeth: it would have
        assert marker.exists()

@pytest.mark.parametrize('change,match', [
    (lambda sd: {k: v for k, v in sd.items() if k != 'head.fc.bias'}, "lacks 'head.fc.bias'"),
    (lambda sd: sd | {'extra': torch.zeros(1)}, "has 'extra', which the network does not have"),
    (lambda sd: sd | {'head.fc.bias': torch.zeros(11)}, r"'head.fc.bias' is \(11,\), the network's \(10,\)"),
    (lambda sd: {'net.' + k: v for k, v in sd.items()}, "and .* more"),
    (lambda sd: {}, "lacks"), (lambda sd: [1, 2], "no state_dict"), (lambda sd: {'a': 1}, "no state_dict"),
            (lambda sd: torch.zeros(3), "no state_dict")],
    ids=['missing', 'extra', 'shape', 'prefixed', 'empty', 'list', 'numbers', 'tensor'])
def test_does_not_fit(net, tmp_path, change, match):
    torch.save(change(tutorial_resnet(4, 1).state_dict()), tmp_path/'a.pt')
    cannot_load(net, tmp_path/'a.pt', match)

def test_what_does_load(net, tmp_path):
    "A plain state_dict, fastai's own `learn.save`, half precision"
    other = tutorial_resnet(4, 1)
    torch.save(other.state_dict(), tmp_path/'a.pt')
    torch.save({'model': other.state_dict(), 'opt': {'state': [], 'hypers': [{'lr': .1}]}}, tmp_path/'learn.pth')
    for name in ('a.pt', 'learn.pth'): assert not moved(snapshot(other), load_weights(net, tmp_path/name))
    parallel = torch.nn.DataParallel(other)
    own, its, new = other.state_dict(), parallel.state_dict(), tutorial_resnet(4, 1).state_dict()
    for i, d in enumerate([dict(epoch=3, state_dict=own), dict(state_dict=its), its, dict(state_dict=new, state_dict_ema=own)]):
        torch.save(d, tmp_path/f'{i}.pt')
        assert not moved(snapshot(other), load_weights(tutorial_resnet(4, 1), tmp_path/f'{i}.pt'))
    torch.save(its, tmp_path/'p.pt')
    assert not moved(snapshot(other), load_weights(torch.nn.DataParallel(net), tmp_path/'p.pt').module)  # that keeps its prefix
    save_weights(other, tmp_path/'half.safetensors', half=True)
    load_weights(net, tmp_path/'half.safetensors')
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(net.head.fc.weight, other.head.fc.weight, rtol=1e-3, atol=1e-4)
    with pytest.raises(FileNotFoundError, match='no weights at'): load_weights(net, tmp_path/'none.pt')
    with pytest.raises(FileExistsError, match='overwrite=True'): save_weights(net, tmp_path/'half.safetensors')

def test_numbers_too_large_for_half_precision(net, tmp_path):
    net.stages['stage1'][1].running_var.fill_(1e6)
    with pytest.raises(ValueError, match=r'stages.stage1.1.running_var holds 1e\+06.*65,504; pass half=False'):
        save_weights(net, tmp_path/'a.safetensors', half=True)
    assert not any(tmp_path.iterdir())
    save_weights(net, tmp_path/'a.safetensors')
    assert not moved(snapshot(net), load_weights(tutorial_resnet(4, 1), tmp_path/'a.safetensors'))

class Remembers(nn.Linear):
    def get_extra_state(self): return dict(n=3)
    def set_extra_state(self, state): self.state = state

def test_what_is_no_tensor_is_not_stored(tmp_path):
    net, other = Remembers(2, 2), Remembers(2, 2)
    save_weights(net, tmp_path/'a.safetensors')
    load_weights(other, tmp_path/'a.safetensors')
    assert torch.equal(net.weight, other.weight) and other.state == dict(n=3)

# --- data

def test_data_arguments(tmp_path):
    with pytest.raises(ValueError, match="'official' or 'holdout'"): fashion_dls(valid='test')
    with pytest.raises(ValueError, match='expected 1 to 800'): fashion_dls(n=100_000)
    with pytest.raises(ValueError, match='expected 1 to 800'): fashion_dls(n=3)
    with pytest.raises(FileNotFoundError, match='apt-get'): full_fashion('train', tmp_path)
    with pytest.raises(ValueError, match='0 images a class'): balanced(Images(*small_dls().train_ds.images), 0)

def idx_bytes(): return b'\0\0\x08\x03' + (2).to_bytes(4, 'big')*3 + b'12345678'

@pytest.mark.parametrize('name', ['x', 'x.gz'])
@pytest.mark.parametrize('raw', [b'', b'abc', b'\0\0\x0d\x01' + bytes(8), idx_bytes()[:6], idx_bytes()[:-1]],
                         ids=['empty', '3 bytes', 'floats', 'header cut', 'body cut'])
def test_damaged_idx(tmp_path, name, raw):
    p = tmp_path/name
    p.write_bytes(gzip.compress(raw) if name == 'x.gz' else raw)
    with pytest.raises(ValueError, match=f'{p} is (not an idx|cut short)'): read_idx(p)

@pytest.mark.parametrize('cut', [1, 12, 30])
def test_damaged_gz(tmp_path, cut):
    "A download that stopped"
    p = tmp_path/'x.gz'
    p.write_bytes(gzip.compress(idx_bytes())[:-cut])
    with pytest.raises(ValueError, match=str(p)): read_idx(p)

def test_image_set_says_what_it_holds():
    images = small_dls().train_ds.images
    assert len(ImageSet(images)) == 100 and ImageSet(images).c == 10

# --- loaders as people write them

def torch_dls(items, **kwargs):
    return DataLoaders(*(torch.utils.data.DataLoader(items, batch_size=4, **kwargs) for _ in range(2)), device=cpu)

def fastai_dls(items, bs, **kwargs):
    return DataLoaders(*(DataLoader(items, bs, num_workers=0, device=cpu, **kwargs) for _ in range(2)), device=cpu)

def images(n=8): return [(torch.rand(1, 10, 10), torch.tensor(i % 10)) for i in range(n)]

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self): return iter(images())

@pytest.mark.parametrize('items, error, match', [
    ([dict(image=x, label=y) for x, y in images()], TypeError, 'batches begin with a dict; expected .images, labels'),
    ([(x, y, 1.) for x, y in images()], ValueError, 'a batch has 3 parts, and fastai gives the first 2 to the network.*n_inp = 1'),
    ([(x, 'red') for x, _ in images()], TypeError, 'the labels of a batch are a (tuple|list); expected a tensor'),
    ([((255*x).byte(), y) for x, y in images()], ValueError, 'the images are torch.uint8; expected torch.float32'),
    ([(torch.rand(1, 9 + i, 9), 1) for i in range(8)], ValueError, 'cannot make a batch .RuntimeError.*of one size'),
    ([], ValueError, 'gives no batch: its set is empty'), (Stream(), TypeError, 'does not say how many batches it has')],
    ids='dicts three words bytes sizes empty stream'.split())
def test_batches_that_no_fit_can_take(items, error, match): refused(error, match, dls=torch_dls(items))

def test_fastais_loader_without_a_batch():
    dls = fastai_dls(images(), 16, drop_last=True)
    refused(ValueError, 'gives no batch: its set is empty, or smaller than a batch', dls=dls)

# --- a last batch of one image, on which a batch norm cannot train

def normed(where):
    "A batch norm behind a map of 1x1, in the last stage or in the head"
    net = staged(4)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(16))
    if where == 'stage3': return StagedNet(dict(net.stages) | dict(stage3=nn.Sequential(net.stages['stage3'], pooled)), nn.Linear(16, 10))
    return StagedNet(dict(net.stages), nn.Sequential(pooled, nn.Linear(16, 10)))

@pytest.mark.parametrize('where', ['stage3', 'head'])
def test_a_last_batch_of_one_image(where):
    teacher = normed(where)
    refused(ValueError, f"9 images in batches of 4 ends with one image, and {where} of the student cannot train on it .*more than 1 value.*drop_last=True",
            student=normed(where), teacher=teacher, dls=torch_dls(images(9)))
    refused(ValueError, "8 images in batches of 1.*one image", student=normed(where), teacher=teacher, dls=fastai_dls(images(8), 1))

@pytest.mark.parametrize('net, kwargs', [(lambda: normed('head'), dict(drop_last=True)), (lambda: normed('head'), dict(head_epochs=0)),
                                         (lambda: staged(4), {})], ids='dropped no_head no_norm'.split())
def test_where_one_image_is_enough(net, kwargs):
    torch.manual_seed(0)
    dls = torch_dls(images(9), **{k: v for k, v in kwargs.items() if k == 'drop_last'})
    assert new_learner(net(), dls).fit_sskd(staged(8), 1, kwargs.get('head_epochs', 1)).stages.nmse.notna().sum() == 3

def test_a_head_without_weights():
    net = staged(4)
    odd = StagedNet(dict(net.stages), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    refused(ValueError, "the student's head has no weights.*head_epochs=0", student=odd)

def test_weights_without_numbers():
    with torch.device('meta'): empty = staged(8)
    with pytest.raises(ValueError, match="weights of the teacher lie on the device 'meta'"):
        new_learner(staged(4)).fit_sskd(empty, 1, 1)

# --- settings of another type

class Loud(nn.Module):
    def forward(self, pred, hint): return (pred - hint).square().flatten(1).mean(1)

@pytest.mark.parametrize('kwargs, error, match', [
    (dict(epochs=1.5), ValueError, 'epochs is 1.5.*expected whole numbers'), (dict(epochs='2'), ValueError, "epochs is '2'"),
    (dict(head_epochs=None), ValueError, 'head_epochs is None'), (dict(lr='0.1'), TypeError, "the lr of stage1 is '0.1'; expected a number"),
    (dict(lr=[.1, .2]), TypeError, 'expected a number'), (dict(cbs='GradientClip'), TypeError, "cbs holds 'GradientClip'; expected"),
    (dict(epoch=3), TypeError, "takes no 'epoch'; did you mean 'epochs'"),
    (dict(loss=3), TypeError, 'loss is 3; expected a function'), (dict(loss=Loud()), TypeError, r'shape \(\d+,\), perhaps a number for each image'),
    (dict(loss=lambda p, h: 3.), TypeError, 'the loss gives a float; expected a scalar tensor'),
    (dict(loss=lambda p, h: (p - h).square().mean().detach()), TypeError, 'a number that no weight moves'),
    (dict(loss=nn.SmoothL1Loss), TypeError, r'loss is the class SmoothL1Loss; call it first: SmoothL1Loss\(\)'),
    (dict(lr=-.1), ValueError, 'the lr of stage1 is -0.1; expected a positive number'),
    (dict(lr=float('nan')), ValueError, 'the lr of stage1 is nan; expected a positive number'),
    (dict(valid_every=-1), ValueError, 'valid_every is -1; expected a whole number, 0 or more'),
    (dict(valid_every=1.5), ValueError, 'valid_every is 1.5'), (dict(valid_every='2'), ValueError, "valid_every is '2'"),
    (dict(plan='mine'), TypeError, "plan is a str; expected what learn.sskd_plan gives"),
    (dict(fit='fit_flat_cos'), TypeError, "fit is 'fit_flat_cos'; expected one of fastai's fits, e.g. fit=Learner.fit_flat_cos"),
    (dict(adapter=nn.Conv2d(4, 8, 1)), TypeError, 'stage1: adapter is a Conv2d that is made already; expected .*function')])
def test_settings_of_another_type(kwargs, error, match): refused(error, match, **kwargs)

@pytest.mark.parametrize('lr, error, match', [(-1, ValueError, 'is -1; expected a positive number'), ('.1', TypeError, "is '.1'; expected a number")])
def test_the_rate_of_one_phase(lr, error, match):
    learn, before = new_learner(student := staged(4)), snapshot(student)
    with pytest.raises(error, match='the lr of stage1 ' + match): learn.fit_stage(staged(8), 'stage1', 1, lr=lr)
    with pytest.raises(error, match='the lr of head ' + match): learn.fit_head(1, lr=lr)
    assert not moved(before, student)

@pytest.mark.parametrize('every', ['2m', -1, None, float('nan')])
def test_seconds_between_checkpoints(every, tmp_path):
    with pytest.raises(ValueError, match=f'every is {every!r}; expected seconds'): Checkpoint(tmp_path/'c', every=every)

@pytest.mark.parametrize('views', ['4', 1.5, 0, None])
def test_views_to_remember(views):
    with pytest.raises(ValueError, match=f'views is {views!r}; expected a whole number'): CacheFeatures(views)
