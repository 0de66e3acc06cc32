"""Triton's kernel of the linear step against the torch form: in the interpreter, and on CUDA where
there is a device.

The interpreter cuts float32 to bfloat16 instead of rounding it: one unit in the last place.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import given as given_by
from hypothesis import strategies as st

from fewstep.fused import SeededNoise, linear_backend, linear_step
from fewstep.fused.linear import device, native
from fewstep.fused.linear.steps import linear_new

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
#: half the distance of 1 to the next number, and twice that for outputs of 16 bits
UNIT = {F32: 2.0**-24, F64: 2.0**-53}
ULP = {F32: 0.0, F64: 0.0, BF16: 2.0**-7, F16: 2.0**-10}
SHAPES = [
    (1, 0),
    (0, 3),
    (1, 1),
    (1, 2),
    (1, 7),
    (2, 3, 5),
    (97, 1),
    (1, 1009),
    (2, 16, 16),
    (3, 1031),
    (5, 4, 8, 8),
    (2, 2048),
]


def rand(shape, dtype=F32, seed=0, place="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=F64, generator=generator).to(dtype).to(place)


def both(dtypes, inputs, rows, clamp=None, like=None):
    """The outputs of the kernel and of the torch form."""
    made = []
    for backend in ("triton", "torch"):
        outs = [
            torch.full_like(inputs[0] if like is None else like, torch.nan, dtype=d) for d in dtypes
        ]
        with linear_backend(backend):
            linear_step(outs, inputs, rows, clamp=clamp)
        made.append(outs)
    return made


def check(found, wanted, inputs, rows):
    """Within (K + 1) units of the sum of the terms' sizes, and one in the last place of 16 bits."""
    for a, b, row in zip(found, wanted, rows, strict=True):
        used = [
            (x, c)
            for x, c in zip(inputs, row, strict=True)
            if not (isinstance(c, float) and c == 0.0)
        ]
        wide = F64 in (a.dtype, *(x.dtype for x, _ in used))
        size = torch.zeros(a.shape, dtype=F64, device=a.device)
        for x, c in used:
            factor = (
                abs(c)
                if isinstance(c, float)
                else torch.tensor(c, dtype=F64).abs().view(-1, *(1,) * (x.ndim - 1)).to(x.device)
            )
            size += factor * x.to(F64).abs()
        bound = (len(used) + 1) * UNIT[F64 if wide else F32] * size + ULP[a.dtype] * b.to(F64).abs()
        assert bool(((a.to(F64) - b.to(F64)).abs() <= bound).all())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_shapes(shape, place):
    inputs = [rand(shape, F32, k, place) for k in range(4)]
    rows = [[0.7, -1.3, 0.0, 2.5], [1.0, 0.0, 0.0, 0.0], [0.0] * 4]
    found, wanted = both([F32] * 3, inputs, rows)
    check(found, wanted, inputs, rows)
    assert torch.equal(found[1], inputs[0]) and not found[2].any()


