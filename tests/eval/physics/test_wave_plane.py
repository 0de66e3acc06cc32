"""The wave equation on a torus: residual, propagator, energy."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.eval.physics import wave_plane
from fewstep.eval.physics.norms import rms
from fewstep.eval.physics.random_fields import periodic_fields


def test_the_spatial_part_is_exact():
    assert wave_plane.order == "spectral"
    for n in (16, 32):
        assert wave_plane.residual(*wave_plane.exact(n)).abs().max() < 1e-10


@pytest.mark.parametrize("given", [("u",), ("u", "u_t")], ids="-".join)
def test_differences_in_time_have_order_four(given):
    errors = []
    for n in (32, 64):
        fields, spacing, params = wave_plane.exact(n)
        kept = {name: fields[name] for name in given}
        errors.append(rms(wave_plane.residual(kept, spacing, params)))
    assert abs(math.log2(errors[0] / errors[1]) - 4.0) < 0.2


def test_the_solver_gives_the_exact_solution():
    fields, spacing, params = wave_plane.exact(16)
    start = {name: fields[name][:, 0] for name in ("u", "u_t")}
    found = wave_plane.solve(start, spacing, params, frames=17)
    for name in ("u", "u_t"):
        torch.testing.assert_close(found[name], fields[name], rtol=0, atol=1e-12)


def test_each_sample_has_its_own_speed_and_a_mean_moves_evenly():
    x = torch.arange(8).double() / 8
    mode = torch.cos(2 * math.pi * x)[:, None].expand(2, 8, 8)
    c = torch.tensor([0.5, 2.0], dtype=torch.float64)
    start = {"u": mode, "u_t": torch.full_like(mode, 3.0)}
    found = wave_plane.solve(start, {"t": 0.1, "x": 1 / 8, "y": 1 / 8}, {"c": c}, frames=4)["u"]
    for k in range(4):
        t = 0.1 * k
        wanted = torch.cos(2 * math.pi * c * t)[:, None, None] * mode + 3.0 * t
        torch.testing.assert_close(found[:, k], wanted, rtol=0, atol=1e-14)


def test_energy_and_momentum_are_constant():
    size = 16
    start = {"u": periodic_fields(size, (0, 1)), "u_t": periodic_fields(size, (2, 3)) + 0.1}
    spacing, params = {"t": 0.05, "x": 1 / size, "y": 1 / size}, {"c": 0.7}
    found = wave_plane.solve(start, spacing, params, frames=21)
    laws = wave_plane.conserved(found, spacing, params)
    energy, momentum = laws["energy"], laws["momentum"]
    assert ((energy - energy[:, :1]).abs().amax(1) / energy[:, 0]).max() < 1e-14
    torch.testing.assert_close(momentum, torch.full_like(momentum, 0.1), rtol=0, atol=1e-15)
    # u = a cos(kx): <c^2 |grad u|^2> / 2 = c^2 a^2 k^2 / 4
    k = 2 * math.pi
    u = 0.3 * torch.cos(k * torch.arange(8).double() / 8)[:, None].expand(1, 6, 8, 8)
    still = {"u": u, "u_t": torch.zeros_like(u)}
    found = wave_plane.conserved(still, {"t": 0.1, "x": 1 / 8, "y": 1 / 8}, {"c": 2.0})["energy"]
    torch.testing.assert_close(found, torch.full_like(found, 4 * 0.09 * k**2 / 4))


def test_drawn_waves_satisfy_the_equation_and_depend_on_their_seed_only():
    two, one = (
        wave_plane.draw(2, 16, seed=3),
        wave_plane.draw(1, 16, seed=4),
    )
    torch.testing.assert_close(two.fields["u"][1:], one.fields["u"], rtol=0, atol=1e-14)
    assert two.params["c"].shape == (2,)
    assert (rms(wave_plane.residual(*two)) < 2e-3 * wave_plane.scale(*two)).all()
    assert wave_plane.boundary_error(*two).tolist() == [0.0, 0.0]
