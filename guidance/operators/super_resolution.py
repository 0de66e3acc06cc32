"""Small versions of images."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, integer
from .images import image_size
from .operator import Operator
from .separable import Axis, Separable
from .spectrum import CUT, Spectrum, same

KERNELS = ("average", "bicubic")


class SuperResolution(Operator):
    """Images (B, ..., H, W) made ``factor`` times smaller in height and width.

    ``average``: means of blocks, ``A A^T = I / factor^2``; all singular values are 1 / factor.
    ``bicubic``: Keys' cubic with a = -1/2, its support stretched by the factor, weights cut at the
    border and normed there: that of Pillow and of torch's ``interpolate(antialias=True)``, not that
    of ``antialias=False`` (a = -3/4, no stretching), nor one that mirrors the border. A matrix for
    each axis, whose decompositions are made at the first use.
    """

    def __init__(self, factor: int, kernel: str = "average") -> None:
        """``factor``: an integer >= 2, a divisor of H and W; ``kernel``: "average" or "bicubic".
        A call raises ArgumentError for other sizes."""
        self.factor = integer("factor", factor, 2)
        self.kernel = choice("kernel", kernel, KERNELS)
        self.norm_bound = 1.0 / self.factor
        self._axes: Separable | None = None
        if self.kernel == "bicubic":
            build = Axis("axis", lambda n: bicubic_matrix(n, self.factor), self.factor)
            self._axes = Separable(self, build, build)
            # row sum times column sum of one axis, for two axes; 8 places have all kinds of them
            sums = bicubic_matrix(8, self.factor).abs()
            self.norm_bound = float(sums.sum(1).max() * sums.sum(0).max())

    def __repr__(self) -> str:
        return f"SuperResolution({self.factor}, kernel={self.kernel!r})"

    def _checked(self, x: Tensor) -> Tensor:
        h, w = image_size(x, self)
        if h % self.factor or w % self.factor:
            raise ArgumentError(f"factor={self.factor} does not divide the size {h} x {w}")
        return self.wide(x)

    @override
    def __call__(self, x: Tensor) -> Tensor:
        wide, f = self._checked(x), self.factor
        if self._axes is not None:
            return self._axes.forward(wide)
        h, w = wide.shape[-2:]
        return wide.reshape(*wide.shape[:-2], h // f, f, w // f, f).mean((-3, -1))

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        if self._axes is not None:
            return self._axes.adjoint(y)
        return self._spread(y) / self.factor**2

    def _spread(self, y: Tensor) -> Tensor:
        wide = self.wide(y)
        return wide.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)

    @property
    @override
    def svd(self) -> Spectrum:
        if self._axes is not None:
            return self._axes.spectrum(CUT)
        f = self.factor
        return Spectrum(
            V=lambda c: self._spread(c) / f,
            Vt=lambda x: self(x) * f,
            U=same,
            Ut=self.wide,
            values=lambda c: torch.full_like(c[:1], 1.0 / f),
            onto=True,
        )


def bicubic_matrix(n: int, factor: int) -> Tensor:
    """The weights (n, n factor) of one axis, float64; each row adds up to 1."""
    size = n * factor
    centre = (torch.arange(n, dtype=torch.float64)[:, None] + 0.5) * factor
    place = torch.arange(size, dtype=torch.float64)[None] + 0.5
    t = ((place - centre) / factor).abs()
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    weights = torch.where(t < 1.0, near, torch.where(t < 2.0, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
