"""Runs of a plan that autograd can differentiate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentTypeError
from .continuous_adjoint import ContinuousAdjoint
from .leaves import wanted
from .recomputed import Recomputed


class GradientError(ArgumentTypeError):
    """Autograd cannot differentiate the network or the run as asked."""


class ReconstructionWarning(UserWarning):
    """Warning: the states that a backward pass recovered are not those of the run."""


#: relative error of recovered states above which a gradient is warned of
TOLERANCE = 1e-3


@dataclass
class Reconstruction:
    """What ``grad="reversible"`` lost to rounding.

    ``error``: relative error, in the norm of the whole batch, of the first states that the last
    backward pass recovered; None before it.
    """

    error: float | None = None


def report(name: str, dtype: torch.dtype, lost: Reconstruction | None, error: float) -> None:
    """Keep the relative ``error`` of the recovered states in ``lost``, and warn of it. Raises
    GradientError if they are not finite."""
    if lost is not None:
        lost.error = error
    text = (
        f"grad='reversible': undoing {name} in {str(dtype).removeprefix('torch.')} recovered the "
        f"first states with a relative error of {error:.1e}, which the gradient shares"
    )
    remedy = "use float64, fewer steps, or grad='checkpoint'"
    if not math.isfinite(error):
        raise GradientError(f"{text}; {remedy}")
    if error > TOLERANCE:
        warnings.warn(f"{text}; {remedy}", ReconstructionWarning, stacklevel=2)


class _Run(torch.autograd.Function):
    """``result = run(x)`` with the gradient of ``Recomputed``; further inputs are the tensors of
    the condition, the parameters, and the plan's parameters that gradients are wanted for."""

    @staticmethod
    def forward(ctx: Any, run: Recomputed, count: int, x: Tensor, *tensors: Tensor) -> Tensor:
        out, kept = run.run(x, tensors[:count])
        ctx.run, ctx.kept = run, len(kept)
        ctx.save_for_backward(*kept, *tensors)
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        _once()
        kept, tensors = ctx.saved_tensors[: ctx.kept], ctx.saved_tensors[ctx.kept :]
        # hooks may give copies of the condition, which are not the tensors that the run knows
        cond = wanted(ctx.run.cond)
        own, sums = ctx.run.gradients(cotangent, [value.detach() for value in kept], cond)
        if ctx.run.undoing is not None and len(ctx.run.program.calls) == 1:
            ctx.run.undoing(0.0)  # nothing was undone
        if ctx.needs_input_grad[2] and own is None:
            own = torch.zeros_like(cotangent)
        found = [None if s is None else s.to(t.dtype) for s, t in zip(sums, tensors, strict=True)]
        return (None, None, None if own is None else own.to(cotangent.dtype), *found)


class _Adjoint(torch.autograd.Function):
    """``run(x)``, made without a graph, with the gradient of the continuous adjoint."""

    @staticmethod
    def forward(
        ctx: Any,
        adjoint: ContinuousAdjoint,
        run: Callable[[Tensor], Tensor],
        x: Tensor,
        *tensors: Tensor,
    ) -> Tensor:
        out = run(x)
        ctx.adjoint = adjoint
        ctx.save_for_backward(out, *tensors)
        return out.clone()

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        _once()
        out, *tensors = ctx.saved_tensors
        start, others = ctx.adjoint.gradients(out, cotangent, wanted(ctx.adjoint.cond))
        found = [g.to(t.dtype) for g, t in zip(others, tensors, strict=True)]
        return (None, None, start.to(cotangent.dtype), *found)


def _once() -> None:
    """GradientError in a backward pass that is itself recorded."""
    if torch.is_grad_enabled():
        raise GradientError(
            "create_graph=True: the backward pass of this mode cannot be differentiated again; use "
            "grad='full' for second derivatives"
        )


def _applied(function: Any, *given: Any) -> Tensor:
    """``function.apply(*given)``. GradientError inside transforms of ``torch.func``."""
    try:
        made: Tensor = function.apply(*given)
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise GradientError(
            "a transform of torch.func (grad, vjp, jvp, jacrev, vmap) needs grad='full'; this mode "
            "works with torch.autograd"
        ) from error
    return made


def run_with_adjoint(
    adjoint: ContinuousAdjoint, run: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Return ``run(x)`` with gradients by the continuous adjoint: with respect to x, to the tensors
    of the condition that require grad, and to ``adjoint.parameters``."""
    cond = wanted(adjoint.cond)
    return _applied(_Adjoint, adjoint, run, x, *cond, *adjoint.parameters)


def run_recomputed(run: Recomputed, x: Tensor, lost: Reconstruction | None = None) -> Tensor:
    """Run from ``x`` (B, *shape); the result has gradients with respect to x, to the tensors of
    the condition that require grad, to ``run.parameters``, and to the parameters of
    ``run.view``. ``lost`` holds the error of a run that is undone."""
    cond, view = wanted(run.cond), run.view
    of_plan = [] if view is None else [view.theta[name] for name in view.names]
    if run.undo is not None:
        run.undoing = partial(report, run.program.plan.name, x.dtype, lost)
    run.seen = partial(inspect_graph, bool(x.requires_grad))
    return _applied(_Run, run, len(cond), x, *cond, *run.parameters, *of_plan)


_DETACHED = (
    "the network's output does not depend on its input for autograd: it detaches its input, runs "
    "without gradients (no_grad, inference_mode), or works outside of torch"
)


def inspect_input(x_in: Tensor, raws: Sequence[Tensor]) -> None:
    """Raise GradientError unless the graph of ``raws`` leads to ``x_in``."""
    own = x_in.grad_fn
    found = (
        any(leaf is x_in for leaf in _ends(raws))
        if own is None
        else any(node is own for node in _nodes(raws, own))
    )
    if not found:
        raise GradientError(_DETACHED)


def inspect_graph(of_x: bool, leaves: Sequence[Tensor], raws: Sequence[Tensor]) -> None:
    """Raise GradientError unless the graph of ``raws`` ends in ``leaves`` alone, and, for ``of_x``,
    in the first of them, the network's input."""
    known, found = {id(leaf) for leaf in leaves}, list(_ends(raws))
    if of_x and not any(leaf is leaves[0] for leaf in found):
        raise GradientError(_DETACHED)
    other = next((leaf for leaf in found if id(leaf) not in known), None)
    if other is not None:
        raise GradientError(
            f"the network's output requires grad through a tensor of shape {tuple(other.shape)} "
            "that is neither the state, nor a condition, nor one of the model's parameters(): pass "
            "it in parameters=[...], or use grad='full'"
        )


def _ends(raws: Sequence[Tensor]) -> Iterator[Tensor]:
    """The leaves of the graph of ``raws``."""
    yield from (raw for raw in raws if raw.is_leaf and raw.requires_grad)
    yield from (node.variable for node in _nodes(raws) if hasattr(node, "variable"))


def _nodes(raws: Sequence[Tensor], until: Any = None) -> Iterator[Any]:
    """The nodes of the graph of ``raws``, each once; those behind ``until`` are left out."""
    open_: list[Any] = [raw.grad_fn for raw in raws if raw.grad_fn is not None]
    seen = set()
    while open_:
        node = open_.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        if node is not until:
            open_ += [after for after, _ in node.next_functions if after is not None]
