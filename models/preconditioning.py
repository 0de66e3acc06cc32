"""Preconditioning: scales a network's input and combines its output with the state.

With ``x = alpha y`` and ``rho = sigma / alpha`` (Karras et al. 2022, arXiv 2206.00364, eq. 7 and
table 1; sigma there is rho here),

    D(y; rho) = c_skip y + c_out F(c_in y; c_noise(rho)).

Each class returns the coefficients for the state x itself,
``value = p x + q F(input_scale x; c_noise)``, computed from alpha and sigma so that they stay
finite at alpha = 0 and sigma = 0 wherever the limits are finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from ..checks import ArgumentError, number
from ..schedules.base import Real, Schedule, like, namespace
from ..schedules.node import Node
from ..schedules.validation import check_schedule


class Numbers(NamedTuple):
    """Coefficients of ``value = p x + q F(input_scale x; c_noise)``, float64."""

    input_scale: float
    p: float
    q: float
    c_noise: float


@runtime_checkable
class Preconditioning(Protocol):
    """Protocol of the argument ``precondition`` of ``wrap``."""

    @property
    def kind(self) -> str:
        """Prediction type of the result, one of ``KINDS``."""

    def numbers(self, node: Node) -> Numbers:
        """Return the four coefficients at ``node``."""

    def c_noise(self, rho: Real) -> Real:
        """Time label of the network at ``rho = sigma / alpha``, in the type of ``rho`` (float,
        array or tensor)."""


@runtime_checkable
class HasSigmaData(Protocol):
    """Protocol of a Preconditioning for data of a known standard deviation."""

    @property
    def sigma_data(self) -> float | None:
        """Standard deviation of the data; None if it is unknown."""


def scaled_log(rho: Real, factor: float, unit: float = 1.0) -> Real:
    """Return ``factor log(rho / unit)``; -inf at rho = 0."""
    with np.errstate(divide="ignore"):
        return like(rho, factor * namespace(rho).log(rho / unit))


@dataclass(frozen=True)
class EDMPreconditioning:
    """EDM preconditioning (Karras et al. 2022, table 1, column "Ours"): F and D have unit variance
    if the data have standard deviation ``sigma_data``; predicts x0.

    With ``r^2 = sigma^2 + alpha^2 sigma_data^2``: input_scale = 1/r, p = alpha sigma_data^2 / r^2,
    q = sigma sigma_data / r, c_noise = log(rho) / 4.
    """

    sigma_data: float = 0.5
    kind = "x0"

    def __post_init__(self) -> None:
        if not 0.0 < number("sigma_data", self.sigma_data) < math.inf:
            raise ArgumentError(f"sigma_data={self.sigma_data!r}: allowed 0 < sigma_data < inf")

    def numbers(self, node: Node) -> Numbers:
        """Return the coefficients at ``node``; finite for all (alpha, sigma) except (0, 0)."""
        s = self.sigma_data
        r = math.hypot(node.sigma, node.alpha * s)
        return Numbers(
            1.0 / r, node.alpha * (s / r) ** 2, node.sigma * s / r, self.c_noise(node.rho)
        )

    def c_noise(self, rho: Real) -> Real:
        """Return ``log(rho) / 4``; infinite at rho = 0 and rho = inf."""
        return scaled_log(rho, 0.25)


@dataclass(frozen=True)
class VPPreconditioning:
    """VP preconditioning (table 1, column "VP"): an eps network trained on the variance-preserving
    path ``trained``, used on any path.

    The state is scaled to unit norm, ``x / sqrt(alpha^2 + sigma^2)``, and the label is the trained
    path's time at the same rho, times ``scale`` (M - 1 = 999 for a network with 1000 steps whose
    path has t in [0, 1]; 1 for a discrete table).
    """

    trained: Schedule
    scale: float = 999.0
    kind = "eps"

    def __post_init__(self) -> None:
        check_schedule(self.trained)
        if not number("scale", self.scale) > 0.0:
            raise ArgumentError(f"scale={self.scale!r}: must be a number > 0")

    def numbers(self, node: Node) -> Numbers:
        """Return the coefficients at ``node``; finite for all (alpha, sigma) except (0, 0)."""
        return Numbers(1.0 / math.hypot(node.alpha, node.sigma), 0.0, 1.0, self.c_noise(node.rho))

    def c_noise(self, rho: Real) -> Real:
        """Return ``scale t(rho)`` on the trained path."""
        return like(rho, self.scale * self.trained.t_of_rho(rho))


@dataclass(frozen=True)
class VEPreconditioning:
    """VE preconditioning (table 1, column "VE"): F predicts -eps on ``y = x / alpha``, with
    ``c_noise = log(rho / 2)``. Needs alpha > 0."""

    kind = "eps"

    def numbers(self, node: Node) -> Numbers:
        """Return the coefficients at ``node``. Raises ValueError at alpha = 0, where y does not
        exist."""
        if node.alpha == 0.0:
            raise ArgumentError(
                f"a variance-exploding network has no input at alpha = 0 (t={node.t}); start "
                "the grid after it"
            )
        return Numbers(1.0 / node.alpha, 0.0, -1.0, self.c_noise(node.rho))

    def c_noise(self, rho: Real) -> Real:
        """Return ``log(rho / 2)``; -inf at rho = 0."""
        return scaled_log(rho, 1.0, 2.0)
