"""Runs a driver for each sample of a batch separately."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...checks import ArgumentError
from .driver import BudgetError, Drive, Path


def by_sample(drive: Drive, solve: Callable[[Drive], Tensor]) -> Tensor:
    """Run ``solve`` for each sample separately, so that its steps and bits do not depend on the
    batch.

    The calls of all samples are counted and share ``max_nfe``. Raises BudgetError if no call is
    left for a sample.
    """
    if drive.on_step is not None:
        raise ArgumentError(
            "per_sample=True and on_step cannot be combined: each sample runs separately, so there "
            "is no state of the batch"
        )
    rows = []
    for i in range(len(drive.x)):
        one = replace(
            drive,
            x=drive.x[i : i + 1],
            path=_path_row(drive, i),
            cond=_row(drive.cond, i),
            nfe=0,
            max_nfe=drive.max_nfe - drive.nfe,
            passes=0,
            accepted=0,
            rejected=0,
            calls=[],
            sizes=[],
        )
        try:
            rows.append(one.close(solve(one)))
        except BudgetError as error:
            raise BudgetError(error.x, error.t, drive.nfe + error.nfe) from None
        for what in ("nfe", "passes", "accepted", "rejected"):
            setattr(drive, what, getattr(drive, what) + getattr(one, what))
        drive.calls += one.calls
        drive.sizes += one.sizes
    return torch.cat(rows)


def _path_row(drive: Drive, i: int) -> Path | None:
    """The Brownian path of sample ``i``: one row of the batch's path."""
    path, batch = drive.path, drive.x

    if path is None:
        return None

    def of_one(s: float, t: float, like: Tensor) -> tuple[Tensor, Tensor]:
        w, area = path(s, t, batch.to(like))
        return w[i : i + 1], area[i : i + 1]

    return of_one


def _row(
    cond: Tensor | Mapping[str, Tensor] | None, i: int
) -> Tensor | Mapping[str, Tensor] | None:
    if isinstance(cond, Mapping):
        return {name: value[i : i + 1] for name, value in cond.items()}
    return None if cond is None else cond[i : i + 1]
