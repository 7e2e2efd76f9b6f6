"""Learn, teach and use stage-by-stage knowledge distillation (Gao et al., 2018, arXiv 1812.01819) with fastai.

Where things are; each room imports only the rooms above it:

- `core`: errors with a cure, files written whole, fingerprints, devices, units, settings
- `data`: images and views, folders, the formats of known sets, made-up sets
- `nets`: staged networks, weights and teachers, taps, cutting any network into stages
- `measure`: alignment, fidelity, the recording of a run
- `distill`: adapters, losses, callbacks, plan, cache, checkpoint, `fit_sskd`, `fit_joint`
- `compare`: methods, studies, verdicts
- `tasks`: detection, segmentation, faces
- `viz`: figures, dashboard, Explorer
- `runs`: the demo, your own folder, the recipes, reports, export, `doctor`
- `course`: the exercises and their checks
- `cli`, `all`: the command line; `from sskd_tutor.all import *`

Start with `from sskd_tutor.all import *`, then `learn.fit_sskd(fashion_teacher())`.
"""
import warnings

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')   # by fastai's import; nothing of ours calls it

__version__ = "0.2.0"
