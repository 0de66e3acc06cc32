"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, number
from ...models.denoiser import Condition, Denoiser
from .combination import PREDICTION
from .prompted import Prompted
from .rescale import rescaled


class CFG(Prompted):
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, eq. 6).

        m_w = m_u + w (m_c - m_u)

    m_c is the prediction for the condition ``cond=`` of the call, m_u the unconditional one. w = 1
    is the conditional prediction; the paper's own w is w - 1. The combination is the same for every
    kind of prediction. With a number or a function as scale it folds into the solver's step: it
    adds no pass over the data.

    Channels: ``main``, ``uncond``, ``cond``; the samplers of the CFG++ family read two of them.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Callable[[float], float] | Tensor,
        uncond: Condition = None,
        *,
        interval: Sequence[float] | None = None,
        rescale: float = 0.0,
        on: str = PREDICTION,
    ) -> None:
        """Args:
            denoiser: the model.
            scale: w: a number; a function of ``rho = sigma / alpha`` that returns a number, such
                as ``Ramp``; ``Levels``, which can be trained; or a tensor, (B,) with one for each
                sample or () with a gradient.
            uncond: the unconditional condition (a negative prompt, for example), like ``cond``,
                with batch size 1 or B. Default: the model's own (``null_cond``); where it has none,
                the unconditional prediction is a second call with ``cond=None``.
            interval: (lo, hi): w = 1 unless ``lo < rho <= hi`` (Kynkaanniemi et al. 2024, arXiv
                2404.07724).
            rescale: share of the rescaled prediction, 0 to 1 (``rescale.rescaled``); 0.7 in the
                paper. It is not linear: it is computed in each call.
            on: kind of prediction that is rescaled: x0, eps, v, velocity, score, or ``prediction``,
                the model's own, as in the paper.

        Raises ArgumentError for a scale that is not finite, sizes that do not fit, and ``on``
        without ``rescale``.
        """
        self.rescale = number("rescale", rescale, 0.0, 1.0)
        if on != PREDICTION and self.rescale == 0.0:
            raise ArgumentError(
                f"on={on!r} without rescale=: the combination is the same for every kind"
            )
        super().__init__(denoiser, scale, uncond, interval, on if self.rescale else None)

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        made = super().mix(values, x, times)
        return rescaled(made, values[1], self.rescale) if self.rescale else made
