"""Images, views and loaders: views against naive slicing, orders that can be had again, and loaders that are not ours."""
import pytest
import torch
from fastai.vision.all import Callback, DataLoader, DataLoaders, ImageDataLoaders, accuracy, aug_transforms, load_learner
from PIL import Image

from sskd_tutor.data.loaders import DeviceDL, ImageSet, fashion_dls, noise_dls
from sskd_tutor.data.images import Images, balanced, embedded_fashion, vocab
from sskd_tutor.data.views import Views, randints
from sskd_tutor.nets.small import tutorial_resnet
from helpers.pairs import cpu, moved, new_learner, small_dls, snapshot, staged

# --- views

def naive_view(views, x, sample, view):
    "One image at a time, by slicing: blacken a rectangle, mirror, then shift with black moving in"
    out, c, (h, w) = [], views.crop, x.shape[-2:]
    for img, s in zip(x, sample):
        n = 2*c + 1
        dy, dx, flip, erase, eh, ew, ey, ex = (int(r) for r in randints(s[None], view, views.seed,
                [n, n, 2, 2, views.erase+1, views.erase+1, h, w]))
        img = img.clone()
        if erase: img[:, ey:ey+eh, ex:ex+ew] = 0
        if flip and views.flip: img = img.flip(-1)
        padded = torch.nn.functional.pad(img, (c, c, c, c))
        out.append(padded[:, dy:dy+h, dx:dx+w])
    return torch.stack(out)

@pytest.mark.parametrize('kwargs', [dict(), dict(crop=0, flip=False), dict(flip=False, erase=0), dict(crop=0, erase=0),
                         dict(crop=5, erase=20, seed=3)],
                         ids=['default', 'erase', 'crop', 'flip', 'large'])
@pytest.mark.parametrize('shape,dtype', [((1, 28, 28), torch.uint8), ((3, 9, 14), torch.float32)], ids=['gray', 'color'])
def test_views_against_slicing(kwargs, shape, dtype):
    torch.manual_seed(0)
    x, sample, views = torch.randint(1, 255, (64, *shape)).to(dtype), torch.randint(0, 60_000, (64,)), Views(**kwargs)
    for view in (0, 7):
        out = views(x, sample, view)
        assert out.dtype == dtype and torch.equal(out, naive_view(views, x, sample, view))
    assert not torch.equal(out, naive_view(views, x, sample, 8))  # teeth

def test_views_are_pure():
    "Nothing but (sample, view, seed) counts: not the batch, not the order, not the global random state"
    x, sample = embedded_fashion('train').x[:40], torch.arange(40)
    out = Views(seed=1)(x, sample, 3)
    state = torch.get_rng_state()
    torch.manual_seed(123)
    perm = torch.randperm(40)
    assert torch.equal(Views(seed=1)(x[perm], sample[perm], 3), out[perm])
    assert torch.equal(torch.cat([Views(seed=1)(x[i:i+7], sample[i:i+7], 3) for i in range(0, 40, 7)]), out)
    torch.set_rng_state(state)
    Views()(x, sample, 0)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (Views(seed=2)(x, sample, 3), Views(seed=1)(x, sample, 4), Views(seed=1)(x, sample + 40, 3)):
        assert (other != out).flatten(1).any(1).float().mean() > 0.8

def test_views_are_fair():
    "Shifts, flips and erasures come as often as they should, and are not coupled"
    x, n = torch.full((4000, 1, 12, 12), 255, dtype=torch.uint8), 4000
    dy, dx, flip, erase = randints(torch.arange(n), 0, 0, [5, 5, 2, 2])
    for r, k in ((dy, 5), (dx, 5), (flip, 2), (erase, 2)): assert (r.bincount(minlength=k)/n*k - 1).abs().max() < 0.12
    assert torch.corrcoef(torch.stack([dy, dx, flip, erase]).float()).fill_diagonal_(0).abs().max() < 0.06
    erased = (Views(crop=0, erase=8)(x, torch.arange(n), 0) == 0).flatten(1).any(1)
    assert 0.35 < erased.float().mean() < 0.5  # half, but some are empty

@pytest.mark.gpu
def test_views_on_the_gpu():
    x, sample = embedded_fashion('train').x[:256], torch.arange(256)
    assert torch.equal(Views()(x.cuda(), sample.cuda(), 5).cpu(), Views()(x, sample, 5))

# --- our loader

def order(dl): return [tuple(y.tolist()) + tuple(x.sum((1, 2, 3)).tolist()) for x, y in dl]

