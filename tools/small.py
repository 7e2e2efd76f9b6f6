"""Images saved in notebooks, in 256 colors: a quarter of the size, and the eye sees the same.

A drawing on a transparent ground stays as it is: a palette without transparency would make the ground black.

    python tools/small.py nbs/lessons/*.ipynb
"""
import base64, io, sys
from pathlib import Path

import nbformat
from PIL import Image

from sskd_tutor.core.files import write_whole

def is_transparent(image):
    "Can anything be seen through it?"
    lowest, _ = image.convert('RGBA').getchannel('A').getextrema()
    return lowest < 255

def small(png):
    "The same image in at most 256 colors, or itself if that is no smaller"
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    has_palette = image.mode == 'P'
    if has_palette or is_transparent(image): return png
    few = image.convert('RGB').quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    few.save(out, 'PNG', optimize=True)
    new = base64.b64encode(out.getvalue()).decode()
    return new if len(new) < len(png) else png

def shrink(path):
    "Rewrite a notebook's PNG outputs; how many bytes that saved"
    nb, before = nbformat.read(path, 4), path.stat().st_size
    outs = [out for cell in nb.cells for out in cell.get('outputs', [])]
    for out in outs:
        if 'image/png' in out.get('data', {}): out.data['image/png'] = small(out.data['image/png'])
    write_whole(path, nbformat.writes(nb) + '\n')
    return before - path.stat().st_size

if __name__ == '__main__':
    for p in map(Path, sys.argv[1:]): print(f'{p}: {shrink(p):,} bytes less')
