r"""Advantages of samples: rewards relative to those of their group.

A group is made of the samples of one prompt (DDPO, Black et al. 2023, arXiv 2305.13301;
Flow-GRPO, Liu et al. 2025, arXiv 2505.05470). With mean m and standard deviation s of its
rewards,

    A = clip((r - m) / (s + eps), -limit, limit)

Several rewards of a sample, or the rewards of its branches at several granularities, are
normalised one by one and then summed (G2RPO, Zhou et al. 2025, arXiv 2510.01982; MixGRPO, Li et al.
2025, arXiv 2507.21802).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import checks
from ...checks import ArgumentError
from ...models.exact import wide
from .arguments import finite

SCALES = ("group", "batch", "none")
Groups = int | Tensor | None


def group_advantages(
    rewards: Tensor,
    groups: Groups = None,
    *,
    scale: str = "group",
    eps: float = 1e-4,
    correction: int = 0,
    limit: float | None = 5.0,
) -> Tensor:
    """Return the advantages ``(r - mean) / (std + eps)`` (B,) of ``rewards`` (B,) in their groups,
    clipped to [-limit, limit].

    A group whose rewards are equal has advantages 0. Computed in float64 where the device has it;
    the result is a constant, in float32 or better.

    Args:
        rewards: (B,), finite.
        groups: the size of the groups, whose samples stand side by side; or a tensor of integers
            (B,), equal for samples of one group (the number of the prompt); None: one group.
        scale: ``"group"`` divides by the standard deviation in the group, ``"batch"`` by that of
            all rewards (``global_std`` of Flow-GRPO's code), ``"none"`` does not divide.
        eps: added to the standard deviation: 1e-4 in Flow-GRPO's code, 1e-6 in DDPO's, 1e-8 in
            MixGRPO's.
        correction: 0 divides the sum of squares by the count (Flow-GRPO, DDPO), 1 by the count
            less one (MixGRPO).
        limit: bound of the absolute value; None: no bound.

    Raises ArgumentError for rewards that are not finite or require grad, and for a group of one
    sample, whose advantage would be 0 for any reward.
    """
    given = finite("rewards", rewards)
    if given.ndim != 1:
        raise ArgumentError(f"rewards must be (batch,), got {tuple(given.shape)}")
    _check_numbers(scale, eps, correction, limit)
    found = _normalised(given, _members(groups, given), scale, eps, correction)
    return _clipped(found, limit).to(given.dtype)


def combined_advantages(
    rewards: Tensor,
    groups: Groups = None,
    weights: Sequence[float] | None = None,
    *,
    scale: str = "group",
    eps: float = 1e-4,
    correction: int = 0,
    limit: float | None = 5.0,
) -> Tensor:
    """Return ``sum_j weights_j A_j`` (B,), A_j the advantages of the j-th row of ``rewards``
    (R, B), clipped to [-limit, limit] after the sum.

    The rows are several rewards of each sample (MixGRPO), or the rewards of one sample finished at
    several granularities, with weights 1 (G2RPO). ``weights``: R numbers, None: 1 each. The other
    arguments are those of ``group_advantages``.
    """
    given = finite("rewards", rewards)
    if given.ndim != 2:
        raise ArgumentError(f"rewards must be (rewards, batch), got {tuple(given.shape)}")
    _check_numbers(scale, eps, correction, limit)
    factors = [1.0] * len(given) if weights is None else list(weights)
    if len(factors) != len(given):
        raise ArgumentError(f"{len(factors)} weights given for {len(given)} rows of rewards")
    for w in factors:
        checks.number("weights", w)
    members = _members(groups, given[0])
    rows = [_normalised(row, members, scale, eps, correction) for row in given]
    total = torch.stack([w * row for w, row in zip(factors, rows, strict=True)]).sum(0)
    return _clipped(total, limit).to(given.dtype)


def _check_numbers(scale: str, eps: float, correction: int, limit: float | None) -> None:
    checks.choice("scale", scale, SCALES)
    checks.number("eps", eps, 0.0)
    checks.integer("correction", correction, 0, 1)
    if limit is not None:
        checks.between("limit", limit, 0.0)


def _members(groups: Groups, rewards: Tensor) -> Tensor:
    """Return the group (B,) of each sample, counted from 0. Raises ArgumentError for a group of
    one."""
    count = len(rewards)
    if groups is None:
        found = torch.zeros(count, dtype=torch.long, device=rewards.device)
    elif isinstance(groups, Tensor):
        if groups.dtype.is_floating_point or groups.dtype.is_complex:
            raise ArgumentError(f"groups must be integers, got {checks.described(groups)}")
        if groups.shape != rewards.shape:
            raise ArgumentError(
                f"groups has shape {tuple(groups.shape)}, for {count} samples: must be ({count},)"
            )
        found = torch.unique(groups.to(rewards.device), return_inverse=True)[1]
    else:
        size = checks.integer("groups", groups, 1)
        if count % size:
            raise ArgumentError(f"groups={size}: {count} samples are no multiple of it")
        found = torch.arange(count, device=rewards.device) // size
    if int(torch.bincount(found).min()) < 2:
        raise ArgumentError(
            "a group has one sample only, so its advantage would be 0 for any reward: draw two or "
            "more samples of each prompt"
        )
    return found


def _normalised(
    rewards: Tensor, members: Tensor, scale: str, eps: float, correction: int
) -> Tensor:
    """Return ``(r - mean) / (std + eps)`` (B,) in float64, or float32 where that is the widest."""
    r = rewards.to(wide(rewards.device))
    rows = torch.arange(int(members.max()) + 1, device=members.device)
    inside = (members == rows[:, None]).to(r.dtype)  # (groups, B)
    counts = inside.sum(1)
    r = r - r[inside.argmax(1)][members]  # from the first of the group: equal rewards are 0 exactly
    centred = r - (inside @ r / counts)[members]
    if scale == "none":
        return centred
    if scale == "batch":
        std = rewards.to(r.dtype).std(correction=correction).expand(len(r))
    else:
        std = (inside @ centred.square() / (counts - correction)).sqrt()[members]
    spread = std + eps
    return torch.where(spread > 0.0, centred / spread, 0.0)


def _clipped(values: Tensor, limit: float | None) -> Tensor:
    return values if limit is None else values.clamp(-limit, limit)
