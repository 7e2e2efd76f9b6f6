"""Scenes, COCO's format, detectors as stages: against closed forms, torchvision's own detector and bits that must not change."""
import copy, json, random

import numpy as np
import pytest
import torch
from fastai.torch_core import set_seed
from PIL import Image
from torch.utils.data import Subset
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

import sskd_tutor.tasks.detection as detection
from sskd_tutor.distill.cache import CacheFeatures
from sskd_tutor.tasks.boxes import CocoSet, check_coco, detection_dls
from sskd_tutor.data.images import embedded_fashion
from sskd_tutor.tasks.detection import (StagedDetector, detection_learner, detection_map, detection_teacher, save_detector,
    small_detector, staged_pair)
from sskd_tutor.distill.costs import stage_costs
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.data.made import make_scenes, write_camvid, write_coco
from sskd_tutor.nets.staged import count_macs
from sskd_tutor.core.state import kept, tensors_sha256

def coco(folder, n=24, mode='L', **kwargs): return CocoSet(folder/'images', write_coco(make_scenes(n, **kwargs), folder), mode)

@pytest.fixture(scope='module')
def ds(tmp_path_factory): return coco(tmp_path_factory.mktemp('scenes'))

@pytest.fixture
def pair(ds):
    torch.manual_seed(0)
    detector = small_detector(4)
    teacher, student = staged_pair(small_detector(8, 2), detector)
    return teacher, detection_learner(detection_dls(Subset(ds, range(24)), Subset(ds, range(8)), detector, device='cpu'), student)

def quiet(learn, name, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(): return getattr(learn, name)(*args, **kwargs)

# --- scenes

def test_a_piece_is_a_image_of_its_class_and_its_box_is_tight():
    s, images = make_scenes(12, 'valid', pieces=(1, 1), scale=(1, 1)), embedded_fashion('valid')
    flat = torch.cat([images.x, images.x.flip(-1)]).float()
    for x, (box,), (label,), mask in zip(s.x, s.boxes, s.labels, s.masks):
        rows, cols = (mask > 0).nonzero(as_tuple=True)
        assert box.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        x0, y0, x1, y1 = box.int().tolist()
        piece, seen = x[0, y0:y1, x0:x1], mask[y0:y1, x0:x1] > 0
        crops = flat[torch.cat([images.y, images.y]) == label - 1][:, 0]
        windows = crops.unfold(1, y1-y0, 1).unfold(2, x1-x0, 1).reshape(-1, y1-y0, x1-x0)
        assert ((windows - piece)*seen).abs().amax((1, 2)).min() == 0

def test_no_piece_is_lost_under_others():
    s = make_scenes(200, seed=3)
    counts = torch.tensor([len(c) for c in s.labels]).bincount(minlength=5)
    assert counts[0] == 0 and (counts[1:] > 20).all() and len(counts) == 5
    for boxes, labels, mask in zip(s.boxes, s.labels, s.masks):
        assert len(boxes) == len(labels) and set(labels.tolist()) == set(mask.unique().tolist()) - {0}
        assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes.max() <= 96
    assert torch.cat(s.labels).bincount(minlength=11)[1:].min() > 20

def test_camvid_and_coco_have_the_same_images(tmp_path):
    s = make_scenes(5)
    write_coco(s, tmp_path/'coco'), write_camvid(s, tmp_path/'camvid')
    for i in range(5):
        a, b = (Image.open(tmp_path/f/'images'/f'{i:05d}.png') for f in ('coco', 'camvid'))
        assert np.array_equal(a, b) and np.array_equal(Image.open(tmp_path/'camvid/labels'/f'{i:05d}_P.png'), s.masks[i])
    assert (tmp_path/'camvid/valid.txt').read_text() == '00004.png\n'

# --- COCO's format

def spoil(folder, f):
    found = json.loads((folder/'annotations.json').read_text())
    f(found)
    (folder/'bad.json').write_text(json.dumps(found))
    return folder/'images', folder/'bad.json'

def test_what_is_wrong_is_left_out_and_nothing_else(tmp_path):
    write_coco(make_scenes(6, pieces=(2, 2)), tmp_path)
    def f(found):
        a = found['annotations']
        a[0]['bbox'], a[3]['category_id'], a[4]['bbox'], a[6]['image_id'] = [-9, 0, 20, 20], 3, [5, 5, 9, float('inf')], 99
        found['images'][5]['width'] = 97
    with pytest.raises(ValueError, match='5 of its images and boxes cannot be used'): check_coco(*spoil(tmp_path, f))
    with pytest.warns(UserWarning, match='They are left out'): left = check_coco(*spoil(tmp_path, f), skip=True)
    assert [a['id'] for a in left['annotations']] == [2, 3, 6, 8, 9, 10] and [i['id'] for i in left['images']] == [1, 2, 3, 4, 5]
    with pytest.warns(UserWarning): ds = CocoSet(*spoil(tmp_path, f), skip=True)
    assert [len(ds[i][1]['labels']) for i in range(5)] == [1, 1, 1, 1, 2]
    def unknown(found): return [a.update(category_id=1) for a in found['annotations']]
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='no box is left'):
        check_coco(*spoil(tmp_path, unknown), skip=True)

