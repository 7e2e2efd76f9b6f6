"""What the command line says to words that it does not know; nothing is trained."""
import shlex, shutil
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sskd_tutor.cli import main
from sskd_tutor.core.files import pkg_data
from sskd_tutor.runs.commands import resume_line

def said(capsys, line):
    "Exit code, stdout, stderr"
    try: code = main(line.split())
    except SystemExit as e: code = e.code
    return code, *capsys.readouterr()

def test_bare_is_help_and_no_error(capsys):
    code, out, err = said(capsys, '')
    assert code == 0 and 'COMMAND' in out and 'explore' in out and err == ''

@pytest.mark.parametrize('line, says', [
    ('demmo', "sskd_tutor: no command 'demmo'; did you mean 'demo'?"),
    ('doctor --jsn', 'sskd_tutor doctor: unrecognized --jsn; did you mean --json?'),
    ('doctor --dev cpu', 'sskd_tutor doctor: unrecognized --dev; did you mean --device?'),
    ('doctor now', "sskd_tutor doctor: unexpected 'now'"),
    ('data here', 'sskd_tutor data: the following arguments are required: FILE')])
def test_bad_words_name_the_command_and_the_nearest(capsys, line, says):
    "0.1 showed the help of `sskd_tutor` itself, and took --dev for --device"
    code, out, err = said(capsys, line)
    first, second = err.splitlines()
    assert code == 2 and out == '' and first == says and second.endswith('--help says what there is')

def test_explore_writes_one_page(capsys, tmp_path):
    page = tmp_path/'run.html'
    code, out, _ = said(capsys, f'explore {pkg_data}/example_recording --out {page} --no-browser')
    assert code == 0 and out.strip() == str(page) and page.read_text().count('class="sskd-film"') == 1
    code, _, err = said(capsys, f'explore {tmp_path} --no-browser')
    assert code == 2 and 'RecordAlignment' in err

def test_a_command_to_paste_names_a_folder_with_a_space():
    a, job = Namespace(command='distill', allow_code=False), SimpleNamespace(settings=None)
    words = shlex.split(resume_line(a, job, Path('my runs/one')))
    assert words == ['sskd_tutor', 'distill', '--resume', 'my runs/one']

def test_going_on_in_place_of_an_older_run_asks_to_overwrite_it_again():
    "Without it, the command to paste was refused: the folder holds a run"
    a, job = Namespace(command='demo', allow_code=False, overwrite=True), SimpleNamespace(settings=None)
    assert resume_line(a, job, Path('one')) == 'sskd_tutor demo --resume one --overwrite'

def test_explore_names_its_page_after_the_folder(capsys, tmp_path, monkeypatch):
    "`explore .` wrote the hidden file ..html into the run folder"
    shutil.copytree(pkg_data/'example_recording', tmp_path/'run')
    monkeypatch.chdir(tmp_path/'run')
    code, _, _ = said(capsys, 'explore . --no-browser')
    assert code == 0 and (tmp_path/'run.html').exists() and not Path('..html').exists()

@pytest.mark.parametrize('line, says', [
    ('distill --resume x --config f.toml', 'leave out --config\n'),   # it named --config-file, which is no option
    ('recipe --data x --epochs 3', 'leave out --data, --epochs'),      # it listed the recipes and ended well
    ('recipe --plan --overwrite', 'leave out --plan, --overwrite'),
    ('compare x.toml --plan --json', '--plan prints tables, and no JSON'),
    ('export x --out y --plan', '--plan is for --hub'),
    ('plan --images 10 --bs 128', '--bs is 128; expected 1 to --images 10: a batch must be filled')])
def test_options_that_would_be_ignored_or_fail_later(capsys, line, says):
    code, out, err = said(capsys, line)
    assert code == 2 and out == '' and says in err

def test_the_warning_of_fastais_import_is_not_shown():
    "`torch.jit.script` is deprecated, says torch on every import of fastai; a user of ours can do nothing about it"
    import importlib, warnings
    import sskd_tutor
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        importlib.reload(sskd_tutor)
        warnings.warn('`torch.jit.script` is deprecated. Please switch to `torch.compile`', FutureWarning)
        warnings.warn('another', FutureWarning)
    assert [str(w.message) for w in seen] == ['another']
