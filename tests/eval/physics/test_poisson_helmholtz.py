"""Poisson and Helmholtz: order of the residual, the solver, and eigenvalues that are refused."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import helmholtz, poisson
from fewstep.eval.physics.five_point import eigenvalues
from fewstep.eval.physics.norms import rms

BOTH = pytest.mark.parametrize("module", [poisson, helmholtz], ids=["poisson", "helmholtz"])


def solution(module, n):
    fields, spacing, params = module.exact(n)
    return module.solve({"f": fields["f"]}, spacing, params)["u"] - fields["u"]


@BOTH
@pytest.mark.parametrize("what", ["residual", "solution"])
def test_the_order_is_two(module, what):
    def error(n):
        return rms(module.residual(*module.exact(n)) if what == "residual" else solution(module, n))

    errors = [error(n) for n in (33, 65)]
    assert module.order == 2.0
    assert abs(math.log2(errors[0] / errors[1]) - 2.0) < 0.05


@BOTH
def test_drawn_pairs_satisfy_the_equation_in_its_own_discretisation(module):
    problem = module.draw(3, 64)
    assert module.residual(*problem).shape == (3, 62, 62)
    assert rms(module.residual(*problem)).max() < 3e-13
    assert module.boundary_error(*problem).tolist() == [0.0, 0.0, 0.0]
    assert module.conserved(*problem) == {}


@BOTH
def test_a_sample_depends_on_its_own_seed_only(module):
    three, one = module.draw(3, 16, seed=5), module.draw(1, 16, seed=7)
    for name in ("f", "u"):
        torch.testing.assert_close(three.fields[name][2:], one.fields[name], rtol=0, atol=1e-16)
    assert (three.fields["f"][0] - three.fields["f"][1]).abs().max() > 0.1


def test_the_forcing_of_the_helmholtz_data_is_zero_on_the_walls():
    f = helmholtz.draw(1, 16).fields["f"][0]
    assert torch.cat([f[0], f[-1], f[:, 0], f[:, -1]]).abs().max() == 0.0


def test_the_solver_is_that_of_the_full_matrix():
    n, m, spacing = 8, 7, {"x": 0.1, "y": 0.3}
    f = torch.randn(2, n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    columns = torch.zeros((n - 2) * (m - 2), n, m, dtype=torch.float64)
    columns[:, 1:-1, 1:-1] = torch.eye(len(columns), dtype=torch.float64).reshape(-1, n - 2, m - 2)
    k = torch.tensor([3.0, 20.0], dtype=torch.float64)
    for i in range(2):
        params = {"k": float(k[i])}
        fields = {"f": torch.zeros_like(columns), "u": columns}
        matrix = helmholtz.residual(fields, spacing, params).flatten(1).T
        wanted = torch.linalg.solve(matrix, f[i, 1:-1, 1:-1].flatten())
        u = helmholtz.solve({"f": f}, spacing, {"k": k})["u"]
        torch.testing.assert_close(u[i, 1:-1, 1:-1].flatten(), wanted, rtol=1e-12, atol=1e-14)
    assert poisson.solve({"f": f}, spacing, {})["u"].shape == f.shape


def test_poisson_is_helmholtz_at_zero():
    fields, spacing, _ = poisson.draw(1, 16)
    at_zero = helmholtz.solve({"f": fields["f"]}, spacing, {"k": 0.0})["u"]
    assert torch.equal(at_zero, fields["u"])


def test_an_eigenvalue_is_refused_and_its_neighbourhood_is_not():
    fields, spacing, _ = helmholtz.exact(16)
    f = {"f": fields["f"].expand(2, -1, -1)}
    k = math.sqrt(-float(eigenvalues(fields["f"], spacing)[1, 2]))
    for given in (k, torch.tensor([1.0, k], dtype=torch.float64)):
        with pytest.raises(ArgumentError, match=rf"k\^2 = {int(k**2)}\..* is an eigenvalue"):
            helmholtz.solve(f, spacing, {"k": given})
    assert helmholtz.solve(f, spacing, {"k": k * (1 + 1e-6)})["u"].isfinite().all()


@BOTH
def test_walls_that_are_not_zero_are_an_error(module):
    fields, spacing, params = module.exact(17)
    assert module.boundary_error(fields, spacing, params).max() < 1e-15
    lifted = {"f": fields["f"], "u": torch.ones_like(fields["u"])}
    torch.testing.assert_close(
        module.boundary_error(lifted, spacing, params), torch.ones(1, dtype=torch.float64)
    )


@BOTH
def test_scale_is_the_largest_term(module):
    fields, spacing, params = module.exact(65)
    k = params.get("k", 0.0)
    u, f = rms(fields["u"][:, 1:-1, 1:-1]), rms(fields["f"][:, 1:-1, 1:-1])
    wanted = torch.maximum(f, rms(module.residual(fields, spacing, params) * 0) + k**2 * u)
    assert module.scale(fields, spacing, params) >= wanted * (1 - 1e-12)
    # Laplace u is (5 or 2) pi^2 u
    curvature = (2 if k else 5) * math.pi**2 * u
    torch.testing.assert_close(module.scale(fields, spacing, params), curvature, rtol=2e-3, atol=0)
