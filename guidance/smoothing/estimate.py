"""Gradients of black-box functions by Gaussian smoothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, between, choice, flag, integer, number, shown, tensor
from ...checks.caller_warnings import warn_caller
from ...fused.noise.seeded import keys_of
from ...models.denoiser import Time, host_times
from ..populations.rewards import Reward
from .directions import blocks, orthogonal_blocks

#: forms of the difference
FORMS = ("central", "forward")
#: smallest ``mu`` for which float32 differences are not lost in rounding
LEAST_MU = 1e-3


@dataclass(frozen=True)
class Smoothing:
    """Gradient of a black-box function f from n pairs of its values (Gaussian smoothing, Nesterov
    and Spokoiny 2017, doi 10.1007/s10208-015-9296-2).

        central:  g = 1 / (2 n mu) sum_i u_i (f(x + mu u_i) - f(x - mu u_i))        2 n values
        forward:  g = 1 / (n mu)   sum_i u_i (f(x + mu u_i) - f(x))                 n + 1 values

    with ``u_i ~ N(0, I)``. Both estimate the gradient of f smoothed by ``N(0, mu^2)``; for a
    quadratic f this is the gradient itself. The central form is the forward one with antithetic
    directions (u and -u). For a quadratic f with Hessian H in d dimensions the sum of the variances
    of g is

        central:  (d + 1) / n |grad|^2
        forward:  the same + mu^2 (d + 4) ((tr H)^2 + 2 tr H^2) / (4 n)
        central with orthogonal directions, n <= d:  (d / n - 1) |grad|^2,  so 0 for n = d

    Args:
        directions: n, for each sample.
        mu: distance between the values, in the units of x. Below 1e-3 the difference of float32
            values is lost in rounding; a gradient of a state that is not float64 warns there.
        form: "central" or "forward".
        orthogonal: directions orthogonal in groups of d, of length sqrt(d) each.
        chunk: largest number of rows of one call of f, but at least one direction of all samples;
            None: a block of 32 directions (d if orthogonal).

    Raises ArgumentError for numbers out of range.
    """

    directions: int = 128
    mu: float = 0.01
    form: str = "central"
    orthogonal: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        integer("directions", self.directions, 1)
        between("mu", self.mu, 0.0)
        choice("form", self.form, FORMS)
        flag("orthogonal", self.orthogonal)
        if self.chunk is not None:
            integer("chunk", self.chunk, 1)

    @property
    def evaluations(self) -> int:
        """Values of f for the gradient of one sample."""
        return 2 * self.directions if self.form == "central" else self.directions + 1

    def gradient(
        self,
        f: Callable[[Any], Any],
        x: Tensor,
        *,
        seeds: Sequence[int] | Tensor | None = None,
        t: Time = 0.0,
        values: Tensor | None = None,
    ) -> Tensor:
        """Return the estimate g of ``grad f(x)`` for each sample, (B, *shape) in the dtype of x.

        A direction with a value that is not finite is left out of the mean of its sample; without
        any direction left the gradient is 0. The result of a sample does not depend on the batch if
        f does not.

        Args:
            f: function of a batch (R, *shape), float32 or better, that returns R numbers; anything
                that ``Reward`` takes, or a Reward with its own counts. It is called without
                gradients. The rows of one sample are next to each other: row r belongs to sample
                ``r * B // R``.
            x: (B, *shape).
            seeds: one for each sample, as integers or an integer tensor (B,); None: sample i has
                seed i.
            t: address of the random directions, a number or a tensor with one value: other numbers
                give other directions.
            values: f(x) (B,), if known, for the forward form.

        Raises ArgumentError for arguments that do not fit; warns of cancellation (see ``mu``).
        """
        tensor("x", x, axes=1)
        address = _address(t, len(x))
        if self.mu < LEAST_MU and x.dtype != torch.float64:
            warn_caller(
                f"mu={self.mu} with {x.dtype}: differences of float32 values are lost in rounding; "
                f"use mu >= {LEAST_MU} or float64",
                UserWarning,
            )
        reward = Reward.of(f)
        keys = _keys(seeds, x)
        with torch.no_grad():
            base = x.detach().to(torch.promote_types(x.dtype, torch.float32))
            at = None
            if self.form == "forward":
                at = (reward(base) if values is None else _known(values, x))[:, None]
            return self._mean(reward, base, keys, address, at).to(x.dtype)

    def _mean(self, reward: Reward, x: Tensor, keys: Tensor, t: float, at: Tensor | None) -> Tensor:
        """The mean of ``u (difference) / distance`` over the directions with finite values."""
        total = torch.zeros_like(x)
        count = x.new_zeros(len(x))
        for u in self._directions(keys, x, t):
            step = self.mu * u
            high = _values(reward, x[:, None] + step)
            low = _values(reward, x[:, None] - step) if at is None else at
            slope = (high - low) / (self.mu if at is not None else 2.0 * self.mu)
            finite = torch.isfinite(slope)
            slope = torch.where(finite, slope, 0.0).to(x.dtype)
            for i in range(slope.shape[1]):  # one by one: the same bits in any batch and chunk
                total += slope[:, i].reshape(-1, *(1,) * (x.ndim - 1)) * u[:, i]
            count += finite.sum(1)
        return total / count.clamp(min=1.0).reshape(-1, *(1,) * (x.ndim - 1))

    def _directions(self, keys: Tensor, x: Tensor, t: float) -> Iterator[Tensor]:
        """The directions in parts of at most ``chunk`` rows, (B, k, *shape)."""
        shape = tuple(x.shape[1:])
        made = orthogonal_blocks if self.orthogonal and x.shape[1:].numel() else blocks
        for block in made(keys, shape, self.directions, t):
            size = block.shape[1] if self.chunk is None else max(1, self.chunk // max(1, len(x)))
            for first in range(0, block.shape[1], size):
                yield block[:, first : first + size].to(x.dtype)


def _values(reward: Reward, points: Tensor) -> Tensor:
    """Values (B, k) of the points (B, k, *shape)."""
    return reward(points.flatten(0, 1)).reshape(points.shape[:2])


def _address(t: Time, batch: int) -> float:
    """The one time of a call. Raises ArgumentError for several."""
    times = host_times(t, batch)
    if len(set(times)) != 1:
        raise ArgumentError(f"t={shown(t)}: must be one time for all samples")
    return number("t", times[0])


def _known(values: Tensor, x: Tensor) -> Tensor:
    """Values that are known, checked."""
    tensor("values", values)
    if values.shape != x.shape[:1]:
        raise ArgumentError(f"values have shape {tuple(values.shape)}; allowed ({len(x)},)")
    return values.detach()


def _keys(seeds: Sequence[int] | Tensor | None, x: Tensor) -> Tensor:
    """Philox keys (2, B) of the seeds. Raises ArgumentError for another number of them."""
    listed = seeds.tolist() if isinstance(seeds, Tensor) else seeds
    keys = keys_of(range(len(x)) if listed is None else listed, x.device)
    if keys.shape[1] != len(x):
        raise ArgumentError(f"{keys.shape[1]} seeds for {len(x)} samples")
    return keys
