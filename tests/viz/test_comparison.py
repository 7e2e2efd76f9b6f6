"""Verdicts against closed forms and naive loops; figures from tables written by hand."""
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scipy import stats

from sskd_tutor.viz import comparison as C, tradeoffs as T
from sskd_tutor.viz.names import place_names
import sskd_tutor.compare.verdicts as V
from sskd_tutor.compare.boards import leaderboard_md
from sskd_tutor.compare.methods import methods

pair = dict(pair='w32b2 > w32b1', width=32, labels=2_000, images=2_000, budget='5200 gmacs', evaluated_on='test', study='equal')

def table(values, **more):
    "A row a value; values: method -> one accuracy a seed"
    rows = [dict(method=m, seed=s, accuracy_last=v, accuracy_best=v + .1, agreement=v/100, kl=(100 - v)/50, ece=(100 - v)/200,
                 gmacs=5_200., epochs=24) for m, vs in values.items() for s, v in enumerate(vs)]
    return pd.DataFrame(rows).assign(**{**pair, **more})

runs = table(dict(labels=[87.1, 87.5, 87.2, 87.6, 87.4], kd=[89.0, 89.3, 88.9, 89.6, 89.1], sskd=[88.9, 89.4, 89.1, 89.3, 89.4],
                  attention=[87.2, 87.4, 87.5, 87.4, 87.2]))
acc = runs.pivot(index='seed', columns='method', values='accuracy_last')

# --- intervals

@pytest.mark.parametrize('level', [.5, .95, .99])
def test_interval_is_students(level):
    v = acc.kd
    low, high = stats.t.interval(level, len(v) - 1, v.mean(), stats.sem(v))
    assert V.interval(v, level) == pytest.approx((v.mean(), low, high))

def test_interval_of_two_is_the_cauchy_quantile():  # one degree of freedom
    assert V.interval([1, 3])[2] == pytest.approx(2 + np.tan(np.pi*.475))

@pytest.mark.parametrize('values, mean', [([5.], 5.), ([np.nan, 5.], 5.), ([], np.nan), ([np.nan], np.nan)])
def test_interval_of_too_few(values, mean):
    got = V.interval(values)
    assert got[0] == pytest.approx(mean, nan_ok=True) and np.isnan(got[1:]).all()

def test_interval_covers():
    draws = np.random.default_rng(0).standard_normal((3_000, 3))
    assert np.mean([low <= 0 <= high for _, low, high in map(V.interval, draws)]) == pytest.approx(.95, abs=.015)

# --- which tables

@pytest.mark.parametrize('column', V.must_agree)
def test_mixed_tables_are_refused(column):
    mixed = pd.concat([runs, table(dict(kd=[80.]), **{column: 'another'})])
    pairs = lambda t: V.paired(t, 'kd', 'labels'), lambda t: C.differences(t, 'kd')
    for f in (V.leaderboard, V.verdicts, leaderboard_md, C.accuracy_by_method, C.calibration_bars, *pairs):
        with pytest.raises(ValueError, match=rf'compared \({column}: .*filter first, e.g. runs\[runs.{column} == '): f(mixed)

def test_the_cure_works():
    mixed = pd.concat([runs, runs.assign(labels=100, budget='12 epochs')])
    with pytest.raises(ValueError) as e: V.leaderboard(mixed)
    cured = eval(str(e.value).split('e.g. ')[1], dict(runs=mixed))
    assert 'labels: 2000, 100' in str(e.value) and V.leaderboard(cured).equals(V.leaderboard(runs))

@pytest.mark.parametrize('bad, says', [(runs[:0], 'no runs'), (runs.drop(columns='seed'), r"no column \['seed'\]"),
                                       (pd.concat([runs, runs[:1]]), "two runs of {'method': 'labels', 'seed': 0}"),
                                       (runs.drop(columns='accuracy_last'), "no column 'accuracy_last'; did you mean")])
