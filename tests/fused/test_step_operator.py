"""The linear step as an operator of torch: its rules, and gradients of any order."""

from __future__ import annotations

import pytest
import torch

from fewstep.fused import linear_step
from fewstep.fused.linear.operator import differentiable, linear_operator

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
ROWS = [[(0, 0.5), (1, 2.0), (2, -1.0)], [(1, 3.0)], []]
ARGUMENTS = ([0, 1, 2, 1], [0.5, 2.0, -1.0, 3.0], [3, 1, 0])


def rand(shape, dtype=F32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=F64, generator=generator).to(dtype)


@pytest.mark.parametrize(
    ("dtypes", "dtype"), [((F32, F32, F32), F32), ((F32, F64, F32), F64), ((BF16, F32, BF16), BF16)]
)
def test_rules(dtypes, dtype):
    inputs = [rand((2, 3), d, k).requires_grad_(k < 2) for k, d in enumerate(dtypes)]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(linear_operator, (inputs, *ARGUMENTS, dtype), test_utils=checks)


@pytest.mark.slow
def test_rules_under_the_compiler():
    inputs = [rand((2, 3), F32, k).requires_grad_() for k in range(3)]
    torch.library.opcheck(linear_operator, (inputs, *ARGUMENTS, F32))
    last = rand((2, 3, 4, 5)).to(memory_format=torch.channels_last)
    torch.library.opcheck(
        linear_operator, ([last, rand((2, 3, 4, 5))], [0, 1, 1], [0.5, 2.0, 1.0], [2, 1], BF16)
    )


def test_outputs_are_those_of_the_step():
    inputs = [rand((2, 3), F32, k) for k in range(3)]
    wanted = [torch.empty(2, 3) for _ in ROWS]
    linear_step(wanted, inputs, [[0.5, 2.0, -1.0], [0.0, 3.0, 0.0], [0.0] * 3])
    made = torch.ops.fewstep.linear_step(inputs, *ARGUMENTS, F32)
    assert all(torch.equal(a, b) for a, b in zip(made, wanted, strict=True))
    copy = differentiable(inputs[:1], [[(0, 1.0)]], F32)[0]
    assert torch.equal(copy, inputs[0]) and copy.data_ptr() != inputs[0].data_ptr()


def test_gradients():
    inputs = [rand((2, 3), F64, k).requires_grad_() for k in range(3)]

    def f(*given):
        return tuple(differentiable(given, ROWS, F64))

    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(f, inputs)
    half = rand((2, 3), BF16).requires_grad_()
    grads = torch.autograd.grad(
        differentiable([half, inputs[1]], [[(0, 2.0), (1, 1.0)]], F64)[0].sum(), [half, inputs[1]]
    )
    assert (
        grads[0].dtype == BF16 and bool((grads[0] == 2.0).all()) and bool((grads[1] == 1.0).all())
    )


def test_vmap():
    x, y = rand((4, 7, 3)), rand((4, 3), seed=1)
    made = torch.vmap(
        lambda a, b: differentiable([a, b], [[(0, 0.5), (1, 2.0)]], F32)[0], in_dims=(1, None)
    )(x, y)
    assert torch.allclose(made, 0.5 * x.movedim(1, 0) + 2.0 * y)
