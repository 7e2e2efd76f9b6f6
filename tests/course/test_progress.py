"""Progress is kept: one file for all notebooks, and no error may cost what is in it."""
import multiprocessing
from pathlib import Path

import pytest

from sskd_tutor.course.grading import note_try, progress_file, read_progress

@pytest.fixture(autouse=True)
def progress(tmp_path, monkeypatch): monkeypatch.setenv('SSKD_PROGRESS', str(tmp_path/'progress.json'))

def test_what_cannot_be_read_is_not_written_over(monkeypatch):
    for id in ('1.1', '1.2'): note_try(id, True)
    before = progress_file().read_text()
    def denied(*args, **kwargs): raise PermissionError(13, 'Permission denied')
    with monkeypatch.context() as m, pytest.warns(UserWarning, match='progress is not kept: .*Permission denied.* Set SSKD_PROGRESS'):
        m.setattr(Path, 'read_text', denied)
        assert note_try('1.3', True).tries == 1
    assert progress_file().read_text() == before

def hundred_tries():
    for _ in range(100): note_try('1.1', False)

def test_two_notebooks_at_once():
    fork = multiprocessing.get_context('fork')
    both = [fork.Process(target=hundred_tries) for _ in range(2)]
    for p in both: p.start()
    for p in both: p.join(120)
    assert read_progress()['1.1'].tries == 200

def test_every_damaged_file_is_kept(tmp_path):
    for text in ('{"1', '[]', 'no'):
        progress_file().write_text(text)
        with pytest.warns(UserWarning, match='is set aside as progress.json.damaged'): assert note_try('1.1', True).tries == 1
    aside = {p.name.removeprefix('progress.json.'): p.read_text() for p in tmp_path.glob('*.damaged*')}
    assert aside == {'damaged': '{"1', 'damaged-2': '[]', 'damaged-3': 'no'}
