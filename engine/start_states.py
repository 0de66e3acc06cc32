"""Seeds and start states of runs: ``prior_scale z`` of each sample's seed, clean data noised to the
first node, or a given state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import device as device_of
from ..checks import floating_dtype, integer
from ..fused.noise.seeded import SeededNoise, check_seeds, seeds_from
from ..models.base import BaseDenoiser
from ..models.denoiser import Denoiser
from ..models.wrapper import complete
from ..models.wrapping import shape_of
from ..schedules.node import Node
from .arguments import StateError
from .heavy_tails import kernel_noise
from .memory import check_room


class Begin(NamedTuple):
    """The arguments of ``sample`` that choose the start state."""

    n: int | None
    seed: int
    seeds: Sequence[int] | None
    x: Tensor | None
    init: Tensor | None
    device: torch.device | str | None
    dtype: torch.dtype | None

    def checked(self) -> Begin:
        """The same with ``n`` and ``device`` as plain values. Raises ArgumentError for these and
        for ``dtype``."""
        floating_dtype(self.dtype)
        n = None if self.n is None else integer("n", self.n, 1)
        return self._replace(n=n, device=device_of(self.device))

    def shifted(self, denoiser: BaseDenoiser) -> Begin:
        """In the coordinates of the state (``x - offset`` on a mean-reverting path), with the
        model's own batch where the caller leaves it open."""
        x, init, n, shift = self.x, self.init, self.n, denoiser.offset
        if shift is not None:
            x, init = (None if v is None else v - shift.to(v) for v in (x, init))
        if n is None and self.seeds is None and x is None and init is None:
            n = denoiser.batch
        return self._replace(x=x, init=init, n=n)


def begun(
    denoiser: BaseDenoiser, first: Node, begin: Begin, shape: Sequence[int] | None
) -> tuple[tuple[int, ...], Tensor]:
    """The seeds of the samples and their state at the node ``first``."""
    n, seed, seeds, x, init, device, dtype = begin.shifted(denoiser)
    chosen = chosen_seeds(n, seed, seeds, x if x is not None else init)
    return chosen, first_state(denoiser, first, chosen, x, init, shape, device, dtype)


def sample_shape(
    x: Tensor | None, init: Tensor | None, shape: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Return the shape of one sample that the caller gave; None leaves it to the model."""
    given = x if x is not None else init
    if given is not None:
        return tuple(given.shape[1:])
    return None if shape is None else shape_of(shape)


def chosen_seeds(
    n: int | None, seed: int, seeds: Sequence[int] | None, given: Tensor | None
) -> tuple[int, ...]:
    """Return the seeds of the samples, one for each of ``n`` or of the rows of ``given``. Raises
    StateError if these numbers differ."""
    count = given.shape[0] if given is not None else n
    chosen = (
        check_seeds(seeds) if seeds is not None else seeds_from(seed, 1 if count is None else count)
    )
    for what, wanted in (
        ("n", n),
        ("the batch of the given state", given.shape[0] if given is not None else None),
    ):
        if wanted is not None and wanted != len(chosen):
            raise StateError(f"{len(chosen)} seeds were given, but {what} is {wanted}")
    return chosen


def first_state(
    denoiser: Denoiser,
    first: Node,
    seeds: tuple[int, ...],
    x: Tensor | None,
    init: Tensor | None,
    shape: Sequence[int] | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """The state at the node ``first``: ``x``, or ``init`` noised to it, or noise from the seeds."""
    if x is not None:
        if init is not None:
            raise StateError("x= and init= exclude each other: pass one of them")
        return x.to(device=device or x.device, dtype=dtype or x.dtype)
    if init is not None:
        init = init.to(device=device or init.device, dtype=dtype or init.dtype)
        z = SeededNoise(seeds).start(tuple(init.shape[1:]), init.device, init.dtype)
        return first.alpha * init + first.sigma * kernel_noise(denoiser.schedule, seeds, z)
    return start_state(denoiser, first, seeds, shape=shape, device=device, dtype=dtype)


def start_state(
    denoiser: Denoiser,
    first: Node,
    seeds: Sequence[int],
    *,
    shape: Sequence[int] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    particles: Sequence[int] | None = None,
) -> Tensor:
    """Return ``prior_scale z`` (n, *shape) at the node ``first``, where z is the start noise of
    each seed (and of its particle, 0 by default). Raises StateError if no shape is known."""
    denoiser = complete(denoiser)
    size = denoiser.shape if shape is None else shape_of(shape)
    if size is None:
        raise StateError("the model does not define the shape of a sample: pass shape=")
    where = device if device is not None else denoiser.device
    check_room((len(seeds), *size), where, dtype)
    numbers = None if particles is None else tuple(particles)
    noise = SeededNoise(check_seeds(seeds), particles=numbers)
    z = noise.start(size, where, dtype or torch.float32)
    return prior_scale(denoiser, first) * kernel_noise(denoiser.schedule, seeds, z, numbers)


def prior_scale(denoiser: Denoiser, first: Node) -> float:
    """Standard deviation of the start state: the schedule's at t_max, in proportion to sigma if the
    grid begins later."""
    schedule = denoiser.schedule
    if first.t == schedule.t_max or schedule.prior_scale == 1.0:
        return schedule.prior_scale
    return schedule.prior_scale * first.sigma / float(schedule.sigma(schedule.t_max))
