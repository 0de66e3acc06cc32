"""Blurred images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, choice, number
from .boundaries import BOUNDARIES, extend, fold
from .fourier_maps import filtered, hartley
from .images import image_size, plane
from .kernels import gaussian_kernel, motion_kernel
from .operator import Operator
from .separable import Axis, Separable
from .spectrum import CUT, Spectrum

#: the second singular value of a separable kernel, relative to the first
SEPARABLE = 1e-12


class Blur(Operator):
    """Convolution of each channel of images (B, ..., H, W) with one kernel, by fast Fourier
    transforms; y has the size of x.

        y[i, j] = sum_{p, q} kernel[p, q] x[i - p + h // 2, j - q + w // 2]

    A convolution: conv2d of torch takes the flipped kernel. Beyond the border of the image lies,
    by ``boundary``:

    - "circular": its other side. There is a singular value decomposition: s = |F kernel|.
    - "zero": 0. "reflect": the image mirrored at its outermost pixel, as ``pad(mode="reflect")``
      of torch. Kernels that are an outer product, such as Gaussian ones, have a decomposition, made
      for each size at the first use; for others ``prox`` is solved by conjugate gradients and there
      is no pseudo-inverse.
    """

    def __init__(self, kernel: Tensor, boundary: str = "circular", cut: float = CUT) -> None:
        """Args:
            kernel: (h, w), finite, not all 0; the centre is at (h // 2, w // 2).
            boundary: "circular", "zero" or "reflect".
            cut: singular values below this part of the largest count as zero in the pseudo-inverse,
                which divides noise by them; with noise about 0.03.

        Raises ArgumentError for other arguments; a call for images too small to be mirrored.
        """
        self.kernel = plane("kernel", kernel)
        if not bool(self.kernel.any()):
            raise ArgumentError("kernel is 0 everywhere")
        self.boundary = choice("boundary", boundary, BOUNDARIES)
        self.cut = float(number("cut", cut, 0.0, 1.0))
        # the mirrored image counts a pixel up to twice an axis: norm^2 <= (2 2) times
        doubled = 2.0 if self.boundary == "reflect" else 1.0
        self.norm_bound = doubled * float(self.kernel.abs().sum())
        u, s, vt = torch.linalg.svd(self.kernel, full_matrices=False)
        self._axes: Separable | None = None
        if self.boundary != "circular" and (len(s) == 1 or s[1] <= SEPARABLE * s[0]):
            first, second = u[:, 0] * s[0].sqrt(), vt[0] * s[0].sqrt()
            self._axes = Separable(
                self,
                Axis("rows", lambda n: _axis_matrix(first, n, self.boundary)),
                Axis("columns", lambda n: _axis_matrix(second, n, self.boundary)),
            )

    @classmethod
    def gaussian(
        cls, std: float | Sequence[float], size: int | None = None, boundary: str = "circular"
    ) -> Self:
        """A Gaussian kernel: ``std`` in pixels, one number or (vertical, horizontal); ``size`` odd,
        default 2 ceil(3 std) + 1."""
        return cls(gaussian_kernel(std, size), boundary)

    @classmethod
    def motion(
        cls, size: int, intensity: float = 0.5, seed: int = 0, boundary: str = "circular"
    ) -> Self:
        """The path of a shaking camera within (size, size), drawn by ``seed``: ``intensity`` is how
        much it turns, 0 for a straight line; ``size`` odd."""
        return cls(motion_kernel(size, intensity, seed), boundary)

    def __repr__(self) -> str:
        return f"Blur({tuple(self.kernel.shape)}, boundary={self.boundary!r})"

    @property
    def _margins(self) -> tuple[tuple[int, int, int], ...]:
        """(axis, places before, places after) that a convolution reads beyond the image."""
        if self.boundary == "circular":
            return ()
        sizes = zip((-2, -1), self.kernel.shape, strict=True)
        return tuple((axis, n - 1 - n // 2, n // 2) for axis, n in sizes)

    def _transfer(self, size: tuple[int, int], like: Tensor) -> Tensor:
        return self.stored(("transfer", size), like, lambda: self._transferred(*size))

    def _transferred(self, h: int, w: int) -> Tensor:
        """The Fourier transform of the kernel on (h, w) places, complex128."""
        high, broad = self.kernel.shape
        centre = (0, 0) if self._margins else (high // 2, broad // 2)
        rows = (torch.arange(high) - centre[0]) % h
        columns = (torch.arange(broad) - centre[1]) % w
        spread = torch.zeros(h * w, dtype=torch.float64)
        spread.index_add_(0, (rows[:, None] * w + columns).flatten(), self.kernel.flatten())
        found: Tensor = torch.fft.fft2(spread.reshape(h, w))
        return found

    def _checked(self, x: Tensor) -> tuple[int, int]:
        size = image_size(x, self)
        for n, (_, left, right) in zip(size, self._margins, strict=False):
            if self.boundary == "reflect" and max(left, right) >= n:
                raise ArgumentError(
                    f"a kernel {tuple(self.kernel.shape)} needs an image larger than {size[0]} x "
                    f'{size[1]} to be mirrored: use boundary="zero" or "circular"'
                )
        return size

    @override
    def __call__(self, x: Tensor) -> Tensor:
        size, wide = self._checked(x), self.wide(x)
        for axis, left, right in self._margins:
            wide = extend(wide, axis, left, right, self.boundary)
        found: Tensor = filtered(wide, self._transfer((wide.shape[-2], wide.shape[-1]), wide))
        # what the convolution needs to be complete lies before the end
        return found[..., -size[0] :, -size[1] :]

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        wide = self.wide(y)
        for axis, left, right in self._margins:
            wide = extend(wide, axis, left + right, 0, "zero")
        found = filtered(wide, self._transfer((wide.shape[-2], wide.shape[-1]), wide).conj())
        for axis, left, right in self._margins:
            found = fold(found, axis, left, right, self.boundary)
        return found

    @property
    @override
    def svd(self) -> Spectrum | None:
        if self.boundary != "circular":
            return None if self._axes is None else self._axes.spectrum(self.cut)

        def transfer(c: Tensor) -> Tensor:
            return self._transfer((c.shape[-2], c.shape[-1]), c)

        def phase(c: Tensor) -> Tensor:
            return torch.sgn(transfer(c)) + (transfer(c) == 0.0)

        return Spectrum(
            V=hartley,
            Vt=lambda x: hartley(self.wide(x)),
            U=lambda c: filtered(hartley(c), phase(c)),
            Ut=lambda y: hartley(filtered(self.wide(y), phase(self.wide(y)).conj())),
            values=lambda c: transfer(c).abs(),
            onto=True,
            cut=self.cut,
        )


def _axis_matrix(kernel: Tensor, n: int, boundary: str) -> Tensor:
    """The convolution (n, n) of one axis."""
    size = len(kernel)
    unit = torch.eye(n, dtype=torch.float64)
    wide = extend(unit, 0, size - 1 - size // 2, size // 2, boundary)
    return torch.stack([k * wide.narrow(0, size - 1 - q, n) for q, k in enumerate(kernel)]).sum(0)