def test_faults_are_listed_one_a_line(tmp_path):
    write_coco(make_scenes(60, pieces=(1, 1)), tmp_path)
    def outside(found): return [a.update(bbox=[90, 90, 50, 50]) for a in found['annotations']]
    with pytest.raises(ValueError, match='60 of its images') as e: check_coco(*spoil(tmp_path, outside))
    lines = str(e.value).splitlines()
    assert len(lines) == 1 + 50 + 1 + 1 and 'and 10 more' in lines[51] and 'skip=True' in lines[52]

@pytest.mark.parametrize('change, match', [
    (lambda f: f.pop('images'), "no list 'images'"),
    (lambda f: f['annotations'][0].pop('bbox'), r"number 0 of annotations lacks \['bbox'\]"),
    (lambda f: f['annotations'].clear(), 'no annotation at all'),
    (lambda f: f['images'][0].update(file_name='x.png'), 'x.png is missing')])
def test_a_file_that_is_not_coco(tmp_path, change, match):
    write_coco(make_scenes(2), tmp_path)
    with pytest.raises(ValueError, match=match): check_coco(*spoil(tmp_path, change))

@pytest.mark.parametrize('name', ['images', 'annotations', 'categories'])
def test_an_id_that_comes_twice(tmp_path, name):
    "pycocotools keeps one entry for an id: an image would get the boxes of another"
    write_coco(make_scenes(2, pieces=(2, 2)), tmp_path)
    def merged(found): found[name][-1]['id'] = found[name][0]['id']
    with pytest.raises(ValueError, match=f'2 of {name} have the id'): check_coco(*spoil(tmp_path, merged))

def test_a_image_that_breaks_later_is_named(tmp_path):
    ds = coco(tmp_path, 2)
    path = tmp_path/'images/00001.png'
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match='00001.png cannot be read'): ds[1]

def test_crowds_are_left_out_of_the_losses_and_kept_for_the_metric(ds, pair):
    _, learn = pair
    x, sizes, targets = learn.dls.valid.one_batch()
    def more(t, box):
        return dict(boxes=torch.cat([t['boxes'], torch.tensor([box])]), labels=torch.cat([t['labels'], t['labels'][:1]]))
    def with_crowd(t): return dict(more(t, [0., 0, 90, 90]), iscrowd=torch.cat([t['iscrowd'], torch.tensor([1])]))
    crowded = [with_crowd(t) for t in targets]
    net = learn.model.eval()
    with torch.no_grad(): assert learn.loss_func(net(x), sizes, targets) == learn.loss_func(net(x), sizes, crowded)
    def one_inside(t): return dict(more(t, [1., 1, 88, 88]), scores=torch.linspace(.5, 1, len(t['labels']) + 1))
    inside = [one_inside(t) for t in targets]
    def measured(targets):
        metric = detection._mean_ap()
        detection._update(metric, inside, targets)
        return metric.compute()['map'].item()
    assert measured(crowded) == 1 > measured(targets)

def test_mean_average_precision_of_a_known_overlap():
    metric, one = detection._mean_ap(), torch.tensor([1])
    found = dict(boxes=torch.tensor([[0., 0, 50, 31]]), labels=one, scores=torch.tensor([.9]))
    detection._update(metric, [found], [dict(boxes=torch.tensor([[0., 0, 50, 50]]), labels=one, iscrowd=0*one)])
    assert abs(metric.compute()['map'].item() - .3) < 1e-6  # an overlap of 0.62 passes at 0.50, 0.55 and 0.60, three of ten

