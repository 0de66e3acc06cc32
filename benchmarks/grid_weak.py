"""The exact weak error of stochastic samplers, for ``grid_choice`` and ``default_call``.

For data of one Gaussian the prediction is linear in the state, and so is the end of a plan in the
start noise and in the noise of every draw. One run whose rows are these noises, one at a time, has
as its squares the variance of every element of the end, without sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from grid_problems import F64, PATHS, Mix, square, unit
from torch import Tensor

import fewstep
from fewstep.plans.plan import Plan
from fewstep.schedules import Schedule
from fewstep.schedules.grids.auto import DataFacts


def centered(widths: Tensor, shape: tuple[int, ...] | None = None) -> Mix:
    """One Gaussian of mean 0 with the standard deviations ``widths`` (d,), at ``sigma_data`` = 1.
    ``shape`` of one sample, (d,) by default."""
    mean, weight = torch.zeros(1, len(widths), dtype=F64), torch.ones(1, dtype=F64)
    return unit(Mix(mean, widths.square()[None], weight, shape))


def decades(d: int, count: float) -> Mix:
    """Widths spaced evenly in the logarithm over ``count`` decades."""
    return centered(torch.logspace(-count, 0.0, d, dtype=F64))


def few_widths(*widths: float, repeated: int = 16) -> Mix:
    """Each of ``widths`` on as many axes."""
    return centered(torch.tensor(widths, dtype=F64).repeat_interleave(repeated))


def falling(d: int, exponent: float) -> Mix:
    """Widths that fall as ``j^-exponent`` with the number j of the axis; shape (1, h, w)."""
    return centered(torch.arange(1, d + 1, dtype=F64) ** -exponent, square(d))


#: samples with spatial axes -> the Gaussians that the numbers are fitted on
WEAK_FIT: Mapping[bool, Mapping[str, Callable[[], Mix]]] = {
    False: {
        "1.5 decades": lambda: decades(32, 1.5),
        "two widths": lambda: few_widths(0.1, 1.0),
    },
    True: {
        "j^-0.5": lambda: falling(256, 0.5),
        "j^-1": lambda: falling(256, 1.0),
        "j^-1.4": lambda: falling(256, 1.4),
    },
}
#: those that they are checked on
WEAK_CHECK: Mapping[str, Callable[[], Mix]] = {
    "1 decade": lambda: decades(24, 1.0),
    "three widths": lambda: few_widths(0.05, 0.3, 1.0),
    "j^-0.7": lambda: falling(400, 0.7),
    "j^-1.2": lambda: falling(400, 1.2),
}


class WeakCase(NamedTuple):
    """A Gaussian on a path."""

    path: str
    scale: float
    problem: str
    model: Mix

    @property
    def facts(self) -> DataFacts:
        """The facts that the default call reads."""
        return DataFacts(self.scale, len(self.model.shape) > 1)

    def error(self, plan: Plan) -> float:
        """RMS over the elements of ``std of the plan - std of the data``, in units of sigma_data;
        the means are exact."""
        model, count = self.model, len(plan.draws)
        x = torch.zeros(1 + count, *model.shape, dtype=F64)
        x[0] = model.schedule.prior_scale

        def noise(key: int, like: Tensor) -> Tensor:
            z = torch.zeros_like(like)
            z[1 + key] = 1.0
            return z

        ends = fewstep.run(plan, model, x, noise=noise, check=False)
        apart = ends.square().sum(0).sqrt().flatten() - model.variances[0].sqrt()
        assert model.sigma_data is not None
        return float(apart.square().mean().sqrt()) / model.sigma_data


def weak_settings(
    problems: Mapping[str, Callable[[], Mix]], pairs: Iterable[tuple[str, float]]
) -> Iterator[tuple[Schedule, float, list[WeakCase]]]:
    """The cases of all Gaussians, one setting (path, scale) after another."""
    made = {name: make() for name, make in problems.items()}
    for path, scale in pairs:
        schedule = PATHS[path]
        cases = [WeakCase(path, scale, n, m.scaled(scale).on(schedule)) for n, m in made.items()]
        yield schedule, scale, cases
