"""Make README.md from nbs/index.ipynb and the outputs that it holds; relative links become links into the repository."""
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from traitlets.config import Config

cfg = get_config()
hidden = Config({'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': {'remove-input'}}})
images = Path('nbs/images')  # the figures among the outputs are saved here, as readme_...

def absolute(
    md: str,  # markdown whose links are relative to nbs/
) -> str:     # the same with links that work on PyPI too
    raw = cfg.git_url.replace('github.com', 'raw.githubusercontent.com')
    def repl(m):
        bang, text, link = m.groups()
        if re.match(r'[a-z]+:|#', link): return m[0]
        path = (Path('nbs')/link).resolve().relative_to(Path.cwd().resolve()).as_posix()
        return f"{bang}[{text}]({f'{raw}/{cfg.branch}' if bang else f'{cfg.git_url}/blob/{cfg.branch}'}/{path})"
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

def main():
    nb = nbformat.read(proc_nbs(force=True, file_glob='index.ipynb')/'index.ipynb', 4)
    nb.cells = [c for c in nb.cells if c.cell_type != 'raw']  # front matter: title and subtitle
    for c in nb.cells:
        if '#| echo: false' in c.source: c.metadata['tags'] = ['remove-input']
    nb.metadata['language_info'] = {'name': 'python'}
    md, resources = MarkdownExporter(config=hidden).from_notebook_node(nb, {'output_files_dir': 'images', 'unique_key': 'readme'})
    for old in images.glob('readme_*'): old.unlink()
    for name, data in resources['outputs'].items():
        images.mkdir(exist_ok=True)
        (images/Path(name).name).write_bytes(data)
    md = re.sub(r'<style.*?</style>\s*', '', md, flags=re.S)
    md = re.sub(r'\[\[(`[^`]+`)\]\([^()]*\)', r'[\1', md)  # nbdev makes a link of a name that stands in a link already
    md = f'# {cfg.title}\n\n> {cfg.description}\n\n{themed(absolute(md)).strip()}\n'
    Path('README.md').write_text(re.sub(r'\n{3,}', '\n\n', md))

if __name__ == '__main__': main()
