"""The fused linear step in plain torch: against float64, the same bits in any batch, nothing
allocated, nothing aliased."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fewstep.fused.linear import eager as linear
from fewstep.fused.linear.eager import (
    Coefficient,
    accumulator_dtype,
    linear_combination,
    prepare,
)
from fewstep.fused.linear.steps import linear_step

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
SHAPES = [(7,), (7, 5), (7, 3, 33, 31), (2, 4, 65, 64)]
#: two outputs of four inputs, with inputs that are skipped
ROWS: tuple[tuple[float, ...], ...] = ((1.3, -0.7312, 0.0, 0.25), (0.0, 3.1e-3, -1.0, 12.5))


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


def oracle(row: Any, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The sum in float64 and the sum of the terms' magnitudes, the scale of its rounding error."""
    total = torch.zeros(inputs[0].shape, dtype=F64)
    scale = torch.zeros_like(total)
    for x, c in zip(inputs, row, strict=True):
        term = torch.tensor(c, dtype=F64).reshape(-1, *(1,) * (x.ndim - 1)) * x.double()
        total, scale = total + term, scale + term.abs()
    return total, scale


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tol"), [(F32, 4e-7), (F64, 1e-15)])
def test_against_float64(shape: tuple[int, ...], dtype: torch.dtype, tol: float) -> None:
    inputs = inputs_of(shape, (dtype,) * 4)
    rows = (*ROWS, (per_sample(shape[0]), 0.0, per_sample(shape[0], 1), -2.0))
    for row, out in zip(rows, step(rows, inputs, dtype), strict=True):
        total, scale = oracle(row, inputs)
        assert ((out.double() - total).abs() <= tol * scale).all()


@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize("inputs_dtype", [BF16, F16, F32])
def test_half_precision_is_rounded_once(dtype: torch.dtype, inputs_dtype: torch.dtype) -> None:
    """At most the neighbour of the correctly rounded sum, and that only where fp32 lands on the
    other side of a tie."""
    inputs = inputs_of((7, 3, 33, 31), (inputs_dtype,) * 4)
    rows = (*ROWS, (per_sample(7), 0.3, 0.0, per_sample(7, 1)))
    for row, out in zip(rows, step(rows, inputs, dtype), strict=True):
        total, scale = oracle(row, inputs)
        assert (out != total.to(dtype)).double().mean() < 2e-3
        ulp = torch.finfo(dtype).eps * total.abs().clamp_min(torch.finfo(dtype).tiny)
        assert ((out.double() - total).abs() <= 0.5 * ulp * 1.001 + 4e-7 * scale).all()


MIXES = [
    (F32, (F32, BF16, F16, BF16)),
    (F32, (BF16, F32, F32, F32)),
    (F64, (F64, F32, BF16, F32)),
    (F64, (F32, F32, F32, F32)),
    (F32, (F32, F64, F32, F32)),
    (BF16, (F32, BF16, F32, F16)),
    (F16, (F64, BF16, F32, F16)),
]


