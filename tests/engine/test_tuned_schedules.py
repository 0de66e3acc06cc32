"""Nodes that GITS, AYS and optimal steps place for a model: against all choices of nodes, and on a
Gaussian in closed form."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.tuning.align_steps import align_steps, aligned, bound_terms, descended, spreads
from fewstep.engine.tuning.candidate import Candidate
from fewstep.engine.tuning.gits import cheapest_path, deviation_costs
from fewstep.engine.tuning.optimal_steps import optimal_steps, sample_paths
from fewstep.engine.tuning.problem import Problem
from fewstep.engine.tuning.schedules import fit_schedules
from fewstep.engine.tuning.teacher import Teacher, teach
from fewstep.engine.tuning.trajectories import Model, Trajectories, trajectories
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear
from fewstep.schedules.grids.auto import UNKNOWN

F64 = torch.float64
PATHS = {"vp": VPLinear(), "edm": EDM(), "flow": Flow()}
KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}
STD = 0.6


def mixture(path="vp"):
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.2, 0.4], dtype=F64)
    return GaussianMixture(means, stds, weights, PATHS[path], prediction=KINDS[path])


def gaussian_teacher(path, steps=9, n=6):
    """The trajectories of one round Gaussian, in closed form: lines."""
    one = torch.ones(1, dtype=F64)
    mean = torch.tensor([[0.4, -0.2, 1.0]], dtype=F64)
    den = GaussianMixture(mean, STD * one, one, PATHS[path], prediction=KINDS[path])
    nodes = fewstep.grid("logistic", den.schedule, steps).nodes
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    width = [math.hypot(node.alpha * STD, node.sigma) for node in nodes]
    states = torch.stack([node.alpha * mean + w * z for node, w in zip(nodes, width, strict=True)])
    model = Model(den)
    data = [model.x0(x, node, None) for x, node in zip(states[:-1], nodes[:-1], strict=True)]
    return Teacher(model, nodes, states, torch.stack(data), None)


def problem(den, nfe, n=16):
    model = Model(den)
    first = den.schedule.node(den.schedule.t_max)
    sets = [trajectories(model, range(b, b + n), None, first, 64) for b in (0, 1000)]
    return Problem(model, UNKNOWN, nfe, *sets, fine_steps=64)


def all_paths(steps, last):
    return [(0, *inner, last) for inner in combinations(range(1, last), steps - 1)]


@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.3])
def test_the_cheapest_path_is_the_cheapest_of_all(gamma):
    costs = np.random.default_rng(0).normal(size=(9, 9))  # deviations may be negative
    for steps in range(1, 9):
        paths = all_paths(steps, 8)
        totals = [
            sum(gamma**k * costs[step] for k, step in enumerate(pairwise(path))) for path in paths
        ]
        assert tuple(cheapest_path(costs, steps, gamma)) == paths[int(np.argmin(totals))]
    for steps in (0, 9):
        with pytest.raises(ArgumentError, match=f"steps={steps}: must be 1 to 8"):
            cheapest_path(costs, steps, gamma)


@pytest.mark.parametrize("path", PATHS)
def test_lines_have_no_deviation_and_bent_trajectories_have_one(path):
    upper = np.triu_indices(10, 1)
    costs = deviation_costs(gaussian_teacher(path))
    assert np.abs(costs[upper]).max() < 1e-9
    assert np.isinf(costs[np.tril_indices(10)]).all()
    teacher = teach(problem(mixture(path), 4))
    costs = deviation_costs(teacher)
    assert costs[0, 30] > 1e-2
    assert np.abs(np.diagonal(costs, 1)).max() < np.abs(np.diagonal(costs, 20)).max()


def test_the_cost_of_a_step_written_out():
    teacher = teach(problem(mixture("edm"), 4)).part(slice(0, 1))
    y, slope = teacher.states[:, 0], (teacher.states[:-1] - teacher.data)[:, 0]
    rho = [node.rho for node in teacher.nodes]
    line = (y[0] - y[-1]) / (y[0] - y[-1]).norm()

    def off(point):
        away = point - y[-1]
        return float(abs(away[0] * line[1] - away[1] * line[0]))  # two dimensions

    costs = deviation_costs(teacher)
    for i, j in ((0, 5), (10, 30), (40, 60)):
        made = y[i] + (rho[j] - rho[i]) * slope[i] / rho[i]
        assert costs[i, j] == pytest.approx(off(made) - off(y[j]), abs=1e-9)


def factors(teacher):
    """The factor of ``y - mean`` in an Euler step of the Gaussian, and that of the true map from
    the first node."""
    rho = [node.rho for node in teacher.nodes]
    width = [math.hypot(STD, r) for r in rho]
    euler = [[1.0 + (b - a) * a / (STD**2 + a * a) for b in rho] for a in rho]
    return euler, [w / width[0] for w in width]


@pytest.mark.parametrize("path", ["vp", "edm"])
def test_optimal_steps_of_a_gaussian(path):
    teacher = gaussian_teacher(path)
    euler, true = factors(teacher)
    for steps in (1, 2):  # the programme is a search over all paths
        found = [
            abs(math.prod(euler[i][j] for i, j in pairwise(way)) - true[-1])
            for way in all_paths(steps, 9)
        ]
        best = all_paths(steps, 9)[int(np.argmin(found))]
        assert all(tuple(row.tolist()) == best for row in sample_paths(teacher, steps))
    # beyond, the best state of each node is kept
    kept = {0: (1.0, (0,))}
    for k in range(1, 5):
        ahead = range(k, 9) if k < 4 else (9,)
        kept = {
            j: min(
                ((f * euler[i][j], (*way, j)) for i, (f, way) in kept.items() if i < j),
                key=lambda found: abs(found[0] - true[j]),
            )
            for j in ahead
            if any(i < j for i in kept)
        }
    assert tuple(optimal_steps(teacher, 4)) == kept[9][1]


def test_optimal_steps_are_the_median_of_the_samples():
    teacher = teach(problem(mixture(), 4))
    paths = sample_paths(teacher, 4)
    assert paths.shape == (16, 5) and len(set(map(tuple, paths.tolist()))) > 1
    assert (paths.diff(dim=1) > 0).all()
    assert optimal_steps(teacher, 4) == [sorted(column)[7] for column in paths.T.tolist()]
    with pytest.raises(ArgumentError, match="steps=61: must be 1 to 60"):
        optimal_steps(teacher, 61)


def exact_spread(nodes):
    """``E |D_j - D_i|^2`` of a Gaussian in three dimensions: ``3 s^4 (1 / v_j - 1 / v_i)``."""
    precision = np.array([1.0 / (STD**2 + node.rho**2) for node in nodes])
    return 3.0 * STD**4 * np.abs(precision[:, None] - precision[None, :])


@pytest.mark.parametrize("path", PATHS)
def test_spreads_of_a_gaussian(path):
    teacher = gaussian_teacher(path, n=1500)
    wanted = exact_spread(teacher.nodes[:-1])
    found = spreads(teacher)
    assert np.allclose(found, found.T, atol=1e-12)
    assert np.allclose(found, wanted, rtol=0.1, atol=1e-3 * wanted.max())


def test_the_bound_falls_to_its_least():
    nodes = fewstep.grid("lam", EDM(0.05, 20.0), 40, final="sigma_min").nodes
    terms = bound_terms(exact_spread(nodes), nodes)

    # fine nodes: the integral of 3 s^4 (1 / v - 1 / v_i) / rho^3
    def exact(i, j):
        a, b, s = nodes[i].rho, nodes[j].rho, STD * STD
        whole = [0.5 * math.log1p(s / r**2) / s**2 - 0.5 / (s * r**2) for r in (a, b)]
        inner = -(whole[1] - whole[0])  # of 1 / (v rho^3)
        return 3.0 * s**2 * (inner - (0.5 / b**2 - 0.5 / a**2) / (s + a * a))

    assert terms[5, 15] == pytest.approx(exact(5, 15), rel=0.02)
    last = len(nodes) - 1
    before = math.inf
    for steps in range(1, 12):
        path, bounds = aligned(terms, steps)
        assert len(path) == steps + 1 and path[0] == 0 and path[-1] == last
        assert all(a < b for a, b in pairwise(path))
        assert all(a >= b for a, b in pairwise(bounds))
        least = sum(terms[step] for step in pairwise(cheapest_path(terms, steps)))
        assert least <= bounds[-1] * (1.0 + 1e-12) and bounds[-1] < 1.1 * least
        assert bounds[-1] < before
        before = bounds[-1]
    far = [0, 1, 2, 3, last]
    _, bounds = descended(terms, far)
    assert bounds[-1] < 0.5 * bounds[0] and all(a >= b for a, b in pairwise(bounds))


def test_aligned_steps_end_at_the_last_node():
    teacher = gaussian_teacher("flow", steps=12, n=64)
    for steps in (1, 2, 3, 7):
        path = align_steps(teacher, steps)
        assert len(path) == steps + 1 and path[-1] == 12 and sorted(set(path)) == path
    with pytest.raises(ArgumentError, match="steps=12"):
        align_steps(teacher, 12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("nfe", [1, 2, 3])
def test_the_stage_gives_falling_nodes(path, nfe):
    made = problem(mixture(path), nfe)
    start = fewstep.plan("ddim", made.model.denoiser, nfe=nfe, grid="uniform")
    found = fit_schedules(made, [Candidate(start, made.held_score(start), "ddim on uniform")])
    assert any(candidate.plan == start for candidate in found)
    assert [c.score for c in found] == sorted(c.score for c in found)
    assert (len(found) == 1) == (nfe == 1)  # one step has no inner node
    for candidate in found:
        assert candidate.plan.nfe == nfe
        assert all(s.rho > t.rho for s, t in pairwise(candidate.plan.nodes))
        assert candidate.name.startswith("ddim on ")


def test_the_nodes_are_better_than_those_of_a_named_grid():
    quick = {"trajectories": 32, "fine_steps": 64, "test": 128}
    found = fewstep.tune(mixture(), 5, what="schedules", sampler="ddim", grid="lam", **quick)
    test = found.report["test"]
    assert test["tuned"]["median"] < 0.5 * test["untuned"]["median"]
    assert found.report["kept"] == "tuned" and "ddim on " in found.report["from"]
    assert found.plan.exactness == "exact"


def test_a_network_that_rounds_times_gets_nodes_of_its_table():
    betas = np.linspace(1e-4, 0.02, 1000)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=F64))

        def forward(self, x, t):
            return self.scale * x / (1.0 + 0.001 * t.reshape(-1, 1))

    den = wrap(Network(), DiscreteVP.from_betas(betas), "eps", time="index", shape=(2,))
    given = Trajectories(range(2), torch.randn(2, 2, dtype=F64), None, torch.zeros(2, 2, dtype=F64))
    teacher = teach(Problem(Model(den), UNKNOWN, 3, given, given, 16))
    times = [node.t for node in teacher.nodes]
    assert all(t == round(t) for t in times) and times[-1] == -1.0 and times[0] == 999.0
