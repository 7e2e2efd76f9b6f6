"""Images saved in notebooks, in 256 colors instead of millions: a quarter of the size, and the eye sees the same.

    python tools/small.py nbs/lessons/*.ipynb
"""
import base64, io, sys
from pathlib import Path

import nbformat
from PIL import Image

def small(png):
    "The same image in at most 256 colors, or itself if that is no smaller"
    image, out = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if image.mode == 'P': return png
    image.convert('RGB').quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, 'PNG', optimize=True)
    new = base64.b64encode(out.getvalue()).decode()
    return new if len(new) < len(png) else png

def shrink(path):
    "Rewrite a notebook's PNG outputs; how many bytes that saved"
    nb, before = nbformat.read(path, 4), path.stat().st_size
    for data in (o.data for c in nb.cells for o in c.get('outputs', []) if 'image/png' in o.get('data', {})):
        data['image/png'] = small(data['image/png'])
    nbformat.write(nb, path)
    return before - path.stat().st_size

if __name__ == '__main__':
    for p in map(Path, sys.argv[1:]): print(f'{p}: {shrink(p):,} bytes less')
