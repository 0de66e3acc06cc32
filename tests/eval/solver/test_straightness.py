"""Straightness of trajectories that do not run from pure noise to data: the span of the straight
path's time is not 1."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.eval import ScoreError, straightness
from fewstep.schedules import EDM, Flow, Schedule, VPLinear

F64 = torch.float64
STEPS = 400


def states(schedule: Schedule, first: float, last: float, curve, steps: int = STEPS):
    """Nodes at even r = alpha / (alpha + sigma) between two values, and the states whose
    straight-path coordinates are ``curve(r)``."""
    rs = [first + (last - first) * k / steps for k in range(steps + 1)]
    nodes = [schedule.node_at_rho((1.0 - r) / r) for r in rs]
    return nodes, [
        torch.tensor([curve(r)], dtype=F64) * (node.alpha + node.sigma)
        for r, node in zip(rs, nodes, strict=True)
    ]


SPANS = [(0.1, 0.9), (0.02, 0.5), (0.3, 0.8)]
PATHS = [Flow(), VPLinear(), EDM(1e-3, 100.0)]
every = pytest.mark.parametrize(
    ("schedule", "ends"), [(path, ends) for path in PATHS for ends in SPANS]
)


@every
def test_a_parabola(schedule: Schedule, ends: tuple[float, float]) -> None:
    """``y = (r, b r^2)``: over a span S the speed leaves the chord's by ``2 b (r - middle)``, so
    the mean over S^2 (time in units of the span) of the square is ``b^2 S^4 / 3``, over d = 2
    dimensions summed."""
    b, (first, last) = 3.0, ends
    span = last - first
    found = straightness(*states(schedule, first, last, lambda r: (r, b * r * r)))
    assert found.deviation == pytest.approx(b * b * span**4 / 3.0 / 2.0, rel=1e-4)

    def length(r: float) -> float:
        u = 2.0 * b * r
        return (u * math.sqrt(1.0 + u * u) + math.asinh(u)) / (4.0 * b)

    chord = math.hypot(span, b * (last**2 - first**2))
    assert found.length == pytest.approx((length(last) - length(first)) / chord, rel=1e-4)
    inner = [first + span * k / STEPS for k in range(1, STEPS)]
    bend = sum(2.0 * b / (1.0 + (2.0 * b * r) ** 2) ** 1.5 for r in inner) / len(inner)
    assert found.curvature == pytest.approx(bend * chord, rel=1e-4)
    assert found.planarity == pytest.approx((1.0, 1.0, 1.0), abs=1e-9), (
        "it leaves the chord along one direction"
    )


@every
def test_a_straight_line_at_constant_speed(schedule: Schedule, ends: tuple[float, float]) -> None:
    found = straightness(*states(schedule, *ends, lambda r: (0.3 + 2.0 * r, -1.0 * r)))
    assert found.deviation < 1e-18 and found.curvature < 1e-7
    assert found.length == pytest.approx(1.0, rel=1e-12)


def test_a_straight_line_at_another_speed_is_straight_but_deviates() -> None:
    """``y = r^2`` on a line: no curvature, length 1, deviation ``b^2 S^4 / 3``."""
    found = straightness(*states(Flow(), 0.2, 0.7, lambda r: (r * r, 2.0 * r * r)))
    assert found.length == pytest.approx(1.0, rel=1e-12) and found.curvature < 1e-6
    assert found.deviation == pytest.approx((1.0 + 4.0) * 0.5**4 / 3.0 / 2.0, rel=1e-4)


def test_directions_off_the_chord() -> None:
    """A helix leaves the chord in two directions: sine and cosine share what is off the line, and
    no third is left."""
    turn = 2.0 * math.pi
    found = straightness(
        *states(
            Flow(),
            0.2,
            0.8,
            lambda r: (math.cos(turn * (r - 0.2) / 0.6), 0.5 * math.sin(turn * (r - 0.2) / 0.6), r),
        )
    )
    # off the chord: cos - 1 (mean square 3/2) and sin / 2 (1/8)
    assert found.planarity[0] == pytest.approx(1.5 / 1.625, abs=5e-3)
    assert found.planarity[1:] == pytest.approx((1.0, 1.0), abs=1e-9)


def test_the_mean_is_over_samples_and_dimensions() -> None:
    nodes, one = states(Flow(), 0.2, 0.7, lambda r: (r, 3.0 * r * r))
    _, other = states(Flow(), 0.2, 0.7, lambda r: (r, 1.0 * r * r))
    both = straightness(nodes, [torch.cat([a, b]) for a, b in zip(one, other, strict=True)])
    assert both.deviation == pytest.approx((9.0 + 1.0) / 2.0 * 0.5**4 / 3.0 / 2.0, rel=1e-4)
    assert both.length == pytest.approx(
        0.5 * (straightness(nodes, one).length + straightness(nodes, other).length), rel=1e-12
    )


def test_three_nodes_are_the_least() -> None:
    nodes, points = states(Flow(), 0.2, 0.7, lambda r: (r, r * r), steps=2)
    assert straightness(nodes, points).length > 1.0
    with pytest.raises(ScoreError):
        straightness(nodes[:2], points[:2])


def test_the_former_name_of_a_trajectory_warns():
    import fewstep.eval

    with pytest.warns(DeprecationWarning, match="eval.TrajectoryReference"):
        former = fewstep.eval.Reference
    assert former is fewstep.eval.TrajectoryReference
