"""The measures against closed forms and naive loops; recording that changes nothing, keeps its budget and its size."""
import copy, json, math, os, sys
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastai.vision.all import Callback, CancelFitException, DataLoaders
from scipy.special import rel_entr
from sklearn.linear_model import Ridge
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sskd_tutor.measure import recorder as record_module
from sskd_tutor.measure.alignment import (attention_similarity, best_linear_adapter, channel_match, cka, cka_pairs, cosine_of, features,
    gram, half_sample_interval, match_sums, nmse_of, probe)
from sskd_tutor.measure.fidelity import accuracy_by_class, agreement, ece, predictive_kl, reliability
from sskd_tutor.measure.gauge import Gauge
from sskd_tutor.measure.sample import fixed_sample, random_copy
from sskd_tutor.measure.recorder import RecordAlignment
from sskd_tutor.measure.recording import Recording, record_files
from sskd_tutor.core.files import file_sha256
from sskd_tutor.nets.staged import StagedNet
from helpers.losses import randn as rand
from helpers.pairs import cpu, moved, new_learner, pair, small_dls, snapshot, staged, state

shapes = [(12, 5, 3, 4), (12, 7, 5), (12, 5)]  # maps, tokens, pooled

# --- each measure against a naive form

@pytest.mark.parametrize('shape', shapes)
def test_nmse_and_cosine_are_the_naive_ones(shape):
    hint, pred = rand(*shape) + 1, rand(*shape, seed=1) + .5
    h, p = (o.double().numpy() for o in (hint, pred))
    if len(shape) != 3: h, p = (np.moveaxis(o, 1, -1) for o in (h, p))
    h, p = (o.reshape(-1, o.shape[-1]) for o in (h, p))  # positions of all images x channels
    variance = sum(((h[:, c] - h[:, c].mean())**2).sum() for c in range(h.shape[1]))
    cosines = [h[:, c] @ p[:, c]/np.sqrt((h[:, c] @ h[:, c])*(p[:, c] @ p[:, c])) for c in range(h.shape[1])]
    sums = torch.cat([match_sums(*o) for o in zip(pred.split(5), hint.split(5))])  # in batches
    assert nmse_of(sums, len(h)//12) == pytest.approx(((h - p)**2).sum()/variance, rel=1e-5)
    assert cosine_of(sums) == pytest.approx(np.mean(cosines), rel=1e-5)
    assert nmse_of(match_sums(hint, hint), len(h)//12) == 0 and cosine_of(match_sums(4*hint, hint)) == pytest.approx(1)

def hsic_naive(K, L):
    "Song et al. 2012, eq. 5: sums over pairs, triples and quadruples of different images"
    P = lambda k: permutations(range(len(K)), k)
    pairs = np.mean([K[i, j]*L[i, j] for i, j in P(2)])
    triples = np.mean([K[i, j]*L[i, k] for i, j, k in P(3)])
    quads = np.mean([K[i, j]*L[k, m] for i, j, k, m in P(4)])
    return pairs + quads - 2*triples

def test_debiased_cka_is_the_sum_over_different_images():
    x, y = rand(9, 4), rand(9, 4) @ rand(4, 6, seed=1) + rand(9, 6, seed=2)
    K, L = (o.double().numpy() @ o.double().numpy().T for o in (x, y))
    want = hsic_naive(K, L)/np.sqrt(hsic_naive(K, K)*hsic_naive(L, L))
    assert cka(x, y) == pytest.approx(want, abs=1e-6)

def test_biased_cka_is_kornblith_s():
    x, y = rand(40, 4) + 3, rand(40, 6, seed=1)
    X, Y = ((o - o.mean(0)).double() for o in (x, y))
    want = (Y.T @ X).norm()**2/((X.T @ X).norm()*(Y.T @ Y).norm())
    assert cka(x, y, debiased=False) == pytest.approx(want.item(), rel=1e-5)

def test_pooled_and_flat_are_different_things():
    x = rand(30, 3, 4, 4)
    assert features(x).equal(x.mean((2, 3))) and features(x, 'flat').equal(x.flatten(1))
    y = torch.stack([o.roll(i % 4, 2) for i, o in enumerate(x)])  # each image moved its own way
    assert cka(x, y) == pytest.approx(1, abs=1e-5) and cka(x, y, 'flat') < .5

def test_a_gram_matrix_in_blocks_is_the_whole_one():
    x = rand(20, 50)
    torch.testing.assert_close(gram(x, block=7), gram(x), rtol=1e-5, atol=1e-5)

def test_attention_is_the_naive_one():
    x, y = rand(4, 3, 6, 6), rand(4, 5, 3, 3, seed=1)
    want = []
    for a, b in zip(x.double().numpy(), y.double().numpy()):
        a, b = (a**2).sum(0).reshape(3, 2, 3, 2).mean((1, 3)).ravel(), (b**2).sum(0).ravel()
        want.append(a @ b/np.sqrt((a @ a)*(b @ b)))
    np.testing.assert_allclose(attention_similarity(x, y).numpy(), want, rtol=1e-5)

def test_the_probe_is_scikit_learn_s_ridge():
    y = torch.arange(80) % 4
    x = rand(80, 6) + F.one_hot(y, 6)*2.
    a, b = x[:40].double().numpy(), x[40:].double().numpy()
    mean, std = a.mean(0), a.std(0, ddof=1)
    model = Ridge(alpha=.01*40).fit((a - mean)/std, F.one_hot(y[:40]).double().numpy())
    np.testing.assert_array_equal(probe(x, y), model.predict((b - mean)/std).argmax(1) == y[40:].numpy())
    assert probe(x, y).mean() > .6 and probe(torch.ones(80, 6), y).mean() == .25

def test_the_best_linear_adapter_is_least_squares():
    tap, hint = rand(20, 3, 4, 4), rand(20, 5, 4, 4, seed=1)
    X, Y = (o.permute(0, 2, 3, 1).flatten(0, 2).double().numpy() for o in (tap, hint))
    X = np.c_[X, np.ones(len(X))]
    want = ((X @ np.linalg.lstsq(X, Y, rcond=None)[0] - Y)**2).sum()
    with torch.no_grad(): got = (best_linear_adapter(tap, hint, ridge=1e-9)(tap) - hint).square().sum().item()
    assert got == pytest.approx(want, rel=1e-5)

def test_channel_match_is_numpy_s_correlation():
    a, b = rand(6, 3, 2, 2), rand(6, 4, 2, 2, seed=1)
    rows = [o.transpose(0, 1).flatten(1).double().numpy() for o in (a, b)]
    np.testing.assert_allclose(channel_match(a, b).numpy(), np.corrcoef(*rows)[:3, 3:], atol=1e-5)
    assert channel_match(rand(6, 100, 2, 2), b).shape == (25, 4)

def test_fidelity_is_the_naive_one():
    t, s, y = 2*rand(50, 4), 2*rand(50, 4, seed=1), torch.arange(50) % 4
    p, q = (o.double().softmax(1).numpy() for o in (t, s))
    assert agreement(t, s) == pytest.approx(np.mean([a.argmax() == b.argmax() for a, b in zip(p, q)]))
    assert predictive_kl(t, s) == pytest.approx(rel_entr(p, q).sum(1).mean(), rel=1e-6) != pytest.approx(predictive_kl(s, t),
            rel=1e-3)
    sure, right = q.max(1), q.argmax(1) == y.numpy()
    want = sum(abs(sure[m].mean() - right[m].mean())*m.mean() for i in range(10)
            if (m := (sure > i/10) & (sure <= (i + 1)/10)).any())
    table = reliability(s, y, 10)
    assert ece(s, y, 10) == pytest.approx(want, rel=1e-5)
    assert ((table.confidence - table.accuracy).abs()*table['count']).sum()/50 == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(accuracy_by_class(s, y), [right[y.numpy() == c].mean() for c in range(4)], rtol=1e-6)

def test_a_confidence_of_one_is_in_the_last_bin():
    "Half are sure to the last digit and right nine times in ten, half say 95 % and are always right"
    logits = torch.zeros(200, 2)
    logits[:100, 0], logits[100:, 0] = 100., math.log(19)
    y = torch.zeros(200, dtype=torch.int64)
    y[:10] = 1
    assert ece(logits, y) == pytest.approx(abs(.975 - .95), abs=1e-5)

def test_without_torchmetrics_the_cure_is_named_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchmetrics', None)
    learn, teacher, _ = learner()
    with pytest.raises(ImportError, match='pip install torchmetrics'): learn.fit_sskd(teacher, 1, 1, cbs=RecordAlignment())

# --- what CKA must not see, and what it must

def test_cka_is_blind_to_rotation_scale_shift_and_order():
    x, y = rand(60, 8), rand(60, 8) @ rand(8, 5, seed=1)
    turned = 30*x @ torch.linalg.qr(rand(8, 8, seed=2))[0] + 7
    assert cka(x, x) == pytest.approx(1) and cka(turned, y) == pytest.approx(cka(x, y), abs=1e-5)
    assert cka(x[:, [3, 1, 0, 2, 7, 6, 5, 4]], y) == pytest.approx(cka(x, y), abs=1e-6)
    assert abs(cka(x, y) - cka(x @ rand(8, 8, seed=3), y)) > .02  # teeth: not to every linear map

def test_debiased_cka_of_strangers_is_zero_on_average_and_biased_is_not():
    pairs = [(rand(24, 200, seed=i), rand(24, 300, seed=1_000 + i)) for i in range(60)]
    honest, biased = (np.array([cka(x, y, debiased=d) for x, y in pairs]) for d in (True, False))
    assert abs(honest.mean()) < 4*honest.std(ddof=1)/60**.5 and biased.mean() > .8

@pytest.mark.parametrize('constant', [torch.ones(30, 5), torch.full((30, 5), .1) + 3e4, torch.zeros(30, 5)])
def test_constant_features_are_undefined(constant):
    assert np.isnan(cka(constant, rand(30, 5))) and np.isnan(nmse_of(match_sums(rand(30, 5), constant), 1))
    value, low, high = cka_pairs(gram(constant)[None], gram(rand(30, 5))[None])
    assert np.isnan([value, low, high]).all()

def test_tiny_variation_on_a_large_mean_is_not_constant():
    x = rand(30, 5)
    assert cka(x*1e-2 + 10, x) > .99

@pytest.mark.parametrize('call,says', [
    (lambda: cka(rand(1, 5), rand(1, 5)), 'at least 4'), (lambda: gram(rand(1_025, 2)), 'at most 1024'),
            (lambda: cka(rand(9, 2), rand(8, 2)), 'same images'),
    (lambda: match_sums(rand(4, 2), rand(4, 3)), 'adapter'), (lambda: attention_similarity(rand(4, 9, 3), rand(4, 9, 3)),
            'no spatial map'),
    (lambda: features(rand(4, 2), 'mean'), "'pooled' or 'flat'"),
            (lambda: probe(rand(1, 2), torch.zeros(1).long()), 'at least 4'),
    (lambda: best_linear_adapter(rand(4, 9, 3), rand(4, 8, 3)), 'position by position'),
            (lambda: match_sums(rand(2, 2, 2, 2, 2), rand(2, 2, 2, 2, 2)), 'expected maps')])
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says.replace('(', r'\(')): call()

def test_half_samples_cover_the_truth():
    "About 95 of 100 intervals of a mean hold the true mean"
    hits = 0
    for i in range(200):
        v = rand(64, seed=i).double()
        low, high = half_sample_interval(lambda j: v[j].mean(), 64, times=40, seed=i)
        hits += low < 0 < high
    assert 180 <= hits <= 199
    assert np.isnan(half_sample_interval(lambda j: 1., 5)).all()

def test_duplicates_push_cka_up():
    "Why the intervals come from subsampling: images drawn twice"
    x, y = rand(64, 300), rand(64, 300, seed=1)
    twice = torch.randint(64, (64,), generator=torch.Generator().manual_seed(0))
    assert abs(cka(x, y)) < .1 < cka(x[twice], y[twice])

# --- all of them, in a gauge

def gauge_of(n=64, device=cpu, nets=None, labels=True, **kwargs):
    teacher, student = nets or pair()
    x, y, _ = fixed_sample(small_dls(n_valid=100).valid, n)
    teacher, student = teacher.eval().to(device), student.eval().to(device)
    tap, hint = (dict(zip(net.stages, [net.forward_to(x[:2].to(device), s) for s in net.stage_names]))
            for net in (student, teacher))
    student.train()
    torch.manual_seed(1)
    adapters = {s: (nn.Conv2d(tap[s].shape[1], hint[s].shape[1], 1)
            if tap[s].dim() == 4 else nn.Linear(tap[s].shape[-1], hint[s].shape[-1])).to(device) for s in tap}
    return Gauge(student, teacher, adapters, x.to(device), y if labels else None, bs=20, **kwargs)

def numbers(rows): return {tuple(r[k] for k in ('measure', 'student', 'teacher', 'control')): r['value'] for r in rows}

def test_the_gauge_agrees_with_the_measures():
    g = gauge_of()
    got, x = numbers(g.look()['rows']), torch.cat(list(g.batches))
    with torch.no_grad():
        for m in (g.student, g.teacher): m.eval()
        for s in g.names:
            tap, hint = g.student.forward_to(x, s), g.teacher.forward_to(x, s)
            pred = g.adapters[s](tap)
            sums = match_sums(pred, hint)
            want = dict(nmse=nmse_of(sums, hint[0, 0].numel()), cosine=cosine_of(sums),
                    attention=attention_similarity(tap, hint).mean().item(),
                        stitched=(g.teacher.forward_from(pred, s).argmax(1) == g.y).float().mean().item(),
                                probe=probe(features(tap), g.y).mean())
            for k, v in want.items(): assert got[k, s, s, ''] == pytest.approx(v, abs=1e-5), (k, s)
            assert got['probe', '', s, ''] == pytest.approx(probe(features(hint), g.y).mean())
            for kind in ('pooled', 'flat'):
                for o in g.names: assert got[f'cka_{kind}', s, o,
                        ''] == pytest.approx(cka(tap, g.teacher.forward_to(x, o), kind), abs=1e-5)

def test_controls_stand_beside_every_measure():
    rows = numbers(gauge_of().look()['rows'])
    own = {k[:3] for k in rows if k[3] == '' and k[1]}
    assert len(own) == 5*3 + 2*9
    for c in ('random', 'shuffled'): assert {k[:3] for k in rows if k[3] == c} == own
    assert max(abs(v) for k, v in rows.items() if k[0].startswith('cka') and k[3] == 'shuffled') < .25
    assert not [k for k in numbers(gauge_of(controls=False).look()['rows']) if k[3]]

def test_shuffled_pairs_break_what_is_the_same():
    "A twin of the teacher: every measure says 1 (NMSE 0), and its shuffled pair does not"
    teacher, _ = pair()
    g = gauge_of(nets=(teacher, copy.deepcopy(teacher)))
    g.adapters = dict.fromkeys(g.names, nn.Identity())
    g.last = {}
    rows = numbers(g.look()['rows'])
    for m in ('nmse', 'cosine', 'attention', 'cka_pooled', 'cka_flat'):
        assert rows[m, 'stage2', 'stage2', ''] == pytest.approx(float(m != 'nmse'), abs=1e-4)
        assert abs(rows[m, 'stage2', 'stage2', 'shuffled'] - rows[m, 'stage2', 'stage2', '']) > .05

def test_autocast_does_not_touch_the_figures():
    plain = numbers(gauge_of().look()['rows'])
    with torch.autocast('cpu', torch.bfloat16):
        assert numbers(gauge_of().look()['rows']) == pytest.approx(plain, abs=1e-6)
        x, y = rand(60, 8, 5, 5), rand(60, 8, 5, 5) + rand(60, 8, 5, 5, seed=1)
        under = cka(x, y), nmse_of(match_sums(x, y), 25), attention_similarity(x, y).mean().item()
        assert (x.flatten(1) @ y.flatten(1).T).dtype == torch.bfloat16  # teeth: autocast is on
    assert under == pytest.approx((cka(x, y), nmse_of(match_sums(x, y), 25), attention_similarity(x, y).mean().item()), abs=1e-6)

def test_taps_of_half_precision_are_read_in_float32():
    x, y = rand(60, 8, 5, 5), rand(60, 8, 5, 5) + rand(60, 8, 5, 5, seed=1)
    a, b = x.bfloat16(), y.bfloat16()
    assert cka(a, b) == pytest.approx(cka(x, y), abs=5e-3) and cka(a, b) == cka(a.float(), b.float())
    assert nmse_of(match_sums(a, b), 25) == pytest.approx(nmse_of(match_sums(x, y), 25), abs=5e-3)

@pytest.mark.gpu
def test_the_gpu_gives_the_cpu_s_figures():
    want = numbers(gauge_of().look()['rows'])
    with torch.autocast('cuda', torch.bfloat16): got = numbers(gauge_of(device=torch.device('cuda', 0)).look()['rows'])
    for k, v in want.items():
        tolerance = .05 if k[0] in ('stitched', 'probe') else 5e-3  # an answer may flip
        assert got[k] == pytest.approx(v, abs=tolerance, nan_ok=True), k

def test_little_room_gives_the_same_numbers_and_says_how_many_images():
    want = numbers(gauge_of().look()['rows'])
    g = gauge_of(max_bytes=100_000)  # room for the hints of one batch, and for 31 images' flat features of stage 1
    assert len(g.hints) < len(g.batches) and g.limits['stage1'] == 100_000//(4*8*100) and g.limits['stage3'] == 64
    got = numbers(g.look()['rows'])
    for k, v in want.items():
        if k[0] != 'cka_flat': assert got[k] == pytest.approx(v, abs=1e-6), k
        else: assert np.isfinite(got[k])
    assert all(np.isnan(v) for k, v in numbers(gauge_of(max_bytes=0).look()['rows']).items() if k[0] == 'cka_flat')

@pytest.mark.parametrize('n', [1, 2, 3, 5])
def test_few_images(n):
    looked = gauge_of(n).look()
    rows = numbers(looked['rows'])
    assert np.isfinite(rows['nmse', 'stage1', 'stage1', '']) and looked['maps']['stage1'].shape[0] == n
    assert np.isnan(rows['cka_pooled', 'stage1', 'stage1', '']) == (n < 4) and np.isnan(rows['probe', 'stage1', 'stage1',
            '']) == (n < 4)

class Tokens(nn.Module):
    def forward(self, x): return x.flatten(2).transpose(1, 2) if x.dim() == 4 else x

@pytest.mark.parametrize('kind', ['tokens', 'pooled'])
def test_networks_without_maps(kind):
    def net(w):
        first = nn.Sequential(Tokens(), nn.Linear(1, w)) if kind == 'tokens' else nn.Sequential(nn.Flatten(), nn.Linear(100, w),
                nn.ReLU())
        return StagedNet(dict(a=first, b=nn.Linear(w, 2*w)), nn.Sequential(*([nn.Flatten()] if kind == 'tokens' else []),
                nn.LazyLinear(10)))
    nets = net(6), net(4)
    for m in nets: m(torch.zeros(2, 1, 10, 10))
    looked = gauge_of(nets=nets).look()
    rows = numbers(looked['rows'])
    assert not [k for k in rows if k[0] == 'attention'] and np.isfinite(rows['cka_flat', 'a', 'b',
            '']) and np.isfinite(rows['nmse', 'b', 'b', 'random'])
    assert looked['maps']['a'].shape[2:] == ((1, 100) if kind == 'tokens' else (1, 1))

def test_without_labels():
    rows = numbers(gauge_of(labels=False).look()['rows'])
    assert {k[0] for k in rows} == {'nmse', 'cosine', 'attention', 'cka_pooled', 'cka_flat'}

def test_only_what_changed_is_measured_again():
    g, runs = gauge_of(), []
    g.student.stages['stage1'].register_forward_hook(lambda *_: runs.append(1))
    first = g.look()
    n, second = len(runs), g.look()
    assert len(runs) == n > 0 and numbers(first['rows']) == pytest.approx(numbers(second['rows']), nan_ok=True)
    with torch.no_grad(): g.student.stages['stage3'][0].weight.mul_(-1)
    third = g.look()
    changed = {k[1] for k, v in numbers(third['rows']).items() if v != numbers(first['rows'])[k]}
    assert changed == {'stage3'} and [s for s in g.names if first['checksums'][s] != third['checksums'][s]] == ['stage3']

def test_a_random_copy_shares_nothing():
    _, student = pair()
    before, other = snapshot(student), random_copy(student)
    assert not moved(before, student)
    assert all(not a.equal(b) for (n, a), b in zip(other.named_parameters(), student.parameters()) if a.dim() > 1)

@pytest.mark.parametrize('make', ['device', 'torch'])
def test_a_fixed_sample_of_any_loader(make):
    valid = small_dls(n_valid=100).valid
    x, y = (torch.cat(o) for o in zip(*valid))
    dl = valid if make == 'device' else DataLoader(TensorDataset(x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)),
            batch_size=7, shuffle=True)
    got, labels, pixels = fixed_sample(dl, 40)
    assert len(got) == 40 and got.equal(fixed_sample(dl, 40)[0])
    assert len(set(labels[:8].tolist())) == 8 and pixels.dtype == np.uint8
    assert all(any(a.equal(b.as_subclass(torch.Tensor)) for b in x[y == c]) for a,
            c in zip(got, labels))  # each with its own label
    assert len(fixed_sample(dl, 1_000)[0]) == 100

