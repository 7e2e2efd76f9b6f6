"""Make README.md from nbs/index.ipynb and the outputs that it holds.

Relative links become links into the repository.
"""
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from traitlets.config import Config

from twins import figure_of, saved_figures

cfg = get_config()
hidden = Config({'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': {'remove-input'}}})
images = Path('nbs/images')  # the figures among the outputs are saved here, as readme_...

def absolute(
    md: str,  # markdown whose links are relative to nbs/
) -> str:     # the same with links that work on PyPI too
    raw = cfg.git_url.replace('github.com', 'raw.githubusercontent.com')
    def repl(m):
        bang, text, link = m.groups()   # a bang before an image
        if re.match(r'[a-z]+:|#', link): return m[0]
        path = (Path('nbs')/link).resolve().relative_to(Path.cwd().resolve()).as_posix()
        folder = f'{raw}/{cfg.branch}' if bang else f'{cfg.git_url}/blob/{cfg.branch}'
        return f'{bang}[{text}]({folder}/{path})'
    return re.sub(r'(!?)\[([^\[\]]*)\]\(([^()\s]+)\)', repl, md)

def themed(
    md: str,  # markdown with absolute links
) -> str:     # the same; an image named ..._light.gif has a twin for dark pages
    def repl(m):
        text, link = m.groups()
        dark = link.replace('_light.gif', '_dark.gif')
        return (f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
                f'<img alt="{text}" src="{link}"></picture>')
    return re.sub(r'!\[([^\[\]]*)\]\((\S+_light\.gif)\)', repl, md)

def first_page():
    "The notebook of the first page; code that is not to be shown carries a tag"
    nb = nbformat.read(proc_nbs(force=True, file_glob='index.ipynb')/'index.ipynb', 4)
    nb.cells = [cell for cell in nb.cells if cell.cell_type != 'raw']  # front matter: title and subtitle
    for cell in nb.cells:
        if '#| echo: false' in cell.source: cell.metadata['tags'] = ['remove-input']
    nb.metadata['language_info'] = {'name': 'python'}
    return nb

def write_images(outputs):
    "Figures of the outputs as files; old ones go"
    for old in images.glob('readme_*'): old.unlink()
    for name, data in outputs.items():
        images.mkdir(exist_ok=True)
        (images/Path(name).name).write_bytes(data)

def cleaned(
    md: str,  # markdown as nbconvert makes it
) -> str:
    "Without styles, and without the link that nbdev makes of a name which stands in a link already"
    md = re.sub(r'<style.*?</style>\s*', '', md, flags=re.S)
    return re.sub(r'\[\[(`[^`]+`)\]\([^()]*\)', r'[\1', md)

def titles(nb):
    "The title of each saved figure, in order, without tags"
    found = []
    for out in saved_figures(nb):
        text = figure_of(out)['layout']['title']['text']
        found.append(re.sub(r'<[^>]+>', ' ', text))
    return found

def described(
    md: str,       # markdown as nbconvert makes it; its figures are called png
    texts: list,   # what each figure shows
) -> str:          # the same, for a reader who cannot see the figures
    texts = iter(texts)
    return re.sub(r'!\[png\]', lambda m: f'![{next(texts)}]', md)

def main():
    nb = first_page()
    names = {'output_files_dir': 'images', 'unique_key': 'readme'}
    md, resources = MarkdownExporter(config=hidden).from_notebook_node(nb, names)
    write_images(resources['outputs'])
    body = themed(absolute(described(cleaned(md), titles(nb)))).strip()
    md = f'# {cfg.title}\n\n> {cfg.description}\n\n{body}\n'
    Path('README.md').write_text(re.sub(r'\n{3,}', '\n\n', md))

if __name__ == '__main__': main()
