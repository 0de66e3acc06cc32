"""What every method without gradients of the model has to hold: paths, few steps, cost, bits,
refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from gradient_free import METHODS, blurred, masked, prior
from problems import F64, GRIDS, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.guidance.posterior import registry
from fewstep.guidance.posterior.stepping import Stepping
from fewstep.models import GaussianMixture

KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}
STEPPING = [name for name in METHODS if issubclass(registry.get(name).make, Stepping)]


def likelihood_of(method: str, batch: int = 0) -> Any:
    return masked(0.0 if "exact" in METHODS[method][1] else 0.1, batch)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", KINDS)
def test_few_steps_on_every_path_cost_what_is_predicted(name, method):
    """Flow starts at alpha = 0. Nothing is differentiated, so inference_mode is allowed."""
    options, kinds = METHODS[method]
    for likelihood in [masked()] * ("exact" in kinds) + [masked(0.1), blurred()] * (
        "noisy" in kinds
    ):
        for steps in (1, 2, 3, 6):
            den = prior(PATHS[name], KINDS[name])
            with torch.inference_mode():
                x, info = G.solve(
                    den, likelihood, method, steps=steps, n=3, dtype=F64, grid=GRIDS[name],
                    info=True, **options,
                )  # fmt: skip
            assert x.shape == (3, 6) and bool(torch.isfinite(x).all())
            assert info.counts == info.predicted and info.counts.vjp == 0
            assert den.calls == info.nfe >= steps


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_has_the_same_bits_in_any_batch(method):
    means = torch.randn(2, 2, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(7))
    den = GaussianMixture(means, 0.3, [0.5, 0.5], PATHS["vp"], "eps")
    operator = G.operators.Inpaint.random((4, 4), 0.5)
    y = operator(means[:1])[0]
    exact = "exact" in METHODS[method][1]
    likelihood = G.Constraint(operator, y) if exact else G.Gaussian(operator, y, 0.1)
    for dtype in (torch.float32, F64):
        given = {"steps": 4, "grid": "lam", "dtype": dtype, **METHODS[method][0]}
        every = G.solve(den, likelihood, method, seeds=range(5, 12), **given)
        for seed in (5, 9):
            one = G.solve(den, likelihood, method, seeds=[seed], **given)
            assert one.dtype == dtype and torch.equal(every[seed - 5 : seed - 4], one)


@pytest.mark.parametrize("method", METHODS)
def test_each_sample_has_its_measurement(method):
    options, _ = METHODS[method]
    given = {"steps": 5, "dtype": F64, "grid": "uniform", **options}
    whole = G.solve(prior(), likelihood_of(method, 3), method, **given)
    picked = likelihood_of(method, 3).select(torch.tensor([2]))
    one = G.solve(prior(), picked, method, seeds=[2], **given)
    assert whole.shape == (3, 6) and torch.allclose(whole[2:], one, atol=1e-12)
    assert float((whole[2] - whole[0])[:3].mean()) > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_of_calls_is_kept(method):
    _, info = G.solve(
        prior(), likelihood_of(method), method, nfe=9, info=True, **METHODS[method][0]
    )
    assert 6 <= info.nfe <= 9 and info.counts == info.predicted


@pytest.mark.parametrize("method", STEPPING)
def test_a_run_without_its_changes_is_refused(method):
    made = registry.get(method).make(prior(), likelihood_of(method))
    given = {"steps": 3, "n": 2, "dtype": F64, "grid": "uniform"}
    with pytest.raises(ArgumentError, match="give its on_step as callback="):
        fewstep.sample(made, "ddim", **given)
    with pytest.raises(ArgumentError, match="give seeds=, not noise="):
        fewstep.run(fewstep.plan("ddim", made.schedule, steps=2), made, torch.zeros(2, 6).double())
    with pytest.raises(ArgumentError, match="from noise to data"):
        fewstep.sample(made, "ode45", n=2)
    made = made.counted()
    with pytest.raises(ArgumentError, match="a run of this very"):
        fewstep.sample(prior(), "ddim", callback=made.on_step, **given)


@pytest.mark.parametrize("method", METHODS)
def test_the_likelihoods_that_it_does_not_take(method):
    den = prior()
    need = "exact" if "exact" in METHODS[method][1] else "noisy"
    other = "ddnm" if need == "noisy" else "mmps"
    if len(METHODS[method][1]) == 1:
        with pytest.raises(ArgumentError, match=f"such as.*{other}"):
            G.solve(den, masked(0.1 if need == "exact" else 0.0), method)
    if "pinverse" in registry.get(method).needs or "svd" in registry.get(method).needs:
        bare = G.operators.Callable(lambda x: x[:, :3], linear=True, shape=(6,))
        y = torch.zeros(3, dtype=F64)
        likelihood = G.Constraint(bare, y) if need == "exact" else G.Gaussian(bare, y)
        with pytest.raises(ArgumentError, match="adjoint only"):
            G.solve(den, likelihood, method)
    if "linear" in registry.get(method).needs and "noisy" in METHODS[method][1]:
        with pytest.raises(ArgumentError, match="not linear|is not"):
            G.solve(den, G.Gaussian(lambda x: x**2, torch.zeros(6)), method)
    assert den.calls == 0


@pytest.mark.parametrize("method", [m for m in METHODS if registry.get(m).form == "plan"])
def test_a_plan_of_its_own_takes_no_sampler(method):
    den = prior()
    with pytest.raises(ArgumentError, match="makes its own steps"):
        G.solve(den, likelihood_of(method), method, sampler="ddim")
    with pytest.raises(ArgumentError, match="makes its own steps"):
        G.solve(den, likelihood_of(method), method, sampler_options={"eta": 1.0})
    assert den.calls == 0


def test_a_budget_that_is_too_small():
    with pytest.raises(ArgumentError, match="allowed from 11 on"):
        G.solve(prior(), masked(), "repaint", nfe=10, repeats=10, length=1, times=[1.0, 0.5, 0.1])


def test_a_callback_sees_the_changed_states():
    seen = []
    likelihood = masked()
    x = G.solve(prior(), likelihood, "score_sde", steps=3, n=2, dtype=F64, grid="uniform",
                callback=lambda step: seen.append(replace(step, x=step.x_next.clone())))  # fmt: skip
    assert len(seen) == 3 and torch.equal(seen[-1].x, x)
    assert torch.allclose(x[:, :3], likelihood.y[:3].expand(2, -1), atol=1e-12)
