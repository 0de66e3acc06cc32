"""Counter-based normals: the documented formula, the same bits in any batch, and their
statistics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats

from fewstep.fused.noise import fills
from fewstep.fused.noise.fills import fill_torch
from fewstep.fused.noise.philox import philox4x32
from fewstep.fused.noise.seeded import (
    SOLVER_STREAM,
    START_STREAM,
    SeededNoise,
    keys_of,
    normals,
    seeds_from,
)

pytestmark = pytest.mark.usefixtures("backend")

ALL = 0xFFFFFFFF
WIDE_SEEDS = (0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 0x123456789ABCDEF0)


def normals_of(seed: int, size: int, stream: int, draw: int) -> list[float]:
    """The documented formula in float64, uniforms and angles rounded to fp32."""
    out: list[float] = []
    for block in range(-(-size // 4)):
        words = [int(w) for w in philox4x32((block, stream, draw, 0), (seed & ALL, seed >> 32))]
        u = [(np.float32(w) + np.float32(0.5)) * np.float32(2.0**-32) for w in words]
        for first, second in ((u[0], u[1]), (u[2], u[3])):
            radius, angle = (
                math.sqrt(-2.0 * math.log(float(first))),
                float(np.float32(2.0 * math.pi) * second),
            )
            out += [radius * math.cos(angle), radius * math.sin(angle)]
    return out[:size]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("seed", WIDE_SEEDS)
@pytest.mark.parametrize(("stream", "draw"), [(0, 0), (1, 3), (ALL, ALL)])
def test_normals_follow_the_documented_formula(seed: int, stream: int, draw: int) -> None:
    got = normals([seed], (37,), stream=stream, draw=draw)
    want = torch.tensor(normals_of(seed, 37, stream, draw), dtype=torch.float64)
    assert got.shape == (1, 37)
    assert (got[0].double() - want).abs().max() < 1e-6


def test_extreme_uniforms_stay_finite_and_bounded() -> None:
    z = normals(seeds_from(0, 8), (500_000,), stream=0, draw=0)
    assert torch.isfinite(z).all()
    assert 4.5 < z.abs().max() <= 6.765


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 30, 4 * 1024 + 1])
def test_host_and_device_arithmetic_agree(size: int) -> None:
    keys = keys_of(WIDE_SEEDS)
    flat = torch.empty(len(WIDE_SEEDS), size)
    fill_torch(flat, keys, 1, 5)
    host = normals(WIDE_SEEDS, (size,), stream=1, draw=5)
    assert (flat - host).abs().max() <= 1e-6
    assert flat.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "shape", [(), (1,), (2,), (3,), (7,), (1, 5, 5), (3, 11, 7), (4, 16, 16), (3, 33, 31)]
)
def test_a_sample_is_the_same_bits_in_any_batch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    seeds = [*WIDE_SEEDS, *range(1000, 1057)]
    batch = normals(seeds, shape, stream=1, draw=2, dtype=dtype)
    assert batch.shape == (64, *shape) and batch.dtype == dtype
    for i in (0, 3, 6, 31, 63):
        assert torch.equal(
            batch[i : i + 1], normals([seeds[i]], shape, stream=1, draw=2, dtype=dtype)
        )
    for first in (0, 5, 57):
        assert torch.equal(
            batch[first : first + 7],
            normals(seeds[first : first + 7], shape, stream=1, draw=2, dtype=dtype),
        )
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()
    assert torch.equal(
        batch[order], normals([seeds[i] for i in order], shape, stream=1, draw=2, dtype=dtype)
    )


@pytest.mark.parametrize("count", [1, 2])
def test_bits_depend_on_neither_size_nor_place_nor_threads(count: int, threads: None) -> None:
    torch.set_num_threads(1)
    whole = normals([11], (4 * fills._HOST_BLOCK * 2 + 7,), stream=1, draw=0)[0]
    torch.set_num_threads(count)
    for size in [
        *range(1, 71),
        255,
        4097,
        4 * fills._HOST_BLOCK - 1,
        4 * fills._HOST_BLOCK + 1,
        4 * fills._HOST_BLOCK * 2 + 5,
    ]:
        assert torch.equal(normals([11], (size,), stream=1, draw=0)[0], whole[:size]), size
    # few long rows, many short rows, and rows cut into several blocks
    for n in (2, 9, 300, 20_000):
        for size in (1, 2, 6, 9):
            some = normals([5] * (n - 1) + [11], (size,), stream=1, draw=0)
            assert torch.equal(some[-1], whole[:size]) and torch.equal(some[0], some[n // 2 - 1])


def test_big_samples_at_several_places() -> None:
    size = 2 * fills._HOST_BLOCK + 13
    one = normals([9], (size,), stream=0, draw=4)
    some = normals([3, 9, 4, 9], (size,), stream=0, draw=4)
    assert torch.equal(some[1], one[0]) and torch.equal(some[3], one[0])
    assert not torch.equal(some[0], one[0])


@pytest.mark.parametrize("backend", ["numpy"], indirect=True)
@pytest.mark.parametrize("limit", [1, 3, 64])
def test_blocks_of_work_do_not_show(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the table of (sample, counter) is cut, on the host or a device, element e keeps its
    address."""
    sizes = (1, 4, 6, 13, 259)
    want = [normals(WIDE_SEEDS, (size,), stream=1, draw=2) for size in sizes]
    assert torch.allclose(
        want[-1][1].double(),
        torch.tensor(normals_of(WIDE_SEEDS[1], 259, 1, 2), dtype=torch.float64),
        rtol=0,
        atol=1e-6,
    )
    monkeypatch.setattr(fills, "_HOST_BLOCK", limit)
    monkeypatch.setattr(fills, "_DEVICE_BLOCK", limit)
    for size, whole in zip(sizes, want, strict=True):
        assert torch.equal(normals(WIDE_SEEDS, (size,), stream=1, draw=2), whole)
        flat = torch.empty_like(whole)
        fill_torch(flat, keys_of(WIDE_SEEDS), 1, 2)
        assert (flat - whole).abs().max() <= 1e-6


