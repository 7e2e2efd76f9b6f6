"""The COCO recipe as a job: it goes on to the bit wherever it stops, and its student leaves."""
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from safetensors.torch import load_file
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from sskd_tutor.cli import main
from sskd_tutor.core.state import tensors_sha256
from sskd_tutor.data.made import make_scenes, write_coco
from sskd_tutor.runs.coco import CocoJob, CocoSettings, coco_pair, coco_sets
from sskd_tutor.runs.job import checkpoints_of, run
from sskd_tutor.runs.saved import load_run
from sskd_tutor.runs.recipe_file import read_recipe
from sskd_tutor.tasks.detection import small_detector

def coco_folder(folder):
    for part, n in dict(train2017=6, val2017=4).items():
        file = write_coco(make_scenes(n), folder/part)
        (folder/'coco/annotations').mkdir(parents=True, exist_ok=True)
        (folder/part/'images').rename(folder/'coco'/part)
        file.rename(folder/f'coco/annotations/instances_{part}.json')
    return folder/'coco'

def test_only_flat_boxes_of_cocos_own_file_are_left_out_unasked(tmp_path):
    folder = coco_folder(tmp_path)
    file = folder/'annotations/instances_train2017.json'
    found = json.loads(file.read_text())
    found['annotations'][0]['bbox'] = [5, 5, 0, 9]
    file.write_text(json.dumps(found))
    with pytest.warns(UserWarning, match='1 of its images and boxes cannot be used'): train, valid = coco_sets(folder)
    assert len(train) == 6
    (folder/'train2017/00003.png').unlink()
    with pytest.raises(ValueError, match='00003.png is missing'): coco_sets(folder)
    broken = folder/'train2017/00001.png'
    broken.write_bytes(broken.read_bytes()[:-1500])
    with pytest.warns(UserWarning, match='They are left out'): assert len(coco_sets(folder, skip=True)[0]) == 4

class StopAt(Callback):
    "Ctrl-C after so many steps"
    order = 200  # after the checkpoint
    def __init__(self, n): self.n = n
    def after_batch(self):
        self.n -= self.training
        if not self.n: raise KeyboardInterrupt

def test_a_run_goes_on_inside_an_epoch(tmp_path):
    "Stopped in a stage, in the head and in the training on boxes alone: the same students to the bit, the same table"
    folder = coco_folder(tmp_path)
    def start(out, cbs=None, **kwargs):
        torch.manual_seed(0)
        pair = small_detector(8, c_in=3), small_detector(4, c_in=3)
        settings = CocoSettings('coco_resnet50_resnet18', folder, epochs=2, head_epochs=2, bs=2, labels_only=True, device='cpu')
        job = CocoJob(settings, pair, cbs=cbs)
        job.every = 0
        return run(job, tmp_path/out, **kwargs)
    whole = start('whole')
    done = checkpoints_of(tmp_path/'parts')/'parts.json'
    for i, n in enumerate((4, 7, 9, 8)):  # an epoch has 3 steps, a stage 6: in stage 1, in stage 2, in the head, in the rival
        with pytest.raises(KeyboardInterrupt): start('parts', StopAt(n), resume=i > 0)
        assert list(json.loads(done.read_text())) == ['teacher', 'student'][:1 if i < 3 else 2]
    with pytest.raises(FileExistsError, match='resume=True'): start('parts')
    with pytest.raises(ValueError, match='made in Python'): main(['--traceback', 'recipe', '--resume', str(tmp_path/'parts')])
    again = start('parts', resume=True)
    for name in ('student', 'labels_only'):
        a, b = (load_file(tmp_path/out/f'{name}.safetensors') for out in ('whole', 'parts'))
        assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)
    table = whole.job.table(whole.info)
    assert list(whole.info['results'].values()) == table['last epoch'].tolist()  # those of the saved weights
    assert list(whole.info['best'].values()) == table['best epoch'].tolist()
    assert again.info['rows'] == whole.info['rows'] and again.info['student_sha256'] == whole.info['student_sha256']
    a, b = (load_run(tmp_path/out).history for out in ('whole', 'parts'))
    pd.testing.assert_frame_equal(*(t[~t.measure.str.contains('seconds|time')].reset_index(drop=True) for t in (a, b)))
    assert not done.parent.exists()
    assert main(['export', str(tmp_path/'parts'), '--out', str(tmp_path/'out')]) == 2  # its networks were made in Python

