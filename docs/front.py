"""What only the front page has.

A real run that plays, what it gives you, the course as cards, and the site's navigation.
"""
import base64, io, json, re
from dataclasses import dataclass
from html import escape
from string import Template

import nbformat.v4 as v4
import torch
from PIL import Image
from sskd_tutor.core.files import pkg_data
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.words import build_model
from sskd_tutor.viz.film import frame
from sskd_tutor.viz.player import player

from pages import in_room, kinds, rooms_of

lessons = re.compile(r'(?ms)^(## The course\n).*?(?=^## |\Z)')   # the section that the cards replace
channel = 1   # of the recorded ones: its maps show outlines in all three stages
levels = dict(basics=3, method=9, depth=99)   # the last lesson of each level
words_a_minute, minutes_a_cell = 180, .5      # of a reader
thumbnail_width, thumbnail_height = 480, 270  # of a lesson's image at most, in pixels
card_size = 1200, 630                         # of the image that other sites show beside a link

def shown(html):
    "Markup on a page of the site; a markdown cell would end at its first blank line"
    out = v4.new_output('display_data', data={'text/html': html})
    return v4.new_code_cell('# drawn by the site', outputs=[out], metadata=dict(tags=['remove-input']))

photos = pkg_data/'photo_recording'   # a run on photographs, of benchmarks/record_photos.py

def run():
    "A recorded run that plays from its start"
    film = player(Recording.load(photos), [channel], play=True, still=False)
    return shown(f'<div class="run">{film.html}</div>')

# --- what it gives you, from the same run

@dataclass
class Size:
    params: int
    macs: int   # multiply-adds of an image

def size_of(network):
    table = build_model(network).stage_table(torch.zeros(1, 3, 32, 32))
    return Size(int(table.params.sum()), int(table.macs.sum()))

gives_words = """\
<ul class="gives"><li><b>{smaller:.1f} times smaller</b>: \
{student_params:,.0f} thousand weights instead of {teacher_params:,.0f}, \
{student_macs:.1f} instead of {teacher_macs:.1f} million multiply-adds an image.</li>\
<li><b>{distilled:.1f} % right</b> on {n_valid:,} test images of CIFAR-100, \
the teacher {teacher_right:.1f} %: \
{gain:.1f} points more than the same student from labels alone, for as many multiply-adds \
(one seed; {n_train:,} photographs to learn from, and a teacher that has seen {seen:,}).</li>\
<li><b>It starts faster, and it does not always win</b>: \
with more labels or a longer training its lead shrinks. \
<a href="lessons/better.html">Where it loses</a> is a lesson of its own.</li></ul>"""

def gives(info):
    "Three lines: how much smaller, how accurate, where it wins and where it does not"
    results, data = info['results'], info['data']
    teacher, student = size_of('cifar:resnet56'), size_of('cifar:resnet20')
    return gives_words.format(
        n_train=data['n_train'], n_valid=data['n_valid'], seen=info['teacher']['labels_seen'],
        smaller=teacher.params/student.params,
        student_params=student.params/1e3, teacher_params=teacher.params/1e3,
        student_macs=student.macs/1e6, teacher_macs=teacher.macs/1e6,
        distilled=results['distilled'], teacher_right=results['teacher'],
        gain=results['distilled'] - results['labels_only'])

# $most is the highest position of the control, $data what it says at each
swap = Template('''\
<div class="swap"><p><label for="swap">How many stages of the teacher can be replaced before accuracy drops?\
</label></p>
<input id="swap" type="range" min="0" max="$most" step="1" value="0">\
<div class="level"><span></span></div><output for="swap"></output>
<script>(() => { const box = document.querySelector('.swap'), range = box.querySelector('input'), all = $data
const tell = () => { const now = all[range.value]; box.querySelector('span').style.width = now.value + '%'
  box.querySelector('output').textContent = now.value.toFixed(1) + ' % right: ' + now.words
  range.setAttribute('aria-valuetext', now.words) }
range.oninput = tell; tell() })()</script></div>''')

def stitched_name(stages):
    "What the network is called whose first stages are the student's"
    return f"the student's {', '.join(stages)}, then the rest of the teacher"

def replaced(info):
    "A control: how many stages of the teacher can be replaced before accuracy drops?"
    stages = [stage for stage in info['stages'] if stage['stage'] != 'head']
    names = [stage['stage'] for stage in stages]
    stitched = [100*stage['stitched'] for stage in stages]
    values = [info['results']['teacher'], *stitched, info['results']['distilled']]
    words = ['the teacher alone']
    for k in range(1, len(names) + 1): words.append(stitched_name(names[:k]))
    words.append('the student alone, with its own head')
    data = json.dumps([dict(value=round(value, 1), words=said) for value, said in zip(values, words)])
    return shown(swap.substitute(most=len(values) - 1, data=data))

# --- the course

def level(page):
    "The name of a lesson's level"
    if not page.number: return 'practice'
    number = int(re.match(r'\d+', page.number)[0])
    return next(name for name, last in levels.items() if number <= last)

