"""Noise of several particles with one seed: the fourth counter word."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.fused.noise.fills import fill_torch
from fewstep.fused.noise.philox import philox4x32
from fewstep.fused.noise.seeded import SeededNoise, keys_of, normals

pytestmark = pytest.mark.usefixtures("backend")

SEEDS = (7, 7, 7, 2**40 + 3, 0)
PARTICLES = (0, 1, 2**32 - 1, 5, 0)


def test_particle_zero_has_the_bits_of_noise_without_particles():
    like = torch.zeros(5, 3, 7)
    plain = SeededNoise(SEEDS)
    zeros = SeededNoise(SEEDS, particles=(0,) * 5)
    mixed = SeededNoise(SEEDS, particles=PARTICLES)
    assert torch.equal(plain(3, like), zeros(3, like))
    assert torch.equal(plain.start((3, 7)), zeros.start((3, 7)))
    for made, alone in ((mixed(3, like), plain(3, like)), (mixed.start((9,)), plain.start((9,)))):
        assert torch.equal(made[[0, 4]], alone[[0, 4]])
        assert not (made[1:4] == alone[1:4]).flatten(1).any(1).all()


@pytest.mark.parametrize("size", [1, 4, 6, 30])
def test_the_particle_is_the_fourth_counter_word(size):
    z = normals(SEEDS, (size,), stream=1, draw=9, particles=PARTICLES, dtype=torch.float64)
    for row, (seed, particle) in enumerate(zip(SEEDS, PARTICLES, strict=True)):
        for e in range(size):
            words = philox4x32((e // 4, 1, 9, particle), (seed & 0xFFFFFFFF, seed >> 32))
            u = [(int(w) + 0.5) * 2.0**-32 for w in words]
            r, turn = (
                math.sqrt(-2.0 * math.log(u[(e % 4) // 2 * 2])),
                2.0 * math.pi * u[e % 4 // 2 * 2 + 1],
            )
            exact = r * (math.cos(turn) if e % 2 == 0 else math.sin(turn))
            assert abs(float(z[row, e]) - exact) < 2e-6


@pytest.mark.parametrize("shape", [(1,), (5,), (4, 6)])
def test_rows_do_not_depend_on_the_batch_and_devices_agree(shape):
    like = torch.zeros(5, *shape)
    whole = SeededNoise(SEEDS, particles=PARTICLES)(2, like)
    for i in range(5):
        alone = SeededNoise(SEEDS[i : i + 1], particles=PARTICLES[i : i + 1])(2, like[:1])
        assert torch.equal(whole[i : i + 1], alone)
    flat = torch.empty(5, math.prod(shape))
    fill_torch(flat, keys_of(SEEDS, "cpu"), 1, 2, torch.tensor(PARTICLES))
    assert torch.allclose(flat.reshape(whole.shape), whole, rtol=0.0, atol=1e-6)


def test_particles_of_one_seed_are_independent():
    n = 4096
    z = SeededNoise((3,) * n, particles=tuple(range(n)))(0, torch.zeros(n, 4)).double()
    assert abs(float(z.mean())) < 4.0 / math.sqrt(z.numel())
    assert abs(float(z.var()) - 1.0) < 4.0 * math.sqrt(2.0 / z.numel())
    found = np.corrcoef(z[:-1].flatten().numpy(), z[1:].flatten().numpy())[0, 1]
    assert abs(found) < 4.0 / math.sqrt(z.numel())


@pytest.mark.parametrize("particles", [(0,), (0, -1), (0, 2**32), (0, 1.5)])
def test_particles_are_checked(particles):
    with pytest.raises(ArgumentError, match="particles"):
        SeededNoise((1, 2), particles=particles)