@settings(
    derandomize=True,
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given_by(st.data())
def test_random_steps(place, data):
    shape = data.draw(st.sampled_from(SHAPES))
    kinds = data.draw(st.sampled_from([(F32,), (F32, BF16), (BF16,), (F32, F16), (F32, F64, BF16)]))
    count = data.draw(st.integers(1, 12))
    inputs = [rand(shape, kinds[k % len(kinds)], k, place) for k in range(count)]
    number = st.floats(-4.0, 4.0, width=32)
    row = st.lists(number, min_size=count, max_size=count)
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    dtypes = [data.draw(st.sampled_from(kinds)) for _ in rows]
    check(*both(dtypes, inputs, rows), inputs, rows)


def test_more_outputs_than_one_launch_has(place):
    inputs = [rand((3, 11), F32, k, place) for k in range(14)]
    rows = [[float((3 * i + j) % 5 - 2) for i in range(14)] for j in range(7)]
    check(*both([F32] * 7, inputs, rows), inputs, rows)


def layouts(shape, place):
    """Tensors (2, 3, 4, 6) of many layouts, and whether they are without gaps."""
    x = [rand(shape, F32, k, place) for k in range(5)]
    yield "channels last", x[0].to(memory_format=torch.channels_last)
    yield "transposed", x[1].transpose(2, 3).contiguous().transpose(2, 3)
    yield "columns", torch.cat([x[2], x[2]], dim=3)[..., ::2]
    yield "rows", torch.cat([x[3], x[3]], dim=0)[::2]
    yield "expanded", x[4][:1].expand(shape)
    yield "shifted", torch.cat([x[4].flatten(), x[4].flatten()])[1 : 1 + x[4].numel()].view(shape)


def test_layouts(place):
    shape = (2, 3, 4, 6)
    plain = [rand(shape, F32, 10 + k, place) for k in range(2)]
    rows = [[0.7, -1.3, 2.5], [1.0, 0.0, 0.25]]
    for name, odd in layouts(shape, place):
        inputs = [plain[0], odd, plain[1]]
        check(*both([F32, BF16], inputs, rows), inputs, rows)
        if name == "expanded":
            continue
        # an output of that layout, and inputs that share it
        own = [odd.clone(), odd, odd * 2.0]
        for given in (own, inputs):
            found, wanted = both([F32, F32], given, rows, like=odd)
            check(found, wanted, given, rows)
            assert found[0].stride() == wanted[0].stride()


def test_an_output_with_gaps_leaves_them_alone(place):
    x, wide = rand((4, 6), F32, 0, place), torch.zeros(4, 12, device=place)
    with linear_backend("triton"):
        linear_step([wide[:, 1::2]], [x], [[2.0]])
    assert torch.equal(wide[:, 1::2], 2.0 * x) and not wide[:, ::2].any()


def test_channels_last_runs_flat(place, monkeypatch):
    def refused(*_):
        raise AssertionError("a copy")

    x = rand((2, 3, 4, 6), F32, 0, place).to(memory_format=torch.channels_last)
    y, out = x + 1.0, torch.empty_like(x)
    assert not x.is_contiguous()
    monkeypatch.setattr(torch, "empty_strided", refused)
    with linear_backend("triton"):
        linear_step([out], [x, y], [[1.0, 0.5]])
    monkeypatch.undo()
    assert torch.equal(out, x + 0.5 * y)


@pytest.mark.parametrize("dtype", [F32, BF16, F64])
def test_an_input_with_coefficient_zero_is_not_read(dtype, place):
    x, bad = (
        rand((2, 40), dtype, 0, place),
        torch.full((2, 40), torch.nan, dtype=dtype, device=place),
    )
    found, _ = both([dtype, dtype], [bad, x], [[0.0, 1.0], [0.0, 2.0]])
    assert torch.equal(found[0], x) and torch.equal(found[1], 2.0 * x)
    # read for another output: it does not reach this one
    found, _ = both([dtype, dtype], [bad, x], [[0.0, 1.0], [1.0, 2.0]])
    assert torch.equal(found[0], x) and bool(found[1].isnan().all())


def test_nan_and_infinity_go_through(place):
    x = torch.tensor([[torch.nan, torch.inf, -torch.inf, 0.0, 3e38, 1e-40]], device=place)
    found, wanted = both([F32, F32, F16], [x, x.flip(1)], [[2.0, 0.0], [1.0, -1.0], [1.0, 0.0]])
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


@pytest.mark.parametrize(
    ("shape", "dtypes"),
    [((5, 3), (F32, F32)), ((5, 700), (BF16, F32)), ((3, 1030), (F64, F32)), ((1, 9), (F32, F32))],
)
def test_coefficients_per_sample(shape, dtypes, place):
    inputs = [rand(shape, dtypes[k % 2], k, place) for k in range(3)]
    own = [rand((shape[0],), F64, 40 + k).tolist() for k in range(2)]
    rows = [[own[0], 0.5, own[1]], [1.0, 0.0, own[0]], [0.25, 1.0, 0.0]]
    check(*both([F32, dtypes[0], F32], inputs, rows), inputs, rows)
    if shape[0] == 5:  # a sample's bits do not depend on the batch
        whole = both([F32], inputs, rows[:1])[0][0]
        few = [[own[0][2:4], 0.5, own[1][2:4]]]
        assert torch.equal(whole[2:4], both([F32], [x[2:4].clone() for x in inputs], few)[0][0])


@pytest.mark.parametrize("dtype", [F32, F16, F64])
def test_clamp(dtype, place):
    inputs = [rand((3, 50), dtype, k, place) for k in range(2)]
    inputs[0][0, 0] = torch.nan
    rows = [[1.0, 0.5], [1.0, 0.0], [0.0, 0.0]]
    found, wanted = both([dtype] * 3, inputs, rows, clamp=[(-0.3, 0.7), None, (0.25, 1.0)])
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(
            a.to(F64), b.to(F64), rtol=1e-3 if dtype == F16 else 1e-6, atol=0, equal_nan=True
        )
    assert bool(found[0][0, 0].isnan()) and float(found[0].nan_to_num(0.0).max()) == float(
        torch.tensor(0.7, dtype=dtype)
    )
    assert bool((found[2] == 0.25).all())


SEEDS, PARTICLES = (3, 2**40 + 1, 2**64 - 1, 0, 5), (0, 2**32 - 1, 7, 1, 0)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 1), F32), ((5, 6), BF16), ((3, 3, 100), F64), ((1, 1027), F32), ((3, 3, 100), BF16)],
)
def test_normals_drawn_in_the_launch(shape, dtype, place):
    noise = SeededNoise(SEEDS[: shape[0]], particles=PARTICLES[: shape[0]])
    x = rand(shape, dtype, 0, place)
    draws = [noise.later(k, x) for k in (3, 2**32 - 1)]
    rows = [[0.5, 2.0, 0.0], [1.0, -1.0, 0.25], [0.0, 0.0, 1.0]]
    found, wanted = both([F32, F32, F32], [x, *draws], rows, like=x.float())
    unit = 2.0**-7 if dtype == BF16 else 0.0  # a normal beside a boundary is rounded to either side
    for a, b, row in zip(found, wanted, rows, strict=True):
        near = 1e-6 + unit * torch.stack([d.tensor().to(F64).abs() for d in draws]).amax(0)
        assert bool(((a - b).to(F64).abs() <= (abs(row[1]) + abs(row[2])) * near + 1e-6).all())


