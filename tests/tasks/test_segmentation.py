"""A U-Net in stages: what its decoder reads, what stands still, what is refused, what leaves, and how its masks are judged."""
import base64, copy, gc, io, shutil, warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback
from sskd_tutor.core.events import RunCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from fastai.torch_core import set_seed
from fastai.vision.learner import create_unet_model
from fastai.vision.models.unet import DynamicUnet
from PIL import Image
from torch import nn
from torchvision.models import resnet18, resnet34

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.distill.callbacks import mimic_net
from sskd_tutor.core.device import quiet
from sskd_tutor.tasks.masks import camvid_dls, read_camvid, scene_codes, scene_dls
from sskd_tutor.distill.checkpoint import Checkpoint
from sskd_tutor.data.images import Images
from sskd_tutor.data.views import Views
from sskd_tutor.core.files import pkg_data
from sskd_tutor.runs.export import export_student
from sskd_tutor.distill.joint import joint_gmacs
from sskd_tutor.distill.check import check_pair, first_batch
from sskd_tutor.distill.adapters import make_adapters
from sskd_tutor.distill.costs import stage_costs
from sskd_tutor.distill.matching import merged
from sskd_tutor.data.made import make_scenes, write_camvid
from sskd_tutor.tasks.segmentation import (MeanIoU, StagedUnet, exportable, scores, segment_stages, segmentation_teacher, small_unet,
    stitched_maps, teacher_sha256)
from sskd_tutor.tasks.streets import StreetDL, StreetSet
from sskd_tutor.viz.walls import mask_wall
from sskd_tutor.nets.staged import StagedNet, count_macs
from sskd_tutor.core.state import tensors_sha256
from sskd_tutor.nets.weights import weights_meta

torch.set_num_threads(1)
side = 32

def tiny(width=4, seed=0, **kwargs):
    torch.manual_seed(seed)
    return small_unet(width, 1, size=(side, side), **kwargs)

def loaders(n=8, bs=4, **kwargs):
    scenes = [make_scenes(m, split, side, pieces=(1, 2), scale=(.5, .8)) for m, split in ((n, 'train'), (4, 'valid'))]
    return scene_dls(*scenes, bs=bs, device='cpu', **kwargs)

@pytest.fixture(scope='module')
def dls(): return loaders()

def learner(dls, width=4, cbs=()):
    set_seed(0, reproducible=True)
    dls.train.set_epoch(0)
    return Learner(dls, segment_stages(tiny(width)), metrics=MeanIoU(), cbs=list(cbs))

def quietly(learn, what, *args, **kwargs):
    with quiet(learn): return getattr(learn, what)(*args, **kwargs)

def the_teacher(): return segment_stages(tiny(6, seed=1)).eval()

def images(n=2, c=1, size=side, seed=0): return torch.randn(n, c, size, size, generator=torch.Generator().manual_seed(seed))

def state(net): return {k: v.clone() for k, v in net.state_dict().items()}

def moved(before, net):
    names = [k for k, v in net.state_dict().items() if not torch.equal(v, before[k])]
    return {k.split('.')[1] if k.startswith('stages') else 'head' for k in names}

# --- in stages

kinds = dict(small=lambda: tiny(), resnet18=lambda: create_unet_model(resnet18, 5, (64, 64), pretrained=False),
             resnet34=lambda: create_unet_model(resnet34, 5, (64, 64), pretrained=False, blur=True, self_attention=True),
             no_cross=lambda: tiny(last_cross=False), no_norm=lambda: tiny(norm_type=None), y_range=lambda: tiny(y_range=(0, 1)))

