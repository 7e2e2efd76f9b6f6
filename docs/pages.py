"""Which notebooks make the site, in which order, under which names."""
import re
from dataclasses import dataclass, field
from pathlib import Path

from fastcore.nbio import read_nb
from nbdev.config import get_config, nbpath2html
from nbdev.processors import FilterDefaults

# folder of notebooks -> kind of page
folders = dict(lessons='The course', applications='More tasks', pages='Results and guides')
kinds_in_order = ['The course', 'More tasks', 'Results and guides', 'Reference']
# in the order in which they build on each other
rooms = 'core data nets measure distill compare tasks viz runs course'.split()

# what nbdev does to a notebook, and we do not want: for Quarto, or by executing cells
left_out = 'FrontmatterProc', 'insert_warning', 'clean_show_doc', 'exec_show_docs', 'add_links', 'add_fold'

class Directives(FilterDefaults):
    "nbdev's own reading of `#|` lines, without what is meant for Quarto and without executing a cell"
    def base_procs(self): return [p for p in super().base_procs() if p.__name__ not in left_out]

@dataclass
class Page:
    path: Path  # of the notebook, relative to the folder of notebooks
    nb: dict    # as nbdev reads it, its directives obeyed
    module: str = ''  # what it exports
    uses: set = field(default_factory=set)     # words of the cells that import from the package
    shown: dict = field(default_factory=dict)  # what it documents: id of a cell -> name

    @property
    def name(self): return nbpath2html(self.path).with_suffix('').as_posix()  # as in the modules' docstrings
    @property
    def up(self): return '../'*(len(self.path.parts) - 1)
    @property
    def number(self):  # of a lesson: '7' or '7a'; '' for an appendix
        found = re.match(r'0*(\d+[a-z]?)_', self.path.name)
        return found[1] if found else ''
    @property
    def room(self): return self.path.parts[0] if len(self.path.parts) > 1 else ''
    @property
    def title(self): return re.match(r'# (.+)', self.nb.cells[0].source)[1]
    @property
    def subtitle(self): return re.search(r'(?m)^> (.+)', self.nb.cells[0].source)[1]
    @property
    def kind(self):
        if self.path.parts[0] in folders: return folders[self.path.parts[0]]
        return 'Reference' if self.module else 'Results and guides'
    @property
    def entry(self):  # its line in the navigation
        if self.kind != 'The course': return self.name
        number = self.number or 'Appendix'
        return f'{number} · {self.title} <{self.name}>'

def exported_by(nb):
    "The module that a notebook exports; '' if none"
    found = [cell.directives.get('default_exp') for cell in nb.cells]
    return next(filter(None, found), '')

def words_of_imports(nb):
    "All words of the cells that import from the package"
    phrase = f'from {get_config().lib_name}.'
    words = set()
    for cell in nb.cells:
        if cell.cell_type == 'code' and phrase in cell.source: words |= set(re.findall(r'\w+', cell.source))
    return words

def documented_in(nb):
    "Id of a cell -> the name that its `show_doc` documents"
    shown = {}
    for cell in nb.cells:
        call = re.match(r'show_doc\(([\w.]+)', cell.source)
        if cell.cell_type == 'code' and call: shown[cell.id] = call[1]
    return shown

def read_page(nbs, path):
    nb = read_nb(nbs/path)
    module, uses = exported_by(nb), words_of_imports(nb)   # before nbdev drops the directives
    Directives()(nb)
    return Page(path, nb, module, uses, documented_in(nb))

def is_hidden(path): return any(part[0] in '._' for part in path.parts)

def read_pages(
    nbs: Path = None,  # folder of notebooks; by default that of the project
) -> list:             # of pages, the front page first, each kind in the order of its file names
    "All pages of the site"
    nbs = Path(nbs or get_config().path('nbs_path'))
    paths = [path.relative_to(nbs) for path in sorted(nbs.rglob('*.ipynb'))]
    pages = [read_page(nbs, path) for path in paths if not is_hidden(path)]
    return sorted(pages, key=lambda p: p.path.as_posix() != 'index.ipynb')

def kinds(pages):
    "Kind -> its pages; the front page is above all of them"
    found = {}
    for kind in kinds_in_order:
        of_kind = [page for page in pages[1:] if page.kind == kind]
        if of_kind: found[kind] = of_kind
    return found

def place_of(room):
    "Where a room stands among all; an unknown one comes last"
    return rooms.index(room) if room in rooms else len(rooms)

def rooms_of(pages): return sorted({page.room for page in pages}, key=place_of)

def in_room(pages, room): return [page for page in pages if page.room == room]
