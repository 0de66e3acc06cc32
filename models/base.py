"""The whole contract of a denoiser: a base class with defaults, a wrapper, and the adapter that
completes a user's object.

The ``Denoiser`` protocol has six members, and an object with these runs everywhere. The other
members, which samplers, guidance, evaluation and the command line read, are declared here once,
each with its default:

    device                  where the network's weights are; None: the state decides
    network                 the network behind the model; None for exact models
    offset, batch           the state is x - offset (mean-reverting paths); the batch size that the
                            model is bound to
    time_mismatch(t)        distance between t and the time that the network is told
    check_cond(cond, batch) raises where ``raws`` would refuse the condition
    classes                 number of class labels, 0 for none
    channels                linear readings of one call: ``coefficients(t, channel)``
    null_cond(cond, batch)  the condition that means "unconditional"; None where there is none
    select(rows)            the model for those rows of its batch
    parameters()            the tensors that training changes
    two_times               ``raws`` takes ``to``, a second time (flow maps)
    preserves_input         ``raws`` never writes into ``x_in``

``complete`` is called by every public function that takes a denoiser; all code behind it reads the
members directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Self, override

from ..checks import ArgumentError, takes
from ..schedules.base import Schedule
from ..schedules.mean_reverting import MeanReverting
from .denoiser import Condition, Denoiser, Time, call, check_denoiser

#: the channel of a denoiser that has no others
MAIN = ("main",)
#: names of class labels in a mapping of conditions
LABELS = ("label", "class_labels")


class BaseDenoiser:
    """A Denoiser with defaults for all members but ``schedule``, ``prediction``, ``shape``,
    ``raws`` and ``coefficients``."""

    schedule: Schedule
    prediction: str
    shape: tuple[int, ...] | None = None
    device: torch.device | None = None
    network: Any = None
    offset: Tensor | None = None
    batch: int | None = None
    classes: int = 0
    channels: tuple[str, ...] = MAIN
    #: ``raws`` takes ``to: Time``, the second time of a flow map from ``t`` to it
    two_times: bool = False
    #: where False, ``complete`` puts a copy of ``x_in`` in front of ``raws``
    preserves_input: bool = False

    def raws(
        self, x_in: Tensor, t: Time, cond: Condition = None, channels: Sequence[str] = MAIN
    ) -> tuple[Tensor, ...]:
        """Raw outputs, each (B, *shape), for ``x_in = input_scale(t) x`` (B, *shape) at ``t``.
        ``channels`` are those that will be read; the tuple has the same length for all of them."""
        raise NotImplementedError

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """``(p, (q_1, ...))`` of ``channel``, float64."""
        raise NotImplementedError

    def input_scale(self, t: float) -> float:
        """The factor from the state to the network's input; 1 by default."""
        return 1.0

    def __call__(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """``p x + sum q_i raw_i``, of kind ``prediction``, for the state ``x`` (B, *shape)."""
        return call(self, x, t, cond)

    def time_mismatch(self, t: float) -> float:
        """``|time that the network is told - t|`` in the network's own units; 0 by default."""
        return 0.0

    def check_cond(self, cond: Condition, batch: int) -> None:
        """Raise what ``raws`` would raise for this condition; by default, nothing."""

    def null_cond(self, cond: Condition, batch: int) -> Condition:
        """The unconditional condition of the form of ``cond`` for ``batch`` samples, or None where
        the model has none."""
        return None

    def select(self, rows: Tensor) -> BaseDenoiser:
        """The model for the samples ``rows`` (integers) of its batch; itself where it holds nothing
        that belongs to single samples."""
        return self

    def parameters(self) -> Iterator[Tensor]:
        """The network's parameters."""
        return self.network.parameters() if isinstance(self.network, nn.Module) else iter(())


class _Forwarded:
    """A member of a Wrapper that is read from the wrapped denoiser until an instance sets its
    own."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, wrapper: Any, owner: type) -> Any:
        return self if wrapper is None else getattr(wrapper.denoiser, self.name)


def _forwarded() -> Any:
    """Typed as Any, so that the declared types of BaseDenoiser hold."""
    return _Forwarded()


class Wrapper(BaseDenoiser):
    """``denoiser`` with every member forwarded: the base of guidance and of anything else that
    changes a model.

    A subclass overrides what it changes, usually ``raws`` (``self.denoiser.raws(...)`` is the
    wrapped model's); ``__call__`` follows from ``raws``, ``coefficients`` and ``input_scale``. A
    wrapper that adds tensors of single samples also overrides ``select``. ``self.denoiser`` is
    complete, so all members may be read from it.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        """Raises ArgumentTypeError for what is not a Denoiser."""
        self.denoiser = complete(denoiser)

    if not TYPE_CHECKING:
        schedule = _forwarded()
        prediction = _forwarded()
    shape = _forwarded()
    device = _forwarded()
    network = _forwarded()
    offset = _forwarded()
    batch = _forwarded()
    classes = _forwarded()
    channels = _forwarded()
    two_times = _forwarded()
    preserves_input = _forwarded()

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        return read_raws(self.denoiser, x_in, t, cond, channels, to)

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return read_coefficients(self.denoiser, t, channel)

    @override
    def input_scale(self, t: float) -> float:
        return self.denoiser.input_scale(t)

    @override
    def time_mismatch(self, t: float) -> float:
        return self.denoiser.time_mismatch(t)

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        self.denoiser.check_cond(cond, batch)

    @override
    def null_cond(self, cond: Condition, batch: int) -> Condition:
        return self.denoiser.null_cond(cond, batch)

    @override
    def select(self, rows: Tensor) -> Self:
        """This wrapper around the selected rows of the wrapped model."""
        inner = self.denoiser.select(rows)
        if inner is self.denoiser:
            return self
        made = copy(self)
        made.denoiser = inner
        return made

    @override
    def parameters(self) -> Iterator[Tensor]:
        return self.denoiser.parameters()


def labels_like(cond: Condition, label: int, batch: int, device: torch.device | None) -> Condition:
    """``label`` for every sample, (B,), in the form of ``cond``: a tensor, or a mapping with the
    name that it has there; on the device of ``cond``, else on ``device``."""
    if not isinstance(cond, Mapping):
        where = device if cond is None else cond.device
        return torch.full((batch,), label, dtype=torch.int64, device=where)
    name = next((key for key in cond if key in LABELS), LABELS[0])
    where = cond[name].device if name in cond else device
    return {name: torch.full((batch,), label, dtype=torch.int64, device=where)}


def network_classes(network: Any) -> int:
    """``network.config.classes``, as networks of ours have it; 0 where there is none."""
    found = getattr(getattr(network, "config", None), "classes", 0)
    return found if isinstance(found, int) else 0


def read_raws(
    denoiser: Denoiser,
    x_in: Tensor,
    t: Time,
    cond: Condition,
    channels: Sequence[str] = MAIN,
    to: Time | None = None,
) -> tuple[Tensor, ...]:
    """``denoiser.raws``; ``channels`` is handed on only where more than the main channel is read
    and ``raws`` takes it, ``to`` only where there is a second time, so that a
    ``raws(x_in, t, cond)`` is legal."""
    further: dict[str, Any] = {} if to is None else {"to": to}
    if tuple(channels) != MAIN and takes(denoiser.raws, "channels"):
        further["channels"] = channels
    return denoiser.raws(x_in, t, cond, **further)


def read_coefficients(
    denoiser: Denoiser, t: float, channel: str = "main"
) -> tuple[float, tuple[float, ...]]:
    """``denoiser.coefficients``; the name of the main channel is not handed on, so that a
    ``coefficients(t)`` is legal."""
    if channel == "main":
        return denoiser.coefficients(t)
    return denoiser.coefficients(t, channel)  # type: ignore[call-arg]


def complete(denoiser: Denoiser) -> BaseDenoiser:
    """``denoiser`` with all members of BaseDenoiser: itself where it has them and does not write
    into its input, an adapter around it otherwise.

    Raises ArgumentTypeError for what is not a Denoiser, and ArgumentError for a user's object on a
    MeanReverting schedule that does not say its ``offset``.
    """
    if isinstance(denoiser, BaseDenoiser):
        return denoiser if denoiser.preserves_input else _Preserving(denoiser)
    check_denoiser(denoiser)
    return _Completed(denoiser)


class _Preserving(Wrapper):
    """``denoiser``, which may write into its input, with a copy of the input."""

    preserves_input = True

    def __init__(self, denoiser: BaseDenoiser) -> None:
        self.denoiser = denoiser

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        return read_raws(self.denoiser, x_in.clone(), t, cond, channels, to)

    @override
    def __call__(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        return self.denoiser(x.clone(), t, cond)


class _Completed(BaseDenoiser):
    """A user's object: members of BaseDenoiser that it has, with the documented type, are read from
    it; the others have their defaults."""

    preserves_input = True

    def __init__(self, own: Denoiser) -> None:
        self.own = own
        self.schedule, self.prediction, self.shape = own.schedule, own.prediction, own.shape
        self.network = getattr(own, "network", None)
        self.batch = self._member("batch", int, None)
        self.classes = self._member("classes", int, 0) or network_classes(self.network)
        channels = self._member("channels", tuple, MAIN)
        self.channels = channels if channels[:1] == MAIN else MAIN
        self.two_times = takes(own.raws, "to")
        self.offset = self._member("offset", Tensor, None)
        if isinstance(own.schedule, MeanReverting) and not hasattr(own, "offset"):
            raise ArgumentError(
                f"the {type(own).__name__} is on {own.schedule!r} and has no attribute offset: "
                "set offset = mu (or None where its state is x - mu already), or derive it from "
                "fewstep.models.Wrapper, which forwards the offset"
            )

    def _member(self, name: str, kind: type, default: Any) -> Any:
        found = getattr(self.own, name, default)
        return found if isinstance(found, kind) else default

    def _method(self, name: str) -> Any:
        found = getattr(self.own, name, None)
        return found if callable(found) else None

    @property
    def device(self) -> torch.device | None:  # type: ignore[override]
        """The object's, which may move."""
        found = getattr(self.own, "device", None)
        return torch.device(found) if isinstance(found, str) else found

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        return read_raws(self.own, x_in.clone(), t, cond, channels, to)

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return read_coefficients(self.own, t, channel)

    @override
    def input_scale(self, t: float) -> float:
        return self.own.input_scale(t)

    @override
    def __call__(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        return self.own(x.clone(), t, cond)

    @override
    def time_mismatch(self, t: float) -> float:
        found = self._method("time_mismatch")
        return 0.0 if found is None else float(found(t))

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        found = self._method("check_cond")
        if found is not None:
            found(cond, batch)

    @override
    def null_cond(self, cond: Condition, batch: int) -> Condition:
        found = self._method("null_cond")
        return None if found is None else found(cond, batch)

    @override
    def select(self, rows: Tensor) -> BaseDenoiser:
        found = self._method("select")
        return self if found is None else complete(found(rows))

    @override
    def parameters(self) -> Iterator[Tensor]:
        found = self._method("parameters")
        return super().parameters() if found is None else iter(found())

    def __repr__(self) -> str:
        return repr(self.own)
