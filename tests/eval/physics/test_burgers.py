"""Burgers: the closed form of Cole and Hopf, the solver against it, and the residual of DiffusionPDE's
code."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import burgers


def test_the_closed_form_by_direct_quadrature():
    """``phi(x, t)`` as an integral over y of the heat kernel, derivatives by the kernel's."""
    nu, t = 0.02, 0.3
    x = torch.tensor([0.1, 0.45, 0.5, 0.8], dtype=torch.float64)
    y = torch.linspace(-4.0, 5.0, 20001, dtype=torch.float64)
    potential = (1 - torch.cos(2 * math.pi * y)) / (2 * math.pi)
    weight = torch.softmax(-potential / (2 * nu) - (x[:, None] - y) ** 2 / (4 * nu * t), 1)
    wanted = (weight * (x[:, None] - y)).sum(1) / t
    torch.testing.assert_close(burgers.sine_solution(x, t, nu)[0], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nu", [0.002, 0.1])
def test_the_closed_form_at_the_start(nu):
    x = torch.arange(16).double() / 16
    u, u_t = burgers.sine_solution(x, 0.0, nu)
    k = 2 * math.pi
    torch.testing.assert_close(u, (k * x).sin(), atol=1e-14, rtol=0)
    rate = -k * (k * x).sin() * (k * x).cos() - nu * k**2 * (k * x).sin()
    torch.testing.assert_close(u_t, rate, atol=1e-12, rtol=0)


def test_the_solver_gives_the_closed_form_to_1e_9():
    x = torch.arange(128).double() / 128
    start = {"u": (2 * math.pi * x).sin()[None]}
    found = burgers.solve(start, {"t": 1.0, "x": 1 / 128}, {"nu": 0.01}, frames=2)["u"][0, -1]
    error = (found - burgers.sine_solution(x, 1.0, 0.01)[0]).abs().max()
    assert error < 1.5e-9, error


def test_the_solver_has_order_four_in_time():
    x = torch.arange(64).double() / 64
    start, spacing = {"u": (2 * math.pi * x).sin()[None]}, {"t": 0.25, "x": 1 / 64}
    wanted, errors = burgers.sine_solution(x, 0.25, 0.05)[0], []
    for steps in (16, 32):
        u = burgers.solve(start, spacing, {"nu": 0.05}, frames=2, substeps=steps)["u"][0, -1]
        errors.append((u - wanted).square().mean().sqrt())
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - 4.0) < 0.2, (slope, errors)


def test_a_steady_source_holds_a_steady_state():
    x = torch.arange(32).double() * 2 * math.pi / 32
    source = (x.sin() * x.cos() + 0.5 * x.sin())[None]
    params = {"nu": 0.5, "source": source[:, None]}
    spacing = {"t": 0.5, "x": 2 * math.pi / 32}
    u = burgers.solve({"u": x.sin()[None]}, spacing, params, frames=7)["u"]
    torch.testing.assert_close(u, x.sin().expand_as(u), rtol=0, atol=1e-12)
    assert burgers.residual({"u": u}, spacing, params).abs().max() < 1e-11


def test_the_mean_is_conserved_and_the_energy_falls():
    problem = burgers.draw(4, 128)
    mass = burgers.conserved(*problem)["mass"]
    assert (mass - mass[:, :1]).abs().max() < 1e-15
    energy = problem.fields["u"].square().mean(2)
    assert (energy.diff(dim=1) < 0).all()


def test_the_floor_of_the_data_is_that_of_the_first_times():
    """A start of 64 modes relaxes within a frame: differences in time see it at the first rows."""
    problem = burgers.draw(8, 128)
    row = burgers.residual(*problem).square().mean((0, 2)).sqrt()
    assert row[0] > 0.1
    assert row[2:-2].square().mean().sqrt() < 1e-3


def test_the_residual_of_diffusionpde_is_that_of_a_viscosity_128_times_smaller():
    """Inside of the padded edges, about 1/128 of it; not small on exact data."""
    fields, spacing, params = burgers.draw(4, 128)
    legacy = burgers.residual(fields, spacing, {**params, "units": "diffusionpde_legacy"})
    wanted = burgers.residual(fields, spacing, {"nu": 0.01 / 128})
    inside = (slice(None), slice(10, -2), slice(2, -2))
    found, wanted = 128 * legacy[inside], wanted[inside]
    assert (found - wanted).square().mean() < (0.05**2) * wanted.square().mean()
    assert found.square().mean().sqrt() > 0.1
    assert burgers.residual(fields, spacing, params)[inside].square().mean().sqrt() < 1e-3


def test_the_residual_of_diffusionpde_by_hand():
    u = torch.arange(36.0).double().reshape(1, 6, 6) ** 2 / 100
    u[..., -1] = u[..., 0] + 0.1  # periodic enough to be read
    found = burgers.residual({"u": u}, {"t": 9.0, "x": 9.0}, {"nu": 0.5, "units": burgers.UNITS[1]})
    v = torch.nn.functional.pad(u[0], (2, 2, 2, 2))
    for i, j in ((0, 0), (2, 3), (5, 5)):
        c = v[i + 2]
        u_x, u_xx = (c[j + 3] - c[j + 1]) / 2, 0.0
        for side, sign in ((1, 1.0), (-1, -1.0)):
            inside = 0 <= j + side < 6
            u_xx += sign * inside * (c[j + side + 3] - c[j + side + 1]) / 4
        wanted = (v[i + 3, j + 2] - v[i + 1, j + 2]) / 2 + c[j + 2] * u_x - 0.5 * u_xx
        torch.testing.assert_close(found[0, i, j], wanted)


@pytest.mark.parametrize(
    ("fields", "params", "message"),
    [
        (("u",), {"nu": 0.1, "units": "diffusionpde"}, "did you mean 'diffusionpde_legacy'"),
        (("u", "u_t"), {"nu": 0.1, "units": "diffusionpde_legacy"}, "neither u_t nor a source"),
        (("u",), {"nu": 0.1, "units": "diffusionpde_legacy", "source": 1.0}, "neither u_t nor a"),
        (("u",), {"nu": -0.1}, "at least 0"),
    ],
)
def test_bad_parameters_are_refused(fields, params, message):
    problem = burgers.exact(16)
    with pytest.raises(ArgumentError, match=message):
        burgers.residual({name: problem.fields[name] for name in fields}, problem.spacing, params)


def test_the_solver_is_one_of_physical_units():
    fields, spacing, _ = burgers.exact(16)
    params = {"nu": 0.1, "units": "diffusionpde_legacy"}
    with pytest.raises(ArgumentError, match="units of the solver"):
        burgers.solve({"u": fields["u"][:, 0]}, spacing, params, frames=3)
