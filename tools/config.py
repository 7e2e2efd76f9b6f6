"""Make what follows from settings.ini.

That is pyproject.toml, environment.yml, `__version__`, and every link to this repository.
"""
import configparser, re, subprocess, tomllib
from pathlib import Path

from nbdev.migrate import nbdev_migrate_config

conda_names = dict(torch='pytorch')
kinds = '.cff', '.ipynb', '.md', '.py', '.yml'   # of files that may link to the repository
env_yml = """# Made from settings.ini by `make config`. \
Checked for syntax and for pip's bounds; not solved, no conda was at hand.
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

def files_of_git():
    "All files of the repository, also those that are not committed yet"
    listing = subprocess.check_output(['git', 'ls-files', '-z', '-co', '--exclude-standard'], text=True)
    return [Path(name) for name in listing.split('\0')]

def move_links(old, new):
    "Every link to the old addresses leads to the new ones"
    for path in files_of_git():
        if not path.is_file() or path.suffix not in kinds: continue
        text = moved = path.read_text()
        for before, after in zip(addresses(old), addresses(new)): moved = moved.replace(before, after)
        if moved != text: path.write_text(moved)

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
    "`nbdev-clean` keeps collapsed cells, the size of images and the data of figures (tools/twins.py)"
    keys = 'allowed_cell_metadata_keys = ["jupyter"]\nallowed_out_metadata_keys = ["image/png", "figure"]\n'
    return text.replace('[tool.nbdev]\n', f'[tool.nbdev]\n{keys}')

def write_toml(cfg):
    "pyproject.toml as nbdev makes it, and what nbdev does not know"
    nbdev_migrate_config('.')
    path = Path('pyproject.toml')
    text = with_rooms(path.read_text())
    text = with_extras(text, cfg)
    path.write_text(with_kept_metadata(text))

def write_environment(cfg):
    needed = [conda_spec(req) for req in cfg['requirements'].split()]
    lines = [f'  - {dep}' for dep in (f"python>={cfg['min_python']}", *needed, 'pip')]
    Path('environment.yml').write_text(env_yml.format(lib_name=cfg['lib_name'], deps='\n'.join(lines)))

def main():
    ini = configparser.ConfigParser()
    ini.read('settings.ini')
    cfg, old = ini['DEFAULT'], old_urls()
    write_toml(cfg)
    write_environment(cfg)
    new = old_urls()
    if old != new: move_links(old, new)

if __name__ == '__main__': main()