def test_epochs_again():
    dl = small_dls().train
    first, second = order(dl), order(dl)   # an epoch moves on by itself,
    assert first != second
    dl.set_epoch(0)
    assert order(dl) == first and order(dl) == second
    dl.set_epoch(1)
    assert order(dl) == second
    assert order(small_dls().train) == first and order(small_dls(seed=1).train) != first
    torch.manual_seed(77)
    assert order(small_dls().train) == first

def test_half_an_epoch_does_not_count():
    dl = small_dls().train
    whole = order(dl)
    dl.set_epoch(0)
    for _ in dl: break
    assert order(dl) == whole

def test_each_image_once():
    dls = fashion_dls(n=100, bs=30, views=None, device='cpu')
    assert len(dls.train) == 3 and sum(len(y) for _, y in dls.train) == 90  # the last, short batch is dropped
    every = dls.train.new(drop_last=False)
    assert len(every) == 4 and torch.cat([y for _, y in every]).bincount().tolist() == [10]*10
    small = small_dls()
    ys = torch.cat([y for _, y in small.valid])
    assert torch.equal(ys, small.valid_ds.images.y)  # validation in the order given

def test_images_stay_bytes():
    dls = small_dls()
    dls.one_batch()
    assert dls.train_ds.resident[0].dtype == torch.uint8 and dls.train_ds.resident[0].device == cpu
    assert dls.train.fake_l.num_workers == 0 and dls.one_batch()[0].dtype == torch.float32

def test_plain_fastai_uses():
    "What one does with fastai DataLoaders: predictions in order, a test set, batch transforms, export"
    dls = small_dls()
    learn = new_learner(staged(4, p=0.), dls)
    preds, y = learn.get_preds()
    assert torch.equal(y, dls.valid_ds.images.y)
    with torch.no_grad(): by_hand = learn.model.eval()(dls.valid.one_batch()[0]).softmax(1)
    assert torch.allclose(preds[:50], by_hand[:50], atol=1e-5)
    assert torch.equal(learn.get_preds(ds_idx=0)[1], dls.train_ds.images.y)
    few = fashion_dls(n=100, bs=50, views=None, batch_tfms=aug_transforms(), device='cpu')
    assert few.one_batch()[0].shape == (50, 1, 28, 28)

def test_export(tmp_path):
    learn = new_learner(staged(4))
    learn.path = tmp_path
    learn.export()
    assert not moved(snapshot(learn.model), load_learner(tmp_path/'export.pkl').model)

def test_predict():
    "A learner on our loaders can be asked about one image"
    learn = new_learner(staged(4))
    name, _, probs = learn.predict(learn.dls.valid_ds[3][0])
    assert name == vocab[probs.argmax()]

def pixels_of(images): return {x.numpy().tobytes() for x in images.x}

def test_balanced_and_holdout():
    images = embedded_fashion('train')
    a, b = balanced(images, 3)
    assert a.y.bincount().tolist() == [3]*10 and len(a.y) + len(b.y) == 8000 and not torch.isin(a.idx, b.idx).any()
    hold = fashion_dls(valid='holdout', device='cpu')
    held_out, learned, official = (pixels_of(i) for i in (hold.valid_ds.images, hold.train_ds.images, embedded_fashion('valid')))
    assert held_out and not held_out & learned and not held_out & official

# --- loaders that are not ours

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "30 small color images of three kinds, as PNG files in a folder each"
    path = tmp_path_factory.mktemp('pngs')
    torch.manual_seed(0)
    for c, name in enumerate(('blue', 'green', 'red')):
        (path/name).mkdir()
        for i in range(10):
            x = torch.randint(0, 80, (12, 12, 3), dtype=torch.uint8)
            x[..., 2 - c] += 150
            Image.fromarray(x.numpy()).save(path/name/f'{i}.png')
    return path

def distill(dls, c_in=3, n_out=3, **kwargs):
    torch.manual_seed(0)
    teacher, student = staged(8, c_in=c_in, n_out=n_out), staged(4, c_in=c_in, n_out=n_out)
    learn, before, teacher_before = new_learner(student, dls), snapshot(student.stages), snapshot(teacher)
    run = learn.fit_sskd(teacher, **{**dict(epochs=1, head_epochs=1, lr=1e-2), **kwargs})
    assert moved(before, student.stages) >= {n for n, _ in student.stages.named_parameters()}
    assert not moved(teacher_before, teacher)
    return run

