"""Channels and second times of network calls: what a denoiser has, and how it is asked.

One network call may give several linear readings, ``p_c x + sum_i q_ci raw_i`` for each channel c
with the same raw outputs. A denoiser lists them in ``channels``, ``("main",)`` where it has no such
attribute; then ``coefficients`` and ``raws`` need no further arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...checks import unknown
from ..instructions import MAIN, PlanData, PlanError

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser

_ONLY_MAIN = (MAIN,)


def channels_of(denoiser: Denoiser) -> tuple[str, ...]:
    """The channels of ``denoiser``."""
    return tuple(getattr(denoiser, "channels", _ONLY_MAIN))


def channel_numbers(
    denoiser: Denoiser, t: float, channel: str = MAIN
) -> tuple[float, tuple[float, ...]]:
    """``(p, (q_1, ...))`` of one channel at time ``t``; only other channels than main are named."""
    if channel == MAIN:
        return denoiser.coefficients(t)
    coefficients: Any = denoiser.coefficients
    numbers: tuple[float, tuple[float, ...]] = coefficients(t, channel=channel)
    return numbers


def check_reads(plan: PlanData, denoiser: Denoiser) -> None:
    """PlanError unless ``denoiser`` has every channel that ``plan`` reads, and takes a second time
    where the plan gives one."""
    given = channels_of(denoiser)
    for channel in plan.channels:
        if channel not in given:
            raise PlanError(f"{plan.name or 'plan'}: " + unknown("channel", channel, given))
    for e in plan.evaluations:
        if e.to is None:
            continue
        if e.to.t is None:
            raise PlanError(f"{plan.name or 'plan'}: the second time of a call must have a t")
        if not takes(denoiser.raws, "to"):
            raise PlanError(
                f"{plan.name or 'plan'} calls the network with a second time; raws() of this "
                "denoiser must take to= (a flow map)"
            )
        return


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether ``function`` takes an argument called ``name``."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def network_raws(
    denoiser: Denoiser,
    x_in: Tensor,
    t: Tensor | float,
    cond: Tensor | Mapping[str, Tensor] | None,
    channels: tuple[str, ...] = _ONLY_MAIN,
    to: Tensor | float | None = None,
) -> tuple[Tensor, ...]:
    """One network call: ``denoiser.raws(x_in, t, cond)``.

    ``channels=`` is given where others than main are read and ``raws`` takes it, ``to=`` where
    there is a second time.
    """
    if channels == _ONLY_MAIN and to is None:
        return denoiser.raws(x_in, t, cond)
    raws: Any = denoiser.raws
    further: dict[str, Any] = {} if to is None else {"to": to}
    if channels != _ONLY_MAIN and takes(raws, "channels"):
        further["channels"] = channels
    answer: tuple[Tensor, ...] = raws(x_in, t, cond, **further)
    return answer
