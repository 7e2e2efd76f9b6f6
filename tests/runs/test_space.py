"""A page that shows the student: a folder that needs neither this package nor PyTorch."""
import json, subprocess, sys

import numpy as np
import pytest
import yaml
from PIL import Image

from sskd_tutor.data.images import embedded_fashion, mean, std, vocab
from sskd_tutor.nets.small import tutorial_resnet
from sskd_tutor.runs.export import export_student
from sskd_tutor.runs.space import write_space

@pytest.fixture(scope='module')
def space(tmp_path_factory):
    work = tmp_path_factory.mktemp('space')
    export_student(tutorial_resnet(width=4, blocks=1), embedded_fashion('valid').x[:2]/255, work/'student', ['onnx'], stats=(mean, std))
    return write_space(work/'student/student.onnx', work/'page', vocab, 28, 'L', 'Clothes')

ask = """
import sys
class Gone:
    def find_spec(self, name, *_):
        if name.partition('.')[0] in ('sskd_tutor', 'torch', 'fastai', 'gradio'): raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Gone())
sys.path.insert(0, '.')
import app, json
from PIL import Image
print(json.dumps([app.answer(Image.open(name)) for name in ('gray.png', 'color.png')] + [app.answer(None)]))
"""

def test_it_answers_alone(space):
    "Without the package, PyTorch and Gradio; images of any size and mode"
    Image.fromarray(embedded_fashion('valid').x[0, 0].numpy()).save(space/'gray.png')
    Image.fromarray(np.zeros((90, 60, 3), 'u1')).save(space/'color.png')
    p = subprocess.run([sys.executable, '-c', ask], cwd=space, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    gray, color, nothing = json.loads(p.stdout)
    for said in gray, color: assert list(said) == list(vocab) and sum(said.values()) == pytest.approx(1)
    assert nothing == {} and gray != color

def test_the_hub_can_start_it(space):
    head = yaml.safe_load((space/'README.md').read_text().split('---')[1])
    assert (head['sdk'], head['app_file'], head['title']) == ('gradio', 'app.py', 'Clothes')
    assert {line.split('>=')[0] for line in (space/'requirements.txt').read_text().split()} == {'gradio', 'numpy', 'onnxruntime', 'pillow'}

@pytest.mark.parametrize('make, error, says', [
    (lambda space: write_space(space/'nothing.onnx', space/'x', vocab, 28), FileNotFoundError, 'export the student as ONNX'),
    (lambda space: write_space(space/'student.onnx', space, vocab, 28), FileExistsError, 'name a new folder')])
def test_bad_use(make, error, says, space):
    with pytest.raises(error, match=says): make(space)

def test_a_full_disk_leaves_no_half(space, tmp_path, monkeypatch):
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('shutil.copyfile', full)
    with pytest.raises(OSError, match='No space'): write_space(space/'student.onnx', tmp_path/'page', vocab, 28)
    assert not list(tmp_path.iterdir())
