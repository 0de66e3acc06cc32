"""Methods with gradients of the model, on Gaussian problems whose posterior is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from posteriors import (
    MU,
    NOISE,
    SIGMA,
    A,
    D,
    GaussianPrior,
    Y,
    affine_law,
    errors,
    exact,
    noised,
    posterior,
)
from problems import F64, GRIDS, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.models import GaussianMixture

KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}
LAMS = (-3.0, -1.0, 0.0, 2.0, 5.0)


def likelihood() -> Any:
    return G.Gaussian(G.operators.Matrix(A), Y, NOISE)


def prior(name: str, **of: Any) -> GaussianPrior:
    return GaussianPrior(PATHS[name], KINDS[name], **of)


def states(count: int = 5) -> Any:
    g = torch.Generator().manual_seed(1)
    return 2.0 * torch.randn(count, D, generator=g, dtype=F64)


@pytest.mark.parametrize("name", KINDS)
def test_mmps_is_the_denoiser_of_the_posterior(name):
    """Measured: below 4e-13 on all paths."""
    den, x = G.MMPS(prior(name), likelihood(), iterations=3), states()
    for lam in LAMS:
        t = den.schedule.t_of_lam(lam)
        assert torch.allclose(den(x, t), exact(den.schedule, x, t), atol=1e-10, rtol=0.0)
    t = torch.tensor([den.schedule.t_of_lam(lam) for lam in LAMS], dtype=F64)
    each = torch.cat([exact(den.schedule, x[i : i + 1], float(v)) for i, v in enumerate(t)])
    assert torch.allclose(den(x, t), each, atol=1e-10, rtol=0.0)


def test_mmps_takes_a_function_and_an_exact_constraint():
    den, x = prior("vp"), states()
    t = den.schedule.t_of_lam(0.5)
    bent = G.MMPS(den, G.Gaussian(lambda x: x @ A.T, Y, NOISE), iterations=3)
    assert torch.allclose(bent(x, t), exact(den.schedule, x, t), atol=1e-10, rtol=0.0)
    sharp = G.MMPS(den, G.Constraint(G.operators.Matrix(A), Y), iterations=3)(x, t)
    assert torch.allclose(sharp @ A.T, Y.expand(5, -1), atol=1e-9)
    assert torch.allclose(sharp, exact(den.schedule, x, t, noise=0.0), atol=1e-8)


def test_more_iterations_are_nearer():
    den, x = prior("vp"), states(64)
    t = den.schedule.t_of_lam(0.0)
    right = exact(den.schedule, x, t)
    off = [float((_x0(den, x, t) - right).norm())]
    off += [float((G.MMPS(den, likelihood(), k)(x, t) - right).norm()) for k in (1, 2, 3)]
    assert off[0] > off[1] > off[2] > 1e-6 > off[3]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("sampler", "steps", "most"), [("heun", 40, 0.02), ("unipc", 50, 0.005)])
def test_mmps_samples_the_posterior(name, sampler, steps, most):
    """The affine map of the run, from the exact noised posterior. Measured, mean and covariance:
    mean below 1e-13 (Flow 3.8e-3, from its start at alpha = 0), covariance 1.6 to 1.8 % (Heun) and
    .10 to .32 % (UniPC)."""
    den = prior(name)

    def run(x: Any) -> Any:
        out, info = G.solve(
            den, likelihood(), "mmps", iterations=3, sampler=sampler, steps=steps,
            grid=GRIDS[name], x=x, info=True,
        )  # fmt: skip
        assert info.counts == info.predicted
        return out

    e_m, e_c, q = errors(*affine_law(run, *noised(den.schedule)), posterior())
    # a path that starts at alpha = 0 has the model's own prediction there
    assert e_m < (5e-3 if name == "flow" else 2e-3) and e_c < most and abs(q - 1.0) < most


def test_pigdm_is_exact_for_its_own_prior():
    for std in (1.0, 0.6):
        den = prior("vp", mean=torch.zeros(D, dtype=F64), covariance=std**2 * torch.eye(D).double())
        x, t = states(), den.schedule.t_of_lam(0.3)
        right = exact(den.schedule, x, t, mean=den.mean, cov=den.covariance)
        closed = G.PiGDM(den, likelihood(), std=std)(x, t)
        iterated = G.PiGDM(den, G.Gaussian(lambda x: x @ A.T, Y, NOISE), std, iterations=3)(x, t)
        assert torch.allclose(closed, right, atol=1e-10, rtol=0.0)
        assert torch.allclose(iterated, right, atol=1e-9, rtol=0.0)
        other = G.PiGDM(den, likelihood(), std=2.0)(x, t)
        assert float((other - right).abs().max()) > 1e-3


def test_pigdm_without_noise_is_the_pseudo_inverse():
    den = prior("vp", mean=torch.zeros(D, dtype=F64), covariance=torch.eye(D).double())
    x, t = states(), den.schedule.t_of_lam(0.3)
    mask = torch.tensor([1, 1, 1, 0, 0, 0])
    y = torch.arange(6, dtype=F64) * mask
    sharp = G.PiGDM(den, G.Constraint(G.operators.Inpaint(mask), y))(x, t)
    assert torch.allclose(sharp, torch.where(mask.bool(), y, _x0(den, x, t)), atol=1e-10)


def _x0(den: Any, x: Any, t: float) -> Any:
    return GaussianPrior(den.schedule, "x0", den.mean, den.covariance)(x, t)


def test_pigdm_on_another_prior_is_near():
    """Reference: (.029, .047, .99) for DDIM 100 on another draw of the same problem."""
    den = prior("vp")

    def run(x: Any) -> Any:
        return G.solve(den, likelihood(), "pigdm", sampler="ddim", steps=100, grid="lam", x=x)

    law = affine_law(run, torch.zeros(D, dtype=F64), torch.eye(D).double())
    e_m, e_c, q = errors(*law, posterior())
    assert 0.005 < e_m < 0.2 and e_c < 0.4 and 0.7 < q < 1.3


def test_dps_moves_along_the_gradient_of_each_sample():
    den, x = prior("vp"), states()
    t = den.schedule.t_of_lam(0.5)
    node = den.schedule.node(t)
    leaf = x.clone().requires_grad_(True)
    d = _x0(den, leaf, t)
    r = Y - d @ A.T
    (slope,) = torch.autograd.grad(r.norm(dim=1).sum(), leaf, retain_graph=True)
    right = d - 0.7 * node.sigma**2 / (node.alpha**2 + node.sigma**2) * node.alpha * slope
    assert torch.allclose(G.DPS(den, likelihood(), zeta=0.7)(x, t), right, atol=1e-12)
    (slope,) = torch.autograd.grad(-0.5 * (r * r).sum() / NOISE**2, leaf)
    right = d + 0.7 * node.sigma**2 / node.alpha * slope
    assert torch.allclose(G.DPS(den, likelihood(), 0.7, "score")(x, t), right, atol=1e-10)


@pytest.mark.parametrize("method", ["dps", "dps_step"])
def test_the_residual_falls_with_zeta(method):
    den, seeds = prior("vp"), range(32)

    def misfit(zeta: float) -> float:
        _, info = G.solve(
            den, likelihood(), method, zeta=zeta, sampler="ddim", steps=100, seeds=seeds,
            dtype=F64, info=True,
        )  # fmt: skip
        assert info.counts == info.predicted
        return float(info.misfit.mean())

    found = [misfit(zeta) for zeta in (0.0, 0.03, 0.1)]
    assert found[0] > found[1] > found[2]


def test_zeta_zero_is_the_model_itself():
    """Bit for bit, in form of a denoiser of kind x0 and by steps."""
    bare = prior("edm")
    alone = fewstep.sample(bare, "ddim", steps=12, eta=1.0, n=3, dtype=F64, grid="karras")
    for method in ("dps", "dps_step"):
        x = G.solve(
            bare, likelihood(), method, zeta=0.0, sampler="ddim", sampler_options={"eta": 1.0},
            steps=12, n=3, dtype=F64, grid="karras",
        )  # fmt: skip
        assert torch.equal(x, alone)


def test_the_published_step_of_dps():
    """One step by hand: x_s - zeta grad |y - A D(x_t)|, after ancestral sampling's step."""
    den = prior("vp")
    seen: list[Any] = []
    method = G.DPSStep(den, likelihood(), zeta=0.4)

    def watch(step: Any) -> Any:
        plain = step.x_next.clone()
        seen.append((step.x, step.node.t, plain))
        return method.on_step(step)

    x = fewstep.sample(method, "ddim", steps=3, eta=1.0, n=2, dtype=F64, callback=watch)
    for i, (state, t, after) in enumerate(seen):
        leaf = state.clone().requires_grad_(True)
        r = Y - _x0(den, leaf, t) @ A.T
        (slope,) = torch.autograd.grad(r.norm(dim=1).sum(), leaf)
        then = seen[i + 1][0] if i + 1 < len(seen) else x
        assert torch.allclose(then, after - 0.4 * slope, atol=1e-10)


