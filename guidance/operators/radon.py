"""Line integrals of images: computed tomography."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, integer, number, shown
from .images import image_size
from .operator import Operator

#: iterations for the norm bound
ITERATIONS = 30


class Radon(Operator):
    """Integrals of square images (B, ..., N, N) along parallel lines; y (B, ..., angles,
    detectors). Sparse-view tomography has few angles.

    The line at the angle a and the detector j holds the points (u, v) with ``u cos a + v sin a =
    s_j``; u along a row, v along a column (downwards), both from the middle, in units of the side
    of the image; ``s_j = (j - (detectors - 1) / 2) / N``. A is a sparse matrix: its entries are the
    lengths of the lines within the pixels, and the adjoint is its transpose. There is no pseudo-
    inverse in closed form (filtered back-projection is not one); ``prox`` is solved by conjugate
    gradients.
    """

    def __init__(
        self, size: int, angles: int | Sequence[float], detectors: int | None = None
    ) -> None:
        """Args:
            size: N.
            angles: in radians, or their number, from 0 in equal steps below pi.
            detectors: default: so many that they cover the diagonal, of the parity of N, so that no
                line runs along the edges of pixels at right angles.

        Raises ArgumentError for other arguments.
        """
        self.size = integer("size", size, 1)
        if isinstance(angles, (tuple, list)):
            self.angles = tuple(float(number("angles", a)) for a in angles)
        else:
            count = integer("angles", angles, 1)
            self.angles = tuple(math.pi * i / count for i in range(count))
        if not self.angles:
            raise ArgumentError(f"angles={shown(angles)}: must be at least one")
        cover = self.size + 2 * math.ceil(0.5 * (math.sqrt(2.0) - 1.0) * self.size)
        self.detectors = cover if detectors is None else integer("detectors", detectors, 1)
        self._matrix = self._built()

    @cached_property
    def norm_bound(self) -> float:  # type: ignore[override]
        """A little more than its largest singular value, found at the first use."""
        return _bound(self._matrix)

    def __repr__(self) -> str:
        return f"Radon({self.size}, {len(self.angles)} angles, {self.detectors} detectors)"

    def _built(self) -> Tensor:
        """The sparse matrix (angles detectors, N^2), float64."""
        offsets = torch.arange(self.detectors, dtype=torch.float64)
        offsets = (offsets - 0.5 * (self.detectors - 1)) / self.size
        parts = [crossings(angle, offsets, self.size) for angle in self.angles]
        rows = torch.cat([i * self.detectors + line for i, (line, _, _) in enumerate(parts)])
        pixels, lengths = (torch.cat([part[k] for part in parts]) for k in (1, 2))
        if not lengths.numel():
            raise ArgumentError("no line meets the image")
        shape = (len(self.angles) * self.detectors, self.size**2)
        return _sparse(torch.stack([rows, pixels]), lengths, shape)

    def _times(self, name: str, columns: Tensor, like: Tensor) -> Tensor:
        """The matrix or its transpose times each row of ``columns``."""
        m = self.stored(name, like, lambda: self._matrix if name == "A" else _turned(self._matrix))
        found: Tensor = torch.sparse.mm(m, columns.T).T
        return found

    @override
    def __call__(self, x: Tensor) -> Tensor:
        if image_size(x, self) != (self.size, self.size):
            raise ArgumentError(
                f"{self!r} takes images {self.size} x {self.size}; the samples have shape "
                f"{tuple(x.shape[1:])}"
            )
        lead = x.shape[:-2]
        flat = self._times("A", self.wide(x).reshape(-1, self.size**2), x)
        return flat.reshape(*lead, len(self.angles), self.detectors)

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        lead = y.shape[:-2]
        flat = self._times("A^T", self.wide(y).reshape(-1, self._matrix.shape[0]), y)
        return flat.reshape(*lead, self.size, self.size)


def crossings(angle: float, offsets: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """(line, pixel, length) of every pixel of n x n that a line at ``angle`` crosses; ``offsets``
    of the lines in units of the side (Siddon 1985, Medical Physics 12)."""
    c, s = (0.0 if abs(v) < 1e-12 else v for v in (math.cos(angle), math.sin(angle)))
    edges = torch.linspace(-0.5, 0.5, n + 1, dtype=torch.float64)
    at = offsets[:, None]
    # the point of the line at t is (at c - t s, at s + t c)
    cuts = [(at * c - edges) / s] if s else []
    cuts += [(edges - at * s) / c] if c else []
    t = torch.cat(cuts, 1).clamp(-1.0, 1.0).sort(1).values
    length, middle = t.diff(dim=1), 0.5 * (t[:, 1:] + t[:, :-1])
    column = ((at * c - middle * s + 0.5) * n).floor().long()
    row = ((at * s + middle * c + 0.5) * n).floor().long()
    inside = (length > 1e-12) & (column >= 0) & (column < n) & (row >= 0) & (row < n)
    line = torch.arange(len(offsets))[:, None].expand_as(length)
    return line[inside], (row * n + column)[inside], length[inside]


def _sparse(indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    found: Tensor = torch.sparse_coo_tensor(indices, values, shape, check_invariants=True)
    return found.coalesce()


def _turned(matrix: Tensor) -> Tensor:
    """The transpose."""
    shape = (matrix.shape[1], matrix.shape[0])
    return _sparse(matrix.indices().flip(0), matrix.values(), shape)


def _bound(matrix: Tensor) -> float:
    """A bound of the norm of a matrix without negative entries: ``|A|^2 <= max_i (A^T A v)_i /
    v_i`` for any v > 0 (Collatz and Wielandt), here near the largest singular vector."""
    (rows, columns), lengths = matrix.indices(), matrix.values()

    def product(v: Tensor) -> Tensor:
        y = v.new_zeros(matrix.shape[0]).index_add_(0, rows, lengths * v[columns])
        return torch.zeros_like(v).index_add_(0, columns, lengths * y[rows])

    v = product(lengths.new_ones(matrix.shape[1]))
    seen, bound = v > 0.0, math.inf
    for _ in range(ITERATIONS):
        image = product(v)
        bound = min(bound, float((image[seen] / v[seen]).max()))
        v = image / image.max()
    return math.sqrt(bound) * (1.0 + 1e-12)
