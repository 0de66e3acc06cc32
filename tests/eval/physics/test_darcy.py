"""Darcy flow: order of residual and solver, the floor of stored data, the published stencils."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import darcy
from fewstep.eval.physics.elliptic import face_mean, solve_dirichlet


def rms(value):
    return float(value.square().mean().sqrt())


def slope(errors):
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
@pytest.mark.parametrize("mode", ["fv", "wide_h"])
def test_the_residual_has_order_two_on_the_exact_solution(mean, mode):
    errors = []
    for n in (33, 65):
        fields, spacing, params = darcy.exact(n)
        errors.append(rms(darcy.residual(fields, spacing, {**params, "mean": mean, "mode": mode})))
    assert abs(slope(errors) - darcy.order) < 0.2, errors


def test_the_solver_has_order_two_and_the_errors_of_the_literature():
    errors = []
    for n in (33, 65):
        fields, spacing, params = darcy.exact(n)
        found = darcy.solve({"a": fields["a"]}, spacing, params)["u"]
        errors.append(float((found - fields["u"]).abs().max()))
    assert abs(slope(errors) - 2.0) < 0.2
    assert errors == pytest.approx([8.0e-4, 2.0e-4], rel=0.02)


@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
def test_data_have_no_residual_but_that_of_rounding(mean):
    fields, spacing, params = darcy.draw(2, 64)
    params = {**params, "mean": mean}
    fields = {"a": fields["a"], **darcy.solve({"a": fields["a"]}, spacing, params)}
    relative = rms(darcy.residual(fields, spacing, params)) / darcy.scale(fields, spacing, params)
    assert relative.max() < 1e-11
    assert darcy.boundary_error(fields, spacing, params).max() == 0.0


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 2e-5), (torch.float16, 0.17)])
def test_the_floor_of_a_stored_dtype(dtype, floor):
    fields, spacing, params = darcy.draw(4, 64)
    stored = {name: value.to(dtype) for name, value in fields.items()}
    assert floor / 2 < rms(darcy.residual(stored, spacing, params)) < 2 * floor


def test_solver_and_residual_must_share_the_mean():
    fields, spacing, _ = darcy.draw(4, 64)
    other = darcy.residual(fields, spacing, {"mean": "harmonic"})
    assert 0.1 < float(other.abs().mean()) < 0.3
    u = darcy.solve({"a": fields["a"]}, spacing, {"mean": "harmonic"})["u"]
    assert 0.009 < float((u - fields["u"]).norm() / fields["u"].norm()) < 0.014


def test_the_published_stencils_do_not_vanish_on_exact_data():
    fields, spacing, _ = darcy.draw(4, 64)
    wide = darcy.residual(fields, spacing, {"mode": "wide_h"})
    assert wide.shape == (4, 60, 60) and 0.1 < float(wide.abs().mean()) < 0.3
    legacy = darcy.residual(fields, spacing, {"mode": "diffusionpde_legacy"})
    assert legacy.shape == (4, 64, 64) and abs(float(legacy.abs().mean()) - 1) < 1e-3


def test_the_coefficient_has_two_values_and_depends_on_the_seed():
    a = darcy.draw(3, 16, seed=5).fields["a"]
    assert a.unique().tolist() == [3.0, 12.0]
    assert torch.equal(darcy.draw(1, 16, seed=7).fields["a"][0], a[2])
    assert torch.equal(darcy.nearest_phase(a + 4.4 * torch.sign(7.5 - a)), a)


def test_a_source_a_sample_scales_the_solution():
    a, spacing = torch.ones(2, 9, 9), {"x": 1 / 8, "y": 1 / 8}
    u = darcy.solve({"a": a}, spacing, {"source": torch.tensor([1.0, 3.0])})["u"]
    torch.testing.assert_close(u[1], 3 * u[0])
    params = {"source": torch.tensor([1.0, 3.0])}
    assert darcy.residual({"a": a, "u": u}, spacing, params).abs().max() < 1e-12
    assert darcy.scale({"a": a, "u": u}, spacing, params).tolist() == pytest.approx([1.0, 3.0])
    assert darcy.scale({"a": a, "u": u}, spacing, {"source": 0.0})[1] == pytest.approx(3.0)


def test_a_rectangle_with_other_spacings():
    """u = x (2 - x) y (3 - y) with a = 1: five points are exact for this polynomial."""
    x, y = torch.linspace(0, 2, 9).double()[:, None], torch.linspace(0, 3, 7).double()
    u = (x * (2 - x) * y * (3 - y))[None]
    source = (2 * (x * (2 - x) + y * (3 - y)))[None]
    found = solve_dirichlet(torch.ones_like(u), source, (0.25, 0.5))
    torch.testing.assert_close(found, u)
    params, spacing = {"source": source}, {"x": 0.25, "y": 0.5}
    residual = darcy.residual({"a": torch.ones_like(u), "u": u}, spacing, params)
    assert residual.shape == (1, 7, 5) and residual.abs().max() < 1e-12


def test_the_residual_is_differentiable():
    fields, spacing, params = darcy.draw(1, 8)
    a, u = (fields[name].requires_grad_() for name in ("a", "u"))
    call = lambda a, u: darcy.residual({"a": a, "u": u}, spacing, params)  # noqa: E731
    assert torch.autograd.gradcheck(call, (a, u))


def test_walls_and_conserved_quantities():
    fields, spacing, params = darcy.draw(1, 8)
    shifted = {"a": fields["a"], "u": torch.ones(1, 8, 8)}
    assert float(darcy.boundary_error(shifted, spacing, params)) == pytest.approx(1.0)
    assert darcy.conserved(fields, spacing, params) == {}


def test_the_harmonic_mean_is_below_the_arithmetic():
    low, high = torch.tensor(3.0), torch.tensor(12.0)
    assert float(face_mean(low, high, "harmonic")) == pytest.approx(4.8)
    assert float(face_mean(low, high)) == 7.5


GRID = {"x": 0.1, "y": 0.1}
A = torch.ones(1, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: darcy.solve({"a": A - 1}, GRID, {}), "must be > 0"),
        (lambda: darcy.solve({"a": A}, GRID, {"mode": "wide_h"}), "has 'fv' only"),
        (lambda: darcy.solve({"a": A}, GRID, {}, frames=3), "no time axis"),
        (lambda: darcy.solve({"a": A}, {"x": 0.1}, {}), "spacing 'y' missing"),
        (lambda: darcy.residual({"a": A, "u": A}, GRID, {"mean": "harmonc"}), "'harmonic'"),
        (lambda: darcy.residual({"a": A, "u": A}, GRID, {"mode": "fd"}), "mode"),
        (lambda: darcy.residual({"a": A}, GRID, {}), "field 'u' missing"),
        (lambda: darcy.draw(1, 4), "size=4"),
        (lambda: darcy.exact(3), "n=3"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
