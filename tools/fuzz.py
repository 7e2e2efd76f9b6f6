"""Damages sets and runs for as long as you like, guided by what the readers do with it.

    python tools/fuzz.py CIFAR -max_total_time=600

Needs atheris (pip install atheris). What crashes a reader is written to the working directory;
the last byte names the file."""
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'tests'))
import atheris  # noqa: E402

# what is watched while it runs
watched = ['sskd_tutor.data', 'sskd_tutor.tasks', 'sskd_tutor.runs.saved', 'sskd_tutor.core.files']

with atheris.instrument_imports(include=watched):
    from helpers.matrix import judged
    from helpers.readers import readers

def files_in(folder):
    "Paths of all files, relative to the folder"
    return sorted(path.relative_to(folder) for path in folder.rglob('*') if path.is_file())

def write_corpus(whole, files, corpus):
    "What the fuzzer starts from: each file as it is, and its place in the list as one byte after it"
    corpus.mkdir()
    for i, file in enumerate(files): (corpus/str(i)).write_bytes((whole/file).read_bytes() + bytes([i % 256]))

def judge(reader, folder):
    "How reading the folder ended; warnings do not count"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return judged(lambda: reader.read(folder))

def main(name, *options):
    reader, top = readers[name], Path(tempfile.mkdtemp())
    whole, damaged = top/'whole', top/'damaged'
    reader.write(whole)
    files = files_in(whole)
    write_corpus(whole, files, top/'corpus')

    def read_damaged(raw):
        "Read the set with one file replaced by these bytes; the last byte says which"
        if not raw: return
        file, content = files[raw[-1] % len(files)], raw[:-1]
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(whole, damaged)
        (damaged/file).write_bytes(content)
        changed = content != (whole/file).read_bytes()
        end = judge(reader, damaged)
        if end.ends not in ('right', 'named'): raise RuntimeError(f'{file}: {end}')
        if reader.sealed and changed and end.ends == 'right':
            raise RuntimeError(f'{file} was changed, and nobody noticed')

    atheris.Setup([sys.argv[0], '-timeout=5', *options, str(top/'corpus')], read_damaged)
    atheris.Fuzz()

if __name__ == '__main__':
    if len(sys.argv) < 2 or sys.argv[1] not in readers:
        sys.exit(f'expected one of {list(readers)}, then options of libFuzzer')
    main(*sys.argv[1:])
