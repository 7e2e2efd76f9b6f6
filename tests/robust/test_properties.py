"""Whatever text a file or a command line holds: it is understood, or refused by a sentence of ours. And views are pure."""
import json
import shutil
from dataclasses import dataclass

import pytest
import torch

from helpers.matrix import judged
from sskd_tutor.core.files import pkg_data
from sskd_tutor.core.settings import Settings, as_words, make_settings, option
from sskd_tutor.core.units import in_bytes
from sskd_tutor.data.views import Views
from sskd_tutor.distill.matching import match_stages
from sskd_tutor.distill.pairing import Pairing
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.words import build_model, check_from_file, names_code, net_sources
from sskd_tutor.runs.saved import read_info
from sskd_tutor.runs.recipe_file import parse_recipe, read_recipe, recipes

pytest.importorskip('hypothesis', reason="property tests need hypothesis: pip install hypothesis")
from hypothesis import HealthCheck, given, settings, strategies as st  # noqa: E402

few = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
plain = st.one_of(st.none(), st.booleans(), st.integers(-3, 2**40), st.floats(), st.text(max_size=8))
json_like = st.recursive(plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner,
                                                                                                 max_size=3)), max_leaves=6)

def told(f):
    "It works, or one of our own sentences says why not"
    end = judged(f)
    assert end.ends in ('right', 'named'), end

# --- words

kinds = st.sampled_from([*net_sources, 'tutorial', 'os', 'torch.nn', 'sskd_tutor.nets.small', ''])
options = st.text('=,:width1blocksnumcas[]()\'"é ', max_size=12)

@few
@given(kinds, st.lists(options, max_size=3))
def test_words(kind, rest):
    word = ':'.join([kind, *rest])
    told(lambda: build_model(word))

@few
@given(st.text(max_size=20))
def test_words_of_a_file_name_no_code(word):
    if names_code(word):
        with pytest.raises(ValueError, match='whose code would run'): check_from_file(word)
    else: assert word.partition(':')[0] in net_sources or ':' not in word

# --- settings

@dataclass
class Cake(Settings):
    "For the tests"
    flour: str = option('rye', 'of what', choices=['rye', 'wheat'])
    heat: float = option(180., 'degrees', positive=True)
    minutes: int = option(50, 'in the oven', at_least=1)
    layers: list = option([], 'between')
    glazed: bool = option(False, 'with sugar')
    note: str | None = option(None, 'on the card')

names = st.sampled_from(['flour', 'heat', 'minutes', 'layers', 'glazed', 'note', 'salt'])

@few
@given(st.dictionaries(names, json_like, max_size=4))
def test_settings(found):
    made = []
    told(lambda: made.append(make_settings(Cake, found, 'cake.json')))
    for cake in made:
        assert cake.minutes >= 1 and 0 < cake.heat < float('inf') and cake.flour in ('rye', 'wheat')
        assert all(isinstance(word, str) for word in as_words(cake))

@few
@given(st.one_of(st.text('0123456789.-einfaGMKTBib ', max_size=8), st.floats(), st.integers()))
def test_budgets(size):
    def f(): assert in_bytes(size) >= 0
    told(f)

# --- recipes

texts = {name: read_recipe(name)['text'] for name in recipes()}

@few
@given(st.sampled_from(sorted(texts)), st.integers(0, 10_000), st.text('[]{}="\n.0-9aé', max_size=6), st.integers(0, 30))
def test_recipes(name, place, new, cut):
    text = texts[name]
    place %= len(text)
    told(lambda: parse_recipe(text[:place] + new + text[place + cut:], name))

@few
@given(st.sampled_from(sorted(texts)), st.integers(0, 50), json_like)
def test_values_of_a_recipe(name, place, value):
    "One value of a recipe is another"
    lines = texts[name].splitlines()
    with_values = [i for i, line in enumerate(lines) if ' = ' in line]
    at = with_values[place % len(with_values)]
    try: lines[at] = f"{lines[at].split(' = ')[0]} = {json.dumps(value, allow_nan=False)}"
    except ValueError: return
    told(lambda: parse_recipe('\n'.join(lines), name))

def test_a_riddle_of_brackets():
    with pytest.raises(ValueError, match='is not TOML'): parse_recipe('a = ' + '['*100_000, 'deep')

# --- pairings

reductions = st.lists(st.sampled_from([None, 1, 2, 4, 8, 16, 32]), min_size=1, max_size=6)

@few
@given(reductions, reductions)
def test_pairs_are_in_order_and_end_together(student, teacher):
    pairs = match_stages(student, teacher)
    assert len(pairs) == min(len(student), len(teacher)) and pairs[-1] == (len(student) - 1, len(teacher) - 1)
    assert all(a < b and c < d for (a, c), (b, d) in zip(pairs, pairs[1:]))

@few
@given(st.one_of(json_like, st.fixed_dictionaries(dict(format=json_like, ends=json_like, stages=json_like, teacher_input=json_like))))
def test_saved_pairings(tmp_path_factory, saved):
    path = tmp_path_factory.mktemp('pairing')/'pairing.json'
    path.write_text(json.dumps(saved))
    told(lambda: Pairing.load(path))

# --- recordings and runs

@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    return shutil.copytree(pkg_data/'example_recording', tmp_path_factory.mktemp('recordings')/'r')

fields = st.sampled_from(['format', 'sha256', 'steps', 'vocab', 'scale', 'channels', 'schedule', 'final', 'checksums', 'info', 'more'])

@few
@given(fields, json_like)
def test_recordings(recording, field, value):
    path = recording/'alignment.json'
    text = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(text) | {field: value}))
        told(lambda: Recording.load(recording))
    finally: path.write_text(text)

@few
@given(st.one_of(json_like, st.fixed_dictionaries(dict(format=json_like, files=json_like, sha256=json_like))))
def test_descriptions_of_runs(tmp_path_factory, info):
    path = tmp_path_factory.mktemp('run')/'run.json'
    path.write_text(json.dumps(info))
    told(lambda: read_info(path))

# --- views

@few
@given(st.integers(0, 5), st.booleans(), st.integers(0, 9), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(1, 9),
       st.integers(1, 9), st.integers(1, 3))
def test_views_are_pure(crop, flip, erase, seed, view, h, w, c):
    "Of an image alone, whatever stands beside it, and made of its own pixels"
    views, x = Views(crop, flip, erase, seed), torch.randint(1, 256, (6, c, h, w), generator=torch.Generator().manual_seed(seed))
    before, sample, rng = x.clone(), torch.tensor([5, 0, 99, 3, 3, 2**20]), torch.get_rng_state()
    y = views(x, sample, view)
    assert torch.equal(x, before) and y.shape == x.shape and y.dtype == x.dtype and torch.equal(torch.get_rng_state(), rng)
    order = torch.tensor([3, 0, 5])
    assert torch.equal(views(x[order], sample[order], view), y[order])
    for image, seen in zip(x, y): assert set(seen.flatten().tolist()) <= {0, *image.flatten().tolist()}
    assert torch.equal(Views(0, False, 0, seed)(x, sample, view), x)