# --- recording

def learner(p=.2, **kwargs):
    torch.manual_seed(0)
    teacher, student = staged(8, p=p), staged(4, p=p)
    return new_learner(student, small_dls(**kwargs)), teacher, student

def fit(cbs=(), epochs=2, head_epochs=2, seed=0, **kwargs):
    learn, teacher, student = learner(**kwargs)
    torch.manual_seed(seed)
    return learn.fit_sskd(teacher, epochs, head_epochs, cbs=list(cbs)), teacher, student

def test_recording_changes_nothing():
    def outcome(*cbs):
        run, teacher, student = fit(cbs)
        return snapshot(student, teacher, *run.adapters.values()), run.history.query("measure != 'seconds'"), state(student,
                teacher), torch.rand(3)
    plain, watched = outcome(), outcome(RecordAlignment(share=1, sample=40))
    assert all(v.equal(watched[0][k]) for k, v in plain[0].items()) and plain[0].keys() == watched[0].keys()
    assert plain[1].equals(watched[1]) and plain[2] == watched[2] and plain[3].equal(watched[3])
    class Careless(Callback):
        def after_epoch(self): torch.rand(1)
    careless = outcome(Careless())[0]
    assert any(not v.equal(careless[k]) for k, v in plain[0].items())  # teeth: dropout would show one number drawn

