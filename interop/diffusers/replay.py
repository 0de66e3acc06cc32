"""Guidance inside a pipeline: the recorded outputs of its network as a denoiser, and the guided
denoiser as the network of a run.

``Replay`` answers for the conditions ``{"cond": ...}`` and ``{"uncond": ...}``, or None, with the
recorded output of that branch. So a method of guidance wraps it as it wraps any denoiser, and its
numbers lower into the plan. The network is not called again, so a method that asks for another
input, time or condition, or for another network, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, ArgumentTypeError, UnknownName, shown, unknown
from ...fused.linear.eager import linear_combination
from ...guidance.combinations.combination import Combination
from ...guidance.combinations.conditions import Given, Null, Passed, Without
from ...guidance.combinations.fdg import FDG
from ...guidance.combinations.perturbed import Perturbed
from ...guidance.combinations.tsg import Retimed
from ...models import complete
from ...models.base import MAIN, BaseDenoiser, RunFacts, read_coefficients, read_raws
from ...models.denoiser import Condition, Denoiser, Time
from ...models.wrapper import Wrapper
from ...plans.plan import Plan
from ...plans.running.program import Call
from ...schedules import Node, Schedule, convert
from .layouts import Layout
from .network import Network
from .recorder import Branches, Recorder

Method = Callable[[BaseDenoiser], Denoiser]
_OTHER = "; for that, load the network with fewstep.models.load and use fewstep.sample"


class Replay(BaseDenoiser):
    """The network of a pipeline as a denoiser that repeats its recorded outputs."""

    preserves_input = True
    #: all pipelines of ``layouts`` have autoencoders
    latent = True

    def __init__(self, network: Network) -> None:
        self.schedule, self.prediction, self.own = network.schedule, network.prediction, network
        self.branches: Branches = {}
        self.x_in: Tensor | None = None
        self.t, self.asked = 0.0, False
        #: False where an object of the user's may pass on a copy of the input
        self.strict = True

    def hold(self, branches: Branches, x_in: Tensor, t: float) -> None:
        """Set the outputs to repeat, and the input and time that they are for."""
        self.branches, self.x_in, self.t, self.asked = branches, x_in, t, False

    def release(self) -> None:
        """Forget the outputs."""
        self.branches, self.x_in = {}, None

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return self.own.coefficients(t)

    @override
    def raws(
        self, x_in: Tensor, t: Time, cond: Condition = None, channels: Sequence[str] = MAIN
    ) -> tuple[Tensor, ...]:
        name = next(iter(cond), None) if isinstance(cond, Mapping) else "uncond"
        if isinstance(cond, Tensor) or name not in self.branches:
            raise ArgumentError(
                "the guidance asks for a condition of its own: in a pipeline there are the "
                f"prompt's prediction and the negative prompt's{_OTHER}"
            )
        same = x_in is self.x_in if self.strict else x_in.shape == self.branches[name].shape
        if not same or isinstance(t, Tensor) or float(t) != self.t:
            raise ArgumentError(
                "the guidance asks for the network at another input or time, and a pipeline calls "
                f"its network at the state of the step only{_OTHER}"
            )
        self.asked = True
        return (self.branches[name],)

    @override
    def null_cond(self, cond: Condition, batch: int) -> Condition:
        return marker("uncond", batch)


def marker(branch: str, batch: int) -> dict[str, Tensor]:
    """Return the condition that stands for ``branch``: a mapping that no other branch's can be
    joined with, so that each recorded output is given out as it is."""
    return {branch: torch.zeros(batch)}


class Clipped(Wrapper):
    """A guided denoiser whose x0, of each channel, is clipped as the scheduler's config says."""

    preserves_input = True

    def __init__(self, denoiser: BaseDenoiser, network: Network) -> None:
        super().__init__(denoiser)
        self.own, self.prediction = network, "x0"

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        if channel not in self.channels:
            raise UnknownName(unknown("channel", channel, self.channels))
        to_data(self.denoiser, self.schedule.node(t), channel)  # raises where there is no x0
        return 0.0, tuple(float(name == channel) for name in self.channels)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        found = read_raws(self.denoiser, x_in, t, cond, channels, to)
        node, made = self.schedule.node(float(t)), {}
        for name in channels:
            numbers = to_data(self.denoiser, node, name)
            made[name] = self.own.clipped(linear_combination([x_in, *found], numbers, x_in.dtype))
        spare = next(iter(made.values()))
        return tuple(made.get(name, spare) for name in self.channels)


def to_data(denoiser: BaseDenoiser, node: Node, channel: str = "main") -> tuple[float, ...]:
    """Return ``(p, q_1, ...)`` with ``x0 = p x + sum_i q_i raw_i`` for a channel of ``denoiser``.
    Raises ConversionError where its prediction does not determine x0."""
    p, qs = read_coefficients(denoiser, float(node.t or 0.0), channel)
    a, b = convert(denoiser.prediction, "x0", node)
    return (a + b * p, *(b * q for q in qs))


@dataclass(frozen=True)
class Guidance:
    """What a guided pipeline gives to its scheduler for one call: the method ``make``, which wraps
    a denoiser, and the recorder of the network's outputs. A copy of the scheduler gets none."""

    make: Method
    recorder: Recorder

    def network(self, own: Network) -> GuidedNetwork:
        """Return the guided network of a run. Raises ArgumentError for a method that one network
        with two conditions cannot serve."""
        return GuidedNetwork(own, self)

    def __reduce__(self) -> Any:
        return _none, ()


