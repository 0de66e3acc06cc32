"""The value range of floating point images, and the check that the values of a source are
consistent with it.

Images lie in [-1, 1] by default, as samples do. A source without a value below 0 that lies in
[0, 1], or has values above 1.5, uses another convention, [0, 1] or [0, 255], and is refused unless
``value_range=(low, high)`` is given. The check is on the whole source, since a single bright image
may have no value below 0. Values outside the range are clamped, and their share is reported:
samplers with few steps often go far beyond 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import plain
from ..errors import ScoreError

#: (low, high); None: [-1, 1], with a check of the source
Range = tuple[float, float] | None
SIGNED = (-1.0, 1.0)
#: tolerance for a rounded 0 or 1, and the largest value accepted from bright images in [-1, 1]
ROUNDING, BRIGHT = 1e-3, 1.5


def check_range(given: Any) -> Range:
    """``(low, high)``, or a text such as ``0,255``, as two floats; None stays None. Raises
    ScoreError."""
    if given is None:
        return None
    parts = re.split(r"\s*[,:]\s*|\s+", given.strip(" ()[]")) if isinstance(given, str) else given
    if isinstance(parts, Sequence) and len(parts) == 2:
        try:
            low, high = (
                float(part) if isinstance(part, str) else float(plain(part)) for part in parts
            )
        except (TypeError, ValueError, OverflowError):
            low = high = math.nan
        if (
            math.isfinite(low)
            and math.isfinite(high)
            and low < high
            and not any(isinstance(part, bool) for part in parts)
        ):
            return low, high
    raise ScoreError(
        f"value_range={given!r}: allowed are two numbers, black and white, such as -1,1 or "
        "0,1 or 0,255"
    )


@dataclass(frozen=True)
class Values:
    """Range of floating point images: number of values, number outside the range (clamped),
    smallest and largest value."""

    count: int = 0
    outside: int = 0
    least: float = math.inf
    greatest: float = -math.inf

    @classmethod
    def of(cls, x: Tensor, given: Range = None) -> Values:
        """The range of one batch of finite values."""
        low, high = given or SIGNED
        if not x.numel() or not x.is_floating_point():
            return cls()
        least, greatest = (float(v) for v in torch.aminmax(x))
        outside = 0 if low <= least and greatest <= high else int(((x < low) | (x > high)).sum())
        return cls(x.numel(), outside, least, greatest)

    def __add__(self, other: Values) -> Values:
        both = min(self.least, other.least), max(self.greatest, other.greatest)
        return Values(self.count + other.count, self.outside + other.outside, *both)

    def judge(self, given: Range, name: str = "the images", flag: str = "value_range=") -> None:
        """Raise ScoreError where no range is given and the values of the whole source are not
        consistent with [-1, 1]."""
        if given is not None or not self.count or self.least < -ROUNDING:
            return
        unit = self.greatest <= 1.0 + ROUNDING
        if unit or self.greatest > BRIGHT:
            likely = "0,1" if unit else "0,255"
            raise ScoreError(
                f"{name}: floating point values from {self.least:.6g} to "
                f"{self.greatest:.6g}, none below 0: images in [-1, 1] have some. "
                f"Give the values of black and white: {flag}{_said(likely, flag)}, or "
                f"{flag}{_said('-1,1', flag)} if they are in [-1, 1]"
            )

    @property
    def clamped(self) -> float:
        """Share of values outside the range."""
        return self.outside / self.count if self.count else 0.0

    def to_dict(self, given: Range = None) -> dict[str, Any] | None:
        """As JSON; None without floating point values."""
        if not self.count:
            return None
        return {
            "range": list(given or SIGNED),
            "least": self.least,
            "greatest": self.greatest,
            "clamped": self.clamped,
        }

    def text(self, given: Range = None) -> str:
        """As a sentence; empty where nothing was clamped."""
        low, high = given or SIGNED
        share = f"{100.0 * self.clamped:.2g}" if self.clamped >= 1e-4 else "less than 0.01"
        reach = f"from {self.least:.4g} to {self.greatest:.4g}"
        return (
            f"{share} % of the values ({reach}) lay outside [{low:g}, {high:g}] and were clamped"
            if self.outside
            else ""
        )


def _said(text: str, flag: str) -> str:
    return text if flag.startswith("--") else f"({text.replace(',', ', ')})"
