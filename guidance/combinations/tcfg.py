"""Tangential damping of the unconditional prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...models.denoiser import Condition, Denoiser
from ...models.exact import wide
from ...models.wrapper import complete
from ...schedules.flow import Flow
from .prompted import Prompted, guided
from .sample_sums import divided, inner_products


class TCFG(Prompted):
    """Tangential damping classifier-free guidance (Kwon et al. 2025, arXiv 2503.18137, alg. 1).

        m  = m_u' + w (m_c - m_u'),    m_u' = <m_u, q> q

    m_c is the conditional prediction, m_u the unconditional one, w the scale. q, of norm 1, is the
    first right singular vector of the matrix with the rows m_c and m_u (each sample has its own):
    the direction that both share. With the unit eigenvector (a, b) of the largest eigenvalue of
    their Gram matrix, ``m_u' = b (a m_c + b m_u)``; it is computed in float64. If both singular
    values are equal, no direction comes first and m_u' = m_u.

    diffusers' TangentialClassifierFreeGuidance computes on the network's own prediction
    (``on="prediction"``), in float32.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Callable[[float], float] | Tensor,
        uncond: Condition = None,
        *,
        interval: Sequence[float] | None = None,
        on: str | None = None,
    ) -> None:
        """Args:
            denoiser, scale, uncond, interval: as for ``CFG``.
            on: kind of prediction that is combined: x0, eps, v, velocity, score, or ``prediction``,
                the model's own. Default: eps, which is the paper's score times a number, and
                velocity on the path ``Flow``, where eps says nothing about x0 at t = 1.

        Raises ArgumentError for sizes that do not fit.
        """
        flow = isinstance(complete(denoiser).schedule, Flow)
        self.on = on if on is not None else "velocity" if flow else "eps"
        super().__init__(denoiser, scale, uncond, interval, self.on)

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        uncond, cond = (v.to(wide(v.device)) for v in values)
        return guided(cond, damped(cond, uncond), self.scale.column(times, cond))


def damped(cond: Tensor, uncond: Tensor) -> Tensor:
    """Return ``<m_u, q> q`` for the first right singular vector q of the rows ``cond`` m_c and
    ``uncond`` m_u, both (B, *shape)."""
    cc, cu, uu = inner_products((cond, cond), (cond, uncond), (uncond, uncond))
    # (a, b) = (cos, sin) of half the angle of (cc - uu, 2 cu)
    apart, twice = cc - uu, 2.0 * cu
    radius = (apart * apart + twice * twice).sqrt()
    both = 0.5 * divided(twice, radius)  # a b
    own = torch.where(radius > 0.0, 0.5 * (1.0 - divided(apart, radius)), 1.0)  # b^2
    return both * cond + own * uncond
