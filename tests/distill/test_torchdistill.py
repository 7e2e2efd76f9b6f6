"""Our rivals' losses against torchdistill's (https://github.com/yoshitomo-matsubara/torchdistill): value and gradient."""
import pytest
import torch

from sskd_tutor.distill.learned import CRD, Batch, Shapes, pyramid_loss
from sskd_tutor.distill.rivals import dist_loss, pkt_loss
from helpers.losses import randn

pytestmark = pytest.mark.slow
mid_level = pytest.importorskip('torchdistill.losses.mid_level', reason='pip install --no-deps torchdistill')

def theirs(name, **kwargs):
    "Their loss as a function of (student's, teacher's)"
    loss = getattr(mid_level, name)('m', 'output', 'm', 'output', **kwargs)
    return lambda student, teacher: loss({'m': {'output': student}}, {'m': {'output': teacher}})

def their_review(student, teacher):
    return theirs('HierarchicalContextLoss')((student, None), teacher)

pairs = {
    'dist': (dist_loss, theirs('DISTLoss', beta=2., gamma=2., tau=1.), (8, 10)),
    'dist, T=4': (lambda s, t: dist_loss(s, t, T=4.), theirs('DISTLoss', beta=2., gamma=2., tau=4.), (8, 10)),
    'pkt': (pkt_loss, theirs('PKTLoss'), (8, 32)),
    'reviewkd': (pyramid_loss, their_review, (4, 6, 8, 8))}

@pytest.mark.parametrize('name', pairs)
def test_the_same_value_and_gradient(name):
    ours, other, shape = pairs[name]
    a, b = randn(*shape, seed=1).requires_grad_(), randn(*shape, seed=1).requires_grad_()
    teacher = randn(*shape, seed=2)
    first, second = ours(a, teacher), other(b, teacher)
    first.backward()
    second.backward()
    assert first.item() == pytest.approx(second.item(), rel=1e-4)
    assert (a.grad - b.grad).norm() <= 1e-3*b.grad.norm()

def test_contrast():
    "With the same images to compare with; they compare a true pair with its remembered vector, so that is put in first"
    n, dim, y = 30, 16, torch.arange(6) % 3
    torch.manual_seed(0)
    crd = CRD(dim=dim).build(Shapes([(3, 4, 4)], [(5, 4, 4)], n)).eval()
    crd.banks.copy_(torch.nn.functional.normalize(randn(2, n, dim, seed=3), dim=2))
    crd.labels.copy_(torch.arange(n) % 3)   # ten images a class
    crd.Z.copy_(torch.tensor([25., 30.]))
    tap, hint = randn(6, 3, 4, 4, seed=4), randn(6, 5, 4, 4, seed=5)
    student, teacher = crd.vectors(tap, hint)
    with torch.no_grad(): crd.banks[0][:6], crd.banks[1][:6] = student, teacher

    others = torch.stack([crd.labels.ne(label).nonzero().squeeze(1) for label in y])   # (6, 20)
    loss = mid_level.CRDLoss.__new__(mid_level.CRDLoss)
    torch.nn.Module.__init__(loss)
    loss.student_norm_module_path, loss.student_empty_module_path, loss.teacher_norm_module_path = 'norm', 'empty', 'norm'
    loss.eps, loss.num_samples, loss.probs, loss.alias = 1e-7, n, torch.ones(n), torch.zeros(n)
    loss.register_buffer('params', torch.tensor([20, .07, 25., 30., .5]))
    loss.register_buffer('memory_v1', crd.banks[0].clone())
    loss.register_buffer('memory_v2', crd.banks[1].clone())
    which = dict(pos_idx=torch.arange(6), contrast_idx=torch.cat([torch.arange(6)[:, None], others], 1))
    second = loss({'norm': {'output': student}, 'empty': {'input': which}}, {'norm': {'output': teacher}})
    assert crd([tap], [hint], Batch(y, torch.arange(6))).item() == pytest.approx(second.item(), rel=1e-4)