@pytest.mark.parametrize('kind', [k if k != 'resnet34' else pytest.param(k, marks=pytest.mark.slow) for k in kinds])
def test_same_answers_same_keys_same_weights(kind):
    unet = kinds[kind]().eval()
    keys, x = list(unet.state_dict()), images(c=3, size=64) if kind.startswith('res') else images()
    with torch.no_grad(): want = unet(x)
    net = segment_stages(unet)
    assert net.stage_names == [f'{k}{i}' for k in ('enc', 'dec') for i in range(1, 6)]
    assert not net.chained and segment_stages(net) is net
    assert {id(t) for t in [*net.parameters(), *net.buffers()]} == {id(t) for t in [*unet.parameters(), *unet.buffers()]}
    assert not any(m.training for m in net.modules())
    with torch.no_grad(): assert torch.equal(net(x), want)
    reductions = net.stage_table(x).reduction.tolist()[:-1]
    assert reductions == [2, 4, 8, 16, 32, 16, 8, 4, 2, 1]
    plain = net.plain()
    assert plain is unet and type(plain) is DynamicUnet and list(plain.state_dict()) == keys
    with torch.no_grad(): assert torch.equal(plain(x), want)

def test_stages_of_an_encoder_that_begins_at_full_size():
    body = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), *(nn.Sequential(nn.Conv2d(c, 8, 3, 2, 1), nn.ReLU()) for c in (4, 8)))
    unet = DynamicUnet(body, 3, (side, side)).eval()
    net, x = segment_stages(unet), images()
    assert net.stage_names == ['enc1', 'enc2', 'enc3', 'dec1', 'dec2']  # the last block is at the images' size already
    assert torch.equal(net(x), unet(x))

def test_other_sizes_than_it_was_built_for():
    unet = tiny().eval()
    for size in (48, 50): assert torch.equal(segment_stages(unet)(images(size=size)), unet(images(size=size)))

def test_what_is_no_unet_is_refused():
    with pytest.raises(TypeError, match='got a ResNet; expected fastai'): segment_stages(resnet18())
    flat = DynamicUnet(nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU()), 3, (side, side))
    with pytest.raises(ValueError, match='no UnetBlock'): segment_stages(flat)
    unet = tiny()
    unet.sfs.remove()
    with pytest.raises(ValueError, match='4 UnetBlocks, but 0 hooks'): segment_stages(unet)

# --- hooks

def test_a_part_alone_reads_its_own_run():
    net, x, other = segment_stages(tiny()).eval(), images(), images(3, seed=1)
    taps = {}
    for n, m in net.stages.items(): m.register_forward_hook(lambda m, i, o, n=n: taps.__setitem__(n, o))
    net(x)
    whole = dict(taps)
    for n in net.stage_names:
        net(other)
        assert torch.equal(mimic_net(net, n, nn.Identity())(x), whole[n]), n
        assert torch.equal(net.forward_from(whole[n], n), net(x)), n

def test_hooks_are_ones_own():
    student, teacher, x = segment_stages(tiny()).eval(), the_teacher(), images()
    student(x)
    held = [h.stored for h in student.whole[0].sfs]
    teacher(images(3, seed=1))
    assert all(a is b.stored for a, b in zip(held, student.whole[0].sfs))
    assert [h.stored.shape[1] for h in teacher.whole[0].sfs] == [18, 12, 6, 6]  # its own maps, its own widths

def test_a_copy_stands_alone():
    net, x = segment_stages(tiny()).eval(), images()
    with torch.no_grad(): want = net(x)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for p in net.parameters(): p.zero_()
    net(images(3, seed=1))
    assert torch.equal(twin(x), want)
    del net
    gc.collect()  # a DynamicUnet that goes takes its hooks along: its own
    assert torch.equal(twin(x), want) and torch.equal(segment_stages(twin.plain())(x), want)

def test_the_network_lives_as_long_as_its_stages():
    net = segment_stages(tiny().eval())
    gc.collect()
    assert net(images()).shape == (2, 11, side, side) and all(h.stored is not None for h in net.whole[0].sfs)

def test_gradients_reach_the_encoder_through_the_hooks():
    unet, x, y = tiny().eval(), images(), torch.zeros(2, side, side, dtype=torch.long)
    def grads(net):
        net.zero_grad()
        F.cross_entropy(net(x), y).backward()
        return [p.grad.clone() for p in unet.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(grads(unet), grads(segment_stages(unet))))

# --- distilling

