"""What only the front page has: a real run that plays, what it gives you, the course as cards, and the site's navigation."""
import base64, io, json, re
from html import escape

import nbformat.v4 as v4
import torch
from PIL import Image
from sskd_tutor.core.files import pkg_data
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.nets.weights import fashion_teacher
from sskd_tutor.viz.film import frame
from sskd_tutor.viz.player import player

from pages import in_room, kinds, rooms_of

lessons = re.compile(r'(?ms)^(## The course\n).*?(?=^## |\Z)')
channel = 1   # of the recorded ones: its maps show outlines in all three stages
levels = dict(basics=3, method=9, depth=99)   # the last lesson of each level

def shown(html):
    "Markup on a page of the site; a markdown cell would end at its first blank line"
    out = v4.new_output('display_data', data={'text/html': html})
    return v4.new_code_cell('# drawn by the site', outputs=[out], metadata=dict(tags=['remove-input']))

def run():
    "A recorded run that plays from its start"
    rec = Recording.load(pkg_data/'example_recording')
    return shown(f'<div class="run">{player(rec, [channel], play=True, still=False).html}</div>')

# --- what it gives you, from the run of `sskd_tutor demo`

def demo_run(): return json.loads((pkg_data/'demo_run/run.json').read_text())

def sizes(info):
    "Parameters and multiply-adds of teacher and student"
    nets = dict(teacher=fashion_teacher(), student=tutorial_resnet(width=info['settings']['width'], blocks=info['settings']['blocks']))
    tables = {who: net.stage_table(torch.zeros(1, 1, 28, 28)) for who, net in nets.items()}
    return {who: (int(t.params.sum()), int(t.macs.sum())) for who, t in tables.items()}

def gives(info):
    "Three lines: how much smaller, how accurate, where it wins and where it does not"
    results, ((t_params, t_macs), (s_params, s_macs)) = info['results'], sizes(info).values()
    gain = results['distilled'] - results['labels_only']
    return (f'<ul class="gives"><li><b>{t_params/s_params:.1f} times smaller</b>: {s_params/1e3:,.0f} thousand weights instead of {t_params/1e3:,.0f}, '
            f'{s_macs/1e6:.1f} instead of {t_macs/1e6:.1f} million multiply-adds an image.</li>'
            f'<li><b>{results["distilled"]:.1f} % right</b>, the teacher {results["teacher"]:.1f} %: {gain:.1f} points more than the same student '
            'from labels alone, for as many multiply-adds (one seed, 2,000 held-out images).</li>'
            '<li><b>It starts faster, and it does not always win</b>: with more labels or a longer training its lead shrinks. '
            '<a href="lessons/better.html">Where it loses</a> is a lesson of its own.</li></ul>')

def replaced(info):
    "A control: how many stages of the teacher can be replaced before accuracy drops?"
    stages = [s for s in info['stages'] if s['stage'] != 'head']
    values = [info['results']['teacher'], *(100*s['stitched'] for s in stages), info['results']['distilled']]
    words = ['the teacher alone', *(f"the student's {', '.join(s['stage'] for s in stages[:k])}, then the rest of the teacher"
                                   for k in range(1, len(stages) + 1)), 'the student alone, with its own head']
    data = json.dumps([dict(value=round(v, 1), words=w) for v, w in zip(values, words)])
    return shown(f'''<div class="swap"><p><label for="swap">How many stages of the teacher can be replaced before accuracy drops?</label></p>
<input id="swap" type="range" min="0" max="{len(values) - 1}" step="1" value="0"><div class="level"><span></span></div><output for="swap"></output>
<script>(() => {{ const box = document.querySelector('.swap'), range = box.querySelector('input'), all = {data}
const tell = () => {{ const now = all[range.value]; box.querySelector('span').style.width = now.value + '%'
  box.querySelector('output').textContent = now.value.toFixed(1) + ' % right: ' + now.words
  range.setAttribute('aria-valuetext', now.words) }}
range.oninput = tell; tell() }})()</script></div>''')

# --- the course

def level(page):
    if not page.number: return 'practice'
    return next(name for name, last in levels.items() if int(re.match(r'\d+', page.number)[0]) <= last)

def minutes(page):
    "To read it, at 180 words a minute and half a minute for each cell of code"
    words = sum(len(c.source.split()) for c in page.nb.cells if c.cell_type == 'markdown')
    return round(words/180 + .5*sum(c.cell_type == 'code' for c in page.nb.cells), -1) or 10

def picture(page):
    "The first saved image of a lesson as a thumbnail, PNG; None without one"
    found = [o.data['image/png'] for c in page.nb.cells for o in c.get('outputs', []) if 'image/png' in o.get('data', {})]
    if not found: return None
    image = Image.open(io.BytesIO(base64.b64decode(found[0]))).convert('RGB')
    image = image.resize((480, round(480*image.height/image.width)), Image.Resampling.LANCZOS)
    image = image.crop((0, 0, 480, min(image.height, 270)))
    file = io.BytesIO()
    image.quantize(64, dither=Image.Dither.NONE).save(file, 'PNG', optimize=True)
    return file.getvalue()

def cards(pages):
    say = lambda text: re.sub('`([^`]+)`', r'<code>\1</code>', escape(text))
    def one(p):
        image = f'<img src="_static/cards/{p.path.stem}.png" alt="" width="480" height="270" loading="lazy">' if picture(p) else ''
        return (f'<a class="card" href="{p.name}.html">{image}<b>{p.number or "Appendix"}</b><strong>{say(p.title)}</strong>'
                f'<span>{say(p.subtitle)}</span><small>{level(p)} · about {minutes(p):.0f} minutes</small></a>')
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
    info = demo_run()
    words = next(i for i, c in enumerate(nb.cells) if i > 1 and c.cell_type == 'markdown')  # what it is, in a few sentences
    nb.cells[words + 1:words + 1] = [run(), v4.new_markdown_cell(gives(info)), replaced(info)]
    nb.cells = [c for c in nb.cells if 'film_light.gif' not in c.source]  # here the reader moves the run
    for c in nb.cells: c.source = lessons.sub(lambda m: f'{m[1]}\n{cards(course)}\n\n', c.source)
    start = f'"><a class="start" href="{course[0].name}.html">Start the course</a>' if course else '">'
    nb.cells[1].source = nb.cells[1].source.replace('">', start, 1)
    return nb

def pictures(pages, folder):
    "The thumbnails of the course, and the card that other sites show beside a link, into `folder`"
    (folder/'cards').mkdir(parents=True, exist_ok=True)
    for p in kinds(pages).get('The course', []):
        if image := picture(p): (folder/'cards'/f'{p.path.stem}.png').write_bytes(image)
    rec = Recording.load(pkg_data/'example_recording')
    film = frame(rec, len(rec.steps)//2, channel)
    card = Image.new('RGB', (1200, 630), 'white')
    card.paste(film.resize((1160, round(1160*film.height/film.width)), Image.Resampling.LANCZOS), (20, 40))
    card.quantize(128, dither=Image.Dither.NONE).save(folder/'card.png', optimize=True)
