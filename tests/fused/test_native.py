"""The compiled linear step against the torch form: the same bits, and where it is not used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewstep
from fewstep.checks import ArgumentError
from fewstep.fused import linear_backend, linear_step
from fewstep.fused.linear import native
from fewstep.fused.linear.steps import linear_new
from fewstep.models import GaussianMixture
from fewstep.schedules import VPLinear

BUILT = native.KERNEL.code is not None
needs_kernel = pytest.mark.skipif(not BUILT, reason="the kernel was not built: no C compiler")
F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
MIXES = [
    (F32, (F32,) * 4),
    (F64, (F64,) * 4),
    (BF16, (BF16,) * 4),
    (F16, (F16,) * 4),
    (BF16, (BF16, F32, BF16, F32)),
    (F32, (BF16, F32, F16, F32)),
    (F64, (F32, F64, BF16, F16)),
]
#: numbers of elements around the vector, the block and the tail
SIZES = (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 97, 2047, 2048, 2049, 4099)


def tensors(size, dtypes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, size, dtype=F64, generator=generator).to(d) for d in dtypes]


def by_both(inputs, rows, dtype):
    """The outputs of the kernel and of the torch form."""
    terms = tuple(tuple((i, c) for i, c in enumerate(row) if c != 0.0) for row in rows)
    wide = F64 if dtype == F64 else F32
    firsts = tuple(torch.tensor(row[0][1] if row else 0.0, dtype=wide) for row in terms)
    shape = inputs[0].shape
    found = [torch.full(shape, torch.nan, dtype=dtype) for _ in rows]
    wanted = [torch.full(shape, torch.nan, dtype=dtype) for _ in rows]
    with torch.no_grad():
        assert native.native_step(native.pack(terms), inputs, found, dtype)
        linear_new(inputs, terms, firsts, dtype, wanted)
    return found, wanted


def fuses() -> bool:
    """Whether torch's form fuses multiply and add on this processor, as the kernel then does."""
    return torch.backends.cpu.get_cpu_capability() != "DEFAULT"


def check(found, wanted, inputs, rows):
    for a, b, row in zip(found, wanted, rows, strict=True):
        if fuses():
            assert torch.equal(a, b)
            continue
        size = sum(abs(c) * x.to(F64).abs() for x, c in zip(inputs, row, strict=True))
        unit = {F32: 2.0**-24, F64: 2.0**-53, BF16: 2.0**-8, F16: 2.0**-11}[a.dtype]
        assert bool(((a - b).to(F64).abs() <= (len(row) + 1) * unit * size).all())


@needs_kernel
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "dtypes"), MIXES)
def test_the_bits_of_the_torch_form(dtype, dtypes, size):
    inputs = tensors(size, dtypes)
    rows = [[0.7, -1.3, 0.0, 2.5], [1.0, 0.0, 0.0, 0.0], [0.0] * 4, [1.0, 0.25, -3.0, 0.1]]
    check(*by_both(inputs, rows, dtype), inputs, rows)


@needs_kernel
@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_random_steps(data):
    inputs = tensors(
        data.draw(st.integers(0, 5000)),
        [
            data.draw(st.sampled_from((F32, BF16, F16)))
            for _ in range(data.draw(st.integers(1, 12)))
        ],
        data.draw(st.integers(0, 99)),
    )
    number = st.floats(-4.0, 4.0, width=32)
    row = st.lists(number, min_size=len(inputs), max_size=len(inputs))
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    dtype = data.draw(st.sampled_from((F32, BF16, F16, F64)))
    check(*by_both(inputs, rows, dtype), inputs, rows)


@needs_kernel
@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64])
def test_special_numbers(dtype):
    big = torch.finfo(dtype).max
    values = [0.0, -0.0, 1.0, big, -big, torch.finfo(dtype).tiny, torch.inf, -torch.inf, torch.nan]
    x = torch.tensor([values], dtype=dtype)
    found, wanted = by_both([x, x.flip(1)], [[1.0, 0.5], [2.0, 0.0], [1.0, -1.0]], dtype)
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