def test_bad_tables(bad, says):
    with pytest.raises(ValueError, match=says): V.leaderboard(bad)

def test_leaderboard():
    b = V.leaderboard(runs)
    assert list(b.index) == list(acc.mean().sort_values(ascending=False).index) and b.seeds.eq(5).all()
    assert b['mean'].to_dict() == pytest.approx(acc.mean().to_dict())
    assert b.accuracy_best.to_dict() == pytest.approx((acc.mean() + .1).to_dict())
    assert list(V.leaderboard(runs, 'kl').index) == list(b.index)  # less KL is better, and here follows accuracy

def test_half_finished():
    gone = (runs.method == 'attention') | (runs.method == 'kd') & (runs.seed > 0)
    half = runs.assign(accuracy_last=runs.accuracy_last.mask(gone))
    b = V.leaderboard(half)
    assert b.seeds.to_dict() == dict(kd=1, sskd=5, labels=5, attention=0) and b.index[-1] == 'attention'
    assert 'KD 1, attention transfer 0' in leaderboard_md(half)
    assert set(V.verdicts(half, [('kd', 'labels'), ('attention', 'kd')]).verdict) == {'too few seeds'}
    for f in (C.accuracy_by_method, T.fidelity_against_accuracy, T.accuracy_against_cost):
        assert 'attention' not in {t.name for t in f(half).data}

# --- pairs

def test_paired_is_the_paired_t_test():
    for a, b in combinations(acc, 2):
        r, t = V.paired(runs, a, b), stats.ttest_rel(acc[a], acc[b])
        ci = t.confidence_interval(.95)
        assert (r.p, r.low, r.high, r.mean) == pytest.approx((t.pvalue, ci.low, ci.high, (acc[a] - acc[b]).mean()))
        assert (r.p < .05) == (r.low > 0 or r.high < 0)

def test_only_common_seeds_count():
    odd = runs.query("(method != 'kd' or seed != 0) and (method != 'labels' or seed != 4)").sample(frac=1, random_state=0)
    r = V.paired(odd, 'kd', 'labels')
    assert r.n == 3 and r.differences.to_dict() == pytest.approx((acc.kd - acc.labels)[1:4].to_dict())

def test_no_common_seed():
    t = pd.concat([runs[runs.method == 'kd'], runs[runs.method == 'labels'].assign(seed=lambda t: t.seed + 10)])
    r = V.paired(t, 'kd', 'labels')
    assert r.n == 0 and np.isnan([r.mean, r.low, r.high, r.p]).all()
    assert V.verdict(r) == ('too few seeds', 'too few seeds to compare KD with labels only: none in common')

@pytest.mark.parametrize('n, gap, p, word', [(2, .3, .5, 'no difference shown'), (5, .3, .0625, 'no difference shown'),
                                             (6, .3, .03125, 'better'), (6, -.3, .03125, 'worse'),
                                             (5, 0, 1, 'no difference shown')])
def test_differences_without_spread(n, gap, p, word):
    luck = np.random.default_rng(0).normal(88, 1, n)
    r = V.paired(table(dict(kd=luck + gap, labels=luck)), 'kd', 'labels')
    assert r.p == p and r.mean == pytest.approx(gap) and V.verdict(r)[0] == word
    if gap == 0: assert (r.low, r.high) == (0, 0)
    else: assert np.isnan([r.low, r.high]).all() and 'the same each time' in V.verdict(r)[1]

@pytest.mark.parametrize('a, b, says', [('skd', 'labels', "no run of method 'skd'; did you mean 'sskd'"),
                                        ('kd', 'lables', "did you mean 'labels'"), ('kd', 'kd', 'itself')])
def test_bad_names(a, b, says):
    with pytest.raises(ValueError, match=says): V.paired(runs, a, b)
    with pytest.raises(ValueError, match=says): V.verdicts(runs, [(a, b)])

# --- words

