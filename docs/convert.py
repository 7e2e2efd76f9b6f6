"""A notebook as a page for sphinx.

Its links become the site's own, what it exports is documented, its figures stay live.
"""
import base64, importlib, inspect, json, posixpath, re
from functools import partial
from html import escape
from pathlib import Path

import nbformat.v4 as v4
from fastcore.docments import MarkdownRenderer
from nbdev.config import get_config
from sskd_tutor.viz.style import paper

plotly, widget = 'application/vnd.plotly.v1+json', 'application/vnd.jupyter.widget-view+json'
richest = [   # what is shown of an output: the first of these that it has
    'text/html', 'text/markdown', 'image/svg+xml', 'image/png', 'image/jpeg', widget,
    'text/latex', 'text/plain']

# a link or an image of markdown, or a name in backticks
links = re.compile(
    r'(?P<text>!?\[(?:[^\[\]`]|`[^`]*`|\[[^\]]*\])*\])\((?P<address>[^()\s]+)\)'
    r'|`(?P<name>[A-Za-z][\w.]*)(?P<call>\([^`]*\))?`')
badge = re.compile(r'!\[[^\]]*\]\(https?:')
fences = '```', '~~~'   # around code in markdown

# what the notebooks call the objects whose methods they show
instances = 'learn', 'run', 'rec', 'plan', 'cache', 'store'

widget_note = '<p class="note">Here lives a widget: open this page in JupyterLab to use it.</p>'
longest_text = 4_000   # characters of an output that the page in markdown still shows

# --- figures

def plain(html): return ' '.join(re.sub(r'<[^>]+>', ' ', html or '').split())

def inked(trace):
    "Is it an image that is drawn in ink on nothing, a PNG with transparent pixels?"
    source = trace.get('source') if trace['type'] == 'image' else None
    if not source or not source.startswith('data:image/png'): return False
    header = base64.b64decode(source.split(',')[1][:36])
    return header[25] == 6   # PNG's type of color: red, green, blue and alpha

def label_of(fig):
    "What a figure is called when it is read aloud"
    title = fig['layout'].get('title', {})
    text = title.get('text') if isinstance(title, dict) else title
    return escape(plain(text) or 'figure')

def look_of(fig):
    "The classes of a figure's place; they say how its colors change on a dark page"
    drawn_for_dark = fig['layout'].get('paper_bgcolor') == paper['dark']
    if drawn_for_dark: return 'figure own'   # a dark figure that is to be shown stays as it is
    if any(inked(trace) for trace in fig['data']): return 'figure inked'
    return 'figure'

def figure(
    fig: dict,  # plotly's JSON, as a notebook stores it
) -> str:
    "The place of a figure and its data; `figures.js` draws it"
    parts = {part: fig[part] for part in ('data', 'layout', 'frames') if part in fig}
    data = json.dumps(parts, separators=(',', ':')).replace('</', '<\\/')   # `</script>` would end it
    height = fig['layout'].get('height', 450)
    return (f'<div class="{look_of(fig)}" style="min-height:{height}px">'
            f'<div class="plot" role="img" aria-label="{label_of(fig)}"></div>'
            f'<script type="application/json">{data}</script></div>')

# --- outputs

def without_addresses(signature):
    "A signature whose defaults are objects without a name: `<function f at 0x7f...>` becomes `<function f>`"
    return re.sub(r' at 0x[0-9a-f]+', '', signature)

def shows_nothing(html):
    "Is it styles and scripts alone?"
    seen = re.sub(r'(?s)<(style|script).*?</\1>', '', html)
    return not plain(seen) and not re.search('<(img|svg|canvas|video|iframe)', seen)

def saved_figure(out):
    "The figure of an output: live in its data, or beside a still image (tools/twins.py)"
    return out.data.get(plotly) or out.metadata.get('figure')

def as_html(html): return v4.new_output('display_data', data={'text/html': html})

def unchanged(text): return text

def output(
    out,             # of a cell
    text=unchanged,  # what becomes of markdown
):                   # None for nothing
    "What the site shows of an output"
    if out.output_type == 'stream':
        return v4.new_output('stream', text=out.text) if out.name == 'stdout' else None   # warnings go
    if out.output_type == 'error':
        return v4.new_output('error', ename=out['ename'], evalue=out['evalue'], traceback=out['traceback'])
    if saved := saved_figure(out): return as_html(figure(saved))
    return richest_form(out.data, text)

