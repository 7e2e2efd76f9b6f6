"""The law of rooms: a room imports only rooms before it, and inside a room only smaller numbers; no private name crosses a module."""
import ast, configparser, re, sys
from functools import cache
from importlib.metadata import packages_distributions, requires

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import root

sys.path.insert(0, str(root/'docs'))
from pages import rooms

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
def settings():
    ini = configparser.ConfigParser()
    ini.read(root/'settings.ini')
    return ini['DEFAULT']

def named(requirements): return {canonicalize_name(Requirement(r).name) for r in requirements.split()}

@pytest.fixture(scope='module')
def core(settings): return named(settings['requirements'])

@pytest.fixture(scope='module')
def extras(settings): return {name: named(settings[f'{name}_requirements']) for name in settings['extras'].split()}

def tops(nodes):
    "First words of what syntax nodes import from others, `importlib.import_module('...')` and `need_packages([...])` included"
    names = set()
    for n in nodes:
        if isinstance(n, ast.Import): names |= {a.name for a in n.names}
        elif isinstance(n, ast.ImportFrom) and not n.level: names.add(n.module)
        elif isinstance(n, ast.Call) and getattr(n.func, 'id', getattr(n.func, 'attr', '')) in ('import_module', 'need_packages'):
            names |= {c.value for c in ast.walk(n) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    return {n.split('.')[0] for n in names} - set(sys.stdlib_module_names) - {'sskd_tutor', '__main__'}

# what pip calls an import, where the names differ; the rest by `packages_distributions`
sold_as = dict(PIL='pillow', sklearn='scikit-learn', IPython='ipython', yaml='pyyaml')

distributions = cache(packages_distributions)

def declared_as(top): return {canonicalize_name(o) for o in (sold_as.get(top), top, *distributions().get(top, [])) if o}

@pytest.mark.parametrize('module', modules)
def test_top_level_imports_are_core(module, core):
    "Declared by name in settings.ini: what fastai happens to bring today, it may leave tomorrow"
    found = tops(ast.parse(source_of(module)).body)
    assert not {t for t in found if core.isdisjoint(declared_as(t))}

@pytest.mark.parametrize('module', modules)
def test_every_import_is_declared(module, core, extras):
    "In core or in an extra, wherever in the module it stands"
    known = core.union(*extras.values())
    assert not {t for t in tops(ast.walk(ast.parse(source_of(module)))) if known.isdisjoint(declared_as(t))}

def test_an_extra_is_named_where_it_is_needed(core, extras):
    "A module that imports a package of an extra says `with_extra(...)` of one that has it, or lets `need_packages` say it"
    for module in modules:
        tree = ast.parse(source_of(module))
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        said = {n.args[0].value for n in calls if getattr(n.func, 'id', '') == 'with_extra'}
        if any(getattr(n.func, 'id', '') == 'need_packages' for n in calls): said.add('export')
        for top in tops(ast.walk(tree)):
            if not core.isdisjoint(declared_as(top)): continue
            having = {name for name, packages in extras.items() if packages & declared_as(top)}
            assert having & said, f'{module} imports {top}'

def test_what_is_declared_is_used(core):
    used = set().union(*(declared_as(t) for m in modules for t in tops(ast.walk(ast.parse(source_of(m))))))
    assert core - used <= {'jupyterlab'}

def test_all_modules_import_together(run, tmp_path):
    run(sys.executable, '-c', 'import ' + ', '.join(f'sskd_tutor.{m}' for m in modules), cwd=tmp_path, package=root)

def test_all_modules_import_without_what_is_optional(run, tmp_path, core, extras):
    "Also where a core package needs more for some of its own modules, as fastai.distributed does"
    away = sorted(p.replace('-', '_') for p in set().union(*extras.values()) - brought_by(core))
    assert {'accelerate', 'timm', 'onnx', 'pycocotools', 'pytorch_metric_learning', 'tensorboard', 'kaleido'} <= set(away)
    hide = f"import sys; sys.modules.update(dict.fromkeys({away})); import "
    run(sys.executable, '-c', hide + ', '.join(f'sskd_tutor.{m}' for m in modules), cwd=tmp_path, package=root)

def test_make_knows_the_rooms():
    "`make test ROOM=viz` checks the name against a list of its own"
    line = re.search(r'^rooms := (.*)$', (root/'Makefile').read_text(), re.M)
    assert line[1].split() == rooms
    assert {p.name for p in (root/'nbs').iterdir() if p.is_dir()} >= set(rooms)
