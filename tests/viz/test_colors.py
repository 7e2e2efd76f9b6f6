"""Can everybody tell the colors apart, and read the words? Color blindness is simulated by Machado, Oliveira and Fernandes (2009)."""
import re
from itertools import combinations

import numpy as np
import plotly.graph_objects as go
import pytest

from conftest import root
from sskd_tutor.viz.style import (class_colors, class_symbols, contrast, ink, mask_colors, method_colors, paper, stage_colors,
                                  text_color, text_swaps)

blind = dict(
    nobody=np.eye(3),
    protanope=[[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]],
    deuteranope=[[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]],
    tritanope=[[1.255528, -.076749, -.178779], [-.078411, .930809, .147602], [.004733, .691367, .303900]])
to_xyz = np.array([[.4124564, .3575761, .1804375], [.2126729, .7151522, .0721750], [.0193339, .1191920, .9503041]])

def linear(color):
    v = np.array(list(bytes.fromhex(color[1:])))/255
    return np.where(v <= .04045, v/12.92, ((v + .055)/1.055)**2.4)

def lab(rgb):
    "CIELAB of linear RGB"
    t = to_xyz @ rgb/np.array([.95047, 1, 1.08883])
    x, y, z = np.where(t > .008856, np.cbrt(t), 7.787*t + 16/116)
    return np.array([116*y - 16, 500*(x - y), 200*(y - z)])

def apart(a, b):
    "The distance of two colors to whom it is smallest; from about 10 on two patches differ at a glance"
    seen = [[lab(np.clip(np.array(m) @ linear(c), 0, 1)) for c in (a, b)] for m in blind.values()]
    return min(np.linalg.norm(x - y) for x, y in seen)

def test_the_simulation_knows_a_confusion():
    assert apart('#0072B2', '#8C6BB1') < 5 and apart('#A0A000', '#E69F00') < 10 and apart('#000000', '#FFFFFF') > 90

def test_classes_with_one_symbol_differ_for_everybody():
    "Before, the sixth to the tenth class shared one symbol, sandal's brown and shirt's among them"
    assert len(class_symbols) == len(class_colors)
    same = [(i, j) for i, j in combinations(range(len(class_colors)), 2) if class_symbols[i] == class_symbols[j]]
    close = {(i, j): round(apart(class_colors[i], class_colors[j])) for i, j in same if apart(class_colors[i], class_colors[j]) < 30}
    assert close == {}

@pytest.mark.parametrize('colors', [stage_colors, [*stage_colors[:4], method_colors['distilled']], list(method_colors.values()),
                                    mask_colors[:7]], ids=['stages', 'stages and head', 'methods', 'masks'])
def test_colors_that_stand_beside_each_other_differ(colors):
    assert min(apart(a, b) for a, b in combinations(colors, 2)) > 13

@pytest.mark.parametrize('theme', ink)
def test_words_can_be_read(theme):
    "WCAG 2.1 asks for 4.5"
    for color in {*stage_colors, *class_colors, *method_colors.values()}:
        assert contrast(text_color(color, theme), paper[theme]) >= 4.5
    assert all(contrast(light, paper['light']) >= 4.5 <= contrast(dark, paper['dark']) for light, dark in text_swaps().items())

def test_words_of_the_lessons_can_be_read():
    "A name in the color of its line or of its stage: the orange of a line is too pale for letters"
    from sskd_tutor.course.figures import named_lines, to_scale
    from sskd_tutor.nets.small import tutorial_resnet
    from sskd_tutor.viz.walls import as_seen, ten_images
    lines = named_lines({name: ([1, 2], [i, i]) for i, name in enumerate('abcde')}, 'title', 'x', 'y')
    ten = ten_images()
    blocks = to_scale({'a student': tutorial_resnet(width=2, blocks=1)}, as_seen(ten)[:1], ten.x[0])
    colors = [t.textfont.color for t in lines.data if t.mode == 'text']
    colors += [a.font.color for a in blocks.layout.annotations if a.font.color]
    assert len(colors) == 8 and all(contrast(color, paper['light']) >= 4.5 for color in colors)

def known_colors():
    "All that stands in `viz.style`, in capitals"
    from sskd_tutor.viz import style
    values, found = list(vars(style).values()), set()
    while values:
        v = values.pop()
        if isinstance(v, dict): values += list(v.values())
        elif isinstance(v, list): values += v
        elif isinstance(v, str) and re.fullmatch('#[0-9A-F]{6}', v): found.add(v)
    return found

def test_one_module_has_the_colors():
    "Python takes a color by its name; style sheets and pages, which cannot, repeat a known code"
    code = re.compile(r'#[0-9a-fA-F]{6}(?![0-9a-fA-F])')
    sources = [*root.glob('sskd_tutor/**/*.py'), *root.glob('tools/*.py'), *root.glob('docs/*.py')]
    strangers = {f.name: found for f in sources if f.name not in ('style.py', '_modidx.py')
                 and (found := [c for line in f.read_text().splitlines() if not line.startswith('# %%') for c in code.findall(line)])}
    assert strangers == {}
    for f in [*root.glob('sskd_tutor/data_files/*.css'), *root.glob('sskd_tutor/data_files/*.html'), *root.glob('docs/_static/*.css')]:
        assert {c.upper() for c in code.findall(f.read_text())} <= known_colors(), f.name

def test_no_method_has_the_color_of_a_stage():
    "Methods are told apart by shape and place; one of them stands out"
    from sskd_tutor.compare.methods import methods
    from sskd_tutor.viz.comparison import look
    looks = {name: look(name) for name in methods}
    assert not {one.color for one in looks.values()} & set(stage_colors)
    assert {one.family for one in looks.values() if one.color == method_colors['distilled']} == {'stage by stage'}
    assert {one.family for one in looks.values() if one.color == method_colors['labels_only']} == {'labels'}
    others = [one.symbol for one in looks.values() if one.family != 'stage by stage']
    assert len(set(others)) == len(others)

def test_lines_of_methods_that_learn_from_logits_are_dashed():
    from sskd_tutor.viz.comparison import add_marks
    fig = go.Figure()
    for method in ('kd', 'simkd', 'sskd', 'labels'): add_marks(fig, method, [0, 1], [0, 1], ['', ''])
    assert [line.line.dash for line in fig.data] == ['dash', 'solid', 'solid', 'solid']

def test_style_sheets_use_words_that_can_be_read():
    from sskd_tutor.core.files import pkg_data
    page = (pkg_data/'report_page.html').read_text()
    parts = re.findall(r'--paper: (#\w+); --card: (#\w+); --ink: (#\w+); --soft: (#\w+)', page)
    assert len(parts) == len(ink)
    for theme, (back, card, *words) in zip(ink, parts):
        assert all(contrast(w, b) >= 4.5 for w in words for b in (back, card)), theme
