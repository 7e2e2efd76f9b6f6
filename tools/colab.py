"""The lessons without outputs and directives, twice, both committed.

Those for Google Colab, in colab/, have a badge and a first cell that installs, looks for a GPU, switches
widgets on and can keep progress on Drive. Those for `sskd_tutor lessons`, in the package's data, have the
drawings beside them, so that they show without a network. `make colab` writes both, a test compares them.
"""
import configparser, re, shutil, sys
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import nbformat
from nbdev.config import get_config
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course import cleaned, read_lesson

wants_gpu = {'12_your_own'}          # lessons that are about a GPU; the others are made for a CPU
# by Colab's kernel: must stay
loaded = {'ipykernel', 'ipython', 'ipywidgets', 'jupyter-server', 'pyzmq', 'tornado', 'traitlets'}
not_there = {'jupyterlab', 'shtab'}   # needed by other ways in: Colab is its own lab and has no shell
lessons, in_package = Path('nbs/lessons'), Path('sskd_tutor/data_files/lessons')
drawings = Path('nbs/images')        # what lessons show; the folder images/ beside the copies in the package

install = """\
#@title Run this first: it installs sskd_tutor, looks for a GPU and switches widgets on
try: import sskd_tutor
except ImportError:
    %pip install {line}"""

device = """
import os, torch
gpu_expected = {gpu}
if torch.cuda.is_available(): print(f'GPU: {{torch.cuda.get_device_name()}}')
elif gpu_expected: print('Warning: a GPU was expected and there is none. \
Choose one in Runtime > Change runtime type; '
                         'on the CPU everything here works, slowly.')
else: print('No GPU, and none is needed here.')"""

chosen = "os.environ.get('COLAB_GPU', '0') not in ('', '0')  # was a runtime with a GPU chosen?"

widgets = """
try:
    from google.colab import output
    output.enable_custom_widget_manager()
except Exception as e: print(f'No live widgets here ({e}): figures stand in their place.')"""

drive = """
#@markdown Colab forgets what you solved when it ends a session. \
Tick this to keep it in a small file on your Google Drive, `MyDrive/sskd_tutor/progress.json`; \
Colab will ask for your permission. Tick it in every lesson, and what you solved in one counts in all.
keep_progress_on_drive = False  #@param {type:"boolean"}
if keep_progress_on_drive:
    from google.colab import drive
    drive.mount('/content/drive')
    os.environ['SSKD_PROGRESS'] = '/content/drive/MyDrive/sskd_tutor/progress.json'"""

folded_title = '#@title Code that draws or sums up (double-click to read it)\n'

def pins():  # name -> version
    "What Colab has"
    lines = (get_config().config_path/'tools/colab_pins.txt').read_text().splitlines()
    return dict(line.split('==') for line in lines if not line.startswith('#'))

def core():
    "Our own requirements, as settings.ini has them"
    ini = configparser.ConfigParser()
    ini.read(get_config().config_path/'settings.ini')
    return [r for r in ini['DEFAULT']['requirements'].split() if Requirement(r).name not in not_there]

def needs(name):
    "What a package that is installed here requires on any platform"
    found = [Requirement(line) for line in requires(name) or []]
    return [f'{r.name}{r.specifier}' for r in found if not r.marker or r.marker.evaluate({'extra': ''})]

@cache
def sorted_out():
    "(what Colab lacks or has too old, with what that requires in turn; what it has of all this)"
    has = pins()
    todo, lacks, there = core(), {}, {}
    while todo:
        r = Requirement(todo.pop(0))
        name = canonicalize_name(r.name)
        if name in has and r.specifier.contains(has[name], prereleases=True):
            there[name] = has[name]
            continue
        if name in loaded:
            raise SystemExit(f"{r} is asked for, and Colab's kernel has loaded {name} {has.get(name)}")
        if name not in lacks: todo += needs(name)
        lacks[name] = str(r)
    return list(lacks.values()), list(there)

def missing():
    "What Colab lacks or has too old, with what that requires in turn"
    return sorted_out()[0]

def there():
    "What Colab has already of our requirements, and what runs a notebook there"
    return [*sorted_out()[1], 'ipykernel', 'nbconvert']

def install_line():
    "What follows `pip install` on Colab: nothing that its kernel has loaded is touched"
    cfg = get_config()
    quoted = ' '.join(f'"{r}"' for r in missing())
    return f'-q --no-deps "{cfg.lib_name} @ git+{cfg.git_url}" {quoted}'