@pytest.mark.parametrize("method", ["mmps", "pigdm", "dps", "dps_step"])
@pytest.mark.parametrize("name", KINDS)
def test_the_predicted_cost_is_the_counted_one(name, method):
    for steps in (1, 2, 7):
        den = prior(name)
        x, info = G.solve(
            den, likelihood(), method, steps=steps, n=3, dtype=F64, grid=GRIDS[name], info=True
        )
        assert torch.isfinite(x).all() and x.shape == (3, D)
        assert info.counts == info.predicted and den.calls == info.counts.network == info.nfe
        assert info.counts.vjp > 0 or (name == "flow" and steps == 1)


def test_a_start_at_alpha_zero_is_the_model():
    den = prior("flow")
    x = states()
    for made in (G.MMPS(den, likelihood()), G.PiGDM(den, likelihood()), G.DPS(den, likelihood())):
        assert torch.allclose(made(x, 1.0), MU.expand(5, -1), atol=1e-12)
        both = made(x[:2], torch.tensor([1.0, 0.5]))
        assert torch.allclose(both[0], MU) and torch.allclose(both[1:], made(x[1:2], 0.5))


def test_every_kind_of_sampler_runs_it():
    g = G.MMPS(prior("edm"), likelihood(), 3)
    for sampler in ("heun", "dpmpp_2m_sde", "unipc", "euler_ancestral"):
        x = fewstep.sample(g, sampler, steps=8, n=4, dtype=F64, grid="karras")
        assert float(((x @ A.T - Y).norm(dim=1)).mean()) < 6 * NOISE * math.sqrt(3)
    _, info = G.solve(g.denoiser, likelihood(), sampler="ode45", n=2, dtype=F64, info=True)
    assert info.plan is None and info.predicted is None and info.counts.network > 0


