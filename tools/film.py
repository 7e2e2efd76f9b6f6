"""The looping image of the README and the first page, from the recorded run on photographs.

    python tools/film.py    writes nbs/images/film_light.gif and film_dark.gif
"""
from pathlib import Path

from sskd_tutor.core.files import pkg_data
from sskd_tutor.measure.recording import Recording
from sskd_tutor.viz.film import save_film
from sskd_tutor.viz.style import ink

images = Path(__file__).resolve().parent.parent/'nbs/images'
channel = 1   # of the recorded ones: its maps show outlines in all three stages

def main():
    rec = Recording.load(pkg_data/'photo_recording')
    for theme in ink:
        path = save_film(rec, images/f'film_{theme}.gif', channel, theme)
        print(f'{path}: {path.stat().st_size/1e3:,.0f} kB')

if __name__ == '__main__': main()