def richest_form(data, text):
    "The best of the forms in which an output was saved"
    mime = next((mime for mime in richest if mime in data), None)
    if mime is None: return None
    if mime == widget: return as_html(widget_note)
    if mime == 'text/html' and shows_nothing(data[mime]): return None
    shown = text(data[mime]) if mime == 'text/markdown' else data[mime]
    return v4.new_output('display_data', data={mime: shown})

# --- pages

def anchor(name):
    "The end of a link to a place on a page; '' for the page itself"
    return f'#{name}' if name else ''

class Site:
    "All pages, and what links between them need"
    def __init__(self, pages):
        self.pages, self.cfg = pages, get_config()
        self.lib = self.cfg.lib_name
        self.of_path = {page.path.as_posix(): page for page in pages}
        self.modules = {page.module: page for page in pages if page.module}
        self.names = self.defined_names()        # full name -> the page that shows it
        self.methods = self.names_of_methods()   # method -> its full names

    def defined_names(self):
        "Full name -> page; a name that two pages define is the first one's"
        found = {}
        for page in reversed(self.pages):
            for name in page.shown.values(): found[name] = page
        return found

    def names_of_methods(self):
        found = {}
        for name in self.names:
            _, dot, method = name.rpartition('.')
            if dot: found.setdefault(method, []).append(name)
        return found

    # --- links

    def url(self, path, kind='blob'):
        "A file (blob) or a folder (tree) of the repository"
        return f'{self.cfg.git_url.rstrip("/")}/{kind}/{self.cfg.branch}/{path}'

    def source(self, path):
        "Where a file beside the notebooks lies in the repository"
        return posixpath.normpath(f'{self.cfg.nbs_path.name}/{path}')

    def target(self, page, link):
        "A link of a notebook, on its page"
        if re.match(r'[a-z]+:|#', link): return link
        path, _, place = link.partition('#')
        path = posixpath.normpath(posixpath.join(page.path.parent.as_posix(), path))
        if path in self.of_path: return f'{page.up}{self.of_path[path].name}.ipynb{anchor(place)}'
        # sphinx says of such a link that it leads nowhere
        if path.endswith('.ipynb') and not path.startswith('..'): return link
        is_file = posixpath.splitext(path)[1] != ''
        return self.url(self.source(path), 'blob' if is_file else 'tree')

    # --- names in backticks

    def defined(self, page, name):
        "The page and the full name that a name in backticks stands for; None for any other word"
        if found := self.with_module(name): return found
        if name in page.shown.values(): return page, name
        is_plain_word = re.fullmatch('[a-z]+', name)
        if is_plain_word and name not in page.uses: return None
        if name in self.names: return self.names[name], name
        return self.method(name)

    def with_module(self, name):
        "The same for sskd_tutor.room.module, with or without `.name` or `.Class.method`"
        if not name.startswith(f'{self.lib}.'): return None
        words = name.split('.')[1:]
        module, own = '.'.join(words[:2]), '.'.join(words[2:])
        there = self.modules.get(module)
        if there is None: return None
        return there, own if own in there.shown.values() else ''

    def method(self, name):
        "The same for a method, if only one class has it"
        owner, _, method = name.rpartition('.')
        if owner[:1].isupper() and owner in self.names: return self.names[owner], owner  # its class shows it
        may_be = owner in instances or (not owner and '_' in method)
        found = self.methods.get(method, []) if may_be else []
        if len(found) != 1: return None
        return self.names[found[0]], found[0]

    def name_link(self, page, name, call):
        "A name in backticks as a link to where it is defined"
        found = self.defined(page, name)
        if found is None: return f'`{name}{call}`'
        there, full = found
        file = '' if there is page else f'{page.up}{there.name}.html'
        return f'<a class="name" href="{file}{anchor(full.lower())}"><code>{escape(name + call)}</code></a>'

    # --- texts

    def markdown(self, page, text):
        "Links and names in a text turned into the site's own; code and headings as they are"
        lines, fenced = [], False
        for line in text.split('\n'):
            is_fence = line.lstrip().startswith(fences)
            as_it_is = is_fence or fenced or re.match(r'#|    |\t', line)
            lines.append(line if as_it_is else links.sub(partial(self.linked, page), line))
            if is_fence: fenced = not fenced
        return '\n'.join(lines)

    def linked(self, page, m):
        "A match of `links` in a notebook's text"
        if m['name']: return self.name_link(page, m['name'], m['call'] or '')
        if badge.search(m[0]): return ''  # it would be fetched from elsewhere
        if m['text'].startswith('!'): return m[0]
        return f'{m["text"]}({self.target(page, m["address"])})'

    def said(self, page, text):
        "The links of a text that code has made; sphinx takes them as they are"
        def linked(m):
            if m['name']: return m[0]
            target = self.target(page, m['address']).replace('.ipynb', '.html')
            return f'{m["text"]}({target})'
        return links.sub(linked, text)

    # --- cells

    def documented(self, page, name):
        "What a name of the page's module stands for"
        module = importlib.import_module(f'{self.lib}.{page.module}')
        return eval(name, vars(module).copy())

    def source_link(self, thing):
        "The line of the repository where something is defined"
        code = getattr(thing, 'fget', None) or inspect.unwrap(thing)
        file = Path(inspect.getsourcefile(code)).resolve().relative_to(self.cfg.config_path.resolve())
        line = inspect.getsourcelines(code)[1]
        return f'{self.url(file.as_posix())}#L{line}'

    def reference(self, page, name):
        "As nbdev's `show_doc`: source, signature with docments, docstring; and a place to link to"
        thing = self.documented(page, name)
        doc = MarkdownRenderer(thing, name=name)
        place = f' id="{name.lower()}"' if '.' in name else ''  # to others sphinx gives one
        return '\n\n'.join([
            f'<div class="api"{place}><a href="{self.source_link(thing)}">source</a></div>',
            f'### `{name}`',
            f'```python\n{without_addresses(str(doc.dm))}\n```',
            self.markdown(page, doc.docs or '')])

    def cell(self, page, c):
        "What becomes of a cell; None if the site does not show it"
        if c.cell_type == 'markdown':
            text = self.markdown(page, c.source)
            return v4.new_markdown_cell(text) if text.strip() else None
        if c.id in page.shown: return v4.new_markdown_cell(self.reference(page, page.shown[c.id]))
        if c.cell_type != 'code' or c.directives_.get('include') == 'false': return None
        return self.code_cell(page, c)

    def code_cell(self, page, c):
        source = re.sub(r'\A(?:[ \t]*#\|.*\n?)+', '', c.source).strip()
        outputs = [output(out, partial(self.said, page)) for out in c.outputs]
        code = v4.new_code_cell(source, outputs=[out for out in outputs if out])
        hidden = c.directives_.get('echo') == 'false' or not source
        if hidden: code.metadata.tags = ['remove-input']
        return None if hidden and not code.outputs else code

    def buttons(self, page):
        "Open in Colab, download, see the source"
        file = self.source(page.path)
        is_lesson = page.kind == 'The course'
        # the copy of a lesson has a cell that installs the package
        copy = f'colab/{page.path.name}' if is_lesson else file
        colab = self.url(copy).replace('//github.com', '//colab.research.google.com/github')
        number = f'Lesson {page.number}' if page.number else 'Appendix'
        label = f'<span>{number}</span>' if is_lesson else ''
        return v4.new_markdown_cell(
            f'<p class="actions">{label}<a class="colab" href="{colab}">Open in Colab</a>'
            f'<a class="download" href="{page.up}notebooks/{page.path.as_posix()}" download>Download</a>'
            f'<a class="github" href="{self.url(file)}">GitHub</a></p>')

    def page(self, page):
        "The page as a notebook for sphinx"
        cells = [self.cell(page, c) for c in page.nb.cells]
        cells = [c for c in cells if c]
        cells.insert(1, self.buttons(page))
        language = dict(name='python', pygments_lexer='ipython3')
        metadata = dict(language_info=language, kernelspec=page.nb.metadata.kernelspec)
        return v4.new_notebook(cells=cells, metadata=metadata)

# --- the page in markdown

def text_of(out):
    "What an output says in plain text, '' if nothing"
    if out.output_type == 'stream': return out.text
    return out.get('data', {}).get('text/plain', '')

def as_text(page):
    "The page in markdown: text, code, outputs as far as they are text; the modules' docstrings link to it"
    parts = []
    for c in page.nb.cells:
        source = re.sub(r'\A(?:#\|.*\n?)+', '', c.source).strip()
        if c.cell_type == 'markdown': parts.append(c.source)
        elif source and c.id not in page.shown: parts.append(f'```python\n{source}\n```')
        for said in map(text_of, c.get('outputs', [])):
            if said.strip() and len(said) < longest_text: parts.append(f'```\n{said.rstrip()}\n```')
    return '\n\n'.join(parts) + '\n'
