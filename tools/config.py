"""Make what follows from settings.ini: pyproject.toml, environment.yml, `__version__`, and every link to this repository."""
import configparser, re, subprocess, tomllib
from pathlib import Path

from nbdev.migrate import nbdev_migrate_config

conda_names = dict(torch='pytorch')
env_yml = """# Made from settings.ini by `make config`. Checked for syntax and for pip's bounds; not solved, no conda was at hand.
# conda env create -f environment.yml && conda activate {lib_name} && pip install --no-deps .
name: {lib_name}
channels:
  - conda-forge
dependencies:
{deps}
"""

def conda_spec(req):
    name, bound = req.split('>=')
    return f'{conda_names.get(name, name)}>={bound}'

def old_urls(): return list(tomllib.loads(Path('pyproject.toml').read_text())['project']['urls'].values())

def addresses(
    urls,  # the repository's and the documentation's
):         # every form in which a page may link there
    git, docs = (u.rstrip('/') for u in urls)
    slug = git.removeprefix('https://github.com/')
    return [git, docs, f'colab.research.google.com/github/{slug}', f'raw.githubusercontent.com/{slug}',
            f'mybinder.org/v2/gh/{slug}']

def move_links(old, new):
    for f in subprocess.check_output(['git', 'ls-files', '-z', '-co', '--exclude-standard'], text=True).split('\0'):
        p = Path(f)
        if not p.is_file() or p.suffix not in ('.cff', '.ipynb', '.md', '.py', '.yml'): continue
        text = moved = p.read_text()
        for a, b in zip(addresses(old), addresses(new)): moved = moved.replace(a, b)
        if moved != text: p.write_text(moved)

def with_rooms(text):
    "nbdev names the top package alone; the rooms below it belong in the wheel too"
    return text.replace('include = ["sskd_tutor"]', 'include = ["sskd_tutor", "sskd_tutor.*"]')

def extras(
    cfg,  # the settings
):        # name -> requirements; `all` has those of every user, `dev` those of every page as well
    "What pip installs for `sskd_tutor[NAME]`"
    found = {name: cfg[f'{name}_requirements'].split() for name in cfg['extras'].split()}
    found['all'] = [r for reqs in found.values() for r in reqs]
    found['docs'] = cfg['docs_requirements'].split()
    found['dev'] = list(dict.fromkeys([*cfg['dev_requirements'].split(), *found['docs'], *found['all']]))
    return found

def with_extras(text, cfg):
    "nbdev knows the extra `dev` alone"
    lines = [f'{name} = {reqs}' for name, reqs in extras(cfg).items()]
    return re.sub(r'(?m)^dev = \[.*\]$', '\n'.join(lines), text)

def with_kept_metadata(text):
    "`nbdev-clean` keeps which cells are collapsed (`jupyter: source_hidden`), the size of images and the data of figures (tools/twins.py)"
    keys = 'allowed_cell_metadata_keys = ["jupyter"]\nallowed_out_metadata_keys = ["image/png", "figure"]\n'
    return text.replace('[tool.nbdev]\n', f'[tool.nbdev]\n{keys}')

def main():
    ini = configparser.ConfigParser()
    ini.read('settings.ini')
    cfg, old = ini['DEFAULT'], old_urls()
    nbdev_migrate_config('.')
    toml = Path('pyproject.toml')
    toml.write_text(with_kept_metadata(with_extras(with_rooms(toml.read_text()), cfg)))
    deps = [f"python>={cfg['min_python']}", *map(conda_spec, cfg['requirements'].split()), 'pip']
    Path('environment.yml').write_text(env_yml.format(lib_name=cfg['lib_name'], deps='\n'.join(f'  - {d}' for d in deps)))
    if old != (new := old_urls()): move_links(old, new)

if __name__ == '__main__': main()
