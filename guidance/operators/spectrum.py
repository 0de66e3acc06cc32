"""``Spectrum``, the singular value decomposition of a forward model, and what it solves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

#: singular values below this part of the largest count as zero
CUT = 1e-12


@dataclass(frozen=True)
class Spectrum:
    """``A = U diag(s) V^T``, with maps in the place of matrices.

    ``Vt`` maps samples (B, *shape) to coordinates c (B, *coords), ``V`` back; ``Ut`` maps
    measurements (B, *measured) to such coordinates, ``U`` back. ``V^T V = I`` and ``U^T U = I``;
    there may be fewer coordinates than elements of a sample: the rest, ``x - V V^T x``, is not
    measured, nor are coordinates with s = 0. Any shape and dtype that the operator takes.

    Attributes:
        values: s >= 0 for given coordinates c: on their device, in their dtype, and of a shape that
            broadcasts against them.
        onto: whether ``U U^T = I``: every measurement is in the range of U.
        cut: singular values below this part of the largest count as zero in what follows.
    """

    V: Map
    Vt: Map
    U: Map
    Ut: Map
    values: Map
    onto: bool = False
    cut: float = CUT

    def kept(self, c: Tensor) -> Tensor:
        """``values(c)``, with 0 for those that count as zero."""
        s = self.values(c)
        return torch.where(s > self.cut * s.amax(), s, 0.0)

    def pinverse(self, y: Tensor) -> Tensor:
        """``A^+ y = V s^+ U^T y``."""
        c = self.Ut(y)
        s = self.kept(c)
        return self.V(torch.where(s > 0.0, c / torch.where(s > 0.0, s, 1.0), 0.0))

    def gram_solve(self, y: Tensor, scale: Tensor | float, shift: float) -> Tensor:
        """``(scale A A^T + shift)^+ y``; ``scale``: a number, or (B, 1, ..., 1) of any number of
        axes."""
        c = self.Ut(y)
        own = scale.reshape(-1, *(1,) * (c.ndim - 1)).to(c) if isinstance(scale, Tensor) else scale
        s = self.kept(c)
        inside = own * s * s + shift
        part = torch.where(inside > 0.0, c / torch.where(inside > 0.0, inside, 1.0), 0.0)
        found = self.U(part)
        if not shift or self.onto:
            return found
        # outside of the range of U only the shift acts
        return found + (y - self.U(c)) / shift


def same(x: Tensor) -> Tensor:
    """The identity map."""
    return x


def largest(spectrum: Spectrum, x: Tensor) -> float:
    """The largest singular value for samples shaped like ``x`` (B, *shape)."""
    return float(spectrum.values(spectrum.Vt(x)).amax())
