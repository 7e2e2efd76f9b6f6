"""Relative difficulty: weights of pixels and disputed pixels, pixel by pixel."""
import pytest
import torch
import torch.nn.functional as F

from sskd_tutor.distill.joint import Term
from sskd_tutor.tasks.difficulty import disputed, disputed_loss, easy_loss, pixel_weights

def answers(seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 5, 4, 3), torch.randn(2, 5, 4, 3), torch.randint(5, (2, 4, 3))

def test_equal_heads_give_weights_of_one_and_the_plain_loss():
    main, pred, y = answers()
    assert pixel_weights(main, main.clone()).eq(1).all()
    assert torch.allclose(easy_loss(pred, y, pixel_weights(main, main)), F.cross_entropy(pred, y))

def test_weights_fall_with_the_distance_of_the_heads():
    main, aux, _ = answers()
    far = [pixel_weights(main, main + k*aux).mean().item() for k in (0., .5, 1., 2.)]
    assert far == sorted(far, reverse=True) and 0 < far[-1] < far[0] == 1

def test_void_counts_nowhere():
    main, pred, y = answers()
    w = pixel_weights(main, pred)
    kept = y != 3
    by_hand = (w*F.cross_entropy(pred, y, reduction='none'))[kept].sum()/kept.sum()
    assert torch.allclose(easy_loss(pred, y, w, void=3), by_hand)
    where = disputed(pred, main) & kept
    assert torch.allclose(disputed_loss(pred, main, y, void=3), F.cross_entropy(pred, y, reduction='none')[where].mean())

def test_a_term_takes_the_second_phase():
    main, pred, y = answers()
    assert torch.equal(Term(disputed_loss, labels=True)(pred, main, y), disputed_loss(pred, main, y))

def test_bad_input_is_named():
    main, aux, y = answers()
    with pytest.raises(ValueError, match='auxiliary'): pixel_weights(main, None)
    with pytest.raises(ValueError, match='the same'): pixel_weights(main, aux[..., :2])
    with pytest.raises(ValueError, match='masks of student and teacher are equal'): disputed_loss(main, main, y)
