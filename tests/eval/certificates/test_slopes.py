"""Slopes on a log-log scale, and the exact states of the mixture that orders are measured on."""

from __future__ import annotations

import math

import pytest

from fewstep.eval.certificates.problem import MEANS, QUANTILES, STDS, WEIGHTS, exact_states
from fewstep.eval.certificates.slopes import slope
from fewstep.schedules import EDM, VE, Flow, VPLinear


@pytest.mark.parametrize("order", [0.5, 1.0, 3.0])
def test_the_slope_of_a_power_is_its_order(order):
    assert slope([(n, 0.7 * n**-order) for n in (40, 80, 160, 320)]) == pytest.approx(order)


def test_the_slope_is_the_least_squares_one():
    """Logarithms (0, 0), (1, 0), (2, -3): the slope is -3/2."""
    assert slope([(1.0, 1.0), (math.e, 1.0), (math.e**2, math.e**-3)]) == pytest.approx(1.5)


@pytest.mark.parametrize("pairs", [[], [(40, 0.1)]])
def test_fewer_than_two_pairs_have_no_slope(pairs):
    assert math.isnan(slope(pairs))


@pytest.mark.parametrize("schedule", [VPLinear(), Flow(), EDM(), VE()])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_exact_states_are_quantiles_to_rounding(schedule, share):
    """``F(x) = level``, with F from mpmath, to an error of x below 1e-14 of its scale."""
    mpmath = pytest.importorskip("mpmath")
    t_min = max(schedule.t_min, 1e-3)
    node = schedule.node(t_min + share * (schedule.t_max - t_min))
    widths = [math.hypot(node.alpha * s, node.sigma) for s in STDS]
    for level, x in zip(QUANTILES, exact_states(node).flatten().tolist(), strict=True):
        parts = [((x - node.alpha * m) / w, w) for m, w in zip(MEANS, widths, strict=True)]
        total = sum(p * mpmath.ncdf(z) for p, (z, _) in zip(WEIGHTS, parts, strict=True))
        density = sum(p * mpmath.npdf(z) / w for p, (z, w) in zip(WEIGHTS, parts, strict=True))
        assert abs(total - level) / density < 1e-14 * max(1.0, *widths)
