"""Complex Ginzburg-Landau: plane waves, and the growth of the zero state."""

from __future__ import annotations

import math

import torch

from fewstep.eval.physics import ginzburg_landau


def test_the_solver_keeps_plane_waves_at_order_four():
    fields, spacing, params = ginzburg_landau.exact(16)
    errors = []
    for steps in (20, 40):
        found = ginzburg_landau.solve(
            {"A": fields["A"][:, 0]}, {**spacing, "t": 1.0}, params, frames=3, substeps=steps
        )["A"]
        errors.append((found - fields["A"][:, ::8]).abs().square().mean().sqrt())
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - 4.0) < 0.2, (slope, errors)


def test_the_default_step_is_good_to_1e_9():
    fields, spacing, params = ginzburg_landau.exact(16)
    found = ginzburg_landau.solve({"A": fields["A"][:, 0]}, spacing, params, frames=17)["A"]
    assert (found - fields["A"]).abs().max() < 1e-9


def test_a_small_wave_grows_at_its_rate():
    """A = small exp(i q x): rate 1 - (1 + i b) q^2."""
    b, q = 0.7, 0.5
    x = torch.arange(16).double() * 4 * math.pi / 16
    start = 1e-8 * (1j * q * x).exp()[None]
    spacing, params = {"t": 2.0, "x": 4 * math.pi / 16}, {"b": b, "c": 1.0}
    found = ginzburg_landau.solve({"A": start}, spacing, params, frames=2, substeps=10)["A"]
    rate = torch.tensor(1 - (1 + 1j * b) * q**2, dtype=torch.complex128)
    torch.testing.assert_close(found[:, 1], start * (2 * rate).exp(), rtol=1e-12, atol=0)


def test_nothing_is_conserved():
    assert ginzburg_landau.conserved(*ginzburg_landau.exact(16)) == {}
