"""Navier-Stokes and Kolmogorov flow: exact solutions, advection, laws, and the solver."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import kolmogorov, navier_stokes, vorticity
from fewstep.eval.physics.derivatives.spectral import derivative
from fewstep.eval.physics.forward import forward_error
from fewstep.eval.physics.norms import rms
from fewstep.eval.physics.random_fields import periodic_fields
from fewstep.eval.physics.stepping.exponential import etdrk4
from fewstep.eval.physics.vorticity import velocity

BOTH = pytest.mark.parametrize(
    "module", [navier_stokes, kolmogorov], ids=["navier_stokes", "kolmogorov"]
)
K = 2.0 * math.pi


def unit(n, dt=0.02):
    return {"t": dt, "x": 1.0 / n, "y": 1.0 / n}


def grid(n):
    x = torch.arange(n).double() / n
    return x[:, None], x[None]


def drift(values):
    return float(((values - values[:, :1]).abs().amax(1) / values[:, 0].abs()).max())


def crossed(n):
    """A steady flow of two crossed shears ``w = a cos kx + b cos 2ky``, its advection and
    ``Laplace w``: ``u = -b sin(2ky)/2k, v = a sin(kx)/k`` give ``-3/2 a b sin(kx) sin(2ky)``."""
    x, y = grid(n)
    a, b = 3.0, 2.0
    w = a * torch.cos(K * x) + b * torch.cos(2 * K * y)
    advection = -1.5 * a * b * torch.sin(K * x) * torch.sin(2 * K * y)
    laplacian = -(K**2) * (a * torch.cos(K * x) + 4 * b * torch.cos(2 * K * y))
    return w, advection, laplacian


@BOTH
def test_the_spatial_part_is_exact(module):
    assert module.order == "spectral"
    for n in (16, 32):
        assert module.residual(*module.exact(n)).abs().max() < 1e-12


@BOTH
def test_differences_in_time_have_order_four(module):
    errors = []
    for n in (32, 64):
        fields, spacing, params = module.exact(n)
        errors.append(rms(module.residual({"w": fields["w"]}, spacing, params)))
    assert abs(math.log2(errors[0] / errors[1]) - 4.0) < 0.2


@BOTH
def test_the_solver_gives_the_exact_solution(module):
    fields, spacing, params = module.exact(16)
    found = module.solve({"w": fields["w"][:, 0]}, spacing, params, frames=17)["w"]
    torch.testing.assert_close(found, fields["w"], rtol=0, atol=1e-13)


def test_advection_forcing_and_viscosity_of_each_sample():
    w, advection, laplacian = crossed(16)
    x, y = grid(16)
    nu = torch.tensor([1e-3, 0.1], dtype=torch.float64)
    w = w.expand(2, 6, 16, 16)
    force = 0.2 * (torch.sin(K * (x + y)) + torch.cos(K * (x + y)))
    found = navier_stokes.residual({"w": w}, unit(16), {"nu": nu, "forcing": 0.2})
    wanted = (advection - force - nu[:, None, None] * laplacian)[:, None].expand_as(w)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


def test_drag_and_force_of_the_kolmogorov_flow():
    w, advection, laplacian = crossed(16)
    y = 2 * math.pi * torch.arange(16).double() / 16
    drag = torch.tensor([0.0, 0.5], dtype=torch.float64)[:, None, None]
    w, spacing = w.expand(2, 6, 16, 16), {"t": 0.1, "x": K / 16, "y": K / 16}
    found = kolmogorov.residual({"w": w}, spacing, {"re": 50.0, "drag": drag.flatten()})
    wanted = advection - laplacian / K**2 / 50.0 + drag * w[:, 0] + 4 * torch.cos(4 * y)
    torch.testing.assert_close(found, wanted[:, None].expand_as(w), rtol=0, atol=1e-12)


def test_the_solver_keeps_a_steady_flow_under_its_source():
    w, advection, laplacian = crossed(16)
    nu = torch.tensor([1e-3, 0.1], dtype=torch.float64)
    source = advection - nu[:, None, None] * laplacian
    params = {"nu": nu, "forcing": 0.0, "source": source}
    found = navier_stokes.solve({"w": w.expand(2, 16, 16)}, unit(16, 0.1), params, frames=6)["w"]
    torch.testing.assert_close(found, w.expand(2, 6, 16, 16), rtol=0, atol=1e-12)


def test_the_solver_has_order_four():
    start, params = {"w": periodic_fields(32, (0, 1))}, {"nu": 1e-3, "forcing": 0.1}

    def end(substeps):
        found = navier_stokes.solve(start, unit(32, 1.0), params, frames=2, substeps=substeps)
        return found["w"][:, -1]

    fine = end(128)
    errors = [rms(end(s) - fine) / rms(fine) for s in (8, 16)]
    assert ((errors[0] / errors[1]).log2() - 4.0).abs().max() < 0.2
    # the default number of steps
    assert 1e-9 < (rms(end(None) - fine) / rms(fine)).max() < 1e-6


def test_the_errors_that_the_solver_promises_for_the_data_set():
    start, params = {"w": periodic_fields(64, (0, 1))}, {"nu": 1e-3, "forcing": 0.1}

    def end(substeps):
        found = navier_stokes.solve(start, unit(64, 1.0), params, frames=2, substeps=substeps)
        return found["w"][:, -1]

    fine = end(40)
    for substeps, low, high in ((5, 2e-6, 2e-5), (10, 1e-7, 1e-6), (None, 1e-9, 1e-7)):
        assert low < (rms(end(substeps) - fine) / rms(fine)).max() < high


def test_samples_are_solved_in_groups(monkeypatch):
    start, spacing = {"w": periodic_fields(8, range(5))}, unit(8, 0.5)
    nu = torch.linspace(1e-3, 1e-2, 5, dtype=torch.float64)
    source = periodic_fields(8, range(5, 10))
    params = {"nu": nu, "forcing": 0.1, "source": source}
    whole = navier_stokes.solve(start, spacing, params, frames=3, substeps=5)["w"]
    monkeypatch.setattr(vorticity, "TOGETHER", 128)
    sizes = []

    def counted(start, *args, **options):
        sizes.append(len(start))
        return etdrk4(start, *args, **options)

    monkeypatch.setattr(vorticity, "etdrk4", counted)
    grouped = navier_stokes.solve(start, spacing, params, frames=3, substeps=5)["w"]
    assert sizes == [2, 2, 1]
    torch.testing.assert_close(grouped, whole, rtol=0, atol=1e-14)
    one = navier_stokes.solve(
        {"w": start["w"][3:4]},
        spacing,
        {"nu": float(nu[3]), "forcing": 0.1, "source": source[3]},
        frames=3,
        substeps=5,
    )["w"]
    torch.testing.assert_close(one, whole[3:4], rtol=0, atol=1e-14)


def test_the_solver_is_differentiable_in_the_first_state():
    w = periodic_fields(8, (0,)).requires_grad_()
    spacing, params = unit(8, 0.5), {"nu": 1e-3, "forcing": 0.1}
    push = periodic_fields(8, (1,))

    def end(w):
        return navier_stokes.solve({"w": w}, spacing, params, frames=2)["w"][:, -1]

    (slope,) = torch.autograd.grad((end(w) * push).sum(), w)
    shifted = [((end(w + e * push) * push).sum()).detach() for e in (1e-4, -1e-4)]
    torch.testing.assert_close(
        (slope * push).sum(), (shifted[0] - shifted[1]) / 2e-4, rtol=1e-6, atol=0
    )


def test_the_residual_of_solved_flows_vanishes_at_order_four():
    values = [
        navier_stokes.residual(*navier_stokes.draw(1, 32, frames=frames)) for frames in (51, 101)
    ]
    slope = math.log2(rms(values[0]) / rms(values[1]))
    assert abs(slope - 4.0) < 0.2, slope
    assert rms(values[1]) < 1e-3 * navier_stokes.scale(*navier_stokes.draw(1, 32))


@pytest.mark.parametrize("n", [32, 33])
def test_energy_and_enstrophy_without_viscosity(n):
    params = {"nu": 0.0, "forcing": 0.0}
    start = {"w": periodic_fields(n, (0, 1))}
    found = navier_stokes.solve(start, unit(n, 0.1), params, frames=6, substeps=20)
    laws = navier_stokes.conserved(found, unit(n, 0.1), params)
    assert drift(laws["energy_balance"]) < 1e-12
    assert drift(laws["enstrophy_balance"]) < 1e-12
    assert laws["circulation"].abs().max() < 1e-15
    u, v = velocity(found["w"], unit(n))
    energy = (u**2 + v**2).mean((-2, -1)) / 2
    torch.testing.assert_close(laws["energy_balance"], energy, rtol=1e-6, atol=0)
    torch.testing.assert_close(laws["enstrophy_balance"], found["w"].square().mean((-2, -1)) / 2)


def test_the_balances_of_a_laminar_flow_converge_at_order_four():
    for law in ("energy_balance", "enstrophy_balance"):
        sizes = [
            kolmogorov.conserved(*kolmogorov.exact(n))[law].square().mean().sqrt() for n in (32, 64)
        ]
        assert abs(math.log2(sizes[0] / sizes[1]) - 4.0) < 0.2


def test_the_balances_of_a_turbulent_flow():
    spacing, params = {"t": 0.01, "x": K / 32, "y": K / 32}, {"re": 200.0, "drag": 0.1}
    start = 20 * periodic_fields(32, (0, 1))
    found = kolmogorov.solve({"w": start}, spacing, params, frames=21)
    laws = kolmogorov.conserved(found, spacing, params)
    change = found["w"].square().mean((-2, -1)) / 2
    assert drift(change) > 1e-2
    assert drift(laws["enstrophy_balance"]) < 1e-7
    assert drift(laws["energy_balance"]) < 1e-7


def test_velocity_has_the_curl_and_no_divergence():
    w, _, _ = crossed(16)
    u, v = velocity(w, unit(16))
    x, y = grid(16)
    torch.testing.assert_close(u, (-torch.sin(2 * K * y) / K).expand(16, 16), rtol=0, atol=1e-14)
    torch.testing.assert_close(v, (3 * torch.sin(K * x) / K).expand(16, 16), rtol=0, atol=1e-14)
    w = periodic_fields(15, (0,))[0]
    u, v = velocity(w, {"x": 1 / 15, "y": 1 / 15})
    curl = derivative(v, 1 / 15, 0) - derivative(u, 1 / 15, 1)
    torch.testing.assert_close(curl, w, rtol=0, atol=1e-13)
    assert (derivative(u, 1 / 15, 0) + derivative(v, 1 / 15, 1)).abs().max() < 1e-13


def test_forward_error_of_pairs():
    fields, spacing, params = navier_stokes.draw(2, 32)
    pair = {"w": fields["w"][:, [0, -1]].float()}
    spacing = {**spacing, "t": 1.0}
    assert forward_error(navier_stokes, pair, spacing, params).max() < 1e-6
    pair["w"][:, 1] *= 1.25
    found = forward_error(navier_stokes, pair, spacing, params)
    torch.testing.assert_close(found, torch.full_like(found, 0.25), rtol=1e-5, atol=0)
    with pytest.raises(ArgumentError, match="at least 2 times"):
        forward_error(navier_stokes, {"w": pair["w"][:, :1]}, spacing, params)
    with pytest.raises(ArgumentError, match="needed"):
        forward_error(navier_stokes, {"u": pair["w"]}, spacing, params)


@BOTH
def test_a_sample_depends_on_its_own_seed_only(module):
    two, one = module.draw(2, 8, seed=3, frames=6), module.draw(1, 8, seed=4, frames=6)
    torch.testing.assert_close(two.fields["w"][1:], one.fields["w"], rtol=1e-12, atol=1e-14)
    assert two.fields["w"].shape == (2, 6, 8, 8)
    assert module.boundary_error(*two).tolist() == [0.0, 0.0]


def test_a_mean_has_no_part_in_the_residual_and_is_refused_by_the_solver():
    fields, spacing, params = navier_stokes.exact(16)
    lifted = {"w": fields["w"] + 0.5, "w_t": fields["w_t"]}
    assert navier_stokes.residual(lifted, spacing, params).abs().max() < 1e-12
    torch.testing.assert_close(
        navier_stokes.conserved(lifted, spacing, params)["circulation"],
        torch.full((1, 17), 0.5, dtype=torch.float64),
    )
    with pytest.raises(ArgumentError, match="has the mean 0.5 in sample 0"):
        navier_stokes.solve({"w": lifted["w"][:, 0]}, spacing, params, frames=2)
    with pytest.raises(ArgumentError, match="the force has the mean 1"):
        navier_stokes.solve({"w": fields["w"][:, 0]}, spacing, {**params, "source": 1.0}, frames=2)
    with pytest.raises(ArgumentError, match="not finite"):
        navier_stokes.solve({"w": fields["w"][:, 0] * math.nan}, spacing, params, frames=2)