def test_sentences():
    t = table(dict(sskd=[11.2, 12.0, 12.4], labels=[10., 11., 11.]))
    r = V.paired(t, 'sskd', 'labels')
    by = f'by 1.20 points ({r.low:.2f} to {r.high:.2f}, 3 seeds)'
    assert V.verdict(r) == ('better', f'stage by stage is better than labels only {by}') and r.low > 0
    assert V.verdict(V.paired(t, 'labels', 'sskd')) == ('worse', f'labels only is worse than stage by stage {by}')
    assert V.verdict(r, p=.2, among=10)[1].endswith('3 seeds); on its own it would be shown, but not as one of 10 comparisons')

def test_no_minus_zero():
    r = V.Paired('kd', 'labels', 'accuracy_last', None, 5, -1e-15, -.01, .01, 1.)
    assert ': 0.00 points (-0.01 to 0.01' in V.verdict(r)[1]

def test_a_claim_at_another_level_keeps_its_signs():  # the interval holds zero, and says so
    r = V.Paired('kd', 'labels', 'accuracy_last', None, 5, -.5, -1.1, .1, .08)
    assert V.verdict(r, alpha=.1) == ('worse', 'KD is worse than labels only by 0.50 points (-0.10 to 1.10, 5 seeds)')

def test_less_can_be_better():
    for m in ('kl', 'ece'): assert V.verdict(V.paired(runs, 'kd', 'labels', m))[0] == 'better'
    assert 'nats' in V.verdict(V.paired(runs, 'kd', 'labels', 'kl'))[1]
    r = V.paired(runs, 'kd', 'labels', 'agreement')
    assert f'by {100*r.mean:.2f} points' in V.verdict(r)[1]

def test_names_of_methods():
    assert V.parsed('attention[weight=10,at=last]+ft') == ('attention', dict(weight='10', at='last'), 'ft')
    assert V.named('sskd+kd') == 'stage by stage + KD fine-tune' and V.named('new_one') == 'new one'
    words = [V.named(m) for m in methods]
    assert len(set(words)) == len(words)
    for bad in ('', 'attention[weight=10', 'kd+'):
        with pytest.raises(ValueError, match="not a method's name"): V.parsed(bad)

# --- many pairs

