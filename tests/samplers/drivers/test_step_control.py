"""Step-size rules against their definitions, written out: what is remembered when a trial is
accepted, and what when it is not."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.models import GaussianMixture
from fewstep.samplers.drivers.step_control import PI, PID, Deadbeat, rms, scale
from fewstep.schedules import Grid, VPLinear

ERRORS = [0.3, 2.5, 1.7, 0.8, 0.4, 3.0, 0.9, 0.2, 0.05]


@pytest.mark.parametrize(("p", "i", "d"), [(0.0, 1.0, 0.0), (0.2, 0.7, 0.1), (-0.1, 0.5, 0.3)])
@pytest.mark.parametrize("safety", [0.81, 0.95])
@pytest.mark.parametrize("order", [2, 3])
def test_pid_moves_its_errors_up_only_where_a_trial_is_accepted(
    order: int, safety: float, p: float, i: float, d: float
) -> None:
    """``f = e_1^b1 e_2^b2 e_3^b3`` of inverse errors (k-diffusion); a rejected one is forgotten, an
    accepted one is e_2, then e_3."""
    rule = PID(order, p, i, d, safety)
    powers = ((p + i + d) / order, -(p + 2.0 * d) / order, d / order)
    second = third = None
    refused = 0
    for error in ERRORS:
        inverse = 1.0 / (error + 1e-8)
        second, third = (inverse, inverse) if second is None or third is None else (second, third)
        factor = 1.0 + math.atan(
            inverse ** powers[0] * second ** powers[1] * third ** powers[2] - 1.0
        )
        accepted = factor >= safety
        assert rule.next(error) == (accepted, pytest.approx(factor, rel=1e-12))
        refused += not accepted
        if accepted:
            second, third = inverse, second
    assert 0 < refused < len(ERRORS)


@pytest.mark.parametrize(
    ("power", "integral", "proportional", "high"), [(1.5, 0.4, 0.1, 5.0), (5.0, 0.7, 0.4, 10.0)]
)
def test_pi_remembers_the_last_accepted_error(
    power: float, integral: float, proportional: float, high: float
) -> None:
    """Hairer & Wanner II, IV.2: no growth right after a rejection, whose error is not remembered;
    at most ``high``, at least a fifth."""
    rule = PI(power, integral=integral, proportional=proportional, high=high)
    before, rejected = 1e-4, False
    for error in [*ERRORS, 1e-12, 40.0, 1e6, 1e-3, 1e-3, 1e-3]:
        found = rule.next(error)
        if error > 1.0:
            assert found == (
                False,
                pytest.approx(max(0.2, 0.9 * error ** (-1.0 / power)), rel=1e-12),
            )
            rejected = True
            continue
        e = max(error, 1e-10)
        factor = min(
            high, max(0.2, 0.9 * e ** (-integral / power) * before ** (proportional / power))
        )
        assert found == (True, pytest.approx(min(factor, 1.0) if rejected else factor, rel=1e-12))
        before, rejected = max(error, 1e-4), False


def test_the_edges_of_acceptance() -> None:
    assert PI(2.0).next(1.0)[0] and not PI(2.0).next(math.nextafter(1.0, 2.0))[0]
    assert Deadbeat(2).next(1.0)[0] and not Deadbeat(2).next(math.nextafter(1.0, 2.0))[0]
    for order, theta, error in ((2, 0.9, 0.25), (3, 0.7, 8.0), (2, 0.9, 1e-20)):
        assert Deadbeat(order, theta).next(error)[1] == pytest.approx(
            theta * max(error, 1e-12) ** (-1.0 / order), rel=1e-12
        )


def test_norms() -> None:
    x = torch.tensor([[3.0, -4.0], [1.0, 1.0]])
    assert rms(x).tolist() == pytest.approx([math.sqrt(12.5), 1.0])
    a, b = (
        torch.tensor([[1.0, -5.0]], dtype=torch.float64),
        torch.tensor([[-3.0, 2.0]], dtype=torch.float64),
    )
    assert scale(a, b, 0.01, 0.1).tolist() == [[pytest.approx(0.31), pytest.approx(0.51)]]
    assert (a.tolist(), b.tolist()) == ([[1.0, -5.0]], [[-3.0, 2.0]])


VP = VPLinear()
MODEL = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.05, 0.08], [0.6, 0.4], VP, "eps")


def adaptive_by_hand(
    x: torch.Tensor,
    start: float,
    end: float,
    order: int,
    rule: object,
    h: float,
    rtol: float,
    atol: float,
    mean: bool,
):
    """Adaptive DPM-Solver on eps, from the papers, one step after the other; the accepted levels
    and the number of trials."""

    def eps(y: torch.Tensor, lam: float) -> torch.Tensor:
        return MODEL(y, VP.node_at_lam(lam).t)

    lam, previous, levels, trials = start, x, [start], 0
    while lam < end - 1e-9:
        t = end if end - lam - h <= 1e-5 else lam + h
        step = t - lam
        s_node, t_node = VP.node_at_lam(lam), VP.node_at_lam(t)
        e0, stages = eps(x, lam), {}
        for r in [0.5] if order == 2 else [1 / 3, 2 / 3]:
            node = VP.node_at_lam(lam + r * step)
            y = node.alpha / s_node.alpha * x - node.sigma * math.expm1(r * step) * e0
            if r > 0.6:
                y = y - node.sigma / 0.5 * (math.expm1(r * step) / (r * step) - 1.0) * (
                    stages[1 / 3] - e0
                )
            stages[r] = eps(y, lam + r * step)
        first = t_node.alpha / s_node.alpha * x - t_node.sigma * math.expm1(step) * e0
        if order == 2:
            low, high = first, first - t_node.sigma * math.expm1(step) * (stages[0.5] - e0)
        else:
            low = first - t_node.sigma / (2 / 3) * math.expm1(step) * (stages[1 / 3] - e0)
            high = first - t_node.sigma / (2 / 3) * (math.expm1(step) / step - 1.0) * (
                stages[2 / 3] - e0
            )
        ratio = (high - low) / torch.maximum(
            torch.full_like(x, atol), rtol * torch.maximum(low.abs(), previous.abs())
        )
        error = (
            float(ratio.square().mean().sqrt())
            if mean
            else float(ratio.square().mean(1).sqrt().max())
        )
        fits, factor = rule.next(error)
        trials += 1
        left, h_used = end - lam, h
        if fits:
            x, previous, lam = high, low, t
            levels.append(t)
        h = factor * min(h_used, left)
    return x, levels, trials


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("control", ["dpm", "pid"])
def test_adaptive_dpm_solver_with_rejections(control: str, order: int) -> None:
    """States, accepted levels and rejections of a run that rejects, against the method written
    out."""
    pid = {"pcoeff": 0.1, "icoeff": 0.8, "dcoeff": 0.05, "accept_safety": 0.9}
    options = {
        "rtol": 0.02,
        "atol": 0.002,
        "h0": 1.5,
        "order": order,
        "control": control,
        "coupling": "mean" if control == "pid" else "max",
    }
    rule = Deadbeat(order) if control == "dpm" else PID(order, *pid.values())
    x = torch.tensor([[0.7, -1.2], [-0.4, 0.9], [1.9, 0.1]], dtype=torch.float64)
    grid = Grid.from_nodes([VP.node_at_lam(-2.5), VP.node_at_lam(2.5)], VP)
    wanted, levels, trials = adaptive_by_hand(
        x, -2.5, 2.5, order, rule, 1.5, 0.02, 0.002, control == "pid"
    )
    seen = []
    given = options | (pid if control == "pid" else {})
    out, info = fewstep.sample(
        MODEL,
        "dpm_adaptive",
        grid=grid,
        x=x,
        info=True,
        callback=lambda s: seen.append(s.next_node.lam),
        **given,
    )
    assert trials > len(levels) - 1, "nothing was rejected: the test says less than it means to"
    assert (info.accepted, info.rejected) == (len(levels) - 1, trials - len(levels) + 1)
    assert seen == pytest.approx(levels[1:], abs=1e-9)
    assert info.nfe == order * info.accepted + (order - 1) * info.rejected
    torch.testing.assert_close(out, wanted, rtol=0.0, atol=1e-9)
