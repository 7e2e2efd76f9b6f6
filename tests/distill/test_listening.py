"""Teachers that listen, against loops and finite differences that share no code with them."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sskd_tutor.distill.listening import Exp3, can_teach, course_step, exam_gradient, quintessential
from sskd_tutor.distill.losses import soft_kl

def pair(seed=0):
    torch.manual_seed(seed)
    teacher = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    student = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return teacher, student, torch.randn(8, 4).double(), torch.randn(6, 4).double(), torch.randint(3, (6,))

def plain_exam(teacher, student, course, exam, y, lr):
    pupil = copy.deepcopy(student)
    learns = [p for p in pupil.parameters() if p.requires_grad]
    F.mse_loss(pupil(course), teacher(course).detach()).backward()
    torch.optim.SGD(learns, lr).step()
    return F.cross_entropy(pupil(exam), y).item()

@pytest.mark.parametrize('frozen', [(), ('0.weight', '0.bias')])
def test_the_exam_reaches_every_weight_of_the_teacher(frozen):
    teacher, student, course, exam, y = pair()
    for name, p in student.named_parameters(): p.requires_grad_(name not in frozen)
    loss, gradient = exam_gradient(student, teacher, course, exam, y, lr=.3, lesson=F.mse_loss)
    assert loss.item() == pytest.approx(plain_exam(teacher, student, course, exam, y, .3), abs=1e-12)
    for name, p in teacher.named_parameters():
        for i in range(p.numel()):
            ends = []
            for nudge in (1e-5, -1e-5):
                moved = copy.deepcopy(teacher)
                moved.get_parameter(name).data.view(-1)[i] += nudge
                ends.append(plain_exam(moved, student, course, exam, y, .3))
            assert gradient[name].view(-1)[i].item() == pytest.approx((ends[0] - ends[1])/2e-5, abs=1e-8)

def test_a_lesson_changes_neither_student_nor_teacher():
    teacher, student, course, exam, y = pair()
    before = [copy.deepcopy(net.state_dict()) for net in (teacher, student)]
    exam_gradient(student, teacher, course, exam, y)
    for net, old in zip((teacher, student), before):
        assert all(torch.equal(old[name], value) for name, value in net.state_dict().items())
        assert all(p.grad is None for p in net.parameters())

def test_a_lesson_without_the_teacher_teaches_it_nothing():
    teacher, student, course, exam, y = pair()
    _, gradient = exam_gradient(student, teacher, course, exam, y, lesson=lambda pred, said: soft_kl(pred, 0*said))
    assert all(g.abs().max() == 0 for g in gradient.values())

def test_who_can_help_is_a_difference_of_sets():
    torch.manual_seed(0)
    a, b, y = torch.randn(300, 4), torch.randn(300, 4), torch.randint(4, (300,))
    right = [{i for i in range(300) if int(logits[i].argmax()) == int(y[i])} for logits in (a, b)]
    assert set(can_teach(a, b, y).nonzero()[:, 0].tolist()) == right[0] - right[1]

def test_a_counterfactual_moves_the_answer_towards_the_truth_and_no_further():
    torch.manual_seed(0)
    net, x, y = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(12, 10), torch.randint(3, (12,))
    before = net(x).softmax(1).gather(1, y[:, None])[:, 0]
    for alpha in (.25, .5):
        after = net(quintessential(net, x, y, alpha, steps=200)).softmax(1).gather(1, y[:, None])[:, 0]
        assert (after > before).all() and (after < before + alpha*(1 - before) + .02).all()

def test_a_bandit_credits_rare_arms_more_and_repeats_itself():
    runs = []
    for _ in range(2):
        bandit, pulls = Exp3(['a', 'b', 'c'], gamma=.3, seed=4), []
        for k in range(50):
            pulls.append(bandit.pull())
            bandit.reward(pulls[-1], k % 2)
        runs.append(pulls)
    assert runs[0] == runs[1]
    bandit = Exp3(['often', 'rare'], gamma=.5)
    bandit.log_weights[0] = 5.
    p, before = bandit.p.clone(), bandit.log_weights.clone()
    for arm in bandit.arms: bandit.reward(arm, 1.)
    gain = bandit.log_weights - before
    assert gain[1] > gain[0] > 0 and gain[0].item() == pytest.approx(.5/(2*p[0].item()))

@pytest.mark.parametrize('call, says', [(lambda: Exp3(['a', 'a']), 'different names'), (lambda: Exp3(['a', 'b'], gamma=0), 'above 0'),
                                        (lambda: Exp3(['a', 'b']).reward('a', 2), '0 to 1'),
                                        (lambda: course_step(nn.Linear(2, 2).requires_grad_(False), lambda f: 0, .1), 'requires a gradient')])
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says): call()
