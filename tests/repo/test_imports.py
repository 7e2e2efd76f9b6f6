"""The law of rooms: a room imports only rooms before it, and inside a room only smaller numbers; no private name crosses a module."""
import ast, configparser, re, sys
from importlib.metadata import packages_distributions, requires

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import root

rooms = ['core', 'data', 'nets', 'measure', 'distill', 'compare', 'tasks', 'viz', 'runs', 'course']
may_not = {('tasks', 'compare')}  # neighbors that do not need each other
top = len(rooms)                  # of `all` and `cli`, which import everything

def default_exp(nb):
    found = (re.search(r'^#\|\s*default_exp\s+(\S+)', c.source, re.M) for c in nb.cells)
    return next((m[1] for m in found if m), None)

def place(path):
    "Room and number of a notebook: nbs/nets/03_taps.ipynb is (2, '03')"
    folder = path.parent.name
    return (rooms.index(folder) if folder in rooms else top), path.name.split('_')[0]

numbered = [p for p in sorted(root.glob('nbs/**/[0-9]*.ipynb')) if p.parent.name in [*rooms, 'nbs']]
pages = {p: nbformat.read(p, 4) for p in numbered}
order = {default_exp(nb): place(p) for p, nb in pages.items()}
modules = list(order)

def room_of(module): return module.split('.')[0] if '.' in module else ''
def source_of(module): return (root/'sskd_tutor'/module.replace('.', '/')).with_suffix('.py').read_text()

def own_imports(tree, module=''):
    "(module of this package, imported names) wherever a syntax tree imports one"
    folder = module.split('.')[:-1]
    for n in ast.walk(tree):
        names = [a.name for a in n.names] if isinstance(n, (ast.Import, ast.ImportFrom)) else []
        if isinstance(n, ast.ImportFrom) and n.level:
            found = '.'.join([*folder[:len(folder) - n.level + 1], *([n.module] if n.module else [])])
        elif isinstance(n, ast.ImportFrom) and f'{n.module}.'.startswith('sskd_tutor.'):
            found = n.module.removeprefix('sskd_tutor').removeprefix('.')
        elif isinstance(n, ast.Import):
            yield from ((name.removeprefix('sskd_tutor.'), []) for name in names if name.startswith('sskd_tutor.'))
            continue
        else: continue
        if found in order: yield found, names
        else: yield from (('.'.join(filter(None, [found, name])), []) for name in names)

def law(importer, found):
    place = order[importer]
    for module, names in found:
        if module.split('.')[-1].startswith('__'): continue  # the version
        assert module in order, f"{importer} imports {module}, which is no module"
        assert order[module] < place, f"{importer} {place} imports {module} {order[module]}"
        assert (room_of(importer), room_of(module)) not in may_not, f"{importer} imports {module}"
        private = [n for n in names if n.startswith('_') and not n.startswith('__')]
        assert not private, f"{importer} imports {private} of {module}: make it public, or keep it at home"

def test_the_law_can_be_broken():
    for src in ('from ..viz.style import x', 'from ..viz import style', 'import sskd_tutor.viz.style',
                'from sskd_tutor.viz.style import x', 'from sskd_tutor.viz import style',
                'def f():\n    from ..viz.style import x'):
        found = list(own_imports(ast.parse(src), 'nets.taps'))
        assert [m for m, _ in found] == ['viz.style'], src
        with pytest.raises(AssertionError, match='imports viz.style'): law('nets.taps', found)
    for src, why in (('from .cut import as_stages', 'imports nets.cut'), ('from .staged import _x', 'make it public'),
                     ('from .nowhere import x', 'no module')):
        with pytest.raises(AssertionError, match=why): law('nets.taps', own_imports(ast.parse(src), 'nets.taps'))
    with pytest.raises(AssertionError): law('tasks.boxes', own_imports(ast.parse('from ..compare.study import x'), 'tasks.boxes'))
    law('nets.taps', own_imports(ast.parse('from .staged import StagedNet\nfrom ..core.errors import nearest'), 'nets.taps'))

def test_notebooks_are_numbered_once():
    assert modules and None not in modules and len(set(order.values())) == len(pages)
    assert all(re.fullmatch(r'\d\d[a-z]?', number) for _, number in order.values())
    for path, nb in pages.items():
        folder = '' if path.parent.name == 'nbs' else f'{path.parent.name}.'
        assert default_exp(nb) == folder + path.stem.partition('_')[2], path

def test_every_module_has_a_notebook():
    found = {p.relative_to(root/'sskd_tutor').with_suffix('') for p in (root/'sskd_tutor').rglob('*.py')}
    assert {'.'.join(p.parts) for p in found if p.name not in ('__init__', '__main__', '_modidx')} == set(modules)

@pytest.mark.parametrize('module', modules)
def test_module_imports_only_earlier_ones(module):
    law(module, own_imports(ast.parse(source_of(module)), module))

@pytest.mark.parametrize('path', pages, ids=lambda p: p.relative_to(root/'nbs').as_posix())
def test_notebook_imports_only_earlier_modules(path):
    nb = pages[path]
    src = [re.sub(r'(?m)^(\s*)[%!].*', r'\1pass', c.source) for c in nb.cells if c.cell_type == 'code']
    own = default_exp(nb)
    law(own, [o for o in own_imports(ast.parse('\n'.join(src)), own) if o[0] != own])

def brought_by(names):
    "These distributions and all that they require"
    seen, todo = set(), list(names)
    while todo:
        if (n := canonicalize_name(todo.pop())) in seen: continue
        seen.add(n)
        try: reqs = map(Requirement, requires(n) or [])
        except ModuleNotFoundError: continue  # for another platform
        todo += [r.name for r in reqs if not r.marker or r.marker.evaluate({'extra': ''})]
    return seen

@pytest.fixture(scope='module')
def core():
    ini = configparser.ConfigParser()
    ini.read(root/'settings.ini')
    return brought_by(Requirement(r).name for r in ini['DEFAULT']['requirements'].split())

@pytest.mark.parametrize('module', modules)
def test_top_level_imports_are_core(module, core):
    dists, tree = packages_distributions(), ast.parse(source_of(module))
    names = {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in tree.body if isinstance(n, ast.ImportFrom) and not n.level}
    tops = {n.split('.')[0] for n in names} - set(sys.stdlib_module_names) - {'sskd_tutor'}
    assert not {t for t in tops if core.isdisjoint(map(canonicalize_name, dists.get(t, [])))}

def test_all_modules_import_together(run, tmp_path):
    run(sys.executable, '-c', 'import ' + ', '.join(f'sskd_tutor.{m}' for m in modules), cwd=tmp_path, package=root)

def test_all_modules_import_without_what_is_optional(run, tmp_path, core):
    "Also where a core package needs more for some of its own modules, as fastai.distributed does"
    ini = configparser.ConfigParser()
    ini.read(root/'settings.ini')
    extra = {Requirement(r).name for r in ini['DEFAULT']['dev_requirements'].split()}
    extra = sorted(o.replace('-', '_') for o in extra if canonicalize_name(o) not in core)
    assert {'accelerate', 'torchmetrics', 'timm', 'onnx', 'pycocotools', 'pytorch_metric_learning'} <= set(extra)
    hide = f"import sys; sys.modules.update(dict.fromkeys({extra})); import "
    run(sys.executable, '-c', hide + ', '.join(f'sskd_tutor.{m}' for m in modules), cwd=tmp_path, package=root)
