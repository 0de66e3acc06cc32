"""Triton's noise against the torch form: the words to the last bit, the normals to 1e-6."""

from __future__ import annotations

import pytest
import torch

from fewstep.fused import SeededNoise, noise_backend
from fewstep.fused.noise import device
from fewstep.fused.noise.fills import fill_torch
from fewstep.fused.noise.native import KERNEL
from fewstep.fused.noise.philox import philox4x32
from fewstep.fused.noise.seeded import keys_of, normals

ALL = 0xFFFFFFFF
SEEDS = (0, 1, 2**32 - 1, 2**32, 2**64 - 1, 0x123456789ABCDEF0)
PARTICLES = (0, 1, 2**32 - 1, 5, 0, 7)


def by_triton(given):
    from words_kernel import words

    out = torch.zeros(4, given.shape[1], dtype=torch.int64, device=given.device)
    words[(1,)](out, given, given.shape[1])
    return out


def test_known_answer(place):
    given = torch.zeros(6, 2, dtype=torch.int64, device=place)
    given[:, 1] = ALL
    first, second = by_triton(given).T.tolist()
    assert [f"{w:08x}" for w in first] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    assert [f"{w:08x}" for w in second] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


def test_words_are_those_of_torch(place):
    generator = torch.Generator().manual_seed(0)
    given = torch.randint(0, 1 << 32, (6, 1024), generator=generator).to(place)
    wanted = philox4x32(tuple(given[:4]), tuple(given[4:]))
    assert torch.equal(by_triton(given), torch.stack(wanted))


@pytest.mark.parametrize(
    ("size", "placed"), [(1, True), (3, False), (4, True), (7, True), (64, False), (1030, True)]
)
def test_normals(size, placed, place):
    seeds, particles = (SEEDS, PARTICLES) if size < 1024 else (SEEDS[4:], PARTICLES[:2])
    keys = keys_of(seeds, place)
    places = torch.tensor(particles, device=place) if placed else None
    wanted = torch.empty(len(seeds), size, device=place)
    fill_torch(wanted, keys, 1, 2**32 - 5, places)
    with noise_backend("triton"):
        found = torch.empty_like(wanted)
        assert device.fill_by_triton(found, keys, 1, 2**32 - 5, places)
        whole = normals(
            seeds,
            (size,),
            stream=1,
            draw=2**32 - 5,
            device=place,
            particles=particles if placed else None,
        )
    assert float((found - wanted).abs().max()) <= 1e-6 and torch.equal(found, whole)
    assert float((found - wanted).abs().max()) > 0.0 or size < 8


@pytest.mark.skipif(KERNEL.code is None, reason="the kernel was not built: no C compiler")
def test_bits_are_those_of_the_compiled_kernel_of_the_cpu(place):
    """Polynomials, and no fused multiply-add: arithmetic that every device rounds the same way."""
    with noise_backend("native"):
        wanted = normals(SEEDS, (700,), stream=1, draw=3)
    with noise_backend("triton"):
        found = normals(SEEDS, (700,), stream=1, draw=3, device=place)
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_sample_does_not_depend_on_its_batch(dtype, place):
    like = torch.empty(len(SEEDS), 3, 11, dtype=dtype, device=place)
    with noise_backend("triton"):
        whole = SeededNoise(SEEDS, particles=PARTICLES)(2, like)
        for i in range(len(SEEDS)):
            own = SeededNoise(SEEDS[i : i + 1], particles=PARTICLES[i : i + 1])
            assert torch.equal(own(2, like[:1])[0], whole[i])
    assert whole.dtype == dtype


def test_radius_and_angle_of_extreme_words(place):
    """The least uniform is 2^-33, the largest 1: radius 6.764 and radius 0, which is no NaN."""
    from words_kernel import radii

    given = torch.tensor(
        [0, 1, ALL, ALL - 1, 2**31, 2**31 - 1, 2**30, 3 * 2**30, *range(7, ALL, ALL // 1015)][
            :1024
        ],
        device=place,
    )
    out = torch.zeros(3, 1024, device=place)
    radii[(1,)](out, given, 1024)
    u = ((given.float() + 0.5) * 2.0**-32).double()
    angle = (u.float() * (2.0 * torch.pi)).double()
    assert float((out[0] - (-2.0 * u.log()).sqrt()).abs().max()) < 6e-7
    assert float((out[1] - angle.cos()).abs().max()) < 2e-7
    assert float((out[2] - angle.sin()).abs().max()) < 2e-7
    assert float(out[0].min()) == 0.0 and 6.763 < float(out[0].max()) < 6.7642
