"""Exponential time differencing of order 4 for ``v' = L v + N(v, t)`` with a diagonal L.

ETDRK4 of Cox and Matthews, Exponential time differencing for stiff systems, J. Comput. Phys. 176
(2002), equations 26 to 29. Its coefficients cancel near ``h L = 0`` and are computed as means over
a circle around ``h L``: Kassam and Trefethen, Fourth-order time-stepping for stiff PDEs, SIAM J.
Sci. Comput. 26 (2005), section 2. Spectra of periodic fields have such an L.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

from ....checks import ArgumentError, between, integer

#: points of the circle of radius 1 around h L; the error of the mean is below 1/32!
POINTS: Final = 32


class Weights(NamedTuple):
    """Coefficients of one step of ETDRK4, each of the shape of L.

    Attributes:
        whole: ``exp(h L)``.
        half: ``exp(h L / 2)``.
        stage: ``h phi_1(h L / 2) / 2``.
        first: of N at the start, ``h (phi_1 - 3 phi_2 + 4 phi_3)(h L)``.
        middle: of N at the two stages in the middle, ``h (2 phi_2 - 4 phi_3)(h L)``.
        last: of N at the end, ``h (4 phi_3 - phi_2)(h L)``.
    """

    whole: Tensor
    half: Tensor
    stage: Tensor
    first: Tensor
    middle: Tensor
    last: Tensor


def etdrk4_weights(rate: Tensor, h: float) -> Weights:
    """The coefficients of a step ``h`` for the diagonal ``rate`` (L), real or complex."""
    z0 = h * rate
    sums = [torch.zeros_like(z0, dtype=torch.promote_types(z0.dtype, torch.complex64))] * 4
    for j in range(POINTS):
        z = z0 + cmath.exp(2j * math.pi * (j + 0.5) / POINTS)
        whole, half, cube = z.exp(), (z / 2).exp(), z**3
        terms = (
            (half - 1) / z,
            (-4 - z + whole * (4 - 3 * z + z**2)) / cube,
            (2 + z + whole * (z - 2)) / cube * 2,
            (-4 - 3 * z - z**2 + whole * (4 - z)) / cube,
        )
        sums = [total + term for total, term in zip(sums, terms, strict=True)]
    # the points come in conjugate pairs: the mean of a real L is real
    means = [total * (h / POINTS) for total in sums]
    stage, first, middle, last = means if rate.is_complex() else [mean.real for mean in means]
    return Weights(z0.exp(), (z0 / 2).exp(), stage, first, middle, last)


def etdrk4(
    start: Tensor,
    rate: Tensor,
    nonlinear: Callable[[Tensor, float], Tensor],
    dt: float,
    *,
    frames: int,
    substeps: int = 1,
) -> Tensor:
    """States of ``v' = rate v + nonlinear(v, t)`` at ``frames`` times ``dt`` apart.

    Args:
        start: the state at t = 0, (B, ...), real or complex: one or more axes of modes.
        rate: the diagonal L, of a shape that broadcasts with ``start``: one for all samples or one
            a sample.
        nonlinear: ``(v, t) -> N``, of the shape of ``start``; t in units of ``dt``'s.
        dt: time between two frames.
        frames: number of times, the first included.
        substeps: steps between two frames.

    Returns:
        (B, frames, ...), the first of them ``start``.

    Raises ArgumentError for unusable numbers, and where the solution leaves the finite numbers.
    """
    frames, substeps = integer("frames", frames, 1), integer("substeps", substeps, 1)
    h = between("dt", dt, 0.0) / substeps
    weights, v = etdrk4_weights(rate, h), start
    states = [v]
    for i in range((frames - 1) * substeps):
        v = _step(v, i * h, h, weights, nonlinear)
        if (i + 1) % substeps == 0:
            states.append(v)
    if not bool(torch.isfinite(torch.view_as_real(v) if v.is_complex() else v).all()):
        raise ArgumentError(
            f"the solution is not finite after {frames} frames of dt={dt:.4g} in {substeps} steps "
            "each; give a smaller distance of times or a finer grid"
        )
    return torch.stack(states, 1)


def _step(
    v: Tensor,
    t: float,
    h: float,
    weights: Weights,
    nonlinear: Callable[[Tensor, float], Tensor],
) -> Tensor:
    decayed = weights.half * v
    at_start = nonlinear(v, t)
    a = decayed + weights.stage * at_start
    at_a = nonlinear(a, t + h / 2)
    at_b = nonlinear(decayed + weights.stage * at_a, t + h / 2)
    c = weights.half * a + weights.stage * (2 * at_b - at_start)
    at_c = nonlinear(c, t + h)
    return (
        weights.whole * v
        + weights.first * at_start
        + weights.middle * (at_a + at_b)
        + weights.last * at_c
    )


def substeps_for(dt: float, limit: float) -> int:
    """The least number of equal steps in ``dt`` that are at most ``limit`` long."""
    # a relative slack of 1e-9, so that rounding of dt / limit adds no step
    return max(1, math.ceil(dt / limit * (1 - 1e-9)))