def by_closure(p):
    "Holm, from the closure principle: every set that holds the comparison must fall by Bonferroni's rule"
    sets = [s for k in range(1, len(p) + 1) for s in combinations(range(len(p)), k)]
    return [max(min(1, len(s)*min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]

def test_holm():
    rng = np.random.default_rng(0)
    for n in range(1, 9):
        for p in (rng.random(n), rng.random(n)**6, rng.choice([.01, .02, 1.], n)):
            assert V.holm(p) == pytest.approx(by_closure(p))
    assert len(V.holm([])) == 0
    some = np.array([.01, np.nan, .02])
    assert V.holm(some)[[0, 2]] == pytest.approx(by_closure([.01, .02])) and np.isnan(V.holm(some)[1])

def test_a_study_asks_once_in_each_of_its_tables():
    luck = np.array([-.1, .05, 0, .02, .03])
    one = table(dict(kd=88 + luck + .075, labels=[88.]*5), budget='a')
    two = table(dict(kd=88 + luck + .078, labels=[88.]*5), budget='b')
    p = [V.paired(t, 'kd', 'labels').p for t in (one, two)]
    assert max(p) < .05 < 2*min(p)
    assert 'KD is better' in V.named_before([one], ('kd', 'labels'))[0]
    assert all(s.startswith('no difference shown') and s.endswith('one of 2 comparisons')
               for s in V.named_before([one, two], ('kd', 'labels')))
    assert V.named_before([one, runs[runs.method == 'sskd'], one[:0]], ('kd', 'labels'))[1:] == ['', '']

def test_matrix_is_the_verdicts():
    m = V.verdict_matrix(runs)
    for r in V.verdicts(runs).itertuples():
        assert m.loc[r.a, r.b] == dict(better='+', worse='−').get(r.verdict, '·')
        assert m.loc[r.b, r.a] == {'+': '−', '−': '+', '·': '·'}[m.loc[r.a, r.b]]
    assert {'+', '−', '·'} <= set(m.to_numpy().flatten()) and set(np.diag(m)) == {''}

def test_holm_keeps_its_word():
    p = stats.ttest_1samp(np.random.default_rng(1).standard_normal((300, 100, 5)), 0, axis=2).pvalue
    assert (p < .05).sum(1).mean() == pytest.approx(5, abs=.4)
    assert np.mean([(V.holm(q) < .05).any() for q in p]) < .05 + 3*(.05*.95/300)**.5

def test_verdicts():
    t = V.verdicts(runs)
    assert len(t) == 6 and {frozenset(ab) for ab in zip(t.a, t.b)} == {frozenset(ab) for ab in combinations(acc, 2)}
    assert t.p_adjusted.tolist() == pytest.approx(by_closure(t.p.tolist())) and (t.difference > 0).all()  # the better one first
    assert V.verdicts(runs, adjust=None).p_adjusted.equals(t.p.rename('p_adjusted')) and not t.primary.any()

def test_primary_stands_by_itself():
    t = V.verdicts(runs, primary=('labels', 'kd'))
    assert (t.a[0], t.b[0], len(t)) == ('labels', 'kd', 6) and t.primary.tolist() == [True] + 5*[False]
    assert t.p_adjusted[0] == t.p[0] and t.p_adjusted[1:].tolist() == pytest.approx(by_closure(t.p[1:].tolist()))
    one = V.verdicts(runs, pairs='labels', primary=('sskd', 'labels'))
    assert one.a.tolist()[0] == 'sskd' and set(one.a) == {'sskd', 'kd', 'attention'} and set(one.b) == {'labels'}
    alone = V.verdicts(runs, pairs=[], primary=('sskd', 'labels'))
    assert len(alone) == 1 and alone.p_adjusted[0] == alone.p[0]

def test_a_pair_counts_once():
    assert len(V.verdicts(runs, [('kd', 'labels'), ('labels', 'kd'), ('kd', 'labels')])) == 1

@pytest.mark.parametrize('how, says', [(dict(adjust='bonferroni'), "'holm' or None"), (dict(pairs=[]), 'pairs is empty'),
                                       (dict(pairs=[('kd', 'sskd', 'labels')]), 'of two methods'),
                                       (dict(pairs='skd'), "did you mean 'sskd'"),
                                       (dict(measure='acuracy_last'), "did you mean 'accuracy_last'")])
def test_bad_questions(how, says):
    with pytest.raises(ValueError, match=says): V.verdicts(runs, **how)

def test_one_method():
    with pytest.raises(ValueError, match='one method only'): V.verdicts(runs[runs.method == 'kd'])

def test_markdown():
    text = leaderboard_md(runs, ('said by the guard', 'and more'))
    head, rule, *rows = [r for r in text.splitlines() if r.startswith('|')]
    assert len(rows) == 4 and {r.count('|') for r in (head, rule, *rows)} == {head.count('|')}
    assert rows[0].startswith('| stage by stage | 5 | 89.22 |')
    assert text.endswith('- said by the guard\n- and more\n') and '2000 labels' in text.splitlines()[0]
    assert leaderboard_md(runs, 'one note').endswith('\n- one note\n') and 'finished' not in text

# --- figures

weights = table({'attention[weight=1]': [87.1, 87.3], 'attention[weight=100]': [88., 88.4],
                 'fitnets_joint[weight=1]': [87.6, 87.9], 'sskd': [89., 89.2]})
scarce = pd.concat([runs, runs.assign(labels=100, accuracy_last=runs.accuracy_last - 9)])
widths = pd.concat([runs, runs.assign(width=16, pair='w32b2 > w16b1', accuracy_last=runs.accuracy_last - 2)])
costs = pd.concat([runs, runs.assign(budget='2600 gmacs', gmacs=2_600, accuracy_last=runs.accuracy_last - .5)])
figures = {n: partial(*f) for n, f in dict(
    method=(C.accuracy_by_method, runs, 91.), differences=(C.differences, runs, 'labels', 'accuracy_last', 'sskd'),
    cost=(T.accuracy_against_cost, costs, 91.), labels=(T.accuracy_against_labels, scarce, 91.),
    width=(T.accuracy_against_width, widths), fidelity=(T.fidelity_against_accuracy, runs, 'kl', 91.),
    calibration=(C.calibration_bars, runs), sensitivity=(T.sensitivity, weights)).items()}

def named(fig): return {t.name: t for t in fig.data}

@pytest.mark.parametrize('name', figures)
def test_figure_is_pure_and_labeled(name):
    old = [t.copy() for t in (runs, weights, scarce, widths, costs)]
    light, dark = figures[name](), figures[name](theme='dark')
    assert light.to_json() == figures[name]().to_json() and light.to_json() != dark.to_json()
    assert go.Figure(light.data).to_json() == go.Figure(dark.data).to_json()  # `plots.section` stores traces once for both
    for t, o in zip((runs, weights, scarce, widths, costs), old): pd.testing.assert_frame_equal(t, o)
    assert light.layout.title.text and light.layout.xaxis.title.text
    with pytest.raises(ValueError, match='light'): figures[name](theme='blue')

def test_one_look_a_method_everywhere():
    looks = [C.look(m) for m in methods]
    assert len(set(looks)) == len(looks)
    for f in figures.values():
        drawn = [t for t in f().data if t.type == 'scatter' and 'markers' in t.mode and 'seeds' not in t.name]
        assert all((t.marker.color, t.marker.symbol) == C.look(t.name)[1:] for t in drawn)
    assert C.look('sskd+ft')[2] == 'circle-open' and C.look('kd_new')[0] == 'logits' and C.look('mine')[0] == 'other'

def test_means_and_whiskers():
    t = named(figures['method']())
    for m in acc:
        mean, low, high = V.interval(acc[m])
        assert (t[m].x[0], t[m].error_x.array[0]) == pytest.approx((mean, high - mean))
        assert sorted(t[f'{m}, seeds'].x) == sorted(acc[m])
    assert [t.name for t in figures['method']().data[1::2]] == list(V.leaderboard(runs).index)

def test_differences_are_the_verdicts():
    fig, table = figures['differences'](), V.verdicts(runs, 'labels', ('sskd', 'labels')).set_index('a')
    for m, t in named(fig).items():
        assert (t.x[0], t.error_x.array[0]) == pytest.approx((table.difference[m], table.high[m] - table.difference[m]))
    said = [a.text for a in fig.layout.annotations]
    assert [sum(w in s for s in said) for w in ('better', 'not shown', '(primary)')] == [2, 1, 1]
    assert 'too few seeds' in C.differences(runs[runs.seed < 1], 'labels').layout.annotations[0].text

def test_lines():
    t = named(figures['labels']())
    for m in acc: assert list(t[m].y) == pytest.approx([acc[m].mean() - 9, acc[m].mean()])
    assert all(np.log10(t[m].x) == pytest.approx(np.log10([100, 2_000]), abs=.04) for m in acc)
    assert named(figures['width']()).keys() == set(acc)
    with pytest.raises(ValueError, match='labels is 2000 in every run'): T.accuracy_against_labels(runs)
    with pytest.raises(ValueError, match='width'): T.accuracy_against_labels(pd.concat([scarce, scarce.assign(width=16)]))

def test_cost_joins_budgets():
    for m, t in named(figures['cost']()).items():
        assert list(t.x) == [2_600, 5_200] and list(t.y) == pytest.approx([acc[m].mean() - .5, acc[m].mean()])
    assert T.accuracy_against_cost(runs.drop(columns='budget')).data[0].x[0] == 5_200

def test_fidelity_has_both_whiskers():
    t, kl = named(figures['fidelity']())['kd'], V.interval((100 - acc.kd)/50)
    assert (t.x[0], t.error_x.array[0]) == pytest.approx((kl[0], kl[2] - kl[0])) and t.error_y.array[0] > 0
    with pytest.raises(ValueError, match="'agreement' or 'kl'"): T.fidelity_against_accuracy(runs, 'cka')

def test_sensitivity():
    fig = figures['sensitivity']()
    t = named(fig)
    assert list(t['attention'].x) == pytest.approx([0, 2], abs=.1) and list(t['attention'].y) == pytest.approx([87.2, 88.2])
    mean, low, high = V.interval([89., 89.2])
    band = [s for s in fig.layout.shapes if s.type == 'rect']
    assert [(s.y0, s.y1) for s in band] == [pytest.approx((low, high))] and list(t['sskd'].y) == pytest.approx([mean]*2)
    adapters = table({'sskd[adapter=conv]': [89., 89.3], 'sskd[adapter=linear]': [88., 88.2], 'sskd': [87., 87.1]})
    kinds = T.sensitivity(adapters, 'adapter', defaults=dict(sskd='none'))
    assert set(kinds.layout.xaxis.ticktext) == {'conv', 'linear', 'none'} and {t.mode for t in kinds.data} == {'markers'}

@pytest.mark.parametrize('name, setting, says', [('attention[weight=1]', 'alpha', r"attention\[alpha=10\]"),
                                                 ('attention', 'weight', "defaults={'attention': ...}"),
                                                 ('attention[weight=0]', 'weight', 'logarithmic axis')])
def test_bad_settings(name, setting, says):
    renamed = weights.replace(dict(method={'attention[weight=1]': name}))
    with pytest.raises(ValueError, match=says): T.sensitivity(renamed, setting)

@pytest.mark.parametrize('n', [1, 2, 23, 40])
def test_few_and_many(n):
    many = table({f'm{i}': [80 + i/10, 80.2 + i/9] for i in range(n)})
    fig = C.accuracy_by_method(many)
    assert len(fig.layout.yaxis.ticktext) == n and (fig.layout.height - 150)/max(n, 5) == 21
    ends = T.accuracy_against_labels(pd.concat([many, many.assign(labels=100)])).layout.annotations
    assert len(ends) == n + 1  # and the families

def test_names_in_a_crowd_do_not_overlap():
    crowd = place_names([(300., 150.)]*23, [], [(5, 5)]*23, ['some name']*23, (612, 400))
    assert all(abs(a[0] - b[0]) >= 60 or abs(a[1] - b[1]) >= 16 for a, b in combinations(crowd, 2))

def test_names_at_line_ends_do_not_overlap():
    many = table({f'm{i}': [80 + i/100, 80 + i/90] for i in range(23)})
    fig = T.accuracy_against_labels(pd.concat([many, many.assign(labels=100)]))
    low, high = fig.layout.yaxis.range
    area = fig.layout.height - 72 - 52
    at = sorted((high - a.y)/(high - low)*area + a.ay for a in fig.layout.annotations if a.name != 'families')
    assert np.diff(at).min() > 15.99 and at[0] > -.01 and at[-1] < area + .01

def test_one_seed_is_drawn_without_whiskers():
    one = runs[runs.seed == 0]
    for f in (C.accuracy_by_method, C.calibration_bars, T.fidelity_against_accuracy):
        assert np.isnan(f(one).data[-1].error_x.array).all()
    with pytest.raises(ValueError, match='nothing to draw'): C.accuracy_by_method(runs.assign(accuracy_last=np.nan))
