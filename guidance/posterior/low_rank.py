"""Covariances of low rank, plus independent variances in what is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, integer, shown, tensor

#: up to this number of samples or elements the directions are those of a full decomposition
EXACT = 1024


@dataclass(frozen=True, eq=False)
class LowRank:
    """``Sigma = sum_i v_i b_i b_i^T + R (1 - P)``: orthonormal directions b_i with variances v_i,
    and in the complement of their span, with the projection P, the variance R of each region of a
    sample (a channel, where it is made of samples).

    Attributes:
        basis: b, (r, *shape), orthonormal.
        variances: v, (r,), > 0.
        rest: R, (K,), >= 0; one region: a number of a sample's elements all alike.
        span: (r, *shape), orthonormal directions with the same span as ``basis``, each inside of
            one region; None for one region.
        regions: (K, *shape) of 0 and 1, one 1 for each element; None for one region.
    """

    basis: Tensor
    variances: Tensor
    rest: tuple[float, ...]
    span: Tensor | None = None
    regions: Tensor | None = None

    def __post_init__(self) -> None:
        tensor("basis", self.basis, axes=2)
        tensor("variances", self.variances, axes=1)
        if self.variances.shape != self.basis.shape[:1] or not bool((self.variances > 0.0).all()):
            raise ArgumentError(
                f"{tuple(self.basis.shape)} directions and {shown(tuple(self.variances.shape))} "
                "variances: must be one each, > 0"
            )
        count = 1 if self.regions is None else len(self.regions)
        if len(self.rest) != count or not all(0.0 <= v < math.inf for v in self.rest):
            raise ArgumentError(f"rest={self.rest}: must be {count} numbers >= 0, one a region")

    @classmethod
    def from_samples(cls, x: Tensor, rank: int | None = None) -> LowRank:
        """The covariance of samples x (n, *shape), n >= 2: the ``rank`` leading directions of each
        channel (all elements, if a sample has one axis), the covariance of their coefficients over
        all channels, and the mean variance of each channel in what is left.

        ``rank``: at most 512 by default. With more than 1024 samples and elements the directions
        are those of three steps of subspace iteration.
        """
        given = tensor("x", x, axes=2).detach()
        if len(given) < 2 or not bool(torch.isfinite(given).all()):
            raise ArgumentError(f"x must hold at least 2 finite samples, got {len(given)}")
        channels = given.shape[1] if given.ndim > 2 else 1
        away = (given - given.mean(0)).reshape(len(given), channels, -1) / math.sqrt(len(given) - 1)
        most = min(len(given) - 1, away.shape[2])
        rank = min(most, 512) if rank is None else integer("rank", rank, 1, most)
        blocks, rest = [], []
        for part in away.unbind(1):
            own = _directions(part, rank)
            left = part.square().sum(dtype=torch.float64) - (part @ own.T).square().sum()
            rest.append(max(float(left), 0.0) / max(part.shape[1] - len(own), 1))
            blocks.append(own)
        span = _placed(blocks, away)
        scores = away.flatten(1) @ span.T
        values, turn = torch.linalg.eigh((scores.T @ scores).double())
        values = values.clamp_min(1e-12 * float(values[-1]))
        basis = (turn.T.to(span) @ span).reshape(-1, *given.shape[1:])
        one = channels == 1
        regions = torch.eye(channels).to(away)[:, :, None].expand(-1, -1, away.shape[2])
        return cls(
            basis,
            values.to(away),
            tuple(rest),
            None if one else span.reshape(basis.shape),
            None if one else regions.reshape(channels, *given.shape[1:]),
        )

    @classmethod
    def of(cls, covariance: Tensor, shape: tuple[int, ...]) -> LowRank:
        """A full covariance (d, d), or variances (*shape). Raises ArgumentError for another
        shape."""
        size = math.prod(shape)
        given = tensor("covariance", covariance, axes=1).detach()
        if tuple(given.shape) == shape:
            given = torch.diag(given.reshape(-1))
        if tuple(given.shape) != (size, size):
            raise ArgumentError(
                f"covariance has shape {tuple(given.shape)}; allowed are {(size, size)} and {shape}"
            )
        values, vectors = torch.linalg.eigh(given.to(torch.float64))
        keep = values > 1e-14 * values[-1]
        return cls(vectors.T[keep].reshape(-1, *shape), values[keep], (0.0,))


def _directions(part: Tensor, rank: int) -> Tensor:
    """``rank`` leading orthonormal directions (rank, d) of the rows of ``part`` (n, d)."""
    if min(part.shape) <= EXACT:
        _, values, rows = torch.linalg.svd(part, full_matrices=False)
        keep = values[:rank] > 1e-7 * values[0]
        exact: Tensor = rows[:rank][keep]
        return exact
    draw = torch.Generator().manual_seed(0)
    width = min(rank + 16, *part.shape)
    found = torch.randn(part.shape[1], width, generator=draw, dtype=part.dtype).to(part.device)
    for _ in range(3):
        found = torch.linalg.qr(part.T @ (part @ found))[0]
    _, _, turn = torch.linalg.svd(part @ found, full_matrices=False)
    leading: Tensor = (turn @ found.T)[:rank]
    return leading


def _placed(blocks: list[Tensor], away: Tensor) -> Tensor:
    """The directions of each channel as directions of whole samples, (r, d)."""
    made = [
        torch.nn.functional.pad(own[:, None], (0, 0, i, len(blocks) - 1 - i)).flatten(1)
        for i, own in enumerate(blocks)
    ]
    return torch.cat(made).to(away)
