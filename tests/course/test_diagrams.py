"""The drawn diagrams: in step with their code, readable on light and dark, described in words."""
import re, sys
import xml.etree.ElementTree as ET

import nbformat
import pytest

from conftest import root

sys.path.insert(0, str(root/'tools'))
from diagrams import drawings, write
from drawing import filled, ink, line, on, paper, part_colors, soft

from sskd_tutor.viz.style import contrast

folder, svg = root/'nbs/images', '{http://www.w3.org/2000/svg}'
lessons = {p: nbformat.read(p, 4) for p in sorted((root/'nbs/lessons').glob('*.ipynb'))}

def test_in_step(tmp_path):
    for path in write(tmp_path):
        assert path.read_text() == (folder/path.name).read_text(), f'{path.name} is old: make diagrams'
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in folder.glob('diagram_*.svg')}

@pytest.mark.parametrize('draw', drawings, ids=lambda d: d.__name__)
def test_says_what_it_shows(draw):
    d = draw()
    tree = ET.fromstring(d.svg())
    assert tree.find(f'{svg}title').text == d.title and tree.find(f'{svg}desc').text == d.alt
    assert len(d.alt.split()) > 25

@pytest.mark.parametrize('draw', drawings, ids=lambda d: d.__name__)
def test_words_stay_on_the_card(draw):
    "By a generous width of a letter; what is anchored in the middle reaches half as far"
    d = draw()
    for text in ET.fromstring(d.svg()).iter(f'{svg}text'):
        kind, words = text.get('class') or '', ''.join(text.itertext())
        wide = len(words)*(11.5 if 'title' in kind else 6.6 if 'tiny' in kind else 7.4)
        x, middle = float(text.get('x')), text.get('text-anchor') == 'middle'
        assert x - middle*wide/2 > 0 and x + wide/(1 + middle) < d.width, words
        assert 0 < float(text.get('y')) < d.height

def test_words_can_be_read():
    for theme in ('light', 'dark'):
        assert contrast(ink[theme], paper[theme]) > 7 and contrast(soft[theme], paper[theme]) > 4.5
        assert contrast(line[theme], paper[theme]) > 1.2
    words = dict(on='#FFFFFF', onlight='#14171C')
    for color in part_colors: assert contrast(words[on(color)], color) > 4.5
    assert contrast('#FFFFFF', filled) > 4.5

def test_lessons_show_them_with_alt_text():
    shown = {}
    for path, nb in lessons.items():
        for alt, name in re.findall(r'!\[([^\]]*)\]\(\.\./images/diagram_(\w+)\.svg\)', '\n'.join(c.source for c in nb.cells)):
            shown.setdefault(name, []).append((path.stem, alt))
    for draw in drawings:
        d = draw()
        assert d.name in shown, f'no lesson shows {d.name}'
        for where, alt in shown[d.name]: assert alt == d.alt, f'{where}: another alt text for {d.name}'