@needs_kernel
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_no_bit(threads, monkeypatch):
    inputs = tensors(10_007, (F32, BF16, F32, F32))
    rows = [[0.7, -1.3, 0.2, 2.5], [1.0, 0.25, -3.0, 0.1]]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone, _ = by_both(inputs, rows, F32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(native, "_LEAST", 1)
    together, _ = by_both(inputs, rows, F32)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@needs_kernel
def test_a_write_is_seen_by_autograd():
    x, out = torch.ones(1, 4), torch.ones(1, 4)
    w = torch.ones(1, 4, requires_grad=True)
    loss = (w * out).sum()
    before = out._version
    assert native.native_step(native.pack([[(0, 2.0)]]), [x], [out], F32)
    assert out._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


class Own(torch.Tensor):
    """A subclass."""


@needs_kernel
def test_what_the_kernel_does_not_take_is_left_to_torch():
    x = torch.randn(2, 4, 6)
    packed, out = native.pack([[(0, 2.0)]]), torch.zeros(2, 4, 6)
    refused = {
        "transposed": x.transpose(1, 2).contiguous().transpose(1, 2),
        "subclass": x.as_subclass(Own),
        "wider": x.double(),
        "integers": x.long(),
        "negative": torch._neg_view(x),
    }
    for name, odd in refused.items():
        assert not native.native_step(packed, [odd], [out], F32), name
        assert bool((out == 0.0).all()), name
    with linear_backend("torch"):
        assert not native.native_step(packed, [x], [out], F32)
    made = torch.func.vmap(
        lambda v: linear_new([v], (((0, 2.0),),), (torch.tensor(2.0),), F32, packed=packed)[0]
    )
    assert torch.equal(made(x), 2.0 * x)


@needs_kernel
@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "dpmpp_2m_sde", "heun"])
@pytest.mark.parametrize("dtype", [F32, BF16, F64])
def test_a_run_has_the_same_bits(name, dtype):
    den = GaussianMixture([[-1.0, 0.5], [1.0, 0.0]], [0.3, 0.5], [0.4, 0.6], VPLinear())
    found = []
    for backend in native.BACKENDS:
        with linear_backend(backend) as used:
            assert used == backend == linear_backend()
            found.append(fewstep.sample(den, name, steps=8, n=5, dtype=dtype))
    assert torch.equal(*found) or not fuses()


@needs_kernel
def test_gradients_go_by_torch():
    x = torch.randn(2, 3, requires_grad=True)
    packed = native.pack([[(0, 3.0)]])
    (out,) = linear_new([x], (((0, 3.0),),), (torch.tensor(3.0),), F32, packed=packed)
    (g,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(g, torch.full((2, 3), 3.0))


def test_the_backend_is_chosen_and_restored(monkeypatch):
    before = linear_backend()
    with linear_backend("torch"):
        assert linear_backend() == "torch"
    assert linear_backend() == before
    with pytest.raises(ArgumentError, match="did you mean 'native'"):
        linear_backend("nativ")
    monkeypatch.setattr(native.KERNEL, "code", None)
    with pytest.raises(ArgumentError, match="no C compiler"):
        linear_backend("native")


@pytest.mark.parametrize("value", ["torch", "cuda"])
def test_the_environment_chooses(value):
    done = subprocess.run(
        [sys.executable, "-c", "from fewstep.fused import linear_backend; print(linear_backend())"],
        env={**os.environ, "FEWSTEP_LINEAR": value},
        capture_output=True,
        text=True,
    )
    if value == "torch":
        assert done.stdout.strip() == "torch"
    else:
        assert "linear backend" in done.stderr and done.returncode != 0


def test_the_step_in_place_is_the_reference():
    x, out = torch.randn(2, 3), torch.empty(2, 3)
    linear_step([out], [x], [[2.0]])
    assert torch.equal(out, 2.0 * x)
