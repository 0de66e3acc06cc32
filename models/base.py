"""``BaseDenoiser``, a base class with every member that the package reads from a denoiser;
``Wrapper``; and ``complete``, which adds missing members to a user's object.

The ``Denoiser`` protocol has six members; an object with these works everywhere. Samplers,
guidance, evaluation and the command line read more members. They are declared here, each with a
default:

    device                  device of the network's weights; None: the device of the state
    network                 the network behind the model; None for exact models
    offset, batch           the state is x - offset (mean-reverting paths); the only batch size
                            that the model accepts, or None
    time_mismatch(t)        distance between t and the time that the network receives
    check_cond(cond, batch) raises the errors that ``raws`` would raise for the condition
    classes                 number of class labels, 0 for none
    channels                names of the linear combinations of the raw outputs that
                            ``coefficients(t, channel)`` can return
    null_cond(cond, batch)  the unconditional condition; None if there is none
    select(rows)            the model for those rows of its batch
    parameters()            the trainable tensors
    two_times               True if ``raws`` takes ``to``, a second time (flow maps)
    preserves_input         True if ``raws`` never writes into ``x_in``
    sigma_data              standard deviation of the data x0 in the units of the state,
                            ``sqrt(mean_j Var(x0_j))`` over elements j; None: unknown, or zero
    guided                  True if the prediction is that of a guided model (classifier-free
                            guidance and its kin extrapolate)
    latent                  True if samples are latents of an autoencoder

Every public function that takes a denoiser calls ``complete``; all code behind it reads the members
directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Self, override

from ..checks import ArgumentError, between, takes
from ..schedules.base import Schedule
from ..schedules.mean_reverting import MeanReverting
from .denoiser import Condition, Denoiser, Time, call, check_denoiser

#: the channels of a denoiser with one reading only
MAIN = ("main",)
#: names of class labels in a mapping of conditions
LABELS = ("label", "class_labels")


class BaseDenoiser:
    """Base class of denoisers with a default for every member except ``schedule``, ``prediction``,
    ``shape``, ``raws`` and ``coefficients``."""

    schedule: Schedule
    prediction: str
    shape: tuple[int, ...] | None = None
    device: torch.device | None = None
    network: Any = None
    offset: Tensor | None = None
    batch: int | None = None
    classes: int = 0
    channels: tuple[str, ...] = MAIN
    #: True if ``raws`` takes ``to: Time``, the second time of a flow map from ``t`` to ``to``
    two_times: bool = False
    #: if False, ``complete`` passes a copy of ``x_in`` to ``raws``
    preserves_input: bool = False
    sigma_data: float | None = None
    guided: bool = False
    latent: bool = False

    def raws(
        self, x_in: Tensor, t: Time, cond: Condition = None, channels: Sequence[str] = MAIN
    ) -> tuple[Tensor, ...]:
        """Return the raw outputs, each (B, *shape), for ``x_in = input_scale(t) x`` (B, *shape) at
        ``t``. ``channels`` names the channels that the caller will read; the number of raw outputs
        must be the same for all of them."""
        raise NotImplementedError

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Return the coefficients ``(p, (q_1, ...))`` of ``channel``, float64."""
        raise NotImplementedError

    def input_scale(self, t: float) -> float:
        """Factor from the state to the network's input; 1 by default."""
        return 1.0

    def __call__(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """Return the prediction ``p x + sum q_i raw_i`` of kind ``prediction`` at the state ``x``
        (B, *shape)."""
        return call(self, x, t, cond)

    def time_mismatch(self, t: float) -> float:
        """Distance ``|time that the network receives - t|`` in the network's own units; 0 by
        default."""
        return 0.0

    def check_cond(self, cond: Condition, batch: int) -> None:
        """Raise the error that ``raws`` would raise for this condition; the default accepts
        everything."""

    def null_cond(self, cond: Condition, batch: int) -> Condition:
        """Return the unconditional condition in the form of ``cond`` for ``batch`` samples, or None
        if the model has none."""
        return None

    def select(self, rows: Tensor) -> BaseDenoiser:
        """Return the model for the samples ``rows`` (integers) of its batch; ``self`` if it holds
        no data of single samples."""
        return self

    def parameters(self) -> Iterator[Tensor]:
        """The network's parameters."""
        return self.network.parameters() if isinstance(self.network, nn.Module) else iter(())


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
    """Return ``label`` for every sample, (B,), in the form of ``cond``: a tensor, or a mapping with
    the same key. The device is that of ``cond``, else ``device``."""
    if not isinstance(cond, Mapping):
        where = device if cond is None else cond.device
        return torch.full((batch,), label, dtype=torch.int64, device=where)
    name = next((key for key in cond if key in LABELS), LABELS[0])
    where = cond[name].device if name in cond else device
    return {name: torch.full((batch,), label, dtype=torch.int64, device=where)}


def network_classes(network: Any) -> int:
    """Number of class labels ``network.config.classes`` of a fewstep network; 0 for other
    networks."""
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
    """Call ``denoiser.raws``. ``channels`` is passed only if it names more than the main channel
    and ``raws`` takes it, ``to`` only if it is given, so that a user may define
    ``raws(x_in, t, cond)``.

    ``plans.running.channels.network_raws`` applies the same rule: ``plans`` runs denoisers that are
    not completed and does not import this module.
    """
    further: dict[str, Any] = {} if to is None else {"to": to}
    if tuple(channels) != MAIN and takes(denoiser.raws, "channels"):
        further["channels"] = channels
    return denoiser.raws(x_in, t, cond, **further)


def read_coefficients(
    denoiser: Denoiser, t: float, channel: str = "main"
) -> tuple[float, tuple[float, ...]]:
    """Call ``denoiser.coefficients``. The main channel is not passed, so that a user may define
    ``coefficients(t)``."""
    if channel == "main":
        return denoiser.coefficients(t)
    return denoiser.coefficients(t, channel)  # type: ignore[call-arg]


def complete(denoiser: Denoiser) -> BaseDenoiser:
    """Return ``denoiser`` with all members of BaseDenoiser: unchanged if it has them and does not
    write into its input, else in an adapter.

    Raises ArgumentTypeError if it is not a Denoiser, and ArgumentError for a user's object on a
    MeanReverting schedule without an attribute ``offset``, or whose ``sigma_data`` is not a
    positive finite number.
    """
    if isinstance(denoiser, BaseDenoiser):
        return denoiser if denoiser.preserves_input else _Preserving(denoiser)
    check_denoiser(denoiser)
    return _Completed(denoiser)


class _Preserving(Wrapper):
    """Wrapper that passes a copy of the input to a denoiser that may write into it."""

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
