"""MAMBO-G: a guidance scale that falls where the update is large."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import number
from ...models.denoiser import Condition, Denoiser
from ...models.exact import wide
from .prompted import Prompted, guided
from .sample_sums import divided, inner_products


class MAMBO(Prompted):
    """Magnitude-aware mitigation for boosted guidance, MAMBO-G (Zhu et al. 2025, arXiv 2508.03442).

        m = m_u + w' (m_c - m_u),    w' = 1 + (w - 1) exp(-alpha r),    r = |m_c - m_u| / |m_u|

    m_c is the conditional prediction, m_u the unconditional one, w the scale; norms are over all
    elements of a sample, in float64. alpha = 0 is classifier-free guidance.

    diffusers' MagnitudeAwareGuidance computes on the network's own prediction, which is the
    velocity for flow models.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Callable[[float], float] | Tensor,
        uncond: Condition = None,
        *,
        alpha: float = 8.0,
        interval: Sequence[float] | None = None,
        on: str = "velocity",
    ) -> None:
        """Args:
            denoiser, scale, uncond, interval: as for ``CFG``; scales of 10 and more are usual.
            alpha: how fast the scale falls with r, at least 0.
            on: kind of prediction that is combined: velocity as in the paper, v, eps, x0, score,
                or ``prediction``, the model's own.

        Raises ArgumentError for numbers out of range and sizes that do not fit.
        """
        self.alpha = number("alpha", alpha, 0.0)
        self.on = on
        super().__init__(denoiser, scale, uncond, interval, on)

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        uncond, cond = (v.to(wide(v.device)) for v in values)
        d = cond - uncond
        square, length = inner_products((d, d), (uncond, uncond))
        # an update of no prediction at all is infinitely large
        lost = (length == 0.0) & (square > 0.0)
        ratio = torch.where(lost, math.inf, divided(square, length).sqrt())
        damping = torch.exp(-self.alpha * ratio) if self.alpha else torch.ones_like(ratio)
        return guided(cond, uncond, 1.0 + (self.scale.column(times, cond) - 1.0) * damping)
