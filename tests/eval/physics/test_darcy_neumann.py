"""Darcy flow between walls without flux: orders, the floor of least-squares data, the channels."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import darcy_neumann
from fewstep.eval.physics.darcy_neumann import corners, difference_matrix, exact_at, trapezoid
from fewstep.eval.physics.elliptic import closed_divergence

CELLS = {"mode": "fv_neumann"}


def rms(value):
    return float(value.square().mean().sqrt())


def slope(errors):
    return math.log2(errors[0] / errors[1])


def on_cells(n):
    fields, spacing, params = exact_at((torch.arange(n).double() + 0.5) / n, 1 / n)
    return fields, spacing, {**params, **CELLS}


@pytest.fixture(scope="module")
def data():
    return darcy_neumann.draw(2, 64)


@pytest.mark.parametrize("problem", [darcy_neumann.exact, on_cells])
def test_the_residual_has_order_two(problem):
    errors = [rms(darcy_neumann.residual(*problem(n))) for n in (33, 65)]
    assert abs(slope(errors) - darcy_neumann.order) < 0.2, errors


@pytest.mark.parametrize("problem", [darcy_neumann.exact, on_cells])
def test_the_solver_has_order_two(problem):
    errors = []
    for n in (33, 65):
        fields, spacing, params = problem(n)
        found = darcy_neumann.solve({"K": fields["K"]}, spacing, params)["p"]
        errors.append(float((found - fields["p"]).abs().max()))
    assert abs(slope(errors) - 2.0) < 0.2, errors


@pytest.mark.parametrize("derivative", [1, 2])
def test_differences_are_exact_for_parabolas(derivative):
    x = torch.arange(7).double() * 0.5
    wanted = 2 * x if derivative == 1 else torch.full_like(x, 2.0)
    torch.testing.assert_close(difference_matrix(7, 0.5, derivative) @ x**2, wanted)


def test_data_of_least_squares_have_a_residual_and_a_floor(data):
    channels = darcy_neumann.stacked(*data).abs()
    assert 2e-3 < float(channels[:, 0].mean()) < 4e-3
    assert 1e-3 < float(channels.mean()) < 2e-3
    assert 0.02 < float(darcy_neumann.boundary_error(*data).max()) < 0.3


def test_data_of_finite_volumes_have_none(data):
    K, spacing = data.fields["K"], {"x": 1 / 64, "y": 1 / 64}
    p = darcy_neumann.solve({"K": K}, spacing, CELLS)["p"]
    residual = darcy_neumann.residual({"p": p, "K": K}, spacing, CELLS)
    assert (residual.square().mean((1, 2)).sqrt() < 1e-9 * STRENGTH).all()
    difference = (p - data.fields["p"]).norm() / data.fields["p"].norm()
    assert 0.03 < float(difference) < 0.2
    assert float(darcy_neumann.boundary_error({"p": p, "K": K}, spacing, CELLS).max()) == 0.0


STRENGTH = darcy_neumann.STRENGTH


def test_the_least_squares_are_those_of_a_dense_solver():
    fields, spacing, params = darcy_neumann.exact(8)
    K = fields["K"] + torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    found = darcy_neumann.solve({"K": K}, spacing, params)["p"]

    def equations(p):
        channels = darcy_neumann.stacked({"p": p, "K": K}, spacing, params)[0]
        walls = [channels[1, 0], channels[1, -1], channels[2, :, 0], channels[2, :, -1]]
        return torch.cat([channels[0].flatten(), *walls])

    matrix = torch.func.jacrev(equations)(torch.zeros(1, 8, 8).double()).flatten(1)
    best = torch.linalg.lstsq(matrix, -equations(torch.zeros(1, 8, 8).double())).solution
    best = best.reshape(1, 8, 8)
    torch.testing.assert_close(found, best - (best * trapezoid(8, 8)).sum(), atol=1e-9, rtol=0)


def test_the_mean_of_the_pressure_is_zero(data):
    total = (data.fields["p"] * trapezoid(64, 64)).sum((1, 2))
    assert total.abs().max() < 1e-14 and abs(float(trapezoid(64, 64).sum()) - 1) < 1e-14


def test_the_source_is_two_corners_of_sum_zero():
    source = corners(64, 64)
    assert float(source.sum()) == 0.0 and int((source == 10).sum()) == 64
    assert (source[:8, :8] == 10).all() and (source[56:, 56:] == -10).all()
    fields = {"p": torch.zeros(1, 64, 64), "K": torch.ones(1, 64, 64)}
    grid = {"x": 1 / 63, "y": 1 / 63}
    torch.testing.assert_close(darcy_neumann.residual(fields, grid, {})[0], -source)
    assert float(darcy_neumann.scale(fields, grid, {})) == pytest.approx(rms(source))


def test_the_channels_hold_the_outward_derivative_at_the_walls():
    x = torch.linspace(0, 1, 9).double()[:, None].expand(9, 9)
    fields, spacing = {"p": x[None], "K": torch.ones(1, 9, 9)}, {"x": 1 / 8, "y": 1 / 8}
    channels = darcy_neumann.stacked(fields, spacing, {"source": 0.0})[0]
    torch.testing.assert_close(channels[1, 0], -torch.ones(9).double())
    torch.testing.assert_close(channels[1, -1], torch.ones(9).double())
    assert channels[1, 1:-1].abs().max() == 0.0 and channels[2].abs().max() < 1e-12
    assert channels[0].abs().max() < 1e-11
    error = darcy_neumann.boundary_error(fields, spacing, {})
    assert float(error) == pytest.approx(math.sqrt(0.5))


def test_no_flux_leaves_through_closed_walls():
    generator = torch.Generator().manual_seed(0)
    a, u = (torch.rand(2, 6, 7, generator=generator).double() for _ in range(2))
    assert closed_divergence(a, u, (0.1, 0.2), "harmonic").sum((1, 2)).abs().max() < 1e-10


def test_the_residual_is_differentiable():
    p, K = (torch.rand(1, 6, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for params in ({}, CELLS):
        call = lambda p, K, params=params: darcy_neumann.residual(  # noqa: E731
            {"p": p, "K": K}, GRID, params
        )
        assert torch.autograd.gradcheck(call, (p, K))


GRID = {"x": 0.2, "y": 0.2}
ONES = torch.ones(1, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: darcy_neumann.solve({"K": ONES - 1}, GRID, {}), "must be > 0"),
        (lambda: darcy_neumann.solve({"K": ONES}, GRID, {"source": 1.0}), "must be 0"),
        (lambda: darcy_neumann.solve({"K": ONES}, GRID, {"source": 1.0, **CELLS}), "must be 0"),
        (lambda: darcy_neumann.solve({"K": ONES}, GRID, {}, frames=2), "no time axis"),
        (lambda: darcy_neumann.residual({"p": ONES, "K": ONES}, GRID, {"mode": "fv"}), "mode"),
        (lambda: darcy_neumann.stacked({"p": ONES, "K": ONES}, GRID, CELLS), "no point on a wall"),
        (lambda: darcy_neumann.draw(1, 7), "size=7"),
        (lambda: darcy_neumann.exact(2), "n=2"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_there_is_no_time(data):
    assert darcy_neumann.conserved(*data) == {}
