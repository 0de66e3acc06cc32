"""Standard normal noise addressed by (sample seed, stream, draw, particle). It is counter-based:
there is no state, and the order of draws does not matter.

Element ``e`` of a sample (its index in C order, the batch axis left out) is made from the
Philox4x32-10 block

    key     = (seed mod 2^32, seed div 2^32)
    counter = (e div 4, stream, draw, particle)   ->  four 32-bit words w0, w1, w2, w3

by Box and Muller 1958 (Ann. Math. Statist. 29, p. 610) in fp32, with
``u_i = (float32(w_i) + 0.5) * 2^-32`` in (0, 1]:

    r = sqrt(-2 log u0),  z0 = r cos(2 pi u1),  z1 = r sin(2 pi u1)
    s = sqrt(-2 log u2),  z2 = s cos(2 pi u3),  z3 = s sin(2 pi u3)

and ``e mod 4`` picks one. ``particle`` is 0 unless several rows share a seed (populations): then it
is the place of the row among them, so that two copies of one particle get different noise.

``2 pi`` is its fp32 rounding and the angle is one fp32 product, so ``u``
and the angle have the same bits on every device; ``|z| <= sqrt(66 log 2) = 6.764``. Every sample is
therefore the same bits in any batch, at any place of it and in any order; between devices (and on
the CPU between the compiled kernel of ``native`` and numpy) log, cos and sin differ in the last
place, 1e-6 at most in ``z``. Other output dtypes are the fp32 normals, cast.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, integer, shown, tensor
from ...checks import device as checked_device
from .device import fill_by_triton
from .fills import fill_numpy, fill_torch
from .native import NORMALS, fill
from .philox import WORD

#: the most samples of one batch: their seeds alone take half a gigabyte
MAX_SAMPLES = 1 << 24
#: stream of the start state's noise
START_STREAM = 0
#: stream of the noise that a solver adds
SOLVER_STREAM = 1
#: stream of what guidance draws
GUIDANCE_STREAM = 4
#: stream of the choices among the particles of a population
POPULATION_STREAM = 5


def seeds_from(seed: int, n: int) -> tuple[int, ...]:
    """The seeds ``seed .. seed + n - 1`` of ``n`` samples."""
    first, n = integer("seed", seed, -(1 << 64), 1 << 64), integer("n", n, -(1 << 63))
    if not 0 <= n <= MAX_SAMPLES:
        raise ArgumentError(f"n = {n} samples in one batch; must be from 0 to {MAX_SAMPLES}")
    if first < 0 or first + n > 1 << 64:
        raise ArgumentError(
            f"seeds {first} .. {first} + {n} - 1 must be in the range 0 <= seed < 2**64"
        )
    return tuple(range(first, first + n))


def check_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """``seeds`` as a tuple of Python ints; raises TypeError or ValueError unless all are integers
    with ``0 <= seed < 2**64``."""
    try:
        count = len(seeds)  # type: ignore[arg-type]
        if count > MAX_SAMPLES:
            raise ArgumentError(f"{count} seeds; a batch has at most {MAX_SAMPLES}")
    except TypeError:  # an iterator, or no sequence at all
        pass
    except OverflowError:
        raise ArgumentError(
            f"{seeds!r} are too many seeds; a batch has at most {MAX_SAMPLES}"
        ) from None
    try:
        items = tuple(seeds)
    except TypeError:
        raise ArgumentTypeError(
            f"seeds must be a sequence of integers, one per sample, got {seeds!r}; "
            "seeds_from(seed, n) makes one"
        ) from None
    if _plain(items, 1 << 64):
        return items
    out = []
    for place, seed in enumerate(items):
        try:
            if isinstance(seed, (bool, np.bool_)):
                raise TypeError
            value = operator.index(seed)
        except TypeError:
            raise ArgumentTypeError(
                f"seeds[{place}] = {seed!r} is no integer; allowed are integers with 0 <= "
                "seed < 2**64"
            ) from None
        if not 0 <= value < 1 << 64:
            raise ArgumentError(
                f"seeds[{place}] = {value} is out of range; allowed are integers with 0 <= "
                "seed < 2**64"
            )
        out.append(value)
    return tuple(out)


def _plain(items: Sequence[object], end: int) -> bool:
    """Whether all are Python ints in ``[0, end)``: quick, for many."""
    whole: Any = items
    return set(map(type, items)) <= {int} and (not items or 0 <= min(whole) <= max(whole) < end)


def keys_of(seeds: Iterable[int], device: torch.device | str | None = None) -> Tensor:
    """Philox keys of ``seeds``: int64, shape ``(2, n)``, low 32 bits then high 32 bits."""
    values = check_seeds(seeds)
    place = checked_device(device)
    return torch.tensor(
        [[s & WORD for s in values], [s >> 32 for s in values]], dtype=torch.int64, device=place
    )


def normals(
    seeds: Iterable[int],
    shape: Sequence[int],
    *,
    stream: int,
    draw: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    particles: Iterable[int] | None = None,
) -> Tensor:
    """Standard normals of shape ``(len(seeds), *shape)``; sample ``i`` depends only on
    ``seeds[i]``, ``stream``, ``draw`` and ``particles[i]`` (None: 0).

    ``shape`` is that of one sample; ``stream`` and ``draw`` lie in ``[0, 2^32)``; ``dtype`` is a
    floating point dtype (the fp32 normals are cast at the end). Raises TypeError or ValueError on
    seeds that are not integers with ``0 <= seed < 2**64``, on addresses out of range and on other
    dtypes.
    """
    values = check_seeds(seeds)
    keys = keys_of(values, device)
    places = None if particles is None else particles_on(particles, len(values), keys.device)
    return normals_of_keys(keys, shape, stream=stream, draw=draw, dtype=dtype, particles=places)


def particles_on(particles: Iterable[int], count: int, device: torch.device) -> Tensor | None:
    """``particles``, one number for each of ``count`` rows, as int64 (count,) on ``device``; None
    where all are 0. Raises ArgumentError unless they are integers in ``[0, 2^32)``."""
    values = check_particles(particles, count)
    if not any(values):
        return None
    return torch.tensor(values, dtype=torch.int64).to(device)


def check_particles(particles: Iterable[int], count: int) -> tuple[int, ...]:
    """``particles`` as a tuple of ``count`` Python ints in ``[0, 2^32)``. Raises ArgumentError."""
    values = tuple(particles)
    if not _plain(values, 1 << 32):
        values = tuple(integer("particles", p, 0, WORD) for p in values)
    if len(values) != count:
        raise ArgumentError(f"{len(values)} particles for {count} seeds; must be one per row")
    return values


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape`` as a tuple of Python ints. Raises ArgumentTypeError unless it is a sequence of
    integers >= 0."""
    if (
        isinstance(shape, (str, bytes))
        or not isinstance(shape, Iterable)
        or getattr(shape, "ndim", 1) != 1
    ):
        raise ArgumentTypeError(
            f"shape={shown(shape)} must be the shape of one sample, a tuple of integers"
        )
    return tuple(integer("shape", size, 0) for size in shape)