class Modes(Callback):
    "What is in training mode at each step"
    def __init__(self): self.seen = {}
    def after_pred(self):
        if not self.training: return
        learning = {n for n, m in self.learn.model.stages.items() if any(o.training for o in m.modules())}
        self.seen[self.learn.sskd_phase] = self.seen.get(self.learn.sskd_phase, set()) | learning

def test_ten_stages_each_alone_and_the_head(dls):
    learn, teacher, modes = learner(dls), the_teacher(), Modes()
    class Watch(RunCallback):
        def skip_phase(self, learn, run): self.before = state(run.student)
        def end_phase(self, learn, run): parts[learn.sskd_phase] = moved(self.before, run.student)
    parts, before = {}, tensors_sha256(teacher)
    run = quietly(learn, 'fit_sskd', teacher, 1, head_epochs=1, cbs=[modes, Watch()])
    assert parts == {n: {n} for n in [*learn.model.stage_names, 'head']}  # weights and statistics, to the bit
    assert modes.seen == {n: {n} for n in learn.model.stage_names} | {'head': set()}
    assert tensors_sha256(teacher) == before and 'stitched' not in set(run.history.measure) and 'miou' in set(run.history.measure)
    assert run.stages.nmse[:10].notna().all() and type(learn.model) is StagedUnet
    assert learn.model.plain()(images()).shape == (2, 11, side, side)

@pytest.mark.parametrize('stage', ['enc3', 'dec2', 'dec5'])
def test_counted_is_what_runs(dls, stage):
    learn, teacher = learner(dls), the_teacher()
    k = learn.model.stage_index(stage)
    adapters = make_adapters(learn.model.stage_names, *check_pair(learn, teacher), 'conv')
    costs = stage_costs(learn, teacher, adapters)
    told = (costs.student_macs[:k].sum() + costs.teacher_macs[:k + 1].sum() + costs.train_macs[stage])*8
    def fit(): quietly(learn, 'fit_stage', teacher, stage, 1, adapter=adapters[stage], valid_every=0)
    assert count_macs(fit) == pytest.approx(told, rel=1e-9)

def test_labels_only_and_what_it_costs(dls):
    learn = learner(dls)
    planned, before = joint_gmacs(learn, None)(2), state(learn.model)
    run = quietly(learn, 'fit_joint', None, 2, valid_every=0)
    assert run.gmacs == pytest.approx(planned) and moved(before, learn.model) == {*learn.model.stage_names, 'head'}
    x = first_batch(dls.train)[0]
    unet = learn.model.plain()
    step = count_macs(lambda: dls.train_ds.loss_func(unet(x), torch.zeros(4, side, side, dtype=torch.long)).backward())
    assert planned == pytest.approx(2*2*step/1e9)

def test_plan_with_times(dls):
    plan = learner(dls).sskd_plan(the_teacher(), 1, head_epochs=1)
    assert (plan.table.seconds > 0).all() and list(plan.table.index)[-1] == 'head'

