"""One direction: module n imports only modules before it, and at the top of a module only core requirements."""
import ast, configparser, re, sys
from importlib.metadata import packages_distributions, requires

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import root

def default_exp(nb):
    return next((m[1] for c in nb.cells if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c.source, re.M))), None)

pages = {p: nbformat.read(p, 4) for p in sorted(root.glob('nbs/[0-9]*.ipynb'))}
order = {default_exp(nb): p.name.split('_')[0] for p, nb in pages.items()}  # '07' < '07a' < '08'
modules = list(order)

def own_imports(tree):
    "Modules of this package that a syntax tree imports, wherever it does so"
    for n in ast.walk(tree):
        names = [a.name for a in n.names] if isinstance(n, (ast.Import, ast.ImportFrom)) else []
        if isinstance(n, ast.ImportFrom) and n.level: yield from [n.module.split('.')[0]] if n.module else names
        elif isinstance(n, ast.ImportFrom) and n.module == 'sskd_tutor': yield from names
        elif isinstance(n, ast.ImportFrom): names = [n.module]
        yield from (m[1] for o in names if (m := re.match(r'sskd_tutor\.(\w+)', o)))

def law(importer, found):
    bad = [m for m in found if order.get(m, '') >= order[importer]]
    assert not bad, f"{importer} ({order[importer]}) imports {[f'{m} ({order[m]})' for m in bad]}"

def test_the_law_can_be_broken():
    for src in ('from .cli import x', 'from . import cli', 'import sskd_tutor.cli', 'from sskd_tutor.cli import x',
                'from sskd_tutor import cli', 'def f():\n    from .cli import x'):
        assert list(own_imports(ast.parse(src))) == ['cli'], src

def test_notebooks_are_numbered_once():
    assert modules and None not in modules and len(set(order.values())) == len(pages)
    assert all(re.fullmatch(r'\d\d[a-z]?', n) for n in order.values())
    assert {f'{n}_{m}.ipynb' for m, n in order.items()} == {p.name for p in pages}

def test_every_module_has_a_notebook():
    assert {p.stem for p in root.glob('sskd_tutor/*.py')} - {'__init__', '_modidx'} == set(modules)

@pytest.mark.parametrize('module', modules)
def test_module_imports_only_earlier_ones(module):
    law(module, own_imports(ast.parse((root/f'sskd_tutor/{module}.py').read_text())))

@pytest.mark.parametrize('path', pages, ids=lambda p: p.name)
def test_notebook_imports_only_earlier_modules(path):
    nb = pages[path]
    src = [re.sub(r'(?m)^(\s*)[%!].*', r'\1pass', c.source) for c in nb.cells if c.cell_type == 'code']
    law(default_exp(nb), own_imports(ast.parse('\n'.join(src))))

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
    dists, tree = packages_distributions(), ast.parse((root/f'sskd_tutor/{module}.py').read_text())
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
