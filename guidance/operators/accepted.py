"""What may be given as a forward model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...checks import ArgumentTypeError, shown
from .callables import Callable
from .matrix import Matrix
from .operator import Operator


def as_operator(value: Any) -> Operator:
    """``value`` as an Operator: one of these; an object with ``A`` and ``A_adjoint``, linear (the
    physics of deepinv), whose ``A_dagger``, if it has one, is the pseudo-inverse as far as the
    object solves it; an object with ``A`` alone; a matrix (m, d), a tensor; or any differentiable
    function of a batch.

    Of an object with ``A`` only these are called: calling physics of deepinv would add noise.
    Raises ArgumentTypeError for anything else.
    """
    if isinstance(value, Operator):
        return value
    if isinstance(value, Tensor):
        return Matrix(value)
    forward, adjoint, dagger = (_method(value, name) for name in ("A", "A_adjoint", "A_dagger"))
    if forward is not None:
        return Callable(forward, adjoint=adjoint, pinverse=dagger if adjoint else None)
    if callable(value) and not isinstance(value, type):
        return Callable(value)
    raise ArgumentTypeError(
        f"operator={shown(value)} must be one of guidance.operators, an object with A and "
        f"A_adjoint, a matrix, or a function of a batch; got a {type(value).__name__}"
    )


def _method(value: Any, name: str) -> Any:
    """The method of an object, or None."""
    found = None if isinstance(value, type) else getattr(value, name, None)
    return found if callable(found) else None
