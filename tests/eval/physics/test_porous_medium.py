"""Porous medium: the closed forms, order in the smooth part, mass, and the solver."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import porous_medium
from fewstep.eval.physics.filtration import LAWS, Porous, Stefan


def one(value):
    return torch.tensor(value, dtype=torch.float64)


FORMS = {"porous": Porous(one(2.0)), "stefan": Stefan(one(0.6))}


@pytest.mark.parametrize("law", LAWS)
def test_the_residual_has_order_two_behind_the_front_and_is_zero_ahead(law):
    errors = []
    for n in (33, 65):
        found = porous_medium.residual(*porous_medium.exact(n, law))[0]
        x = torch.linspace(0, 1, n).double()[1:-1]
        front = FORMS[law].front(torch.linspace(0.2, 0.8, n).double()[:, None])
        errors.append(found[x < front - 0.15].square().mean().sqrt())
        assert (found[x > front + 2 / (n - 1)] == 0).all()
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - 2.0) < 0.2, (slope, errors)


@pytest.mark.parametrize(
    ("form", "value"), [(Porous, 2.0), (Porous, 6.0), (Stefan, 0.6), (Stefan, 0.1)]
)
def test_the_mass_is_the_integral_of_the_closed_form(form, value):
    law, t = form(one(value)), one(0.3)
    cells = 200_000
    width = law.front(t) / cells
    x = (torch.arange(cells).double() + 0.5) * width
    torch.testing.assert_close(law.solution(x, t).sum() * width, law.mass(t), rtol=1e-5, atol=0)


@pytest.mark.parametrize("law", LAWS)
def test_the_rate_is_the_derivative_of_the_closed_form(law):
    form, x, t, h = FORMS[law], torch.linspace(0, 0.3, 7).double(), one(0.5), 1e-5
    wanted = (form.solution(x, t + h) - form.solution(x, t - h)) / (2 * h)
    torch.testing.assert_close(form.rate(x, t), wanted, rtol=1e-7, atol=1e-8)


def test_the_front_of_stefan():
    """alpha = 1.0513 for a threshold of 0.6, and u = u* at the front."""
    law = Stefan(one([0.05, 0.6, 0.95]))
    assert abs(float(2 * law.z[1]) - 1.0513) < 5e-5
    behind = law.solution(law.front(one(0.7)) * (1 - 1e-12), one(0.7))
    torch.testing.assert_close(behind, law.threshold)
    z, u = law.z, law.threshold
    torch.testing.assert_close(u * torch.erf(z) * z * (z**2).exp(), (1 - u) / math.sqrt(math.pi))


@pytest.mark.parametrize(("law", "order"), [("porous", 1.5), ("stefan", 1.0)])
def test_the_mass_law_of_the_exact_fields(law, order):
    """Trapezoids miss the front: order 1 for a jump, 3/2 for a root of depth."""
    drift = [
        porous_medium.conserved(*porous_medium.exact(n, law))["mass_above_law"].abs().mean()
        for n in (65, 257)
    ]
    assert abs(math.log2(drift[0] / drift[1]) / 2 - order) < 0.2, drift


@pytest.mark.parametrize(
    ("law", "mean", "mass"), [("porous", 1.2e-3, 2e-3), ("stefan", 8e-3, 9e-3)]
)
def test_the_solver_follows_the_front_and_its_mass(law, mean, mass):
    fields, spacing, params = porous_medium.exact(33, law)
    found = porous_medium.solve({"u": fields["u"][:, 0]}, spacing, params, frames=33)
    assert (found["u"] - fields["u"]).abs().mean() < mean
    kept = porous_medium.conserved(found, spacing, params)["mass_above_law"]
    assert (kept - kept[:, :1]).abs().max() < mass
    assert porous_medium.boundary_error(found, spacing, params).abs().max() < 1e-12


def test_a_start_from_nothing_fills_from_the_wall():
    spacing, m = {"t": 0.125, "x": 1 / 64}, torch.tensor([2.0, 3.0]).double()
    found = porous_medium.solve({"u": torch.zeros(2, 65)}, spacing, {"m": m}, frames=5)["u"]
    x, t = torch.linspace(0, 1, 65).double(), 0.125 * torch.arange(5).double()[:, None]
    wanted = Porous(m[:, None, None]).solution(x, t)
    assert (found - wanted).abs().mean() < 3e-3


@pytest.mark.parametrize("law", LAWS)
def test_fronts_of_draws_stay_inside_and_their_mass_is_the_law(law):
    problem = porous_medium.draw(8, 257, law=law)
    assert (problem.fields["u"][:, :, -1] == 0.0).all()
    assert (problem.fields["u"][:, -1, 1:-1] > 0.0).any(1).all()
    kept = porous_medium.conserved(*problem)["mass_above_law"]
    assert kept.abs().max() < 1.0 / 256


def test_walls_off_their_values_are_seen():
    fields, spacing, params = porous_medium.exact(17)
    u = fields["u"].clone()
    u[:, :, 0] += 0.1
    wanted = 0.1 / math.sqrt(2) / u.square().mean().sqrt()
    found = porous_medium.boundary_error({"u": u}, spacing, params)
    torch.testing.assert_close(found, wanted[None])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"law": "stephan", "threshold": 0.6}, "did you mean 'stefan'"),
        ({}, "law='porous' needs the parameter 'm'"),
        ({"law": "stefan", "m": 2.0, "threshold": 0.6}, "'m' does not belong to law='stefan'"),
        ({"law": "stefan", "threshold": 1.2}, "between 0 and 1"),
        ({"m": 0.0}, "above 0"),
        ({"m": 2.0, "t0": -1.0}, "'t0'.* at least 0"),
    ],
)
def test_bad_parameters_are_refused(params, message):
    fields, spacing, _ = porous_medium.exact(16)
    with pytest.raises(ArgumentError, match=message):
        porous_medium.residual(fields, spacing, params)
