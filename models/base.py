"""``BaseDenoiser``, a base class with every member that the package reads from a denoiser, and
``RunFacts``, what a run tells its model.

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
    network_rows(t, channels)  rows that a network receives for one sample in one call
    for_run(facts)          the model for one run: itself, or a copy that keeps values between calls
    joinable                False if such a copy keeps values, so that two calls of one batch cannot
                            be made as one call of two, nor a call made again; for an object that
                            has ``for_run`` and no ``joinable``, False
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import takes
from ..schedules.base import Schedule
from .denoiser import Condition, Denoiser, Time, call

#: the channels of a denoiser with one reading only
MAIN = ("main",)
#: names of class labels in a mapping of conditions
LABELS = ("label", "class_labels")


@dataclass(frozen=True)
class RunFacts:
    """What a run tells its model before the first call.

    ``seeds``: one per sample; empty if the noise is not made from seeds. ``steps``: of each network
    call the step of the grid that it belongs to, from 0; None if it is not known beforehand
    (drivers). ``inverse``: the run goes from data to noise.
    """

    seeds: tuple[int, ...] = ()
    steps: tuple[int, ...] | None = None
    inverse: bool = False


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
    joinable: bool = True

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

    def network_rows(self, t: float, channels: Sequence[str] = MAIN) -> int:
        """Return the number of rows that the network receives for one sample in a call of ``raws``
        at ``t`` that reads ``channels``; 1 by default."""
        return 1

    def for_run(self, facts: RunFacts) -> BaseDenoiser:
        """Return the model for one run: ``self``, or a copy where values are kept from call to call
        (such a copy serves one run only). The default keeps nothing."""
        return self

    def parameters(self) -> Iterator[Tensor]:
        """The network's parameters."""
        return self.network.parameters() if isinstance(self.network, nn.Module) else iter(())


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