def test_it_asks_for_no_event_of_a_batch():
    events = {n for n in dir(RecordAlignment) if n.startswith(('before_', 'after_')) and n not in dir(Callback)}
    assert events == {'before_fit', 'before_train', 'after_epoch'}

def test_steps_and_phases():
    rec = fit([RecordAlignment(share=1, sample=40)])[0].record
    assert list(zip(rec.steps.phase, rec.steps.epoch)) == [('start', 0)] + [(p, e)
            for p in ('stage1', 'stage2', 'stage3', 'head') for e in (1, 2)]
    assert list(rec.steps.step) == list(range(9))
    assert rec.steps.seconds.is_monotonic_increasing and rec.steps.gmacs.is_monotonic_increasing
    locks = {s: [a == b for a, b in zip(v, v[1:])] for s, v in rec.checksums.items()}
    assert locks == {f'stage{k+1}': [i // 2 != k for i in range(8)] for k in range(3)}
    assert 0 < rec.info['share_spent'] < 1 and rec.final['student']['n'] == 50 and rec.final['controls'].keys() == {'random',
            'shuffled'}
    json.dumps(rec.final, allow_nan=False)

def test_share_zero_measures_start_and_ends_only():
    rec = fit([RecordAlignment(share=0, sample=40)], epochs=3)[0].record
    assert list(zip(rec.steps.phase, rec.steps.epoch)) == [('start', 0), ('stage1', 3), ('stage2', 3), ('stage3', 3), ('head', 2)]

def test_the_share_is_kept(monkeypatch):
    "By a clock on which an epoch takes 1 s and drawing 1.5 s"
    clock = [0.]
    monkeypatch.setattr(record_module, 'time', SimpleNamespace(perf_counter=lambda: clock[0]))
    class Tick(Callback):
        order = 75
        def after_epoch(self): clock[0] += 1
    rec = RecordAlignment(share=.2, sample=20, final=False)
    def draw(_): clock[0] += 1.5
    rec.on_step.append(draw)
    run, *_ = fit([rec, Tick()], epochs={'stage1': 40, 'stage2': 1, 'stage3': 1}, head_epochs=1)
    steps = run.record.steps.query("phase == 'stage1' and epoch < 40")
    for i, t in enumerate(steps.seconds): assert 1.5*(i + 2) <= .2*(t + 1.5) + 1e-9  # with the start's
    assert len(steps) >= 5  # and the time is used: 45 s and more, a fifth of it
    assert run.record.info['share_spent'] == pytest.approx(rec.spent/clock[0], rel=1e-6)

def test_no_head_epochs_judges_the_head_that_the_student_got():
    run, teacher, student = fit([RecordAlignment(sample=40)], head_epochs=0)
    rec = run.record
    own = run.history.query("stage == 'head' and measure == 'accuracy'").value.item()
    assert rec.final['student']['accuracy'] == pytest.approx(own, abs=1e-6)
    assert rec.schedule['head'] == 0

def test_a_fit_that_stops_early_is_measured_where_it_stopped():
    class Stop(Callback):
        order = 65
        def after_epoch(self): raise CancelFitException
    rec = fit([RecordAlignment(share=0, sample=20), Stop()], epochs=5)[0].record
    assert list(rec.steps.epoch) == [0, 1, 1, 1, 1]

def test_an_interrupted_run_leaves_what_was_recorded():
    class Interrupt(Callback):
        order = 85
        def after_epoch(self):
            if self.learn.sskd_phase == 'stage2': raise KeyboardInterrupt
    cb = RecordAlignment(share=1, sample=20)
    with pytest.raises(KeyboardInterrupt): fit([cb, Interrupt()])
    cb.recording.check()
    assert list(cb.recording.steps.phase) == ['start', 'stage1', 'stage1', 'stage2'] and cb.recording.final == {}

def test_hooks_see_the_recording_grow():
    lengths, cb = [], RecordAlignment(share=1, sample=20)
    cb.on_step.append(lambda rec: lengths.append((len(rec.steps), bool(rec.final))))
    fit([cb], epochs=1, head_epochs=1)
    assert lengths == [(i, False) for i in range(1, 6)] + [(5, True)]

def test_two_runs_with_one_recorder():
    cb = RecordAlignment(share=1, sample=20)
    a, b = (fit([cb], epochs=1, head_epochs=1)[0].record for _ in range(2))
    assert a is not b and len(a.steps) == len(b.steps) == 5
    assert a.measures.value.equals(b.measures.value)

def test_without_labels_it_records():
    learn, teacher, _ = learner()
    x = torch.cat([b[0] for b in learn.dls.valid]).as_subclass(torch.Tensor)
    learn.dls = DataLoaders(*[DataLoader(TensorDataset(x), batch_size=10) for _ in range(2)])
    learn.metrics = []
    class NoLoss(Callback):  # `fit_sskd` validates the finished student once, and there is nothing to compare it with
        def after_pred(self): self.learn.yb = self.learn.yb or (self.pred.argmax(1),)
    learn.add_cb(NoLoss())
    rec = learn.fit_sskd(teacher, 1, 0, cbs=RecordAlignment(sample=20)).record
    assert (rec.labels == -1).all() and rec.final == {} and 'stitched' not in set(rec.measures.measure)

@pytest.mark.parametrize('kwargs', [dict(share=-.1), dict(share=2), dict(images=0), dict(sample=0)])
def test_bad_settings(kwargs):
    with pytest.raises(ValueError, match='expected'): RecordAlignment(**kwargs)

# --- the folder

@pytest.fixture(scope='module')
def rec(): return fit([RecordAlignment(share=1, sample=40)])[0].record

def test_what_is_saved_comes_back(rec, tmp_path):
    rec.save(tmp_path/'r')
    back = Recording.load(tmp_path/'r')
    for f in ('vocab', 'scale', 'channels', 'schedule', 'final', 'checksums', 'info'): assert getattr(back, f) == getattr(rec,
            f), f
    for f in ('maps', 'projection', 'match'):
        assert getattr(back, f).keys() == getattr(rec, f).keys()
        for k, v in getattr(rec, f).items(): np.testing.assert_array_equal(getattr(back, f)[k], v)
    for f in ('images', 'labels', 'point_labels'): np.testing.assert_array_equal(getattr(back, f), getattr(rec, f))
    text = ['phase', 'measure', 'student', 'teacher', 'control']
    assert back.measures[text].equals(rec.measures[text].astype(back.measures[text].dtypes))
    np.testing.assert_allclose(back.measures[['value', 'low', 'high']].astype(float),
            rec.measures[['value', 'low', 'high']].astype(float), rtol=1e-4)
    assert back.steps.gpu_util.isna().all() and back.steps.memory.gt(1e6).all()

def test_three_stages_of_ten_epochs_take_three_megabytes_at_most(rec, tmp_path):
    "Maps of the largest size and of pure noise, which cannot be compressed; each stage stands still outside its own phase"
    rng, big = np.random.default_rng(0), copy.deepcopy(rec)
    byte = lambda *s: rng.integers(0, 256, s).astype(np.uint8)
    big.images, n = byte(8, 3, 112, 112), 35
    big.schedule = {f'stage{k}': 10 for k in (1, 2, 3)} | {'head': 4}
    look = {m: byte(8, 4, 28, 28) for m in big.stages}
    big.maps |= {('teacher', s): byte(1, 8, 4, 28, 28) for s in big.stages}
    for k, s in enumerate(big.stages):
        big.maps['student', s] = np.stack([look[s] if i > 10*(k + 1) else byte(8, 4, 28, 28) for i in range(n)])
        big.projection['student', s] = rng.normal(size=(n, 256, 2)).astype(np.float16)
        big.match[s] = rng.uniform(-1, 1, (n, 32, 32)).astype(np.float16)
        big.checksums[s] = big.checksums[s][:1]*n
    one = rec.measures[rec.measures.step == 1]
    noise = lambda: one.assign(**{c: rng.normal(size=len(one)) for c in ('value', 'low', 'high')})
    big.measures = record_module.pd.concat([noise().assign(step=i) for i in range(n)], ignore_index=True)
    big.steps = record_module.pd.concat([rec.steps[:1].assign(step=i) for i in range(n)], ignore_index=True)
    assert sum(p.stat().st_size for p in big.save(tmp_path/'r')) <= 3_000_000

@pytest.mark.parametrize('name', record_files)
def test_an_incomplete_folder_is_refused(rec, tmp_path, name):
    rec.save(tmp_path)
    (tmp_path/name).unlink()
    with pytest.raises(FileNotFoundError, match=f'no {name}'): Recording.load(tmp_path)

@pytest.mark.parametrize('name', record_files)
def test_a_damaged_folder_is_refused(rec, tmp_path, name):
    rec.save(tmp_path)
    (tmp_path/name).write_bytes((tmp_path/name).read_bytes()[:-50])
    with pytest.raises(ValueError, match='damaged'): Recording.load(tmp_path)

@pytest.mark.parametrize('change,says', [(dict(format=99), 'pip install -U'), (dict(format='1'), 'damaged'),
        (dict(scale=None), 'damaged'), (dict(steps=[]), 'no step'),
                                         (dict(checksums={}), 'does not hold together')])
def test_a_newer_or_strange_recording_is_refused(rec, tmp_path, change, says):
    said = tmp_path/'alignment.json'
    rec.save(tmp_path)
    said.write_text(json.dumps({k: v for k, v in {**json.loads(said.read_text()), **change}.items() if v is not None}))
    with pytest.raises(ValueError, match=says): Recording.load(tmp_path)

class Bomb:
    def __init__(self, mark): self.mark = mark
    def __reduce__(self): return os.mkdir, (str(self.mark),)

def test_a_recording_is_read_without_pickle(rec, tmp_path):
    "An array of objects would run what its pickle says; all else of the file is whole"
    rec.save(tmp_path)
    mark = tmp_path/'it-was-run'
    with np.load(tmp_path/'alignment.npz') as z: arrays = dict(z)
    np.savez(tmp_path/'alignment.npz', **arrays | dict(images=np.array([Bomb(mark)], dtype=object)))
    said = json.loads((tmp_path/'alignment.json').read_text())
    said['sha256']['alignment.npz'] = file_sha256(tmp_path/'alignment.npz')
    (tmp_path/'alignment.json').write_text(json.dumps(said))
    with pytest.raises(ValueError, match='alignment.npz is damaged .*allow_pickle'): Recording.load(tmp_path)
    assert not mark.exists()
    np.load(tmp_path/'alignment.npz', allow_pickle=True)['images']
    assert mark.exists()   # teeth: it would have
