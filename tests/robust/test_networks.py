"""Networks of timm, torchvision, fastai and one's own, as teacher and as student: what is frozen stands still to the bit."""
import pytest
import torch
from test_cut import fast, made, noise_dls, slow
from test_pairing import Invariants, like, modes

from helpers.matrix import check
from helpers.pairs import moved, new_learner, snapshot
from sskd_tutor.distill.pairing import pair_stages

pytestmark = pytest.mark.slow
torch.set_num_threads(1)
# The encoder answers with a map. The others take minutes: `tests/nets/test_cut.py` has each of them by itself.
left_out = """unet_encoder timm:maxvit_pico_rw_256 timm:coatnet_pico_rw_224 timm:swinv2_cr_tiny_224 timm:davit_tiny
    timm:hiera_tiny_224 timm:efficientformer_l1 timm:nest_tiny_jx timm:visformer_tiny torchvision:resnet50
    torchvision:resnext50_32x4d torchvision:wide_resnet50_2 torchvision:efficientnet_v2_s torchvision:vgg11 torchvision:vgg13_bn
    torchvision:convnext_tiny torchvision:swin_v2_t torchvision:vit_b_16 torchvision:maxvit_t""".split()
every = [name for name in [*fast, *slow] if name not in left_out]

def taught(teacher, student, x, side, fresh):
    "One epoch of everything; all that must stand still does, and the student leaves in its own class"
    before, how = snapshot(teacher, student), (modes(teacher), modes(student))
    dls = noise_dls(x)
    pairing = pair_stages(teacher, student, dls, teacher_input=dict(size=side), **like)
    assert not moved(before, teacher, student) and (modes(teacher), modes(student)) == how
    hints, own, watch = snapshot(pairing.teacher), snapshot(teacher), Invariants(pairing.teacher)
    learn = new_learner(pairing.student, dls)
    run = learn.fit_sskd(pairing.teacher, epochs=1, head_epochs=1, adapter=pairing.adapter, cbs=watch, valid_every=0)
    assert watch.seen == [*pairing.student.stage_names, 'head'] == list(run.stages.index)
    assert not moved(hints, pairing.teacher) and not moved(own, teacher)
    assert list(student.state_dict()) == list(fresh.state_dict())
    fresh.load_state_dict(student.state_dict())
    with torch.no_grad(): assert torch.equal(fresh.eval()(x), pairing.student.eval()(x))

# each network is a teacher once, and a student once
pairs = list(zip(every, every[1:] + every[:1]))

@pytest.mark.parametrize('teacher, student', pairs)
def test_pair(teacher, student):
    def f():
        (net, xt, _), (learns, x, _) = made(teacher), made(student)
        taught(net, learns, x, xt.shape[-1], made(student)[0])
    check('networks', f'{teacher} teaches {student}', f, expect=('right',))

def test_the_matrix_is_large(): assert len(every) >= 60
