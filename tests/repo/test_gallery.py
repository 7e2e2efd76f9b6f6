"""The paper gallery: its file is whole, every link leads somewhere, every method and study exists, page and thumbnails are in step."""
import re, sys, tomllib
import xml.etree.ElementTree as ET

import nbformat
import pytest

from conftest import root

sys.path.insert(0, str(root/'tools'))
import gallery as tool

from sskd_tutor.compare import gallery
from sskd_tutor.compare.gallery import Paper, gallery_verdicts, paper_verdict, papers
from sskd_tutor.compare.methods import methods, sources
from sskd_tutor.compare.results import comparison_folder
from sskd_tutor.compare.study import studies

every = papers()
built = {key: paper for key, paper in every.items() if paper.state != 'not here'}

def test_all_systems_are_there_once():
    assert len(every) == 31
    for name in ('title', 'arxiv'): assert len({getattr(p, name) for p in every.values()}) == 31
    assert all(re.fullmatch(r'\d{4}\.\d{5}|\d{4}\.\d{4}', p.arxiv) for p in every.values())

@pytest.mark.parametrize('key', every)
def test_a_paper_is_told_in_one_sentence(key):
    paper = every[key]
    assert paper.says.endswith('.') and len(paper.says) < 160
    assert (paper.verdict or paper.why).endswith('.')

@pytest.mark.parametrize('key', built)
def test_every_link_leads_somewhere(key):
    for link in every[key].links: assert (root/'nbs'/link).exists(), link

@pytest.mark.parametrize('key', [key for key, p in every.items() if p.state == 'complete' and p.methods])
def test_its_method_names_it_as_the_source(key):
    found = sources()
    assert every[key].arxiv in [found[name] for name in every[key].methods]

def test_studies_were_named_and_belong_to_a_paper():
    known = studies(comparison_folder()/'gallery.toml')
    asked = [name for p in every.values() for name in p.studies]
    assert sorted(asked) == sorted(known)
    for s in known.values():
        assert s.primary and set(s.primary) == set(s.methods) and len(s.seeds) == 5

def test_a_page_of_the_gallery_opens_with_claims():
    pages = sorted((root/'nbs/pages').glob('gallery_[0-9]_*.ipynb'))
    assert pages
    for path in pages:
        text = '\n'.join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == 'markdown')
        assert '| the claim | our smallest honest test | what would refute it |' in text.replace('paper | ', ''), path.name

def test_page_and_thumbnails_are_in_step():
    made = nbformat.read(tool.page_path, 4)
    assert [c.source for c in made.cells] == [c.source for c in tool.page().cells], 'out of date: python tools/gallery.py'
    drawn = tool.drawings()
    assert {p.name for p in tool.images.glob('gallery_*.svg')} == set(drawn)
    for name, svg in drawn.items():
        ET.fromstring(svg)   # an error if it is no XML
        assert (tool.images/name).read_text() == svg

def test_an_unknown_thumbnail_is_named():
    with pytest.raises(ValueError, match="no thumbnail 'pie'"): tool.thumbnail(Paper('T', 'W', 'partly', 'S.', '1', thumb=dict(pie=[1])))

@pytest.mark.parametrize('change, says', [(dict(state='done'), 'state is'), (dict(links=[]), "needs \\['links'\\]"), (dict(method=['kd']), "did you mean 'methods'"),
                                          (dict(methods=['kdd']), "no method 'kdd'"), (dict(studies=dict(kcd='acc')), "no measure 'acc'")])
def test_a_wrong_entry_is_named(change, says):
    given = tomllib.loads((root/'sskd_tutor/data_files/gallery.toml').read_text())['kcd']
    with pytest.raises(ValueError, match=says): gallery._paper('kcd', given | change)

def test_verdicts_come_from_the_runs(monkeypatch):
    "Made-up runs: one clear difference, one within its noise, the others missing"
    import pandas as pd
    plan = studies(comparison_folder()/'gallery.toml')
    def runs(s, gaps):
        rows = [dict(method=m, seed=seed, accuracy_last=80 + seed/10 + (gap if m == s.primary[0] else 0), ece=.1) for m in s.primary
                for seed, gap in zip(s.seeds, gaps)]
        return pd.DataFrame(rows)
    none = pd.DataFrame(columns=['method', 'seed', 'accuracy_last', 'ece'])
    made = {name: (s, none) for name, s in plan.items()}
    made['kcd'] = plan['kcd'], runs(plan['kcd'], [5, 5.1, 5.2, 4.9, 5])
    made['rrd'] = plan['rrd'], runs(plan['rrd'], [1, -1, .5, -.5, .1])
    monkeypatch.setattr(gallery, '_gallery_runs', lambda: made)
    found = gallery_verdicts().set_index('study')
    assert found.verdict.to_dict() == {name: {'kcd': 'better', 'rrd': 'no difference shown'}.get(name, 'not run yet') for name in found.index}
    assert '5.04 points' in paper_verdict('kcd') and found.seeds['mixup'] == 0

def test_methods_of_the_gallery_are_methods():
    for paper in every.values(): assert set(paper.methods) <= set(methods)
