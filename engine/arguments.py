"""Checks the arguments of ``sample``, ``run`` and ``log_prob`` before a plan is built and before
any network call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..checks import ArgumentError, shown, tensor
from ..models.base import BaseDenoiser
from ..models.denoiser import Denoiser


class StateError(ArgumentError):
    """A state, seed or condition does not fit the model or the batch."""


def check_given(**states: Any) -> None:
    """Raise StateError unless each is None or a floating point tensor (batch, *shape)."""
    for name, value in states.items():
        if value is None:
            continue
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 2:
            found = (
                f"{value.dtype} {tuple(value.shape)}"
                if isinstance(value, Tensor)
                else type(value).__name__
            )
            raise StateError(
                f"{name}= must be a floating point tensor (batch, *shape), got {found}"
            )
        tensor(f"{name}=", value, error=StateError)


def check_begin(x: Any, init: Any, start: float | None) -> None:
    """Raise StateError for states that a run cannot begin from, and for ``start`` without one."""
    check_given(x=x, init=init)
    check_middle(start, x, init)


def check_callable(**functions: Any) -> None:
    """Raise ArgumentError unless each is None or callable."""
    for name, value in functions.items():
        if value is not None and not callable(value):
            raise ArgumentError(f"{name}={value!r}: must be a function")


def check_watchers(callback: Any, progress: bool | Callable[[int, int], None]) -> None:
    """Raise ArgumentError unless ``callback`` is None or a function, and ``progress`` True, False
    or a function."""
    check_callable(callback=callback)
    if not isinstance(progress, bool) and not callable(progress):
        raise ArgumentError(
            f"progress={progress!r}: must be True, False or a function (done, total)"
        )


def check_state(x: Tensor, denoiser: Denoiser) -> None:
    """Raise StateError unless ``x`` is a floating point tensor (batch, *shape) of the denoiser's
    shape."""
    if not isinstance(x, Tensor):
        raise StateError(f"the state must be a tensor (batch, *shape), got {type(x).__name__}")
    tensor("the state", x, floating=False, error=StateError)
    if not x.is_floating_point():
        raise StateError(f"the state must be floating point, got {x.dtype}")
    if x.ndim < 2:
        raise StateError(f"the state must be (batch, *shape), got {tuple(x.shape)}")
    if x.shape[0] == 0:
        raise StateError(f"the state must hold at least one sample, got {tuple(x.shape)}")
    if denoiser.shape is not None and tuple(x.shape[1:]) != tuple(denoiser.shape):
        raise StateError(
            f"the state has shape {tuple(x.shape)}, the model takes (batch, "
            f"{', '.join(map(str, denoiser.shape))})"
        )


def check_run(denoiser: BaseDenoiser, x: Tensor, cond: Any, on_step: Any) -> None:
    """Raise StateError or ArgumentError for a state, condition or callback that ``denoiser`` cannot
    be run with."""
    check_state(x, denoiser)
    check_cond(cond, x.shape[0])
    check_callable(on_step=on_step)
    denoiser.check_cond(cond, x.shape[0])


def check_cond(cond: Any, batch: int) -> None:
    """Raise StateError unless ``cond`` is None, a tensor or a mapping of tensors, batch first."""
    if cond is not None and not isinstance(cond, (Tensor, Mapping)):
        raise StateError(
            f"cond={shown(cond)}: must be a tensor with the batch first, such as "
            f"torch.tensor({shown(cond) if isinstance(cond, list) else '[0, 1]'}), or a mapping of "
            "names to tensors"
        )
    items = cond.items() if isinstance(cond, Mapping) else [] if cond is None else [("cond", cond)]
    for name, value in items:
        if not isinstance(value, Tensor):
            raise StateError(
                f"condition {name!r} is a {type(value).__name__}; it must be a tensor with the "
                "batch first"
            )
        tensor(f"condition {name!r}", value, floating=False, error=StateError)
        if value.ndim == 0 or value.shape[0] != batch:
            raise StateError(
                f"condition {name!r} has shape {tuple(value.shape)}, the batch is {batch}"
            )


def check_tensors(noise: Any) -> None:
    """Raise ArgumentError unless ``noise`` is None, a name, a function, or tensors by key."""
    if noise is None or isinstance(noise, str) or (callable(noise) and not isinstance(noise, type)):
        return
    values: Any = noise.values() if isinstance(noise, Mapping) else noise
    if (
        not isinstance(noise, (Mapping, Sequence, Tensor))
        or getattr(noise, "ndim", 1) == 0
        or not all(hasattr(value, "shape") for value in values)
    ):
        raise ArgumentError(
            f"noise={shown(noise)}: allowed are 'independent', 'brownian', a function (key, "
            "like), or tensors by key"
        )


def check_middle(start: float | None, x: Tensor | None, init: Tensor | None) -> None:
    """Raise StateError for ``start`` without the state, or the data, that a run begins from."""
    if start is not None and x is None and init is None:
        raise StateError(
            f"start={start}: pass init= (clean data) or x= (the state at that time) to begin "
            "in the middle"
        )
