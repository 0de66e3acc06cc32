"""What code asks that ``torch.compile`` and the transforms of ``torch.func`` trace: whether it is
traced, and which of its functions give numbers of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])


def traced() -> bool:
    """Whether tensors stand for other ones: under ``torch.compile``, and inside a transform of
    ``torch.func`` (vmap, jvp, jacrev, ...).

    Then a tensor has no memory address, no value may be read from it, and nothing is written in
    place.
    """
    import torch

    return torch.compiler.is_compiling() or transformed()


def transformed() -> bool:
    """Whether a transform of ``torch.func`` is at work."""
    import torch

    return torch._C._functorch.peek_interpreter_stack() is not None


def host_constant(function: Function) -> Function:
    """Mark a function of host numbers: ``torch.compile`` calls it while it traces, and its answer
    is a constant of the graph.

    The graph holds for the same objects as arguments (it is made again for others) and the same
    numbers. The arguments may hold no tensors. Without ``torch.compile`` nothing changes.
    """
    # what torch.compiler.assume_constant_result does, which would import the compiler
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
