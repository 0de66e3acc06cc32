"""What a linear step refuses: counts, kinds, shapes and devices that do not agree, and memory that
an output shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, described, number, shown
from ..noise.seeded import Drawn
from .device import Input


def check_lists(*named: tuple[str, object]) -> None:
    """Raise ArgumentTypeError unless all are lists or tuples."""
    for name, value in named:
        if not isinstance(value, (list, tuple)):
            raise ArgumentTypeError(f"{name}={shown(value)} must be a list")


def check_step(
    outputs: Sequence[Tensor], inputs: Sequence[Input], coefficients: Sequence[Sequence[object]]
) -> None:
    """Raise ArgumentError unless counts, kinds, shapes and devices agree and no output shares
    memory with another tensor of the launch."""
    check_lists(("outputs", outputs), ("inputs", inputs), ("coefficients", coefficients))
    check_lists(*(("a row of coefficients", row) for row in coefficients))
    if len(coefficients) != len(outputs) or any(len(row) != len(inputs) for row in coefficients):
        rows = [len(row) for row in coefficients]
        raise ArgumentError(
            f"coefficient rows of lengths {rows} for {len(outputs)} outputs and "
            f"{len(inputs)} inputs; there must be one row per output"
        )
    if not outputs:
        return
    read: list[Tensor | Drawn] = [*outputs, *inputs]
    stray = [t for t in read if not (isinstance(t, Drawn) or _dense(t))]
    if stray or any(isinstance(t, Drawn) for t in outputs):
        raise ArgumentTypeError(
            "outputs and inputs must be dense tensors of floating point numbers, got "
            f"{described((*stray, *outputs)[0])}"
        )
    places = {t.device for t in read}
    if len(places) > 1:
        raise ArgumentError(
            f"outputs and inputs on {sorted(map(str, places))}; all must be on one device"
        )
    shape = outputs[0].shape
    if not shape or any(t.shape != shape for t in read):
        shapes = [tuple(t.shape) for t in read]
        raise ArgumentError(
            f"outputs and inputs of shapes {shapes}; all must have one shape, batch first"
        )
    taken = [span(t) for t in read]
    for j, (low, high) in enumerate(taken[: len(outputs)]):
        for i, (start, stop) in enumerate(taken[j + 1 :], j + 1):
            if low < stop and start < high:
                other = f"outputs[{i}]" if i < len(outputs) else f"inputs[{i - len(outputs)}]"
                raise ArgumentError(
                    f"outputs[{j}] shares memory with {other}; an output must not "
                    "share memory with another tensor of the launch"
                )


def check_clamp(clamp: object, count: int) -> tuple[tuple[float, float] | None, ...]:
    """The bounds of each of ``count`` outputs. Raises ArgumentError unless ``clamp`` is None or has
    (low, high), low <= high, or None for each."""
    if clamp is None:
        return (None,) * count
    given = list(clamp) if isinstance(clamp, (list, tuple)) else []
    if len(given) != count or not isinstance(clamp, (list, tuple)):
        raise ArgumentError(
            f"clamp={shown(clamp)}: must have (low, high) or None for each of {count} outputs"
        )
    bounds: list[tuple[float, float] | None] = []
    for pair in given:
        if pair is None:
            bounds.append(None)
            continue
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ArgumentError(f"clamp: {shown(pair)} must be (low, high), or None")
        low, high = number("low of clamp", pair[0]), number("high of clamp", pair[1])
        if low > high:
            raise ArgumentError(f"clamp: {shown(pair)} must be (low, high) with low <= high")
        bounds.append((low, high))
    return tuple(bounds)


def _dense(t: object) -> bool:
    return (
        isinstance(t, Tensor)
        and t.is_floating_point()
        and not t.is_meta
        and t.layout is torch.strided
    )


def span(t: Tensor | Drawn) -> tuple[int, int]:
    """The address range that a tensor certainly covers: all its bytes when contiguous, else those
    of its first element (computed on the host)."""
    if isinstance(t, Drawn):
        return 0, 0
    start = t.data_ptr()
    count = t.numel() if t.is_contiguous() else min(1, t.numel())
    return start, start + count * t.element_size()
