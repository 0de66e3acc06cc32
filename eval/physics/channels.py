"""The residual of an equation as a function of a model's samples."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...models.field_maps import FieldMaps
from .arguments import wide
from .equation import Equation, Params, Spacing, equation_named


def channel_residual(
    equation: str | Equation, maps: FieldMaps, spacing: Spacing, params: Params
) -> Callable[[Tensor], Tensor]:
    """Return a function from samples (B, C, ...) to the residual of ``equation`` in physical units,
    differentiable, in float64.

    ``maps`` say which field each channel is, and in which units: ``models.fields_of("darcy")``.
    It is what a residual loss of training (``fewstep.train``) and guidance by an equation ask for.
    """
    found = equation_named(equation) if isinstance(equation, str) else equation

    def residual(x: Tensor) -> Tensor:
        return found.residual(maps.physical(wide(x)), spacing, params)

    return residual
