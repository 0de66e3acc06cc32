"""The test problems of ``grid_choice``: three exact mixtures of image-like scale, data in about
[-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.models import GaussianMixture
from fewstep.models.denoiser import Condition, Time
from fewstep.models.exact import Exact, blend, levels
from fewstep.schedules import Schedule


class Dots(Exact):
    """Equal round components of one width, as a ``GaussianMixture``, by matrix products."""

    def __init__(
        self, means: Tensor, std: float, schedule: Schedule, prediction: str = "x0"
    ) -> None:
        super().__init__(schedule, prediction, tuple(means.shape[1:]))
        self.means, self.variance = means, std * std

    def predict(self, kind: str, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """The exact value of ``kind`` (B, d)."""
        at = levels(self.schedule, t, x, kind == "velocity")
        a, s = at.alpha, at.sigma
        v = a * a * self.variance + s * s
        distance = a * a * self.means.square().sum(1) - 2.0 * a * (x @ self.means.T)
        nearest = torch.softmax(-0.5 * distance / v, 1) @ self.means
        return blend(
            kind, (s * s * nearest + a * self.variance * x) / v, s * (x - a * nearest) / v, at
        )


def source(seed: int) -> torch.Generator:
    """Return a random generator with this seed."""
    return torch.Generator().manual_seed(seed)


def blobs(schedule: Schedule) -> Exact:
    """12 round components in 48 dims, widths 0.05 .. 0.3."""
    means = 1.4 * torch.rand(12, 48, generator=source(1), dtype=torch.float64) - 0.7
    return GaussianMixture(
        means, torch.logspace(math.log10(0.05), math.log10(0.3), 12), torch.ones(12), schedule, "x0"
    )


def spectra(schedule: Schedule) -> Exact:
    """4 components in 64 dims whose widths fall as a power of the axis number, 0.5 to 0.02, as
    those of natural images do."""
    axes = torch.arange(1, 65, dtype=torch.float64)
    widths = (0.5 * axes ** (math.log(0.04) / math.log(64.0))).repeat(4, 1)
    means = widths * torch.randn(4, 64, generator=source(2), dtype=torch.float64)
    return GaussianMixture(means, widths, torch.ones(4), schedule, "x0")


def strokes(schedule: Schedule) -> Exact:
    """200 pictures of 8 x 8 of one pen stroke each (a quadratic Bezier curve), -1 to 1, with pixel
    noise 0.05."""
    corners = 7.0 * torch.rand(200, 3, 1, 2, generator=source(3), dtype=torch.float64)
    u = torch.linspace(0.0, 1.0, 24, dtype=torch.float64)[:, None]
    curve = (
        (1.0 - u) ** 2 * corners[:, 0] + 2.0 * u * (1.0 - u) * corners[:, 1] + u**2 * corners[:, 2]
    )
    pixels = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).double()
    ink = torch.exp(-(torch.cdist(pixels.expand(200, 64, 2), curve) ** 2)).amax(2)
    return Dots(2.0 * ink - 1.0, 0.05, schedule)


PROBLEMS: dict[str, Callable[[Schedule], Exact]] = {
    "blobs": blobs,
    "spectra": spectra,
    "strokes": strokes,
}
