"""Weights of a population, and choices by them: on the CPU, in float64.

Log-weights are (S, P), one row per sample; nothing depends on the other rows. The uniform numbers
of sample s and draw d are made from the Philox blocks (``fused.noise``)

    key = seed of the sample,   counter = (element, POPULATION_STREAM, d, 0)

as ``u = (word + 1/2) / 2^32``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import UnknownName, unknown
from ...fused.noise.philox import philox4x32
from ...fused.noise.seeded import POPULATION_STREAM, keys_of
from ..combinations.sample_sums import halved_sum

#: ways to choose P particles by their weights
RULES = ("systematic", "multinomial")


def uniforms(seeds: Sequence[int], draw: int, count: int) -> Tensor:
    """Uniform numbers in (0, 1), (S, count) float64, of draw number ``draw`` of each seed."""
    keys = keys_of(seeds, "cpu")
    element = torch.arange(-(-count // 4), dtype=torch.int64)
    counter = (element, POPULATION_STREAM, draw, 0)
    words = philox4x32(counter, (keys[0, :, None], keys[1, :, None]))
    flat = torch.stack(words, dim=-1).flatten(1)[:, :count]
    return (flat.to(torch.float64) + 0.5) * 2.0**-32


def log_mean_exp(logs: Tensor) -> Tensor:
    """``log mean exp`` over the last axis, with the same bits for any number of rows; -inf where
    all are."""
    top = logs.amax(-1, keepdim=True)
    safe = torch.where(top.isfinite(), top, torch.zeros_like(top))
    return safe[..., 0] + torch.log(halved_sum(torch.exp(logs - safe)) / logs.shape[-1])


def normalised(logs: Tensor) -> Tensor:
    """Weights ``exp(l) / sum exp(l)`` over the last axis. At least one must be finite."""
    top = logs.amax(-1, keepdim=True)
    w = torch.exp(logs - top)
    return w / halved_sum(w)[..., None]


def effective_size(logs: Tensor) -> Tensor:
    """Effective number of particles ``1 / sum w^2`` over the last axis."""
    return 1.0 / halved_sum(normalised(logs).square())


def resampled(rule: str, logs: Tensor, seeds: Sequence[int], draw: int, count: int) -> Tensor:
    """Choose ``count`` particles by their log-weights (S, P): (S, count) integers.

    ``systematic``: points (u + i) / count with one u per sample; particle p is chosen floor or
    ceil of ``count w_p`` times. ``multinomial``: independent points. Both choose p ``count w_p``
    times on average; a particle of weight 0 is never chosen. Raises UnknownName for other rules.
    """
    if rule not in RULES:
        raise UnknownName(unknown("resampling", rule, RULES))
    if rule == "systematic":
        u = uniforms(seeds, draw, 1)
        points = (u + torch.arange(count, dtype=torch.float64)) / count
    else:
        points = uniforms(seeds, draw, count)
    return chosen_at(logs, points)


def chosen_at(logs: Tensor, points: Tensor) -> Tensor:
    """The particles at ``points`` (S, n) in (0, 1) of the cumulative weights of ``logs`` (S, P)."""
    weights = normalised(logs)
    edges = torch.cumsum(weights, -1)
    edges = edges / edges[:, -1:]
    found = torch.searchsorted(edges, points.contiguous(), right=True)
    # rounding may put a point on the last edge: the last particle with a weight
    places = torch.arange(weights.shape[1]).expand_as(weights)
    last = torch.where(weights > 0.0, places, 0).amax(-1, keepdim=True)
    return torch.minimum(found, last)
