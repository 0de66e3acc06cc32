"""Frequency-decoupled guidance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, number, shown
from ...models.base import MAIN
from ...models.denoiser import Condition, Denoiser, ShapeError, Time
from ...models.exact import wide
from ...models.wrapper import complete
from .branches import Branch
from .combination import PREDICTION
from .conditions import Given, unconditional
from .pyramid import collapsed, pyramid
from .sample_sums import divided, inner_products
from .scales import scale_of
from .weighted import Weighted

#: scale of one level
LevelScale = float | Callable[[float], float] | Tensor


class FDG(Weighted):
    """Frequency-decoupled guidance: each level of a Laplacian pyramid has its own scale (Sadat et
    al. 2025, arXiv 2506.19713, alg. 1).

        L_l(m) = L_l(m_u) + w_l (L_l(m_c) - L_l(m_u))

    m_c is the conditional prediction, m_u the unconditional one, L_l level l of the Laplacian
    pyramid of the last two axes (``pyramid.pyramid``), of any size. Equal scales are
    classifier-free guidance. Without ``parallel_weights`` the result is the same for every kind of
    prediction, because it is linear. Channels: ``main``, ``uncond``, ``cond``.

    diffusers' FrequencyDecoupledGuidance needs kornia, whose pyramid pads sizes that are no powers
    of two; for powers of two the results agree.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scales: Sequence[LevelScale],
        uncond: Condition = None,
        *,
        parallel_weights: Sequence[float] | None = None,
        interval: Sequence[float] | None = None,
        on: str | None = None,
    ) -> None:
        """Args:
            denoiser, uncond, interval: as for ``CFG``.
            scales: w_l of each level, the finest first (the paper has (10, 5) for SDXL): numbers,
                functions of rho, or tensors, as the scale of ``CFG``.
            parallel_weights: weight of the part of ``L_l(m_c) - L_l(m_u)`` along ``L_l(m_c)``, for
                each level; 1 each by default.
            on: kind of prediction that is combined, with ``parallel_weights`` only: x0 (default),
                eps, v, velocity, score, or ``prediction``, the model's own.

        Raises ArgumentError for samples without two spatial axes, sizes that do not fit, and ``on``
        without ``parallel_weights``.
        """
        if not isinstance(scales, (list, tuple)) or not scales:
            raise ArgumentError(
                f"scales={shown(scales)}: must be a list of the scale of each level of the "
                "pyramid, the finest first"
            )
        self.parallel_weights = _weights(parallel_weights, len(scales))
        if on is not None and parallel_weights is None:
            raise ArgumentError(
                f"on={on!r} without parallel_weights=: the combination is the same for every kind"
            )
        kind = PREDICTION if parallel_weights is None else on or "x0"
        model = complete(denoiser)
        made = [
            scale_of(each, model.schedule, interval, f"scales[{i}]")
            for i, each in enumerate(scales)
        ]
        branches = [
            Branch("uncond", model, unconditional(model, uncond)),
            Branch("cond", model, Given(type(self).__name__)),
        ]
        super().__init__(branches, made, kind)
        if self.shape is not None:
            _check_axes(self.shape)

    @override
    def weights(self, t: float) -> tuple[float, ...]:
        """(0, 1) where all scales are 1, else NaN: the weights are no numbers."""
        plain = all(scale.at(t) == 1.0 for scale in self.scales)
        return (0.0, 1.0) if plain else (math.nan, math.nan)

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        uncond, cond = (v.to(wide(v.device)) for v in values)
        count = len(self.scales)
        shifts = pyramid(cond - uncond, count)
        if any(weight != 1.0 for weight in self.parallel_weights):
            pairs = zip(shifts, pyramid(cond, count), self.parallel_weights, strict=True)
            shifts = [_reweighted(shift, level, weight) for shift, level, weight in pairs]
        columns = (scale.column(times, cond) for scale in self.scales)
        return uncond + collapsed([w * d for w, d in zip(columns, shifts, strict=True)])

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        _check_axes(x_in.shape[1:])
        return super().raws(x_in, t, cond, channels, to)

    @override
    def _settings(self) -> list[str]:
        shown = [str(scale) for scale in self.scales]
        if self.scales[0].interval is not None:
            shown.append(f"interval={self.scales[0].interval}")
        if any(weight != 1.0 for weight in self.parallel_weights):
            shown.append(f"parallel_weights={self.parallel_weights}, on={self.kind!r}")
        return shown


def _weights(given: Any, count: int) -> tuple[float, ...]:
    """Return a weight for each level; 1 by default."""
    if given is None:
        return (1.0,) * count
    if not isinstance(given, (list, tuple)) or len(given) != count:
        raise ArgumentError(
            f"parallel_weights={shown(given)}: must be a list of {count} numbers, one for each "
            "of scales"
        )
    return tuple(number(f"parallel_weights[{i}]", each) for i, each in enumerate(given))


def _check_axes(shape: Sequence[int]) -> None:
    """Raise ShapeError for samples without two spatial axes."""
    if len(shape) < 2:
        raise ShapeError(
            f"FDG needs samples with two spatial axes at the end, (..., H, W); these have the "
            f"shape {tuple(shape)}"
        )


def _reweighted(shift: Tensor, level: Tensor, weight: float) -> Tensor:
    """Return ``shift`` with its part along ``level`` multiplied by ``weight``."""
    along, length = inner_products((shift, level), (level, level))
    return shift + (weight - 1.0) * divided(along, length) * level
