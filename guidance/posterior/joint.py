"""Structured noise: the sample and the noise of its measurement, drawn together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from math import prod
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, shown
from ...models.base import MAIN, BaseDenoiser, RunFacts
from ...models.denoiser import Condition, Denoiser, Time, convert_prediction
from ...models.wrapper import complete
from ..likelihoods.likelihood import Likelihood
from ..operators.operator import Operator
from . import registry
from .counts import Counts
from .posterior import Posterior
from .prediction import without_derivative
from .registry import register


class Pair(BaseDenoiser):
    """Two independent models as one of kind x0, whose state is the elements of both in a row; the
    condition is that of the first."""

    prediction = "x0"
    preserves_input = True

    def __init__(self, first: Denoiser, second: Denoiser) -> None:
        self.parts = complete(first), complete(second)
        a, b = self.parts
        if a.shape is None or b.shape is None:
            raise ArgumentError("both models must know the shape of their samples")
        if a.schedule != b.schedule:
            raise ArgumentError(
                f"the model of the noise is on {b.schedule!r}, that of the samples on "
                f"{a.schedule!r}: both need the same schedule"
            )
        if a.offset is not None or b.offset is not None:
            raise ArgumentError("models with an offset cannot be joined")
        self.schedule, self.device = a.schedule, a.device
        self.sizes = prod(a.shape), prod(b.shape)
        self.shape, self.batch = (sum(self.sizes),), a.batch

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of x (B, d), in their own shapes."""
        a, b = x[:, : self.sizes[0]], x[:, self.sizes[0] :]
        first, second = (part.shape for part in self.parts)
        assert first is not None and second is not None
        return a.reshape(-1, *first), b.reshape(-1, *second)

    @override
    def raws(
        self, x_in: Tensor, t: Time, cond: Condition = None, channels: Sequence[str] = MAIN
    ) -> tuple[Tensor, ...]:
        made = []
        for part, x, own in zip(self.parts, self.split(x_in), (cond, None), strict=True):
            found = part(x, t, own)
            if x.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
                raise without_derivative("Joint")
            wide = torch.promote_types(x.dtype, torch.float32)
            x0 = convert_prediction(
                found.to(wide), x.to(wide), t, part.prediction, "x0", self.schedule
            )
            made.append(x0.to(x.dtype).flatten(1))
        return (torch.cat(made, 1),)

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        self.parts[0].check_cond(cond, batch)

    def _of(self, first: BaseDenoiser, second: BaseDenoiser) -> Self:
        made = copy(self)
        made.parts = first, second
        return made

    @override
    def select(self, rows: Tensor) -> Self:
        return self._of(*(part.select(rows) for part in self.parts))

    @override
    def for_run(self, facts: RunFacts) -> Self:
        return self._of(*(part.for_run(facts) for part in self.parts))


class Sum(Operator):
    """``A(x) + n`` of the elements of x and n in a row."""

    def __init__(self, inner: Operator, pair: Pair) -> None:
        self.inner, self.pair, self.shape = inner, pair, pair.shape
        self.linear, self.differentiable = inner.linear, inner.differentiable

    def __repr__(self) -> str:
        return f"{self.inner!r} + noise"

    @override
    def __call__(self, x: Tensor) -> Tensor:
        first, noise = self.pair.split(self.wide(x))
        return self.inner(first) + self.inner.zero_filled(noise)

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        back = self.inner.adjoint(y).reshape(y.shape[0], -1)
        return torch.cat([back, self.inner.zero_filled(y).flatten(1).to(back)], 1)

    @override
    def zero_filled(self, y: Tensor) -> Tensor:
        return self.inner.zero_filled(y)

    @override
    def samples(self, shape: Sequence[int]) -> int | None:
        own = self.pair.parts[0].shape
        assert own is not None
        return self.inner.samples(own)

    @override
    def select(self, rows: Tensor) -> Self:
        made = copy(self)
        made.inner = self.inner.select(rows)
        return made


