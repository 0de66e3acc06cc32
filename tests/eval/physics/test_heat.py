"""The heat equation: residual, solver, conserved mass, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import heat


def test_the_solver_gives_the_exact_solution():
    fields, spacing, params = heat.exact(32)
    found = heat.solve({"u": fields["u"][:, 0]}, spacing, params, frames=33)["u"]
    torch.testing.assert_close(found, fields["u"], rtol=0, atol=1e-14)


def test_the_solver_with_a_source_and_one_kappa_a_sample():
    x = torch.arange(16).double() * 2 * math.pi / 16
    params = {"kappa": torch.tensor([0.1, 0.5]), "source": (2.0 + x.sin()).expand(2, 16)}
    spacing = {"t": 0.1, "x": 2 * math.pi / 16}
    u = heat.solve({"u": torch.zeros(2, 16)}, spacing, params, frames=11)["u"]
    k = torch.tensor([0.1, 0.5], dtype=torch.float64)[:, None]
    torch.testing.assert_close(u[:, -1], 2.0 + (1 - torch.exp(-k)) / k * x.sin(), atol=1e-7, rtol=0)


def test_mass_is_conserved():
    mass = heat.conserved(*heat.exact(32))["mass"]
    assert mass.shape == (1, 33)
    assert (mass - mass[:, :1]).abs().max() < 1e-13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, s, p: ({"u": f["u"][0]}, s, p), r"must be \(B, t, x\)"),
        (lambda f, s, p: ({"u": f["u"], "u_t": f["u_t"][:, 1:]}, s, p), "one grid"),
        (lambda f, s, p: (f, s, {}), r"\['kappa'\] are missing"),
        (lambda f, s, p: (f, s, {"kapa": 1.0}), "did you mean 'kappa'"),
        (lambda f, s, p: (f, s, {"kappa": torch.ones(7)}), "one number a sample"),
        (lambda f, s, p: (f, s, {"kappa": torch.ones_like(f["u"])}), "or one number a sample; got"),
        (lambda f, s, p: (f, s, {"kappa": "high"}), "or one number a sample; got"),
        (lambda f, s, p: (f, s, {"kappa": -1.0}), "finite and at least 0"),
        (lambda f, s, p: (f, s, {"kappa": math.nan}), "finite and at least 0"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ArgumentError, match=message):
        heat.residual(*change(*heat.exact(16)))


def test_a_repeated_end_point_is_refused():
    fields, spacing, params = heat.exact(16)
    doubled = torch.cat([fields["u"], fields["u"][..., :1]], -1)
    with pytest.raises(ArgumentError, match="leave the end point out"):
        heat.residual({"u": doubled}, spacing, params)
