"""A recorded run in a page: it plays, every control can be reached by the keyboard, maps lie over their image at every width."""
import re

import numpy as np
import pytest

import test_browser
from sskd_tutor.core.files import pkg_data
from sskd_tutor.measure.recording import Recording
from sskd_tutor.viz.player import distinct, player, player_page

browser, page, shots = test_browser.browser, test_browser.page, test_browser.shots  # its fixtures

@pytest.fixture(scope='module')
def rec(): return Recording.load(pkg_data/'example_recording')

@pytest.fixture(scope='module')
def file(rec, tmp_path_factory):
    path = tmp_path_factory.mktemp('player')/'run.html'
    path.write_text(player_page(rec, 'A run & more <b>'))
    return path

def test_every_moment_is_kept_and_the_page_stays_small(rec, file):
    assert len(player(rec, [1]).html) < 200_000 and file.stat().st_size < 600_000
    assert player(rec, [1]).html.count('"say"') == len(rec.steps)
    assert len(repr(player(rec, [1]))) < 300, "a notebook stores it beside the page"

def test_nothing_is_lost_where_maps_repeat(rec):
    for stage in rec.stages:
        maps = rec.maps['student', stage]
        kept, places = distinct(maps)
        assert np.array_equal(kept[places], maps)

def test_names_are_text(rec, file):
    text = file.read_text()
    assert '<b>' not in re.search('(?s)<h1>(.*?)</h1>', text)[1] and text.count('name="viewport"') == text.count('<h1') == 1
    from dataclasses import replace
    evil = replace(rec, vocab=['</script><script>alert(1)</script>', *rec.vocab[1:]])
    assert 'alert(1)</script>' not in player(evil, [1]).html

shown = """() => [...document.querySelectorAll('.sskd-film .line canvas')].map(c => c.getBoundingClientRect()).filter(r => r.width)"""
inks = "i => { const c = document.querySelectorAll('.block.shown .line')[i].querySelector('canvas'); return c.toDataURL() }"

@pytest.mark.browser
def test_it_plays_and_obeys_the_keyboard(page, file):
    page.emulate_media(reduced_motion='reduce')
    page.goto(file.as_uri())
    film = page.locator('.sskd-film[data-on=ready]')
    film.wait_for()
    step = lambda: int(film.get_attribute('data-step'))
    assert step() == 0, "who asked for less motion starts the film"
    page.keyboard.press('Tab')
    assert page.evaluate("document.activeElement.className") == 'play'
    page.keyboard.press('Enter')
    page.wait_for_function("+document.querySelector('.sskd-film').dataset.step >= 2")
    page.keyboard.press('Enter')
    assert film.locator('.play').get_attribute('aria-label') == 'Play'
    slider = film.locator('input[type=range]')
    slider.focus()
    page.keyboard.press('End')
    page.wait_for_function("document.querySelector('.sskd-film').dataset.step === '34'")
    assert film.locator('.block .lock').count() == 3 and 'The student now gets' in film.locator('.say').inner_text()
    film.locator('.chapters button', has_text='stage2').click()
    assert '11' == film.get_attribute('data-step') and film.locator('.block .lock').count() == 1
    states = [b.get_attribute('class').split()[1] for b in film.locator('.block').all()]
    assert states == ['frozen', 'learns', 'waits']
    before = page.evaluate(inks, 2), page.evaluate(inks, 1)
    slider.focus()
    page.keyboard.press('ArrowRight')
    after = page.evaluate(inks, 2), page.evaluate(inks, 1)
    assert after[0] != before[0] and after[1] == before[1], "the student moves, the teacher stands still"
    film.locator('.pick button.image').nth(4).click()
    assert page.evaluate(inks, 1) != after[1]
    assert 'step=12&image=4' in page.url
    page.reload()
    film.wait_for()
    assert step() == 12 and film.locator('.pick [aria-pressed=true]').get_attribute('value') == '4', "the state is in the link"

@pytest.mark.browser
@pytest.mark.parametrize('width', [390, 1440])
def test_maps_are_square_and_lie_over_their_image(page, file, width):
    page.set_viewport_size(dict(width=width, height=1000))
    for theme in ('light', 'dark'):
        page.emulate_media(reduced_motion='reduce', color_scheme=theme)
        page.goto(file.as_uri() + '#step=15')
        page.locator('.sskd-film[data-on=ready]').wait_for()
        boxes = page.evaluate(shown)
        columns = {round(b['x']) for b in boxes}
        assert all(abs(b['width'] - b['height']) < 1 for b in boxes) and min(b['width'] for b in boxes) > 50
        assert len(columns) == len(boxes)/4 == (4 if width < 600 else 12), "four rows, one below the other"
        assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0
        ink = page.locator('.block.shown .head b').evaluate('el => getComputedStyle(el).color')
        assert (sum(map(float, re.findall(r'[\d.]+', ink)[:3])) > 384) == (theme == 'dark')
        page.screenshot(path=shots/f'player_{theme}_{width}.png')
