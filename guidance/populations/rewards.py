"""Black-box rewards: any callable over a batch of samples, with its errors contained and its cost
counted.

    rewards = Reward(jpeg_size, takes="pil")
    rewards(x0)        # (B,) float64; -inf for a sample that has no reward
    rewards.calls, rewards.rows, rewards.lost
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import ArgumentError, FewstepError, choice, described, integer, shown
from ...checks.answers import short_of_memory
from ...checks.messages import LONGEST
from ...models.exact import wide

#: forms in which a reward gets a batch of samples
FORMS = ("tensor", "numpy", "pil")


class RewardError(FewstepError, ArithmeticError):
    """No sample of a batch has a reward: the function raised or returned NaN for all of them."""


@dataclass(frozen=True)
class Lost:
    """Samples without a reward: how many, and why the first of them has none."""

    count: int = 0
    first: str = ""

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Lost) -> Lost:
        return Lost(self.count + other.count, self.first or other.first)


class Reward:
    """A reward function of samples: a black box that is called without gradients and counted.

    ``rewards(x0)`` with samples (B, *shape) returns one number per sample, (B,), float64 (float32
    on devices without it) on the device of ``x0``. The function gets a copy of the batch, so it may
    write into it.

    A sample for which the function raises an exception, or returns NaN or +inf, is lost: its reward
    is -inf. Where a whole batch raises, the function is called again for each sample alone. -inf
    that the function itself returns is a reward like others.
    """

    def __init__(
        self, function: Callable[[Any], Any], takes: str = "tensor", chunk: int | None = None
    ) -> None:
        """Args:
            function: returns one real number per sample, as a sequence, array or tensor (B,).
            takes: what the function gets: "tensor" (B, *shape); "numpy", the same as an array of
                the same dtype (float32 for bfloat16); "pil", a list of B pictures, for samples
                (1 or 3, h, w) in [-1, 1]; values outside are clipped.
            chunk: largest number of samples of one call; None: all samples of a batch.

        Raises ArgumentError for other arguments. A call raises ArgumentError where the function
        returns another number of values, or values that are no real numbers; RewardError where all
        samples are lost, with the first error.
        """
        if not callable(function):
            raise ArgumentError(
                f"reward={shown(function)}: must be a function of a batch of samples"
            )
        self.function = function
        self.takes = choice("takes", takes, FORMS)
        self.chunk = None if chunk is None else integer("chunk", chunk, 1)
        #: calls of the function
        self.calls = 0
        #: samples that the function was given, over all calls
        self.rows = 0
        #: samples that have no reward, over all calls
        self.lost = Lost()

    @classmethod
    def of(cls, reward: Any) -> Reward:
        """Return ``reward`` itself if it is a Reward, else ``Reward(reward)``."""
        return reward if isinstance(reward, Reward) else cls(reward)

    @property
    def name(self) -> str:
        """Name of the function, for messages."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise ArgumentError if samples of this shape (without the batch) cannot be passed to the
        function."""
        if self.takes == "pil" and (len(shape) != 3 or shape[0] not in (1, 3)):
            raise ArgumentError(
                f"samples of shape {tuple(shape)} with takes='pil': pictures are (1, h, w) or "
                "(3, h, w); allowed for other shapes are 'tensor' and 'numpy'"
            )

    def __call__(self, x0: Tensor) -> Tensor:
        """Return the rewards (B,) of the samples ``x0`` (B, *shape). Waits for the device once."""
        self.check_shape(x0.shape[1:])
        size = self.chunk or max(1, len(x0))
        with torch.no_grad():
            data = x0.detach()
            parts = [self._rated(data[i : i + size]) for i in range(0, max(1, len(data)), size)]
        lost = sum((lost for _, lost in parts), Lost())
        self.lost = self.lost + lost
        if lost and lost.count == len(x0):
            raise RewardError(f"no sample has a reward, {lost.count} of {lost.count}: {lost.first}")
        return torch.cat([values for values, _ in parts]).to(wide(x0.device)).to(x0.device)

    def differentiable(self, x0: Tensor) -> Tensor:
        """The rewards (B,) of the samples ``x0`` with their graph for autograd, counted. Errors of
        the function are not contained. Raises ArgumentError for a reward that takes no tensors, and
        for another number of values."""
        if self.takes != "tensor":
            raise ArgumentError(
                f"takes={self.takes!r}: only a reward of tensors has a gradient, takes='tensor'"
            )
        self.calls += 1
        self.rows += len(x0)
        found = self.function(x0)
        if not isinstance(found, Tensor) or found.is_complex() or found.shape != (len(x0),):
            raise ArgumentError(
                f"{self.name} returned {described(found)}; a reward with a gradient must be a "
                f"tensor of real numbers ({len(x0)},)"
            )
        return found

    def _rated(self, x0: Tensor) -> tuple[Tensor, Lost]:
        """Rewards of one chunk (float64, on the CPU), and what was lost."""
        try:
            answer = self._answer(x0)
        except Exception as error:
            if short_of_memory(error):
                raise
            if len(x0) > 1:
                return self._one_by_one(x0)
            why = (str(error).splitlines() or [""])[0][:LONGEST]
            text = f"{self.name} raised {type(error).__name__}{': ' * bool(why)}{why}"
            return torch.full((len(x0),), -math.inf, dtype=torch.float64), Lost(len(x0), text)
        values = self._numbers(answer, len(x0))
        bad = torch.isnan(values) | (values == math.inf)
        count = int(bad.sum())
        first = f"{self.name} returned {float(values[bad][0])}" if count else ""
        return values.masked_fill(bad, -math.inf), Lost(count, first)

    def _one_by_one(self, x0: Tensor) -> tuple[Tensor, Lost]:
        """Rewards of one chunk, each sample by a call of its own."""
        parts = [self._rated(x0[i : i + 1]) for i in range(len(x0))]
        return torch.cat([values for values, _ in parts]), sum((p for _, p in parts), Lost())

    def _answer(self, x0: Tensor) -> Any:
        """One call of the function, counted."""
        given = _given(x0, self.takes)
        self.calls += 1
        self.rows += len(x0)
        return self.function(given)

    def _numbers(self, answer: Any, count: int) -> Tensor:
        """An answer as float64 (count,) on the CPU. Raises ArgumentError for another number of
        values and for other types."""
        found = answer if isinstance(answer, Tensor) else _as_tensor(answer)
        if found is None or found.is_complex() or found.shape != (count,):
            what = described(answer if found is None else found)
            raise ArgumentError(
                f"{self.name} returned {what}; a reward must be one real number for each of the "
                f"{count} samples, a sequence or tensor of shape ({count},)"
            )
        return found.detach().cpu().to(torch.float64)

    def __repr__(self) -> str:
        return f"Reward({self.name}, takes={self.takes!r}, chunk={self.chunk})"


def _as_tensor(answer: Any) -> Tensor | None:
    """An answer that is no tensor, as one; None if it cannot be."""
    try:
        if isinstance(answer, np.ndarray):
            return torch.as_tensor(answer)
        listed = [v.item() if isinstance(v, Tensor) else v for v in answer]
        return torch.as_tensor(np.asarray(listed))
    except (TypeError, ValueError, RuntimeError):
        return None


def _given(x0: Tensor, takes: str) -> Any:
    """A copy of the samples in the form that the function takes."""
    if takes == "tensor":
        return x0.clone()
    host = x0.to("cpu", torch.float32 if x0.dtype == torch.bfloat16 else x0.dtype, copy=True)
    return host.numpy() if takes == "numpy" else [_picture(row) for row in host]


def _picture(x: Tensor) -> Any:
    """A sample (1 or 3, h, w) in [-1, 1] as a grey or RGB picture, 0 to 255 by rounding. Raises
    ArgumentError for NaN."""
    from PIL import Image

    scaled = (x.to(torch.float64) + 1.0) * 127.5
    if bool(torch.isnan(scaled).any()):
        raise ArgumentError("the sample contains NaN")
    pixels = scaled.clamp(0.0, 255.0).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
