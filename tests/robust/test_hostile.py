"""Files that somebody made to keep a machine busy: each is refused in a sentence, at once."""
import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from helpers.matrix import check
from sskd_tutor.core.files import most_text
from sskd_tutor.compare.study import studies
from sskd_tutor.distill.pairing import Pairing
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.weights import load_weights, most_header, weights_meta
from sskd_tutor.runs.classes import weights_note
from sskd_tutor.runs.folder import FolderSettings
from sskd_tutor.runs.saved import load_run
from sskd_tutor.runs.look import look_section
from sskd_tutor.runs.options import from_config
from sskd_tutor.runs.recipe_file import read_recipe
from sskd_tutor.tasks.boxes import check_coco

def header(path, raw):
    "A safetensors file of this header, and nothing else"
    path.write_bytes(len(raw).to_bytes(8, 'little') + raw)
    return path

def sparse(path, n):
    "A file of n bytes that takes no room on the disk"
    with path.open('wb') as f: f.truncate(n)
    return path

def notes(path, text): return header(path, json.dumps({'__metadata__': dict(sskd_tutor=text)}).encode())
def many_tensors(path):
    entry = '"a%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return header(path, ('{' + ','.join(entry % i for i in range(200_000)) + '}').encode())

def beside_weights(folder, text):
    (folder/'images.json').write_text(text)
    (folder/'w.pt').write_bytes(b'')
    return weights_note(folder/'w.pt')

def copied_recording(folder, text):
    (folder/'alignment.json').write_text(text)
    return Recording.load(folder)

def written(folder, name, text):
    (folder/name).write_text(text)
    return folder/name

brackets = '['*200_000
readers = {
    'a run.json': lambda f, text: load_run(written(f, 'run.json', text).parent),
    'a look.json': lambda f, text: look_section(written(f, 'look.json', text).parent),
    'a recording': copied_recording, 'images.json beside weights': beside_weights,
    'notes of weights': lambda f, text: weights_meta(notes(f/'w.safetensors', text)),
    'a pairing': lambda f, text: Pairing.load(written(f, 'p.json', text)),
    'COCO': lambda f, text: check_coco(f, written(f, 'a.json', text)),
    'a config file': lambda f, text: from_config(written(f, 'c.toml', 'epochs = ' + text), FolderSettings, {}),
    'a recipe': lambda f, text: read_recipe(str(written(f, 'r.toml', 'a = ' + text))),
    'a study': lambda f, text: studies(str(written(f, 's.toml', 'a = ' + text)))}

@pytest.mark.parametrize('name', readers)
def test_a_riddle_of_brackets(name, tmp_path):
    check('hostile files', f'{name}, brackets', lambda: at_once(lambda: readers[name](tmp_path, brackets)), expect=('named',))

of_json = [name for name in readers if name not in ('a recipe', 'a study', 'a config file')]

@pytest.mark.parametrize('name', of_json)
@pytest.mark.parametrize('text', ['3', '[]', 'null', '"x"'])
def test_something_else(name, text, tmp_path):
    "JSON, and no table of names and values"
    check('hostile files', f'{name}, {text}', lambda: at_once(lambda: readers[name](tmp_path, text)), expect=('named',))

bounded = {name: readers[name] for name in readers if name not in ('notes of weights', 'COCO')}   # whose files may be large

@pytest.mark.parametrize('name', bounded)
def test_as_large_as_a_disk(name, tmp_path, monkeypatch):
    "What a reader opens is grown after it was written"
    plain = Path.write_text
    def grown(self, text, *args, **kwargs):
        plain(self, text, *args, **kwargs)
        sparse(self, most_text + 1)
    monkeypatch.setattr(Path, 'write_text', grown)
    check('hostile files', f'{name}, too large', lambda: at_once(lambda: bounded[name](tmp_path, '{}')), expect=('named',))

def at_once(f, seconds=5):
    "Whatever it does, it does soon"
    start = time.process_time()
    try: f()
    finally: assert time.process_time() - start < seconds

headers = {
    'a header of 2**63 bytes': lambda p: p.write_bytes((2**63).to_bytes(8, 'little')),
    'a header that is cut off': lambda p: p.write_bytes((1000).to_bytes(8, 'little') + b'{'),
    'an empty file': lambda p: p.write_bytes(b''), 'three bytes': lambda p: p.write_bytes(b'abc'),
    'a header of 90 MB': lambda p: sparse(p, 8 + 90*2**20) and p.open('r+b').write((90*2**20).to_bytes(8, 'little')),
    'tensors by the hundred thousand': many_tensors, 'a header of brackets': lambda p: header(p, brackets.encode()),
    'a tensor outside': lambda p: header(p, b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    'a tensor of 2**60 numbers': lambda p: header(p, b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,8]}}')}

@pytest.mark.parametrize('name', headers)
def test_weights(name, tmp_path):
    path = tmp_path/'w.safetensors'
    headers[name](path)
    check('hostile files', f'weights, {name}', lambda: at_once(lambda: load_weights(nn.Linear(2, 2), path)), expect=('named',))

def test_the_bound_is_wide():
    "A thousand tensors need a hundredth of it"
    raw = save({f'layers.{i}.some.module.weight': torch.zeros(1) for i in range(1000)})
    assert 50*int.from_bytes(raw[:8], 'little') < most_header
