"""A notebook as a page for sphinx: its links become the site's own, what it exports is documented, its figures stay live."""
import base64, importlib, inspect, json, posixpath, re
from functools import partial
from html import escape
from pathlib import Path

import nbformat.v4 as v4
from fastcore.docments import MarkdownRenderer
from nbdev.config import get_config
from sskd_tutor.viz.style import paper

plotly, widget = 'application/vnd.plotly.v1+json', 'application/vnd.jupyter.widget-view+json'
richest = 'text/html', 'text/markdown', 'image/svg+xml', 'image/png', 'image/jpeg', widget, 'text/latex', 'text/plain'
links = re.compile(r'(!?\[(?:[^\[\]`]|`[^`]*`|\[[^\]]*\])*\])\(([^()\s]+)\)|`([A-Za-z][\w.]*)(\([^`]*\))?`')
badge = re.compile(r'!\[[^\]]*\]\(https?:')
instances = 'learn', 'run', 'rec', 'plan', 'cache', 'store'  # what the notebooks call the objects whose methods they show

def plain(html): return ' '.join(re.sub(r'<[^>]+>', ' ', html or '').split())

def shows_nothing(html):
    "Is it styles and scripts alone?"
    seen = re.sub(r'(?s)<(style|script).*?</\1>', '', html)
    return not plain(seen) and not re.search('<(img|svg|canvas|video|iframe)', seen)

def inked(trace):  # a image that is drawn in ink on nothing: a PNG with transparent pixels
    head = trace.get('source') if trace['type'] == 'image' else None
    return bool(head) and head.startswith('data:image/png') and base64.b64decode(head.split(',')[1][:36])[25] == 6

def figure(fig: dict) -> str:  # plotly's JSON, as a notebook stores it
    "The place of a figure and its data; `figures.js` draws it"
    title = fig['layout'].get('title', {})
    label = escape(plain(title.get('text') if isinstance(title, dict) else title) or 'figure')
    data = json.dumps({k: fig[k] for k in ('data', 'layout', 'frames') if k in fig}, separators=(',', ':')).replace('</', '<\\/')
    own = fig['layout'].get('paper_bgcolor') == paper['dark']  # drawn for a dark page, to be shown: it stays as it is
    look = 'figure' + (' own' if own else ' inked'*any(map(inked, fig['data'])))
    return (f'<div class="{look}" style="min-height:{fig["layout"].get("height", 450)}px">'
            f'<div class="plot" role="img" aria-label="{label}"></div><script type="application/json">{data}</script></div>')

def saved_figure(out):
    "The figure of an output: live in its data, or beside a still image (tools/twins.py)"
    return out.data.get(plotly) or out.metadata.get('figure')

def as_html(html): return v4.new_output('display_data', data={'text/html': html})

def output(
    out,              # of a cell
    text=lambda s: s, # what becomes of markdown
):                    # None for nothing
    "What the site shows of an output"
    if out.output_type == 'stream': return v4.new_output('stream', text=out.text) if out.name == 'stdout' else None
    if out.output_type == 'error': return v4.new_output('error', **{k: out[k] for k in ('ename', 'evalue', 'traceback')})
    if saved := saved_figure(out): return as_html(figure(saved))
    mime = next((m for m in richest if m in out.data), None)
    if mime == widget: return as_html('<p class="note">Here lives a widget: open this page in JupyterLab to use it.</p>')
    if mime == 'text/html' and shows_nothing(out.data[mime]): return None
    if mime == 'text/markdown': return v4.new_output('display_data', data={mime: text(out.data[mime])})
    return v4.new_output('display_data', data={mime: out.data[mime]}) if mime else None

