"""Channels and second times of network calls: checks before a run, and the call itself.

One network call may give several linear readings, ``p_c x + sum_i q_ci raw_i`` for each channel c
with the same raw outputs. A denoiser lists them in ``channels``, ``("main",)`` where it has no such
attribute; then ``coefficients`` and ``raws`` need no further arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...checks import takes, unknown
from ..instructions import MAIN, PlanData, PlanError

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser

_ONLY_MAIN = (MAIN,)


def channels_of(denoiser: Any) -> tuple[str, ...]:
    """The channels of ``denoiser``; main alone for an object with the six members of the Denoiser
    protocol."""
    try:
        return tuple(denoiser.channels)
    except AttributeError:
        return _ONLY_MAIN


def takes_second_time(denoiser: Any) -> bool:
    """Whether ``denoiser`` is a two-time network: its ``raws`` takes ``to``, and, where it declares
    ``two_times``, that is True."""
    try:
        return bool(denoiser.two_times) and takes(denoiser.raws, "to")
    except AttributeError:
        return takes(denoiser.raws, "to")


def channel_numbers(
    denoiser: Denoiser, t: float, channel: str = MAIN
) -> tuple[float, tuple[float, ...]]:
    """``(p, (q_1, ...))`` of one channel at time ``t``; only other channels than main are named."""
    if channel == MAIN:
        return denoiser.coefficients(t)
    coefficients: Any = denoiser.coefficients
    numbers: tuple[float, tuple[float, ...]] = coefficients(t, channel=channel)
    return numbers


def check_channels(reader: str, channels: tuple[str, ...], denoiser: Any) -> None:
    """PlanError that names ``reader``, a sampler or plan, unless ``denoiser`` has every one of
    ``channels``."""
    if channels == _ONLY_MAIN:
        return
    given = channels_of(denoiser)
    for channel in channels:
        if channel not in given:
            text = unknown("channel", channel, given)
            raise PlanError(f"{reader}: {text}{_remedy(channel)}")


def check_reads(plan: PlanData, denoiser: Denoiser) -> None:
    """PlanError unless ``denoiser`` has every channel that ``plan`` reads, and takes a second time
    where the plan gives one."""
    check_channels(plan.name or "plan", plan.channels, denoiser)
    ends = [e.to for e in plan.evaluations if e.to is not None]
    if any(node.t is None for node in ends):
        raise PlanError(f"{plan.name or 'plan'}: the second time of a call must have a t")
    if ends and not takes_second_time(denoiser):
        raise PlanError(
            f"{plan.name or 'plan'} calls the network with a second time: the denoiser must be a "
            "flow map, whose raws() takes to="
        )


def _remedy(channel: str) -> str:
    """How to get a channel of guidance; empty for other channels."""
    if channel not in ("cond", "uncond"):
        return ""
    return (
        "; it reads the predictions of a guided model: pass fewstep.guidance.CFG(model, scale=...)"
    )


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
