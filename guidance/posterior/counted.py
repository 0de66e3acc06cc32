"""A model that counts its calls."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from typing_extensions import override

from ...models.base import MAIN
from ...models.denoiser import Condition, Denoiser, Time
from ...models.wrapper import Wrapper
from .counts import Counts


class Counted(Wrapper):
    """The model itself; every call adds 1 to ``counts.network``."""

    same_predictions = True

    def __init__(self, denoiser: Denoiser, counts: Counts) -> None:
        super().__init__(denoiser)
        self.counts = counts

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        self.counts.network += 1
        return super().raws(x_in, t, cond, channels, to)
