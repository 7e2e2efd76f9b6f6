"""Sets and runs that somebody may hand you, as small as they get: how each is written, and how it is read."""
from typing import Callable, NamedTuple

import torch

from helpers.files import write_cifar, write_folders
from sskd_tutor.core.tables import tidy
from sskd_tutor.data.folders import folder_dls
from sskd_tutor.data.formats import read_cifar
from sskd_tutor.data.made import make_scenes, write_camvid, write_coco
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.runs.saved import load_run, save_run
from sskd_tutor.tasks.boxes import check_coco
from sskd_tutor.tasks.masks import read_camvid

class Reader(NamedTuple):
    write: Callable   # folder ->
    read: Callable    # folder ->
    sealed: bool = False   # does every changed byte have to be noticed?

def write_run(folder):
    rows = [dict(phase='head', stage='head', epoch=0, accuracy=.5)]
    info = dict(title='a run', settings=dict(seed=0), results=dict(distilled=50.))
    torch.manual_seed(0)
    save_run(folder, tidy(rows), info, tutorial_resnet(width=2, blocks=1))

readers = {
    'CIFAR': Reader(lambda f: write_cifar(f, n=6, n_test=3), read_cifar),
    'COCO': Reader(lambda f: write_coco(make_scenes(3, size=48), f), lambda f: check_coco(f/'images', f/'annotations.json', whole=True)),
    'CamVid': Reader(lambda f: write_camvid(make_scenes(5, size=48), f), read_camvid),
    'class folders': Reader(lambda f: write_folders(f, {'.': range(80)}), lambda f: folder_dls(f, 16, 4, whole=True, device='cpu')),
    'run folder': Reader(write_run, load_run, sealed=True)}
