"""The transposed program: cotangents of a run's result carried back to its start.

A lowered plan is linear apart from the network. Launch k computes
``slots[o_j] <- sum_i c_ji operand_i``, so a cotangent g of its outputs gives
``sum_j c_ji g_j`` to operand i. A network call maps the cotangents of its raw outputs to one of its
input by a vector-Jacobian product. Walking the launches from the last to the first gives the exact
gradient of the sampler that ran.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..running.program import Launch, Program

#: ``(call, cotangents of its raw outputs) -> cotangent of its input``; None stands for zero
Product = Callable[[int, Sequence[Tensor | None]], Tensor | None]
#: ``(launch, cotangents of its outputs)``
Watch = Callable[[int, Sequence[Tensor | None]], None]


def transposed(
    program: Program,
    cotangent: Tensor,
    product: Product,
    *,
    first: int = 0,
    watch: Watch | None = None,
) -> dict[int, Tensor]:
    """Return the cotangents of the buffers that are live before launch ``first``, by slot;
    ``first=0``: of the start state, slot 0.

    ``cotangent`` (B, *shape) is that of the result. ``product(k, ...)`` is asked once for every
    call k >= first - 1 whose outputs reach the result, from the last to the first. Sums are formed
    in float32 or better. ``watch``, if given, is told the cotangents of each launch's outputs,
    after the call before the launch; then every call is asked for.
    """
    wide = torch.promote_types(cotangent.dtype, torch.float32)
    found: dict[int, Tensor] = {program.result: cotangent.to(wide)}
    for k in range(len(program.launches) - 1, first - 1, -1):
        launch = program.launches[k]
        outs = [found.pop(slot, None) for slot in launch.outs]
        raws = _back(launch, outs, found, program.raws)
        call = program.launches[k - 1].call if k else None
        reached = any(raw is not None for raw in raws)
        if call is not None and (reached or watch is not None):
            own = product(call.number, raws)
            if own is not None:
                _add(found, call.input, own.to(wide))
        if watch is not None:
            watch(k, outs)
    return found


def _back(
    launch: Launch, outs: Sequence[Tensor | None], found: dict[int, Tensor], count: int
) -> list[Tensor | None]:
    """Move the cotangents of the launch's outputs to its operands; return those of the raw outputs
    of the call before it."""
    raws: list[Tensor | None] = [None] * count
    for i, operand in enumerate(launch.operands):
        if operand.kind == "noise":
            continue
        total = _combined([row[i] for row in launch.matrix], outs)
        if total is None:
            continue
        if operand.kind == "slot":
            _add(found, operand.number, total)
        else:
            raws[operand.number] = total
    return raws


def _combined(column: Sequence[float], outs: Sequence[Tensor | None]) -> Tensor | None:
    """``sum_j c_j g_j`` as a new tensor; None if no term is left."""
    total: Tensor | None = None
    for c, g in zip(column, outs, strict=True):
        if g is None or c == 0.0:
            continue
        total = g * c if total is None else total.add_(g, alpha=c)
    return total


def _add(found: dict[int, Tensor], slot: int, value: Tensor) -> None:
    known = found.get(slot)
    found[slot] = value if known is None else known + value
