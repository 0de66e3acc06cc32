"""Intrinsic dimension of the data from a model's score.

Near a manifold of dimension k the score at small noise points along the normals. Of the singular
values of many scores around a point, d - k are then large (about sqrt(points) / sigma) and the rest
small, and the dimension is read off the largest drop (Stanczuk et al. 2022, arXiv 2212.12611,
algorithm 1: the largest absolute drop ``s_i - s_{i+1}``; the largest ratio would lie behind the
constant tangential part).

FLIPD needs one point and a trace (Kamkari et al. 2024, arXiv 2406.03537, sec. 3), with the score at
``x = alpha x0``:

    k(x0) = d + sigma^2 (tr ds/dx + |s|^2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import integer
from ...engine.likelihood import products_with, unit_vectors
from ...fused.noise.seeded import normals
from ...models.denoiser import Condition, Denoiser
from ...models.precision import InOwnPrecision
from ...schedules.node import Node
from ..errors import ScoreError
from ..solver.batches import condition, row_batches
from .derivatives import data_of, directions, noisy_node, score_graph, score_of, seeds_of

#: random stream of the noise around a base point
CLOUD_STREAM = (1 << 30) + 2
#: smallest default number of scores around a base point
FEWEST = 200


@dataclass(frozen=True, eq=False)
class IntrinsicDimension:
    """Intrinsic dimension at n base points in d dimensions.

    Attributes:
        dimension: at each base point, (n,) int64, between 1 and d - 1. Data without a manifold also
            give a value; check ``ratio``.
        spectrum: singular values over sqrt(points), descending, (n, d) float64; normal ones are
            about 1 / sigma.
        gap: the largest drop, (n,); ``ratio``: the value before it over the value after it.
        sigma, points: noise level, and number of scores per base point.
    """

    dimension: Tensor
    spectrum: Tensor
    gap: Tensor
    ratio: Tensor
    sigma: float
    points: int


def intrinsic_dimension(
    denoiser: Denoiser,
    x0: Tensor,
    t: float | None = None,
    *,
    points: int | None = None,
    center: bool = False,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    cond: Condition = None,
    batch: int | None = None,
) -> IntrinsicDimension:
    """Dimension of the data around each of ``x0`` by the singular values of scores; needs no
    derivative of the network.

    Args:
        denoiser: any model; it computes in its own dtype.
        x0: clean samples (n, *shape), the base points.
        t: time of small noise, still resolved by the network; default t_min of the schedule.
        points: scores around each base point, at least d; default 4 d as in the paper, but no fewer
            than 200, because with few points the normal singular values spread further than the
            drop.
        center: subtract the mean score first (the paper does not). Around a base point off the
            model's manifold all scores share a large component, which dominates the first singular
            value and gives the answer d - 1 if it is not subtracted.
        seed, seeds: of the noise, one per base point.
        cond, batch: conditions of the model; rows in one network call, default all points of a base
            point.

    Raises ScoreError for one dimension, for too few points, and where sigma(t) = 0.
    """
    data, model = data_of(denoiser, x0), InOwnPrecision(denoiser)
    node = _small(denoiser, t)
    d = data[0].numel()
    if d < 2:
        raise ScoreError("samples of one entry have no normal space: must have at least 2 entries")
    count = max(4 * d, FEWEST) if points is None else points
    integer("points", count, d, 1 << 31)
    chosen = seeds_of(len(data), seed, seeds)
    spectra = []
    for i, s in enumerate(chosen):
        scores = _cloud(model, data[i], node, count, s, condition(cond, slice(i, i + 1)), batch)
        spectra.append(
            torch.linalg.svdvals(scores - scores.mean(dim=0) if center else scores).double().cpu()
            / math.sqrt(count)
        )
    spectrum = torch.stack(spectra)
    gap, where = (spectrum[:, :-1] - spectrum[:, 1:]).max(dim=1)
    after = spectrum.gather(1, where[:, None] + 1)[:, 0]
    return IntrinsicDimension(
        d - 1 - where, spectrum, gap, (after + gap) / after.clamp_min(1e-300), node.sigma, count
    )


def _small(denoiser: Denoiser, t: float | None) -> Node:
    if t is None and not denoiser.schedule.node(denoiser.schedule.t_min).sigma > 0.0:
        raise ScoreError(f"{denoiser.schedule!r} ends without noise: give t=, a small time")
    return noisy_node(denoiser, denoiser.schedule.t_min if t is None else t)


@torch.no_grad()
def _cloud(
    model: Denoiser,
    x0: Tensor,
    node: Node,
    count: int,
    seed: int,
    cond: Condition,
    batch: int | None,
) -> Tensor:
    """``count`` scores around the point ``x0`` (*shape), (count, d)."""
    z = normals(
        [seed], (count, *x0.shape), stream=CLOUD_STREAM, draw=0, device=x0.device, dtype=x0.dtype
    )[0]
    x = node.alpha * x0 + node.sigma * z
    parts = []
    for rows, _ in row_batches(count, batch):
        part = x[rows]
        parts.append(score_of(model, part, node, _repeated(cond, len(part))).flatten(1))
    scores = torch.cat(parts)
    if not bool(torch.isfinite(scores).all()):
        raise ScoreError(
            f"the score at t={node.t} (sigma = {node.sigma:.3g}) is not finite: give a larger t"
        )
    return scores


def _repeated(cond: Condition, n: int) -> Condition:
    if cond is None or isinstance(cond, Tensor):
        return None if cond is None else cond.expand(n, *cond.shape[1:])
    return {name: value.expand(n, *value.shape[1:]) for name, value in cond.items()}


def flipd(
    denoiser: Denoiser,
    x0: Tensor,
    t: float | None = None,
    *,
    trace: str = "auto",
    probes: int = 1,
    probe: str = "rademacher",
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    cond: Condition = None,
    batch: int | None = None,
) -> Tensor:
    """FLIPD's estimate of the dimension around each of ``x0`` (n, *shape), (n,) float64, not
    rounded.

    Args as in ``intrinsic_dimension``; ``trace``, ``probes`` and ``probe`` as in ``log_prob``.
    GradientError where autograd does not see the network, ScoreError where sigma(t) = 0.
    """
    data, model = data_of(denoiser, x0), InOwnPrecision(denoiser)
    node = _small(denoiser, t)
    chosen = seeds_of(len(data), seed, seeds)
    parts = []
    for rows, own in row_batches(len(data), batch, cond):
        at = node.alpha * data[rows]
        vectors = directions(at, trace, probes, probe, chosen[rows])
        x, score = score_graph(model, at, node, own)
        products = products_with(score, x, unit_vectors(x) if vectors is None else vectors)
        traces = products.sum(dim=1) if vectors is None else products.mean(dim=1)
        parts.append(
            x[0].numel() + node.sigma**2 * (traces + score.detach().flatten(1).square().sum(dim=1))
        )
    return torch.cat(parts).double().cpu()
