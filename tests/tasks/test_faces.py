"""Verification: the metric against a loop, the margin against its formula, nobody twice, LFW's format, nothing run from it."""
import copy, math, os, pickle, shutil, sys, tarfile
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastai.learner import Learner
from fastai.torch_core import set_seed
from PIL import Image

import sskd_tutor.distill.fit  # noqa: F401
from sskd_tutor.core.device import Bf16
from sskd_tutor.compare.runner import loaders
from sskd_tutor.data.images import embedded_fashion, mean, std
from sskd_tutor.tasks.faces import EmbeddingHead, check_open_set, embed, embedder, face_dls, face_net, faces_teacher
from sskd_tutor.tasks.pairs import all_pairs, roc, tar_at_far, template_embeddings, templates, verification
from sskd_tutor.tasks.lfw import lfw_lists, lfw_names, lfw_pairs, lfw_people, pair_scores
from sskd_tutor.data.made import crowds, made_up, pieces
from sskd_tutor.measure.gauge import Gauge
from sskd_tutor.nets.weights import teacher_path, weights_meta

def learner(net, n=10, cbs=(), bs=20):
    train = made_up(range(6), n)
    dls = loaders(train, train, 0, bs, torch.device('cpu'), ([mean], [std]))
    learn = Learner(dls, net, loss_func=net.head.loss, cbs=list(cbs))
    learn.remove_cb(learn.progress)
    return learn

@pytest.fixture
def crowd():  # rounded, so that many scores are equal
    rng = torch.Generator().manual_seed(0)
    return torch.randn(40, 5, generator=rng).mul(2).round() + .1, torch.arange(40) % 4

def naive(scores, same, far):
    best = 0.
    for t in sorted({*scores.tolist(), math.inf}):
        let_in = [s >= t for s in scores.tolist()]
        false = sum(i and not g for i, g in zip(let_in, same.tolist()))/int((~same).sum())
        true = sum(i and g for i, g in zip(let_in, same.tolist()))/int(same.sum())
        if false <= far: best = max(best, true)
    return best

def test_tar_is_that_of_a_naive_loop(crowd):
    e, y = crowd
    scores, same, (a, b) = all_pairs(e, y)
    assert len(scores) == 40*39//2 and all(same[k] == (y[a[k]] == y[b[k]]) for k in range(len(same)))
    scores = scores.mul(20).round()  # ties, also across kinds
    table = tar_at_far(scores, same, (.3, .1, .02, 1/600))
    assert table.tar.tolist() == pytest.approx([naive(scores, same, f) for f in table.index])
    assert table.tar.is_monotonic_decreasing and table.impostors.tolist() == [180, 60, 12, 1] and set(table.genuine) == {180}
    for far, row in table.iterrows():
        assert (scores[~same] >= row.threshold).double().mean() <= far
        assert (scores[same] >= row.threshold).double().mean() == pytest.approx(row.tar)

def test_fewer_images_than_a_batch():
    "They would make no batch at all, and nothing would be trained"
    few = made_up(range(3), 4)
    with pytest.raises(ValueError, match='12 training images are fewer than a batch, bs=13; expected a smaller bs'):
        face_dls(few, few, 13, device='cpu')
    assert len(face_dls(few, few, 12, device='cpu').train) == 1

def test_a_point_on_a_straight_piece_of_the_curve_is_not_lost():
    "scikit-learn drops those by default"
    scores, same = torch.tensor([5., 5., 4., 4., 3., 3., 2., 1.]), torch.tensor([1, 0, 1, 0, 1, 0, 1, 0]).bool()
    assert tar_at_far(scores, same, (.5,)).tar.item() == naive(scores, same, .5) == .5
    assert len(roc(scores, same)) == 6

def test_auc_is_the_chance_that_a_genuine_pair_wins(crowd):
    e, y = crowd
    scores, same, _ = all_pairs(e, y)
    g, i = scores[same], scores[~same]
    wins = (g[:, None] > i).double().mean() + (g[:, None] == i).double().mean()/2
    assert verification(e, y, fars=(.1,)).auc == pytest.approx(wins.item())

