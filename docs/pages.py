"""Which notebooks make the site, in which order, under which names."""
import re
from dataclasses import dataclass, field
from pathlib import Path

from fastcore.nbio import read_nb
from nbdev.config import get_config, nbpath2html
from nbdev.processors import FilterDefaults

folders = dict(lessons='The course', applications='More tasks', pages='Results and guides')  # of the notebooks -> kind of page
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
    def number(self): return m[1] if (m := re.match(r'0*(\d+[a-z]?)_', self.path.name)) else ''
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
        return f'{self.number or "Appendix"} · {self.title} <{self.name}>'

def read_page(nbs, path):
    nb, lib = read_nb(nbs/path), get_config().lib_name
    module = next((m for c in nb.cells if (m := c.directives.get('default_exp'))), '')
    uses = {w for c in nb.cells if c.cell_type == 'code' and f'from {lib}.' in c.source for w in re.findall(r'\w+', c.source)}
    Directives()(nb)
    page = Page(path, nb, module, uses)
    for c in nb.cells:
        if c.cell_type == 'code' and (m := re.match(r'show_doc\(([\w.]+)', c.source)): page.shown[c.id] = m[1]
    return page

def read_pages(
    nbs: Path = None,  # folder of notebooks; by default that of the project
) -> list:             # of pages, the front page first, each kind in the order of its file names
    "All pages of the site"
    nbs = Path(nbs or get_config().path('nbs_path'))
    paths = [p.relative_to(nbs) for p in sorted(nbs.rglob('*.ipynb'))]
    pages = [read_page(nbs, p) for p in paths if not any(part[0] in '._' for part in p.parts)]
    return sorted(pages, key=lambda p: p.path.as_posix() != 'index.ipynb')

def kinds(pages):  # kind -> its pages; the front page is above all
    found = {k: [p for p in pages[1:] if p.kind == k] for k in ('The course', 'More tasks', 'Results and guides', 'Reference')}
    return {k: ps for k, ps in found.items() if ps}

rooms = 'core data nets measure distill compare tasks viz runs course'.split()  # in the order in which they build on each other

def rooms_of(pages): return sorted({p.room for p in pages}, key=lambda room: rooms.index(room) if room in rooms else len(rooms))

def in_room(pages, room): return [p for p in pages if p.room == room]
