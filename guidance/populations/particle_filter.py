"""``Weights``, the weights of particles that run through a sequence of potentials, and potentials
from values (Feynman-Kac steering, Singhal et al. 2025, arXiv 2501.06848).

A particle at its k-th weighting has the log-value ``r_k = V(x_k) / temperature``, at the end ``r =
reward(x_0) / temperature``. The log-potentials are

    diff    g_k = r_k - r_{k-1},  g_0 = r_0
    max     g_k = max_{u <= k} r_u
    add     g_k = sum_{u <= k} r_u
    end     g   = r - sum_k g_k

so that their sum is r whatever the values are: the target is ``p(x_0) exp(r)``. A particle with the
value -inf is lost: its weight stays 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .resampling import effective_size, log_mean_exp, normalised, resampled

POTENTIALS = ("diff", "max", "add")


class Weights:
    """Log-weights (S, P) since the last resampling, and the log-evidence (S,) of all before."""

    def __init__(self, seeds: Sequence[int], particles: int, potential: str = "diff") -> None:
        shape = (len(seeds), particles)
        self.seeds, self.potential = tuple(seeds), potential
        #: carried until particles are resampled
        self.logs = torch.zeros(shape, dtype=torch.float64)
        self.evidence = torch.zeros(shape[0], dtype=torch.float64)
        #: of each weighting, (S,)
        self.ess: list[Tensor] = []
        self._spent = torch.zeros(shape, dtype=torch.float64)
        self._memory: Tensor | None = None

    def add(self, logs: Tensor) -> None:
        """Multiply the weights by ``exp(logs)`` (S, P), a ratio of densities."""
        self.logs = _dead(self.logs, self.logs + logs)

    def weigh(self, values: Tensor, last: bool = False) -> None:
        """Multiply the weights by the potential of the log-values (S, P); ``last``: those of the
        end, which complete the product to ``exp(values)``."""
        if last or self.potential == "diff":
            g = values - self._spent
        elif self._memory is None:
            g = values
        elif self.potential == "max":
            g = torch.maximum(self._memory, values)
        else:
            g = self._memory + values
        g = torch.where(values == -math.inf, -math.inf, g)
        if self.potential != "diff":
            self._memory = g
        self.logs = _dead(self.logs, self.logs + g)
        self._spent = self._spent + torch.where(self.logs == -math.inf, 0.0, g)

    def resample(self, threshold: float, rule: str, draw: int) -> Tensor | None:
        """Choose particles by their weights for the samples with fewer than ``threshold P``
        effective particles: (S, P) integers, the others unchanged; None if there are no such
        samples. Where none is chosen the weights are kept."""
        size = effective_size(self.logs)
        self.ess.append(size)
        count = self.logs.shape[1]
        poor = size < threshold * count
        if not bool(poor.any()):
            return None
        same = torch.arange(count).expand_as(self.logs)
        chosen = resampled(rule, self.logs, self.seeds, draw, count)
        choice = torch.where(poor[:, None], chosen, same)
        self.evidence = self.evidence + torch.where(poor, log_mean_exp(self.logs), 0.0)
        self.logs = torch.where(poor[:, None], 0.0, self.logs)
        self._spent = self._spent.gather(1, choice)
        if self._memory is not None:
            self._memory = self._memory.gather(1, choice)
        return choice

    def close(self) -> Tensor:
        """Add the mean of the last weights to the evidence; returns the normalised log-weights (S,
        P)."""
        self.ess.append(effective_size(self.logs))
        self.evidence = self.evidence + log_mean_exp(self.logs)
        return torch.log(normalised(self.logs))


def _dead(before: Tensor, after: Tensor) -> Tensor:
    """``after``, and -inf where the weight was 0 before."""
    return torch.where(before == -math.inf, -math.inf, after)
