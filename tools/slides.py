"""A deck of slides for each lesson, into _course/slides, made of what the notebooks hold.

Headings begin slides; text, tables, short code and figures follow; long code stays away. reveal.js lies
beside them, so they need no network.

    python tools/slides.py [01_first ...]
"""
import re, shutil, sys, tempfile
from base64 import b64encode
from html import escape
from importlib.resources import files
from pathlib import Path

from latex2mathml.converter import convert
from nbconvert.filters import Highlight2HTML, markdown2html_mistune
from nbdev.config import get_config

from course import absolute, chosen, plain, read_lesson
from figures import draw, figures_in
from twins import figure_of
from sskd_tutor.viz.style import with_colors

room = 1000        # letters of text that a slide takes
code_lines = 12    # longer code is not shown
text_length = 200  # letters of an output that still stands below its code
image_types = dict(svg='image/svg+xml', png='image/png', gif='image/gif')

page = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">\
<title>{title}</title>
<link rel="stylesheet" href="reveal/reset.css"><link rel="stylesheet" href="reveal/reveal.css">
<link rel="stylesheet" href="reveal/theme/white.css"><link rel="stylesheet" href="slides.css"></head>
<body><div class="reveal"><div class="slides">
{slides}
</div></div><script src="reveal/reveal.js"></script><script src="slides.js"></script></body></html>
"""
css = """
.reveal { font: 25px/1.4 system-ui, 'DejaVu Sans', sans-serif; color: #222 }
.reveal .slides { text-align: left }
.reveal :is(h1, h2, h3) { font-family: inherit; text-transform: none; letter-spacing: 0; margin: 0 0 .5em; \
color: $focus }
.reveal h1 { font-size: 2em } .reveal h2 { font-size: 1.35em } .reveal h3 { font-size: 1.2em }
.reveal :is(p, li) { margin: .45em 0 } .reveal :is(ul, ol) { display: block; margin-left: 1.2em }
.reveal blockquote { width: auto; box-shadow: none; background: none; font-style: normal; \
margin: 0; padding: 0; color: #555 }
.reveal pre { width: 100%; box-sizing: border-box; box-shadow: none; font-size: .72em }
.reveal pre { line-height: 1.4; background: $card_light; padding: .8em }
.reveal pre { overflow: hidden; white-space: pre-wrap }
.reveal code { font-family: 'DejaVu Sans Mono', monospace; font-size: .88em; background: $card_light }
.reveal pre code { background: none; font-size: 1em }
.reveal table { font-size: .72em } .reveal :is(th, td) { padding: .25em .7em; border-bottom: 1px solid #ddd }
.reveal table.dataframe { margin: 0 }
.reveal img.figure { display: block; width: 1160px; height: 640px; object-fit: contain; margin: 0 auto }
.reveal a { color: $focus }
"""
js = """
const deck = new Reveal({ width: 1240, height: 700, margin: .03, hash: true, slideNumber: true, \
transition: 'none', center: false,
    navigationMode: 'linear', pdfSeparateFragments: false })
const fit = s => { \
for (let size = 25; s.scrollHeight > 700 && size > 13; size--) s.style.fontSize = size + 'px' }
deck.on('slidechanged', e => fit(e.currentSlide))
deck.initialize().then(() => fit(deck.getCurrentSlide()))
"""

def with_math(text):
    "Formulas as MathML, which the browser draws itself"
    text = re.sub(r'\$\$(.+?)\$\$', lambda m: convert(m[1], display='block'), text, flags=re.S)
    return re.sub(r'\$([^$\n]+)\$', lambda m: convert(m[1]), text)

def data_url(file):
    "A file as an address that holds it"
    content = b64encode(file.read_bytes()).decode()
    return f'data:{image_types[file.suffix[1:]]};base64,{content}'

def with_images(html):
    "Drawings of the notebooks inside the page, which needs no network then"
    folder = Path(__file__).parents[1]/'nbs/images'
    def inside(found): return f'src="{data_url(folder/found[1])}"'
    return re.sub(r'src="https://raw\.githubusercontent\.com/[^"]*/nbs/images/([\w.]+)"', inside, html)

def as_html(text):
    html = markdown2html_mistune(with_math(text))
    return with_images(html.replace('&#182;', '').replace('¶', ''))   # the marks after headings

def blocks(text):
    "Paragraphs, lists, tables, fences; each whole"
    found = re.split(r'\n\s*\n(?![ \t])', text.strip())
    return [block for block in found if block.strip()]

class Deck:
    "Slides in columns, one for each `##`; what stands under a heading shares slides as long as there is room"
    def __init__(self):
        self.columns, self.heading = [[]], ''
        self.held, self.size = [], 0   # of the slide in the making; size in letters of text

    def flush(self):
        "Finish the slide in the making"
        if self.held: self.columns[-1].append('\n'.join([self.heading, *self.held]))
        self.held, self.size = [], 0

    def add(self, html, size):
        if self.size + size > room: self.flush()
        self.held.append(html)
        self.size += size

    def text(self, md):
        for block in blocks(md):
            heading = re.match(r'(#+) .+\n*', block)
            if heading:
                self.begin(heading[0], level=len(heading[1]))
                block = block[heading.end():]
            if block.strip(): self.add(as_html(block), len(block))

    def begin(self, heading, level):
        "A new slide, in a new column if the heading is of the first or second level"
        self.flush()
        if level <= 2: self.columns.append([])
        self.heading = as_html(heading)
        if level == 1 and self.columns == [[], []]: self.held.append('')  # the title alone is a slide, too

    def code(self, code, said):
        lines = 2 + code.count('\n') + said.count('\n') + bool(said)
        self.add(Highlight2HTML()(code, language='python') + said, 45*lines)

    def table(self, html): self.add(html, 70*html.count('<tr'))

    def figure(self, src):
        self.flush()
        self.columns[-1].append(f'<img class="figure" alt="" src="{src}">')

    def html(self):
        self.flush()
        sections = []
        for column in filter(None, self.columns):
            slides = '\n'.join(f'<section>{slide}</section>' for slide in column)
            sections.append(f'<section>{slides}</section>')
        return '\n'.join(sections)

# --- a lesson's cells

def is_import(line): return re.match(r'(from|import|#) ?|$', line)

def short(cell):
    "The code of a cell if it is worth showing, else ''"
    lines = plain(cell).strip().split('\n')
    hidden = re.match(r'#\| *(hide|echo: *false)', cell.source)
    only_imports = all(is_import(line) for line in lines)
    if hidden or only_imports or len(lines) > code_lines: return ''
    return '\n'.join(lines)

def is_short_text(data): return data.keys() == {'text/plain'} and len(data['text/plain']) < text_length

def add_output(made, data):
    "A table, a text or an image that a cell has shown"
    html, text = data.get('text/html', ''), data.get('text/markdown', '')
    if 'fastprogress' in html + text: return  # how long it took on the machine that saved the page
    if '<table' in html: made.table(re.sub(r'(?s)<style.*?</style>', '', html))
    elif text: made.text(text)
    elif 'image/png' in data: made.figure(f"data:image/png;base64,{data['image/png'].strip()}")

def add_code(made, cell, is_task, images):
    "A cell's code, if it is short, and what it has shown"
    outs = [] if is_task else [out.data for out in cell.outputs if 'data' in out and not figure_of(out)]
    said = ''   # a short text stands below its code
    if outs and is_short_text(outs[-1]): said = f"<pre>{escape(outs.pop()['text/plain'])}</pre>"
    code = short(cell)
    if code: made.code(code, said)
    for data in outs: add_output(made, data)
    for file in images: made.figure(data_url(file))

def deck(lesson, images):
    "The slides of a lesson; `images`: cell id -> SVG files"
    made = Deck()
    for cell in lesson.nb.cells:
        if cell.cell_type == 'markdown': made.text(absolute(cell.source, 'nbs/lessons'))
        if cell.cell_type != 'code': continue
        is_task = cell.id in lesson.tasks
        add_code(made, cell, is_task, images.get(cell.id, []))
    return made

# --- files

def draw_figures(nb, folder):
    "Every figure of a notebook as a file; cell id -> SVG files"
    drawn, images = {}, {}   # path without suffix -> figure; cell id -> SVG files
    for id, figures in figures_in(nb).items():
        paths = [Path(folder)/f'{id}_{i}' for i in range(len(figures))]
        drawn.update(zip(paths, figures))
        images[id] = [path.with_name(f'{path.name}.svg') for path in paths]
    draw(drawn, 'svg')
    return images

def write_deck(path, to):
    "One lesson's deck; how many slides"
    lesson = read_lesson(path)
    with tempfile.TemporaryDirectory() as folder: made = deck(lesson, draw_figures(lesson.nb, folder))
    (to/f'{path.stem}.html').write_text(page.format(title=escape(lesson.title), slides=made.html()))
    return sum(map(len, made.columns))

def write_index(paths, to):
    links = [f'<li><a href="{path.stem}.html">{escape(read_lesson(path).title)}</a></li>' for path in paths]
    head = '<!doctype html><meta charset="utf-8"><title>Slides</title><h1>Slides</h1>'
    (to/'index.html').write_text(f'{head}<ol>{"".join(links)}</ol>')

def make(
    to: Path,   # folder, made if need be
    names=(),   # of lessons; all if empty
):
    "Decks, with what they need beside them"
    paths = sorted((get_config().config_path/'nbs/lessons').glob('*.ipynb'))
    wanted = chosen(paths, names)
    shutil.copytree(files('sphinx_revealjs')/'_static/revealjs/dist', to/'reveal', dirs_exist_ok=True)
    (to/'slides.css').write_text(with_colors(css))
    (to/'slides.js').write_text(js)
    write_index(paths, to)
    for path in wanted:
        print(f'{to/path.stem}.html: {write_deck(path, to)} slides')

if __name__ == '__main__': make(get_config().config_path/'_course/slides', sys.argv[1:])
