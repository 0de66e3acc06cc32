"""Structured noise: samples and the noise of their measurement, drawn together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from posteriors import MU, SIGMA, A, D, GaussianPrior, Y, affine_law, errors
from problems import F64, GRIDS, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.schedules import VPLinear

KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}
_G = torch.Generator().manual_seed(9)
_R = torch.linalg.qr(torch.randn(3, 3, generator=_G, dtype=F64))[0]
S_N = _R @ torch.diag(torch.tensor([0.5, 0.05, 0.01], dtype=F64)) @ _R.T
M_N = 0.3 * torch.randn(3, generator=_G, dtype=F64)


def models(path: str) -> tuple[GaussianPrior, GaussianPrior]:
    """The model of x and that of the noise, of another kind of prediction."""
    den = GaussianPrior(PATHS[path], KINDS[path])
    return den, GaussianPrior(PATHS[path], "x0", M_N, S_N)


def right(extra: float = 0.0) -> tuple[Any, Any]:
    """Mean and covariance of x given y = A x + n + white noise."""
    inner = A @ SIGMA @ A.T + S_N + extra**2 * torch.eye(3, dtype=F64)
    gain = SIGMA @ A.T @ torch.linalg.inv(inner)
    return MU + gain @ (Y - A @ MU - M_N), SIGMA - gain @ A @ SIGMA


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_pair_is_the_exact_denoiser(path, noise):
    """By MMPS: that of the joint Gaussian, given y, for x and for n."""
    den, of_noise = models(path)
    lik = G.Gaussian(A, Y, noise) if noise else G.Constraint(A, Y)
    method = G.Joint(den, lik, of_noise)
    cov = torch.block_diag(SIGMA, S_N)
    mean = torch.cat([MU, M_N])
    b = torch.cat([A, torch.eye(3, dtype=F64)], 1)
    gain = cov @ b.T @ torch.linalg.inv(b @ cov @ b.T + noise**2 * torch.eye(3, dtype=F64))
    given = GaussianPrior(PATHS[path], "x0", mean + gain @ (Y - b @ mean), cov - gain @ b @ cov)
    x = torch.randn(5, D + 3, dtype=F64)
    for lam in (-3.0, 0.0, 3.0):
        t = den.schedule.t_of_lam(lam)
        assert torch.allclose(method(x, t), given(x, t), atol=1e-8)


@pytest.mark.parametrize(
    ("inner", "frozen"),
    [("mmps", (0.0019, 0.0239, 0.976)), ("pigdm", (0.055, 0.127, 1.093))],
)
def test_it_samples_the_posterior_of_structured_noise(inner, frozen):
    """Reference, DDIM 200: (.018, .019, .98) by MMPS, (.14, .16, 1.11) with covariances of
    Pi-GDM."""
    den, of_noise = models("vp")

    def run(x: Any) -> Any:
        out, info = G.solve(
            den, G.Constraint(A, Y), "joint", noise=of_noise, inner=inner, sampler="ddim",
            steps=200, grid="lam", x=x, info=True,
        )  # fmt: skip
        assert info.counts == info.predicted and out.shape == (len(x), D)
        return out

    start = torch.zeros(D + 3, dtype=F64), torch.eye(D + 3, dtype=F64)
    factor = torch.linalg.cholesky(start[1])
    ends = run(torch.cat([start[0][None], start[0] + factor.T]))
    columns = (ends[1:] - ends[0]).T
    found = errors(ends[0], columns @ columns.T, right())
    assert found == pytest.approx(frozen, abs=5e-3)


def test_white_noise_alone_is_another_posterior():
    den, _ = models("vp")
    law = right()
    white = G.Gaussian(A, Y, float((S_N.trace() / 3).sqrt()))
    run = lambda x: G.solve(den, white, "mmps", sampler="ddim", steps=100, grid="lam", x=x)  # noqa: E731
    found = errors(*affine_law(run, torch.zeros(D, dtype=F64), torch.eye(D).double()), law)
    assert found[0] > 0.2 and found[1] > 0.1


def test_a_mask_has_noise_where_it_observes():
    keep = torch.arange(D) < 3
    den = GaussianPrior(VPLinear(), "eps")
    of_noise = GaussianPrior(
        VPLinear(), "eps", torch.zeros(D, dtype=F64), 0.2 * torch.eye(D).double()
    )
    y = torch.where(keep, torch.arange(D, dtype=F64), 0.0)
    method = G.Joint(den, G.Constraint(G.operators.Inpaint(keep), y), of_noise)
    x, t = torch.randn(2, 2 * D, dtype=F64), VPLinear().t_of_lam(0.0)
    d, n = method.pair.split(method(x, t))
    assert torch.allclose((d + n)[:, keep], y[keep].expand(2, 3), atol=1e-9)
    bare = method.pair.split(method.pair(x, t))[1]
    assert torch.allclose(n[:, ~keep], bare[:, ~keep], atol=1e-9)


@pytest.mark.parametrize("path", KINDS)
def test_few_steps_and_samplers(path):
    den, of_noise = models(path)
    for sampler in ("heun", "dpmpp_2m_sde", "unipc"):
        for steps in (1, 2, 3):
            x, info = G.solve(
                den, G.Gaussian(A, Y, 0.1), "joint", noise=of_noise, sampler=sampler, steps=steps,
                n=2, dtype=F64, grid=GRIDS[path], info=True,
            )  # fmt: skip
            assert x.shape == (2, D) and torch.isfinite(x).all()
            assert info.counts == info.predicted
    for inner, options in (("tmpd", {}), ("dps", {"zeta": 0.3}), ("lgd_mc", {"samples": 2})):
        x = G.solve(
            den, G.Gaussian(A, Y, 1.0), "joint", noise=of_noise, inner=inner, options=options,
            steps=3, n=2, dtype=F64, grid=GRIDS[path],
        )  # fmt: skip
        assert torch.isfinite(x).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"noise": GaussianPrior(VPLinear(), "eps")}, "the operator measures"),
        ({"noise": GaussianPrior(PATHS["edm"], "x0", M_N, S_N)}, "same schedule"),
        ({"inner": "mcg"}, "must be a method that is a denoiser"),
        ({"inner": "joint"}, "must be a method that is a denoiser"),
        ({"inner": "mmsp"}, "mmps"),
        ({"options": {"iteration": 2}}, "iterations"),
        ({"x": torch.zeros(2, 4)}, "samples of shape"),
        ({"noise": None}, "noise"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(change, match):
    den, of_noise = models("vp")
    given = {"noise": of_noise, **change}
    if given["noise"] is None:
        given.pop("noise")
    with pytest.raises(ArgumentError, match=match):
        G.solve(den, G.Gaussian(A, Y, 0.1), "joint", **given)
    assert den.calls == 0 and fewstep.__name__ == "fewstep"
