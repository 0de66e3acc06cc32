"""Samples of many elements: every element has its own counter, on the host and in device
arithmetic, and no noise is repeated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fewstep.fused.brownian.path import BrownianPath
from fewstep.fused.noise import fills
from fewstep.fused.noise.normal_pairs import draw_words, pair_table
from fewstep.fused.noise.philox import philox4x32
from fewstep.fused.noise.seeded import SeededNoise, keys_of, normals

#: beyond 2^18 elements, and 2^18 counters of four
SIZE = (1 << 20) + (1 << 17) + 3
SEED = 2**40 + 7
#: around every place where a counter of 14, 16, 18 bits, or a 16-bit element, would begin anew
PLACES = sorted(
    {
        p + k
        for p in (0, 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, SIZE - 6)
        for k in (-5, -1, 0, 1, 4)
    }
    & set(range(SIZE))
)


def normal(element: int, stream: int = 1, draw: int = 3) -> float:
    """Philox and Box-Muller in float64, one element at a time."""
    words = [
        int(w) for w in philox4x32((element // 4, stream, draw, 0), (SEED & 0xFFFFFFFF, SEED >> 32))
    ]
    pair = words[:2] if element % 4 < 2 else words[2:]
    u, v = (
        float(np.float32(np.float32(np.float32(w) + np.float32(0.5)) * np.float32(2.0**-32)))
        for w in pair
    )
    radius = math.sqrt(-2.0 * math.log(u))
    return radius * (math.cos if element % 2 == 0 else math.sin)(2.0 * math.pi * v)


def device_normals(size: int) -> torch.Tensor:
    flat = torch.empty((1, size))
    fills.fill_torch(flat, keys_of([SEED]), 1, 3)
    return flat[0]


@pytest.mark.parametrize("place", ["host", "device"])
def test_every_element_has_a_counter_of_its_own(place: str) -> None:
    z = normals([SEED], (SIZE,), stream=1, draw=3)[0] if place == "host" else device_normals(SIZE)
    assert [float(z[e]) for e in PLACES] == pytest.approx([normal(e) for e in PLACES], abs=3e-6)
    for period in (1 << 14, 1 << 16, 1 << 18, 1 << 20):
        count = min(period, SIZE - period)
        same = (z[:count] == z[period : period + count]).float().mean()
        assert float(same) < 1e-3, period
        assert abs(float((z[:count] * z[period : period + count]).mean())) < 4.5 / math.sqrt(
            count
        ), period


def test_a_batch_of_large_samples_and_the_solvers_noise() -> None:
    seeds, shape = (SEED, 5), (3, 300, 400)
    whole = normals(seeds, shape, stream=1, draw=3)
    for row, seed in enumerate(seeds):
        assert torch.equal(
            whole[row], normals([seed], (math.prod(shape),), stream=1, draw=3)[0].view(shape)
        )
    assert torch.equal(SeededNoise(seeds)(3, whole), whole)
    assert [float(whole[0].flatten()[e]) for e in (65_536, 262_144, 359_999)] == pytest.approx(
        [normal(e) for e in (65_536, 262_144, 359_999)], abs=3e-6
    )
    assert float(whole.unique().numel()) > 0.98 * whole.numel()


def test_blocks_of_device_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut into blocks of counters joins again, whatever a block holds."""
    want = device_normals(300_001)
    monkeypatch.setattr(fills, "_DEVICE_BLOCK", 4097)
    assert torch.equal(device_normals(300_001), want)


def test_pairs_of_large_samples() -> None:
    """The half words behind a Brownian path: element e reads half word e mod 8 of block e div 8."""
    size, address = (1 << 19) + 5, (7, 11, 2)
    (words,) = draw_words(keys_of([SEED]), size, [address])
    for e in [e for e in PLACES if e < size]:
        block = [int(w) for w in philox4x32((e // 8, *address), (SEED & 0xFFFFFFFF, SEED >> 32))]
        assert int(words[0][e]) == block[e % 8 // 2] >> 16 * (e % 2) & 0xFFFF
    for period in (1 << 15, 1 << 16, 1 << 18):
        assert float((words[0][:period] == words[0][period : 2 * period]).mean()) < 1e-3


def test_a_path_of_a_large_sample_repeats_nothing() -> None:
    size = (1 << 18) + (1 << 17)
    like = torch.empty((1, size), dtype=torch.float64)
    w = BrownianPath((SEED,), 0.0, 1.0, 1.0).increment(0.0, 1.0, like)[0]
    (one,), (two,) = (draw_words(keys_of([SEED]), size, [(1 << 31, k, 1 << 31)]) for k in (0, 1))
    first = pair_table()[0]
    np.testing.assert_allclose(
        w.numpy(), math.sqrt(0.5) * (first[one[0]] + first[two[0]]), rtol=0, atol=1e-12
    )
    assert float(w.var()) == pytest.approx(1.0, abs=5.0 * math.sqrt(2.0 / size))
    for period in (1 << 16, 1 << 17, 1 << 18):
        count = min(period, size - period)
        assert abs(float((w[:count] * w[period : period + count]).mean())) < 4.5 / math.sqrt(count)
