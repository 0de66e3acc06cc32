"""``linear_new``, the fused step into new tensors: the bits of ``linear_step``, for every mixture
of dtypes, and its gradient."""

from __future__ import annotations

import pytest
import torch

from fewstep.fused.linear.eager import linear_combination
from fewstep.fused.linear.steps import linear_new, linear_step

ROWS = (
    (0.7, -1.3, 0.0, 2.5),
    (1.0, 0.0, 0.0, 0.0),
    (1.0, 0.25, -3.0, 0.0),
    (0.0, 0.0, 0.0, 0.0),
    (-2.0, 0.0, 0.0, 0.0),
)
MIXES = [
    (torch.float32, (torch.float32,) * 4),
    (torch.float64, (torch.float64,) * 4),
    (torch.bfloat16, (torch.bfloat16, torch.float32, torch.bfloat16, torch.float32)),
    (torch.float32, (torch.bfloat16, torch.float32, torch.float16, torch.float32)),
    (torch.float64, (torch.float32,) * 4),
]


def inputs(dtypes: tuple[torch.dtype, ...]) -> list[torch.Tensor]:
    return [
        torch.randn(3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(k)).to(d)
        for k, d in enumerate(dtypes)
    ]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("dtype", "dtypes"), MIXES)
def test_the_bits_of_the_step_in_place(
    dtype: torch.dtype, dtypes: tuple[torch.dtype, ...], grad: bool
) -> None:
    given = inputs(dtypes)
    want = [torch.empty(3, 5, 7, dtype=dtype) for _ in ROWS]
    linear_step(want, given, ROWS)
    terms = tuple(tuple((i, c) for i, c in enumerate(row) if c != 0.0) for row in ROWS)
    firsts = tuple(torch.tensor(row[0][1] if row else 0.0, dtype=dtype) for row in terms)
    copies = [x.clone() for x in given]
    with torch.set_grad_enabled(grad):
        found = linear_new(given, terms, firsts, dtype)
    for row, a, b in zip(ROWS, found, want, strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b), row
        assert torch.equal(linear_combination(given, row, dtype), b), row
    assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True))
    assert all(out.data_ptr() != x.data_ptr() for out in found for x in given), (
        "new tensors, also for a row that copies"
    )


def test_gradients_are_the_coefficients() -> None:
    given = [x.requires_grad_() for x in inputs((torch.float64,) * 4)]
    terms = tuple(tuple((i, c) for i, c in enumerate(row) if c != 0.0) for row in ROWS[:3])
    firsts = tuple(torch.tensor(row[0][1], dtype=torch.float64) for row in terms)
    total = sum(
        (k + 1.0) * out.sum()
        for k, out in enumerate(linear_new(given, terms, firsts, torch.float64))
    )
    grads = torch.autograd.grad(total, given, allow_unused=True)
    for i, grad in enumerate(grads):
        want = sum((k + 1.0) * row[i] for k, row in enumerate(ROWS[:3]))
        assert grad is not None and torch.allclose(
            grad, torch.full_like(grad, want), rtol=0, atol=1e-14
        )