@pytest.mark.parametrize("block", [1, 1 << 17])
@pytest.mark.parametrize(("dtype", "dtypes"), MIXES)
def test_mixed_dtypes_equal_widening_first(
    dtype: torch.dtype, dtypes: tuple[torch.dtype, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as converting every input to the accumulator's dtype, and the result to the
    output's."""
    monkeypatch.setattr(linear, "_BLOCK", block)
    inputs = inputs_of((7, 3, 33, 31), dtypes)
    wide = accumulator_dtype([dtype, *dtypes])
    assert wide == (F64 if F64 in (dtype, *dtypes) else F32)
    for row in ((0.7, -1.1, 0.31, 2.0), (per_sample(7), 0.3, per_sample(7, 1), -0.1)):
        (out,) = step([row], inputs, dtype)
        (want,) = step([row], [x.to(wide) for x in inputs], wide)
        assert torch.equal(out, want.to(dtype))
        total, scale = oracle(row, inputs)
        assert (
            (out.double() - total).abs()
            <= (0.6 * torch.finfo(dtype).eps + 4 * torch.finfo(wide).eps) * scale
        ).all()


@pytest.mark.parametrize("dtype", [F32, F64, BF16])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 5), (3, 11, 7), (1, 28, 28), (3, 65, 67)])
def test_a_sample_is_the_same_bits_in_any_batch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = inputs_of((64, *shape), (dtype, F32 if dtype == BF16 else dtype, dtype, dtype))
    rows = (*ROWS, (per_sample(64), 0.3, per_sample(64, 1), per_sample(64, 2)))
    whole = step(rows, inputs, dtype)
    for n in (1, 7):
        for first in (0, 13, 64 - n):
            part = slice(first, first + n)
            cut = [[c[part] if isinstance(c, tuple) else c for c in row] for row in rows]
            for out, want in zip(step(cut, [x[part] for x in inputs], dtype), whole, strict=True):
                assert torch.equal(out, want[part])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    mixed = [
        [tuple(c[i] for i in order) if isinstance(c, tuple) else c for c in row] for row in rows
    ]
    for out, want in zip(step(mixed, [x[order] for x in inputs], dtype), whole, strict=True):
        assert torch.equal(out, want[order])


def test_bits_depend_on_neither_size_nor_place_nor_threads(threads: None) -> None:
    """The body of a vector loop, its tail and the cuts between threads round alike."""
    torch.set_num_threads(1)
    inputs = inputs_of((1, 150_001), (F32,) * 4)
    whole = step(ROWS, inputs, F32)
    for size in [*range(1, 71), 4097, 65_537]:
        for first in (0, 1, 7, 16, 1001):
            part = [x[:, first : first + size] for x in inputs]
            for out, want in zip(step(ROWS, part, F32), whole, strict=True):
                assert torch.equal(out, want[:, first : first + size])
    torch.set_num_threads(2)
    assert all(torch.equal(a, b) for a, b in zip(step(ROWS, inputs, F32), whole, strict=True))


@pytest.mark.parametrize(("dtype", "raw"), [(F32, F32), (F64, F64), (F32, BF16), (BF16, BF16)])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_numbers_per_sample_are_the_bits_of_one_number(
    shape: tuple[int, ...], dtype: torch.dtype, raw: torch.dtype
) -> None:
    """Plans of one structure stack: a sample of the stack has the bits of its own plan."""
    inputs = inputs_of(shape, (dtype, raw, raw, dtype))
    stacked = [[(c,) * shape[0] if c else c for c in row] for row in ROWS]
    assert all(
        torch.equal(a, b)
        for a, b in zip(step(ROWS, inputs, dtype), step(stacked, inputs, dtype), strict=True)
    )


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "strided": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "offset": lambda x: torch.cat([x[:, :1], x], 1)[:, 1:],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "raw"), [(F32, F32), (F32, BF16), (BF16, BF16)])
def test_layouts_do_not_matter(layout: str, dtype: torch.dtype, raw: torch.dtype) -> None:
    inputs = inputs_of((5, 3, 17, 9), (dtype, raw, raw, dtype))
    rows = (*ROWS, (per_sample(5), 0.3, per_sample(5, 1), 0.0))
    want = step(rows, inputs, dtype)
    moved = [x if i % 2 else LAYOUTS[layout](x) for i, x in enumerate(inputs)]
    assert not moved[0].is_contiguous() and torch.equal(moved[0], inputs[0])
    assert all(torch.equal(a, b) for a, b in zip(step(rows, moved, dtype), want, strict=True))
    outputs = [LAYOUTS[layout](torch.zeros(5, 3, 17, 9, dtype=dtype)) for _ in rows]
    strides = [out.stride() for out in outputs]
    linear_step(outputs, moved, rows)
    assert all(torch.equal(a, b) for a, b in zip(outputs, want, strict=True))
    assert [out.stride() for out in outputs] == strides


