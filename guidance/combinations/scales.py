"""The guidance scale w: a number, one per sample, or a function of the noise level, in an interval
of noise levels.

    w(t) = scale(rho(t))    if lo < rho(t) <= hi, rho = sigma / alpha
    w(t) = 1                elsewhere: the conditional prediction alone (0 for scales of an added
                            term, whose neutral value is 0)

(the interval: Kynkaanniemi et al. 2024, arXiv 2404.07724, section 3). w = 1 is the conditional
prediction in all of fewstep; other programs count w - 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, is_finite, number, plain, shown, tensor
from ...models.denoiser import per_sample
from ...schedules.base import Schedule
from .levels import Levels

#: shapes of ``Ramp``, as the share g(u) of ``scale - 1``
RAMPS: dict[str, Callable[[float, float], float]] = {
    "linear": lambda u, power: 2.0 * u,
    "linear_down": lambda u, power: 2.0 * (1.0 - u),
    "cosine": lambda u, power: 1.0 - math.cos(math.pi * u),
    "cosine_down": lambda u, power: 1.0 + math.cos(math.pi * u),
    "power_cosine": lambda u, power: 0.5 * (1.0 - math.cos(math.pi * u**power)),
}


@dataclass(frozen=True)
class Ramp:
    """A guidance scale that changes with the noise level (Wang et al. 2024, arXiv 2404.13040).

    ``w = 1 + (scale - 1) g(u)`` with ``u = 1 / (1 + rho)``, 0 for noise and 1 for data; on the
    straight path u = 1 - t. ``g`` by ``shape``:

        linear          2 u
        linear_down     2 (1 - u)
        cosine          1 - cos(pi u)
        cosine_down     1 + cos(pi u)
        power_cosine    (1 - cos(pi u^power)) / 2, whose largest value is 1

    The mean of the first four over u is that of the constant scale. ``power`` applies to
    ``power_cosine`` only; ArgumentError if it is given for another shape.
    """

    shape: str
    scale: float
    power: float = 1.0

    def __post_init__(self) -> None:
        choice("shape", self.shape, RAMPS)
        number("scale", self.scale)
        if number("power", self.power, 1e-3, 1e3) != 1.0 and self.shape != "power_cosine":
            raise ArgumentError(
                f"power={self.power!r} with shape={self.shape!r}: allowed with 'power_cosine' only"
            )

    def __call__(self, rho: float) -> float:
        """Return w at ``rho = sigma / alpha``."""
        return 1.0 + (self.scale - 1.0) * RAMPS[self.shape](1.0 / (1.0 + rho), self.power)


@dataclass(frozen=True, eq=False)
class Scale:
    """A guidance scale on a schedule; made by ``scale_of``.

    ``value``: a number or a function of rho; ``tensor``: a scale for each sample, (B,), or what has
    a gradient: one scale, (), or those of ``Levels``, (K,); ``interval``: (lo, hi) in rho, or None;
    ``outside``: the value outside it.
    """

    schedule: Schedule
    value: float | Callable[[float], float]
    tensor: Tensor | None
    interval: tuple[float, float] | None
    name: str = "scale"
    outside: float = 1.0
    _placed: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict)

    @property
    def batch(self) -> int | None:
        """Number of samples that a scale per sample is for; None for other scales."""
        return None if self.tensor is None or self.tensor.ndim == 0 else self.tensor.shape[0]

    def inside(self, t: float) -> bool:
        """Whether ``t`` is in the interval."""
        if self.interval is None:
            return True
        low, high = self.interval
        return low < float(self.schedule.rho(t)) <= high

    def at(self, t: float) -> float:
        """Return w at ``t``; of a tensor NaN, because w is no number then. Raises ArgumentError if
        the function returns no finite number."""
        if not self.inside(t):
            return self.outside
        if self.tensor is not None:
            return math.nan
        if not callable(self.value):
            return self.value
        rho = float(self.schedule.rho(t))
        found = plain(self.value(rho))
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not is_finite(found):
            raise ArgumentError(
                f"{self.name}(rho={rho:.6g}) returned {shown(found)}: it must return a finite "
                "number"
            )
        return float(found)

    def needed(self, t: float) -> bool:
        """Whether w differs from its value outside the interval at ``t``."""
        return self.at(t) != self.outside

    def column(self, times: Sequence[float], like: Tensor) -> Tensor:
        """Return w at ``times`` (one or B) in float32 or better, to be multiplied with ``like``
        (B, *shape)."""
        wide = torch.promote_types(like.dtype, torch.float32)
        if self.tensor is None:
            return per_sample([self.at(t) for t in times], like, wide)
        own = self._values(times, like.device, wide).reshape(-1, *(1,) * (like.ndim - 1))
        inside = [self.inside(t) for t in times]
        if all(inside):
            return own
        mask = per_sample([float(i) for i in inside], like, wide) > 0.0
        return torch.where(mask, own, self.outside)

    def _values(self, times: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
        """The tensor on a device, moved once; one with a gradient at each call."""
        assert self.tensor is not None
        if self.tensor.requires_grad:
            return self.tensor.to(device, dtype)
        if (device, dtype) not in self._placed:
            self._placed[device, dtype] = self.tensor.to(device, dtype)
        return self._placed[device, dtype]

    def select(self, rows: Tensor) -> Scale:
        """Return the scale for the samples ``rows`` (integers)."""
        if self.batch in (None, 1) or self.tensor is None:
            return self
        return replace(self, tensor=self.tensor[rows.to(self.tensor.device)], _placed={})

    def check(self, batch: int) -> None:
        """Raise ArgumentError if a scale per sample has another size than ``batch``."""
        if self.batch not in (None, 1, batch):
            raise ArgumentError(
                f"{self.name} has {self.batch} values for {batch} samples: allowed are a number, a "
                f"function of rho, () and ({batch},)"
            )

    def __str__(self) -> str:
        if self.tensor is not None:
            return f"{self.name}=tensor{tuple(self.tensor.shape)}"
        return f"{self.name}={self.value!r}"


class TrainedScale(Scale):
    """A scale that is ``Levels`` with a gradient."""

    @property
    @override
    def batch(self) -> None:
        return None

    @override
    def _values(self, times: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
        assert isinstance(self.value, Levels)
        made = [self.value.value(float(self.schedule.rho(t))) for t in times]
        return torch.stack(made).to(device, dtype)


def scale_of(
    value: Any,
    schedule: Schedule,
    interval: Sequence[float] | None = None,
    name: str = "scale",
    outside: float = 1.0,
) -> Scale:
    """Return the scale: a number, a tensor () or (B,), ``Levels``, or a function of
    ``rho = sigma / alpha`` that returns a number. A tensor () without a gradient is the same as a
    number. ``outside``: its value outside the interval.

    Raises ArgumentError for NaN, infinities, other types and shapes, and for an ``interval`` that
    is not (lo, hi) with 0 <= lo <= hi.
    """
    span = None if interval is None else _interval(interval)
    if isinstance(value, Tensor):
        tensor(name, value, meta=True)
        if value.ndim > 1 or value.numel() == 0:
            raise ArgumentError(
                f"{name} has shape {tuple(value.shape)}; allowed: () or (B,), one per sample"
            )
        if not value.is_meta and not bool(torch.isfinite(value).all()):
            raise ArgumentError(f"{name}={shown(value.tolist())}: must be finite")
        if value.ndim or value.requires_grad:
            return Scale(schedule, math.nan, value, span, name, outside)
        value = value.item()
    if isinstance(value, Levels) and value.scales.requires_grad:
        return TrainedScale(schedule, value, value.scales, span, name, outside)
    if callable(value) and not isinstance(value, type):
        return Scale(schedule, value, None, span, name, outside)
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not is_finite(found):
        raise ArgumentError(
            f"{name}={shown(value)}: must be a finite number, a tensor () or (B,), or a function "
            "of rho = sigma / alpha"
        )
    return Scale(schedule, float(found), None, span, name, outside)


def _interval(given: Sequence[float]) -> tuple[float, float]:
    """Return ``(lo, hi)`` in rho; hi may be infinite."""
    try:
        low, high = (plain(v) for v in given)
        fits = 0.0 <= low <= high and low < math.inf
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ArgumentError(
            f"interval={shown(given)}: must be (lo, hi) with 0 <= lo <= hi, noise levels "
            "rho = sigma / alpha"
        )
    return float(low), float(high)