class Site:
    "All pages, and what links between them need"
    def __init__(self, pages):
        self.pages, self.cfg, self.lib = pages, get_config(), get_config().lib_name
        self.of_path = {p.path.as_posix(): p for p in pages}
        self.modules = {p.module: p for p in pages if p.module}
        self.names = {n: p for p in reversed(pages) for n in p.shown.values()}  # a name that two pages define is the first one's
        self.methods = {}
        for n in self.names:
            if '.' in n: self.methods.setdefault(n.split('.')[-1], []).append(n)

    def url(self, path, kind='blob'): return f'{self.cfg.git_url.rstrip("/")}/{kind}/{self.cfg.branch}/{path}'

    def source(self, path): return posixpath.normpath(f'{self.cfg.nbs_path.name}/{path}')

    def target(self, page, link):
        "A link of a notebook, on its page"
        if re.match(r'[a-z]+:|#', link): return link
        path, _, place = link.partition('#')
        path = posixpath.normpath(posixpath.join(page.path.parent.as_posix(), path))
        if path in self.of_path: return f'{page.up}{self.of_path[path].name}.ipynb' + f'#{place}'*bool(place)
        if path.endswith('.ipynb') and not path.startswith('..'): return link  # sphinx says that it leads nowhere
        return self.url(self.source(path), 'blob' if posixpath.splitext(path)[1] else 'tree')

    def defined(self, page, name):
        "The page and the full name that a name in backticks stands for; None for any other word"
        if name.startswith(f'{self.lib}.'):
            words = name.split('.')[1:]  # room.module, room.module.name or room.module.Class.method
            module, own = '.'.join(words[:2]), '.'.join(words[2:])
            if there := self.modules.get(module): return there, own if own in there.shown.values() else ''
        head, _, tail = name.rpartition('.')
        if name in page.shown.values(): return page, name
        if re.fullmatch('[a-z]+', name) and name not in page.uses: return None  # an ordinary word
        if name in self.names: return self.names[name], name
        if head[:1].isupper() and head in self.names: return self.names[head], head  # a method that its class shows
        found = self.methods.get(tail, []) if head in instances or (not head and '_' in tail) else []
        return (self.names[found[0]], found[0]) if len(found) == 1 else None

    def name_link(self, page, name, call):
        if not (found := self.defined(page, name)): return f'`{name}{call}`'
        there, full = found
        to = ('' if there is page else f'{page.up}{there.name}.html') + f'#{full.lower()}'*bool(full)
        return f'<a class="name" href="{to}"><code>{escape(name + call)}</code></a>'

    def markdown(self, page, text):
        "Links and names in a text turned into the site's own; code and headings as they are"
        def one(m):
            if not m[2]: return self.name_link(page, m[3], m[4] or '')
            if badge.search(m[0]): return ''  # it would be fetched from elsewhere
            return m[0] if m[1][0] == '!' else f'{m[1]}({self.target(page, m[2])})'
        fenced, out = False, []
        for line in text.split('\n'):
            fence = line.lstrip().startswith(('```', '~~~'))
            out.append(line if fence or fenced or re.match(r'#|    |\t', line) else links.sub(one, line))
            fenced ^= fence
        return '\n'.join(out)

    def said(self, page, text):
        "The links of a text that code has made; sphinx takes them as they are"
        def one(m): return f'{m[1]}({self.target(page, m[2]).replace(".ipynb", ".html")})' if m[2] else m[0]
        return links.sub(one, text)

    def reference(self, page, name):
        "What nbdev's `show_doc` would say: source, signature with docments, docstring; and a place to link to"
        thing = eval(name, vars(importlib.import_module(f'{self.lib}.{page.module}')).copy())
        doc, code = MarkdownRenderer(thing, name=name), getattr(thing, 'fget', None) or inspect.unwrap(thing)
        file = Path(inspect.getsourcefile(code)).resolve().relative_to(self.cfg.config_path.resolve()).as_posix()
        place = f' id="{name.lower()}"' if '.' in name else ''  # to others sphinx gives one
        return (f'<div class="api"{place}><a href="{self.url(file)}#L{inspect.getsourcelines(code)[1]}">source</a></div>\n\n'
                f'### `{name}`\n\n```python\n{doc.dm}\n```\n\n' + self.markdown(page, doc.docs or ''))

    def cell(self, page, c):
        if c.cell_type == 'markdown':
            text = self.markdown(page, c.source)
            return v4.new_markdown_cell(text) if text.strip() else None
        if c.id in page.shown: return v4.new_markdown_cell(self.reference(page, page.shown[c.id]))
        if c.cell_type != 'code' or c.directives_.get('include') == 'false': return None
        source = re.sub(r'\A(?:[ \t]*#\|.*\n?)+', '', c.source).strip()
        code = v4.new_code_cell(source, outputs=[o for o in (output(o, partial(self.said, page)) for o in c.outputs) if o])
        if c.directives_.get('echo') == 'false' or not source: code.metadata.tags = ['remove-input']
        return code if code.outputs or 'tags' not in code.metadata else None

    def buttons(self, page):
        "Open in Colab, download, see the source"
        file = self.source(page.path)
        copy = f'colab/{page.path.name}' if page.kind == 'The course' else file  # with the cell that installs the package
        colab = self.url(copy).replace('//github.com', '//colab.research.google.com/github')
        say = f'<span>{"Lesson " + page.number if page.number else "Appendix"}</span>' if page.kind == 'The course' else ''
        return v4.new_markdown_cell(
            f'<p class="actions">{say}<a class="colab" href="{colab}">Open in Colab</a>'
            f'<a class="download" href="{page.up}notebooks/{page.path.as_posix()}" download>Download</a>'
            f'<a class="github" href="{self.url(file)}">GitHub</a></p>')

    def page(self, page):
        "The page as a notebook for sphinx"
        cells = [c for c in (self.cell(page, c) for c in page.nb.cells) if c]
        cells.insert(1, self.buttons(page))
        language = dict(name='python', pygments_lexer='ipython3')
        return v4.new_notebook(cells=cells, metadata=dict(language_info=language, kernelspec=page.nb.metadata.kernelspec))

def as_text(page):
    "The page in markdown, for the modules' docstrings link to it: text, code, and outputs as far as they are text"
    parts = []
    for c in page.nb.cells:
        source = re.sub(r'\A(?:#\|.*\n?)+', '', c.source).strip()
        if c.cell_type == 'markdown': parts.append(c.source)
        elif source and c.id not in page.shown: parts.append(f'```python\n{source}\n```')
        said = [o.text if o.output_type == 'stream' else o.get('data', {}).get('text/plain', '') for o in c.get('outputs', [])]
        parts += [f'```\n{s.rstrip()}\n```' for s in said if s.strip() and len(s) < 4_000]
    return '\n\n'.join(parts) + '\n'
