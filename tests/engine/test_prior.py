"""The default prior of ``log_prob``: N(0, prior_scale^2) at t_max, on paths whose last level is not
1, in closed form."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.engine.start_states import prior_scale
from fewstep.models import GaussianMixture
from fewstep.schedules import EDM, VE, Flow, Schedule, VPLinear

PATHS = [EDM(0.01, 4.0), EDM(0.002, 80.0), VE(0.02, 3.0), VPLinear(), Flow()]


@pytest.mark.parametrize("schedule", PATHS, ids=repr)
def test_a_gaussian_under_the_default_prior(schedule: Schedule) -> None:
    """Data N(0, s^2): the flow is a dilation by ``sqrt(V_T / V_t)``, ``V = alpha^2 s^2 + sigma^2``,
    and the prior is normal of the schedule's own scale: sigma_max for EDM and VE, 1 elsewhere."""
    s, t, dims = 0.7, schedule.t_min, 2
    model = GaussianMixture(
        torch.zeros(1, dims), torch.tensor([s]), torch.tensor([1.0]), schedule, "v"
    )
    x0 = 0.9 * torch.randn(3, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = fewstep.log_prob(model, x0, info=True, steps=40)
    spread = [
        math.sqrt((float(schedule.alpha(v)) * s) ** 2 + float(schedule.sigma(v)) ** 2)
        for v in (t, schedule.t_max)
    ]
    scale = float(schedule.sigma(schedule.t_max)) if isinstance(schedule, EDM | VE) else 1.0
    latent = x0 * (spread[1] / spread[0])
    prior = torch.distributions.Normal(0.0, scale).log_prob(latent).sum(1)
    torch.testing.assert_close(found.latent, latent, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.prior, prior, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        found.nats, prior + dims * math.log(spread[1] / spread[0]), rtol=1e-5, atol=2e-5
    )
    assert found.dims == dims


@pytest.mark.parametrize("schedule", [EDM(0.01, 4.0), VE(0.02, 3.0)], ids=repr)
def test_the_start_state_is_of_the_same_scale(schedule: Schedule) -> None:
    """What is sampled from is what ``log_prob`` assumes; a grid that begins later starts in
    proportion to sigma."""
    model = GaussianMixture(
        torch.zeros(1, 2), torch.tensor([0.7]), torch.tensor([1.0]), schedule, "eps"
    )
    top = float(schedule.sigma(schedule.t_max))
    starts = []
    for levels in ([top, 0.1, 0.05], [0.5 * top, 0.1, 0.05]):
        seen = []
        fewstep.sample(
            model,
            "euler",
            sigmas=levels,
            n=4,
            seed=3,
            callback=lambda s, seen=seen: seen.append(s.x),
        )
        starts.append(seen[0])
    z = fewstep.fused.noise.seeded.SeededNoise(tuple(range(3, 7))).start((2,))
    torch.testing.assert_close(starts[0], top * z)
    torch.testing.assert_close(starts[1], 0.5 * top * z)


def test_bits_a_dimension() -> None:
    """``-nats / (d log 2) + log2(levels / (high - low))``: 7 bits more for 256 levels on [-1,
    1)."""
    from fewstep.engine.likelihood import bits_per_dim

    nats = torch.tensor([-30.0, 4.0], dtype=torch.float64)
    assert bits_per_dim(nats, 6).tolist() == pytest.approx(
        [30.0 / (6 * math.log(2)) + 7.0, -4.0 / (6 * math.log(2)) + 7.0]
    )
    assert bits_per_dim(nats, 6, 16, 0.0, 1.0)[0].item() == pytest.approx(
        30.0 / (6 * math.log(2)) + 4.0
    )


def test_the_spread_of_a_start_that_is_not_the_first() -> None:
    """1 on paths whose states have unit variance; elsewhere in proportion to sigma, sigma_max at
    the very start."""

    def first(schedule: Schedule, start: float | None) -> float:
        model = GaussianMixture([[0.0]], [1.0], [1.0], schedule, "x0")
        asked = fewstep.plan("ddim", schedule, steps=2, start=start)
        return prior_scale(model, asked.start)

    for schedule in (VPLinear(), Flow()):
        assert first(schedule, None) == first(schedule, 0.4) == 1.0
    for path, start in ((EDM(0.002, 80.0), 5.0), (VE(0.01, 50.0), 0.6)):
        whole, top = path.prior_scale, float(path.sigma(path.t_max))
        assert first(path, None) == whole and first(path, start) == pytest.approx(
            whole * float(path.sigma(start)) / top, rel=1e-12
        )
