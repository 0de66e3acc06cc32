"""``SampleInfo``, the summary of a finished run, and how it is read from a plan or a driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..models.base import BaseDenoiser
from ..plans.plan import Plan
from ..plans.transforms.gradients import Reconstruction
from ..samplers.drivers.driver import Drive


@dataclass(frozen=True)
class SampleInfo:
    """Summary of a finished run.

    Attributes:
        nfe: network calls made, including those of rejected steps.
        plan: the plan that ran; None for a driver.
        seeds: one per sample; empty if the state was given.
        seconds: wall time of the run without the building of the plan.
        time_mismatch: the largest distance between a state's time and the label that a network
            with a table of times received; 0 for other networks.
        accepted, rejected: steps of a driver; None for a plan.
        passes: number of network passes; less than ``nfe`` if calls were batched (parallel in
            time).
        rows: rows that the network received in all calls: ``nfe`` times the batch, and twice that
            for classifier-free guidance. A driver that decides for each sample sends fewer.
        calls: mean number of network calls of one sample: ``nfe``, or less if a driver decides for
            each sample.
        reason: what the automatic choices of sampler and grid took, and why, one line each; empty
            if both were named.
        states: with ``record=True`` the states of the run, (nfe + 1, n, *shape): the start, every
            evaluated state and the result, in the coordinates of the plan; else None.
        undone: with ``grad="reversible"`` what the backward pass fills in; else None.
    """

    nfe: int
    plan: Plan | None
    seeds: tuple[int, ...]
    seconds: float
    time_mismatch: float
    accepted: int | None = None
    rejected: int | None = None
    passes: int | None = None
    reason: str = ""
    rows: int = 0
    calls: float = 0.0
    states: Tensor | None = None
    undone: Reconstruction | None = None

    @property
    def reconstruction(self) -> float | None:
        """With ``grad="reversible"`` the relative error of the states that the last backward pass
        recovered, which the gradient shares; None before it, and for other runs."""
        return None if self.undone is None else self.undone.error


def info_of_plan(
    plan: Plan, denoiser: BaseDenoiser, seeds: Sequence[int], batch: int, reason: str
) -> SampleInfo:
    """Return the summary of a run of ``plan``; the seconds are 0."""
    reads = [(e.node.t, e.channels) for e in plan.evaluations]
    return SampleInfo(
        plan.nfe,
        plan,
        tuple(seeds),
        0.0,
        _mismatch(denoiser, reads),
        reason=reason,
        rows=_rows(denoiser, reads, [batch] * plan.nfe),
        calls=float(plan.nfe),
    )


def info_of_drive(
    drive: Drive, denoiser: BaseDenoiser, seeds: Sequence[int], reason: str
) -> SampleInfo:
    """Return the summary of a finished driver; the seconds are 0."""
    reads = [(call.node.t, call.channels) for call in drive.calls]
    return SampleInfo(
        drive.nfe,
        None,
        tuple(seeds),
        0.0,
        _mismatch(denoiser, reads),
        drive.accepted,
        drive.rejected,
        drive.passes,
        reason,
        _rows(denoiser, reads, drive.sizes),
        sum(drive.sizes) / drive.x.shape[0],
    )


#: time and channels of each network call
Reads = Sequence[tuple[float | None, tuple[str, ...]]]


def _mismatch(denoiser: BaseDenoiser, reads: Reads) -> float:
    """Return the largest distance between a time and the label that the network received for it."""
    return max((abs(denoiser.time_mismatch(t)) for t, _ in reads if t is not None), default=0.0)


def _rows(denoiser: BaseDenoiser, reads: Reads, sizes: Sequence[int]) -> int:
    """Return the number of rows that the network received in these calls of ``sizes`` samples."""
    return sum(
        size * denoiser.network_rows(t, names)
        for (t, names), size in zip(reads, sizes, strict=False)  # no reads of unchecked runs
        if t is not None
    )