def test_a_launch_is_its_outputs_one_by_one_and_reads_only() -> None:
    inputs = inputs_of((4, 6), (F32,) * 4)
    copies = [x.clone() for x in inputs]
    together = step(ROWS, inputs, F32)
    for row, out in zip(ROWS, together, strict=True):
        assert torch.equal(step([row], inputs, F32)[0], out)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_zero_coefficient_does_not_read_its_input(dtype: torch.dtype) -> None:
    x, bad = rand((3, 4), dtype), torch.full((3, 4), float("nan"), dtype=dtype)
    (out, alone, none) = step([(0.0, 2.0), ((0.0, 0.0, 0.0), 2.0), (-0.0, 0.0)], [bad, x], dtype)
    assert (
        torch.equal(out, 2 * x)
        and torch.equal(alone, 2 * x)
        and torch.equal(none, torch.zeros_like(x))
    )


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_empty_tensors(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert step([(1.0, 2.0)], inputs_of(shape, (dtype, dtype)), dtype)[0].shape == shape


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operators that run and the storages they return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[str] = []
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.ops.append(str(func))
        self.storages.add(result.untyped_storage().data_ptr())
        return result


@pytest.mark.parametrize("dtype", [F32, F64])
def test_nothing_is_allocated_and_nothing_syncs(dtype: torch.dtype) -> None:
    inputs = inputs_of((3, 4), (dtype,) * 4)
    outputs = [torch.empty(3, 4, dtype=dtype) for _ in range(3)]
    rows = prepare(
        (*ROWS, (per_sample(3), 1.0, per_sample(3), per_sample(3, 2))), ndim=2, dtype=dtype
    )
    with Recorder() as seen:
        linear_step(outputs, inputs, rows)
    assert (
        set(seen.ops) == {"aten.mul.out", "aten.add_.Tensor", "aten.addcmul_.default"}
        and len(seen.ops) == 10
    )
    assert seen.storages == {out.untyped_storage().data_ptr() for out in outputs}


def test_no_gradient_is_recorded() -> None:
    x, out = rand((2, 3)).requires_grad_(), torch.empty(2, 3)
    linear_step([out], [x, rand((2, 3))], [(1.0, 2.0)])
    assert not out.requires_grad and torch.is_grad_enabled()
    with torch.inference_mode():
        y = rand((2, 3))
    linear_step([out], [x, y], [(1.0, 2.0)])
    assert torch.equal(out, torch.add(x.detach(), y, alpha=2.0))


COMBINATIONS: list[tuple[Coefficient, ...]] = [
    (1.3, -0.7312, 0.0, 0.25),
    (per_sample(7), 0.3, 0.0, per_sample(7, 1)),
    (0.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize("row", COMBINATIONS)
@pytest.mark.parametrize(
    ("dtype", "dtypes"), [(F32, (F32,) * 4), (F64, (F64,) * 4), (BF16, (BF16,) * 4), *MIXES]
)
def test_the_pure_form_has_the_same_bits(
    row: Any, dtype: torch.dtype, dtypes: tuple[torch.dtype, ...]
) -> None:
    inputs = inputs_of((7, 3, 11, 13), dtypes)
    pure = linear_combination(inputs, row, dtype)
    assert pure.dtype == dtype and torch.equal(pure, step([row], inputs, dtype)[0])
    assert all(pure.data_ptr() != x.data_ptr() for x in inputs)


def test_the_pure_form_has_gradients() -> None:
    inputs = [x.requires_grad_() for x in inputs_of((3, 4), (F64,) * 3)]
    row = (1.5, per_sample(3), -0.25)
    assert torch.autograd.gradcheck(lambda *xs: linear_combination(xs, row, F64), tuple(inputs))
    linear_combination([x.float() for x in inputs], row, BF16).float().sum().backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(inputs[0].grad, torch.full((3, 4), 1.5, dtype=F64))  # type: ignore[arg-type]
    assert torch.allclose(inputs[1].grad, torch.tensor(row[1], dtype=F64)[:, None].expand(3, 4))  # type: ignore[arg-type]
