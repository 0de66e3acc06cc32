"""What every method of ``solve`` has to hold: few steps, starts without signal, cost, batches,
samplers, refusals."""

from __future__ import annotations

import pytest
import torch
from posterior_cases import ZERO, likelihood, made, names, options_of, pictures
from posteriors import MU, A, D, GaussianPrior, Y
from problems import F64, GRIDS, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError, FewstepError
from fewstep.guidance.posterior import registry

KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}
STARTS = {name: (PATHS[name], KINDS[name], GRIDS[name]) for name in KINDS}
STARTS["zero snr"] = (*ZERO["zero snr"], "trailing")


def run_of(name, den, **more):
    """A run of the method by its own default sampler."""
    options = {**options_of(name, den), **more}
    return G.solve(den, likelihood(name), name, dtype=F64, info=True, **options)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("path", STARTS)
def test_few_steps_are_finite_and_cost_what_was_foretold(path, name):
    schedule, kind, grid = STARTS[path]
    for steps in (1, 2, 3):
        den = GaussianPrior(schedule, kind)
        x, info = run_of(name, den, steps=steps, n=3, grid=grid)
        assert x.shape == (3, D) and torch.isfinite(x).all()
        assert den.calls == info.counts.network == info.nfe
        assert info.predicted in (None, info.counts)


@pytest.mark.parametrize(
    "name", [n for n in names("denoiser") if not registry.get(n).make.at_start]
)
@pytest.mark.parametrize("path", ZERO)
def test_where_alpha_is_zero_the_prediction_is_that_of_the_model(path, name):
    """J = 0 there; in a batch with other levels too."""
    schedule, kind = ZERO[path]
    start = float(schedule.t_max)
    den = GaussianPrior(schedule, kind)
    method = made(name, den)
    x = torch.randn(3, *method.shape, dtype=F64)
    assert torch.allclose(method(x, start)[:, :D], MU.expand(3, -1), atol=1e-12)
    assert method.cost(start).network == 1 and method.cost(start).vjp == 0
    other = 0.5 * start
    both = method(x[:2], torch.tensor([start, other], dtype=F64))
    assert torch.allclose(both[0, :D], MU, atol=1e-12)
    assert torch.isfinite(both).all() and float((both[1, :D] - MU).abs().max()) > 1e-3


@pytest.mark.parametrize("name", names())
def test_a_row_has_the_same_bits_in_any_batch(name):
    den, lik, options = pictures(name)
    given = {"steps": 3, "dtype": F64, **options}
    every = G.solve(den, lik, name, seeds=range(5, 12), **given)
    for i in (0, 3, 6):
        one = G.solve(den, lik, name, seeds=[5 + i], **given)
        assert torch.equal(one[0], every[i]), i
    assert float((every[0] - every[1]).abs().max()) > 1e-6


def test_every_sampler_runs_a_method():
    """Each sampler of the registry with one of the methods in turn."""
    methods, den = names("denoiser"), GaussianPrior(PATHS["vp"], "eps")
    ran = 0
    for i, sampler in enumerate(fewstep.samplers.names("plan")):
        method = made(methods[i % len(methods)], den)
        try:
            x = fewstep.sample(method, sampler, steps=3, n=2, dtype=F64, grid="lam")
        except FewstepError:
            with pytest.raises(FewstepError):  # what does not run the model itself either
                fewstep.sample(den, sampler, steps=3, n=2, dtype=F64, grid="lam")
            continue
        ran += 1
        assert torch.isfinite(x).all(), sampler
    assert ran > 40


@pytest.mark.parametrize("name", [n for n in names() if "adjoint" in registry.get(n).needs])
def test_an_operator_without_derivative_is_refused_before_the_first_call(name):
    den = GaussianPrior(PATHS["vp"], "eps")
    rounded = G.operators.Quantisation(8, gradient="none")
    with pytest.raises(ArgumentError, match="no gradient|without gradients|not linear|pseudo"):
        G.solve(den, G.Gaussian(rounded, MU, 0.1), name, **options_of(name, den))
    assert den.calls == 0


@pytest.mark.parametrize("name", [n for n in names() if "gradients" in registry.get(n).needs])
def test_a_model_without_derivative_is_told_of_methods_without(name):
    class Detached(GaussianPrior):
        def raws(self, x_in, t, cond=None, channels=("main",)):
            return (super().raws(x_in, t, cond)[0].detach(),)

    with pytest.raises(FewstepError, match="prior_covariance.*enkg"):
        run_of(name, Detached(PATHS["edm"]), steps=2)


@pytest.mark.parametrize("name", [n for n in names() if "noiseless" in registry.get(n).needs])
def test_noise_is_refused_by_methods_without(name):
    den = GaussianPrior(PATHS["vp"], "eps")
    with pytest.raises(ArgumentError, match="constraint"):
        G.solve(den, G.Gaussian(A, Y, 0.1), name, **options_of(name, den))
    assert den.calls == 0


@pytest.mark.parametrize("name", [n for n in names() if "noise" in registry.get(n).needs])
def test_an_exact_constraint_is_refused_by_methods_that_divide_by_the_noise(name):
    den = GaussianPrior(PATHS["vp"], "eps")
    with pytest.raises(ArgumentError, match="Constraint|noise"):
        G.solve(den, G.Constraint(A, Y), name, **options_of(name, den))
    assert den.calls == 0
