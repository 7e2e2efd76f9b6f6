"""What the drawn diagrams share: a card, its colors, boxes, arrows, words."""
import base64
from dataclasses import dataclass, field
from html import escape
from io import BytesIO

from PIL import Image

from sskd_tutor.data.images import embedded_fashion, vocab
from sskd_tutor.viz.style import (hairline as line, ink, method_colors, paper, pill as filled, ring, soft,
    stage_colors)

blue, orange, green = stage_colors[:3]
purple, gray = method_colors['distilled'], method_colors['teacher']
part_colors = [blue, orange, green, purple]
part_names = ['stage 1', 'stage 2', 'stage 3', 'head']

# of every card; colors are filled in, and braces of CSS are doubled
style = '''
:root {{ --paper: {paper[light]}; --ink: {ink[light]}; --soft: {soft[light]}; --line: {line[light]} }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: {paper[dark]}; --ink: {ink[dark]}; --soft: {soft[dark]}; --line: {line[dark]} }} }}
text {{ font-family: Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; font-size: 15px; \
fill: var(--ink) }}
.title {{ font-size: 22px; font-weight: 600 }} .sub, .soft {{ fill: var(--soft) }} \
.small {{ font-size: 13px }}
.tiny {{ font-size: 12px }} .bold {{ font-weight: 600 }} \
.math {{ font-style: italic; font-family: Georgia, serif }}
.on {{ fill: #fff }} .onlight {{ fill: {ink[light]} }} \
.wire {{ stroke: var(--soft); stroke-width: 2; fill: none }} .ring {{ fill: {ring} }}
'''

def attribute(name, value):
    "`_` in a name stands for `-`, a trailing one is dropped"
    name = name.rstrip('_').replace('_', '-')
    return f'{name}="{escape(str(value))}"'

def look_of(state, color):
    "How a box shows its state"
    looks = dict(
        solid=dict(fill=color, stroke=color),
        dashed=dict(fill=color, fill_opacity=.16, stroke=color, stroke_dasharray='6 4'),
        frozen=dict(fill=color, fill_opacity=.34, stroke=color),
        off=dict(fill='none', stroke='var(--line)', stroke_dasharray='2 5'))
    return looks[state]

def arrow_head(start, end):
    "The three corners of an arrow's head at `end`"
    (x0, y0), (x, y) = start, end
    length = ((x - x0)**2 + (y - y0)**2)**.5
    u, v = (x - x0)/length, (y - y0)/length   # the direction
    return [(x + 5*u, y + 5*v), (x - 6*u - 5*v, y - 6*v + 5*u), (x - 6*u + 5*v, y - 6*v - 5*u)]

@dataclass
class Drawing:
    "A card on which shapes are put one after the other"
    name: str      # of the file: diagram_<name>.svg
    title: str     # the finding
    alt: str       # what it shows, in words
    width: int = 1080
    height: int = 460
    shapes: list = field(default_factory=list)

    def add(self, tag, text=None, **attrs):
        "One element; `_` in the name of an attribute stands for `-`"
        given = ' '.join(attribute(name, value) for name, value in attrs.items())
        self.shapes.append(f'<{tag} {given}/>' if text is None else f'<{tag} {given}>{text}</{tag}>')

    def words(self, x, y, text, kind='', anchor='middle', **attrs):
        "A line of text; `*a*` is set as mathematics, `_2` after it as an index"
        self.add('text', mathematics(text), x=x, y=y, class_=kind, text_anchor=anchor, **attrs)

    def box(self, x, y, w, h, color, state='solid', r=9):
        "solid: learns or belongs to the student; dashed: the teacher's; off: does not run"
        self.add('rect', x=x, y=y, width=w, height=h, rx=r, stroke_width=2, **look_of(state, color))

    def arrow(self, *points, color='var(--soft)', dash=''):
        "A line through the points with a head at its end"
        path = 'M' + ' L'.join(f'{x},{y}' for x, y in points)
        more = dict(stroke_dasharray=dash) if dash else {}
        self.add('path', d=path, stroke=color, stroke_width=2, fill='none', stroke_linejoin='round', **more)
        corners = ' '.join(f'{x:.1f},{y:.1f}' for x, y in arrow_head(*points[-2:]))
        self.add('polygon', points=corners, fill=color)

    def dot(self, x, y, color, r=6):
        self.add('circle', cx=x, cy=y, r=r, fill='var(--paper)', stroke=color, stroke_width=3)

    def pill(self, x, y, w, text, color=filled, h=30, kind='small bold on'):
        "A rounded label around its middle"
        self.add('rect', x=x - w/2, y=y - h/2, width=w, height=h, rx=h/2, fill=color)
        self.words(x, y + 5, text, kind)

    def lock(self, x, y, color='var(--ink)'):
        "A small padlock around its middle: stands still"
        self.add('path', d=f'M{x-4},{y-2} v-3 a4,4 0 0 1 8,0 v3', stroke=color, stroke_width=2, fill='none')
        self.add('rect', x=x - 6, y=y - 2, width=12, height=9, rx=2, fill=color)

    def svg(self):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" aria-labelledby="t d">')
        card = (f'<rect x="1" y="1" width="{self.width - 2}" height="{self.height - 2}" rx="18" '
            'fill="var(--paper)" stroke="var(--line)"/>')
        said = f'<title id="t">{escape(self.title)}</title><desc id="d">{escape(self.alt)}</desc>'
        look = style.format(paper=paper, ink=ink, soft=soft, line=line, ring=ring)
        top = f'<text class="title" x="36" y="50">{escape(self.title)}</text>'
        return '\n'.join([head, said, f'<style>{look}</style>', card, top, *self.shapes, '</svg>', ''])