# --- a detector as stages

def test_the_loader_and_the_stages_measure_what_torchvisions_own_detector_gives(tmp_path):
    set_seed(0)
    ds, detector = coco(tmp_path, 8), small_detector(8, size=64)
    net, detector.roi_heads.score_thresh = StagedDetector(detector), 0.
    learn = detection_learner(detection_dls(ds, ds, detector, 4, device='cpu'), net)
    quiet(learn, 'fit', 3, 1e-2)
    metric = detection._mean_ap()
    with torch.no_grad(): metric.update(detector.eval()([x for x, _ in ds]), [t for _, t in ds])  # in the files' own pixels
    own, ours = metric.compute(), detection_map(net, learn.dls.valid)
    assert 0 < ours['map_50'] < 1 and all(abs(own[k].item() - v) < 1e-3 for k, v in ours.items())
    assert abs(learn.validate()[1] - ours['map']) < 1e-6

def test_a_retinanet_learns_too(pair):
    set_seed(0)
    anchors = AnchorGenerator(((16,), (24,), (32,), (48,)), ((1.,),)*4)
    make = lambda width: StagedDetector(RetinaNet(small_detector(width).backbone, 11, 96, 192, [.3], [.35], anchors))
    net, (x, sizes, targets) = make(4), pair[1].dls.valid.one_batch()
    learn = detection_learner(pair[1].dls, net, metrics=[])
    before = learn.loss_func(net.eval()(x), sizes, targets)
    before.backward()
    with torch.no_grad():
        fall = sum(p.grad.square().sum() for p in net.parameters())
        for p in net.parameters(): p -= 1e-4/fall*p.grad
        after = learn.loss_func(net(x), sizes, targets)
    assert abs((before - after)/1e-4 - 1) < .1 and all(p.grad.any() for p in net.stages.parameters())
    quiet(learn, 'fit_sskd', make(8), 1, 1)

