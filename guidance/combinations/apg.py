"""Adaptive projected guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import between, number
from ...models.base import RunFacts
from ...models.denoiser import Condition, Denoiser
from ...models.exact import wide
from .sample_sums import divided, inner_products
from .stepped import Stepped


class APG(Stepped):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416, alg. 1).

        d     = m_c - m_u + beta d_before               momentum beta
        d'    = d min(1, r / |d|)                       norm r
        d_par = (<d', m_c> / |m_c|^2) m_c               the part along m_c
        m     = m_c + (w - 1) (d' - d_par + eta d_par)

    m_c is the conditional prediction, m_u the unconditional one, w the scale; inner products are
    over all elements of a sample, in float64. The part along m_c saturates colours; eta weights it.
    eta = 1 without norm and momentum is classifier-free guidance.

    ``d_before`` is d at the first network call of the step before. Each step adds to the momentum
    once, whatever number of calls a sampler makes in it; all calls of a step use the same
    ``d_before``. Where w = 1 (outside of the interval) d is not computed and ``d_before`` stays.
    The first step has ``d_before`` = 0, as has a direct call ``den(x, t, cond)``.

    diffusers' AdaptiveProjectedGuidance computes on the network's own prediction
    (``on="prediction"``), with eta = 1 and r = 15 by default, and adds ``w`` times the update to
    m_u: the paper's formula only if eta = 1, r is large and there is no momentum.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Callable[[float], float] | Tensor,
        uncond: Condition = None,
        *,
        eta: float = 0.0,
        norm: float | None = None,
        momentum: float = 0.0,
        interval: Sequence[float] | None = None,
        on: str = "x0",
    ) -> None:
        """Args:
            denoiser, scale, uncond, interval: as for ``CFG``.
            eta: weight of the part of the update along m_c: 0 in the paper.
            norm: largest norm r of the update, 2.5 to 15 in the paper; None: no limit.
            momentum: beta, -1 < beta < 1; -0.75 to -0.5 in the paper. It needs a sampler with a
                plan: drivers, ``log_prob`` and ``invert`` refuse it.
            on: kind of prediction that is combined: x0 as in the paper, eps, v, velocity, score,
                or ``prediction``, the model's own.

        Raises ArgumentError for numbers out of range and sizes that do not fit.
        """
        self.eta = number("eta", eta)
        self.norm = None if norm is None else between("norm", norm, 0.0)
        self.momentum = between("momentum", momentum, -1.0, 1.0)
        self.on = on
        option = f"momentum={momentum!r}" if self.momentum else ""
        super().__init__(denoiser, scale, uncond, interval, on, option)
        self._before: Tensor | None = None
        self._latest: tuple[int, Tensor] | None = None

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        uncond, cond = (v.to(wide(v.device)) for v in values)
        d = self._with_momentum(cond - uncond)
        offset = self.offset if self.kind == "x0" else None
        axis = cond if offset is None else cond + offset.to(cond)
        square, along, length = inner_products((d, d), (d, axis), (axis, axis))
        size = square.sqrt()
        if self.norm is None:
            factor = torch.ones_like(size)
        else:
            factor = torch.where(size > self.norm, divided(self.norm + 0.0 * size, size), 1.0)
        share = (self.eta - 1.0) * divided(factor * along, length)
        return cond + (self.scale.column(times, cond) - 1.0) * (factor * d + share * axis)

    def _with_momentum(self, d: Tensor) -> Tensor:
        """Return ``d + beta d_before``; the first call of a step keeps it for the next step."""
        step = self.step
        if step is None:
            return d
        if self._latest is not None and self._latest[0] != step:
            self._before, self._latest = self._latest[1], None
        made = d if self._before is None else d + self.momentum * self._before
        if self._latest is None:
            self._latest = (step, made)
        return made

    @override
    def for_run(self, facts: RunFacts) -> Self:
        made = super().for_run(facts)
        if made is not self:
            made._before, made._latest = None, None
        return made

    @override
    def select(self, rows: Tensor) -> Self:
        """Return the guidance of the samples ``rows``, with their momentum."""
        made = super().select(rows)
        if self._latest is None:
            return made
        made = made.copied() if made is self else made
        step, latest = self._latest
        made._latest = (step, latest[rows.to(latest.device)])
        if self._before is not None:
            made._before = self._before[rows.to(latest.device)]
        return made
