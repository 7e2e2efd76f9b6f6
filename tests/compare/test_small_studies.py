"""The studies of two choices and of what is handed on: their scripts make whole rows, and their verdicts are the closed forms."""
import sys, tomllib

import pandas as pd
import pytest

from conftest import root

sys.path.insert(0, str(root/'benchmarks'))
import choices, handed_on, inherited
from rows import append_rows, read_rows

def config(name): return tomllib.loads((root/f'sskd_tutor/data_files/benchmarks/{name}.toml').read_text())

def test_rows_are_added_below_one_head(tmp_path):
    path = tmp_path/'a.csv'
    for seed in (1, 2): append_rows(path, ['seed', 'accuracy'], [dict(seed=seed, accuracy=.5)])
    assert path.read_text() == 'seed,accuracy\n1,0.5\n2,0.5\n' and len(read_rows(path)) == 2

@pytest.mark.parametrize('variant', config('choices')['variants'])
def test_a_row_of_the_choices(variant):
    how = config('choices') | dict(images=40, epochs=1, head_epochs=1, bs=20, student=dict(width=8, blocks=1))
    row = choices.run_one(how, variant, 500)
    assert list(row) == choices.COLUMNS and 0 <= row['accuracy'] <= 100 and row['gmacs'] > 0

def test_the_variants_differ_where_they_say():
    how = config('choices')
    usual, before = (choices.networks(how, variant)[1] for variant in ('usual', 'taps_before_relu'))
    x = choices.torch.randn(2, 1, 28, 28)
    assert choices.torch.allclose(usual(x), before(x), atol=1e-4)   # the same teacher ...
    taps = [net.stages['stage1'](x) for net in (usual, before)]
    assert taps[0].min() == 0 > taps[1].min()                       # ... tapped before its ReLU

def test_frozen_in_train_mode_is_what_it_says():
    how = config('choices') | dict(images=40, epochs=1, head_epochs=1, bs=20, student=dict(width=8, blocks=1))
    seen = {}
    class Look(choices.Callback):
        order = choices.FrozenInTrainMode.order + 1
        def after_batch(self):
            frozen = [part for cb in self.learn.cbs if isinstance(cb, choices.FreezeStages) for part in cb.parts()[1]]
            seen.setdefault(self.training, set()).update(part.training for part in frozen)
    dls = choices.fashion_dls(n=40, bs=20, device='cpu')
    student, teacher = choices.networks(how, 'usual')
    learn = choices.Learner(dls, student, metrics=choices.accuracy)
    with choices.quiet(learn): learn.fit_sskd(teacher, 1, 0, cbs=[choices.FrozenInTrainMode(), Look()], valid_every=0)
    assert seen == {True: {True}}
    seen.clear()
    with choices.quiet(learn): learn.fit_sskd(teacher, 1, 0, cbs=Look(), valid_every=0)
    assert seen == {True: {False}}   # teeth: as it is without the callback

def test_verdicts_of_the_choices():
    rows = [dict(variant=v, seed=s, accuracy=80 + s + gap) for v, gap in
            (('usual', 0), ('taps_before_relu', 1), ('frozen_batch_norm_in_train_mode', -2)) for s in range(4)]
    rows[4]['accuracy'] += .5   # a t-test needs some spread
    rows[8]['accuracy'] += .5
    table = choices.verdicts(config('choices'), rows)
    assert table.points.tolist() == pytest.approx([1.125, -1.875]) and (table.p_holm >= table.p).all()

def test_a_student_is_all_like_itself():
    how = config('inherited')
    net = inherited.tutorial_resnet(**how['student']).eval()
    dl = inherited.fashion_dls(n=100, bs=50, device='cpu').valid
    found = inherited.likeness(how, net, net, dl)
    assert found['agreement'] == found['cam'] == found['attended'] == 1 and found['slope'] == pytest.approx(1)

@pytest.mark.parametrize('method', ['kd', 'sskd_teacher_head'])
def test_the_rows_of_a_student(method):
    how = config('inherited') | dict(images=100, bs=20, gmacs=5, student=dict(width=4, blocks=1))
    teachers = {letter: inherited.tutorial_resnet(width=4, blocks=1).eval().requires_grad_(False) for letter in 'AB'}
    rows = inherited.run_one(how, teachers, 'A', method, 610)
    assert [row['measured_against'] for row in rows] == ['A', 'B'] and set(rows[0]) == set(inherited.COLUMNS)

def test_verdicts_of_what_is_handed_on():
    rows = [dict(method=m, taught_by=t, measured_against=o, seed=s, **dict.fromkeys(config('inherited')['measures'], .5 + .1*(t == o) + .01*s*(t == o)))
            for m in config('inherited')['methods'] for t in 'AB' for o in 'AB' for s in range(3)]
    table = inherited.verdicts(config('inherited'), rows)
    assert table.difference.tolist() == pytest.approx([.11]*len(table)) and len(table) == 20
    assert isinstance(table, pd.DataFrame) and (table.low < table.difference).all()

def test_a_long_tail():
    "The commonest class has `largest` images, the rarest a hundredth of that, and the seed says which is which"
    images = handed_on.embedded_fashion('train')
    fewer, order = handed_on.long_tailed(images, 600, 100, 1)
    counts = fewer.y.bincount().tolist()
    assert sorted(order) == list(range(10)) and [counts[c] for c in order] == sorted(counts, reverse=True)
    assert counts[order[0]] == 600 and counts[order[-1]] == 6
    assert handed_on.long_tailed(images, 600, 100, 2)[1] != order
    assert set(fewer.idx.tolist()) <= set(images.idx.tolist())

def test_verdicts_of_the_four_claims():
    "Means of differences by seed, from rows as the file has them"
    rows = []
    for seed, more in (('1', 0), ('2', 1), ('3', 2)):
        empty = dict.fromkeys(handed_on.COLUMNS, '') | dict(seed=seed, accuracy='50', agreement='.5')
        rows.append(empty | dict(part='easy', what='kd_soft', agreement=str(.95 + more/100)))
        for share, agreement in (('0.25', .6), ('0.375', .7 + more/10)):
            rows.append(empty | dict(part='start', what=share, agreement=str(agreement)))
        for method, rare in (('labels', 10), ('kd', 20 + more)): rows.append(empty | dict(part='tail', what=method, rare=str(rare)))
        for k, trace in (('0', 100), ('3', 40 - more)): rows.append(empty | dict(part='rounds', what=k, trace=str(trace)))
    found = handed_on.verdicts(rows)
    assert found['mean'].round(6).tolist() == [-.03, .2, 11, -61] and found.seeds.tolist() == [3, 3, 3, 3]
    assert (found.p_holm >= found.p).all()
