"""One entry, one place: what is added to a registry at run time is found everywhere that its kind is used, without another edit."""
import pytest
import torch
from torch import nn

from sskd_tutor.cli import parser
from sskd_tutor.compare.methods import add_method, families, methods
from sskd_tutor.compare.phases import Stages
from sskd_tutor.compare.study import studies
from sskd_tutor.compare.verdicts import named
from sskd_tutor.core.files import pkg_data
from sskd_tutor.data.formats import Format, formats, open_data
from sskd_tutor.data.loaders import noise_dls
from sskd_tutor.distill.adapters import AdapterKind, adapter_kinds, make_adapter
from sskd_tutor.distill.losses import MimicLoss, as_loss, losses
from sskd_tutor.measure.recording import Recording
from sskd_tutor.nets.weights import Teacher, fashion_teacher, teachers
from sskd_tutor.tasks.known import Task, tasks
from sskd_tutor.viz.alignment import cka_map
from sskd_tutor.viz.comparison import look
from sskd_tutor.viz.explorer import Explorer
from sskd_tutor.viz.gallery import Figure, chapters_of, figures, gallery  # the report draws `chapters_of`
from sskd_tutor.viz.style import method_colors

@pytest.fixture
def entry():
    "Adds an entry to a registry for the time of a test"
    added = []
    def add(registry, name, value):
        added.append((registry, name))
        return registry.add(name, value)
    yield add
    for registry, name in added: del registry[name]

def help_of(command, capsys):
    with pytest.raises(SystemExit): parser(command).parse_args([command, '--help'])
    return capsys.readouterr().out

def absolute(pred, hint): return (pred.float() - hint.float()).abs().mean()

def test_loss(entry, capsys):
    with pytest.raises(ValueError, match="no mimic loss 'absolute'"): as_loss('absolute')
    assert 'absolute' not in help_of('distill', capsys)
    entry(losses, 'absolute', MimicLoss(absolute, 'mean absolute difference', 'ours'))
    assert as_loss('absolute') is absolute
    assert 'absolute' in help_of('distill', capsys)
    with pytest.raises(ValueError, match="did you mean 'absolute'"): as_loss('absolut')

def test_adapter(entry, capsys):
    with pytest.raises(ValueError, match='deep'): make_adapter((4, 8, 8), (8, 8, 8), 'deep')
    assert 'deep' not in help_of('distill', capsys)
    def deep(c_in, c_out): return dict(first=nn.Conv2d(c_in, c_out, 1), relu=nn.ReLU(), last=nn.Conv2d(c_out, c_out, 1))
    entry(adapter_kinds, 'deep', AdapterKind(deep, 'two convolutions', 'ours'))
    assert make_adapter((4, 8, 8), (8, 8, 8), 'deep')(torch.zeros(2, 4, 8, 8)).shape == (2, 8, 8, 8)
    assert 'deep' in help_of('distill', capsys)

def test_format(entry, tmp_path):
    (tmp_path/'noise.bin').write_bytes(b'')
    def opened(path, wanted): return noise_dls((3, wanted.size, wanted.size), 8, 4, bs=wanted.bs, device='cpu')
    with pytest.raises(ValueError, match="no format 'noise'"): open_data('noise', tmp_path)
    entry(formats, 'noise', Format('nothing but noise', opened, folders=('noise',), signs=('noise.bin',)))
    assert open_data('noise', tmp_path, size=16, bs=4).one_batch()[0].shape == (4, 3, 16, 16)
    assert open_data(tmp_path, size=16, bs=4).one_batch()[0].shape == (4, 3, 16, 16)  # recognized by its sign

def test_method(tmp_path):
    config = tmp_path/'study.toml'
    config.write_text('[tiny]\nmethods = ["twice"]\nlabels = 100\nimages = 200\nbudget = {epochs = 3}\nseeds = 1\n')
    with pytest.raises(ValueError, match="no method 'twice'"): studies(config, [])
    family = families[0]
    @add_method('learns everything twice', family, 'star', 'ours')
    def twice(): return [Stages(), Stages()]
    try:
        assert list(studies(config, [])['tiny'].methods) == ['twice']
        assert named('twice') == 'learns everything twice'
        assert (look('twice').family, look('twice').color, look('twice').symbol) == (family, method_colors['labels_only'], 'star')
    finally: del methods['twice']

def test_figure(entry):
    rec = Recording.load(pkg_data/'example_recording')
    explorer = Explorer(rec)
    before = len(chapters_of(rec))
    assert 'again' not in gallery(rec)
    with pytest.raises(ValueError, match="no figure 'again'|no view 'again'"): explorer.view('again')
    def once(rec): return {'all': {}}
    entry(figures, 'again', Figure(cka_map, once, 'again', 'Who sees what, again', place='half', chapter='answers',
                                   controls=dict(step='step')))
    assert gallery(rec)['again'] == (cka_map, {})
    assert explorer.view('again').data
    answers = [c for c in chapters_of(rec) if 'Does it answer' in c.title]
    assert len(chapters_of(rec)) == before and len(answers[0].drawings) == 3

def test_teacher(entry, capsys):
    with pytest.raises(ValueError, match="no teacher 'same'; did you mean 'same-data'"): fashion_teacher('same')
    known = teachers['same-data']
    assert 'second' not in help_of('demo', capsys)
    entry(teachers, 'second', Teacher(known.file, known.sha256, known.labels, 'the same once more'))
    assert not fashion_teacher('second').training
    assert 'second' in help_of('demo', capsys)

def test_task(entry):
    with pytest.raises(ValueError, match="no task 'keypoints'"): tasks['keypoints']
    known = tasks['classification']
    entry(tasks, 'keypoints', Task('where the joints are', 'COCO keypoints', known.loaders, known.learner, 'pck', known.teacher))
    assert tasks['keypoints'].measure == 'pck'
    with pytest.raises(ValueError, match="already"): tasks.add('keypoints', known)
