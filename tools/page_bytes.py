"""What each page of the built site weighs before anybody touches it: the page and all that it loads at once.

    python tools/page_bytes.py _docs            a table in Markdown, the heaviest page first
    python tools/page_bytes.py _docs --most 10  its first rows

`packed` is what travels: GitHub Pages compresses text. Plotly (5 MB) and images further down come when
they are scrolled to.
"""
import argparse, gzip
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

packed_kinds = '.html', '.css', '.js', '.svg', '.json', '.md', '.txt'   # of files that travel compressed

class Loads(HTMLParser):
    "Addresses that a page loads at once"
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == 'link' and a.get('rel') in ('stylesheet', 'icon'): self.found.append(a['href'])
        is_late = a.get('loading') == 'lazy'
        if tag in ('script', 'img') and a.get('src') and not is_late: self.found.append(a['src'])

class Weight(NamedTuple):
    plain: int       # bytes as they lie there
    packed: int      # bytes as they travel
    files: int = 1

@cache
def size_of(path):
    body = path.read_bytes()
    packed = gzip.compress(body, 6) if path.suffix in packed_kinds else body
    return Weight(len(body), len(packed))

def files_of(page):
    "A page and all that it loads at once"
    files = {page}
    for address in Loads(page.read_text()).found:
        parts = urlsplit(address)
        if parts.scheme: continue   # `data:` is part of the page
        files.add((page.parent/unquote(parts.path)).resolve())
    return [file for file in files if file.is_file()]

def weight(page):
    "What a page weighs with all that it loads at once"
    sizes = [size_of(file) for file in files_of(page)]
    return Weight(sum(size.plain for size in sizes), sum(size.packed for size in sizes), len(sizes))

def weights(site):
    "Page -> Weight, the heaviest first"
    site = Path(site).resolve()
    pages = [path for path in site.rglob('*.html') if '_static' not in path.parts]
    found = {path.relative_to(site).as_posix(): weight(path) for path in pages}
    return dict(sorted(found.items(), key=lambda item: -item[1].packed))

def row(name, size): return f'| {name} | {size.plain/1e3:,.0f} | {size.packed/1e3:,.0f} | {size.files} |'

def table(found):
    "Weights in Markdown"
    rows = [row(name, size) for name, size in found.items()]
    return '\n'.join(['| page | kB | kB packed | files |', '| --- | ---: | ---: | ---: |', *rows]) + '\n'

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('site', type=Path, help='a folder that `make docs` filled')
    p.add_argument('--most', type=int, help='rows')
    a = p.parse_args()
    heaviest = list(weights(a.site).items())[:a.most]
    print(table(dict(heaviest)))

if __name__ == '__main__': main()
