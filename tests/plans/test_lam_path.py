"""Brownian noise of spans that leave the path: units are those of the clipped span, so that a draw
stays a unit normal."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.engine.paths import LAM_LIMIT, LamPath, PlanPath, clipped, layers
from fewstep.plans.instructions import Draw
from fewstep.schedules import EDM, Flow, VPLinear

SEEDS = tuple(range(4))
LIKE = torch.empty((4, 4096), dtype=torch.float64)


def moment(z: torch.Tensor) -> float:
    return float(z.square().mean())


@pytest.mark.parametrize(
    ("s", "t"),
    [
        (-math.inf, -30.0),
        (-math.inf, 0.0),
        (-40.0, 2.0),
        (3.0, math.inf),
        (30.5, 50.0),
        (-math.inf, math.inf),
    ],
)
def test_a_clipped_span_is_a_unit_normal(s: float, t: float) -> None:
    path = LamPath(SEEDS)
    z = path.unit(s, t, LIKE)
    first, last = max(s, -LAM_LIMIT), min(t, LAM_LIMIT)
    assert moment(z) == pytest.approx(1.0, abs=5.0 * math.sqrt(2.0 / LIKE.numel()))
    torch.testing.assert_close(
        z, path.path.increment(first, last, LIKE) / math.sqrt(last - first), rtol=1e-12, atol=1e-14
    )
    w, area = path(s, t, LIKE)
    torch.testing.assert_close(w, z * math.sqrt(last - first), rtol=1e-12, atol=1e-13)
    assert moment(area) == pytest.approx(
        (last - first) / 12.0, rel=6.0 * math.sqrt(2.0 / LIKE.numel())
    )


def test_the_path_time_is_lam_within_its_limit() -> None:
    assert [clipped(v) for v in (-math.inf, -32.5, -32.0, 0.3, 31.9, 33.0, math.inf)] == [
        -32.0,
        -32.0,
        -32.0,
        0.3,
        31.9,
        32.0,
        32.0,
    ]
    with pytest.raises(ValueError, match="tol"):
        LamPath(SEEDS).unit(40.0, 50.0, LIKE)


@pytest.mark.parametrize("schedule", [Flow(), EDM(1e-16, 80.0)], ids=repr)
def test_draws_of_a_plan_from_its_very_ends(schedule: object) -> None:
    """From alpha = 0, or to levels below e^-32: every draw is a unit normal, and those of other
    spans are independent."""
    plan = fewstep.plan("ddim", schedule, steps=6, eta=1.0)
    assert plan.draws, "nothing is drawn"
    source = PlanPath(plan, SEEDS)
    drawn = [source(key, LIKE) for key in range(len(plan.draws))]
    for key, z in enumerate(drawn):
        assert moment(z) == pytest.approx(1.0, abs=5.0 * math.sqrt(2.0 / LIKE.numel())), key
        for other in drawn[:key]:
            assert abs(float((z * other).mean())) < 5.0 / math.sqrt(LIKE.numel())


def test_increments_of_a_split_span_add_up() -> None:
    path = LamPath(SEEDS)
    whole, left, right = (path(s, t, LIKE) for s, t in ((-2.0, 1.5), (-2.0, 0.25), (0.25, 1.5)))
    torch.testing.assert_close(whole[0], left[0] + right[0], rtol=1e-10, atol=1e-12)
    area = (2.25 * left[1] + 1.25 * right[1] + 0.5 * (1.25 * left[0] - 2.25 * right[0])) / 3.5
    torch.testing.assert_close(whole[1], area, rtol=1e-9, atol=1e-11)


def test_a_layer_begins_after_every_draw_that_goes_up() -> None:
    a, b, c = (VPLinear().node_at_lam(v) for v in (-1.0, 0.0, 1.0))
    assert layers([Draw(b, a), Draw(a, b), Draw(b, a), Draw(a, c), Draw(a, c)]) == (
        None,
        1,
        None,
        2,
        None,
    )
    one, two = (LamPath(SEEDS, layer=k).unit(-1.0, 0.0, LIKE) for k in (1, 2))
    assert abs(float((one * two).mean())) < 5.0 / math.sqrt(LIKE.numel())


def test_a_span_as_short_as_the_tolerance_is_allowed() -> None:
    path = LamPath(SEEDS, tol=2.0**-8)
    assert moment(path.unit(0.0, 2.0**-8, LIKE)) == pytest.approx(1.0, abs=0.06)
    with pytest.raises(ValueError, match="tol"):
        path.unit(0.0, 0.9 * 2.0**-8, LIKE)
