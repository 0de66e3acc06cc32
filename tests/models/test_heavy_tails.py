"""The numbers behind heavy-tailed noise: one pair of levels for every sample and every draw, from a
stream of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

import fewstep
from fewstep.engine.heavy_tails import TAIL_STREAM, kernel_noise, path_noise
from fewstep.fused.noise.seeded import SeededNoise, normals
from fewstep.models import EmpiricalPFGMPP
from fewstep.schedules import EDM, PFGMPP

SEEDS = (3, 8, 2**33 + 1)
LIKE = torch.empty((3, 4), dtype=torch.float64)
DATA = torch.tensor([[1.0, -0.5, 0.3, 0.2], [-0.8, 0.6, 0.1, -0.7]], dtype=torch.float64)


def levels(draw: int) -> np.ndarray:
    return normals(SEEDS, (2,), stream=TAIL_STREAM, draw=draw, dtype=torch.float64).numpy()


@pytest.mark.parametrize("jump", ["exact", "authors"])
def test_every_draw_has_levels_of_its_own(jump: str) -> None:
    """Draw k is the plain normal times the jump's scale at the levels of draw k + 1; draw 0 is the
    start's."""
    path = PFGMPP(6.0, jump=jump)
    plan = fewstep.plan("pfgmpp", path, steps=5, s_churn=2.0, s_tmin=0.05)
    plain, heavy = SeededNoise(SEEDS), path_noise(path, plan, SeededNoise(SEEDS))
    assert len(plan.draws) == 5
    ratios = []
    for key, draw in enumerate(plan.draws):
        ratio = (heavy(key, LIKE) / plain(key, LIKE)).numpy()
        rising = draw.end.sigma > draw.start.sigma
        pair = levels(key + 1)
        want = (
            path.jump_scale(pair[:, 0], pair[:, 1], draw.start.sigma, draw.end.sigma)
            if rising
            else np.ones(3)
        )
        np.testing.assert_allclose(ratio, np.repeat(want[:, None], 4, axis=1), rtol=1e-12)
        ratios.append(ratio[:, 0])
    assert (
        len({tuple(r) for r in ratios if not np.allclose(r, 1.0)})
        == sum(d.end.sigma > d.start.sigma for d in plan.draws)
        >= 3
    )


def test_the_start_state_reads_draw_zero() -> None:
    path = PFGMPP(6.0)
    z = SeededNoise(SEEDS).start((4,), dtype=torch.float64)
    want = z * torch.from_numpy(path.kernel_scale(levels(0)[:, 0]))[:, None]
    torch.testing.assert_close(kernel_noise(path, SEEDS, z), want, rtol=1e-14, atol=0.0)
    assert kernel_noise(EDM(), SEEDS, z) is z
    seen = []
    fewstep.sample(
        EmpiricalPFGMPP(DATA, path),
        "pfgmpp",
        steps=1,
        seeds=SEEDS,
        dtype=torch.float64,
        callback=lambda s: seen.append(s.x),
    )
    torch.testing.assert_close(seen[0], 80.0 * want, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("D", [1.0, 8.0, 2048.0])
def test_the_kernel_scale_is_a_quantile(D: float) -> None:
    """``sqrt(D / chi2_D)`` at Phi(level): the median at 0, large scales at low levels of chi2."""
    level = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    want = np.sqrt(D / stats.chi2.ppf(special.ndtr(level), D))
    np.testing.assert_allclose(PFGMPP(D).kernel_scale(level), want, rtol=1e-9)


@pytest.mark.parametrize("D", [0.5, 1.0, 4.0, 64.0])
def test_the_authors_rule_written_out(D: float) -> None:
    """``m = -r_low c + sqrt(r_low^2 c^2 + r_high^2 - r_low^2)``, c^2 of Beta(1/2, (D - 1)/2) with
    the sign of the tilt."""
    low, high = 1.0, 1.7
    level, tilt = np.array([0.3, -1.0, 0.8, 0.0]), np.array([0.5, -0.2, -1.7, 2.2])
    c = np.sign(tilt) * (
        1.0
        if D <= 1.0
        else np.sqrt(stats.beta.ppf(2.0 * special.ndtr(np.abs(tilt)) - 1.0, 0.5, 0.5 * (D - 1.0)))
    )
    m = -low * c + np.sqrt(low**2 * c**2 + high**2 - low**2)
    want = m / math.sqrt(high**2 - low**2) * np.sqrt(D / stats.chi2.ppf(special.ndtr(level), D))
    np.testing.assert_allclose(
        PFGMPP(D, jump="authors").jump_scale(level, tilt, low, high), want, rtol=1e-8
    )


def test_the_exact_jump_is_the_passage_time_in_units_of_the_rise() -> None:
    from fewstep.schedules.passage import passage_time

    level = np.array([-1.0, 0.0, 1.3])
    want = np.sqrt(
        passage_time(8.0, math.sqrt(8.0) * 1.2, math.sqrt(8.0) * 2.0, level) / (2.0**2 - 1.2**2)
    )
    np.testing.assert_allclose(
        PFGMPP(8.0).jump_scale(level, 0.0 * level, 1.2, 2.0), want, rtol=1e-12
    )