# --- the copies for Colab

def in_colab(name):  # where Colab opens a copy
    cfg = get_config()
    repository = cfg.git_url.removeprefix('https://github.com/')
    return f'https://colab.research.google.com/github/{repository}/blob/{cfg.branch}/colab/{name}'

def badge(name):
    image = 'https://colab.research.google.com/assets/colab-badge.svg'
    return f'[![Open in Colab]({image})]({in_colab(name)})'

def first_cell(name):
    gpu = 'True  # this lesson is about one' if name in wants_gpu else chosen
    code = install.format(line=install_line()) + device.format(gpu=gpu) + widgets + drive
    return nbformat.v4.new_code_cell(code, id='in-colab', metadata=dict(cellView='form'))

def folded(cell, copied):
    "A cell whose source is hidden in JupyterLab is a form in Colab, which shows only its output"
    if cell.metadata.get('jupyter', {}).get('source_hidden'):
        copied.metadata['cellView'] = 'form'
        copied.source = folded_title + copied.source
    return copied

def with_links_to_colab(text, stay):
    "Links to lessons lead to their copies in Colab"
    cfg = get_config()
    here = re.escape(f'{cfg.git_url}/blob/{cfg.branch}/{lessons.as_posix()}/')
    def to_colab(m): return in_colab(m[1]) if m[1] in stay else m[0]
    return re.sub(here + r'([\w.]+\.ipynb)', to_colab, text)

def for_colab(
    path: Path,  # a lesson
    stay: list,  # file names of all lessons
) -> dict:       # notebook
    "The copy for Colab"
    lesson = read_lesson(path)
    cells = [folded(cell, cleaned(cell, lessons.as_posix())) for cell in lesson.nb.cells]
    for cell in cells:
        if cell.cell_type == 'code': cell.outputs = []
        else: cell.source = with_links_to_colab(cell.source, stay)
    cells[0].source += '\n\n' + badge(path.name)
    cells.insert(1, first_cell(lesson.name))
    kernel = dict(name='python3', display_name='Python 3', language='python')
    meta = dict(kernelspec=kernel, colab=dict(provenance=[]))
    if lesson.name in wants_gpu: meta['accelerator'] = 'GPU'
    return nbformat.v4.new_notebook(cells=cells, metadata=meta)

# --- the copies in the package

def for_wheel(
    path: Path,  # a lesson
    stay: list,  # file names of all lessons
) -> dict:       # notebook
    "The copy that travels in the wheel"
    lesson = read_lesson(path)
    cells = [cleaned(cell, lessons.as_posix(), stay) for cell in lesson.nb.cells]
    for cell in cells:
        if cell.cell_type == 'code': cell.outputs = []
        else: cell.source = with_drawings_beside(cell.source)
    return nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=lesson.nb.metadata.kernelspec))

def with_drawings_beside(text):
    "Images of the repository become files in the folder images/"
    cfg = get_config()
    raw = cfg.git_url.replace('github.com', 'raw.githubusercontent.com')
    return text.replace(f']({raw}/{cfg.branch}/{drawings.as_posix()}/', '](images/')

def texts_of(notebooks):
    "All text of these notebooks"
    cells = [cell for nb in notebooks for cell in nb.cells]
    return '\n'.join(cell.source for cell in cells if cell.cell_type == 'markdown')

def write_drawings(notebooks, to):
    "Every drawing that these notebooks show, into the folder images/"
    names = set(re.findall(r'\]\(images/([\w.]+)\)', texts_of(notebooks)))
    (to/'images').mkdir()
    for name in sorted(names):
        shutil.copyfile(get_config().config_path/drawings/name, to/'images'/name)

# --- files

def write_all(notebooks, to):
    "file name -> notebook, into a folder; what was there before goes"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for name, nb in notebooks.items(): nbformat.write(nb, to/name)

def main():
    if sys.argv[1:] == ['--there']: return print(*there())
    root = get_config().config_path
    to = Path(sys.argv[1]) if sys.argv[1:] else root
    paths = sorted((root/lessons).glob('*.ipynb'))
    names = [p.name for p in paths]
    write_all({p.name: for_colab(p, names) for p in paths}, to/'colab')
    in_wheel = {p.name: for_wheel(p, names) for p in paths}
    write_all(in_wheel, to/in_package)
    write_drawings(in_wheel.values(), to/in_package)

if __name__ == '__main__': main()
