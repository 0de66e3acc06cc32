"""Plans as tables of weights, derivatives of their ends, and fits in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fewstep
from fewstep.engine.tuning.candidate import Candidate
from fewstep.engine.tuning.greedy import fit_greedily, greedy
from fewstep.engine.tuning.joint import fit_coefficients
from fewstep.engine.tuning.losses import huber_weights, pseudo_huber, score
from fewstep.engine.tuning.problem import Problem
from fewstep.engine.tuning.table import table_of
from fewstep.engine.tuning.tangents import _of_prediction, free_numbers, linearised, moved
from fewstep.engine.tuning.times import _linearised, _moved
from fewstep.engine.tuning.trajectories import Model, Trajectories
from fewstep.models import GaussianMixture, wrap
from fewstep.models.wrapper import complete
from fewstep.schedules import EDM, Flow, VPLinear
from fewstep.schedules.grids.auto import UNKNOWN

F64 = torch.float64
PATHS = {"vp": VPLinear(), "edm": EDM(), "flow": Flow()}
KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}


def mixture(path="vp"):
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.3, 0.7], dtype=F64)
    return GaussianMixture(means, stds, weights, PATHS[path], prediction=KINDS[path])


def gaussian(std=0.7, path="vp"):
    one = torch.ones(1, dtype=F64)
    mean = torch.tensor([[0.4, -0.2, 1.0]], dtype=F64)
    return GaussianMixture(mean, std * one, one, PATHS[path], prediction=KINDS[path])


def given(den, n=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = den.schedule.prior_scale * torch.randn(n, *den.shape, generator=random, dtype=F64)
    return Trajectories(range(n), x, None, torch.zeros_like(x))


def exact_end(den, std, x):
    """The probability-flow end of one round Gaussian: ``x - alpha m`` shrinks in proportion."""
    node = den.schedule.node(den.schedule.t_max)
    mean = den.means
    return mean + (x - node.alpha * mean) * std / math.hypot(node.alpha * std, node.sigma)


def problem(den, std, nfe, n=32):
    sets = []
    for seed in (1, 2):
        made = given(den, n, seed)
        sets.append(Trajectories(made.seeds, made.x, None, exact_end(den, std, made.x)))
    return Problem(Model(den), UNKNOWN, nfe, *sets, fine_steps=64)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("ddim", {}),
        ("unipc", {"order": 3}),
        ("ipndm", {"order": 3}),
        ("ghvb", {"order": 2.5}),
        ("dpmpp_3m", {}),
        ("dpm_solver_3", {}),
        ("deis", {"order": 3}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_the_table_of_a_plan_runs_as_the_plan(sampler, options, path):
    den = mixture(path)
    plan = fewstep.plan(sampler, den, nfe=6, **options)
    made = table_of(plan, den.schedule)
    x = given(den).x
    again = made.plan()
    assert again.nfe == plan.nfe
    assert again.exactness == "exact"
    assert np.allclose(made.weights.sum(1), 1.0)
    assert torch.allclose(fewstep.run(again, den, x), fewstep.run(plan, den, x), atol=1e-6)
    assert again.with_parameters(again.parameters()) == again


def test_ddim_is_the_unit_matrix_and_two_steps_of_adams_a_band():
    ddim = table_of(fewstep.plan("ddim", VPLinear(), steps=4), VPLinear())
    assert np.allclose(ddim.weights, np.eye(4))
    band = table_of(fewstep.plan("dpmpp_2m", VPLinear(), steps=5, final="sigma_min"), VPLinear())
    assert np.abs(np.tril(band.weights, -2)).max() < 1e-12
    assert np.diag(band.weights, -1)[:3].max() < -0.01
    assert band.weights[4, 3] == 0.0  # the last step is of first order


@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde", "heun", "edict", "restart", "dpmpp_2m_cfg_pp"])
def test_other_plans_are_no_tables(sampler):
    assert table_of(fewstep.plan(sampler, VPLinear(), steps=4), VPLinear()) is None


@pytest.mark.parametrize("path", PATHS)
def test_derivatives_are_those_of_the_run(path):
    den = mixture(path)
    model, at = Model(den), given(den)
    start = table_of(fewstep.plan("unipc", den, nfe=5, order=3), den.schedule)
    free = free_numbers(5, ("weight", "node", "label"))
    assert len(free) == 10 + 4 + 4
    end, slopes = linearised(start, model, at, free)
    assert torch.allclose(end, fewstep.run(start.plan(), den, at.x), atol=1e-12)
    for i in range(len(free)):
        step = np.zeros(len(free))
        step[i] = 1e-4
        ends = [fewstep.run(moved(start, free, s * step).plan(), den, at.x) for s in (1, -1)]
        wanted = (ends[0] - ends[1]) / 2e-4
        assert torch.allclose(slopes[i], wanted, rtol=1e-3, atol=2e-4 * float(wanted.abs().max()))


def test_derivatives_by_the_times_of_a_sampler():
    den = mixture()
    plan = fewstep.plan("dpmpp_2m", den, nfe=4)
    made = problem(gaussian(), 0.7, 4)
    made.model = Model(den)
    made.train = given(den)
    _, slopes = _linearised(plan, made)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-3
        ends = [fewstep.run(_moved(plan, s * step, made), den, made.train.x) for s in (1, -1)]
        wanted = (ends[0] - ends[1]) / 2e-3
        assert torch.allclose(slopes[i], wanted, atol=1e-3 * float(wanted.abs().max()))


def test_nodes_stay_in_the_range_of_the_schedule_and_apart():
    start = table_of(fewstep.plan("ddim", VPLinear(), steps=4), VPLinear())
    free = free_numbers(4, ("node",))
    far = moved(start, free, np.array([0.0, 0.0, 1e3]))
    assert far.inner[-1] == float(VPLinear().lam(VPLinear().t_low)) or math.isfinite(far.inner[-1])
    assert moved(start, free, np.array([1e3, 0.0, 0.0])) is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("std", [0.3, 2.0])
def test_two_calls_reach_the_exact_map_of_a_gaussian(path, std):
    # the end of a table on one round Gaussian is linear in x with one factor, so one free weight
    # is enough; greedy and joint fits find the same
    den = gaussian(std, path)
    made = problem(den, std, 2)
    start = fewstep.plan("ddim", den, nfe=2)
    first = Candidate(start, made.held_score(start), "ddim")
    assert first.score > 1e-2
    for stage in (fit_greedily, fit_coefficients):
        best = stage(made, [first])[0]
        assert best.score < 1e-6 * first.score + 1e-8
        assert best.plan.nfe == 2


def test_greedy_keeps_a_plan_that_is_exact_already():
    den = gaussian()
    made = problem(den, 0.7, 2)
    best = fit_coefficients(made, [Candidate(fewstep.plan("ddim", den, nfe=2), 1.0, "")])[0]
    table = greedy(made, best.table)
    assert np.allclose(table.weights, best.table.weights, atol=1e-5)


def test_losses_in_closed_form():
    small, large = torch.full((3,), 1e-4, dtype=F64), torch.full((3,), 1e4, dtype=F64)
    assert pseudo_huber(small, 1.0) == pytest.approx(0.5e-8, rel=1e-6)
    assert pseudo_huber(large, 2.0) == pytest.approx(2.0 * 1e4, rel=1e-3)
    e = torch.tensor([0.5], dtype=F64, requires_grad=True)
    value = 4.0 * ((1 + (e / 2.0) ** 2).sqrt() - 1)
    (slope,) = torch.autograd.grad(value.sum(), e)
    assert float(huber_weights(e.detach(), 2.0) * 0.5) == pytest.approx(float(slope))
    assert score(torch.tensor([0.1, 10.0], dtype=F64)) == pytest.approx(1.0)
    assert score(torch.tensor([math.nan, 1.0])) == math.inf


class Same(torch.nn.Module):
    """A network that is the same at every time."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, t):
        return self.net(x)


@pytest.mark.parametrize(("dtype", "bound"), [(F64, 1e-5), (torch.float32, 0.002)])
def test_derivatives_of_a_network_are_those_of_autograd(dtype, bound):
    """The step of the differences suits the precision that the network computes in."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.SiLU(), torch.nn.Linear(16, 3))
    net = net.to(dtype)
    den = wrap(Same(net), VPLinear(), "x0", shape=(3,))
    model = Model(complete(den))
    x = torch.randn(5, 3, dtype=F64)
    slope = torch.randn(2, 5, 3, dtype=F64)
    node = VPLinear().node_at_lam(0.3)
    given = Trajectories(range(5), x, None, x)
    found = _of_prediction(model, given, x, node, model.x0(x, node, None), slope)
    for row, wanted in zip(slope, found, strict=True):
        _, exact = torch.func.jvp(net, (x.to(dtype),), (row.to(dtype),))
        assert (wanted - exact).norm() < bound * exact.norm()
