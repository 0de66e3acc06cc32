"""The ratios of DC-Solver for a model, and the polynomial that predicts them for other runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.tuning.candidate import Candidate
from fewstep.engine.tuning.cascade import SHAPE, Cascade, Observation, fit_cascade
from fewstep.engine.tuning.compensation import Start, compensate, fit_compensation, least_at
from fewstep.engine.tuning.losses import pseudo_huber, sample_errors
from fewstep.engine.tuning.problem import Problem
from fewstep.engine.tuning.trajectories import Model, states_at, trajectories
from fewstep.models import GaussianMixture
from fewstep.plans.instructions import Combine
from fewstep.schedules import EDM, Flow, VPLinear
from fewstep.schedules.grids.auto import UNKNOWN

F64 = torch.float64
PATHS = {"vp": VPLinear(), "edm": EDM(), "flow": Flow()}
KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}


def problem(path, nfe, n=32):
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.3, 0.7], dtype=F64)
    den = GaussianMixture(means, stds, weights, PATHS[path], prediction=KINDS[path])
    model = Model(den)
    first = den.schedule.node(den.schedule.t_max)
    sets = [trajectories(model, range(b, b + n), None, first, 64) for b in (0, 1000)]
    return Problem(model, UNKNOWN, nfe, *sets, fine_steps=64)


def begun(made, nfe, grid="lam"):
    schedule = made.model.denoiser.schedule
    return Start(2, fewstep.grid(grid, schedule, nfe), 1.0, grid)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (lambda r: (r - 0.4) ** 2, 0.4),
        (lambda r: abs(r - 2.2) + 1.0, 2.2),
        (lambda r: -r, 3.0),
        (lambda r: r, -1.0),
        (lambda r: 1.0, 1.0),
        (lambda r: 1.0 + 1e-9 * r, 1.0),
    ],
)
def test_the_least_value_between_the_ends(value, place):
    assert least_at(value) == pytest.approx(place, abs=1e-3)


@pytest.mark.parametrize("path", PATHS)
def test_each_ratio_brings_the_state_next_to_the_converged_one(path):
    made = problem(path, 5)
    start = begun(made, 5)
    ratios = compensate(made, start)
    first = 3 if path == "flow" else 2
    assert ratios[:first] == (1.0,) * first and any(r != 1.0 for r in ratios[first:])
    # step ``first``, from the run itself: the corrected state is the last claimed at its node
    i, given, model = first, made.train, made.model
    node = start.grid.nodes[i + 1]
    (wanted,) = states_at(model, given, [node], made.fine_steps)

    def loss(ratio):
        plan = start.plan([*ratios[:i], ratio, *(1.0,) * (4 - i)])
        last = max(k for k, c in enumerate(plan.code) if isinstance(c, Combine) and c.node == node)
        short = replace(plan, code=plan.code[: last + 1], result=plan.code[last].out)
        return sample_errors(model.run(short, given.x, given.cond), wanted)

    delta = float(loss(1.0).median())
    best = pseudo_huber(loss(ratios[i]), delta)
    near = [pseudo_huber(loss(r), delta) for r in (1.0, ratios[i] - 0.05, ratios[i] + 0.05)]
    assert best < min(near)


@pytest.mark.parametrize(
    ("path", "nfe"), [("vp", 1), ("flow", 2), ("vp", 3), ("edm", 3), ("flow", 3), ("edm", 8)]
)
def test_the_stage(path, nfe):
    made = problem(path, nfe)
    plan = fewstep.plan("unipc", made.model.denoiser, nfe=nfe, grid="karras")
    start = Candidate(plan, made.held_score(plan), "unipc on karras")
    found = fit_compensation(made, [start])
    assert start in found and [c.score for c in found] == sorted(c.score for c in found)
    assert nfe > 2 or found == [start]
    for candidate in found:
        assert candidate.plan.nfe == nfe and candidate.plan.exactness == "exact"
    if nfe == 8:
        assert found[0].score < 0.7 * start.score
        assert found[0].name.startswith("dc_solver:order=")
        assert found[0].name.endswith(" on karras")


def test_tune_with_it():
    den = fewstep.models.load("mixture")
    quick = {"trajectories": 32, "fine_steps": 64, "test": 128}
    found = fewstep.tune(den, 8, what="compensation", sampler="unipc", grid="karras", **quick)
    test = found.report["test"]
    assert test["tuned"]["median"] < test["untuned"]["median"]
    assert found.report["from"].startswith("dc_solver") and found.plan.nfe == 8


def runs():
    return [(n, w) for n in (4, 5, 7, 9, 12, 20) for w in (1.0, 2.0, 4.0, 7.5)]


def test_a_cascade_is_recovered():
    truth = np.random.default_rng(0).normal(size=SHAPE)
    truth = Cascade(tuple((0.3 * truth).ravel().tolist()))
    seen = [Observation(truth.predict(n, w), w) for n, w in runs()]
    assert max(max(ratios) for ratios, _ in seen) < 3.0  # none was cut
    found = fit_cascade(seen)
    for n, w in [*runs(), (6, 3.0), (15, 5.0)]:
        assert found.predict(n, w) == pytest.approx(truth.predict(n, w), abs=1e-10)


def test_the_order_of_the_numbers():
    """k_dec, row by row: (s / n)^d (w / 12)^(2 - e) (n / 50)^(2 - c)."""
    for d, e, c in ((0, 2, 2), (3, 0, 1), (1, 1, 0)):
        numbers = np.zeros(SHAPE)
        numbers[d, e, c] = 0.7
        found = Cascade(tuple(numbers.ravel().tolist())).predict(10, 6.0)
        wanted = [0.7 * (s / 10) ** d * 0.5 ** (2 - e) * 0.2 ** (2 - c) for s in range(3, 11)]
        assert found == pytest.approx([1.0, 1.0, *wanted], rel=1e-12)


def test_predicted_ratios_run_at_a_number_of_calls_that_was_not_fitted():
    seen = []
    for nfe in (7, 8, 10):
        made = problem("edm", nfe)
        seen.append(Observation(compensate(made, begun(made, nfe, "karras"))))
    ratios = fit_cascade(seen).predict(9)
    start = begun(made, 9, "karras")
    plan = start.plan(ratios)
    assert plan.nfe == 9 and plan.exactness == "exact" and any(r != 1.0 for r in ratios)
    assert made.held_score(plan) < made.held_score(start.plan())


def test_what_no_cascade_can_be():
    with pytest.raises(ArgumentError, match="must be 36"):
        Cascade((1.0,))
    with pytest.raises(ArgumentError, match="none has more than 2 steps"):
        fit_cascade([Observation((1.0, 1.0))])
    with pytest.raises(ArgumentError, match="nfe=0"):
        Cascade((0.0,) * 36).predict(0)
