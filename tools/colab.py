"""The lessons for Google Colab, into colab/, which is committed: a badge and a first cell that installs, looks for a GPU and
switches widgets on; no directives, no outputs, links that lead out of Colab. `make colab` writes them, a test compares them.
"""
import re, shutil, sys
from pathlib import Path

import nbformat
from nbdev.config import get_config

from course import cleaned, read_lesson

wants_gpu = {'12_your_own'}          # lessons that are about a GPU; the others are made for a CPU
extras = 'anywidget torchmetrics'    # optional to the package, used in lessons
lessons = Path('nbs/lessons')

install = """\
#@title Run this first: it installs sskd_tutor, looks for a GPU and switches widgets on
try: import sskd_tutor
except ImportError:
    %pip install -q "{lib} @ git+{git}" {extras}"""

device = """
import os, torch
gpu_expected = {gpu}
if torch.cuda.is_available(): print(f'GPU: {{torch.cuda.get_device_name()}}')
elif gpu_expected: print('Warning: a GPU was expected and there is none. Choose one in Runtime > Change runtime type; '
                         'on the CPU everything here works, slowly.')
else: print('No GPU, and none is needed here.')"""

chosen = "os.environ.get('COLAB_GPU', '0') not in ('', '0')  # was a runtime with a GPU chosen?"

widgets = """
try:
    from google.colab import output
    output.enable_custom_widget_manager()
except Exception as e: print(f'No live widgets here ({e}): figures stand in their place.')"""

def in_colab(name):  # where Colab opens a copy
    cfg = get_config()
    return f"https://colab.research.google.com/github/{cfg.git_url.removeprefix('https://github.com/')}/blob/{cfg.branch}/colab/{name}"

def badge(name): return f'[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({in_colab(name)})'

def first_cell(name):
    cfg = get_config()
    gpu = 'True  # this lesson is about one' if name in wants_gpu else chosen
    code = install.format(lib=cfg.lib_name, git=cfg.git_url, extras=extras) + device.format(gpu=gpu) + widgets
    return nbformat.v4.new_code_cell(code, id='in-colab', metadata=dict(cellView='form'))

def for_colab(
    path: Path,  # a lesson
    stay: list,  # file names of all lessons
) -> dict:       # notebook
    "The copy for Colab"
    lesson = read_lesson(path)
    cells = [cleaned(c, lessons.as_posix()) for c in lesson.nb.cells]
    here = re.escape(f'{get_config().git_url}/blob/{get_config().branch}/{lessons.as_posix()}/')
    def to_colab(m): return in_colab(m[1]) if m[1] in stay else m[0]
    for c in cells:
        if c.cell_type == 'code': c.outputs = []
        else: c.source = re.sub(here + r'([\w.]+\.ipynb)', to_colab, c.source)
    cells[0].source += '\n\n' + badge(path.name)
    cells.insert(1, first_cell(lesson.name))
    kernel = dict(name='python3', display_name='Python 3', language='python')
    meta = dict(kernelspec=kernel, colab=dict(provenance=[]))
    if lesson.name in wants_gpu: meta['accelerator'] = 'GPU'
    return nbformat.v4.new_notebook(cells=cells, metadata=meta)

def main():
    root = get_config().config_path
    to = Path(sys.argv[1] if sys.argv[1:] else root/'colab')
    paths = sorted((root/lessons).glob('*.ipynb'))
    names = [p.name for p in paths]
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for p in paths: nbformat.write(for_colab(p, names), to/p.name)

if __name__ == '__main__': main()
