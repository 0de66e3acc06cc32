"""``Levels``, a guidance scale given at some noise levels, which can be trained."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...checks import ArgumentError, between, is_finite, shown, tensor


@dataclass(frozen=True, eq=False)
class Levels:
    """A guidance scale that is linear in log rho between given noise levels ``rho = sigma / alpha``
    and constant beyond the first and the last.

        w(rho) = w_k + u (w_{k+1} - w_k),    u = log(rho / rho_k) / log(rho_{k+1} / rho_k)

    ``rhos``: K >= 1 increasing positive numbers. ``scales``: a tensor (K,); one that requires grad
    is trained through the sampler (``grad=`` of ``sample``), and is among the ``parameters()`` of
    the guided model. Raises ArgumentError for levels that do not increase, other shapes, and values
    that are not finite.
    """

    rhos: Sequence[float]
    scales: Tensor

    def __post_init__(self) -> None:
        rhos = tuple(float(between(f"rhos[{i}]", r, 0.0)) for i, r in enumerate(self.rhos))
        if not rhos or any(a >= b for a, b in pairwise(rhos)):
            raise ArgumentError(f"rhos={shown(list(self.rhos))}: must be 1 or more, increasing")
        object.__setattr__(self, "rhos", rhos)
        tensor("scales", self.scales)
        if tuple(self.scales.shape) != (len(rhos),):
            raise ArgumentError(
                f"scales has shape {tuple(self.scales.shape)}; must be ({len(rhos)},), one for "
                "each of rhos"
            )
        values = self.scales.detach().tolist()
        if not all(is_finite(v) for v in values):
            raise ArgumentError(f"scales={shown(values)}: must be finite")

    def value(self, rho: float) -> Tensor:
        """Return w at ``rho`` as a 0-dim tensor, differentiable in ``scales``."""
        k = bisect_left(self.rhos, rho)
        if k in (0, len(self.rhos)):
            return self.scales[min(k, len(self.rhos) - 1)]
        low, high = self.rhos[k - 1], self.rhos[k]
        return torch.lerp(
            self.scales[k - 1], self.scales[k], math.log(rho / low) / math.log(high / low)
        )

    def __call__(self, rho: float) -> float:
        """Return w at ``rho`` as a number."""
        return float(self.value(rho).detach())
