"""``Wrapper``, the base class of denoisers that change another one, and ``complete``, which adds
missing members to a user's object.

Every public function that takes a denoiser calls ``complete``; all code behind it reads the members
of ``BaseDenoiser`` directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ..checks import ArgumentError, between, takes
from ..schedules.mean_reverting import MeanReverting
from .base import (
    MAIN,
    BaseDenoiser,
    RunFacts,
    network_classes,
    read_coefficients,
    read_raws,
)
from .denoiser import Condition, Denoiser, Time, check_denoiser


class _Forwarded:
    """Descriptor of a Wrapper's member: reads the wrapped denoiser until the instance sets its own
    value."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, wrapper: Any, owner: type) -> Any:
        return self if wrapper is None else getattr(wrapper.denoiser, self.name)


def _forwarded() -> Any:
    """Return a ``_Forwarded`` typed as Any, so that the types declared by BaseDenoiser apply."""
    return _Forwarded()


class Wrapper(BaseDenoiser):
    """Base class of denoisers that change another one: forwards every member to ``denoiser``.

    A subclass overrides what it changes, usually ``raws`` (``self.denoiser.raws(...)`` is the
    wrapped model's); ``__call__`` follows from ``raws``, ``coefficients`` and ``input_scale``. A
    wrapper that holds tensors of single samples must also override ``select``. ``self.denoiser`` is
    complete, so all members may be read from it.
    """

    #: True for a wrapper whose predictions are those of the wrapped model to rounding
    same_predictions: bool = False

    def __init__(self, denoiser: Denoiser) -> None:
        """Raises ArgumentTypeError if ``denoiser`` is not a Denoiser."""
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
    sigma_data = _forwarded()
    guided = _forwarded()
    latent = _forwarded()
    joinable = _forwarded()

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
        """Return this wrapper around the selected rows of the wrapped model."""
        return self._around(self.denoiser.select(rows))

    def _around(self, inner: BaseDenoiser) -> Self:
        """Return a copy of this wrapper around ``inner``; itself if that is what it wraps."""
        if inner is self.denoiser:
            return self
        made = copy(self)
        made.denoiser = inner
        return made

    @override
    def network_rows(self, t: float, channels: Sequence[str] = MAIN) -> int:
        return self.denoiser.network_rows(t, channels)

    @override
    def for_run(self, facts: RunFacts) -> Self:
        """Return this wrapper around the wrapped model's ``for_run``."""
        return self._around(self.denoiser.for_run(facts))

    @override
    def parameters(self) -> Iterator[Tensor]:
        return self.denoiser.parameters()


def complete(denoiser: Denoiser) -> BaseDenoiser:
    """Return ``denoiser`` with all members of BaseDenoiser: unchanged if it has them and does not
    write into its input, else in an adapter.

    Raises ArgumentTypeError if it is not a Denoiser, and ArgumentError for a user's object on a
    MeanReverting schedule without an attribute ``offset``, or whose ``sigma_data`` is not a
    positive finite number.
    """
    if isinstance(denoiser, BaseDenoiser) and denoiser.preserves_input:
        return denoiser
    compiling = torch.compiler.is_compiling()
    if isinstance(denoiser, BaseDenoiser):
        # a graph copies the input where it calls the model, see ``CopiedInput``
        return denoiser if compiling else _Preserving(denoiser)
    if compiling:
        raise ArgumentError(
            f"a {type(denoiser).__name__} under torch.compile: derive it from "
            "fewstep.models.BaseDenoiser, or give fewstep.models.complete(denoiser), made outside "
            "of the compiled function"
        )
    check_denoiser(denoiser)
    return _Completed(denoiser)


def innermost(denoiser: Denoiser) -> Denoiser:
    """Return ``denoiser`` without the wrappers that keep its predictions, and without the adapter
    of ``complete``."""
    while isinstance(denoiser, Wrapper) and denoiser.same_predictions:
        denoiser = denoiser.denoiser
    return denoiser.own if isinstance(denoiser, _Completed) else denoiser


def original(denoiser: BaseDenoiser) -> Denoiser:
    """The object that ``complete`` was given."""
    if isinstance(denoiser, _Completed):
        return denoiser.own
    return denoiser.denoiser if isinstance(denoiser, _Preserving) else denoiser


class CopiedInput:
    """What a loop reads of a denoiser, whose ``raws`` gets a copy of its input. For
    ``torch.compile``, which cannot trace the adapters of ``complete``."""

    def __init__(self, denoiser: BaseDenoiser) -> None:
        self.denoiser, self.prediction = denoiser, denoiser.prediction

    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        """The raw outputs of the denoiser."""
        return read_raws(self.denoiser, x_in.clone(), t, cond, channels, to)

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """The coefficients of the denoiser."""
        return read_coefficients(self.denoiser, t, channel)

    def input_scale(self, t: float) -> float:
        """The input scale of the denoiser."""
        return self.denoiser.input_scale(t)


class _Preserving(Wrapper):
    """Wrapper that passes a copy of the input to a denoiser that may write into it."""

    preserves_input = True
    same_predictions = True

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
    """Adapter around a user's object: reads the members of BaseDenoiser that it has with the
    documented type, and uses the defaults for the others."""

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
        _ = self.sigma_data  # checks it

    def _member(self, name: str, kind: type, default: Any) -> Any:
        found = getattr(self.own, name, default)
        return found if isinstance(found, kind) else default

    def _method(self, name: str) -> Any:
        found = getattr(self.own, name, None)
        return found if callable(found) else None

    @property
    def device(self) -> torch.device | None:  # type: ignore[override]
        """Device of the user's object, read at each access because it may move."""
        found = getattr(self.own, "device", None)
        return torch.device(found) if isinstance(found, str) else found

    @property
    def sigma_data(self) -> float | None:  # type: ignore[override]
        """Of the user's object. Raises ArgumentError unless it is None, or positive and finite."""
        found, name = getattr(self.own, "sigma_data", None), f"{type(self.own).__name__}.sigma_data"
        return None if found is None else float(between(name, found, 0.0))

    @property
    def guided(self) -> bool:  # type: ignore[override]
        return bool(self._member("guided", bool, False))

    @property
    def latent(self) -> bool:  # type: ignore[override]
        return bool(self._member("latent", bool, False))

    @property
    def joinable(self) -> bool:  # type: ignore[override]
        """Of the user's object; by default False if it has ``for_run``, whose copies may keep
        values."""
        return bool(self._member("joinable", bool, self._method("for_run") is None))

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
    def network_rows(self, t: float, channels: Sequence[str] = MAIN) -> int:
        found = self._method("network_rows")
        return 1 if found is None else int(found(t, channels))

    @override
    def for_run(self, facts: RunFacts) -> BaseDenoiser:
        found = self._method("for_run")
        return self if found is None else complete(found(facts))

    @override
    def parameters(self) -> Iterator[Tensor]:
        found = self._method("parameters")
        return super().parameters() if found is None else iter(found())

    def __repr__(self) -> str:
        return repr(self.own)