def _check_word(name: str, value: int) -> None:
    """Raise ArgumentError unless ``value`` is an integer of 32 bits."""
    if not 0 <= integer(name, value, -1 << 64) <= WORD:
        raise ArgumentError(
            f"{name} = {value} is out of range; allowed are integers with 0 <= {name} < 2**32"
        )


def normals_of_keys(
    keys: Tensor,
    shape: Sequence[int],
    *,
    stream: int,
    draw: int,
    dtype: torch.dtype = torch.float32,
    particles: Tensor | None = None,
) -> Tensor:
    """:func:`normals` for seeds already made into ``keys`` by :func:`keys_of`, and ``particles`` by
    :func:`particles_on`, on their device: nothing crosses to or from the host."""
    _check_word("stream", stream)
    _check_word("draw", draw)
    shape = _shape(shape)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ArgumentTypeError(
            f"dtype = {dtype}: normals come in floating point dtypes, e.g. torch.float32 or "
            "torch.bfloat16"
        )
    n, size = keys.shape[1], math.prod(shape)
    counters = -(-size // 4)
    if counters > 1 << 32:
        raise ArgumentError(
            f"a sample of shape {tuple(shape)} has {size} elements; at most 2**34 are allowed"
        )
    flat = torch.empty((n, size), dtype=torch.float32, device=keys.device)
    if size and not (
        fill_by_triton(flat, keys, stream, draw, particles)
        or fill(flat, keys, NORMALS, (stream, draw, 0), particles)
    ):
        write = fill_numpy if keys.device.type == "cpu" else fill_torch
        write(flat, keys, stream, draw, particles)
    return flat.view(n, *shape).to(dtype)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Normals that are not drawn yet: a launch that can draws them itself, :meth:`tensor` makes
    them. Its attributes are those of the tensor; ``keys`` and ``places`` are on its device."""

    keys: Tensor
    places: Tensor | None
    stream: int
    draw: int
    shape: torch.Size
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        """The device that they are drawn on."""
        return self.keys.device

    @property
    def is_cpu(self) -> bool:
        """Whether that is the CPU."""
        return self.keys.is_cpu

    def tensor(self) -> Tensor:
        """The normals."""
        return normals_of_keys(
            self.keys,
            self.shape[1:],
            stream=self.stream,
            draw=self.draw,
            dtype=self.dtype,
            particles=self.places,
        )


@dataclass(frozen=True)
class SeededNoise:
    """The noise of a batch: one seed per sample and a stream. ``noise(draw, like)`` is draw number
    ``draw`` of that stream.

    ``particles``: one number per row, where rows share a seed; None: all are 0. The seeds travel to
    a device once; after that a draw touches the device only.
    """

    seeds: tuple[int, ...]
    stream: int = SOLVER_STREAM
    particles: tuple[int, ...] | None = None
    _keys: dict[torch.device, Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _places: dict[torch.device, Tensor | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        if self.particles is not None:
            own = check_particles(self.particles, len(self.seeds))
            object.__setattr__(self, "particles", own)
        _check_word("stream", self.stream)

    def __call__(self, draw: int, like: Tensor) -> Tensor:
        """Normals with the shape, device and dtype of ``like``, whose first axis is the batch:
        ``len(seeds)``."""
        self._check_batch(like)
        return self._normals(like.shape[1:], self.stream, draw, like.device, like.dtype)

    def later(self, draw: int, like: Tensor) -> Drawn:
        """The same normals, to be drawn by the launch that reads them."""
        self._check_batch(like)
        _check_word("draw", draw)
        keys = self.keys(like.device)
        return Drawn(keys, self._on(keys.device), self.stream, draw, like.shape, like.dtype)

    def _check_batch(self, like: Tensor) -> None:
        """Raise ArgumentError unless ``like`` has one row a seed."""
        tensor("like", like)
        if like.ndim == 0 or like.shape[0] != len(self.seeds):
            raise ArgumentError(
                f"a batch of shape {tuple(like.shape)} does not match {len(self.seeds)} "
                "seeds; there must be one seed per sample"
            )

    def start(
        self,
        shape: Sequence[int],
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """The start noise of the same seeds (stream ``START_STREAM``, draw 0):
        ``(len(seeds), *shape)``, ``shape`` that of one sample."""
        return self._normals(shape, START_STREAM, 0, device, dtype)

    def _normals(
        self,
        shape: Sequence[int],
        stream: int,
        draw: int,
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> Tensor:
        keys = self.keys(device)
        return normals_of_keys(
            keys, shape, stream=stream, draw=draw, dtype=dtype, particles=self._on(keys.device)
        )

    def _on(self, device: torch.device) -> Tensor | None:
        """The particles on ``device``, made once per device."""
        if self.particles is not None and device not in self._places:
            self._places[device] = particles_on(self.particles, len(self.seeds), device)
        return self._places.get(device)

    def keys(self, device: torch.device | str | None = None) -> Tensor:
        """:func:`keys_of` the seeds on ``device``, made once per device."""
        place = torch.get_default_device() if device is None else checked_device(device)
        if place not in self._keys:
            self._keys[place] = keys_of(self.seeds, place)
        return self._keys[place]
