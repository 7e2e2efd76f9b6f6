"""The page of fastai's features says what the tests try, each with its verdict."""
import json

from conftest import root
from helpers import features

def test_the_page_is_what_is_tried():
    nb = json.loads(features.page.read_text(encoding='utf-8'))
    cell = next(c for c in nb['cells'] if c['id'] == 'features')
    assert ''.join(cell['source']) == features.table(), 'PYTHONPATH=tests python -m helpers.features'

def test_every_row_has_its_test():
    for feature, _, _, file, test in features.rows(): assert f'def {test}(' in (root/file).read_text(), feature

def test_every_callback_has_its_row():
    from distill import test_fastai_callbacks as t
    assert features.elsewhere.keys() == t.elsewhere and features.changes.keys() == t.with_a_change.keys()
