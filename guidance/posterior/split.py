"""Methods whose steps take the data from the posterior's prediction, and the noise from the
model's."""

from __future__ import annotations

import math

from torch import Tensor
from typing_extensions import override

from ...checks import UnknownName, unknown
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...samplers.singlestep.ancestral import noise_share
from ...schedules.grids.construction import Grid
from .posterior import Posterior
from .travel import travel

#: how much noise of a step is fresh: c = eta sigma_t, or the share of the DDPM posterior
NOISES = ("full", "posterior")


class Split(Posterior):
    """A denoiser with two channels: ``main``, the prediction D' of the posterior, and ``uncond``,
    that of the model, D; samplers that read the main one take the noise from D' too."""

    channels = ("main", "uncond")
    differentiates = False

    @override
    def readings(self, x0: Tensor, corrected: Tensor) -> tuple[Tensor, ...]:
        return corrected, x0

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        if channel not in self.channels:
            raise UnknownName(unknown("channel", channel, self.channels))
        super().coefficients(t)
        return 0.0, (1.0, 0.0) if channel == "main" else (0.0, 1.0)


def split_plan(
    grid: Grid,
    name: str,
    eta: float,
    noise: str,
    length: int = 1,
    repeats: int = 1,
    own: str = "uncond",
) -> Plan:
    """Steps ``x_t = alpha_t D' + sqrt(sigma_t^2 - c^2) (x_s - alpha_s D) / sigma_s + c z`` along
    the walk ``travel``; up from the last prediction, ``x_s = alpha_s D' + sigma_s z``. D is the
    channel ``own``."""
    b = PlanBuilder(grid.nodes, name=name)
    x = data = b.start(grid[0])
    for i, j in travel(grid.steps, length, repeats):
        s, t = grid[i], grid[j]
        if j < i:
            x = b.at(t, t.alpha * data + t.sigma * b.noise(s, t))
            continue
        reads = b.evaluate_kinds(
            x, s, [("x0", channel) for channel in dict.fromkeys(("main", own))]
        )
        data, model = reads[0], reads[-1]
        c = eta * t.sigma if noise == "full" else noise_share(s, t, eta)
        e = math.sqrt(max((t.sigma - c) * (t.sigma + c), 0.0)) / s.sigma
        y = t.alpha * data + e * (x - s.alpha * model)
        x = b.at(t, y + c * b.noise(s, t) if c else y)
    return b.finish(x)