def minutes(page):
    "How long it takes to read, to the nearest ten"
    texts = [c.source for c in page.nb.cells if c.cell_type == 'markdown']
    words = sum(len(text.split()) for text in texts)
    code_cells = sum(c.cell_type == 'code' for c in page.nb.cells)
    return round(words/words_a_minute + minutes_a_cell*code_cells, -1) or 10

def saved_images(page):
    "The PNG images among the outputs of a notebook, as saved there"
    outputs = [out for c in page.nb.cells for out in c.get('outputs', [])]
    return [out.data['image/png'] for out in outputs if 'image/png' in out.get('data', {})]

def as_png(image, colors):
    "A small file: few colors, no dithering"
    file = io.BytesIO()
    image.quantize(colors, dither=Image.Dither.NONE).save(file, 'PNG', optimize=True)
    return file.getvalue()

def scaled(image, width):
    return image.resize((width, round(width*image.height/image.width)), Image.Resampling.LANCZOS)

def picture(page):
    "The first saved image of a lesson as a thumbnail, PNG; None without one"
    found = saved_images(page)
    if not found: return None
    image = Image.open(io.BytesIO(base64.b64decode(found[0]))).convert('RGB')
    image = scaled(image, thumbnail_width)
    image = image.crop((0, 0, thumbnail_width, min(image.height, thumbnail_height)))
    return as_png(image, 64)

def with_code(text):
    "A title in markdown as HTML: what stands in backticks is code"
    return re.sub('`([^`]+)`', r'<code>\1</code>', escape(text))

def card(page):
    "A lesson's card: a link with an image, its number, title, level and length"
    image = ''
    if picture(page):
        image = (f'<img src="_static/cards/{page.path.stem}.png" alt="" '
                 f'width="{thumbnail_width}" height="{thumbnail_height}" loading="lazy">')
    number = page.number or 'Appendix'
    return (f'<a class="card" href="{page.name}.html">{image}'
            f'<b>{number}</b><strong>{with_code(page.title)}</strong>'
            f'<span>{with_code(page.subtitle)}</span>'
            f'<small>{level(page)} · about {minutes(page):.0f} minutes</small></a>')

def cards(pages):
    every = ''.join(map(card, pages))
    return f'<div class="cards">{every}</div>'

# --- navigation

def toctree(caption, pages):
    "A part of the table of contents, as sphinx wants it"
    entries = [page.entry for page in pages]
    lines = ['```{toctree}', ':hidden:', f':caption: {caption}', '', *entries, '```']
    return v4.new_markdown_cell('\n'.join(lines))

def parts_of(kind, pages):
    "(caption, pages) of a kind's parts of the table of contents; the reference has one for each room"
    if kind != 'Reference': return [(kind, pages)]
    return [(f'Reference: {room or "the whole"}', in_room(pages, room)) for room in rooms_of(pages)]

def navigation(pages, page):
    "The table of contents, which only the front page has"
    if page is not pages[0]: return []
    parts = []
    for kind, found in kinds(pages).items(): parts += parts_of(kind, found)
    return [toctree(caption, found) for caption, found in parts]

# --- the page

def front(nb, pages):
    "The notebook's page with what only the site can show"
    course = kinds(pages).get('The course', [])
    add_run(nb)
    nb.cells = [c for c in nb.cells if 'film_light.gif' not in c.source]  # here the reader moves the run
    add_cards(nb, course)
    if course: add_start(nb, course[0])
    return nb

def add_run(nb):
    "The recorded run, below the few sentences that say what the package is"
    info = json.loads((photos/'run.json').read_text())
    words = next(i for i, c in enumerate(nb.cells) if i > 1 and c.cell_type == 'markdown')
    nb.cells[words + 1:words + 1] = [run(), v4.new_markdown_cell(gives(info)), replaced(info)]

def add_cards(nb, course):
    "In place of what the section on the course says"
    def with_cards(m): return f'{m[1]}\n{cards(course)}\n\n'
    for c in nb.cells: c.source = lessons.sub(with_cards, c.source)

def add_start(nb, first):
    "One more button, in front of those that every page has"
    start = f'"><a class="start" href="{first.name}.html">Start the course</a>'
    nb.cells[1].source = nb.cells[1].source.replace('">', start, 1)

# --- files

def pictures(pages, folder):
    "The thumbnails of the course, and the card that other sites show beside a link, into `folder`"
    (folder/'cards').mkdir(parents=True, exist_ok=True)
    for page in kinds(pages).get('The course', []):
        image = picture(page)
        if image: (folder/'cards'/f'{page.path.stem}.png').write_bytes(image)
    (folder/'card.png').write_bytes(as_png(run_card(), 128))

def run_card():
    "The recorded run in the middle of its way, on white"
    recording = Recording.load(photos)
    film = frame(recording, len(recording.steps)//2, channel)
    image = Image.new('RGB', card_size, 'white')
    image.paste(scaled(film, 1160), (20, 40))
    return image
