"""Forward consistency: the states that a sample says follow its first, against the solver's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...checks import ArgumentError, described
from .equation import Equation, Fields, Params, Spacing


def forward_error(equation: Equation, fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``|u - u_solver| / |u_solver|`` over the last time, (B,), u_solver the solution of
    ``equation`` from the sample's own first state.

    ``fields`` holds (B, T, space) of every field of the equation, T >= 2; ``spacing["t"]`` is the
    time between two of them. A stored pair (start, end) is T = 2: it has no residual, as nothing is
    known between its times. Source: ``L2`` of Li et al. 2021 (arXiv 2010.08895), the solver in the
    place of the data. Raises ArgumentError for fields of other shapes, and what ``solve`` raises.
    """
    if not isinstance(fields, Mapping) or set(fields) != set(equation.FIELDS):
        given = sorted(fields) if isinstance(fields, Mapping) else described(fields)
        raise ArgumentError(f"fields are {given}; needed: {list(equation.FIELDS)}")
    if "t" not in equation.AXES:
        raise ArgumentError("this equation has no time axis, so that nothing follows a state")
    for name, value in fields.items():
        ndim = len(equation.AXES) + 1
        if not isinstance(value, Tensor) or value.ndim != ndim or value.shape[1] < 2:
            raise ArgumentError(
                f"field {name!r} must be (B, {', '.join(equation.AXES)}) with at least 2 times, "
                f"got {described(value)}"
            )
    first = {name: value[:, 0] for name, value in fields.items()}
    frames = next(iter(fields.values())).shape[1]
    found = equation.solve(first, spacing, params, frames=frames)
    last = {name: value[:, -1].flatten(1) for name, value in found.items()}
    error = torch.cat([fields[n][:, -1].flatten(1) - last[n] for n in equation.FIELDS], 1)
    size = torch.cat([last[n] for n in equation.FIELDS], 1).norm(dim=1)
    relative: Tensor = error.norm(dim=1) / size
    return relative
