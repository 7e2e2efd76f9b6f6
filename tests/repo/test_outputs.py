"""Does the page still show what its code prints? Saved text is compared with a run of today, word by word.

Numbers are left out: they differ from machine to machine. So are lessons and task pages, which train for minutes.
"""
import difflib, os, re, sys, tempfile

import nbformat
import pytest

from conftest import root
from helpers.notebooks import exit_code

pages = [p for p in sorted(root.glob('nbs/**/*.ipynb'))
         if p.parent.name not in ('lessons', 'applications') and '.ipynb_checkpoints' not in p.parts]
drawn = 'image/png', 'application/vnd.plotly.v1+json', 'application/vnd.jupyter.widget-view+json', 'text/html'
# of a kernel that draws, of a progress bar, and of a run without a notebook
elsewhere = re.compile(r'IPython\.core\.display|█|^\|-+\| #%|this is not a notebook|nothing that draws widgets'
                       r'|viz\.player\.Player|live\.figures\(\)')

def name(path): return path.relative_to(root/'nbs').as_posix()

def text_of(output):
    "What an output says; nothing where it draws"
    if output.output_type == 'stream': return ''.join(output.text)
    data = output.get('data', {})
    if any(kind in data for kind in drawn): return ''
    return ''.join(data.get('text/markdown', data.get('text/plain', '')))

def words_of(outputs):
    "Lines without numbers, addresses, temporary folders and repeated spaces"
    text = '\n'.join(map(text_of, outputs))
    temporary = re.escape(tempfile.gettempdir()) + r'/\S+'
    for pattern, instead in ((r'\x1b\[[0-9;]*m', ''), (r' at 0x[0-9a-f]+', ''), (temporary, 'TEMPORARY'),
                             (r'[-+]?\d[\d,.]*(e[-+]?\d+)?', '#'), (r'[ \t]+', ' ')):
        text = re.sub(pattern, instead, text)
    return [line.strip() for line in text.splitlines() if line.strip() and not elsewhere.search(line)]

def has_flag(cell, flags):
    "Does the cell carry one of these, as in `#| slow`?"
    return re.search(rf'^#\|\s*({flags})\b', cell.source, re.M)

def differences(path):
    "Cell -> saved and new lines that differ"
    import pandas as pd
    from execnb.shell import CaptureShell
    shell, found = CaptureShell(path, mpl_format=None), {}
    pd.set_option('display.max_columns', 20)   # as a kernel has it
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != 'code' or has_flag(cell, 'notest|slow|gpu'): continue
        new = [nbformat.from_dict(output) for output in shell.run(cell.source)]
        if shell.exc is not None: return {cell.id: shell.prettytb()}
        if has_flag(cell, 'hide'): continue   # keeps no output
        saved, now = words_of(cell.outputs), words_of(new)
        lines = difflib.unified_diff(saved, now, 'saved', 'now', lineterm='', n=0)
        if saved != now: found[cell.id] = '\n'.join(lines)
    return found

def compare(path):
    os.chdir(path.parent)
    sys.path.insert(0, str(root))
    os.environ['IN_TEST'] = '1'
    found = differences(path)
    for cell, lines in found.items(): print(f'\n--- cell {cell}\n{lines}')
    sys.exit(bool(found))

@pytest.mark.slow
@pytest.mark.parametrize('path', pages, ids=name)
def test_page_shows_what_its_code_prints(path, tmp_path):
    log = tmp_path/'log'
    code = exit_code(compare, path, log=log, timeout=600)
    assert code == 0, f"{name(path)}: save it again, or mend it\n{log.read_text()[-4000:]}"

def test_numbers_and_addresses_are_left_out():
    say = lambda text: nbformat.v4.new_output('stream', text=text)
    here = tempfile.gettempdir()
    one, other = say(f'acc 91.20 %, <f at 0x7f1>  in {here}/a1b2'), say(f'acc 90 %, <f at 0x9> in {here}/zz')
    assert words_of([one]) == words_of([other])
    assert words_of([say('labels circle')]) != words_of([say('labels square')])