def test_elements_are_counted_in_c_order_and_dtypes_are_casts() -> None:
    flat = normals([1, 2], (30,), stream=1, draw=1)
    assert torch.equal(normals([1, 2], (2, 3, 5), stream=1, draw=1).flatten(1), flat)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert torch.equal(normals([1, 2], (30,), stream=1, draw=1, dtype=dtype), flat.to(dtype))


@pytest.mark.parametrize(
    ("seeds", "shape"), [((), (3, 4)), ((1, 2), (0,)), ((1, 2), (3, 0, 2)), ((), (0,))]
)
def test_nothing_to_draw(seeds: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert normals(seeds, shape, stream=0, draw=0).shape == (len(seeds), *shape)


def global_numpy_state() -> np.ndarray:
    """The key of the global generator; the legacy call is the only way to see it."""
    return np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002 - the test is about exactly this state


def test_no_global_state_is_read_or_written() -> None:
    want = normals([4], (10,), stream=0, draw=0)
    state, state_np = torch.get_rng_state(), global_numpy_state()
    torch.set_default_dtype(torch.float64)
    try:
        got = normals([4], (10,), stream=0, draw=0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert got.dtype == torch.float32 and torch.equal(got, want)
    assert torch.equal(torch.get_rng_state(), state) and (global_numpy_state() == state_np).all()


# statistics: fixed seeds, so these either always pass or never do


def test_moments_and_distribution() -> None:
    z = normals(seeds_from(100, 16), (3, 128, 128), stream=0, draw=0).double().flatten().numpy()
    n = len(z)
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs(stats.skew(z)) < 4 * math.sqrt(6 / n)
    assert abs(stats.kurtosis(z)) < 4 * math.sqrt(24 / n)
    assert stats.kstest(z, "norm").pvalue > 0.01
    for lane in range(4):
        assert stats.kstest(z[lane::4], "norm").pvalue > 0.01


def test_streams_draws_seeds_and_neighbours_are_uncorrelated() -> None:
    size = 1 << 16
    rows = [
        normals([seed], (size,), stream=s, draw=d)[0]
        for seed in (0, 1, 2**32)
        for s in (0, 1)
        for d in (0, 1, 2)
    ]
    z = torch.stack(rows).double()
    corr = torch.corrcoef(z) - torch.eye(len(z))
    assert corr.abs().max() < 5 / math.sqrt(size)
    assert torch.corrcoef(z**2).sub(torch.eye(len(z))).abs().max() < 5 / math.sqrt(size)
    lanes = z.reshape(-1, 4).T  # cosine and sine of one pair share their radius
    assert (torch.corrcoef(lanes) - torch.eye(4)).abs().max() < 5 / math.sqrt(lanes.shape[1])
    assert (torch.corrcoef(lanes**2) - torch.eye(4)).abs().max() < 5 / math.sqrt(lanes.shape[1])
    for lag in (1, 2, 4, 8):
        assert abs((z[0, lag:] * z[0, :-lag]).mean()) < 5 / math.sqrt(size)


def test_sums_over_seeds_are_normal() -> None:
    """Neighbouring seeds are as good as any: the sum over 4096 of them, element by element, is N(0,
    4096)."""
    z = normals(seeds_from(0, 4096), (101,), stream=1, draw=7).double().sum(0) / 64.0
    assert stats.kstest(z.numpy(), "norm").pvalue > 0.01


# errors and SeededNoise


@pytest.mark.parametrize("bad", [-1, 2**64, 2**70])
def test_seeds_out_of_range(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"seeds\[1\] = {bad} .*0 <= seed < 2\*\*64"):
        normals([0, bad], (2,), stream=0, draw=0)


@pytest.mark.parametrize("bad", [1.0, "7", None, True, np.bool_(True), np.float32(2)])
def test_seeds_that_are_no_integers(bad: object) -> None:
    with pytest.raises(TypeError, match=r"seeds\[0\] = .* no integer; allowed are integers"):
        normals([bad], (2,), stream=0, draw=0)  # type: ignore[list-item]


def test_a_single_seed_is_no_sequence() -> None:
    with pytest.raises(TypeError, match="sequence of integers.*got 5; seeds_from"):
        normals(5, (2,), stream=0, draw=0)  # type: ignore[arg-type]


def test_integer_likes_are_seeds() -> None:
    want = normals([3, 4], (6,), stream=0, draw=0)
    assert torch.equal(normals(np.array([3, 4]), (6,), stream=0, draw=0), want)
    assert torch.equal(normals(torch.tensor([3, 4]), (6,), stream=0, draw=0), want)


@pytest.mark.parametrize("value", [-1, 2**32])
def test_addresses_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match=f"draw = {value} .*< 2\\*\\*32"):
        normals([0], (2,), stream=0, draw=value)
    with pytest.raises(ValueError, match=f"stream = {value} .*< 2\\*\\*32"):
        normals([0], (2,), stream=value, draw=0)
    with pytest.raises(ValueError, match=f"stream = {value} "):
        SeededNoise((0,), stream=value)


def test_dtype_must_be_floating() -> None:
    with pytest.raises(TypeError, match=r"torch\.int64: normals come in floating point"):
        normals([0], (2,), stream=0, draw=0, dtype=torch.int64)


def test_seeds_from() -> None:
    assert (
        seeds_from(5, 3) == (5, 6, 7)
        and seeds_from(0, 0) == ()
        and seeds_from(2**64 - 2, 2) == (2**64 - 2, 2**64 - 1)
    )
    for seed, n in ((-1, 1), (2**64, 1), (2**64 - 1, 2)):
        with pytest.raises(ValueError, match=r"0 <= seed < 2\*\*64"):
            seeds_from(seed, n)
    with pytest.raises(ValueError, match="n = -1"):
        seeds_from(0, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_seeded_noise_is_shaped_like_the_state(dtype: torch.dtype) -> None:
    seeds = (8, 2**40, 3)
    noise = SeededNoise(seeds)
    like = torch.zeros(3, 4, 5, 7, dtype=dtype).to(memory_format=torch.channels_last)
    assert torch.equal(
        noise(6, like), normals(seeds, (4, 5, 7), stream=SOLVER_STREAM, draw=6, dtype=dtype)
    )
    assert torch.equal(
        SeededNoise(seeds, stream=9)(6, like),
        normals(seeds, (4, 5, 7), stream=9, draw=6, dtype=dtype),
    )
    start = noise.start((4, 5, 7), dtype=dtype)
    assert torch.equal(start, normals(seeds, (4, 5, 7), stream=START_STREAM, draw=0, dtype=dtype))
    assert not torch.equal(start, noise(0, like)) and not torch.equal(
        noise(0, like), noise(1, like)
    )
    assert (START_STREAM, SOLVER_STREAM) == (0, 1)


def test_seeded_noise_keeps_its_keys_and_is_a_value() -> None:
    noise = SeededNoise([1, 2])  # type: ignore[arg-type]
    assert noise.seeds == (1, 2) and noise.keys("cpu") is noise.keys(torch.device("cpu"))
    noise(0, torch.zeros(2, 3))
    assert (
        noise == SeededNoise((1, 2))
        and hash(noise) == hash(SeededNoise((1, 2)))
        and noise != SeededNoise((1, 2), 5)
    )
    assert noise.keys().tolist() == [[1, 2], [0, 0]] and keys_of([2**64 - 1]).tolist() == [
        [ALL],
        [ALL],
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        noise.stream = 3  # type: ignore[misc]


def test_seeded_noise_counts_the_batch() -> None:
    for like in (torch.zeros(3, 2), torch.zeros(())):
        with pytest.raises(ValueError, match="2 seeds; there must be one seed per sample"):
            SeededNoise((1, 2))(0, like)
