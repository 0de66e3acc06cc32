"""``fewstep.tune(loss=...)``: a plan distilled to a loss on its end states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.tuning.adjoint import weight_slopes
from fewstep.engine.tuning.metric import Metric
from fewstep.engine.tuning.table import table_of
from fewstep.engine.tuning.tangents import free_numbers, linearised
from fewstep.engine.tuning.trajectories import Model, Trajectories, TuneError
from fewstep.models import GaussianMixture
from fewstep.models.wrapper import complete
from fewstep.schedules import VPLinear

F64 = torch.float64
MEAN, STD = torch.tensor([0.5, -1.0], dtype=F64), 0.3
QUICK = {
    "what": "search",
    "sampler": "ddim",
    "trajectories": 64,
    "test": 128,
    "fine_steps": 32,
}


def gaussian():
    return GaussianMixture(MEAN[None], torch.tensor([STD]).double(), torch.ones(1), VPLinear())


def spread(x, cond):
    """How far the variance of the ends, by that of the data, is from 1. DDIM's is too small."""
    return (((x - MEAN) / STD).square().mean() - 1.0).square()


def blind(x, cond):
    return spread(x.detach(), cond)


def variance(plan, den):
    """The variance of the ends by the data's, in closed form: the map of the run is linear."""
    unit = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=F64)
    low, high = fewstep.run(plan, den, unit)
    sigma = plan.start.sigma**2 + (plan.start.alpha * STD) ** 2
    return float((high - low)[0]) ** 2 * sigma / STD**2


@pytest.mark.parametrize(
    ("loss", "route"),
    [(spread, "gradient"), (blind, "derivative-free")],
    ids=["gradient", "free"],
)
def test_both_routes_reach_the_spread_of_the_data(loss, route):
    den = gaussian()
    made = fewstep.tune(den, 3, loss=loss, **QUICK)
    about = made.report["loss"]
    assert about["route"] == route
    assert about["name"] == loss.__name__
    assert made.report["kept"] == "tuned"
    before, now = (variance(p, den) for p in (fewstep.plan("ddim", den, nfe=3), made.plan))
    # the samples of the fit have a spread of their own, 64 points in two dimensions
    assert abs(before - 1.0) > 0.3
    assert abs(now - 1.0) < 0.25
    assert about["test"]["tuned"]["loss"] < 0.5 * about["test"]["untuned"]["loss"]
    assert about["test"]["gain"]["high"] < 0.0
    assert made.report["stages"][-1]["stage"] == "distill"


def test_a_loss_of_every_sample_with_their_conditions():
    den = GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=F64),
        torch.tensor([0.3, 0.3], dtype=F64),
        torch.tensor([0.5, 0.5], dtype=F64),
        VPLinear(),
    )

    def loss(x, cond):
        return (x[:, 0] - (2.0 * cond - 1.0)).square()

    def labels(seeds):
        return torch.tensor([seed % 2 for seed in seeds])

    made = fewstep.tune(den, 2, loss=loss, cond=labels, **{**QUICK, "sampler": "dpmpp_2m"})
    test = made.report["loss"]["test"]
    assert test["tuned"]["loss"] <= test["untuned"]["loss"]
    assert test["tuned"]["low"] <= test["tuned"]["loss"] <= test["tuned"]["high"]


def test_a_loss_that_cannot_gain_keeps_the_untuned_plan():
    made = fewstep.tune(gaussian(), 3, loss=lambda x, cond: x.sum() * 0.0, **QUICK)
    assert made.report["kept"] == "untuned"
    assert made.plan == fewstep.plan("ddim", gaussian(), nfe=3)
    test = made.report["loss"]["test"]
    assert test["gain"] == {"loss": 0.0, "low": 0.0, "high": 0.0}


def test_a_loss_that_is_no_number_for_plans_keeps_the_work():
    seen = []

    def late(x, cond):
        seen.append(len(x))
        return x.sum() * (0.0 if len(seen) == 1 else torch.nan)

    made = fewstep.tune(gaussian(), 3, loss=late, **{**QUICK, "what": "coefficients"})
    assert made.report["kept"] == "tuned"
    assert made.report["loss"]["why"] == "the loss of no plan is a number"
    assert made.report["loss"]["validation"] is None


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda x, cond: x.sum() * torch.nan, "distill: loss=<lambda> is no number"),
        (lambda x, cond: x, "returned shape (64, 2) for 64 samples"),
        ("fid", "loss='fid': must be a function"),
    ],
    ids=["nan", "shape", "text"],
)
def test_losses_that_are_refused(loss, sentence):
    with pytest.raises(ArgumentError) as caught:
        fewstep.tune(gaussian(), 3, loss=loss, **QUICK)
    assert sentence in str(caught.value)
    assert isinstance(caught.value, TuneError)


def test_the_adjoint_agrees_with_the_tangents_of_the_weights():
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.2, 0.4], dtype=F64)
    den = complete(GaussianMixture(means, stds, weights, VPLinear()))
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    given, model = Trajectories(range(8), x, None, x), Model(den)
    table = table_of(fewstep.plan("unipc", den, nfe=4), den.schedule)
    free = free_numbers(4, ("weight",))
    end, slopes = linearised(table, model, given, free)
    slope = Metric(spread, model).slope(end, None)
    found = weight_slopes(table, model, given, slope)
    wanted = np.zeros((4, 4))
    for number, by in zip(free, slopes, strict=True):
        wanted[number.k, number.j] = float((by * slope).sum())
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())
    # and a model that autograd cannot follow is searched without derivatives


def test_a_model_without_derivatives_is_searched_without_them():
    class Detached(GaussianMixture):
        def raws(self, x_in, t, cond=None, channels=("main",)):
            with torch.no_grad():
                return super().raws(x_in, t, cond, channels)

    own = gaussian()
    den = Detached(own.means, own.stds, own.weights, own.schedule)
    about = fewstep.tune(den, 2, loss=spread, **QUICK).report["loss"]
    assert about["route"] == "derivative-free"
    assert "does not depend on its input for autograd" in about["why"]
    assert about["test"]["tuned"]["loss"] < about["test"]["untuned"]["loss"]