def test_normals_do_not_depend_on_the_batch_or_the_launch(place, monkeypatch):
    x = torch.zeros(3, 3, 30, device=place)

    def draw(rows, block=None):
        if block:
            monkeypatch.setattr(device, "tile", lambda *_: block)
        noise = SeededNoise(SEEDS[rows], particles=PARTICLES[rows])
        out = torch.empty_like(x[rows])
        with linear_backend("triton"):
            linear_step([out], [noise.later(4, x[rows])], [[1.0]])
        monkeypatch.undo()
        return out

    whole = draw(slice(0, 3))
    for rows in (slice(0, 1), slice(1, 3)):
        assert torch.equal(draw(rows), whole[rows])
    tile = type(device.tile(1, 1))
    for block in (tile(1, 64, 1), tile(4, 128, 2)):
        assert torch.equal(draw(slice(0, 3), block), whole)


def test_normals_that_one_launch_cannot_draw(place):
    """Six draws, other seeds, another stream: the rest is drawn before the launch."""
    x = torch.zeros(2, 9, device=place)
    noises = [SeededNoise((1, 2)), SeededNoise((3, 4)), SeededNoise((1, 2), stream=7)]
    inputs = [noise.later(k, x) for k in range(6) for noise in noises]
    rows = [[1.0 / (k + 1) for k in range(18)]]
    found, wanted = both([F32], inputs, rows, like=x)
    assert float((found[0] - wanted[0]).abs().max()) < 5e-6


def test_one_launch_for_every_step(place):
    """Coefficients and draws from a table on the device, by an index on the device."""
    x, y = rand((3, 40), F32, 0, place), rand((3, 40), F32, 1, place)
    bad = torch.full_like(x, torch.nan)
    noise = SeededNoise((1, 2, 3))
    table = rand((4, 4, 2), F32, 5, place).contiguous()
    table[2, 2] = 0.0
    draws = torch.tensor(
        [[5, 0, 0, 0], [6, 0, 0, 0], [2**32 - 1, 0, 0, 0], [8, 0, 0, 0]], device=place
    )
    index = torch.zeros(1, dtype=torch.int64, device=place)
    outs = [torch.empty_like(x) for _ in range(2)]
    for step, third in enumerate((y, y, bad, y)):
        index.fill_(step)
        with linear_backend("triton"):
            assert device.device_table(outs, [x, y, third, noise.later(0, x)], table, index, draws)
        z = noise(int(draws[step, 0]), x)
        for j, out in enumerate(outs):
            c = table[step, :, j].tolist()
            want = c[0] * x + c[1] * y + c[3] * z + (c[2] * third if c[2] else 0.0)
            assert torch.allclose(out, want, rtol=0, atol=1e-5)
    assert not device.device_table(outs, [x, y], table, index)
    assert not device.device_table(outs, [x, y, y, y], table.double(), index)


def test_what_the_kernel_does_not_take_is_left_to_torch(place):
    class Own(torch.Tensor):
        """A subclass."""

    x, out = rand((2, 6), F32, 0, place), torch.zeros(2, 6, device=place)
    packed = native.pack([[(0, 2.0)]])
    for odd in (x.long(), torch._neg_view(x), x.as_subclass(Own), x.to(torch.complex64)):
        assert not device.device_step(packed, [odd], [out])
    for terms in ([(1, 1.0), (0, 1.0)], [(0, 1.0), (0, 1.0)], [(0, 1e39)], [(70, 1.0)]):
        assert device.groups(native.pack([terms])) is None
    assert not out.any()


def test_a_write_is_seen_by_autograd(place):
    out = torch.ones(1, 4, device=place)
    w = torch.ones(1, 4, device=place, requires_grad=True)
    loss = (w * out).sum()
    with linear_backend("triton"):
        linear_step([out], [torch.ones(1, 4, device=place)], [[2.0]])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_are_launches(place):
    x = [rand((2, 5), dtype, k, place).requires_grad_() for k, dtype in enumerate((F32, F32, BF16))]
    rows = (((0, 3.0), (1, -1.0)), ((1, 0.5), (2, 2.0)))
    firsts = tuple(torch.tensor(row[0][1]) for row in rows)
    grads = []
    for backend in ("triton", "torch"):
        with linear_backend(backend):
            made = linear_new(x, rows, firsts, F32, packed=native.pack(rows))
            loss = made[0].square().sum() + made[1].sum()
            grads.append(torch.autograd.grad(loss, x))
    for a, b in zip(*grads, strict=True):
        assert a.dtype == b.dtype and torch.allclose(a, b, rtol=1e-6 if a.dtype == F32 else 1e-2)
