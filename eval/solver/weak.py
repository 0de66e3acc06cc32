"""Weak error of a sampler: the difference between the distribution of its results and that of the
equation it solves, by expectations of test functions.

``E phi(X_h) - E phi(X)`` (Kloeden & Platen 1992, sec. 9.7). Both are averages over the same start
noise, and over the same Brownian paths where there is noise, so that the differences have a far
smaller standard error than those of two independent sets. For Gaussian data the distribution of a
plan is known exactly, and no samples are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...engine.planning import request
from ...models import GaussianMixture
from ...models.denoiser import Denoiser
from ...schedules.grids.construction import Grid
from ...schedules.grids.request import GridRequest
from ..certificates.gaussian import last_state, law_differences
from ..errors import ScoreError
from .error import solver_error
from .model_grids import grid_of
from .pathwise import PathReference, strong_error
from .trajectory import TrajectoryReference

#: function of states (B, *shape) with one value a sample, (B,)
TestFunction = Callable[[Tensor], Tensor]
#: averages over the entries of a sample
FUNCTIONS: Mapping[str, TestFunction] = {
    "mean": lambda x: x.flatten(1).mean(dim=1),
    "square": lambda x: x.flatten(1).square().mean(dim=1),
    "cos": lambda x: x.flatten(1).cos().mean(dim=1),
}


@dataclass(frozen=True)
class WeakDifference:
    """``difference`` of the expectations of one test function, sampler minus reference.

    Attributes:
        standard_error: of the difference, from pairs with common random numbers.
        unpaired: the standard error that two independent sets would have.
    """

    difference: float
    standard_error: float
    unpaired: float

    @property
    def significant(self) -> bool:
        """Whether the difference is more than two standard errors from 0."""
        return abs(self.difference) > 2.0 * self.standard_error


@dataclass(frozen=True, eq=False)
class WeakError:
    """Weak errors by test function, the sampler's network calls, and the reference; its ``error``
    bounds that of any function with Lipschitz constant 1."""

    differences: Mapping[str, WeakDifference]
    nfe: int
    reference: PathReference | TrajectoryReference

    def __getitem__(self, name: str) -> WeakDifference:
        return self.differences[name]


def weak_error(
    denoiser: Denoiser,
    sampler: str = "dpmpp_2m_sde",
    *,
    functions: Mapping[str, TestFunction] | None = None,
    n: int = 256,
    **arguments: Any,
) -> WeakError:
    """Differences of expectations between a sampler and a fine solution of the same equation, from
    the same noise.

    Args:
        denoiser, sampler: a stochastic sampler is compared as in ``strong_error``, a deterministic
            one as in ``solver_error``.
        functions: name -> function of the states (n, *shape) float64 with one value a sample, (n,);
            default the averages over the entries of x, x^2 and cos x.
        n, arguments: number of samples, and arguments of ``strong_error`` or ``solver_error``.

    Raises ScoreError for fewer than 2 samples and for a function with values of another shape.
    """
    used = FUNCTIONS if functions is None else functions
    if not used:
        raise ScoreError("functions is empty: give at least one test function")
    found: Any = (strong_error if _noisy(denoiser, sampler, arguments) else solver_error)(
        denoiser, sampler, n=n, **arguments
    )
    if len(found.x) < 2:
        raise ScoreError(f"{len(found.x)} sample: a standard error needs at least 2")
    pairs = {
        name: (_values(name, f, found.x), _values(name, f, found.reference.end))
        for name, f in used.items()
    }
    return WeakError(
        {name: _difference(a, b) for name, (a, b) in pairs.items()}, found.nfe, found.reference
    )


def _noisy(denoiser: Denoiser, sampler: str, arguments: Mapping[str, Any]) -> bool:
    """Whether the sampler's plan draws noise; False for drivers, which ``solver_error`` checks."""
    others = (
        "seed",
        "seeds",
        "shape",
        "cond",
        "refine",
        "reference",
        "reference_sampler",
        "batch",
        "dtype",
        "x",
        "tolerance",
    )
    grid = {key: arguments[key] for key in ("steps", "nfe", "grid", "final") if key in arguments}
    options = {key: value for key, value in arguments.items() if key not in (*others, *grid)}
    asked = request(sampler, denoiser.schedule, options, GridRequest(**grid))
    return not asked.driver and asked.plan().stochastic


def _values(name: str, function: TestFunction, x: Tensor) -> Tensor:
    found = function(x.double())
    if found.shape != x.shape[:1]:
        raise ScoreError(
            f"the test function {name!r} gives shape {tuple(found.shape)}; must be one value a "
            f"sample, ({len(x)},)"
        )
    return found.double()


def _difference(a: Tensor, b: Tensor) -> WeakDifference:
    root = math.sqrt(len(a))
    apart = float((a.var() + b.var()).sqrt()) / root
    return WeakDifference(float((a - b).mean()), float((a - b).std()) / root, apart)


@dataclass(frozen=True, eq=False)
class GaussianError:
    """Exact errors (sampler minus truth) of the mean and variance of each entry, (*shape)
    float64."""

    mean: Tensor
    variance: Tensor
    nfe: int


def gaussian_weak_error(
    model: GaussianMixture,
    sampler: str = "dpmpp_2m_sde",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "zero",
    **options: Any,
) -> GaussianError:
    """Exact weak error of a plan sampler on ``model``, one Gaussian with independent entries.

    The result of a plan is affine in the start and the noises (``certificates.gaussian``), so its
    mean and variance are sums. Arguments as in ``fewstep.sample``. ScoreError for a mixture of
    several components; SamplerError for a driver.
    """
    if len(model.weights) != 1:
        raise ScoreError(
            f"the model has {len(model.weights)} components, must have one; use weak_error"
        )
    where = grid_of(model, steps, nfe, grid, final)
    plan = request(sampler, model.schedule, options, where).plan()
    means = model.means[0]
    stds = (model.stds if model.stds.ndim == 0 else model.stds[0]).expand_as(means)
    found = {
        pair: law_differences(last_state(plan, *pair), plan.start, plan.end, *pair)
        for pair in set(_pairs(means, stds))
    }
    values = torch.tensor([found[pair] for pair in _pairs(means, stds)], dtype=torch.float64)
    return GaussianError(
        values[:, 0].reshape(means.shape), values[:, 1].reshape(means.shape), plan.nfe
    )


def _pairs(means: Tensor, stds: Tensor) -> list[tuple[float, float]]:
    return list(zip(means.flatten().tolist(), stds.flatten().tolist(), strict=True))
