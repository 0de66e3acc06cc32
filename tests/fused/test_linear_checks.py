"""Preparing per-sample coefficients, and the launches that a linear step refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.fused.linear.eager import linear_combination, prepare
from fewstep.fused.linear.steps import linear_step

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16


def rand(shape: tuple[int, ...], dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def inputs_of(shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> list[Tensor]:
    return [rand(shape, dtype, seed) for seed, dtype in enumerate(dtypes)]


def per_sample(n: int, seed: int = 0) -> tuple[float, ...]:
    return tuple(rand((n,), F64, 50 + seed).tolist())


def step(rows: Any, inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    outputs = [torch.full(inputs[0].shape, float("nan"), dtype=dtype) for _ in rows]
    linear_step(outputs, inputs, rows)
    return outputs


def test_prepare_makes_tensors_once() -> None:
    c, d = per_sample(3), per_sample(3, 1)
    rows = prepare(((1, c, 0.0), (d, (0.0, 0.0, 0.0), c)), ndim=4, dtype=BF16)
    assert rows[0][0] == 1.0 and rows[0][2] == 0.0 and rows[1][1] == 0.0
    tensors = [rows[0][1], rows[1][0], rows[1][2]]
    for ready, given in zip(tensors, (c, d, c), strict=True):
        assert isinstance(ready, Tensor) and ready.shape == (3, 1, 1, 1) and ready.dtype == F32
        assert torch.equal(ready.flatten(), torch.tensor(given, dtype=F32))
    assert len({t.untyped_storage().data_ptr() for t in tensors if isinstance(t, Tensor)}) == 1
    assert prepare(((c,),), ndim=2, dtype=F64)[0][0].dtype == F64  # type: ignore[union-attr]
    assert prepare(rows, ndim=4)[0][1] is rows[0][1] and prepare((), ndim=2) == ()
    inputs = inputs_of((3, 2, 2, 2), (F32,) * 3)
    raw = ((1.0, c, 0.0), (d, (0.0, 0.0, 0.0), c))
    assert all(
        torch.equal(a, b)
        for a, b in zip(step(rows, inputs, F32), step(raw, inputs, F32), strict=True)
    )
    with pytest.raises(
        ValueError,
        match=r"of \[2, 3\] samples in one launch; all must have the length of the batch",
    ):
        prepare(((c, (1.0, 2.0)),), ndim=2)


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_memory_is_not_shared(dtype: torch.dtype) -> None:
    x, y, out = rand((4, 6), dtype), rand((4, 6), dtype), torch.zeros(4, 6, dtype=dtype)
    with pytest.raises(ValueError, match=r"outputs\[0\] shares memory with inputs\[1\]"):
        linear_step([y], [x, y], [(1.0, 1.0)])
    with pytest.raises(ValueError, match=r"outputs\[0\] shares memory with outputs\[1\]"):
        linear_step([out, out], [x], [(1.0,), (2.0,)])
    long = torch.zeros(5, 6, dtype=dtype)
    with pytest.raises(ValueError, match=r"outputs\[0\] shares memory with inputs\[0\]"):
        linear_step([long[1:]], [long[:-1]], [(1.0,)])
    grid = torch.zeros(4, 12, dtype=dtype)
    with pytest.raises(ValueError, match=r"outputs\[0\] shares memory with inputs\[0\]"):
        linear_step([grid[:, ::2]], [grid[:, ::2]], [(1.0,)])
    # neighbours in one storage are fine, and so is one input twice
    history = torch.zeros(3, 4, 6, dtype=dtype)
    history[1:] = x
    linear_step([history[0]], [history[1], history[2], history[1]], [(1.0, 1.0, 2.0)])
    assert torch.equal(history[0], (4 * x.float()).to(dtype))
    linear_step([grid[:, ::2]], [x], [(1.0,)])
    linear_step([grid[:, 1::2]], [grid[:, ::2]], [(2.0,)])
    assert torch.equal(grid[:, 1::2], (2 * x.float()).to(dtype))


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_disagreements_are_refused(dtype: torch.dtype) -> None:
    x, out = rand((4, 6), dtype), torch.zeros(4, 6, dtype=dtype)
    with pytest.raises(ValueError, match=r"lengths \[1\] for 1 outputs and 2 inputs"):
        linear_step([out], [x, x], [(1.0,)])
    with pytest.raises(ValueError, match=r"lengths \[1, 1\] for 1 outputs and 1 inputs"):
        linear_step([out], [x], [(1.0,), (2.0,)])
    with pytest.raises(ValueError, match=r"\(1, 6\)\]; all must have one shape"):
        linear_step([out], [x[:1]], [(1.0,)])
    with pytest.raises(ValueError, match="batch first"):
        linear_step([torch.zeros(())], [torch.ones(())], [(1.0,)])
    for coefficient in ((1.0, 2.0), (1.0, 2.0, 3.0, 4.0, 5.0)):
        with pytest.raises(ValueError, match="there must be one per sample"):
            linear_step([out], [x], [(coefficient,)])
    for ready in (torch.ones(4), torch.ones(4, 6), torch.ones(1, 1)):
        with pytest.raises(ValueError, match="there must be one per sample"):
            linear_step([out], [x], [(ready,)])
    with pytest.raises(
        TypeError,
        match=r"prepared in torch\.float64, but this launch accumulates in torch\.float32",
    ):
        linear_step([out], [x], prepare([[(1.0, 2.0, 3.0, 4.0)]], ndim=2, dtype=F64))
    with pytest.raises(ValueError, match="2 coefficients for 1 inputs"):
        linear_combination([x], (1.0, 2.0), F32)
    with pytest.raises(ValueError, match="at least one"):
        linear_combination([], (), F32)
    linear_step([], [x], [])
