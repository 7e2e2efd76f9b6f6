"""What each page of the built site weighs before anybody touches it: the page itself and all that it loads at once.

    python tools/page_bytes.py _docs            a table in Markdown, the heaviest page first
    python tools/page_bytes.py _docs --most 10  its first rows

`packed` is what travels: GitHub Pages compresses text. Plotly (5 MB) and images further down come when they are scrolled to.
"""
import argparse, gzip
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

packed_kinds = '.html', '.css', '.js', '.svg', '.json', '.md', '.txt'

class Loads(HTMLParser):
    "Addresses that a page loads at once"
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == 'link' and a.get('rel') in ('stylesheet', 'icon'): self.found.append(a['href'])
        if tag in ('script', 'img') and a.get('src') and a.get('loading') != 'lazy': self.found.append(a['src'])

@cache
def sizes(path):
    "Bytes of a file, as it lies there and as it travels"
    body = path.read_bytes()
    return len(body), len(gzip.compress(body, 6)) if path.suffix in packed_kinds else len(body)

def weight(page):
    "Bytes of a page and of all that it loads at once: (plain, packed, files)"
    files = {page}
    for address in Loads(page.read_text()).found:
        parts = urlsplit(address)
        if parts.scheme: continue   # `data:` is part of the page
        files.add((page.parent/unquote(parts.path)).resolve())
    all_sizes = [sizes(f) for f in files if f.is_file()]
    return sum(plain for plain, _ in all_sizes), sum(packed for _, packed in all_sizes), len(all_sizes)

def weights(site):
    "Page -> (plain, packed, files), the heaviest first"
    site = Path(site).resolve()
    pages = [p for p in site.rglob('*.html') if '_static' not in p.parts]
    found = {p.relative_to(site).as_posix(): weight(p) for p in pages}
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))

def table(found):
    rows = [f'| {name} | {plain/1e3:,.0f} | {packed/1e3:,.0f} | {files} |' for name, (plain, packed, files) in found.items()]
    return '\n'.join(['| page | kB | kB packed | files |', '| --- | ---: | ---: | ---: |', *rows]) + '\n'

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('site', type=Path, help='a folder that `make docs` filled')
    p.add_argument('--most', type=int, help='rows')
    a = p.parse_args()
    print(table(dict(list(weights(a.site).items())[:a.most])))

if __name__ == '__main__': main()
