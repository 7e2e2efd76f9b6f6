"""fastai's own learners, made by `vision_learner`, distill as they are, and remain what they were."""
import re, shutil
from pathlib import Path

import nbformat
import pytest
import torch
from fastai.vision.all import (ImageDataLoaders, Learner, Normalize, PILImage, accuracy, imagenet_stats, load_learner, resnet18,
                               vision_learner)
from PIL import Image
from torch import nn

from conftest import root
from helpers.pairs import moved, snapshot
from sskd_tutor.core.device import quiet
from sskd_tutor.data.images import embedded_fashion
from sskd_tutor.distill.pairing import pair_stages
from sskd_tutor.nets.cut import as_stages

torch.set_num_threads(1)

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "24 color images of 64 pixels, two classes"
    path, images = tmp_path_factory.mktemp('images'), embedded_fashion('valid')
    for i in range(24):
        gray = Image.fromarray(images.x[i, 0].numpy()).resize((64, 64))
        gray.convert('RGB').save(path/f'{int(images.y[i]) % 2}_{i}.png')
    return path

def kind_of(path): return path.name[0]

def loaders(folder, **kwargs):
    files = sorted(Path(folder).glob('*.png'))
    return ImageDataLoaders.from_path_func(folder, files, kind_of, bs=8, seed=0, num_workers=0, device='cpu', **kwargs)

def small_net(width=8, n_out=2):
    "A plain torch network, no StagedNet"
    def stage(i, o): return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
    body = nn.Sequential(stage(3, width), stage(width, 2*width), stage(2*width, 4*width))
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4*width, n_out)))

def plain(folder, net=None, **kwargs):
    torch.manual_seed(0)
    return Learner(loaders(folder), net or small_net(), metrics=accuracy, path=folder, **kwargs)

@pytest.fixture(scope='module')
def distilled(folder):
    "A learner of `vision_learner` after `fit_sskd`"
    torch.manual_seed(0)
    dls = loaders(folder)
    learn = vision_learner(dls, resnet18, pretrained=False, metrics=accuracy, path=folder)
    teacher = vision_learner(dls, resnet18, pretrained=False)
    was = learn.model, learn.splitter, type(learn.model), learn.loss_func
    before, teachers = snapshot(learn.model), snapshot(teacher.model)
    with quiet(learn): run = learn.fit_sskd(teacher, epochs=1, head_epochs=1)
    return dict(learn=learn, run=run, was=was, moved=moved(before, learn.model), teachers=moved(teachers, teacher.model))

def test_the_learner_keeps_its_own(distilled):
    learn, run = distilled['learn'], distilled['run']
    assert (learn.model, learn.splitter, type(learn.model), learn.loss_func) == distilled['was']
    weights = {name for name, _ in learn.model.named_parameters()}
    assert weights <= distilled['moved'] and not distilled['teachers']
    assert run.pairing.ends and list(run.stages.index) == [*run.pairing.ends, 'head']
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad(): assert torch.equal(learn.model.eval()(x), run.student.eval()(x))

def quiet_learner(distilled):
    learn = distilled['learn']
    learn.remove_cb(learn.progress) if hasattr(learn, 'progress') else None
    learn.logger = lambda *_: None
    return learn

afterwards = dict(
    fine_tune=lambda learn: learn.fine_tune(1, freeze_epochs=1), fit_one_cycle=lambda learn: learn.fit_one_cycle(1, 1e-3),
    lr_find=lambda learn: learn.lr_find(num_it=3, show_plot=False, suggest_funcs=()), freeze=lambda learn: learn.freeze(),
    save_and_load=lambda learn: (learn.save('kept'), learn.load('kept')),
    validate=lambda learn: learn.validate(), get_preds=lambda learn: learn.get_preds())

@pytest.mark.parametrize('feature', afterwards)
def test_what_works_afterwards(feature, distilled):
    learn = quiet_learner(distilled)
    afterwards[feature](learn)
    assert len(learn.dls.train_ds) == 20

def test_export_and_predict(distilled, folder):
    learn = quiet_learner(distilled)
    photo = next(folder.glob('*.png'))
    learn.export('student.pkl')
    other = load_learner(folder/'student.pkl')
    other.remove_cb(other.progress) if hasattr(other, 'progress') else None
    label, _, probs = other.predict(photo)
    assert label in '01' and len(probs) == 2
    assert torch.allclose(probs, learn.predict(photo)[2], atol=1e-5)
    assert other.predict(PILImage.create(photo))[0] == label

def test_a_failing_export_loses_nothing(folder):
    learn = plain(folder)
    dls = learn.dls
    learn.splitter = lambda model: model['no such part']
    with pytest.raises(TypeError): learn.export('broken.pkl')
    assert learn.dls is dls and len(learn.dls.train_ds) == 20

# --- every kind of teacher and student

