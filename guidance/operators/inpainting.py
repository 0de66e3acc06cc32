"""Observation of some of the elements."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, tensor
from .masks import box_mask, half_mask, random_mask
from .operator import Operator
from .spectrum import Spectrum, same


class Inpaint(Operator):
    """``A(x) = mask * x``, zero-filled: ``y`` has the shape of a sample, with 0 where nothing is
    observed. ``A^T = A^+ = A``; ``A A^T`` is the identity on what is observed.

    ``prox(x, y, rho) = (mask y + rho x) / (mask + rho)``.
    """

    norm_bound = 1.0

    def __init__(self, mask: Tensor) -> None:
        """``mask``: True or 1 where the sample is observed; it broadcasts against a sample (*shape)
        (one channel for all channels), or against a batch (B, *shape), with a mask for each sample.

        Raises ArgumentError for values other than 0 and 1, and a mask that observes nothing.
        """
        given = tensor("mask", mask, axes=1, floating=False)
        if given.dtype != torch.bool and not bool(((given == 0) | (given == 1)).all()):
            raise ArgumentError("mask must hold True and False, or 0 and 1")
        self.mask = given.detach().to(torch.bool)
        if not bool(self.mask.any()):
            raise ArgumentError("mask observes nothing: all of it is 0")
        self._rows: Tensor | None = None

    @classmethod
    def box(
        cls, size: Sequence[int], box: int | Sequence[int], at: Sequence[int] | None = None
    ) -> Self:
        """A box is hidden. ``size``: (H, W) of the images; ``box``: its height and width, or one
        number for both; ``at``: (row, column) of its first corner, default in the middle."""
        return cls(box_mask(size, box, at))

    @classmethod
    def random(cls, size: Sequence[int], keep: float, seed: int = 0) -> Self:
        """A share ``keep`` of the places (*size) is observed, chosen by ``seed``, the same in all
        channels; 0 < keep <= 1, and at least one place."""
        return cls(random_mask(size, keep, seed))

    @classmethod
    def half(cls, size: Sequence[int], keep: str = "left") -> Self:
        """One half is observed: "left", "right", "top" or "bottom" of images (H, W) = ``size``; of
        an odd number the smaller half."""
        return cls(half_mask(size, keep))

    def __repr__(self) -> str:
        return f"Inpaint({int(self.mask.sum())} of {self.mask.numel()})"

    def _kept(self, x: Tensor) -> Tensor:
        mask = self.mask.to(x.device)
        if mask.ndim == x.ndim and mask.shape[0] > 1 and self._rows is not None:
            mask = mask.index_select(0, self._rows.to(x.device))
        sizes = zip(reversed(mask.shape), reversed(x.shape), strict=False)
        if mask.ndim > x.ndim or any(m not in (1, n) for m, n in sizes):
            raise ArgumentError(
                f"the mask {tuple(mask.shape)} does not fit samples of shape {tuple(x.shape[1:])} "
                f"in a batch of {x.shape[0]}"
            )
        return mask

    @override
    def __call__(self, x: Tensor) -> Tensor:
        return self.zero_filled(self.wide(x))

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)

    @override
    def pinverse(self, y: Tensor) -> Tensor:
        return self(y)

    @property
    @override
    def svd(self) -> Spectrum:
        return Spectrum(same, same, same, same, lambda c: self._kept(c).to(c.dtype), onto=True)

    @override
    def samples(self, shape: Sequence[int]) -> int | None:
        count = len(self.mask if self._rows is None else self._rows)
        return count if self.mask.ndim == len(shape) + 1 and self.mask.shape[0] > 1 else None

    @override
    def zero_filled(self, y: Tensor) -> Tensor:
        return torch.where(self._kept(y), y, 0.0)

    @override
    def select(self, rows: Tensor) -> Self:
        if self.mask.shape[0] == 1:
            return self
        made = copy(self)
        rows = rows.to(self.mask.device)
        made._rows = rows if self._rows is None else self._rows.to(rows.device)[rows]
        return made
