"""Time-step guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, between, number
from ...models.base import MAIN, BaseDenoiser, RunFacts, read_raws
from ...models.denoiser import Condition, Denoiser, Time, host_times
from ...models.wrapper import Wrapper, complete
from ...schedules.host_times import attach_times
from .combination import Combination
from .contrast import Contrast
from .seeds import Seeds


class TSG(Contrast):
    """Time-step guidance (Sadat et al. 2024, arXiv 2407.02687): guidance by the same network with a
    perturbed time.

        m = m' + w (m - m'),    m' = m with the network's time replaced by t',
        t' = t + noise t_max (t / t_max)^power z,    z ~ N(0, 1)

    z is drawn for each sample, afresh at each noise level, from the sample's seed (``seeds``); t'
    is limited to the schedule's times. State, input scale and the coefficients of the prediction
    stay those of t: only the time that the network is told changes. No condition is needed.

    The authors add noise with standard deviation ``s t^a`` to the network's embedding of t, which a
    denoiser has no access to; here the time itself is perturbed. For their form make a second
    model with ``Perturbed`` and pass it to ``Contrast``. Two calls of B rows. Channels: ``main``,
    ``model``, ``ref`` (m').
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Callable[[float], float] | Tensor,
        noise: float,
        *,
        power: float = 1.0,
        interval: Sequence[float] | None = None,
    ) -> None:
        """Args:
            denoiser: the model; not a guided one, whose scale and conversions follow the time.
            scale: w, as in ``Contrast``.
            noise: standard deviation of t' at t_max in units of t_max; positive.
            power: a; 0 for a constant standard deviation.
            interval: (lo, hi): w = 1 unless ``lo < rho <= hi``.

        Raises ArgumentError for values that are not finite and for a guided model.
        """
        model = complete(denoiser)
        _refuse_combinations(model)
        shift = between("noise", noise, 0.0), number("power", power, 0.0)
        super().__init__(model, Retimed(model, *shift), scale, interval=interval)


def _refuse_combinations(model: BaseDenoiser) -> None:
    """Raise ArgumentError if ``model`` is a combination, whose weights follow the time."""
    while isinstance(model, Wrapper):
        if isinstance(model, Combination):
            raise ArgumentError(
                f"TSG of {type(model).__name__}, whose weights follow the time: pass the model "
                "itself, and guide TSG in turn"
            )
        model = model.denoiser


class Retimed(Wrapper):
    """The model ``m'`` of ``TSG``."""

    def __init__(self, denoiser: Denoiser, noise: float, power: float) -> None:
        super().__init__(denoiser)
        self.noise, self.power, self.seeds = noise, power, Seeds()

    def times(self, times: Sequence[float], batch: int) -> list[float]:
        """Return t' of each sample for ``times``, one or ``batch``."""
        low, high = float(self.schedule.t_min), float(self.schedule.t_max)
        z = self.seeds.normals(times, batch, (), torch.device("cpu")).tolist()
        own = list(times) * (batch // len(times))
        return [
            min(max(t + self.noise * high * (max(t, 0.0) / high) ** self.power * r, low), high)
            for t, r in zip(own, z, strict=True)
        ]

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            raise ArgumentError(
                "TSG under torch.compile: the times of its second call are numbers of the host, "
                "one a sample; compile the network alone"
            )
        batch = x_in.shape[0]
        moved = self.times(host_times(t, batch), batch)
        precision = torch.float32 if x_in.device.type == "mps" else torch.float64
        told = attach_times(torch.tensor(moved, dtype=precision).to(x_in.device), moved)
        return read_raws(self.denoiser, x_in, told, cond, channels, to)

    @override
    def select(self, rows: Tensor) -> Self:
        return self._seeded(self.denoiser.select(rows), self.seeds.select(rows))

    @override
    def for_run(self, facts: RunFacts) -> Self:
        seeds = Seeds(facts.seeds) if facts.seeds else self.seeds
        return self._seeded(self.denoiser.for_run(facts), seeds)

    def _seeded(self, inner: BaseDenoiser, seeds: Seeds) -> Self:
        """Return a copy around ``inner`` with these seeds."""
        made = copy(self)
        made.denoiser, made.seeds = inner, seeds
        return made

    def __repr__(self) -> str:
        return f"Retimed({self.denoiser!r}, noise={self.noise}, power={self.power})"