teachers = dict(learner=lambda folder: plain(folder, small_net(16)), module=lambda folder: small_net(16),
                staged=lambda folder: as_stages(small_net(16), (3, 64, 64)),
                staged_learner=lambda folder: plain(folder, as_stages(small_net(16), (3, 64, 64))))
students = dict(module=small_net, staged=lambda: as_stages(small_net(), (3, 64, 64)))

@pytest.mark.parametrize('teacher', teachers)
@pytest.mark.parametrize('student', students)
def test_kinds(teacher, student, folder):
    learn = plain(folder, students[student]())
    own, before = learn.model, snapshot(learn.model)
    with quiet(learn): run = learn.fit_sskd(teachers[teacher](folder), epochs=1, head_epochs=1)
    assert learn.model is own and len(moved(before, own)) == len(before)
    assert (run.pairing is None) == (student == 'staged' and 'staged' in teacher)
    assert run.stages.loc['stage1', 'nmse'] > 0

def test_it_says_what_it_chose(folder, capsys):
    learn = plain(folder)
    learn.logger = lambda *_: None
    learn.fit_sskd(small_net(16), epochs=1, head_epochs=1)
    said = capsys.readouterr().out
    assert 'teacher Sequential, 3 stages; student Sequential, 3 stages: 3 pairs' in said and '8 to 16' in said

def test_the_plan_too(folder):
    learn = plain(folder)
    own, teacher = learn.model, plain(folder, small_net(16))
    plan = learn.sskd_plan(teacher, epochs=1, head_epochs=1, timed=False)
    assert learn.model is own and list(plan.schedule) == ['stage1', 'stage2', 'stage3', 'head']
    with quiet(learn): run = learn.fit_sskd(teacher, epochs=1, head_epochs=1, plan=plan)
    assert run.plan is plan

def test_settings_by_stage(folder):
    learn = plain(folder)
    epochs = dict(stage1=1, stage2=2, stage3=1)
    with quiet(learn): run = learn.fit_sskd(small_net(16), epochs=epochs, head_epochs=1, adapter=dict(stage1='conv_bn'))
    assert run.stages.epochs.tolist() == [1, 2, 1, 1] and len(list(run.adapters['stage1'].modules())) > 2

def test_the_teachers_own_normalization(folder):
    "A teacher that was trained with other loaders sees images as those make them"
    teacher = plain(folder, small_net(16))
    teacher.dls = loaders(folder, batch_tfms=Normalize.from_stats(*imagenet_stats))
    learn = plain(folder)
    with quiet(learn): run = learn.fit_sskd(teacher, epochs=1, head_epochs=1)
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v)[None, :, None, None] for v in imagenet_stats)
    with torch.no_grad(): assert torch.allclose(run.teacher.eval()(x), teacher.model.eval()((x - mean)/std), atol=1e-4)

# --- a teacher whose classes stand in another order

def other_order(folder, n_out=2):
    teacher = plain(folder, small_net(16, n_out))
    teacher.dls = loaders(folder, item_tfms=None)
    teacher.dls.vocab = ['1', '0', 'x'][:n_out]
    return teacher

def test_classes_in_another_order_are_not_stitched(folder, capsys):
    learn = plain(folder)
    learn.logger = lambda *_: None
    run = learn.fit_sskd(other_order(folder), epochs=1, head_epochs=1)
    assert "not defined, because class 0 of the teacher is '1', of the learner '0'" in capsys.readouterr().out
    assert run.stages.stitched.isna().all() and not learn.sskd_plan(other_order(folder), 1, 1, timed=False).stitched
    with quiet(learn): assert learn.fit_sskd(other_order(folder).model, 1, 1).stages.stitched[:-1].notna().all()   # a bare network says nothing

def test_a_head_of_classes_in_another_order_is_refused(folder):
    learn = plain(folder, as_stages(small_net(), (3, 64, 64)))
    teacher, before = other_order(folder), snapshot(learn.model)
    with pytest.raises(ValueError, match="class 0 of the teacher is '1'.*head_epochs=1 or more.*teacher.model"): learn.fit_sskd(teacher, 1, 0)
    teacher.model = as_stages(teacher.model, (3, 64, 64))
    with pytest.raises(ValueError, match="class 0 of the teacher is '1'"): learn.fit_sskd(teacher, 1, 0)
    assert not moved(before, learn.model)
    with quiet(learn): learn.fit_sskd(teacher.model, 1, 0)

# --- heads

def test_the_teachers_head_needs_a_staged_student(folder):
    learn = plain(folder)
    with pytest.raises(ValueError, match='no place for it.*learn.model = pair.student'): learn.fit_sskd(small_net(16), 1, 0)
    learn.model = as_stages(learn.model, (3, 64, 64))
    own = learn.model
    with quiet(learn): run = learn.fit_sskd(small_net(16), epochs=1, head_epochs=0)
    assert learn.model is own and own.head is run.student.head and isinstance(own.head, nn.Sequential)