def on(color):
    "The class of words on a filled part: white only where it can be read"
    return 'on' if color == blue else 'onlight'

def symbol(text):
    "A letter in italics, with what follows `_` as its index"
    letter, _, index = text.partition('_')
    letter = f'<tspan class="math">{escape(letter)}</tspan>'
    if not index: return letter
    return f'{letter}<tspan dy="4" font-size="70%">{escape(index)}</tspan><tspan dy="-4">\u200b</tspan>'

def mathematics(text):
    "`*s_2*` as an italic s with an index"
    parts = text.split('*')   # by turns outside and inside of asterisks
    return ''.join(symbol(part) if i % 2 else escape(part) for i, part in enumerate(parts))

# --- what the drawings share

def garment(name='shirt', i=9):
    "A test image of a class as a data URL"
    clothes = embedded_fashion('valid')
    of_class = (clothes.y == vocab.index(name)).nonzero()[:, 0]
    pixels = clothes.x[of_class[i], 0].numpy()
    file = BytesIO()
    Image.fromarray(pixels).resize((112, 112), Image.Resampling.BILINEAR).save(file, 'png')
    return f'data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}'

def tile(d, x, y, side):
    "The image that both networks see"
    d.add('clipPath', f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="8"/>', id='round')
    d.add('image', href=garment(), x=x, y=y, width=side, height=side, clip_path='url(#round)')
    d.add('rect', x=x, y=y, width=side, height=side, rx=8, fill='none', stroke='var(--line)')

@dataclass
class Slabs:
    "Three stages and a head in a row: height is the side of the map, width its channels"
    lefts: list
    widths: list
    heights: list
    middle: int    # the line around which they stand

    def center(self, k): return self.lefts[k] + self.widths[k]/2
    def top(self, k): return self.middle - self.heights[k]//2
    def bottom(self, k): return self.middle + self.heights[k]//2

def slabs(d, row, state, shapes=(), names=True):
    "Draw a row, with the shapes of its taps below and arrows between"
    kind = 'small bold {}' if state == 'solid' else 'small bold'
    for k, (x, h, w) in enumerate(zip(row.lefts, row.heights, row.widths)):
        d.box(x, row.middle - h/2, w, h, part_colors[k], state)
        if names: d.words(row.center(k), row.middle + 5, part_names[k], kind.format(on(part_colors[k])))
        if k < len(shapes): d.words(row.center(k), row.middle + h/2 + 21, shapes[k], 'tiny soft')
    for k in range(3):
        d.arrow((row.lefts[k] + row.widths[k] + 3, row.middle), (row.lefts[k+1] - 9, row.middle))

def bars(d, x, y, heights, color, names=(), state='solid', w=20):
    "Probabilities of a few classes, standing on y"
    for i, h in enumerate(heights):
        left = x + i*(w + 8)
        d.box(left, y - h, w, h, color, state, r=3)
        if names: d.words(left + w/2, y + 16, names[i], 'tiny soft')
    d.add('path', d=f'M{x-6},{y} h{len(heights)*(w+8)+4}', class_='wire', stroke_width=1)