@register(
    "joint",
    source="Stevens et al. 2023, arXiv 2302.05290, with the likelihood of another method",
    needs=("gradients", "adjoint"),
    exact="that of its inner method, for both models",
)
class Joint(Posterior):
    """Structured noise: ``y = A(x) + n`` where n has a model of its own; both are drawn together.

        state (x_t, n_t), operator [A, I]:    a method for the pair, by default MMPS

    (Stevens, van Gorp, Meral, Shin, Yu, Robert & van Sloun 2023, arXiv 2302.05290, who push x and n
    after each step as DPS or Pi-GDM do: ``inner="pigdm"``; public code multiplies by ``J^T 1`` in
    the place of the vector-Jacobian product. The pair is a denoiser, which every sampler runs.) The
    state is the elements of x and n in a row, (B, d + m), and so are ``x=`` and the states of a
    callback; the samples of ``solve`` are those of x. With a Constraint ``y = A(x) + n`` exactly,
    with a Gaussian there is white noise besides. ``info.misfit`` is ``|y - A(x)|``, the length of
    the noise. Cost of a call: that of the inner method, where a network call is one of each of the
    two networks.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        noise: Denoiser,
        inner: str = "mmps",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Args:
            denoiser: the model of x.
            likelihood: Gaussian or Constraint.
            noise: the model of n, shaped like ``A(x)``, on the same schedule.
            inner: a method of form "denoiser".
            options: of the inner method.

        Raises ArgumentError for models that do not fit each other.
        """
        pair = Pair(denoiser, noise)
        self.pair = pair
        entry = registry.get(inner)
        if entry.form != "denoiser" or entry.make is Joint or "losses" in entry.needs:
            raise ArgumentError(
                f"inner={shown(inner)}: must be a method that is a denoiser of a likelihood, such "
                "as mmps, pigdm, tmpd or dps"
            )
        super().__init__(pair, likelihood)
        stacked = copy(self.likelihood)
        stacked.operator = Sum(self.likelihood.operator, pair)
        self.inner: Posterior = registry.made(entry, pair, stacked, dict(options or {}))
        self.inner.counts = self.counts
        self.joinable, self.at_start = self.inner.joinable, self.inner.at_start

    @override
    def accepted(self, likelihood: Any) -> Any:
        made: Likelihood = super().accepted(likelihood)
        own, noise = (part.shape for part in self.pair.parts)
        assert own is not None
        if made.operator.measured(own) != noise:
            raise ArgumentError(
                f"the model of the noise has samples {noise}; the operator measures "
                f"{made.operator.measured(own)}"
            )
        return made

    @override
    def samples(self, shape: Sequence[int]) -> int | None:
        own = self.pair.parts[0].shape
        assert own is not None
        if tuple(shape) not in (tuple(own), self.pair.shape):
            raise ArgumentError(
                f"samples of shape {tuple(shape)}: allowed are {tuple(own)}, and the pair "
                f"{self.pair.shape}"
            )
        return super().samples(own)

    @override
    def spent(self) -> Counts:
        return self.inner.spent()

    @override
    def cost(self, t: float) -> Counts:
        return self.inner.cost(t)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        return self.inner.raws(x_in, t, cond, channels, to)

    @override
    def finish(self, x: Tensor) -> Tensor:
        return self.pair.split(x)[0]

    @override
    def select(self, rows: Tensor) -> Self:
        made = super().select(rows)
        made.inner = self.inner.select(rows)
        return made

    @override
    def for_run(self, facts: RunFacts) -> Self:
        made = copy(self)
        made.denoiser = self.denoiser.for_run(facts)
        made.inner = self.inner.for_run(facts)
        return made

    @override
    def counted(self) -> Self:
        made = super().counted()
        made.inner = copy(self.inner)
        made.inner.counts = made.counts
        return made
