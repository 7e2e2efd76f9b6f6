"""The study on LFW, CamVid and BCCD, on made-up folders of their form: every method runs, and nothing runs twice."""
import sys
from argparse import Namespace

import pytest
import torch
from fastai.callback.core import Callback
from PIL import Image

from conftest import root
from sskd_tutor.core.device import quiet
from sskd_tutor.data.images import embedded_fashion
from sskd_tutor.data.made import make_scenes, write_camvid, write_coco

sys.path.insert(0, str(root/'benchmarks'))
import real  # noqa: E402
from rows import append_new, read_rows  # noqa: E402

def lfw_folder(top):
    "Ten folds of two people each, and six people who are in no pair"
    home, images = top/'lfw_home', embedded_fashion('valid').x[:104, 0].numpy()
    people = [f'Some_Body{i:02d}' for i in range(26)]
    for i, face in enumerate(images):
        name, n = people[i//4], i % 4 + 1
        (home/'lfw_funneled'/name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).resize((250, 250)).convert('RGB').save(home/f'lfw_funneled/{name}/{name}_{n:04d}.jpg')
    folds = ''.join(f'{a}\t1\t2\n{b}\t1\t2\n{a}\t3\t{b}\t1\n{a}\t1\t{b}\t3\n' for a, b in zip(people[:20:2], people[1:20:2]))
    (home/'pairs.txt').write_text('10\t2\n' + folds)
    for name in ('pairsDevTrain.txt', 'pairsDevTest.txt'):
        (home/name).write_text(f'1\n{people[0]}\t1\t2\n{people[0]}\t3\t{people[1]}\t1\n')

def camvid_folder(top):
    folder = write_camvid(make_scenes(10, size=48), top/'camvid', make_scenes(3, 'valid', size=48))
    (folder/'codes.txt').write_text((folder/'codes.txt').read_text() + 'Void\n')
    (folder/'val.txt').write_text('00008.png\n00009.png\n')

def bccd_folder(top):
    (top/'bccd/annotations').mkdir(parents=True)
    for part, n in dict(train2017=10, val2017=4).items():
        file = write_coco(make_scenes(n, size=48), top/part)
        (top/part/'images').rename(top/'bccd'/part)
        file.rename(top/f'bccd/annotations/instances_{part}.json')

quick = dict(epochs=1, head_epochs=1, teacher_epochs=1, lr=[5e-3], bs=4)
small = dict(
    lfw=dict(quick, teacher=dict(width=6, blocks=1), student=dict(width=4, blocks=1), bs=8, views=2, seeds=[400]),
    camvid=dict(quick, teacher=dict(encoder='resnet10', width=8), student=dict(encoder='resnet10', width=4), size=[32, 32],
                seeds=[410], labeled=[8, 4]),
    bccd=dict(quick, teacher=dict(width=6), student=dict(width=4), seeds=[420], labeled=[10, 4],
              detector=dict(channels=8, anchors=[6, 12, 18, 26], size=32, c_in=3, n_classes=10)))

@pytest.fixture
def started(tmp_path, monkeypatch):
    "A function: the set of that name, made up and small; its rows go to tmp_path"
    monkeypatch.setattr(real, 'RESULTS', tmp_path)
    monkeypatch.setattr(real, 'MORE_RATES', 0)
    monkeypatch.setattr(real, 'FARS', (.5, .2))
    monkeypatch.setattr(real, 'CURVE', (.2, .4))
    def start(what):
        s = real.sets[what](Namespace(what=what, data=tmp_path, folder=tmp_path/'kept'))
        s.how |= small[what]
        s.folder.mkdir(parents=True, exist_ok=True)
        return s
    return start

def test_rates_that_the_config_gives_are_not_chosen_again(started):
    s = started('lfw')
    s.how['rates'] = dict(sskd=[1e-2, 2e-2])
    assert real.rates_of(s, 'lfw') == {('sskd', 0): 1e-2, ('sskd', 1): 2e-2}

def test_a_kept_teacher_of_other_settings_is_refused(tmp_path, started):
    "It was taken silently, whatever the config said"
    bccd_folder(tmp_path)
    started('bccd').teacher()
    again = started('bccd')
    again.teacher()
    again.how['teacher_lr'] *= 2
    with pytest.raises(ValueError, match='teacher_lr: .* in the checkpoint, .* now'): again.teacher()

def tables(folder): return {path.name: path.read_text() for path in folder.glob('*.csv')}

@pytest.mark.slow   # it opens a hundred photographs time and again
def test_lfw(tmp_path, monkeypatch, started):
    monkeypatch.setattr(real, 'fast_bf16', lambda device: True)
    lfw_folder(tmp_path)
    real.run(started('lfw'), 'lfw')
    rows, tried, points = (read_rows(tmp_path/f'lfw{kind}.csv') for kind in ('', '_tuning', '_roc'))
    methods = ['sskd', 'sskd_teacher_head', 'labels', 'kd']
    assert [row['method'] for row in rows] == ['teacher', *methods]
    assert [(row['part'], row['method']) for row in tried] == [(part, method) for part in '01' for method in methods]
    assert {'auc', 'tar_0.5', 'tar_0.2_of_2', 'peak_gb', 'settings'} <= rows[0].keys() and rows[0]['seconds'].isdigit()
    assert rows[1]['lr'] == '0.005/0.005' and len(points) == 5*2*2 and rows[1]['precision'] == 'bfloat16'
    spent = [sum(map(float, row['gmacs_by_part'].split('/'))) for row in rows[1:]]
    assert spent == pytest.approx([float(row['gmacs']) for row in rows[1:]])
    assert len(list((tmp_path/'kept/lfw').glob('kd-400-*.safetensors'))) == 2
    done = tables(tmp_path)
    (tmp_path/'lfw.csv').write_text(done['lfw.csv'].rsplit('\n', 2)[0] + '\n')   # killed before the last row
    real.run(started('lfw'), 'lfw')
    assert tables(tmp_path)['lfw_roc.csv'] == done['lfw_roc.csv'] and len(read_rows(tmp_path/'lfw.csv')) == 5

@pytest.mark.parametrize('what, write, methods', [
    pytest.param('camvid', camvid_folder, ['sskd', 'labels', 'sskd+ft'], marks=pytest.mark.slow),
    ('bccd', bccd_folder, ['sskd', 'labels'])])
def test_with_fewer_labels(what, write, methods, tmp_path, started):
    "The backbone is trained once for both numbers of labels, and its time is counted for both"
    write(tmp_path)
    real.run(started(what), what)
    rows, (many, few) = read_rows(tmp_path/f'{what}.csv'), small[what]['labeled']
    assert [(row['method'], row['labeled']) for row in rows[1:]] == [(m, str(n)) for n in (many, few) for m in methods]
    assert len(list((tmp_path/'kept'/what).glob('stages-*.safetensors'))) == 1   # half of one epoch is one epoch, too
    assert what == 'camvid' or 'map_bag' in rows[0]
    done = tables(tmp_path)
    real.run(started(what), what)
    assert tables(tmp_path) == done

def test_a_kept_backbone_leads_to_the_same_student(tmp_path, started):
    camvid_folder(tmp_path)
    s, case = started('camvid'), real.Case(410, 4)
    fresh, again = (list(real.stages(s, case, 5e-3)) for _ in range(2))
    assert fresh[-1].earlier == 0 < again[-1].earlier and fresh[-1].gmacs == again[-1].gmacs
    for a, b in zip(fresh[-1].learn.model.parameters(), again[-1].learn.model.parameters()): assert torch.equal(a, b)

def test_under_the_teachers_head_a_kept_backbone_answers_the_same(tmp_path, started):
    lfw_folder(tmp_path)
    s, case = started('lfw'), real.Case(400, part=1)
    a, b = (next(real.stages(s, case, 5e-3)).learn for _ in range(2))
    assert s.score(a.model, a.dls) == s.score(b.model, b.dls)

def test_labels_and_views_follow_from_the_seed(tmp_path, started):
    camvid_folder(tmp_path), bccd_folder(tmp_path)
    streets, cells = started('camvid'), started('bccd')
    frames = [streets.dls(real.Case(seed, 4)).train_ds.fingerprint() for seed in (1, 2, 1)]
    chosen = [cells.dls(real.Case(seed, 4)).train_ds.indices for seed in (1, 2, 1)]
    for first, other, again in (frames, chosen): assert first == again != other
    assert streets.dls(real.Case(7)).train.views.seed == 7

class Seen(Callback):
    "The images of each epoch, whatever their order"
    def before_fit(self): self.epochs = []
    def before_epoch(self): self.epochs.append(set())
    def before_batch(self): self.epochs[-1] |= {x.numpy().tobytes() for x in self.xb[0]}

@pytest.mark.parametrize('train', [
    lambda s, learn: real.on_labels(s, learn, 3*s.epoch_gmacs(learn), 5e-3),
    lambda s, learn: learn.fit_one_cycle(3, cbs=real.ValidEvery(0))], ids=['the study', 'plain fastai'])
def test_training_on_boxes_sees_new_mirrors_in_each_epoch(train, tmp_path, started):
    bccd_folder(tmp_path)
    s, seen = started('bccd'), Seen()
    s.how['bs'] = 5   # of ten images, none is left out
    learn = s.new(real.Case(420))
    learn.add_cb(seen)
    with quiet(learn): train(s, learn)
    first, second, third = seen.epochs
    assert first != second != third and len(first) == len(second) == 10

# --- the choice of the rates

def tried(*pairs): return [dict(lr=str(lr), held_out=str(found), epochs='5') for lr, found in pairs]

def test_a_rate_beyond_the_edge():
    three = [2e-3, 5e-3, 1.2e-2]
    assert [real.next_rate(three, tried(*zip(three[:n], 'abc'))) for n in range(3)] == three
    assert real.next_rate(three, tried((2e-3, 1), (5e-3, 3), (1.2e-2, 2))) is None
    low, high = tried((2e-3, 9), (5e-3, 3), (1.2e-2, 2)), tried((2e-3, 1), (5e-3, 3), (1.2e-2, 4))
    assert real.next_rate(three, low) == 8e-4 and real.next_rate(three, high) == .0288
    low += tried((8e-4, 10))
    assert real.next_rate(three, low) == 3.2e-4
    assert real.next_rate(three, low + tried((3.2e-4, 11))) is None   # two more, not three
    assert real.best_rate(low + tried((3.2e-4, 9))) == 8e-4

def test_one_that_diverged_is_not_chosen(started, monkeypatch):
    rows = tried((2e-3, 0), (5e-3, 0))
    rows[0]['epochs'] = 'diverged'
    assert real.best_rate(rows) == 5e-3
    def diverge(*args): raise FloatingPointError
    monkeypatch.setattr(real, 'trained', diverge)
    s = started('bccd')
    s.teacher = lambda part: None
    row = real.try_row(s, 'labels', None, 5e-3, 1.)
    assert (row['held_out'], row['epochs'], row['gmacs']) == (0, 'diverged', '')
    assert real.budget_of([row, dict(gmacs='7.5')]) == 7.5

def test_rows_that_are_there_are_not_added_again(tmp_path):
    path, rows = tmp_path/'a.csv', [dict(seed=1, far=.1, tar=5), dict(seed=1, far=.2, tar=6)]
    for some in (rows[:1], rows): append_new(path, ['seed', 'far', 'tar'], some, ['seed', 'far'])
    assert path.read_text() == 'seed,far,tar\n1,0.1,5\n1,0.2,6\n'
