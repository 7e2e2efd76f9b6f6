"""Numbers to try losses on, and how a loss is judged: beside its formula written out, and in half precision."""
import pytest
import torch

def randn(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

def unit(v): return v/(v*v).sum().sqrt()

def large(x): return x*(3e4/x.abs().max())   # half of what float16 can hold

def check_value_and_gradient(loss, naive, student):
    "A loss in float32 and its formula in float64, both functions of what the student gives"
    a, b = student.clone().requires_grad_(), student.double().requires_grad_()
    fast, slow = loss(a), naive(b)
    fast.backward()
    slow.backward()
    assert fast.item() == pytest.approx(slow.item(), rel=1e-4, abs=1e-6)
    assert (a.grad - b.grad).norm() <= 1e-4*b.grad.norm() + 1e-7
    return fast.item()

def check_half_precision(loss, *given, dtype):
    "Under autocast the value is float32; it and the gradients of what the student has given are finite"
    given = [x.to(dtype).requires_grad_() for x in given]
    with torch.autocast('cpu', dtype): value = loss(*given)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite()
    for x in given: assert x.grad.isfinite().all()
