"""Conservativity of a model's score: the antisymmetric part of its Jacobian (Chao et al. 2022,
arXiv 2209.12753, sec. 3).

The Jacobian ``J = ds/dx`` of a gradient is symmetric. With ``|.|`` the Frobenius norm, at each
noised sample,

    Asym  = |J - J^T|^2 / 2 = tr J J^T - tr J J
    NAsym = |J - J^T|^2 / (4 |J|^2)   in [0, 1],

0 for a gradient and 1 for a rotation; estimated by Hutchinson's ``E |J v - J^T v|^2 = |J - J^T|^2``
and ``E |J v|^2 = |J|^2``. Conservativity is neither necessary nor sufficient for correct samples: a
field R with ``div(p R) = 0`` added to the score changes no marginal (Horvat and Pfister 2024, ICLR,
"On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.denoiser import Condition, Denoiser
from ...models.precision import InOwnPrecision
from ...schedules.node import Node
from ..solver.batches import row_batches
from .derivatives import (
    data_of,
    directions,
    noised,
    noisy_node,
    pull,
    push,
    score_graph,
    seeds_of,
    unit_vector,
)


@dataclass(frozen=True, eq=False)
class Asymmetry:
    """Asymmetry of the score's Jacobian at T times and n samples.

    Attributes:
        times: times of the schedule.
        asym, nasym: mean over the samples at each time, (T,) float64.
        standard_error: of ``nasym`` over the samples, (T,); NaN for one sample.
        pooled: ``mean |J - J^T|^2 / (4 mean |J|^2)``, (T,); unlike the mean of ratios it is not
            biased for few probes.
        per_sample: NAsym of each sample, (T, n).
        probes: probes per sample; 0 where the Jacobian is exact.
    """

    times: tuple[float, ...]
    asym: Tensor
    nasym: Tensor
    standard_error: Tensor
    pooled: Tensor
    per_sample: Tensor
    probes: int


def score_asymmetry(
    denoiser: Denoiser,
    x0: Tensor,
    times: Sequence[float],
    *,
    trace: str = "auto",
    probes: int = 1,
    probe: str = "rademacher",
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    cond: Condition = None,
    batch: int | None = None,
) -> Asymmetry:
    """Asym and NAsym of the score at ``x0`` noised to each of ``times``.

    Args:
        denoiser: any model that autograd can differentiate; it computes in its own dtype.
        x0: clean samples (n, *shape).
        times: of the schedule, with sigma > 0.
        trace: ``exact`` (a reverse pass per element), ``hutchinson`` (per probe one reverse pass,
            and two through its graph), or ``auto``: exact up to 64 elements.
        probes, probe: as in ``log_prob``.
        seed, seeds: of noise and probes, one a sample.
        cond, batch: conditions of the model; samples in one network call.

    Raises GradientError, with a remedy, where the network has no derivative (for probes: no second
    derivative).
    """
    data, model = data_of(denoiser, x0), InOwnPrecision(denoiser)
    chosen = seeds_of(len(data), seed, seeds)
    nodes = [noisy_node(denoiser, t) for t in times]
    found = torch.zeros(len(nodes), 2, len(data), dtype=torch.float64)
    count = 0
    for i, node in enumerate(nodes):
        for rows, own in row_batches(len(data), batch, cond):
            x = noised(denoiser, data[rows], node, chosen[rows])
            vectors = directions(x, trace, probes, probe, chosen[rows])
            count = 0 if vectors is None else len(vectors)
            found[i, :, rows] = torch.stack(_norms(model, x, node, own, vectors)).double().cpu()
    odd, all_ = found[:, 0], found[:, 1]
    each = odd / (4.0 * all_).clamp_min(1e-300)
    spread = (
        each.std(dim=1) / math.sqrt(len(data))
        if len(data) > 1
        else torch.full((len(nodes),), math.nan, dtype=torch.float64)
    )
    pooled = odd.mean(dim=1) / (4.0 * all_.mean(dim=1)).clamp_min(1e-300)
    return Asymmetry(
        tuple(times), 0.5 * odd.mean(dim=1), each.mean(dim=1), spread, pooled, each, count
    )


def _norms(
    model: Denoiser, x: Tensor, node: Node, cond: Condition, vectors: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``|J - J^T|^2`` and ``|J|^2`` of each sample, (B,), exact or estimated by ``vectors``."""
    x, score = score_graph(model, x, node, cond)
    if vectors is None:
        jacobian = torch.stack(
            [pull(score, x, unit_vector(x, k)).flatten(1) for k in range(x[0].numel())], dim=1
        )
        return (jacobian - jacobian.mT).square().sum(dim=(1, 2)), jacobian.square().sum(dim=(1, 2))
    odd, all_ = x.new_zeros(len(x)), x.new_zeros(len(x))
    for v in vectors:
        up, back = push(score, x, v).flatten(1), pull(score, x, v).flatten(1)
        odd = odd + (up - back).square().sum(dim=1)
        all_ = all_ + 0.5 * (up.square() + back.square()).sum(dim=1)
    return odd / len(vectors), all_ / len(vectors)