@pytest.mark.parametrize('normalized', [False, True])
def test_the_cure_for_a_missing_place_works(normalized, folder):
    "The line of the error, run as it stands, feeds a teacher of a learner as the run itself would"
    learn, teacher = plain(folder), plain(folder, small_net(16))
    if normalized: teacher.dls = loaders(folder, batch_tfms=Normalize.from_stats(*imagenet_stats))
    with pytest.raises(ValueError, match='no place for it') as refusal: learn.fit_sskd(teacher, 1, 0)
    cure = str(refusal.value).partition('make the student a StagedNet: ')[2]
    names = dict(learn=learn, teacher=teacher, pair_stages=pair_stages)
    with quiet(learn): exec(cure.replace('head_epochs=0', 'epochs=1, head_epochs=0'), names)
    assert (names['pair'].converter is not None) == normalized
    with pytest.raises(TypeError, match=r'the teacher is a Learner; expected an nn.Module, such as its \.model'):
        pair_stages(teacher, learn.model, learn.dls)

# --- frozen the fastai way

def test_frozen_by_fastai(folder, capsys):
    "`vision_learner(pretrained=True)` freezes all but the head and the batch norms"
    learn = plain(folder, splitter=lambda model: [list(part.parameters()) for part in model])
    learn.freeze()
    convs = [p for p in learn.model.parameters() if p.dim() == 4]
    assert not any(p.requires_grad for p in convs) and any(p.requires_grad for p in learn.model[0].parameters())
    before = [p.clone() for p in convs]
    learn.logger = lambda *_: None
    learn.fit_sskd(small_net(16), epochs=1, head_epochs=1)
    assert not any(torch.equal(p, old) for p, old in zip(convs, before))
    assert 'stage1, stage2, stage3: frozen' in capsys.readouterr().out
    assert not any(p.requires_grad for p in convs)  # as it was
    learn.fine_tune(1)

def test_frozen_in_part(folder, capsys):
    "What is frozen inside a stage that learns stays so, and the run says it"
    net = small_net()
    net[0][1].append(nn.Conv2d(16, 16, 1))
    learn = plain(folder, net)
    kept = net[0][1][0].weight.requires_grad_(False)
    old = kept.clone()
    learn.logger = lambda *_: None
    learn.fit_sskd(small_net(16), epochs=1, head_epochs=1)
    assert 'stage2: 1 of 5 parameters frozen, also in this run' in capsys.readouterr().out
    assert torch.equal(kept, old) and not kept.requires_grad

def test_frozen_by_hand_in_stages(folder):
    learn = plain(folder, as_stages(small_net(), (3, 64, 64)))
    for p in learn.model.stages['stage2'].parameters(): p.requires_grad_(p.dim() == 1)  # as fastai's freeze
    before = snapshot(learn.model)
    with pytest.raises(ValueError, match=r'stage2 of the student is frozen.*learn.unfreeze\(\)'):
        learn.fit_sskd(as_stages(small_net(16), (3, 64, 64)), epochs=1)
    assert not moved(before, learn.model)

def test_an_interrupt_leaves_the_learner_whole(folder):
    from fastai.vision.all import Callback
    class Stop(Callback):
        def after_batch(self): raise KeyboardInterrupt
    learn = plain(folder)
    was = learn.model, learn.splitter, learn.opt
    with quiet(learn), pytest.raises(KeyboardInterrupt): learn.fit_sskd(small_net(16), epochs=1, cbs=Stop())
    assert (learn.model, learn.splitter, learn.opt) == was
    with quiet(learn): learn.fit_one_cycle(1)

# --- the first example of the README

@pytest.mark.slow
def test_the_first_example_runs(folder, tmp_path, monkeypatch):
    "As it stands there, but for small images, random weights, one epoch"
    nb = nbformat.read(root/'nbs/index.ipynb', 4)
    cell = next(c.source for c in nb.cells if 'fit_sskd(teacher)' in c.source and '```python' in c.source)
    code = re.search(r'```python\n(.*?)```', cell, re.S)[1]
    assert re.search(r'vision_learner.*vision_learner.*\.fit_sskd\(teacher\)', code, re.S)
    small = {'Resize(224)': 'Resize(64), bs=4, num_workers=0, device="cpu"', 'resnet34,': 'resnet34, pretrained=False,',
             'resnet18,': 'resnet18, pretrained=False,', 'fine_tune(3)': 'fine_tune(1)', 'fit_sskd(teacher)': 'fit_sskd(teacher, 1, 1)'}
    for old, new in small.items():
        assert old in code
        code = code.replace(old, new)
    for path in folder.glob('*.png'):
        to = tmp_path/'photos'/path.name[0]
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, 'README.md', 'exec'), names)
    label = load_learner(tmp_path/'photos/student.pkl').predict(next((tmp_path/'photos').rglob('*.png')))[0]
    assert label in '01'
    names['learn'].fine_tune(1)
