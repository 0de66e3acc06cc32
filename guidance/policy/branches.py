"""Times of a trajectory that branches at one noisy step, for rewards that belong to that step.

G2RPO (Zhou et al. 2025, arXiv 2510.01982): the ODE is solved to the state before step k, which all
samples of a group share. Step k is noisy, with one seed for each sample. From there the ODE is
solved again, at several granularities: over every node that is left, over every second one, ...
The rewards of each granularity are normalised in the group and summed
(``combined_advantages``); the loss is that of the one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ... import checks
from ...checks import ArgumentError


class Branch(NamedTuple):
    """Times of the three parts of a branching run, for ``fewstep.plan(..., times=...)``.

    ``anchor``: from the start to the state that the group shares; one time where that is the
    start. ``noisy``: the two ends of the noisy step. ``rest``: for each stride, from there to the
    end.
    """

    anchor: tuple[float, ...]
    noisy: tuple[float, float]
    rest: tuple[tuple[float, ...], ...]


def branch_times(times: Sequence[float], k: int, strides: Sequence[int] = (1, 2, 3)) -> Branch:
    """Return the times of a run over ``times`` that branches at the step from ``times[k]`` to
    ``times[k + 1]``.

    A stride n keeps ``times[k + 1]``, every n-th time after it, and the last. Strides that keep
    the same times are all kept: the same rewards then count twice in the sum.

    Args:
        times: falling, from noise to data, 3 or more.
        k: 0 .. len(times) - 3: the last step cannot be the noisy one, since it ends at data.
        strides: positive integers, one for each granularity; (1, 2, 3) is the paper's.
    """
    if not isinstance(times, Sequence) or len(times) < 3:
        raise ArgumentError(f"times={checks.shown(times)}: must be 3 or more falling numbers")
    nodes = [float(checks.number("times", t)) for t in times]
    if any(b >= a for a, b in pairwise(nodes)):
        raise ArgumentError(f"times={checks.shown(times)}: must fall, from noise to data")
    checks.integer("k", k, 0, len(nodes) - 3)
    if not isinstance(strides, Sequence) or not strides:
        raise ArgumentError(f"strides={checks.shown(strides)}: must be one or more integers")
    left = nodes[k + 1 :]
    rest = tuple(
        (*left[: -1 : checks.integer("strides", stride, 1)], left[-1]) for stride in strides
    )
    return Branch(tuple(nodes[: k + 1]), (nodes[k], nodes[k + 1]), rest)
