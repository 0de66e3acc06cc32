"""Projection onto linear conservation laws, inside the sampler and on finished samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from posteriors import SIGMA, A, D, GaussianPrior, Y, exact, posterior
from problems import F64, PATHS

from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.models import GaussianMixture

#: the porous medium u_t = (u^m u_x)_x on [0, 1], u(0, t) = (m t)^(1/m)
M, POINTS, TIMES = 3, 65, (0.25, 0.5, 0.75)
X = torch.linspace(0.0, 1.0, POINTS, dtype=F64)


def front(m: float = M) -> Any:
    """The solution at TIMES, (T, POINTS)."""
    return torch.stack([(m * torch.relu(t - X)) ** (1.0 / m) for t in TIMES])


def mass(t: float, m: float = M) -> float:
    return m ** (1.0 + 1.0 / m) / (m + 1.0) * t ** (1.0 + 1.0 / m)


def integrals(u: Any) -> Any:
    """Trapezoid rule over x at each time, (B, T)."""
    return torch.trapezoid(u, X.to(u), dim=-1)


LAW = G.Constraint(
    G.operators.Callable(integrals, linear=True, shape=(len(TIMES), POINTS)),
    torch.tensor([mass(t) for t in TIMES], dtype=F64),
)


def fields(noise: float = 0.05) -> Any:
    g = torch.Generator().manual_seed(0)
    return front() + noise * torch.randn(5, len(TIMES), POINTS, generator=g, dtype=F64)


def test_the_mass_law_is_that_of_the_front():
    assert float((integrals(front()[None]) - LAW.y).abs().max()) < 2e-3


@pytest.mark.parametrize("variances", [None, 0.1 + front()])
def test_finished_samples_conserve_mass(variances):
    u = fields()
    mean, cov = G.conserved(u, LAW, variances)
    assert float((integrals(mean) - LAW.y).abs().max()) < 1e-10
    assert float((integrals(u) - LAW.y).abs().max()) > 1e-3
    # the formula, with the trapezoid weights as rows
    w = torch.full((POINTS,), 1.0 / (POINTS - 1), dtype=F64)
    w[[0, -1]] *= 0.5
    rows = torch.block_diag(w[None], w[None], w[None])
    c = torch.eye(rows.shape[1], dtype=F64)
    c = c if variances is None else torch.diag(variances.flatten())
    gain = c @ rows.T @ torch.linalg.inv(rows @ c @ rows.T)
    right = u.flatten(1) - (u.flatten(1) @ rows.T - LAW.y) @ gain.T
    assert torch.allclose(mean.flatten(1), right, atol=1e-12)
    assert torch.allclose(cov.flatten(), (c - gain @ rows @ c).diagonal(), atol=1e-12)
    dense = G.conserved(u, LAW, c)
    assert torch.allclose(dense.mean, mean, atol=1e-12)
    assert float((rows @ dense.covariance @ rows.T).abs().max()) < 1e-12


def test_a_soft_law_is_the_posterior():
    u, s = torch.zeros(1, D, dtype=F64), 0.1
    mean, cov = G.conserved(u, G.Gaussian(A, Y, s), SIGMA)
    m, c = posterior(mean=u[0])
    assert torch.allclose(mean[0], m, atol=1e-12) and torch.allclose(cov, c, atol=1e-12)


def test_laws_that_repeat_others_do_no_harm():
    rows = torch.cat([A, A[:1], A[:1] + A[1:2]])
    y = torch.cat([Y, Y[:1], Y[:1] + Y[1:2]])
    u = torch.randn(4, D, generator=torch.Generator().manual_seed(3), dtype=F64)
    mean, _ = G.conserved(u, G.Constraint(rows, y))
    assert torch.allclose(mean, G.conserved(u, G.Constraint(A, Y)).mean, atol=1e-10)


@pytest.mark.parametrize("name", ["vp", "edm", "flow"])
@pytest.mark.parametrize("covariance", ["identity", "model", 0.1 + front()])
def test_samples_conserve_mass(name, covariance):
    """The prior is a mixture of fronts of several m, with noise."""
    means = torch.stack([front(m) for m in (2.0, 3.0, 4.0)])
    kind = {"vp": "eps", "edm": "x0", "flow": "velocity"}[name]
    den = GaussianMixture(means, 0.05, [1.0, 1.0, 1.0], PATHS[name], kind)
    for end in (None, False):
        x, info = G.solve(
            den, LAW, "probconserv", covariance=covariance, end=end, steps=8, n=4, dtype=F64,
            info=True,
        )  # fmt: skip
        assert info.counts == info.predicted
        assert float(info.misfit.max()) < 1e-10
    alone, info = G.solve(den, LAW, "probconserv", inside=False, steps=8, n=4, dtype=F64, info=True)
    assert float(info.misfit.max()) < 1e-10 and not torch.allclose(alone, x, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_with_the_covariance_of_the_model_it_is_exact(noise):
    den = GaussianPrior(PATHS["vp"])
    x = 2.0 * torch.randn(4, D, generator=torch.Generator().manual_seed(1), dtype=F64)
    law = G.Gaussian(A, Y, noise) if noise else G.Constraint(A, Y)
    g = G.ProbConserv(den, law, covariance="model")
    for lam in (-3.0, 0.0, 3.0):
        t = den.schedule.t_of_lam(lam)
        assert torch.allclose(g(x, t), exact(den.schedule, x, t, noise=noise), atol=1e-9)
    assert g.counts.vjp == 9 and g.cost(0.5) == type(g.counts)(1, 3, 4, 0)


def test_single_precision_keeps_its_own_accuracy():
    u = fields().float()
    mean, _ = G.conserved(u, LAW)
    assert mean.dtype == torch.float32
    assert float((integrals(mean.double()) - LAW.y).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda den: G.ProbConserv(den, LAW, covariance="diag"), "covariance"),
        (lambda den: G.ProbConserv(den, LAW, covariance=-front()), "variances >= 0"),
        (lambda den: G.ProbConserv(den, LAW, covariance=front()[:2]), "covariance has shape"),
        (lambda den: G.ProbConserv(den, LAW, inside=False, end=False), "used nowhere"),
        (lambda den: G.ProbConserv(den, G.Gaussian(torch.exp, front(), 0.1)), "not linear"),
        (lambda den: G.Constraint(torch.exp, front()), "not linear"),
        (lambda den: G.conserved(fields(), 3), "likelihood"),
        (lambda den: G.conserved(fields(), LAW, front()[:2]), "covariance has shape"),
    ],
)
def test_bad_input_is_refused(make, match):
    den = GaussianMixture(front()[None], 0.05, [1.0], PATHS["vp"])
    with pytest.raises(ArgumentError, match=match):
        make(den)
