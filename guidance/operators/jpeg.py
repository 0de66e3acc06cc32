"""Images after JPEG compression."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, integer
from .images import image_size
from .operator import Operator
from .rounding import gradient_of, rounded

SUBSAMPLING = ("4:4:4", "4:2:0")
#: quantisation tables of luminance and chrominance at quality 50 (ITU-T T.81, annex K)
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


class JPEG(Operator):
    """Images in [-1, 1], grey (B, 1, H, W) or coloured (B, 3, H, W), after the lossy part of JPEG
    at a quality: blocks of 8 x 8 cosine coefficients rounded to multiples of a table, which depends
    on the quality as in libjpeg; y has the shape of x.

    Colours are rounded as luminance and chrominance; with "4:2:0" chrominance is averaged over 2 x
    2 pixels and repeated. Pixels are neither rounded to integers nor clipped, so that ``A A = A``:
    ``pinverse`` is the identity. Not linear. The derivative of rounding is 0 almost everywhere:
    "straight-through" takes it for the identity, which is no derivative of A; with "none" methods
    that differentiate A refuse it.
    """

    linear = False

    def __init__(
        self, quality: int, subsampling: str = "4:4:4", gradient: str = "straight-through"
    ) -> None:
        """``quality``: 1 to 100; ``subsampling``: "4:4:4" or "4:2:0", of coloured images;
        ``gradient``: "straight-through" or "none". H and W are multiples of 8, with "4:2:0" of 16.
        Raises ArgumentError otherwise."""
        self.quality = integer("quality", quality, 1, 100)
        self.subsampling = choice("subsampling", subsampling, SUBSAMPLING)
        self.gradient = gradient_of(gradient)
        self.differentiable = self.gradient != "none"

    def __repr__(self) -> str:
        return f"JPEG({self.quality}, {self.subsampling!r}, {self.gradient!r})"

    def table(self, base: tuple[tuple[int, ...], ...]) -> Tensor:
        """The steps (8, 8) of the coefficients at this quality."""
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        given = torch.tensor(base, dtype=torch.int64)
        return ((given * scale + 50) // 100).clamp(1, 255).to(torch.float64)

    def _rounded(self, plane: Tensor, name: str, base: tuple[tuple[int, ...], ...]) -> Tensor:
        """Levels (B, H, W) after the rounding of their coefficients."""
        batch, h, w = plane.shape
        c, table = (
            self.stored("dct", plane, dct_matrix),
            self.stored(name, plane, lambda: self.table(base)),
        )
        blocks = plane.reshape(batch, h // 8, 8, w // 8, 8).transpose(2, 3)
        found = c.T @ (rounded(c @ blocks @ c.T / table) * table) @ c
        return found.transpose(2, 3).reshape(batch, h, w)

    @override
    def __call__(self, x: Tensor) -> Tensor:
        size, multiple = image_size(x, self), 16 if self.subsampling == "4:2:0" else 8
        if x.ndim != 4 or x.shape[1] not in (1, 3) or any(n % multiple for n in size):
            raise ArgumentError(
                f"{self!r} takes grey or coloured images (1 or 3, H, W), H and W multiples of "
                f"{multiple}; the samples have shape {tuple(x.shape[1:])}"
            )
        levels = 127.5 * (self.wide(x if self.differentiable else x.detach()) + 1.0)
        if x.shape[1] == 1:
            grey = self._rounded(levels[:, 0] - 128.0, "luminance", LUMINANCE) + 128.0
            return grey[:, None] / 127.5 - 1.0
        mix = self.stored("ycc", x, colour_matrix)
        y, cb, cr = torch.einsum("ij,bjhw->ibhw", mix, levels).unbind(0)
        y = self._rounded(y - 128.0, "luminance", LUMINANCE) + 128.0
        cb, cr = (self._chroma(plane) for plane in (cb, cr))
        back = self.stored("rgb", x, lambda: torch.linalg.inv(colour_matrix()))
        return torch.einsum("ij,jbhw->bihw", back, torch.stack([y, cb, cr])) / 127.5 - 1.0

    def _chroma(self, plane: Tensor) -> Tensor:
        if self.subsampling == "4:4:4":
            return self._rounded(plane, "chrominance", CHROMINANCE)
        batch, h, w = plane.shape
        small = plane.reshape(batch, h // 2, 2, w // 2, 2).mean((2, 4))
        small = self._rounded(small, "chrominance", CHROMINANCE)
        return small.repeat_interleave(2, 1).repeat_interleave(2, 2)

    @override
    def pinverse(self, y: Tensor) -> Tensor:
        return self.wide(y)


def dct_matrix() -> Tensor:
    """The orthonormal cosine transform of 8 numbers, float64."""
    place = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8.0 * place[:, None] * (place + 0.5)) * 0.5
    matrix[0] /= math.sqrt(2.0)
    return matrix


def colour_matrix() -> Tensor:
    """From red, green, blue to luminance and two chrominances around 0 (JFIF), float64."""
    luminance = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    blue, red = torch.eye(3, dtype=torch.float64)[[2, 0]]
    return torch.stack([luminance, (blue - luminance) / 1.772, (red - luminance) / 1.402])