def test_a_distillation_can_be_recorded(ds):
    "Images of two forms too: batches that say how large each image is are padded, as they are among themselves"
    torch.manual_seed(0)
    items = [(x[..., :64 + 32*(i//2 % 2)], target | dict(boxes=target['boxes']*0 + torch.tensor([4., 4., 40., 40.]))) for i, (x, target) in enumerate(ds)]
    detector = small_detector(4)
    teacher, student = staged_pair(small_detector(8, 2), detector)
    learn = detection_learner(detection_dls(items[:8], items[8:16], detector, bs=2, device='cpu'), student, metrics=[])
    shapes = {tuple(x.shape[-2:]) for x, *_ in learn.dls.valid}
    assert len(shapes) == 2   # narrow batches and wide ones, of two images each
    run = quiet(learn, 'fit_sskd', teacher, 1, 1, cbs=RecordAlignment(sample=8, images=3))
    assert list(run.record.steps.phase) == ['start', *student.stage_names, 'head']
    nmse = run.record.measures.query("measure == 'nmse' and control == ''")
    assert nmse.value.notna().all() and set(nmse.student) == set(student.stage_names)
    assert not run.record.final and 'stitched' not in set(run.record.measures.measure)

def test_a_detector_must_have_an_answer_for_each_class(pair, ds):
    "Also where the images are a part of a set"
    anchors = AnchorGenerator(((16,), (24,), (32,), (48,)), ((1.,),)*4)
    few = RetinaNet(small_detector(4).backbone, 4, 96, 192, [.3], [.35], anchors), small_detector(4, n_classes=3)
    for detector in few:
        with pytest.raises(ValueError, match='with 4 classes.*the images have 10.*build it for 11'):
            detection_learner(pair[1].dls, StagedDetector(detector))
    other = copy.copy(ds)
    other.vocab = ds.vocab[1:]
    with pytest.raises(ValueError, match='name different classes'):
        detection_dls(Subset(ds, range(8)), Subset(other, range(8)), small_detector(4), 4)

def test_no_box_is_seen_in_the_backbone_phase(pair):
    teacher, learn = pair
    start, twins = copy.deepcopy(learn.model.state_dict()), []
    plain = learn.dls.train.create_batch
    def spoiled(items):
        x, sizes, targets = plain(items)
        return x, sizes, [t | dict(boxes=t['boxes']*0 + torch.tensor([1., 2, 60, 70]), labels=t['labels']*0 + 1) for t in targets]
    for make in plain, spoiled:
        learn.dls.train.create_batch = make
        learn.model.load_state_dict(start)
        set_seed(0, reproducible=True)
        learn.dls.train.rng.seed(0)
        quiet(learn, 'fit_sskd', teacher, 1, 1, valid_every=0)
        twins.append({n: tensors_sha256(m) for n, m in [*learn.model.stages.items(), ('head', learn.model.head)]})
    assert [twins[0][n] == twins[1][n] for n in twins[0]] == [True, True, True, False]

def test_only_neck_and_heads_move_in_the_heads_phase(pair):
    teacher, learn = pair
    stages, theirs = (tensors_sha256(m) for m in (learn.model.stages, teacher))
    head = copy.deepcopy(learn.model.head)
    quiet(learn, 'fit_head', 1)
    assert tensors_sha256(learn.model.stages) == stages and tensors_sha256(teacher) == theirs
    assert all(not torch.equal(a, b) for a, b in zip(head.neck.parameters(), learn.model.head.neck.parameters()))

def test_the_head_costs_what_its_real_step_costs(pair):
    teacher, learn = pair
    adapters = {n: torch.nn.Conv2d(4*2**i, 8*2**i, 1) for i, n in enumerate(learn.model.stages)}
    set_seed(0)
    counted = stage_costs(learn, teacher, adapters).train_macs['head']
    x, sizes, targets = learn.dls.train.one_batch()
    with kept(learn.model):
        learn.model.eval().stages.requires_grad_(False)
        with torch.no_grad(): taps = [learn.model.forward_to(x, k) for k in range(3)]
        whole = count_macs(lambda: learn.loss_func(learn.model.head(taps), sizes, targets).backward())/len(x)
        neck = count_macs(lambda: learn.model.head(taps))/len(x)
    assert abs(counted/whole - 1) < .05 and counted > 5*neck  # images with other pieces have other candidate boxes

def test_nothing_is_remembered_and_that_is_said(pair):
    teacher, learn = pair
    with pytest.warns(UserWarning, match='CacheFeatures remembers nothing'):
        quiet(learn, 'fit_sskd', teacher, 1, 1, cbs=CacheFeatures())

def test_the_student_leaves_as_torchvisions_own(tmp_path, pair):
    teacher, learn = pair
    detector = small_detector(4)
    student = StagedDetector(detector)
    learn = detection_learner(learn.dls, student)
    quiet(learn, 'fit_sskd', teacher, 1, 1)
    assert type(detector) is FasterRCNN and list(detector.state_dict()) == list(small_detector(4).state_dict())
    images = [torch.rand(1, 96, 96)]
    save_detector(detector, tmp_path/'a.safetensors', images)
    with torch.no_grad(): next(detector.parameters()).fill_(float('nan'))
    with pytest.raises(ValueError, match='finite'): save_detector(detector, tmp_path/'b.safetensors', images)
    assert not (tmp_path/'b.safetensors').exists()

def test_weights_that_could_not_be_checked_replace_nothing(tmp_path):
    path = tmp_path/'a.safetensors'
    save_detector(small_detector(4), path, [torch.rand(1, 96, 96)])
    old = path.read_bytes()
    with pytest.raises(AssertionError): save_detector(small_detector(4), path, [torch.rand(5)], overwrite=True)  # no image
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ['a.safetensors']

def test_the_teacher_finds_pieces_of_test_images(tmp_path):
    detector = detection_teacher()
    ds = coco(tmp_path, 40, split='valid')
    assert detection_map(StagedDetector(detector), detection_dls(ds, ds, detector, device='cpu').valid)['map_50'] > .6

# --- COCO itself

def test_a_teacher_that_answers_in_cocos_numbers(tmp_path):
    ds, detector = coco(tmp_path, 4), small_detector(4)
    found = [dict(boxes=t['boxes'], labels=2*t['labels'], scores=torch.ones(len(t['labels']))) for _, t in ds]  # 2, 4, ...
    net = StagedDetector(detector)
    net.head.detections = lambda pyramid, sizes: found
    dl = detection_dls(ds, ds, detector, 4, device='cpu').valid
    assert detection_map(net, dl, ds.category_ids)['map'] == pytest.approx(1) and detection_map(net, dl)['map'] < .5

def test_what_it_finds_of_other_classes_is_no_class_of_ours(tmp_path):
    "Between our numbers and above the highest: certain finds that must not count against any of our classes"
    ds, detector = coco(tmp_path, 12), small_detector(4)
    highest = max(ds.category_ids)
    assert any(len(ds.vocab) in t['labels'] for _, t in ds)   # the last class is there to be spoiled
    def with_others(t):
        others = torch.tensor([1, highest + 1, highest + 70])
        return dict(boxes=torch.cat([t['boxes'], torch.tensor([[0., 0, 9, 9]]).repeat(3, 1)]),
                    labels=torch.cat([2*t['labels'], others]),
                    scores=torch.cat([torch.full((len(t['labels']),), .5), torch.ones(3)]))
    found = [with_others(t) for _, t in ds]
    net = StagedDetector(detector)
    net.head.detections = lambda pyramid, sizes: found
    dl = detection_dls(ds, ds, detector, 12, device='cpu').valid
    assert detection_map(net, dl, ds.category_ids)['map'] == pytest.approx(1)

def test_measures_by_class(tmp_path):
    "All pieces of one class are found, none of the others; a class that no image shows has no number"
    ds, detector = coco(tmp_path, 4), small_detector(4)
    there = sorted({label for _, t in ds for label in t['labels'].tolist()})
    ours, net = there[0], StagedDetector(detector)
    found = [{key: t[key][t['labels'] == ours] for key in ('boxes', 'labels')} for _, t in ds]
    net.head.detections = lambda pyramid, sizes: [f | dict(scores=torch.ones(len(f['labels']))) for f in found]
    measured = detection_map(net, detection_dls(ds, ds, detector, 4, device='cpu').valid, by_class=True)
    by_class = [measured[f'map_{name}'] for name in ds.vocab]
    assert [i for i, value in enumerate(by_class, 1) if value == value] == there and len(there) < len(by_class)
    assert by_class[ours - 1] == pytest.approx(1) and sum(by_class[i - 1] for i in there[1:]) == 0
    assert measured['map'] == pytest.approx(1/len(there))

def test_measures_by_class_need_names(ds, pair):
    "Told before the images are looked at"
    student = pair[1].model
    unnamed = detection_dls([ds[0]], [ds[0]], small_detector(4), 1, device='cpu').valid
    student.head.detections = None   # not asked
    with pytest.raises(ValueError, match='name no classes'): detection_map(student, unnamed, by_class=True)

@pytest.mark.parametrize('workers', [0, 2])
def test_order_and_mirrors_follow_from_seed_and_epoch(tmp_path, workers):
    ds = coco(tmp_path, 12)
    def epoch(seed, i, workers=0):
        torch.manual_seed(i)  # which must not matter
        dl = detection_dls(ds, ds, small_detector(4), 4, device='cpu', num_workers=workers, seed=seed).train
        dl.set_epoch(i)
        return torch.cat([x for x, *_ in dl])
    a = epoch(0, 0)
    assert torch.equal(a, epoch(0, 0, workers)) and not torch.equal(a, epoch(0, 1)) and not torch.equal(a, epoch(1, 0))
    valid = detection_dls(ds, ds, small_detector(4), 4, device='cpu').valid
    plain = {x.numpy().tobytes() for batch, *_ in valid for x in batch}
    kept, mirrored = (sum(x.numpy().tobytes() in plain for x in y) for y in (a, a.flip(-1)))
    assert kept + mirrored == 12 and 0 < kept < 12

def test_the_first_epoch_follows_from_the_seed_too(tmp_path):
    ds = coco(tmp_path, 12)
    def epochs(python_seed, look=False):
        random.seed(python_seed)  # which must not matter
        dl = detection_dls(ds, ds, small_detector(4), 4, device='cpu', seed=0).train
        if look: dl.one_batch()
        return torch.stack([torch.cat([x for x, *_ in dl]) for _ in range(2)])
    first = epochs(1)
    assert torch.equal(first, epochs(2)) and torch.equal(first, epochs(1, look=True))
