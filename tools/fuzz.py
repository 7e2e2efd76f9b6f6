"""Damage sets and runs for as long as you like, guided by what the readers do with it: `python tools/fuzz.py CIFAR -max_total_time=600`.

Needs atheris (pip install atheris). What crashes a reader is written to the working directory; the last bytes name the file."""
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'tests'))
import atheris  # noqa: E402

with atheris.instrument_imports(include=['sskd_tutor.data', 'sskd_tutor.tasks', 'sskd_tutor.runs.saved', 'sskd_tutor.core.files']):
    from helpers.matrix import judged
    from helpers.readers import readers

def main(name, *options):
    reader, top = readers[name], Path(tempfile.mkdtemp())
    reader.write(top/'whole')
    files = sorted(p.relative_to(top/'whole') for p in (top/'whole').rglob('*') if p.is_file())
    corpus = top/'corpus'
    corpus.mkdir()
    for i, file in enumerate(files): (corpus/str(i)).write_bytes((top/'whole'/file).read_bytes() + bytes([i % 256]))
    def one(raw):
        if not raw: return
        file, folder = files[raw[-1] % len(files)], top/'damaged'
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(top/'whole', folder)
        (folder/file).write_bytes(raw[:-1])
        changed = raw[:-1] != (top/'whole'/file).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            end = judged(lambda: reader.read(folder))
        if end.ends not in ('right', 'named'): raise RuntimeError(f'{file}: {end}')
        if reader.sealed and changed and end.ends == 'right': raise RuntimeError(f'{file} was changed, and nobody noticed')
    atheris.Setup([sys.argv[0], '-timeout=5', *options, str(corpus)], one)
    atheris.Fuzz()

if __name__ == '__main__':
    if len(sys.argv) < 2 or sys.argv[1] not in readers: sys.exit(f'expected one of {list(readers)}, then options of libFuzzer')
    main(*sys.argv[1:])
