"""DPM-Solver-v3: closed forms, the published update written independently, numbers of the authors'
code, special cases, published settings and refusals."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine import Statistics
from fewstep.eval.certificates.problem import MEANS, STDS, WEIGHTS
from fewstep.models import GaussianMixture, wrap
from fewstep.plans import PlanError
from fewstep.samplers import SamplerError, build, get, make_options
from fewstep.samplers.multistep.dpm_solver_v3 import How
from fewstep.schedules import Flow, Grid, VPLinear

F64 = torch.float64
VP = VPLinear()
EACH = "dpm_solver_v3_elementwise"
#: Gaussian data with correlated coordinates
MEAN = np.array([0.8, -0.5, 0.3])
FACTOR = np.array([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.4, 0.7, 0.3]])
COV, EYE = 0.25 * FACTOR @ FACTOR.T, np.eye(3)
STATES = torch.tensor([[1.2, -0.4, 0.9], [-0.3, 1.5, -1.1]], dtype=F64)


def closed_form(lam):
    """l, s and b of the data above: with the matrix P of ``D = m + P (y - m)``, F of ``f = F (y -
    m) - l m`` and H of ``f' = H (y - m) - l' m``, s is ``diag(F C H^T) / diag(F C F^T)``, C the
    covariance of y."""
    rho2 = math.exp(-2.0 * lam)
    spread = COV + rho2 * EYE
    inverse = np.linalg.inv(spread)
    p, slope = COV @ inverse, 2.0 * rho2 * COV @ inverse @ inverse
    l = 1.0 - np.diag(p)  # noqa: E741
    f = np.diag(np.diag(p)) - p
    h = np.diag(np.diag(slope)) - slope - f @ (EYE - p)
    s = np.diag(f @ spread @ h.T) / np.diag(f @ spread @ f.T)
    return l, s, np.diag(slope) * MEAN + s * l * MEAN


def gaussian():
    def network(x, t):
        node = VP.node(float(t.reshape(-1)[0]))
        p = torch.tensor(COV @ np.linalg.inv(COV + node.rho**2 * EYE))
        m = torch.tensor(MEAN)
        return m + (x / node.alpha - m) @ p.T

    return wrap(network, VP, "x0", shape=(3,))


@cache
def table(nodes=1200):
    lams = np.linspace(float(VP.lam(1.0)), float(VP.lam(1e-3)), nodes + 1)
    return Statistics(lams, *(np.array(v) for v in zip(*map(closed_form, lams), strict=True)))


@cache
def six_steps():
    lams = np.linspace(float(VP.lam(1.0)), float(VP.lam(1e-3)), 7)
    return Grid.from_nodes([VP.node_at_lam(float(lam)) for lam in lams], VP)


# -- the published update, written out


@cache
def tables(start, ends):
    """L, S, B, I, C at the nodes, by a solver of their equations from ``start``."""

    def slopes(lam, y):
        l, s, b = closed_form(lam)  # noqa: E741
        big_l, big_s, big_b = y[:3], y[3:6], y[6:9]
        growth = np.exp(big_l + big_s)
        return np.concatenate((l, s, np.exp(-big_s) * b, growth, growth * big_b))

    solved = solve_ivp(
        slopes, (start, ends[-1]), np.zeros(15), "DOP853", dense_output=True, rtol=1e-12, atol=1e-14
    )
    return solved.sol


def published(nodes, x, order, p_pseudo, corrector, c_pseudo, lower_order_final):
    """Algorithm 1 of the paper for each coordinate, its integrals to rounding."""
    lams = tuple(node.lam for node in nodes)
    sol = tables(lams[0], lams)
    model = gaussian()
    names = ("L", "S", "B", "I", "C")
    at = [dict(zip(names, sol(lam).reshape(5, 3), strict=True)) for lam in lams]

    def update(base, end, places, values, x_base, pseudo):
        a, e = at[base], at[end]
        g = []
        for j, (state, eps) in zip(places, values, strict=True):
            node, own = nodes[j], at[j]
            f = (node.sigma * eps - closed_form(lams[j])[0] * state) / node.alpha
            g.append(np.exp(a["S"] - own["S"]) * f - np.exp(a["S"]) * (own["B"] - a["B"]))
        alpha = nodes[end].alpha
        free = e["C"] - a["C"] - a["B"] * (e["I"] - a["I"])
        y = alpha / nodes[base].alpha * np.exp(a["L"] - e["L"]) * x_base
        y = y - alpha * np.exp(-e["L"] - a["S"]) * (e["I"] - a["I"]) * g[0]
        y = y - alpha * np.exp(-e["L"]) * free
        gaps = np.array([lams[j] - lams[base] for j in places])
        for k, value in enumerate(derivatives(gaps, g, pseudo), 1):
            y = y - alpha * np.exp(a["L"] - e["L"]) * moment(sol, lams[base], lams[end], k) * value
        return y

    past = []
    used = 0
    for i in range(len(nodes) - 1):
        node = nodes[i]
        eps = (x - node.alpha * model(torch.tensor(x), node.t).numpy()) / node.sigma
        past.append((x, eps))
        c = used + c_pseudo
        if corrector and c > 1:
            places = [i - 1, i, *range(i - 2, i - c, -1)]
            made = update(i - 1, i, places, [past[j] for j in places], past[i - 1][0], c_pseudo)
            l = closed_form(lams[i])[0]  # noqa: E741
            kept = node.sigma * eps - l * x
            past[-1] = (made, (kept + l * made) / node.sigma)
        used = min(order, i + 1, len(nodes) - 1 - i if lower_order_final else order)
        places = list(range(i, i - used, -1))
        x = update(i, i + 1, places, [past[j] for j in places], past[i][0], p_pseudo)
    return x


def derivatives(gaps, g, pseudo):
    """g', g'', ... at the first node: of the polynomial through all, or divided differences of the
    first two, the first three, ..."""
    if len(g) == 1:
        return []
    if not pseudo:
        powers = np.stack([gaps[1:] ** k for k in range(1, len(g))], axis=1)
        right = np.stack([v - g[0] for v in g[1:]]).reshape(len(g) - 1, -1)
        solved = np.linalg.solve(powers, right)
        return [math.factorial(k) * v.reshape(g[0].shape) for k, v in enumerate(solved, 1)]
    rows, found = list(g), []
    for k in range(1, len(g)):
        rows = [(rows[j + 1] - rows[j]) / (gaps[j + k] - gaps[j]) for j in range(len(rows) - 1)]
        found.append(math.factorial(k) * rows[0])
    return found


@cache
def moment(sol, start, end, k):
    """``int e^{(L + S)(lam) - (L + S)(start)} (lam - start)^k / k! dlam`` of each coordinate."""
    first = sol(start)

    def value(lam, d):
        now = sol(lam)
        growth = now[d] + now[3 + d] - first[d] - first[3 + d]
        return math.exp(growth) * (lam - start) ** k / math.factorial(k)

    return np.array([quad(value, start, end, (d,), epsabs=0.0, epsrel=1e-11)[0] for d in range(3)])


#: (options here, options of the published algorithm, result of the authors' code)
CASES = [
    (
        {},
        {},
        [1.075085544427, -0.288757252256, 0.43957179224],
        [1.173067341624, -0.201706069454, 0.042750384944],
    ),
    (
        {"p_pseudo": True, "corrector": "equal"},
        {"p_pseudo": True, "corrector": True},
        [1.085318882613, -0.291847353519, 0.453786067534],
        [1.156463404503, -0.190270575513, 0.024623075229],
    ),
    (
        {"corrector": "equal", "lower_order_final": False},
        {"corrector": True, "lower_order_final": False},
        [1.085485615246, -0.283425769739, 0.448205413597],
        [1.159189327065, -0.191450279564, 0.031077774411],
    ),
    (
        {"order": 2, "corrector": "pseudo"},
        {"order": 2, "corrector": True, "c_pseudo": True},
        [1.093469151206, -0.289338658586, 0.458571619324],
        [1.149528431642, -0.185568827258, 0.021366171817],
    ),
]
USUAL = {"order": 3, "p_pseudo": False, "corrector": False, "c_pseudo": False}


@pytest.mark.parametrize("case", CASES, ids=["3", "edm", "score_sde", "guided"])
def test_the_published_update_where_the_statistics_are_closed_form(case):
    """Within 1e-8 of the update written out above, from a table of 1200 intervals as published."""
    options, theirs, *_ = case
    given = {**USUAL, "lower_order_final": True, **theirs}
    wanted = published(six_steps().nodes, STATES.numpy(), **given)
    found = fewstep.sample(
        gaussian(), EACH, grid=six_steps(), x=STATES, statistics=table(), **options
    )
    assert float((found - torch.tensor(wanted)).abs().max()) < 1e-8


@pytest.mark.parametrize("case", CASES, ids=["3", "edm", "score_sde", "guided"])
def test_dpm_solver_v3_official(case):
    """The end of the authors' code on the same tables (commit ba16871, run in float64): its
    trapezoid sums on 1200 to 9600 intervals, extrapolated to none, agree with 1e-11."""
    options, _, *wanted = case
    found = fewstep.sample(
        gaussian(), EACH, grid=six_steps(), x=STATES, statistics=table(), **options
    )
    assert float((found - torch.tensor(wanted, dtype=F64)).abs().max()) < 1e-9


# -- constants: numbers of the specification, and special cases


@cache
def golden_problem():
    means = torch.tensor(MEANS, dtype=F64)[:, None]
    stds, weights = (torch.tensor(v, dtype=F64) for v in (STDS, WEIGHTS))
    grid = Grid.from_nodes([VP.node_at_lam(lam) for lam in (-2.0, -1.3, -0.6, 0.1, 0.8, 1.6)], VP)
    x = grid[0].alpha * math.exp(2.0) * torch.tensor([[-2.0], [0.3], [2.3]], dtype=F64)
    return GaussianMixture(means, stds, weights, VP, "eps"), grid, x


#: end states at lam = 1.6, from an implementation that shares no code with this one
GOLDEN = {
    (1, "none"): (-1.329954892618, 0.336427022654, 1.513279481272),
    (2, "none"): (-1.823895652083, 0.468583443812, 2.382689861747),
    (3, "none"): (-1.610813710836, 0.427547801383, 2.165034092287),
    (2, "equal"): (-1.639917067567, 0.436628104519, 2.185798536041),
    (3, "equal"): (-1.491285407294, 0.402022668035, 2.094168623091),
}


@pytest.mark.parametrize(("order", "corrector"), GOLDEN)
def test_golden_values(order, corrector):
    model, grid, x = golden_problem()
    given = {"order": order, "corrector": corrector, "lower_order_final": False}
    out = fewstep.sample(model, EACH, grid=grid, x=x, l=0.5, s=-0.3, b=0.1, **given).flatten()
    wanted = torch.tensor(GOLDEN[order, corrector], dtype=F64)
    torch.testing.assert_close(out, wanted, rtol=0.0, atol=2e-12)


def planned(name, grid, **options):
    return build(name, grid, make_options(get(name), options))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("l", "s", "kind"), [(1.0, 0.0, "x0"), (0.0, -1.0, "eps")])
@pytest.mark.parametrize(("corrector", "other"), [("none", "none"), ("full", "pseudo")])
def test_dpm_solver_and_dpm_solver_plus_plus_are_special_cases(order, l, s, kind, corrector, other):  # noqa: E741
    """The same states to 1e-12, with the same start-up orders and the same last orders."""
    model, grid, x = golden_problem()
    ours = planned("dpm_solver_v3", grid, order=order, l=l, s=s, corrector=corrector)
    theirs = planned("exponential_adams", grid, order=order, kind=kind, corrector=other)
    assert ours.exactness == "exact"
    apart = fewstep.run(ours, model, x) - fewstep.run(theirs, model, x)
    assert float(apart.abs().max()) < 1e-12


@pytest.mark.parametrize("corrector", ["none", "equal", "pseudo", "full"])
@pytest.mark.parametrize("schedule", [VP, Flow()])
def test_one_number_for_each_coordinate_is_the_plan(corrector, schedule):
    """From both starts (alpha = 0 on the flow), to sigma = 0."""
    model = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], schedule, "v")
    ones = np.ones((2, 2))
    for steps in (1, 2, 3, 6):
        given = {"steps": steps, "n": 3, "dtype": F64, "corrector": corrector}
        made = Statistics(np.array([-1.0, 1.0]), 0.6 * ones, -0.4 * ones, 0.0 * ones)
        one, info = fewstep.sample(model, EACH, statistics=made, info=True, **given)
        plan = fewstep.plan("dpm_solver_v3", schedule, steps=steps, l=0.6, s=-0.4)
        two = fewstep.sample(model, "dpm_solver_v3", l=0.6, s=-0.4, **given)
        assert info.nfe == plan.nfe == steps
        assert float((one - two).abs().max()) < 1e-12


def test_an_edit_stays_where_the_state_is_corrected():
    """The plan adds the difference of an edit to the corrected state; so does the driver."""
    model, grid, x = golden_problem()

    def edit(step):
        return step.x_next + 0.3 if step.index == 1 else None

    given = {"grid": grid, "x": x, "l": 0.5, "s": -0.3, "corrector": "equal", "callback": edit}
    one, two = (fewstep.sample(model, name, **given) for name in (EACH, "dpm_solver_v3"))
    free = fewstep.sample(model, EACH, **{**given, "callback": None})
    assert float((one - two).abs().max()) < 1e-12
    assert float((one - free).abs().max()) > 1e-2


def test_beyond_the_table_the_statistics_are_constant():
    model, grid, x = golden_problem()
    flat = Statistics(np.array([-0.5, 0.0, 0.5]), *(np.full(3, v) for v in (0.5, -0.3, 0.1)))
    one = fewstep.sample(model, EACH, grid=grid, x=x, statistics=flat)
    two = fewstep.sample(model, EACH, grid=grid, x=x, l=0.5, s=-0.3, b=0.1)
    assert float((one - two).abs().max()) < 1e-12


# -- settings and refusals


@pytest.mark.parametrize(
    ("settings", "steps", "wanted"),
    [
        ("edm", 5, How(3, True, "equal", True)),
        ("edm", 6, How(3, False, "equal", True)),
        ("edm", 7, How(3, False, "none", True)),
        ("score_sde", 5, How(3, True, "equal", False)),
        ("score_sde", 8, How(3, False, "equal", True)),
        ("score_sde", 10, How(3, False, "none", True)),
        ("score_sde", 11, How(3, False, "equal", True)),
        ("guided", 5, How(3, False, "pseudo", True)),
    ],
)
def test_published_settings(settings, steps, wanted):
    assert make_options(get("dpm_solver_v3"), {"settings": settings}).how(steps) == wanted
    own = wanted._asdict()
    assert fewstep.plan("dpm_solver_v3", VP, steps=steps, settings=settings) == fewstep.plan(
        "dpm_solver_v3", VP, steps=steps, **own
    )


def test_numbers_of_values():
    """Predictor and corrector of five steps: the corrector of a step uses as many values as its
    predictor did, or one more."""
    assert How(3, False, "equal", True).counts(5) == [(1, 0), (2, 2), (3, 3), (2, 2), (1, 0)]
    assert How(3, False, "full", False).counts(4) == [(1, 2), (2, 3), (3, 4), (3, 4)]
    assert How(1, False, "equal", True).counts(2) == [(1, 0), (1, 0)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corrector": "ful"}, "did you mean 'full'"),
        ({"settings": "emd"}, "did you mean 'edm'"),
        ({"settings": "edm", "corrector": "full"}, "chooses corrector and p_pseudo"),
        ({"force": True}, "no statistics to force"),
        ({"statistics": 3.0}, "statistics=3.0"),
        ({"statistics": "/no/such/file"}, "/no/such/file"),
        ({"l": 30.0}, "l=30.0"),
    ],
)
def test_refusals(options, words):
    for name in ("dpm_solver_v3", EACH):
        with pytest.raises(SamplerError, match=words):
            make_options(get(name), options)


def test_statistics_and_constants_exclude_each_other():
    with pytest.raises(SamplerError, match="give only one of the two"):
        make_options(get("dpm_solver_v3"), {"statistics": table(), "l": 0.5})
    with pytest.raises(SamplerError, match="give only one of the two"):
        make_options(get(EACH), {"statistics": table(), "b": 0.5})


def test_statistics_of_another_shape_are_refused():
    model = GaussianMixture([[1.0, -0.5]], 0.3, [1.0], VP)
    with pytest.raises(ArgumentError, match=r"shape \(3,\), and the state has \(2,\)"):
        fewstep.sample(model, EACH, steps=3, statistics=table())
    # a plan uses one number for all coordinates
    assert fewstep.sample(model, "dpm_solver_v3", steps=3, statistics=table()).isfinite().all()


def test_a_step_from_no_noise_is_refused():
    start, end = VP.node(0.0), VP.node(0.5)
    with pytest.raises(ArgumentError, match=r"cannot start at alpha=1.0, sigma=0.0"):
        planned("dpm_solver_v3", Grid.from_nodes([start, end], VP))


def test_a_file_that_holds_no_statistics(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(PlanError, match="other.safetensors"):
        Statistics.load(path)
