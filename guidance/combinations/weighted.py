"""``Weighted``, the base class of linear combinations whose weights follow from guidance scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError
from ...models.denoiser import Condition
from .branches import Branch
from .combination import PREDICTION, Combination
from .scales import Scale


class Weighted(Combination):
    """Base class of combinations ``sum_j c_j m_j`` with weights c_j that are functions of guidance
    scales.

    A subclass defines ``shares``. With scales that are numbers or functions of rho the combination
    folds into the solver's step; with a tensor among them it is computed in each call.
    """

    scales: tuple[Scale, ...]

    def __init__(
        self, branches: Sequence[Branch], scales: Sequence[Scale], kind: str | None = None
    ) -> None:
        """``kind``: that in which ``mix`` combines; None: the linear combination folds into the
        step unless a scale is a tensor. Raises ArgumentError if the sizes do not fit."""
        self.scales = tuple(scales)
        if kind is None and any(scale.tensor is not None for scale in self.scales):
            kind = PREDICTION
        super().__init__(branches, kind)
        self.batch = self._batch()

    def _batch(self) -> int | None:
        """The only batch size that branches and scales allow; None for any."""
        size: int | None = self.batch
        for scale in self.scales:
            if scale.batch in (None, 1):
                continue
            if size not in (None, scale.batch):
                raise ArgumentError(
                    f"{scale.name} has {scale.batch} values, the models and conditions are for "
                    f"{size} samples"
                )
            size = scale.batch
        return size

    def shares(self, scales: Sequence[Any]) -> tuple[Any, ...]:
        """Return the weight of each branch, with sum 1, from the values of the scales: numbers, or
        tensors that broadcast against (B, *shape)."""
        raise NotImplementedError

    @override
    def weights(self, t: float) -> tuple[float, ...]:
        return self.shares([scale.at(t) for scale in self.scales])

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        """Return ``sum_j c_j m_j`` in float32 or better."""
        weights = self.shares([scale.column(times, x) for scale in self.scales])
        wide = torch.promote_types(x.dtype, torch.float32)
        made = torch.zeros_like(x, dtype=wide)
        for w, value in zip(weights, values, strict=True):
            made = made + w * value.to(wide)
        return made

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        for scale in self.scales:
            scale.check(batch)
        super().check_cond(cond, batch)

    @override
    def select(self, rows: Tensor) -> Self:
        made = super().select(rows)
        scales = tuple(scale.select(rows) for scale in self.scales)
        if all(a is b for a, b in zip(scales, self.scales, strict=True)):
            return made
        made = made.copied() if made is self else made
        made.scales, made.batch = scales, len(rows)
        return made

    @override
    def parameters(self) -> Iterator[Tensor]:
        """Yield the models' parameters, and the scales that are tensors with a gradient."""
        yield from super().parameters()
        for scale in self.scales:
            if scale.tensor is not None and scale.tensor.requires_grad:
                yield scale.tensor

    def __repr__(self) -> str:
        models = dict.fromkeys(repr(branch.denoiser) for branch in self.branches)
        return f"{type(self).__name__}({', '.join([*models, *self._settings()])})"

    def _settings(self) -> list[str]:
        """The scales and their intervals, as text."""
        spans = [f"interval={s.interval}" for s in self.scales if s.interval is not None]
        return [*map(str, self.scales), *spans]
