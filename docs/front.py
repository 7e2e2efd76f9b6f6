"""What only the front page has: a real run to move through, the course as cards, and the navigation of the whole site."""
import json, re
from html import escape

import nbformat.v4 as v4
from sskd_tutor.core.files import pkg_data
from sskd_tutor.viz.motion import animated
from sskd_tutor.viz.maps import map_wall
from sskd_tutor.viz.alignment import measure_curves
from sskd_tutor.measure.recording import Recording

from convert import figure
from pages import in_room, kinds, rooms_of

size = 1_500_000  # bytes of JSON for all moments of a figure: every moment of the run that travels with the package
lessons = re.compile(r'(?ms)^(## The course\n).*?(?=^## |\Z)')

def wall(rec, step, theme):
    "The maps of the stage that learns at this moment; of the first one before, of the last one after"
    phase = rec.steps.phase.iloc[step]
    return map_wall(rec, phase if phase in rec.stages else rec.stages[0 if phase == 'start' else -1], step, theme=theme)

def curve(rec, step, theme): return measure_curves(rec, 'nmse', theme, step)

def opened_at(fig, k):
    "The figure as its frame k has it"
    f = fig.frames[k]
    for place, part in zip(f.traces, f.data): fig.data[place].update(part.to_plotly_json())
    fig.update_layout(f.layout.to_plotly_json()).layout.sliders[0].active = k
    return fig

def without_slider(fig):
    "Its moments are chosen by another figure"
    fig.layout.sliders, fig.layout.updatemenus = (), ()
    return fig.update_layout(height=fig.layout.height - 96, margin_b=fig.layout.margin.b - 96)

def run():
    "One slider over a recorded run; it moves both figures"
    rec = Recording.load(pkg_data/'example_recording')
    looks, epochs = len(rec.steps), sum(rec.schedule.values())
    say = (f'A real run, looked at {looks} times in {epochs} epochs. Move the slider: one stage after the other learns to see '
           "what its teacher sees, and the difference fades. The line below says how much of the teacher's signal is missing.")
    start = int((rec.steps.phase == rec.stages[0]).to_numpy().nonzero()[0][-1])  # one stage has learned
    figs = [opened_at(animated(f, rec, size), start) for f in (wall, curve)]
    figs[1] = without_slider(figs[1])
    return f'<div class="run"><p>{say}</p>{"".join(figure(json.loads(f.to_json())) for f in figs)}</div>'

def cards(pages):
    say = lambda text: re.sub('`([^`]+)`', r'<code>\1</code>', escape(text))
    def one(p):
        return (f'<a class="card" href="{p.name}.html"><b>{p.number or "Appendix"}</b>'
                f'<strong>{say(p.title)}</strong><span>{say(p.subtitle)}</span></a>')
    return f'<div class="cards">{"".join(map(one, pages))}</div>'

def toctree(entries, caption=''):
    head = ['```{toctree}', ':hidden:', *[f':caption: {caption}']*bool(caption), '']
    return v4.new_markdown_cell('\n'.join([*head, *entries, '```']))

def navigation(pages, page):
    "On the front page, the table of contents: a part for the course, the tasks and the guides, and one for each room"
    if page is not pages[0]: return []
    parts = []
    for kind, found in kinds(pages).items():
        if kind == 'Reference': parts += [(f'Reference: {room or "the whole"}', in_room(found, room)) for room in rooms_of(found)]
        else: parts.append((kind, found))
    return [toctree([p.entry for p in found], caption) for caption, found in parts]

def front(nb, pages):
    "The notebook's page with what only the site can show"
    course = kinds(pages).get('The course', [])
    words = next(i for i, c in enumerate(nb.cells) if i > 1 and c.cell_type == 'markdown')  # what it is, in a few sentences
    nb.cells.insert(words + 1, v4.new_markdown_cell(run()))
    nb.cells = [c for c in nb.cells if 'film_light.gif' not in c.source]  # here the reader moves the run
    for c in nb.cells: c.source = lessons.sub(lambda m: f'{m[1]}\n{cards(course)}\n\n', c.source)
    start = f'"><a class="start" href="{course[0].name}.html">Start the course</a>' if course else '">'
    nb.cells[1].source = nb.cells[1].source.replace('">', start, 1)
    return nb
