"""Thresholding of the predicted data, around any denoiser."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, number
from ...models.base import MAIN, read_coefficients, read_raws
from ...models.denoiser import Condition, Denoiser, Time, combine, host_times
from ...models.wrapper import Wrapper
from ...schedules.kinds import convert

MODES = ("dynamic", "static")
#: quantile of the paper (its section 4.2)
QUANTILE = 0.995


class Threshold(Wrapper):
    """Thresholding of the predicted data (Saharia et al. 2022, arXiv 2205.11487, section 2.3).

        dynamic    D <- clip(D, -s, s) / s,    s = max(1, quantile of |D| over a sample)
        static     D <- clip(D, -1, 1)

    D is the predicted x0 of any denoiser, such as ``CFG(den, 7.5)``; the data are in [-1, 1]. The
    prediction is of kind x0. Other channels than ``main`` are those of the denoiser, unchanged.
    """

    preserves_input = True

    def __init__(
        self,
        denoiser: Denoiser,
        mode: str = "dynamic",
        *,
        quantile: float | None = None,
        maximum: float | None = None,
    ) -> None:
        """Args:
            denoiser: the model, with data in [-1, 1].
            mode: ``dynamic`` or ``static``.
            quantile: of ``dynamic``, 0 to 1; default 0.995. Between two elements it is linear.
            maximum: of ``dynamic``: largest s, at least 1; None: no limit. diffusers'
                ``sample_max_value``, whose default 1.0 makes its dynamic thresholding static.

        Raises ArgumentError for a model of latents, whose values are not in [-1, 1], and for
        ``quantile`` or ``maximum`` with ``static``.
        """
        super().__init__(denoiser)
        self.mode = choice("mode", mode, MODES)
        for name, given in (("quantile", quantile), ("maximum", maximum)):
            if given is not None and mode != "dynamic":
                raise ArgumentError(f"{name}={given!r} with mode={mode!r}: allowed with 'dynamic'")
        self.quantile = QUANTILE if quantile is None else number("quantile", quantile, 0.0, 1.0)
        self.maximum = math.inf if maximum is None else number("maximum", maximum, 1.0)
        if self.denoiser.latent:
            raise ArgumentError(
                "thresholding clips data to [-1, 1], and this model predicts latents of an "
                "autoencoder, which have other values: use APG or CFG(..., rescale=0.7)"
            )
        self.prediction = "x0"

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Return the coefficients of ``channel``. The raw outputs are the thresholded D, then those
        of the denoiser. Raises ConversionError where its prediction does not determine x0."""
        p, qs = self._numbers(t, channel)
        if channel == "main":
            return 0.0, (1.0, *(0.0 for _ in qs))
        return p, (0.0, *qs)

    def _numbers(self, t: float, channel: str) -> tuple[float, tuple[float, ...]]:
        """Coefficients of the state and the denoiser's raw outputs in its x0."""
        p, qs = read_coefficients(self.denoiser, t, channel)
        a, b = convert(self.denoiser.prediction, "x0", self.schedule.node(t))
        return a + b * p, tuple(b * q for q in qs)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        raws = tuple(read_raws(self.denoiser, x_in, t, cond, channels, to))
        if "main" not in channels:
            return (raws[0], *raws)
        times = host_times(t, x_in.shape[0])
        wide = x_in.to(torch.promote_types(x_in.dtype, torch.float32))
        x = combine([wide], [[1.0 / self.denoiser.input_scale(v) for v in times]])
        numbers = [self._numbers(v, "main") for v in times]
        columns = [[qs[i] for _, qs in numbers] for i in range(len(raws))]
        data = combine([x, *raws], [[p for p, _ in numbers], *columns])
        # the state of a mean-reverting path is x - offset
        shift = 0.0 if self.offset is None else self.offset.to(data)
        return ((self.thresholded(data + shift) - shift).to(x_in.dtype), *raws)

    def thresholded(self, data: Tensor) -> Tensor:
        """Return ``data`` (B, *shape) clipped, in its dtype."""
        if self.mode == "static":
            return data.clamp(-1.0, 1.0)
        bound = absolute_quantile(data, self.quantile).clamp(1.0, self.maximum)
        own = data.to(bound.dtype)
        return (torch.minimum(torch.maximum(own, -bound), bound) / bound).to(data.dtype)

    def __repr__(self) -> str:
        shown = [repr(self.denoiser), repr(self.mode)]
        if self.mode == "dynamic":
            shown.append(f"quantile={self.quantile!r}, maximum={self.maximum!r}")
        return f"Threshold({', '.join(shown)})"


def absolute_quantile(data: Tensor, quantile: float) -> Tensor:
    """Return the quantile of ``|data|`` over the elements of each sample, linear between two
    elements, in float32 or better, (B, 1, ..., 1)."""
    flat = data.reshape(data.shape[0], -1).abs()
    flat = flat.to(torch.promote_types(data.dtype, torch.float32))
    place = quantile * (flat.shape[1] - 1)
    low = math.floor(place)
    top = flat.topk(flat.shape[1] - low, dim=1).values  # the largest first
    found = top[:, -1]
    if place > low:
        found = (1.0 - (place - low)) * found + (place - low) * top[:, -2]
    return found.reshape(-1, *(1,) * (data.ndim - 1))
