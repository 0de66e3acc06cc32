"""The exact denoiser of a finite data set.

Data ``p(x0) = 1/N sum_i delta(x0 - x_i)``. The optimal denoiser is a softmax over the data (Karras
et al. 2022, arXiv 2206.00364, appendix B.3, eq. 57),

    E[x0 | x] = sum_i w_i x_i,    w_i ~ exp(-||x/alpha - x_i||^2 / (2 rho^2)),    rho = sigma/alpha:

the mean of the data at alpha = 0, the nearest point at sigma = 0. Distances are taken directly,
never as ||a||^2 - 2ab + ||b||^2, which loses all digits at small rho.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from ..checks import ArgumentError, tensor
from ..schedules.base import Schedule
from ..schedules.kinds import convert
from .base import labels_like
from .denoiser import Condition, Time, check_kind, host_times
from .exact import Exact, Levels, blend, chosen, deviation, levels, softmax, wide

#: numbers in one float64 block of data, and in one block of distances
BLOCK = 1 << 22


class Empirical(Exact):
    """Denoiser of the points ``data`` on ``schedule``. Memory: blocks of 32 MiB; time: O(B N d).

    ``cond`` (B,) integers restrict each sample to the points of one label, -1 uses all points;
    needs ``labels``.
    """

    def __init__(
        self, data: Tensor, schedule: Schedule, prediction: str = "x0", labels: Tensor | None = None
    ) -> None:
        """Args:
            data: (N, *shape), floating point and finite; kept in its dtype on its device.
            schedule: the noising path.
            prediction: kind of the raw output, any of KINDS.
            labels: (N,) integers; each of 0 .. max must occur.

        Raises ValueError for data or labels of another form.
        """
        tensor("data", data, floating=False)
        if data.ndim < 2 or data.numel() == 0 or not data.is_floating_point():
            raise ArgumentError(
                f"data have shape {tuple(data.shape)}, {data.dtype}; allowed: floating point "
                "(N, *shape), N >= 1"
            )
        if not bool(torch.isfinite(data).all()):
            raise ArgumentError("data must be finite")
        if labels is not None:
            check_labels(labels, data.shape[0])
        super().__init__(schedule, prediction, tuple(data.shape[1:]))
        self.data = data.detach().clone()
        self.labels = None if labels is None else labels.detach().to(data.device, torch.int64)
        self.classes = 0 if labels is None else int(labels.max()) + 1

    def __repr__(self) -> str:
        return (
            f"Empirical(N={self.data.shape[0]}, shape={self.shape}, {self.schedule!r}, "
            f"prediction={self.prediction!r})"
        )

    @cached_property
    def sigma_data(self) -> float | None:  # type: ignore[override]
        """Standard deviation of all points (population variance); None if all are equal."""
        data, dtype = self.data, wide(self.device)
        zero = torch.zeros((), dtype=dtype, device=self.device)
        mean = sum((b.sum(0) for b in self._blocks(dtype, self.device)), zero) / data.shape[0]
        squares = sum(((b - mean).square().sum() for b in self._blocks(dtype, self.device)), zero)
        return deviation(float(squares) / data.numel())

    @override
    def null_cond(self, cond: Condition, batch: int) -> Condition:
        return labels_like(cond, -1, batch, self.device) if self.classes else None

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Device of the data."""
        return self.data.device

    def _blocks(self, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
        """Iterate over the data as (n, d) blocks."""
        flat = self.data.reshape(self.data.shape[0], -1)
        for block in torch.split(flat, max(1, BLOCK // flat.shape[1])):
            yield block.to(device=device, dtype=dtype)

    def _weights(self, flat: Tensor, at: Levels, index: Tensor | None) -> Tensor:
        """Posterior weights ``w_i`` for the states ``flat`` (b, d), (b, N)."""
        start, end = at.alpha == 0.0, at.sigma == 0.0
        alpha = torch.where(start, 1.0, at.alpha)
        rho = torch.where(end, 1.0, at.sigma / alpha)
        y = flat / alpha
        direct = "donot_use_mm_for_euclid_dist"
        squares = torch.cat(
            [
                torch.cdist(y, block, compute_mode=direct) ** 2
                for block in self._blocks(y.dtype, y.device)
            ],
            1,
        )
        if index is not None and self.labels is not None:
            other = (index[:, None] >= 0) & (self.labels.to(y.device) != index[:, None])
            squares = squares.masked_fill(other, math.inf)
        gap = squares - squares.detach().amin(-1, keepdim=True)
        nearest = torch.where(gap == 0.0, 0.0, -math.inf).to(gap)
        anywhere = torch.where(torch.isinf(gap), -math.inf, 0.0).to(gap)
        return softmax(
            torch.where(start, anywhere, torch.where(end, nearest, -gap / (2.0 * rho * rho)))
        )

    def _mean(self, weights: Tensor) -> Tensor:
        """Posterior mean ``sum_i w_i x_i`` (b, d): one product per row and block, on its own copy,
        so that the bits of a row do not depend on other rows."""
        rows: list[Tensor | None] = [None] * weights.shape[0]
        begin = 0
        for block in self._blocks(weights.dtype, weights.device):
            columns = block.t()
            for k, known in enumerate(rows):
                part = torch.mv(columns, weights[k, begin : begin + block.shape[0]].clone())
                rows[k] = part if known is None else known + part
            begin += block.shape[0]
        return torch.stack([row for row in rows if row is not None])

    def predict(self, kind: str, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """Return the exact prediction of ``kind`` at ``x`` (B, *shape) and ``t``, in the dtype of
        ``x``.

        Raises UnknownName for kinds other than KINDS, and ConversionError for kinds other than x0
        at sigma = 0, where eps is not determined.
        """
        if check_kind(kind) != "x0" and not (isinstance(t, Tensor) and t.device.type != "cpu"):
            for v in host_times(t, x.shape[0]):
                convert("x0", kind, self.schedule.node(v))
        flat = self.rows(x)
        at = levels(self.schedule, t, x, kind == "velocity")
        if cond is not None and self.labels is None:
            raise ArgumentError("a condition was given, and this data set has no labels")
        index = chosen(cond, x, self.classes, "labels")
        size = max(1, BLOCK // self.data.shape[0])
        means = [flat[:0]]
        for k in range(0, x.shape[0], size):
            rows = slice(k, k + size)
            part = Levels(*(v if v.shape[0] == 1 else v[rows] for v in at))
            means.append(
                self._mean(self._weights(flat[rows], part, None if index is None else index[rows]))
            )
        x0 = torch.cat(means)
        value = x0 if kind == "x0" else blend(kind, x0, (flat - at.alpha * x0) / at.sigma, at)
        return value.reshape(x.shape).to(x.dtype)


def check_labels(labels: Tensor, count: int) -> None:
    """Raise ValueError unless ``labels`` are ``count`` integers and each of 0 .. max occurs."""
    tensor("labels", labels, floating=False)
    if labels.shape != (count,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ArgumentError(
            f"labels have shape {tuple(labels.shape)}, {labels.dtype}; allowed: ({count},) integers"
        )
    found = torch.unique(labels).tolist()
    if found != list(range(len(found))):
        raise ArgumentError(f"labels are {found}; allowed: each of 0 .. max at least once")
