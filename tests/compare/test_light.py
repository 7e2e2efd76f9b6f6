"""The lightweight teacher: its images, its repeatability, its critic, what it leaves behind."""
import pytest
import torch
from fastai.learner import Callback, Learner
from fastai.metrics import accuracy
from fastai.torch_core import set_seed

from sskd_tutor.core.device import Bf16
from sskd_tutor.data.loaders import fashion_dls
from sskd_tutor.distill.losses import kd_loss
from sskd_tutor.compare.light import LightTeacher, SoftTargets, VirtualTeacher, tiny_teacher, virtual_logits
from sskd_tutor.data.made import digit_set
from sskd_tutor.nets.small import tutorial_resnet

@pytest.mark.parametrize('c', [2, 10, 11, 100])
def test_pictures(c):
    a, b = digit_set(c, 4*c), digit_set(c, 4*c, 'valid')
    assert a.x.shape == (4*c, 1, 8, 8 if c <= 10 else 16) and a.x.dtype == torch.uint8 and a.x.max() == 255
    assert a.y.bincount().tolist() == [4]*c
    assert not set(a.idx.flatten().tolist()) & set(b.idx.flatten().tolist())
    assert torch.equal(a.x, digit_set(c, 4*c).x) and not torch.equal(a.x, digit_set(c, 4*c, seed=1).x)

def test_a_picture_is_its_number():
    from sklearn.datasets import load_digits
    digits, many = load_digits(), digit_set(47, 47*3)
    for x, y, (tens, units) in zip(many.x, many.y.tolist(), many.idx.tolist()):
        assert digits.target[tens] == y//10 and digits.target[units] == y % 10
        assert (x[0, :, 8:].float()*16/255 - torch.from_numpy(digits.images[units])).abs().max() < 0.1

def test_the_tiny_teacher_repeats_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    a, gmacs = tiny_teacher.__wrapped__(3, 300, 2)
    assert torch.equal(state, torch.get_rng_state()) and gmacs > 0
    b, _ = tiny_teacher.__wrapped__(3, 300, 2)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))

def test_targets_are_drawn_by_class():
    images = digit_set(10, 500, 'valid')
    net, _ = tiny_teacher(10)
    targets, y = SoftTargets(net, images), torch.randint(10, (4000,))
    drawn = targets.draw(y)
    all_of = {c: {tuple(r) for r in targets.table[c].tolist()} for c in range(10)}
    assert all(tuple(r) in all_of[c] for r, c in zip(drawn.tolist(), y.tolist()))
    assert len({tuple(r) for r in drawn.tolist()}) > 200

def learner(cb, **kwargs):
    set_seed(0, reproducible=True)
    learn = Learner(fashion_dls(n=200, bs=50), tutorial_resnet(width=4, blocks=1), metrics=accuracy, cbs=cb, **kwargs)
    learn.remove_cb(learn.progress)
    return learn

def test_loss_is_the_formula():
    light = LightTeacher(10, alpha=.3, T=2., adversarial=.7)
    learn = learner(light)
    light.learn, light.rng = learn, torch.Generator().manual_seed(5)
    pred, y = torch.randn(20, 10), torch.randint(10, (20,))
    heard = light.targets.draw(y, torch.Generator().manual_seed(5))
    fooled = -torch.sigmoid(light.critic((pred/2).softmax(1))).log().mean()
    assert light.loss(pred, y).item() == pytest.approx((kd_loss(pred, y, heard, 2., .3) + .7*fooled).item(), rel=1e-5)

def test_counted_work_of_the_critic():
    from torch.utils.flop_counter import FlopCounterMode
    light, p = LightTeacher(10), torch.rand(50, 10).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        light.fooling(p).backward()
        light.criticize(p.detach(), p.detach())
    assert light.gmacs(50) - light.teacher_gmacs == pytest.approx(counter.get_total_flops()/2e9, rel=1e-6)

@pytest.mark.parametrize('make', [lambda: LightTeacher(10), lambda: VirtualTeacher(10)])
def test_interrupt_gives_the_loss_back(make):
    class Stop(Callback):
        order = 99
        def after_loss(self): raise KeyboardInterrupt
    learn = learner([make(), Stop()])
    own = learn.loss_func
    with pytest.raises(KeyboardInterrupt): learn.fit(1)
    learn.remove_cbs(learn.cbs.filter(lambda c: isinstance(c, (LightTeacher, VirtualTeacher, Stop))))
    assert learn.loss_func is own
    learn.fit(1)

def test_half_precision():
    learn = learner([LightTeacher(10), Bf16()])
    learn.fit(1, 1e-3)
    assert all(p.isfinite().all() for p in learn.model.parameters())

def test_validation_is_the_learners_own_loss():
    learn = learner(VirtualTeacher(10))
    learn.fit(1, 1e-3)
    assert learn.recorder.values[-1][1] == pytest.approx(learn.validate()[0], rel=1e-4)
    assert virtual_logits(torch.tensor([1]), 3, .9).exp()[0].tolist() == pytest.approx([.05, .9, .05])
