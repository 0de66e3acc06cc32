"""``Operator``, the base class of forward models.

    y = A(x0) + noise,    A: (B, *shape) -> (B, *measured)

Data of an operator follow the dtype and the device of what it is given, in float32 or better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self

from ...checks import ArgumentError, described


class Linearised(NamedTuple):
    """An operator at one point x: ``value`` is A(x); ``forward`` maps u (B, *shape) to ``A'(x) u``;
    ``adjoint`` maps v (B, *measured) to ``A'(x)^T v``."""

    value: Tensor
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]


class Operator:
    """A forward model. A linear one defines ``__call__`` and ``adjoint``, and where they exist
    ``pinverse``, ``prox``, ``gram_solve`` and ``norm_bound``; one that is not linear defines
    ``__call__`` only, of differentiable operations of torch.
    """

    #: whether ``A(a x + b z) = a A(x) + b A(z)``
    linear: bool = True
    #: an upper bound of the spectral norm; None: unknown
    norm_bound: float | None = None

    @property
    def solvable(self) -> bool:
        """Whether ``gram_solve`` has a closed form."""
        return type(self).gram_solve is not Operator.gram_solve

    def __call__(self, x: Tensor) -> Tensor:
        """A(x), (B, *measured), of x (B, *shape)."""
        raise NotImplementedError

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` of y (B, *measured), with the elements of (B, *shape) in their order."""
        raise ArgumentError(f"{self!r} has no adjoint")

    def pinverse(self, y: Tensor) -> Tensor:
        """``A^+ y``, the pseudo-inverse: ``A A^+ A = A``. ArgumentError where there is none in
        closed form."""
        raise ArgumentError(f"{self!r} has no pseudo-inverse in closed form")

    def prox(self, x: Tensor, y: Tensor, rho: float) -> Tensor:
        """``argmin_z |y - A z|^2 + rho |z - x|^2``, shaped like ``x``; rho > 0. ArgumentError where
        there is no closed form."""
        if not (self.solvable and self.linear):
            raise ArgumentError(f"{self!r} has no proximal map in closed form")
        found = self.gram_solve(y - self(x), 1.0, rho)
        assert found is not None
        return x + self.adjoint(found).reshape_as(x)

    def gram_solve(self, y: Tensor, scale: Tensor | float, shift: float) -> Tensor | None:
        """``(scale A A^T + shift)^+ y`` in closed form, or None where there is none. ``scale``: a
        number, or (B, 1, ..., 1)."""
        return None

    def linearise(self, x: Tensor, graph: bool = False) -> Linearised:
        """The operator and its derivative at ``x`` (B, *shape). ``graph``: the results can be
        differentiated themselves."""
        if self.linear:
            return Linearised(self(x), self, lambda v: self.adjoint(v).reshape_as(x))
        return linearised(self, x, graph)

    def samples(self, shape: Sequence[int]) -> int | None:
        """Number of samples of this shape that the operator is for; None: any."""
        return None

    def check_data(self, y: Tensor) -> None:
        """Raise ArgumentError for measurements y (B, *measured) that are none of this operator."""

    def select(self, rows: Tensor) -> Self:
        """The operator for the samples ``rows`` (integers) of its batch; itself if all samples have
        the same one."""
        return self

    def to(self, like: Tensor, values: Tensor) -> Tensor:
        """``values`` in the dtype and on the device of ``like``, in float32 or better."""
        return values.to(like.device, torch.promote_types(like.dtype, torch.float32))


def linearised(function: Callable[[Tensor], Tensor], x: Tensor, graph: bool = False) -> Linearised:
    """A differentiable ``function`` at ``x``: derivatives by automatic differentiation (reverse
    mode; the forward derivative by differentiating twice)."""
    with torch.enable_grad():
        leaf = x if graph and x.requires_grad else x.detach().requires_grad_(True)
        value = function(leaf)
        if not value.requires_grad:
            raise ArgumentError(
                "the operator has no gradient: it must be made of differentiable operations of "
                "torch. Methods without gradients: guidance.steer with method='enkg' or 'smc'"
            )

    def adjoint(v: Tensor) -> Tensor:
        return _vjp(value, leaf, v, graph)

    def forward(u: Tensor) -> Tensor:
        with torch.enable_grad():
            dummy = torch.zeros_like(value).requires_grad_(True)
            (back,) = torch.autograd.grad(value, leaf, dummy, create_graph=True)
            if not back.requires_grad:  # the derivative is zero everywhere
                return torch.zeros_like(value)
        return _vjp(back, dummy, u, graph)

    return Linearised(value if graph else value.detach(), forward, adjoint)


def _vjp(value: Tensor, leaf: Tensor, v: Tensor, graph: bool) -> Tensor:
    (found,) = torch.autograd.grad(
        value, leaf, v.to(value), retain_graph=True, create_graph=graph, allow_unused=True
    )
    return torch.zeros_like(leaf) if found is None else found


def checked_output(found: Any, x: Tensor, operator: object) -> Tensor:
    """The output of an operator. Raises ArgumentError unless it is a floating point tensor with
    the batch size of ``x``."""
    fits = isinstance(found, Tensor) and found.is_floating_point() and found.ndim >= 1
    if not fits or found.shape[0] != x.shape[0]:
        raise ArgumentError(
            f"{operator!r} returned {described(found)}; it must be a floating point tensor "
            f"({x.shape[0]}, ...)"
        )
    made: Tensor = found
    return made
