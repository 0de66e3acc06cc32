"""Network calls with a separate time for each sample, and plans with different starts that advance
together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ...plans.instructions import PlanError
from ...plans.plan import Plan
from ...plans.running.finiteness import check_raws
from ...plans.running.loop import Cursor
from ...plans.running.lowering import Call, lower
from ...schedules.node import Node
from .driver import BudgetError, Drive, Raws


def call_rows(
    drive: Drive, x_in: Tensor, t: Tensor, node: Node, cond: Tensor | Mapping[str, Tensor] | None
) -> Raws:
    """Make one counted network call with one time per sample, ``t`` (B,). ``node`` is named in
    error messages."""
    if drive.nfe >= drive.max_nfe:
        raise BudgetError(drive.x, drive.node.t, drive.nfe)
    raws = tuple(drive.denoiser.raws(x_in, t, cond))
    check_raws(raws, x_in, len(raws))
    drive.nfe += 1
    drive.passes += 1
    drive.sizes.append(len(x_in))
    if drive.check:
        drive.calls.append(Call(drive.nfe - 1, node, 0, 0, 1.0))
        drive.watch.see(raws)
    return raws


class Group:
    """The samples ``rows`` that follow the same plan."""

    def __init__(
        self, drive: Drive, plan: Plan, rows: list[int], noise: Callable[[int, Tensor], Tensor]
    ) -> None:
        self.rows = torch.tensor(rows, device=drive.x.device)
        x = drive.x[self.rows]
        self.cursor = Cursor(
            lower(plan, drive.denoiser),
            drive.denoiser,
            x,
            lambda key, like: noise(key, like)[self.rows],
        )


def run_rows(drive: Drive, plans: Mapping[int, Plan], which: Sequence[int]) -> Tensor:
    """Run ``plans[which[i]]`` for each sample i from ``drive.x``, all together. The plans must end
    at the same node."""
    base, drawn, like = drive.draws, dict[int, Tensor](), drive.x

    def noise(key: int, _: Tensor) -> Tensor:
        if key not in drawn:
            if drive.noise is None:
                raise PlanError("the plans draw noise: noise= or seeds must be given")
            drawn[key] = drive.noise(base + key, like)
        return drawn[key]

    groups = [
        Group(drive, plans[key], [i for i, k in enumerate(which) if k == key], noise)
        for key in sorted(set(which), reverse=True)
    ]
    while live := [group for group in groups if not group.cursor.done]:
        together(drive, live)
        out = torch.empty_like(drive.x)
        for group in groups:
            out[group.rows] = group.cursor.x
        if drive.accept(out, groups[0].cursor.node):
            for group in groups:
                group.cursor.replace(drive.x[group.rows])
    return drive.x


def together(drive: Drive, groups: list[Group]) -> None:
    """Make one network call for all ``groups``, and the step that follows it. The order of the
    samples is kept."""
    order = torch.cat([group.rows for group in groups])
    place = order.argsort()
    x_in = torch.cat([group.cursor.x_in for group in groups])
    dtype = torch.float32 if x_in.device.type == "mps" else torch.float64
    t = torch.cat(
        [torch.full_like(group.rows, group.cursor.node.t or 0.0, dtype=dtype) for group in groups]
    )
    cond, rows = drive.cond, order[place]
    if isinstance(cond, Mapping):
        cond = {name: value[rows] for name, value in cond.items()}
    elif cond is not None:
        cond = cond[rows]
    raws = call_rows(drive, x_in[place], t[place], groups[0].cursor.node, cond)
    back, start = place.argsort(), 0
    for group in groups:
        mine = back[start : start + len(group.rows)]
        start += len(group.rows)
        group.cursor.step(tuple(raw[mine] for raw in raws))