@pytest.mark.parametrize('far, word', [(1e-3, 'is 0.6 of 600 impostor pairs'), (0, 'between 0 and 1'), (1, 'between 0 and 1')])
def test_a_far_that_cannot_be_measured(crowd, far, word):
    with pytest.raises(ValueError, match=word): tar_at_far(*all_pairs(*crowd)[:2], (far,))

def test_bad_tests(crowd):
    e, y = crowd
    for bad, labels, word in [(e, y*0, 'no impostor'), (e, torch.arange(40), 'no genuine'), (e[:9], y, 'expected'),
                              (e*math.inf, y, '40 of 40')]:
        with pytest.raises(ValueError, match=word): all_pairs(bad, labels)
    with pytest.raises(ValueError, match='identity 0 has 10 images, a template takes 11'): templates(y, 11)
    with pytest.raises(ValueError, match='size is 0'): templates(y, 0)
    with pytest.raises(ValueError, match='1 of 4 scores'): roc(torch.tensor([1, math.nan, 0, 0]), torch.arange(4) > 1)
    with pytest.raises(ValueError, match='all 4 pairs are genuine'): roc(torch.rand(4), torch.ones(4).bool())
    with pytest.raises(ValueError, match='NaN'): verification(e.log(), y, size=2)

@pytest.mark.parametrize('kind', [torch.tensor, np.array, list, set])
def test_known_people_are_found_in_numbers_of_any_kind(kind):
    with pytest.raises(ValueError, match='2 is in the training and in the test'): check_open_set(kind([1, 2]), [2, 3])
    check_open_set(kind([1, 2]), [3])