def test_results_are_those_of_the_saved_weights():
    "The last epoch's, although another one was better"
    job = CocoJob(CocoSettings('coco_resnet50_resnet18', 'data', device='cpu'), (None, None))
    job.found = dict(teacher=dict(maps=[40., 40.]), student=dict(maps=[21., 25.]))
    assert job.results() == (dict(teacher=40., distilled=21.), dict(teacher=40., distilled=25.))
    assert job.rows()['student, stage by stage'] == [None, 21., 25.]

@pytest.mark.slow
def test_the_recipe_for_coco_from_end_to_end(tmp_path, capsys):
    folder, teacher = coco_folder(tmp_path), coco_pair(10)[0]
    def older(k): return k.replace('fpn.inner_blocks.0.0', 'fpn.inner_blocks.0').replace('rpn.head.conv.0.0', 'rpn.head.conv')
    old = {older(k): v for k, v in teacher.state_dict().items()}
    assert len(set(old) - set(teacher.state_dict())) == 4
    torch.save(old, tmp_path/'teacher.pth')  # with the names that torchvision's file has
    assert tensors_sha256(coco_pair(10, str(tmp_path/'teacher.pth'))[0]) == tensors_sha256(teacher)
    own = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    def shapes(net): return {k: v.shape for k, v in net.state_dict().items() if 'num_batches' not in k}
    assert shapes(own) == shapes(teacher)
    line = f'recipe coco_resnet50_resnet18 --data {folder} --quick --bs 2 --size 64 --device cpu'
    line += f' --teacher-weights {tmp_path/"teacher.pth"}'
    assert main([*line.split(), '--plan']) == 0
    capsys.readouterr()
    assert main([*line.split(), '--out', str(tmp_path/'run'), '--json']) == 0
    table = json.loads(capsys.readouterr().out)
    assert list(table) == ['teacher', 'student, stage by stage', 'folder'] and table['teacher']['published'] is None
    left = {p.name for p in (tmp_path/'run').iterdir()}
    assert {'settings.json', 'run.json', 'report.html', 'table.csv', 'student.safetensors'} <= left
    assert (tmp_path/'run/student.safetensors').stat().st_size > 1e8
    assert main(['export', str(tmp_path/'run'), '--out', str(tmp_path/'out'), '--formats', 'safetensors', 'torch']) == 0
    a, b = (load_file(tmp_path/f/'student.safetensors') for f in ('run', 'out'))
    assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)
    assert 'mAP, %' in (tmp_path/'out/README.md').read_text()
    (tmp_path/'bad.pth').write_bytes(b'no weights')
    with pytest.raises(ValueError, match='bad.pth.* damaged'): coco_pair(10, str(tmp_path/'bad.pth'))

def test_the_recipe_prints_no_number_of_the_paper():
    r = read_recipe('coco_resnet50_resnet18')
    assert r['task'] == 'detection' and r['published']['rows'] == [] and 'not available' in r['published']['remark']

def test_a_plan_opens_the_teacher(tmp_path):
    "A file that is missing or damaged is an error now, not after a folder is claimed"
    settings = CocoSettings('coco_resnet50_resnet18', coco_folder(tmp_path), size=64, device='cpu')
    settings.teacher_weights = str(tmp_path/'misspelt.pth')
    with pytest.raises(FileNotFoundError, match='misspelt.pth'): CocoJob(settings).plan()
    Path(settings.teacher_weights).write_bytes(b'no weights')
    with pytest.raises(ValueError, match='misspelt.pth.* damaged'): CocoJob(settings).plan()

def test_a_teacher_is_never_random_unasked(tmp_path):
    recipe = read_recipe('bccd_resnet')
    del recipe['train']
    with pytest.raises(ValueError, match='neither teacher_weights nor .train., so the teacher would have random weights'):
        CocoJob(CocoSettings('bccd_resnet', tmp_path, device='cpu'), recipe=recipe)
    del recipe['published']
    with pytest.raises(ValueError, match='lacks published'):
        CocoJob(CocoSettings('bccd_resnet', tmp_path, device='cpu'), recipe=recipe)
