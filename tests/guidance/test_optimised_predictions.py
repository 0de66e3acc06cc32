"""MPGD and SITCOM."""

from __future__ import annotations

import pytest
import torch
from gradient_free import NOISE, blurred, masked, measured, prior
from posteriors import A, GaussianPrior, Y
from problems import F64, GRIDS, PATHS

from fewstep import guidance as G


def states():
    return 2.0 * torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=F64)


def x0(x, t):
    return GaussianPrior(PATHS["vp"], "x0")(x, t)


def test_mpgd_moves_along_the_gradient_of_the_loss():
    x, t = states(), 0.4
    likelihood = G.Gaussian(G.operators.Matrix(A), Y, NOISE)
    d = x0(x, t).requires_grad_(True)
    norms = (Y - d @ A.T).norm(dim=1)
    (squared,) = torch.autograd.grad(0.5 * norms.square().sum(), d, retain_graph=True)
    (norm,) = torch.autograd.grad(norms.sum(), d)
    for loss, slope in (("squared", squared), ("norm", norm)):
        found = G.MPGD(prior(), likelihood, rate=0.3, loss=loss)(x, t)
        assert torch.allclose(found, (d - 0.3 * slope).detach(), atol=1e-12)


def test_mpgd_with_the_identity_is_the_measurement():
    y = torch.arange(6, dtype=F64)
    made = G.MPGD(prior(), G.Constraint(torch.eye(6, dtype=F64), y))
    assert torch.allclose(made(states(), 0.4), y.expand(4, -1), atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_noise_of_the_steps_of_mpgd(share):
    """Of D + share (D' - D)."""
    likelihood = G.Gaussian(G.operators.Matrix(A), Y, NOISE)
    made, seen = G.MPGD(prior(), likelihood, rate=0.3), []
    G.solve(
        prior(), likelihood, "mpgd", rate=0.3, share=share, eta=0.0, steps=4, n=2, dtype=F64,
        callback=seen.append,
    )  # fmt: skip
    for step in seen:
        s, t = step.node, step.next_node
        d, data = x0(step.x, s.t), made(step.x, s.t)
        eps = (step.x - s.alpha * (d + share * (data - d))) / s.sigma
        assert torch.allclose(step.x_next, t.alpha * data + t.sigma * eps, atol=1e-12)


def test_mpgd_on_a_mask_is_ddnm():
    """``A^T = A^+`` there."""
    given = {"steps": 10, "n": 4, "dtype": F64, "grid": "uniform", "eta": 0.7}
    found = G.solve(prior(), masked(), "mpgd", **given)
    right = G.solve(prior(), masked(), "ddnm", noise="posterior", **given)
    assert torch.allclose(found, right, atol=1e-12)


def test_the_search_of_sitcom():
    """Two steps of Adam by hand, and the end of the search near the measurement."""
    x, t = states(), 0.4
    likelihood = G.Gaussian(G.operators.Matrix(A), Y, NOISE)
    v = x.clone().requires_grad_(True)
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    for k in (1, 2):
        loss = (Y - x0(v, t) @ A.T).square().sum() + 0.7 * (x - v).square().sum()
        (slope,) = torch.autograd.grad(loss, v)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        size = (square / (1 - 0.999**k)).sqrt() + 1e-8
        v = (v - 0.05 * mean / (1 - 0.9**k) / size).detach().requires_grad_(True)
    right = x0(v, t).detach()
    options = {"iterations": 2, "rate": 0.05, "lam": 0.7}
    assert torch.allclose(G.SITCOM(prior(), likelihood, **options)(x, t), right, atol=1e-10)
    still = G.SITCOM(prior(), likelihood, stop=1e6, **options)(x, t)
    assert torch.allclose(still, x0(x, t), atol=1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_few_steps_of_sitcom_cost_what_is_predicted(name):
    kinds = {"vp": "eps", "edm": "x0", "flow": "velocity"}
    for likelihood in (masked(), blurred()):
        for steps in (1, 2, 3):
            den = prior(PATHS[name], kinds[name])
            x, info = G.solve(
                den, likelihood, "sitcom", steps=steps, n=3, dtype=F64, grid=GRIDS[name],
                iterations=4, info=True,
            )  # fmt: skip
            assert bool(torch.isfinite(x).all()) and info.counts == info.predicted
            assert den.calls == info.counts.network == info.counts.vjp + steps


def test_sitcom_fits_the_measurement_to_its_noise():
    """It is no sampler of the posterior: the spread is too small; measured (.04, .47, .52)."""
    e_m, _, q = measured(masked(NOISE), "sitcom", 20, n=200, iterations=20, rate=0.1)
    assert e_m < 0.3 and q < 0.9


def test_the_law_of_mpgd():
    """Measured without noise (.024, .056, .94); on a blur, where A^T is no inverse, (.20, .33, .58)."""
    e_m, e_c, q = measured(masked(), "mpgd", 100, hidden=True)
    assert e_m < 0.08 and e_c < 0.15 and 0.85 < q < 1.1
