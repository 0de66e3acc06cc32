"""Wave equation: the propagator and its energy, and the three forms of the rate."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import wave


def test_the_solver_gives_the_exact_solution():
    fields, spacing, params = wave.exact(32)
    found = wave.solve({k: fields[k][:, 0] for k in ("u", "u_t")}, spacing, params, frames=33)
    for name in ("u", "u_t"):
        torch.testing.assert_close(found[name], fields[name], rtol=0, atol=1e-13)


def test_the_energy_of_all_modes_is_constant():
    g = torch.Generator().manual_seed(0)
    u, u_t = torch.randn(2, 3, 16, dtype=torch.float64, generator=g)
    # noise has no smooth period: the whole line twice, which is periodic by construction
    spacing, params = {"t": 0.37, "x": 0.1}, {"c": torch.tensor([0.5, 1.0, 3.0])}
    found = wave.solve({"u": u, "u_t": u_t}, spacing, params, frames=50)
    kept = wave.conserved(found, spacing, params)
    assert (kept["energy"] / kept["energy"][:, :1] - 1).abs().max() < 1e-13
    assert (kept["momentum"] - kept["momentum"][:, :1]).abs().max() < 1e-13


def test_a_moving_mean_moves_on():
    one = torch.ones(1, 8, dtype=torch.float64)
    found = wave.solve({"u": one, "u_t": 2 * one}, {"t": 0.5, "x": 1.0}, {"c": 1.0}, frames=3)
    torch.testing.assert_close(found["u"][0, :, 0], torch.tensor([1.0, 2.0, 3.0]).double())


@pytest.mark.parametrize("given", [("u", "u_t"), ("u", "u_t", "u_tt")])
def test_the_rate_that_is_given_is_used(given):
    errors = []
    for n in (64, 128):
        fields, spacing, params = wave.exact(n)
        part = {name: fields[name] for name in given}
        errors.append(wave.residual(part, spacing, params).square().mean().sqrt())
    if "u_tt" in given:
        assert errors[1] < 1e-10
    else:
        assert abs(math.log2(errors[0] / errors[1]) - 4.0) < 0.2


def test_the_solver_asks_for_the_velocity():
    fields, spacing, params = wave.exact(16)
    with pytest.raises(ArgumentError, match="field 'u_t' missing; needed: u, u_t"):
        wave.solve({"u": fields["u"][:, 0]}, spacing, params, frames=3)
