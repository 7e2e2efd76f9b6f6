"""The study of curves.toml: what is named before the runs, what comes next, what a damaged file may do."""
import csv, importlib.util, sys
from dataclasses import replace
from pathlib import Path

import pytest

from sskd_tutor.compare.methods import methods, parsed, phases_of
from sskd_tutor.core.files import pkg_data

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT/'benchmarks'))   # for `rows`
spec = importlib.util.spec_from_file_location('curves', ROOT/'benchmarks/curves.py')
curves = importlib.util.module_from_spec(spec)
sys.modules["curves"] = curves   # dataclasses look their module up
spec.loader.exec_module(curves)

@pytest.fixture(scope='module')
def config(): return curves.read_config()

def row_of(config, run, accuracy):
    row = dict.fromkeys(curves.COLUMNS, '1') | curves.row_key(config, run)
    return row | dict(accuracy=str(accuracy), agreement='.5')

def follow(config, score):
    "Every run in order, each with the accuracy that `score` gives it"
    rows, runs = {}, []
    for entry in config['order']:
        while missing := [run for run in curves.runs_of(config, rows, entry) if curves.key_of(config, run) not in rows]:
            if not runs: assert curves.next_run(config, rows) == missing[0]
            for run in missing: rows[curves.key_of(config, run)] = row_of(config, run, score(run))
            runs += missing
    assert curves.next_run(config, rows) is None
    return runs, rows

def test_every_method_has_six_settings_that_can_be_made(config):
    for method in config['methods']:
        settings = curves.settings_of(config, method)
        assert len(set(settings)) == 6, method
        for setting in settings:
            assert parsed(setting.name).name == method and method in methods and phases_of(setting.name)

def test_seeds_are_new_and_primary_methods_are_in_the_order(config):
    assert config['seeds'] == [100, 101, 102, 103, 104] and config['tuning']['seed'] not in config['seeds']
    run = {method for entry in config['order'] for method in entry.get('methods', [])}
    assert {method for pair in config['primary'] for method in pair} <= run

def test_the_order_ends_and_has_no_run_twice(config):
    runs, rows = follow(config, lambda run: 50 + run.setting.lr)
    assert len(runs) == len(set(runs)) == sum(curves.n_runs(config, entry) for entry in config['order'])
    assert [run.study for run in runs[:40]] == ['tuning']*40 and runs[40].study == 'curves'

def test_the_better_setting_on_held_out_images_is_used_everywhere(config):
    wanted = curves.settings_of(config, 'kd')[3]
    runs, _ = follow(config, lambda run: 90 if run.setting == wanted else 50)
    assert {run.setting for run in runs if run.method == 'kd' and run.study != 'tuning'} == {wanted}

def test_the_better_rival_goes_on(config):
    runs, _ = follow(config, lambda run: 90 if run.method == 'reviewkd' else 50)
    curve = {run.method for run in runs if run.study == 'curves'}
    assert 'reviewkd' in curve and 'crd' not in curve
    assert {run.method for run in runs if run.budget == 64} == {'kd', 'sskd_teacher_head', 'labels', 'reviewkd'}

def test_what_is_there_is_not_made_again(config, tmp_path):
    first = curves.next_run(config, {})
    curves.append_rows(tmp_path/'a.csv', curves.COLUMNS, [row_of(config, first, 50)])
    assert curves.next_run(config, curves.read_rows(tmp_path/'a.csv')) != first
    other = replace(first, setting=replace(first.setting, lr=.1))
    curves.append_rows(tmp_path/'b.csv', curves.COLUMNS, [row_of(config, other, 50)])
    assert curves.next_run(config, curves.read_rows(tmp_path/'b.csv')) == first   # another setting is another run

def test_a_row_that_was_cut_off_is_made_again(config, tmp_path):
    path, first = tmp_path/'a.csv', curves.next_run(config, {})
    curves.append_rows(path, curves.COLUMNS, [row_of(config, first, 50)])
    path.write_text(path.read_text()[:-20])
    with pytest.warns(UserWarning, match='line 2: cut off'): assert curves.read_rows(path) == {}
    curves.append_rows(path, curves.COLUMNS, [row_of(config, first, 50)])
    with pytest.warns(UserWarning, match='line 2: cut off'): assert len(curves.read_rows(path)) == 1

@pytest.mark.parametrize('column, value', [('accuracy', '940'), ('accuracy', 'good'), ('agreement', '1.2'), ('kl', '-1'), ('gmacs', '')])
def test_a_row_that_no_run_wrote_is_refused(config, tmp_path, column, value):
    path = tmp_path/'a.csv'
    curves.append_rows(path, curves.COLUMNS, [row_of(config, curves.next_run(config, {}), 50) | {column: value}])
    with pytest.raises(ValueError, match=f'line 2: {column} is'): curves.read_rows(path)

def test_another_file_is_refused(tmp_path):
    (tmp_path/'a.csv').write_text('epoch,loss\n0,1\n')
    with pytest.raises(ValueError, match='no file of this study'): curves.read_rows(tmp_path/'a.csv')

def test_an_unknown_method_names_the_nearest(tmp_path):
    text = (pkg_data/'benchmarks/curves.toml').read_text().replace('"kd", "sskd_teacher_head"', '"kdd", "sskd_teacher_head"')
    (tmp_path/'a.toml').write_text(text)
    with pytest.raises(ValueError, match="did you mean 'kd'"): curves.read_config(tmp_path/'a.toml')

def test_recorded_rows_belong_to_the_plan(config):
    path = pkg_data/'benchmarks/results/curves.csv'
    rows = curves.read_rows(path)
    known = {curves.key_of(config, run) for entry in config['order'] for run in curves.runs_of(config, rows, entry)}
    assert set(rows) <= known
    for row in rows.values(): assert row['evaluated_on'] == ('held-out-1600' if row['study'] == 'tuning' else 'official-10000'), row
    with open(path, newline='') as f: assert next(csv.reader(f)) == curves.COLUMNS
