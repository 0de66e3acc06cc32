"""The analytic first step: its three rules as every kind, in a plan."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans.transforms.analytic_first_step import analytic_first_step
from fewstep.schedules import EDM, Flow, VPLinear

RULES = {
    "prior": lambda a, s: (a / (a * a + s * s), s / (a * a + s * s)),
    "unit": lambda a, s: (a / (math.hypot(a, s) * (math.hypot(a, s) + s)), 1.0 / math.hypot(a, s)),
    "zero": lambda a, s: (0.0, 1.0 / s),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver_2m", "interpolant_ode"])
@pytest.mark.parametrize(
    "schedule", [VPLinear(), EDM(0.002, 3.0), Flow()], ids=lambda s: type(s).__name__
)
def test_the_first_prediction_is_the_rules(schedule, sampler, rule):
    """One call fewer; the same result as a network that answers by the rule at its first call."""
    grid = fewstep.grid(
        "custom", schedule, times=[0.8 * schedule.t_max, 0.4 * schedule.t_max, 0.2 * schedule.t_max]
    )
    plan = fewstep.plan(sampler, schedule, grid=grid)
    made = analytic_first_step(plan, rule)
    assert (made.nfe, made.nodes) == (plan.nfe - 1, plan.nodes)
    model = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], schedule, "x0")
    node, x = plan.start, torch.tensor([[0.7, -1.2], [-0.4, 0.9]], dtype=torch.float64)
    data, eps = RULES[rule](node.alpha, node.sigma)
    assert node.alpha * data + node.sigma * eps == pytest.approx(1.0, abs=1e-12) or rule == "unit"

    class First:
        shape, calls = None, 0
        prediction = "x0"

        def __init__(self):
            self.schedule = schedule

        def input_scale(self, t):
            return 1.0

        def coefficients(self, t):
            return 0.0, (1.0,)

        def raws(self, y, t, cond=None):
            self.calls += 1
            return (data * y,) if self.calls == 1 else (model(y, float(t)),)

    if rule != "unit":  # x0 and eps of one straight line
        torch.testing.assert_close(
            fewstep.run(made, model, x), fewstep.run(plan, First(), x), rtol=1e-10, atol=1e-10
        )
    values = {}
    first = next(i for i in made.code if not hasattr(i, "outs"))
    values[first.out] = dict(first.terms)
    kind = plan.evaluations[0].outs[0][1]
    u, w = {"x0": (1.0, 0.0), "eps": (0.0, 1.0), "velocity": (node.dalpha, node.dsigma)}[kind]
    assert values[first.out].get(0, 0.0) == pytest.approx(u * data + w * eps, rel=1e-12, abs=1e-15)
