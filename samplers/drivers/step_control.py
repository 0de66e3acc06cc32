"""Step-size control: error norms of a trial, and rules that compute the next step from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def rms(ratio: Tensor) -> Tensor:
    """Root mean square over each sample, (B,), in float32 or higher precision."""
    wide = ratio.to(torch.promote_types(ratio.dtype, torch.float32)).unsqueeze(-1).flatten(1)
    return wide.square().mean(1).sqrt()


def scale(a: Tensor, b: Tensor, atol: float, rtol: float) -> Tensor:
    """Error scale ``atol + rtol max(|a|, |b|)``, elementwise."""
    return torch.maximum(a.abs(), b.abs()).mul_(rtol).add_(atol)


@dataclass
class PI:
    """Proportional-integral control (Hairer & Wanner, Solving Ordinary Differential Equations II,
    IV.2).

    ``h <- h clip(safety E^{-integral / k} E_before^{proportional / k}, low, high)``, with k the
    power of h in the error E. The step does not grow directly after a rejection. A trial is
    accepted if E <= 1.
    """

    power: float
    safety: float = 0.9
    integral: float = 0.7
    proportional: float = 0.4
    low: float = 0.2
    high: float = 10.0
    before: float = 1e-4
    rejected: bool = False

    def next(self, error: float) -> tuple[bool, float]:
        """Return whether a trial with this error is accepted, and the factor for the step size."""
        error = max(error, 1e-10)
        if error > 1.0:
            self.rejected = True
            return False, max(self.low, self.safety * error ** (-1.0 / self.power))
        factor = (
            self.safety
            * error ** (-self.integral / self.power)
            * self.before ** (self.proportional / self.power)
        )
        factor = min(self.high, max(self.low, factor))
        if self.rejected:
            factor = min(1.0, factor)
        self.before, self.rejected = max(error, 1e-4), False
        return True, factor


@dataclass
class Deadbeat:
    """The step-size rule of DPM-Solver (Lu et al. 2022, arXiv 2206.00927, appendix C).

    ``h <- theta h E^{-1/order}``; a trial is accepted if E <= 1.
    """

    order: int
    theta: float = 0.9

    def next(self, error: float) -> tuple[bool, float]:
        """Return whether a trial with this error is accepted, and the factor for the step size."""
        return error <= 1.0, self.theta * max(error, 1e-12) ** (-1.0 / self.order)


@dataclass
class PID:
    """Proportional-integral-derivative control as in k-diffusion.

    The factor ``f = prod (E_i + 1e-8)^{-b_i}`` over the last three errors, with
    ``b_1 = (P + I + D) / k, b_2 = -(P + 2 D) / k, b_3 = D / k``, is limited to ``1 + atan(f - 1)``.
    A trial is accepted if the factor is at least ``accept_safety``; the errors then shift by one.
    """

    order: float
    pcoeff: float = 0.0
    icoeff: float = 1.0
    dcoeff: float = 0.0
    accept_safety: float = 0.81
    inverses: tuple[float, float, float] | None = None

    def next(self, error: float) -> tuple[bool, float]:
        """Return whether a trial with this error is accepted, and the factor for the step size."""
        inverse = 1.0 / (error + 1e-8)
        _, second, third = self.inverses or (inverse,) * 3
        p, i, d = self.pcoeff, self.icoeff, self.dcoeff
        factor = (inverse ** (p + i + d) * second ** (-p - 2.0 * d) * third**d) ** (
            1.0 / self.order
        )
        factor = 1.0 + math.atan(factor - 1.0)
        accepted = factor >= self.accept_safety
        self.inverses = (inverse, inverse, second) if accepted else (inverse, second, third)
        return accepted, factor
