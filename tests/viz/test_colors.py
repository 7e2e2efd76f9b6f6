"""Can everybody tell the colors apart, and read the words? Color blindness is simulated by Machado, Oliveira and Fernandes (2009)."""
from itertools import combinations

import numpy as np
import pytest

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

def test_style_sheets_use_words_that_can_be_read():
    from sskd_tutor.core.files import pkg_data
    import re
    page = (pkg_data/'report_page.html').read_text()
    for theme, part in zip(ink, re.findall(r'--paper: (#\w+); --card: (#\w+); --ink: (#\w+); --soft: (#\w+)', page)):
        back, card, *words = part
        assert all(contrast(w, b) >= 4.5 for w in words for b in (back, card)), theme
