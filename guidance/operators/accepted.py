"""What may be given as a forward model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...checks import ArgumentTypeError, shown
from .callables import Callable
from .matrix import Matrix
from .operator import Operator


def as_operator(value: Any) -> Operator:
    """``value`` as an Operator: one of these; an object with ``A`` and ``A_adjoint`` (the physics
    of deepinv); a matrix (m, d), a tensor; or any differentiable function of a batch.

    Raises ArgumentTypeError for anything else.
    """
    if isinstance(value, Operator):
        return value
    if isinstance(value, Tensor):
        return Matrix(value)
    if callable(getattr(value, "A", None)) and callable(getattr(value, "A_adjoint", None)):
        return Callable(value.A, adjoint=value.A_adjoint)
    if callable(value):
        return Callable(value)
    raise ArgumentTypeError(
        f"operator={shown(value)} must be one of guidance.operators, an object with A and "
        f"A_adjoint, a matrix, or a function of a batch; got a {type(value).__name__}"
    )