def test_nothing_is_remembered_and_that_is_said_once(dls):
    plain, asked, cache = learner(dls), learner(dls), CacheFeatures(2)
    def run(learn, cbs=None): return quietly(learn, 'fit_sskd', the_teacher(), 1, head_epochs=1, cbs=cbs, valid_every=0)
    a = run(plain)
    dls.train.set_epoch(0)
    set_seed(0, reproducible=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        b = run(asked, cache)
        quietly(asked, 'fit_stage', the_teacher(), 'dec1', 1, adapter=nn.Conv2d(20, 30, 1), cbs=cache)
    said = [str(w.message) for w in said if 'CacheFeatures' in str(w.message)]
    assert said == ['CacheFeatures remembers nothing: parts of StagedUnet read more than the map before them']
    assert cache.taps is None and a.gmacs == b.gmacs and b.plan.bytes == 0
    class Chain(StagedNet): pass  # a chained student does not help where the teacher is none
    chain = Learner(dls, Chain({n: nn.Identity() for n in plain.model.stage_names}, nn.Identity()))
    with pytest.warns(UserWarning, match='parts of StagedUnet'): assert not CacheFeatures(2).ready(chain, (), the_teacher())
    assert CacheFeatures(2).ready(chain)

def test_no_stitched_accuracy_is_said_once(dls, capsys):
    learn = learner(dls)
    with learn.no_logging(): learn.fit_sskd(the_teacher(), 1, head_epochs=1, valid_every=0)
    assert capsys.readouterr().out.count('stitched accuracy is not defined, because parts of StagedUnet read more') == 1

def test_merged_stages_stay_unchained():
    net = segment_stages(tiny())
    assert not merged(net, ['enc3', 'enc5', 'dec5']).chained
    assert merged(StagedNet(dict(a=nn.Identity(), b=nn.Identity()), nn.Identity()), ['b']).chained

def test_a_killed_run_goes_on_to_the_same_student(dls, tmp_path):
    class Stop(Callback):
        def after_batch(self):
            if self.training and self.learn.sskd_phase == 'dec2': raise KeyboardInterrupt
    def run(*cbs):
        learn = learner(dls)
        return learn, quietly(learn, 'fit_sskd', the_teacher(), 1, head_epochs=1, cbs=list(cbs), valid_every=0)
    whole, a = run()
    with pytest.raises(KeyboardInterrupt): run(Checkpoint(tmp_path), Stop())
    resumed, b = run(Checkpoint(tmp_path, resume=True))
    assert not moved(state(whole.model), resumed.model) and a.gmacs == b.gmacs

@pytest.mark.parametrize('void', [None, 'fastai', 'torch', 'partial'])
def test_a_head_with_too_few_classes_is_refused_before_anything_trains(dls, void):
    "`Target 6 is out of bounds` used to come when ten stages had been trained; a number that the loss leaves out is no class"
    few = Learner(dls, segment_stages(tiny(n_out=5)))
    before = state(few.model)
    with pytest.raises(ValueError, match='labels run from 0 to 10, but the head has 5 outputs; expected 0 to 4'):
        few.fit_sskd(the_teacher(), 1, head_epochs=1)
    assert not moved(before, few.model)
    y = torch.full((4, side, side), 4).index_fill(1, torch.tensor(3), 255)
    plain = DataLoaders(*[DataLoader([*zip(images(4), y)], bs=2, num_workers=0) for _ in range(2)], device='cpu')
    losses = dict(fastai=CrossEntropyLossFlat(axis=1, ignore_index=255), torch=nn.CrossEntropyLoss(ignore_index=255),
                  partial=partial(F.cross_entropy, ignore_index=255))
    few = Learner(plain, segment_stages(tiny(n_out=5)), loss_func=losses.get(void, CrossEntropyLossFlat(axis=1)))
    if not void:
        with pytest.raises(ValueError, match='labels run from 4 to 255'): check_pair(few, the_teacher())
        few.loss_func, few.model = BCEWithLogitsLossFlat(axis=1), segment_stages(tiny(n_out=1))
    check_pair(few, the_teacher())  # one output: 0 and 1 are no classes of it

def test_the_teachers_head_does_not_leave(dls):
    learn = learner(dls)
    quietly(learn, 'fit_sskd', the_teacher(), 1, head_epochs=0, valid_every=0)
    assert learn.model(images()).shape == (2, 11, side, side)
    with pytest.raises(ValueError, match='not the network\'s own: with head_epochs=0'): learn.model.plain()

def test_stitched_through_itself_is_the_teacher():
    teacher, x = the_teacher(), images()
    twin, alike = copy.deepcopy(teacher), dict.fromkeys(teacher.stages, nn.Identity())
    for s in teacher.stage_names:
        teacher(images(3, seed=1))
        twin(images(3, seed=2))
        assert torch.equal(stitched_maps(twin, alike, teacher, s, x), teacher(x)), s

def test_stitched_sees_nothing_of_the_teachers_encoder():
    "Where the student's maps are all zero the image cannot matter, but for the last layer, which sees it"
    teacher, x = segment_stages(tiny(6, seed=1, last_cross=False)).eval(), images()
    student, zero = copy.deepcopy(teacher), dict.fromkeys(teacher.stages, nn.Threshold(float('inf'), 0.))
    a, b = (stitched_maps(student, zero, teacher, 'enc5', o) for o in (x, images(seed=1)))
    assert torch.equal(a, b) and not torch.equal(teacher(x), teacher(images(seed=1)))
    with pytest.raises(ValueError, match='expected as many'):
        body = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
        stitched_maps(segment_stages(DynamicUnet(body, 11, (side, side))), zero, teacher, 'enc1', x)

# --- it leaves

def test_exported_programs_answer_alike(tmp_path):
    unet, x = tiny().eval(), images()
    F.cross_entropy(unet(x), torch.zeros(2, side, side, dtype=torch.long)).backward()  # leaves maps with gradients in the hooks
    copied = exportable(unet)
    assert list(copied.state_dict()) == list(unet.state_dict()) and type(unet.layers[-1]).__name__ == 'ToTensorBase'
    with torch.no_grad(): assert torch.equal(copied(x), unet(x))
    table = export_student(copied, x, tmp_path/'student', formats=['safetensors', 'torch'])
    assert table.difference.max() < 1e-5

@pytest.mark.slow
def test_onnx(tmp_path):
    assert export_student(exportable(tiny().eval()), images(), tmp_path/'student', formats=['onnx']).difference.max() < 1e-4

def test_as_it_is_it_cannot_be_traced(tmp_path):
    with pytest.raises(ValueError, match='TensorBase'): export_student(tiny().eval(), images(), tmp_path/'s', formats=['torch'])

# --- mean IoU

def naive(answers, masks, n, void):
    ious = []
    for c in range(n):
        both = either = 0
        for a, m in zip(answers.flatten().tolist(), masks.flatten().tolist()):
            if m == void: continue
            both, either = both + (a == m == c), either + (a == c or m == c)
        if either and c != void: ious.append(both/either)
    right = [a == m for a, m in zip(answers.flatten().tolist(), masks.flatten().tolist()) if m != void]
    return sum(ious)/len(ious), sum(right)/len(right)

@pytest.mark.parametrize('void', [None, 0, 3])
def test_mean_iou_is_the_naive_loop(void):
    rng = torch.Generator().manual_seed(0)
    codes = ['Void' if i == void else f'c{i}' for i in range(6)]
    masks, answers = (torch.randint(0, 5, (6, 9, 8), generator=rng) for _ in range(2))  # class 5 occurs nowhere
    batches = [(answers[i:i+4], masks[i:i+4]) for i in (0, 4)]
    got = scores(lambda x: F.one_hot(x, 6).permute(0, 3, 1, 2).float(), batches, codes)
    assert (got['miou'], got['pixel_accuracy']) == pytest.approx(naive(answers, masks, 6, void), abs=1e-6)
    assert got['iou'].isna().tolist() == [i in (5, void) for i in range(6)]
    assert got['iou'].mean() == pytest.approx(got['miou'], abs=1e-6)
    perfect = scores(lambda x: F.one_hot(x, 6).permute(0, 3, 1, 2).float(), [(masks, masks)], codes)
    assert perfect['miou'] == perfect['pixel_accuracy'] == 1

def test_the_learners_metric_is_the_same(dls):
    learn = learner(dls)
    assert quietly(learn, 'validate')[1] == pytest.approx(scores(learn.model, dls.valid)['miou'], abs=1e-6)

# --- data

@pytest.fixture
def folder(tmp_path): return write_camvid(make_scenes(6), tmp_path/'camvid', make_scenes(2, 'valid'))

def test_camvid_there_and_back(folder):
    files, scenes = read_camvid(folder), (make_scenes(6), make_scenes(2, 'valid'))
    assert (len(files.images), files.valid, files.codes[0]) == (8, [False]*6 + [True]*2, 'background')
    dls = camvid_dls(folder, bs=2, mode='L', stats=([0.], [1.]), device='cpu', shuffle=False)
    for dl, s in zip(dls.loaders, scenes):
        x, y = (torch.cat([b[i].as_subclass(torch.Tensor) for b in dl]) for i in (0, 1))
        assert torch.allclose(x*255, s.x.float(), atol=1e-3) and torch.equal(y, s.masks.long())
    assert dls.c == 11 and dls.train_ds.loss_func.axis == 1

def test_camvid_trains_a_color_unet(folder):
    dls = camvid_dls(folder, bs=2, size=side, device='cpu')
    set_seed(0)
    learn = Learner(dls, segment_stages(small_unet(2, 1, c_in=3, size=(side, side))), metrics=MeanIoU())
    run = quietly(learn, 'fit_sskd', segment_stages(small_unet(3, 1, c_in=3, size=(side, side))), 1, head_epochs=1)
    assert first_batch(dls.train)[0].shape == (2, 3, side, side)
    assert 0 <= run.history[run.history.measure == 'miou'].value.item() <= 1

def spoil(folder, how):
    image, mask = folder/'images/00002.png', folder/'labels/00002_P.png'
    if how == 'no images': [p.unlink() for p in (folder/'images').iterdir()]
    if how == 'no folder': shutil.rmtree(folder/'labels')
    if how == 'no codes': (folder/'codes.txt').unlink()
    if how == 'empty codes': (folder/'codes.txt').write_text('\n')
    if how == 'few codes': (folder/'codes.txt').write_text('background\nt-shirt\n')
    if how == 'no mask': mask.unlink()
    if how == 'strange valid': (folder/'valid.txt').write_text('00001.png\nelsewhere.png\n')
    if how == 'all valid': (folder/'valid.txt').write_text('\n'.join(p.name for p in (folder/'images').iterdir()))
    if how == 'size': Image.fromarray(np.zeros((96, 95), 'u1')).save(mask)
    if how == '255': Image.fromarray(np.full((96, 96), 255, 'u1')).save(mask)
    if how == 'palette':
        im = Image.fromarray(np.ones((96, 96), 'u1'), 'P')
        im.putpalette([0, 0, 0, 128, 0, 0])
        im.save(mask)
    if how == 'cut image': image.write_bytes(image.read_bytes()[:200])
    if how == 'cut mask': mask.write_bytes(b'not a image')

missing, wrong = FileNotFoundError, ValueError

@pytest.mark.parametrize('how,error,match', [
    ('no images', wrong, 'holds no images'), ('no folder', missing, 'no folders images and labels'),
    ('no codes', missing, 'codes.txt is missing'), ('empty codes', wrong, 'codes.txt is empty'),
    ('few codes', wrong, 'codes.txt names 0 to 1'), ('no mask', missing, 'lacks 1 of 8 masks: 00002_P.png'),
    ('strange valid', wrong, 'not in images: elsewhere.png'), ('all valid', wrong, '8 of 8 images are held out'),
    ('size', wrong, '00002_P.png has 95x96 pixels, its image 96x96'), ('palette', wrong, 'colors or a palette'),
    ('255', wrong, '00002_P.png has the number 255, codes.txt names 0 to 10'),
    ('cut image', wrong, r'1 of 8 pairs cannot be opened: 00002.png \(OSError'),
    ('cut mask', wrong, r'00002_P.png \(UnidentifiedImageError')])
def test_bad_folders_are_named(folder, how, error, match):
    spoil(folder, how)
    with pytest.raises(error, match=match): camvid_dls(folder, device='cpu')
    if how.startswith('cut'): assert len(read_camvid(folder, skip=True).images) == 7
    elif how == '255':
        with pytest.raises(error, match=match): read_camvid(folder, skip=True)  # not what skip is for

def test_sizes_that_make_no_batch(folder):
    for p in (folder/'images/00001.png', folder/'labels/00001_P.png'): Image.open(p).resize((48, 64), Image.NEAREST).save(p)
    with pytest.raises(ValueError, match='2 sizes do not make a batch'): camvid_dls(folder, device='cpu')
    assert first_batch(camvid_dls(folder, bs=6, size=(32, 48), device='cpu').train)[1].shape == (6, 32, 48)
    with pytest.raises(ValueError, match="expected 'RGB' or 'L'"): camvid_dls(folder, mode='gray')

def test_masks_move_with_their_images():
    scenes = make_scenes(8)
    lit = scenes._replace(x=scenes.masks[:, None].clone())
    plain, views = (first_batch(scene_dls(lit, lit, bs=8, views=v, device='cpu').train) for v in (None, Views(crop=8, erase=0)))
    for x, y in (plain, views): assert ((x[:, 0]*.3530 + .2860)*255 - y).abs().max() < 1e-2
    assert not torch.equal(plain[1], views[1])
    with pytest.raises(ValueError, match='a mask has the number'): scene_dls(lit, lit, codes=['background'])

def test_outside_the_frame_no_class_is_learned():
    "Without a void, class 0 would be: the sky"
    frames = Images(torch.full((6, 3, 20, 24), 9, dtype=torch.uint8), torch.ones(6, 20, 24, dtype=torch.uint8), torch.arange(6))
    data = StreetSet(frames, 0, ['Sky', 'Road'])
    x, y = StreetDL(data, bs=6, views=Views(crop=4, erase=0), device=torch.device('cpu')).draw(torch.arange(6))
    outside = (x == 0).all(1)
    assert outside.any() and set(y[~outside].tolist()) == {1}
    logits = torch.zeros(6, 2, 20, 24, requires_grad=True)
    data.loss_func(logits, y).backward()
    assert not logits.grad.movedim(1, -1)[outside].any()

def test_the_figure_shows_what_it_is_given():
    scenes = make_scenes(2)
    fig = mask_wall(scenes.x, dict(truth=scenes.masks, nothing=scenes.masks*0), 'two scenes')
    assert list(fig.layout.xaxis.ticktext) == ['scene', 'truth', 'nothing']
    assert Image.open(io.BytesIO(base64.b64decode(fig.data[0].source.split(',')[1]))).mode == 'RGB'  # opaque
    assert all((scene_codes[c] in fig.layout.annotations[-1].text) == bool((scenes.masks == c).any()) for c in range(1, 11))

# --- what travels with the package

path = pkg_data/'teacher_segmentation.safetensors'

def judged(n):
    test = make_scenes(n, 'valid')
    return scores(segmentation_teacher(), scene_dls(test, test, bs=50, device='cpu').valid)

def test_the_teacher_and_its_card():
    card, meta, teacher = path.with_suffix('.md').read_text(), weights_meta(path), segmentation_teacher()
    assert teacher_sha256 in card and f"{meta['miou']:.2f} %" in card and path.stat().st_size < 1.5*2**20
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert judged(50)['miou'] > .5

@pytest.mark.slow
def test_the_teacher_is_as_good_as_its_card_says():
    got, meta = judged(300), weights_meta(path)
    assert (100*got['miou'], 100*got['pixel_accuracy']) == pytest.approx((meta['miou'], meta['pixel_accuracy']), abs=.1)

@pytest.mark.parametrize('file', ['segmentation', 'segmentation_masks'])
def test_the_runs_at_length(file):
    runs = pd.read_csv(pkg_data/f'benchmarks/results/{file}.csv')
    methods = ['labels only', 'stage by stage', 'stage by stage + fine-tune']
    if file.endswith('masks'):
        runs = runs[runs.masks > 0]  # that without a mask trains no head, and costs less
        assert runs.masks.eq(40).all()
    assert runs.groupby('method').seed.agg(sorted).to_dict() == dict.fromkeys(methods, [0, 1, 2])
    gmacs = runs.set_index(['seed', 'method']).gmacs.unstack()
    assert (gmacs.div(gmacs['stage by stage'], axis=0) - 1).abs().max(axis=None) < .05
    assert runs.teacher_miou.round(2).eq(weights_meta(path)['miou']).all()
