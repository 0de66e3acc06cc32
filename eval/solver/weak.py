"""Weak error of a sampler: how far the law of its results is from that of the equation that it
solves, in test functions.

``E phi(X_h) - E phi(X)`` (Kloeden & Platen 1992, sec. 9.7). Both are averages over the same start
noises, and over the same Brownian paths where there is noise, so that the difference of a sample is
small and its standard error far below that of two independent sets. On Gaussian data the law of a
plan is known, and no sample is drawn.
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
from .pathwise import PathReference, strong_error
from .trajectory import TrajectoryReference

#: (B, *shape) -> (B,)
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
        standard_error: of the difference, of pairs with common random numbers.
        unpaired: what it would be for two independent sets.
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
    """Weak errors by test function, the sampler's network calls, and the reference, whose ``error``
    bounds that of a function whose slope is at most 1."""

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
            by default the averages over the entries of x, x^2 and cos x.
        n, arguments: samples, and the further arguments of ``strong_error`` or ``solver_error``.

    Raises ScoreError for fewer than 2 samples, for a function of another shape, and what those
    functions raise.
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
    """Whether the sampler's plan draws noise; a driver goes to ``solver_error``, which says what it
    thinks of it."""
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
            f"the test function {name!r} answers with shape {tuple(found.shape)}; wanted is "
            f"one value a sample, ({len(x)},)"
        )
    return found.double()


def _difference(a: Tensor, b: Tensor) -> WeakDifference:
    root = math.sqrt(len(a))
    apart = float((a.var() + b.var()).sqrt()) / root
    return WeakDifference(float((a - b).mean()), float((a - b).std()) / root, apart)


@dataclass(frozen=True, eq=False)
class GaussianError:
    """Errors, sampler minus exact, of mean and variance of each entry, (*shape) float64: exact,
    without samples."""

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
    """The error of the law of a plan sampler on ``model``, one Gaussian with independent entries,
    from its exact law at the first node.

    The result of a plan is affine in the start and the noises (``eval.gaussian``), so its mean and
    variance are sums. Arguments as in ``fewstep.sample``. ScoreError for a mixture of several
    components; SamplerError for a driver.
    """
    if len(model.weights) != 1:
        raise ScoreError(
            f"the model has {len(model.weights)} components: the law is affine for one "
            "Gaussian only; see weak_error"
        )
    where = GridRequest(steps, nfe, grid, final=final)
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