def test_measurements_follow_the_samples():
    ys = torch.stack([Y, Y + 1.0, Y - 2.0])
    both = G.Gaussian(G.operators.Matrix(A), ys, NOISE)
    den = prior("vp")
    whole = G.solve(den, both, steps=10, dtype=F64, iterations=3)
    assert whole.shape == (3, D)
    one = G.solve(den, both.select(torch.tensor([1])), steps=10, dtype=F64, iterations=3, seeds=[1])
    assert torch.allclose(one[0], whole[1], atol=1e-10)
    g = G.MMPS(den, both, 3)
    picked = g.select(torch.tensor([2, 2]))
    assert g.batch == 3 and picked.batch == 2
    x, t = states(2), den.schedule.t_of_lam(0.0)
    assert torch.allclose(picked(x, t), exact(den.schedule, x, t, y=ys[2]), atol=1e-10)


def test_a_network_in_half_precision_is_solved_in_float32():
    class Half(GaussianPrior):
        def raws(self, x_in: Any, t: Any, cond: Any = None, channels: Any = ("main",)) -> Any:
            assert x_in.dtype == torch.float16
            return super().raws(x_in, t, cond)

    sch = PATHS["vp"]
    x, t = states().half(), sch.t_of_lam(0.0)
    out = G.MMPS(Half(sch), likelihood(), 3)(x, t)
    assert out.dtype == torch.float16
    assert torch.allclose(out.double(), exact(sch, x.double(), t), atol=2e-2)


def test_gradients_go_through_a_guided_run():
    den = GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [0.5, 0.7], [0.4, 0.6], PATHS["vp"])
    lik = G.Gaussian(torch.tensor([[1.0, 0.5]], dtype=F64), torch.tensor([0.7], dtype=F64), 0.3)
    g = G.MMPS(den, lik, 1)

    def end(x: Any) -> Any:
        return fewstep.sample(g, "ddim", steps=3, grid="lam", x=x, grad="full")

    x = torch.randn(2, 2, generator=torch.Generator().manual_seed(3), dtype=F64)
    assert torch.autograd.gradcheck(end, (x.requires_grad_(True),), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"method": "mmsp"}, "mmps"),
        ({"iteration": 3}, "iterations"),
        ({"iterations": 0}, "iterations"),
        ({"sampler": "heunn"}, "heun"),
        ({"method": "dps_step", "sampler": "heun"}, "several calls a step"),
        ({"method": "dps", "loss": "mean"}, "loss"),
        ({"method": "dps", "zeta": -1.0}, "zeta"),
        ({"likelihood": 3}, "likelihood"),
        ({"likelihood": G.Gaussian(A, torch.zeros(2), 0.1)}, "y has shape"),
        ({"likelihood": G.Gaussian(A, torch.zeros(2, 3), 0.1), "n": 3}, "2 measurements"),
        ({"method": "dps", "likelihood": G.Constraint(A, Y), "loss": "score"}, "Constraint has no"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(change, match):
    den = prior("vp")
    given = {"likelihood": likelihood(), "method": "mmps", **change}
    with pytest.raises(ArgumentError, match=match):
        G.solve(den, given.pop("likelihood"), given.pop("method"), **given)
    assert den.calls == 0


def test_a_model_without_gradients_is_told_so():
    class Detached(GaussianPrior):
        def raws(self, x_in: Any, t: Any, cond: Any = None, channels: Any = ("main",)) -> Any:
            return (super().raws(x_in, t, cond)[0].detach(),)

    with pytest.raises(ArgumentError, match="method='enkg'"):
        G.solve(Detached(PATHS["edm"]), likelihood(), dtype=F64)
    with torch.inference_mode(), pytest.raises(ArgumentError, match="no_grad"):
        G.solve(prior("edm"), likelihood(), dtype=F64)


def test_the_methods_are_listed():
    assert {"mmps", "pigdm", "dps", "dps_step"} <= set(G.methods())
    assert SIGMA.shape == (D, D)
