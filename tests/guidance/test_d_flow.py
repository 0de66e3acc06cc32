"""D-Flow: the start noise whose run fits the measurement."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from posteriors import A, D, GaussianPrior, Y, errors, posterior
from problems import F64, GRIDS, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError, FewstepError
from fewstep.plans.running.loop import NumericalError

KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}


def prior(path: str = "flow") -> GaussianPrior:
    return GaussianPrior(PATHS[path], KINDS[path])


def affine(path: str, steps: int, sampler: str = "heun") -> tuple[Any, Any]:
    """M and b of the run: x0 = M z + b, z the unit noise."""
    scale = PATHS[path].prior_scale
    z = torch.cat([torch.zeros(1, D, dtype=F64), torch.eye(D, dtype=F64)])
    x = fewstep.sample(prior(path), sampler, steps=steps, grid=GRIDS[path], x=scale * z)
    return (x[1:] - x[0]).T, x[0]


@pytest.mark.parametrize("path", KINDS)
def test_the_noise_goes_to_the_nearest_that_fits(path):
    """L-BFGS stays in the span of the gradients: the least change of z that fits y."""
    m, b = affine(path, 6)
    z = torch.randn(2, D, dtype=F64)
    x, info = G.solve(
        prior(path), G.Constraint(A, Y), "d_flow", steps=6, grid=GRIDS[path],
        x=PATHS[path].prior_scale * z, iterations=25, info=True,
    )  # fmt: skip
    nearest = z + (Y - (z @ m.T + b) @ A.T) @ torch.linalg.pinv(A @ m).T
    assert torch.allclose(x, nearest @ m.T + b, atol=1e-2)
    assert float(info.misfit.max()) < 1e-2 and info.predicted is None


def test_for_a_gaussian_prior_it_samples_the_posterior():
    """Of y without noise: the nearest noise that fits (the test above), drawn from N(0, I), has the
    posterior's mean and covariance, up to the solver, whose M has M M^T = Sigma to 2 %."""
    m, b = affine("vp", 40)
    am = A @ m
    keep = torch.eye(D, dtype=F64) - torch.linalg.pinv(am) @ am
    mean = b + m @ torch.linalg.pinv(am) @ (Y - A @ b)
    found = errors(mean, m @ keep @ m.T, posterior(noise=1e-9))
    assert found[0] < 0.02 and found[1] < 0.05


def test_one_step_by_hand():
    """The first step of L-BFGS is the gradient over its 1-norm, or of length 1 where it is shorter;
    with the density of the length it goes towards |z|^2 = d - 1."""
    for weight in (0.0, 2.0):
        z = torch.randn(1, D, dtype=F64)
        leaf = z.clone().requires_grad_(True)
        out = fewstep.sample(prior(), "ddim", steps=3, x=leaf, grid="uniform", grad="full")
        length = leaf.norm()
        loss = (Y - out @ A.T).square().sum()
        loss = loss + weight * (0.5 * length**2 - (D - 1) * length.log())
        (slope,) = torch.autograd.grad(loss, leaf)
        moved = z - min(1.0, 1.0 / float(slope.abs().sum())) * slope
        right = fewstep.sample(prior(), "ddim", steps=3, x=moved, grid="uniform")
        x = G.solve(
            prior(), G.Constraint(A, Y), "d_flow", steps=3, grid="uniform", sampler="ddim", x=z,
            iterations=1, weight=weight, line_search=False,
        )  # fmt: skip
        assert torch.allclose(x, right, atol=1e-9)


def test_the_length_of_the_noise_is_kept_near_that_of_noise():
    """Of a start that is too long, with little weight on the data."""
    z = 4.0 * torch.randn(1, D, dtype=F64)
    lik = G.Constraint(1e-3 * A, 1e-3 * Y)
    x = G.solve(prior(), lik, "d_flow", steps=3, x=z, iterations=40, weight=1.0, grid="uniform")
    scale = torch.cat([torch.zeros(1, D, dtype=F64), torch.eye(D, dtype=F64)])
    ends = fewstep.sample(prior(), "heun", steps=3, grid="uniform", x=scale)
    m, b = (ends[1:] - ends[0]).T, ends[0]
    found = torch.linalg.solve(m, (x - b).T).norm()
    assert float(found) == pytest.approx(math.sqrt(D - 1), rel=1e-2)


def test_the_cost_is_foretold_without_a_line_search():
    for steps in (1, 2, 3):
        den = prior("vp")
        x, info = G.solve(
            den, G.Gaussian(A, Y, 0.1), "d_flow", steps=steps, n=2, dtype=F64, iterations=4,
            line_search=False, grid="lam", info=True,
        )  # fmt: skip
        assert torch.isfinite(x).all()
        assert info.counts == info.predicted and den.calls == info.counts.network
        n = info.plan.nfe
        assert info.counts == type(info.counts)(2 * (8 * n + n), 8 * n, 8, 8)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"iterations": 0}, "iterations"),
        ({"weight": -1.0}, "weight"),
        ({"sampler": "ode45"}, "with a plan"),
        ({"sampler": "euler_ancestral"}, "draws noise"),
        ({"callback": print}, "callback"),
        ({"likelihood": G.Poisson(A, Y.abs())}, "Gaussian noise"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(change, match):
    den = prior()
    given = {"likelihood": G.Gaussian(A, Y, 0.1), **change}
    with pytest.raises(ArgumentError, match=match):
        G.solve(den, given.pop("likelihood"), "d_flow", **given)
    assert den.calls == 0


def test_a_run_that_diverges_names_the_sample():
    class Broken(GaussianPrior):
        def raws(self, x_in: Any, t: Any, cond: Any = None, channels: Any = ("main",)) -> Any:
            (found,) = super().raws(x_in, t, cond)
            return (found / float(self.calls < 30),) if self.calls < 30 else (found * math.nan,)

    with pytest.raises(NumericalError, match="sample 1, seed 8"):
        G.solve(
            Broken(PATHS["flow"], "velocity"), G.Constraint(A, Y), "d_flow", steps=2,
            sampler="ddim", seeds=[7, 8], iterations=5, line_search=False, dtype=F64,
        )  # fmt: skip


def test_it_is_no_denoiser():
    with pytest.raises(FewstepError, match="loop of its own"):
        fewstep.sample(G.DFlow(prior(), G.Constraint(A, Y)), "ddim", steps=3, dtype=F64)