def _none() -> None:
    """What a copy of ``Guidance`` is."""


class GuidedNetwork:
    """A pipeline's network with guidance: what ``Network`` is without."""

    clip = None
    two_times = False
    shape = None

    def __init__(self, own: Network, guidance: Guidance) -> None:
        self.own, self.recorder = own, guidance.recorder
        self.replay = Replay(Network(own.schedule, own.kind))
        made = guided_by(guidance.make, self.replay, guidance.recorder.layout)
        self.denoiser = made if own.clip is None else Clipped(made, own)

    @property
    def schedule(self) -> Schedule:
        """Schedule of the network."""
        return self.own.schedule

    @property
    def prediction(self) -> str:
        """Kind of the guided prediction."""
        return self.denoiser.prediction

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that a sampler may read."""
        return self.denoiser.channels

    def input_scale(self, t: float) -> float:
        """1."""
        return 1.0

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """The coefficients of a channel."""
        return read_coefficients(self.denoiser, t, channel)

    def data(self, node: Node) -> tuple[float, ...]:
        """``(p, q_1, ...)`` with ``x0 = p x + sum_i q_i raw_i``."""
        return to_data(self.denoiser, node)

    def value(self, output: Tensor, x: Tensor, node: Node) -> Tensor:
        """``output``; x0 is clipped in ``answer``."""
        return output

    def clipped(self, data: Tensor) -> Tensor:
        """``data``; x0 is clipped in ``answer``."""
        return data

    def raws(self, output: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
        """Not called: a pipeline calls the network."""
        raise NotImplementedError("a pipeline calls its network itself")

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        """Not called: a pipeline calls the network."""
        raise NotImplementedError("a pipeline calls its network itself")

    def for_run(self, plan: Plan, batch: int | None = None) -> Self:
        """Return the network for one run of ``plan`` with ``batch`` samples, None if that is not
        known yet. Raises the error of a method that does not fit the plan or the batch."""
        batch = batch or self.denoiser.batch or 1
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.denoiser = self.denoiser.for_run(RunFacts((), plan.call_steps))
        made.denoiser.check_cond(marker("cond", batch), batch)
        return made

    def answer(self, x_in: Tensor, call: Call) -> tuple[Tensor, ...]:
        """Return the raw outputs of the network call ``call`` at ``x_in``, from the outputs that
        were recorded since the last one. Raises ArgumentError for a method that asks for other
        outputs, or for none."""
        t, replay = float(call.node.t or 0.0), self.replay
        replay.hold(self.recorder.take(x_in), x_in, t)
        cond = marker("cond", x_in.shape[0])
        try:
            found = read_raws(self.denoiser, x_in, t, cond, call.channels)
        finally:
            replay.release()
        if not replay.asked:
            raise ArgumentError("the guidance did not ask the denoiser that it was given")
        return found

    def __reduce__(self) -> Any:
        return _own, (self.own,)


def _own(network: Network) -> Network:
    """What a copy of a ``GuidedNetwork`` is: the network without guidance, because the recorder is
    that of one pipeline."""
    return network


def guided_by(make: Method, replay: Replay, layout: Layout) -> BaseDenoiser:
    """Return ``make(replay)``, completed and checked. Raises ArgumentTypeError if it is no
    denoiser, and ArgumentError if a pipeline with this layout cannot serve it."""
    try:
        made: Any = make(replay)
    except TypeError as error:
        raise ArgumentTypeError(
            f"guidance={shown(make)} cannot be called with a denoiser alone ({error}): give a "
            "function such as lambda den: fewstep.guidance.CFG(den, scale=5.0)"
        ) from error
    if made is None or isinstance(made, (Tensor, str)) or not hasattr(made, "coefficients"):
        raise ArgumentTypeError(
            f"guidance={shown(make)} returned {shown(made)}: it must return a guided denoiser, "
            "such as fewstep.guidance.CFG(den, scale=5.0)"
        )
    _check_served(made, replay, layout)
    return complete(made)


def _check_served(made: Any, replay: Replay, layout: Layout, branch: bool = False) -> None:
    """Raise ArgumentError where a part of ``made`` asks another network or for a condition of its
    own. What an object of the user's asks for is seen at its calls."""
    if isinstance(made, FDG) and layout.packed:
        raise ArgumentError(
            "FDG works on two spatial axes, and this pipeline packs its latents into a list of "
            f"tokens{_OTHER}"
        )
    if isinstance(made, Combination):
        for each in made.branches:
            if not isinstance(each.source, (Given, Null, Passed, Without)):
                raise ArgumentError(
                    f"{type(made).__name__} has a condition of its own for its branch "
                    f"{each.name!r}; in a pipeline the unconditional prediction is that of "
                    f"negative_prompt= of the call{_OTHER}"
                )
            _check_served(each.denoiser, replay, layout, branch=True)
    elif isinstance(made, (Perturbed, Retimed)):
        raise ArgumentError(
            f"the guidance asks {type(made).__name__}(...), a further call of the network, and a "
            f"pipeline calls its network once a step{_OTHER}"
        )
    elif isinstance(made, Wrapper):
        _check_served(made.denoiser, replay, layout, branch)
    elif made is not replay and branch:
        raise ArgumentError(
            f"the guidance asks another network, {shown(made)}, and a pipeline calls its own "
            f"network only{_OTHER}"
        )
    elif made is not replay:
        replay.strict = False