@pytest.mark.parametrize('device', [cpu, 'cpu'], ids=['torch.device', 'str'])
@pytest.mark.parametrize('head_epochs', [1, 0])
def test_image_folder(folder, device, head_epochs):
    dls = ImageDataLoaders.from_folder(folder, valid_pct=0.3, seed=0, bs=7, num_workers=0, device=device)
    run = distill(dls, head_epochs=head_epochs)
    assert run.stages.loc[['stage1', 'stage2', 'stage3'], ['mimic_loss', 'nmse', 'stitched']].notna().all(axis=None)
    assert 'accuracy' in set(run.history.measure)

def tensor_dls(n=40, dl=DataLoader, valid=True, **kwargs):
    torch.manual_seed(0)
    data = [(torch.rand(3, 12, 12), torch.tensor(i % 3)) for i in range(n)]
    return DataLoaders(*(dl(data[i::2], 10, **kwargs) for i in range(1 + valid)))

def test_fastai_loader_of_tensors(): distill(tensor_dls())

def test_torch_loader():
    "DataLoaders of PyTorch's own loaders, as fastai's Learner takes them"
    dls = tensor_dls(dl=torch.utils.data.DataLoader)
    torch.manual_seed(0)
    learn = new_learner(staged(4, c_in=3, n_out=3), dls, loss_func=torch.nn.functional.cross_entropy)
    before = snapshot(learn.model)
    learn.fit_sskd(staged(8, c_in=3, n_out=3), epochs=1, head_epochs=1)
    assert len(moved(before, learn.model)) == len(before)

@pytest.mark.parametrize('head_epochs', [1, 0])
@pytest.mark.parametrize('whose', ['ours', 'fastai'])
def test_empty_validation_set(folder, whose, head_epochs):
    "Works, as fastai's own fits do; what cannot be measured is left out"
    if whose == 'ours':
        dls = small_dls()
        dls = DataLoaders(dls.train, dls.valid.new(ImageSet(Images(*(t[:0] for t in dls.valid_ds.images)), split_idx=1)),
                device=cpu)
        run = distill(dls, c_in=1, n_out=10, head_epochs=head_epochs)
    else:
        dls = ImageDataLoaders.from_folder(folder, valid_pct=0.01, bs=7, num_workers=0, device=cpu)
        run = distill(dls, head_epochs=head_epochs)
    assert run.stages.stitched.isna().all() and len(run.stages) == 4

def test_no_validation_loader():
    "A single loader is refused before anything moves"
    learn = new_learner(staged(4), DataLoaders(small_dls().train, device=cpu))
    before = snapshot(learn.model)
    with pytest.raises(ValueError, match='learn.dls has no validation loader'): learn.fit_sskd(staged(8), epochs=1, head_epochs=1)
    assert not moved(before, learn.model)

def test_batches_are_counted_once():
    "Every training batch of a phase is seen by one step, whoever makes the batches"
    seen = []
    class Count(Callback):
        def after_step(self): seen.append(len(self.learn.model.stages))
    learn = new_learner(staged(4), small_dls(150))
    run = learn.fit_sskd(staged(8), epochs=2, head_epochs=1, cbs=Count())
    assert [seen.count(k) for k in (1, 2, 3)] == [6, 6, 6 + 3]
    steps, macs = run.stages.epochs*3*50, run.stages.macs_per_image
    assert run.gmacs == pytest.approx((steps*macs).sum()/1e9)

def test_show_and_predict_names():
    dls = small_dls()
    assert dls.vocab[0] == 't-shirt' and dls.c == 10
    assert isinstance(dls.train, DeviceDL)
    assert accuracy(torch.eye(10)[dls.valid_ds.images.y], dls.valid_ds.images.y) == 1

def test_resnet_takes_the_images():
    x, y = fashion_dls(n=100, bs=50, device='cpu').one_batch()
    assert tutorial_resnet(4, 1)(x).shape == (50, 10) and x.dtype == torch.float32 and y.dtype == torch.int64

def test_noise_for_a_plan_is_one_image_on_the_device():
    "As many as ImageNet has, 193 GB if each were stored; nothing is allocated on the device named 'meta'"
    for dl, n in zip(noise_dls((3, 224, 224), 1_281_167, 50_000, device='meta').loaders, (1_281_167, 50_000)):
        x, y = dl.dataset.on(torch.device('meta'))
        assert x.shape == (n, 3, 224, 224) and x.untyped_storage().nbytes() == 3*224*224 and len(y) == n
