"""Closed forms of two filtration equations ``u_t = (k(u) u_x)_x`` on a half line, with their mass.

Law "porous": ``k = u^m``, ``u(0, t) = (m t)^(1/m)``; law "stefan": ``k = 1`` where ``u >= u*``,
else 0, ``u(0, t) = 1``. Both start from 0 with a front that moves in from x = 0: Hansen et al. 2023
(ProbConserv, arXiv 2302.11002), appendix of the generalised porous medium equation.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

#: the names of the laws
LAWS: Final = ("porous", "stefan")


class Law(Protocol):
    """One law with its parameter; tensors broadcast with it."""

    def potential(self, u: Tensor) -> Tensor:
        """``K(u)``, the integral of k from 0: the equation is ``u_t = K(u)_xx``."""
        ...

    def solution(self, x: Tensor, t: Tensor) -> Tensor:
        """``u`` at ``x`` and ``t >= 0``."""
        ...

    def rate(self, x: Tensor, t: Tensor) -> Tensor:
        """``u_t`` at ``x`` and ``t > 0``, 0 ahead of the front."""
        ...

    def front(self, t: Tensor) -> Tensor:
        """Place of the front."""
        ...

    def mass(self, t: Tensor) -> Tensor:
        """The integral of u over x >= 0."""
        ...


class Porous(NamedTuple):
    """``k = u^m``: ``u = (m (t - x))^(1/m)`` behind the front x = t."""

    m: Tensor

    def potential(self, u: Tensor) -> Tensor:
        """``max(u, 0)^(m+1) / (m + 1)``."""
        found: Tensor = u.clamp(min=0.0) ** (self.m + 1.0) / (self.m + 1.0)
        return found

    def solution(self, x: Tensor, t: Tensor) -> Tensor:
        """``(m max(t - x, 0))^(1/m)``."""
        found: Tensor = (self.m * (t - x).clamp(min=0.0)) ** (1.0 / self.m)
        return found

    def rate(self, x: Tensor, t: Tensor) -> Tensor:
        """``(m (t - x))^(1/m - 1)`` behind the front."""
        behind = t > x
        depth = torch.where(behind, t - x, 1.0)
        return torch.where(behind, (self.m * depth) ** (1.0 / self.m - 1.0), 0.0)

    def front(self, t: Tensor) -> Tensor:
        """``t``."""
        return t

    def mass(self, t: Tensor) -> Tensor:
        """``m^(1 + 1/m) t^(1 + 1/m) / (m + 1)``."""
        found: Tensor = (self.m * t) ** (1.0 + 1.0 / self.m) / (self.m + 1.0)
        return found


class Stefan:
    """``k = 1[u >= u*]``: ``u = 1 - c erf(x / (2 sqrt t))`` behind the front ``x = 2 z sqrt t``,
    with ``u* erf(z) z exp(z^2) = (1 - u*) / sqrt(pi)`` and ``c = (1 - u*) / erf(z)``."""

    def __init__(self, threshold: Tensor) -> None:
        """Finds z by bisection: the left side rises from 0."""
        goal = (1.0 - threshold) / (threshold * math.sqrt(math.pi))
        low, high = torch.zeros_like(goal), torch.full_like(goal, 8.0)
        for _ in range(64):
            z = (low + high) / 2.0
            above = torch.erf(z) * z * torch.exp(z**2) > goal
            low, high = torch.where(above, low, z), torch.where(above, z, high)
        self.threshold, self.z = threshold, (low + high) / 2.0
        self.c = (1.0 - threshold) / torch.erf(self.z)

    def potential(self, u: Tensor) -> Tensor:
        """``max(u - u*, 0)``."""
        return (u - self.threshold).clamp(min=0.0)

    def solution(self, x: Tensor, t: Tensor) -> Tensor:
        """``1 - c erf(x / (2 sqrt t))`` up to the front, 0 ahead of it."""
        root_t = t.clamp(min=1e-300).sqrt()
        behind = x <= self.front(t)
        return torch.where(behind, 1.0 - self.c * torch.erf(x / (2.0 * root_t)), 0.0)

    def rate(self, x: Tensor, t: Tensor) -> Tensor:
        """``c x exp(-x^2 / 4 t) / (2 sqrt(pi) t^(3/2))`` up to the front."""
        found = self.c * x * torch.exp(-(x**2) / (4.0 * t)) / (2.0 * math.sqrt(math.pi))
        return torch.where(x <= self.front(t), found / t**1.5, 0.0)

    def front(self, t: Tensor) -> Tensor:
        """``2 z sqrt t``."""
        return 2.0 * self.z * t.sqrt()

    def mass(self, t: Tensor) -> Tensor:
        """``2 c sqrt(t / pi)``."""
        return 2.0 * self.c * (t / math.pi).sqrt()