@pytest.mark.parametrize('size', [1, 3, 10])
def test_templates(crowd, size):
    e, y = crowd
    members, owners = templates(y, size, seed=3)
    assert len(members.unique()) == members.numel() == 4*(10//size)*size and (y[members] == owners[:, None]).all()
    by_hand = [sum(e[i]/e[i].norm() for i in row.tolist()) for row in members]
    assert torch.allclose(template_embeddings(e, members), torch.stack([v/v.norm() for v in by_hand]), atol=1e-6)

def test_one_image_is_a_template_of_one(crowd):
    e, y = crowd
    members, owners = templates(y, 1)
    a, b = all_pairs(template_embeddings(e, members), owners)[:2], all_pairs(e, y)[:2]
    for same in (True, False): assert torch.allclose(a[0][a[1] == same].sort()[0], b[0][b[1] == same].sort()[0], atol=1e-6)

def test_margin_is_the_formula():
    torch.manual_seed(0)
    head, y = EmbeddingHead(8, 5, 16, margin=20., scale=7.), torch.arange(30) % 5
    e = F.normalize(torch.randn(30, 16), dim=1).requires_grad_()
    cos = F.normalize(e, dim=1) @ F.normalize(head.margin.W, dim=0)
    theta, own = torch.acos(cos.clamp(-1, 1)), F.one_hot(y, 5).bool()
    assert theta.max() < math.pi - math.radians(20)
    want = F.cross_entropy(7*torch.where(own, torch.cos(theta + math.radians(20)), cos), y)
    assert head.loss(e, y).item() == pytest.approx(want.item(), rel=1e-4)
    for p in (e, head.margin.W):
        ours, theirs = (torch.autograd.grad(loss, p, retain_graph=True)[0] for loss in (head.loss(e, y), want))
        assert torch.allclose(ours, theirs, atol=1e-4)

def test_half_precision_leaves_the_directions_alone():
    "Under autocast the library would turn its weights into bfloat16, and cosines into numbers of eight bits"
    net = face_net(4, 1, 6)
    before = net.head.margin.W.detach().clone()
    learner(net, cbs=[Bf16()]).fit(1)
    assert net.head.margin.W.dtype == torch.float32 and not torch.equal(before, net.head.margin.W)
    e, y = torch.randn(6, 64), torch.arange(6)
    with torch.autocast('cpu', torch.bfloat16): inside = net.head.loss(e, y)
    assert inside.dtype == torch.float32 and inside.item() == net.head.loss(e, y).item()

def test_the_head_trains_its_directions_and_nothing_else_moves():
    net = face_net(4, 1, 6)
    before = copy.deepcopy(net.state_dict())
    learner(net).fit_head(1)
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert {'head.margin.W', 'head.embed.2.weight', 'head.embed.3.weight'} <= moved
    assert not [k for k in moved if k.startswith('stages')]

def test_no_identity_reaches_the_backbone():
    teacher, nets = face_net(8, 1, 6), []
    for spoil in (False, True):
        set_seed(0, reproducible=True)
        learn = learner(face_net(4, 1, 6), cbs=[])
        if spoil: learn.dls.train.dataset.images.y.copy_(learn.dls.train.dataset.images.y.flip(0))
        run = learn.fit_sskd(teacher, epochs=1, head_epochs=1)
        assert 'stitched' not in set(run.history.measure) and run.stages.stitched.isna().all()
        nets.append(learn.model)
    a, b = nets
    assert all(torch.equal(u, v) for u, v in zip(a.stages.state_dict().values(), b.stages.state_dict().values()))
    assert not torch.equal(a.head.margin.W, b.head.margin.W)

def test_teachers_head_needs_no_name_and_forgets_the_teachers_too():
    teacher, learn = face_net(8, 1, 6), learner(face_net(4, 1, 6))
    learn.loss_func = teacher.head.loss
    learn.fit_sskd(teacher, epochs=1, head_epochs=0, valid_every=0)
    net, x = learn.model.eval(), torch.randn(3, 1, 28, 28)
    alone = embedder(net)
    assert net.n_identities == 6 and alone.n_identities == 0 and torch.equal(alone(x), net(x))
    assert [k for k in net.state_dict() if 'margin' in k] and not [k for k in alone.state_dict() if 'margin' in k]

def test_more_identities_than_numbers_in_an_embedding():
    train, net = made_up(range(60), 2), face_net(4, 1, 60)
    net.head = EmbeddingHead(16, 60, size=8)
    dls = loaders(train, train, 0, 20, torch.device('cpu'), ([mean], [std]))
    learn = Learner(dls, net, loss_func=net.head.loss)
    learn.remove_cb(learn.progress)
    learn.fit_sskd(face_net(4, 1, 0), epochs=1, head_epochs=1)
    few = face_net(4, 1, 59)
    with pytest.raises(ValueError, match='labels run from 0 to 59, but the head has 59'):
        Learner(dls, few, loss_func=few.head.loss).fit_sskd(face_net(4, 1, 6), 1, 1)

def test_an_embedding_is_not_stitched_into_classes():
    teacher, student, images = face_net(4, 1, 6), face_net(4, 1, 6), made_up(range(6), 4)
    same = {n: torch.nn.Identity() for n in student.stage_names}
    seen = Gauge(student, teacher, same, (images.x/255 - mean)/std, images.y, controls=False).look()['rows']
    assert {r['measure'] for r in seen} >= {'nmse', 'probe'} and 'stitched' not in {r['measure'] for r in seen}

def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorch_metric_learning', None)
    with pytest.raises(ImportError, match=r'pip install "sskd_tutor\[tasks\]"'): face_net(4)
    face_net(4, 1, 0)

def test_made_up_persons_are_what_their_pieces_say():
    images, again, other = (made_up(crowds['strangers'], 3, 'valid', seed=seed) for seed in (4, 4, 5))
    assert images.x.shape == (120, 1, 28, 28) and torch.equal(images.x, again.x) and not torch.equal(images.x, other.x)
    source = embedded_fashion('valid')
    half = torch.stack([source.x[:, 0, i::2, j::2].float() for i in (0, 1) for j in (0, 1)]).mean(0).round()
    for k in range(0, 120, 17):
        for place, c in enumerate(pieces([crowds['strangers'][images.y[k]]])[0].tolist()):
            i, j = divmod(place, 2)
            quarter = images.x[k, 0, 14*i:14*(i+1), 14*j:14*(j+1)]
            assert c in source.y[(half - quarter).abs().amax((1, 2)) == 0].tolist()
    sets = [{tuple(p) for p in pieces(c).tolist()} for c in crowds.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == sum(map(len, crowds.values()))

def test_the_teacher_has_not_met_the_strangers():
    meta = weights_meta(teacher_path().with_name('teacher_faces.safetensors'))
    for who in ('student', 'strangers'): check_open_set(meta['identities'], crowds[who])
    with pytest.raises(ValueError, match='399 is in the training and in the test'):
        check_open_set(meta['identities'], range(399, 500))
    teacher, test = faces_teacher(), made_up(crowds['strangers'], 10, 'valid')
    assert teacher.n_identities == len(meta['identities']) == 400 and not any(p.requires_grad for p in teacher.parameters())
    knows, pixels = (verification(e, test.y) for e in (embed(teacher, test.x), test.x.flatten(1).float()))
    assert knows.auc > pixels.auc + .05 and knows['tar_0.01'] > pixels['tar_0.01'] + .4

def test_the_card_says_what_the_file_says():
    path, test = teacher_path().with_name('teacher_faces.md'), made_up(crowds['strangers'], 20, 'valid')
    row, text, weights = verification(embed(faces_teacher(), test.x), test.y), path.read_text(), path.with_suffix('.safetensors')
    assert f"{100*row['tar_0.01']:.2f} %" in text and f"{row.auc:.4f}" in text and f"{weights_meta(weights)['n']:,}" in text
    assert weights.stat().st_size < 1_500_000

# LFW

people = {f'{who}_Jr.': i for i, who in enumerate(('Ann', 'Bob', 'Cem', 'Dov', 'Eve'))}

@pytest.fixture
def lfw(tmp_path):
    home, images = tmp_path/'lfw_home', embedded_fashion('valid')
    for name, c in people.items():
        (home/'lfw_funneled'/name).mkdir(parents=True)
        for i, x in enumerate(images.x[images.y == c][:3], 1):
            face = Image.fromarray(x[0].numpy()).resize((250, 250)).convert('RGB')
            face.save(home/f'lfw_funneled/{name}/{name}_{i:04d}.jpg', quality=95)
    a, b, c, d, e = people
    (home/'pairs.txt').write_text(f'1\t2\n{a}\t1\t3\n{b}\t2\t3\n{a}\t1\t{b}\t1\n{b}\t3\t{a}\t2\n')
    (home/'pairsDevTrain.txt').write_text(f'1\n{c}\t1\t2\n{c}\t1\t{d}\t3\n')
    (home/'pairsDevTest.txt').write_text(f'1\n{e}\t1\t2\n{d}\t2\t{e}\t1\n')
    return tmp_path

def by_hand(home, name, i):  # the face, half as large
    with Image.open(home/f'lfw_home/lfw_funneled/{name}/{name}_{i:04d}.jpg') as im:
        return torch.from_numpy(np.array(im.crop((78, 70, 172, 195)).resize((47, 62)))).float().mean(2)/255

def test_lfw_pairs(lfw):
    pairs = lfw_pairs('10_folds', lfw)
    assert pairs.x.shape == (4, 2, 1, 62, 47) and pairs.same.tolist() == [True, True, False, False]
    named = [('Ann', 1, 'Ann', 3), ('Bob', 2, 'Bob', 3), ('Ann', 1, 'Bob', 1), ('Bob', 3, 'Ann', 2)]
    for x, (who, i, whom, j) in zip(pairs.x, named):
        for o, name, n in ((x[0, 0], who, i), (x[1, 0], whom, j)):
            assert torch.allclose(o, by_hand(lfw, f'{name}_Jr.', n), atol=2/255)
    assert lfw_pairs('train', lfw, color=True, resize=1.).x.shape == (2, 2, 3, 125, 94)
    assert {p.name for p in (lfw/'lfw_home').iterdir()} == {'lfw_funneled', 'pairs.txt', 'pairsDevTest.txt', 'pairsDevTrain.txt'}

def test_lfw_people_are_strangers_to_the_pairs(lfw):
    assert lfw_names('10_folds', lfw) == ['Ann Jr.', 'Bob Jr.'] and lfw_names('test', lfw) == ['Dov Jr.', 'Eve Jr.']
    images, names = lfw_people('10_folds', data_home=lfw)
    assert names == ['Cem Jr.', 'Dov Jr.', 'Eve Jr.'] and images.y.bincount().tolist() == [3]*3
    assert images.x.shape == (9, 1, 62, 47) and images.x.dtype == torch.uint8
    assert lfw_people('10_folds', data_home=lfw, color=True)[0].x.shape == (9, 3, 62, 47)
    own = {tuple((by_hand(lfw, 'Dov_Jr.', i)*255).round().byte().flatten().tolist()) for i in (1, 2, 3)}
    assert all(min((x.flatten().float() - torch.tensor(o)).abs().max() for o in own) < 3 for x in images.x[images.y == 1])
    check_open_set(names, lfw_names('10_folds', lfw))
    with pytest.raises(ValueError, match='Cem Jr., Dov Jr. are in the training'): check_open_set(names, lfw_names('train', lfw))

def test_people_are_left_out_by_the_names_of_their_folders_too(lfw):
    assert lfw_people(['Cem_Jr.', 'Dov Jr.'], data_home=lfw)[1] == ['Ann Jr.', 'Bob Jr.', 'Eve Jr.']

def test_pair_scores(lfw):
    torch.manual_seed(0)
    net, pairs = face_net(4, 1, 6), lfw_pairs('10_folds', lfw)
    got = pair_scores(net, pairs, [.5], [.3])
    with torch.no_grad(): want = [F.cosine_similarity(*net.eval()((x - .5)/.3)[:, None]).item() for x in pairs.x]
    assert got.tolist() == pytest.approx(want, abs=1e-5)

class Bomb:
    def __reduce__(self): return os.mkdir, (str(self.mark),)

def test_nothing_is_run_from_a_folder_and_nothing_stale_is_read(lfw):
    "joblib's memory, which scikit-learn leaves in the folder, is pickles: plain scikit-learn runs what they hold"
    from sklearn.datasets import fetch_lfw_pairs
    fetch_lfw_pairs(subset='test', data_home=lfw)
    files = list((lfw/'lfw_home').rglob('output.pkl'))
    bomb = Bomb()
    bomb.mark = lfw/'it-was-run'
    for f in files: f.write_bytes(pickle.dumps(bomb))
    assert files and lfw_pairs('test', lfw).same.tolist() == [True, False] and not bomb.mark.exists()
    with suppress(Exception): fetch_lfw_pairs(subset='test', data_home=lfw)   # what it is given instead of pairs is no matter
    assert bomb.mark.exists()
    name = 'Eve_Jr.'
    Image.new('RGB', (250, 250), 'white').save(lfw/f'lfw_home/lfw_funneled/{name}/{name}_0001.jpg')
    assert lfw_pairs('test', lfw).x[0, 0].min() > .99

def test_lfw_that_is_not_there_is_not_fetched(lfw, monkeypatch):
    import sklearn.datasets._lfw as module
    monkeypatch.setattr(module, '_fetch_remote', lambda *a, **k: pytest.fail('it tried to download'))
    with pytest.raises(FileNotFoundError, match='lacks pairsDevTrain.txt.*download=True'): lfw_pairs('test', lfw/'elsewhere')
    assert not (lfw/'elsewhere').exists()
    (lfw/'lfw_home/pairs.txt').unlink()
    with pytest.raises(FileNotFoundError, match='lacks pairs.txt. Put LFW there'): lfw_people(data_home=lfw)

def test_lfw_is_fetched_where_that_is_asked_for(lfw, monkeypatch):
    "scikit-learn asks for each file, by its address and checksum; what comes is read as what was there before"
    import sklearn.datasets._lfw as module
    asked, home = [], lfw/'lfw_home'
    with tarfile.open(lfw/'lfw-funneled.tgz', 'w:gz') as tar: tar.add(home/'lfw_funneled', 'lfw_funneled')
    def network(remote, dirname=None, **kwargs):
        asked.append(remote)
        source = lfw if remote.filename.endswith('.tgz') else home
        shutil.copy(source/remote.filename, Path(dirname)/remote.filename)
    monkeypatch.setattr(module, '_fetch_remote', network)
    got = lfw_pairs('10_folds', lfw/'elsewhere', download=True)
    assert {r.filename for r in asked} == {'lfw-funneled.tgz', *lfw_lists.values()} and len(asked) == 4
    assert all(r.url.startswith('https://ndownloader.figshare.com/files/') and len(r.checksum) == 64 for r in asked)
    assert torch.equal(got.x, lfw_pairs('10_folds', lfw).x) and lfw_people(data_home=lfw/'elsewhere', download=True)[1]
    assert len(asked) == 4  # what is there is not asked for again

def test_a_fetch_that_fails(lfw, monkeypatch):
    import sklearn.datasets._lfw as module
    def network(remote, **kwargs): raise URLError('no route to host')
    monkeypatch.setattr(module, '_fetch_remote', network)
    (lfw/'lfw_home/pairs.txt').unlink()
    for ask in (lfw_pairs, lfw_people):
        with pytest.raises(OSError, match=r'pairs.txt could not be fetched .*no route to host.*put it there'):
            ask('10_folds', data_home=lfw, download=True)
    assert not (lfw/'lfw_home/pairs.txt').exists()

@pytest.mark.parametrize('line, absent', [('Ann_Jr.\t1\t9', '1 images .*: Ann_Jr./Ann_Jr._0009.jpg. Unpack'),
                                          ('Nobody\t1\t2', '2 images .*: Nobody/Nobody_0001.jpg, Nobody/Nobody_0002.jpg'),
                                          ('Ann_Jr.\t1\tNobody\t2', '1 images .*: Nobody/Nobody_0002.jpg')])
def test_pairs_that_name_missing_images(lfw, line, absent):
    (lfw/'lfw_home/pairs.txt').write_text(f'1\t1\n{line}\n')
    with pytest.raises(FileNotFoundError, match=f'pairs.txt names {absent}'): lfw_pairs('10_folds', lfw)

def test_half_unpacked_no_other_face_is_taken(lfw):
    "scikit-learn would count the files that are there"
    (lfw/'lfw_home/lfw_funneled/Ann_Jr./Ann_Jr._0001.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='names 1 images that are not in .*Ann_Jr._0001.jpg.*another image of the person'):
        lfw_pairs('10_folds', lfw)

@pytest.mark.parametrize('line, word', [('Ann_Jr.\t1\tBob_Jr.\t1\t2', 'invalid line'), ('Ann_Jr.\tx\t2', 'invalid literal')])
def test_damaged_lists(lfw, line, word):
    (lfw/'lfw_home/pairs.txt').write_text(f'1\t1\n{line}\n')
    with pytest.raises(ValueError, match=f'cannot be read as LFW.*{word}'): lfw_pairs('10_folds', lfw)

@pytest.mark.parametrize('kept', [300, -2_000])   # bytes: not even a header, and all but the end
def test_damaged_image(lfw, kept):
    path = lfw/'lfw_home/lfw_funneled/Ann_Jr./Ann_Jr._0001.jpg'
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match='Ann_Jr._0001.jpg cannot be read'): lfw_pairs('10_folds', lfw)
    with pytest.raises(ValueError, match='no list'): lfw_pairs('all', lfw)
