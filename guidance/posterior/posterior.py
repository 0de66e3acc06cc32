"""``Posterior``, the base class of methods that are denoisers of the posterior."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, UnknownName, instance, unknown
from ...models.base import MAIN, read_coefficients
from ...models.denoiser import Condition, Denoiser, Time, host_times, per_sample
from ...models.wrapper import Wrapper
from ...plans.plan import Plan
from ...schedules.kinds import convert
from ...schedules.node import Node
from ..likelihoods.likelihood import Likelihood
from ..operators.derivatives import no_gradient
from .counts import Counts
from .prediction import Prediction, plain, predicted, recorded


class Posterior(Wrapper):
    """A denoiser of kind x0 whose prediction is ``D + (sigma^2 / alpha) g``, where g estimates
    ``grad_x log p(y | x_t = x)``; a subclass defines ``corrected`` and ``cost``.

    Where alpha = 0 the prediction is that of the model, unless ``at_start``. Cost of a call:
    ``cost(t)``; ``counts`` adds up what was spent since it was made.
    """

    prediction = "x0"
    channels: tuple[str, ...] = MAIN
    two_times = False
    #: whether ``corrected`` differentiates the model
    differentiates = True
    #: whether it takes likelihoods whose noise is not Gaussian
    any_noise = False
    #: whether it takes operators without derivative
    black_box = False
    #: whether it changes the prediction where alpha = 0, too
    at_start = False
    #: whether the cost of a run is known before it, and does not depend on the data
    foretold = True
    #: whether a run begins at a state of the method, ``started``
    own_start = False

    def __init__(self, denoiser: Denoiser, likelihood: Any) -> None:
        """Raises ArgumentError where the likelihood does not fit the model's samples."""
        super().__init__(denoiser)
        self.counts = Counts()
        self.likelihood = self.accepted(likelihood)
        own = None if self.denoiser.shape is None else self.samples(self.denoiser.shape)
        if own is not None:
            if self.denoiser.batch not in (None, own):
                raise ArgumentError(
                    f"y is for {own} samples, the model for {self.denoiser.batch} samples"
                )
            self.batch = own

    @property
    def sigma_data(self) -> float | None:  # type: ignore[override]
        """Unknown: the posterior is narrower than the prior."""
        return None

    def accepted(self, likelihood: Any) -> Any:
        """``likelihood`` if the method can use it. Raises ArgumentError."""
        instance("likelihood", likelihood, Likelihood, "a likelihood, such as guidance.Gaussian,")
        if not (likelihood.gaussian or self.any_noise):
            raise ArgumentError(
                f"{type(self).__name__} is for Gaussian noise and exact constraints, got "
                f"{likelihood!r}: use dps with loss='score', which takes any law of the noise"
            )
        if not (likelihood.operator.differentiable or self.black_box):
            raise no_gradient(repr(likelihood.operator))
        return likelihood

    def samples(self, shape: Sequence[int]) -> int | None:
        """Number of samples that the likelihood is for; None: any."""
        found: int | None = self.likelihood.samples(shape)
        return found

    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        """The prediction of the posterior, shaped like ``p.x0``."""
        raise NotImplementedError

    def cost(self, t: float) -> Counts:
        """Cost of a call at ``t``."""
        bare = self.schedule.node(t).alpha == 0.0 and not self.at_start
        return Counts(1) if bare else self.spent()

    def spent(self) -> Counts:
        """Cost of a call that changes the prediction."""
        raise NotImplementedError

    def planned(self, plan: Plan) -> Counts:
        """Cost of a run of ``plan``, if ``foretold``."""
        total = Counts()
        for call in plan.evaluations:
            total += self.cost(float(call.node.t or 0.0))
        return total

    def readings(self, x0: Tensor, corrected: Tensor) -> tuple[Tensor, ...]:
        """The raw outputs, from the prediction of the model and that of the posterior."""
        return (corrected,)

    def started(self, x: Tensor, node: Node) -> Tensor:
        """The first state of a run, from the sampler's noise x (B, *shape) at ``node``."""
        return x

    def finish(self, x: Tensor) -> Tensor:
        """The samples, from those of the sampler (B, *shape)."""
        return x

    def data(self, x0: Tensor) -> Tensor:
        """``x0`` in the coordinates of the data: the state may be shifted by ``offset``."""
        return x0 if self.offset is None else x0 + self.offset.to(x0)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        if self.denoiser.shape is None:
            self.samples(x_in.shape[1:])
        at = Levels.of(self, host_times(t, x_in.shape[0]), x_in)
        if at.start and not self.at_start:
            x0 = plain(self.denoiser, x_in, t, cond, self.counts).to(x_in.dtype)
            return self.readings(x0, x0)
        if self.differentiates:
            p = predicted(self.denoiser, x_in, t, cond, self.counts, type(self).__name__)
        else:
            x0 = plain(self.denoiser, x_in, t, cond, self.counts)
            p = Prediction(x_in, x0, recorded(self.denoiser, x_in), self.counts)
        made = self.corrected(p, at)
        if 0.0 in at.alphas and not self.at_start:  # some samples are at the start
            made = torch.where(at.alpha == 0.0, p.value, made)
        return self.readings(p.value.to(x_in.dtype), made.to(x_in.dtype))

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Return those of x0 itself. Raises ConversionError where the model's prediction does not
        determine x0."""
        if channel not in self.channels:
            raise UnknownName(unknown("channel", channel, self.channels))
        read_coefficients(self.denoiser, t)
        convert(self.denoiser.prediction, "x0", self.schedule.node(t))
        return 0.0, (1.0,)

    @override
    def input_scale(self, t: float) -> float:
        return 1.0

    @override
    def select(self, rows: Tensor) -> Self:
        made = copy(self)
        made.denoiser = self.denoiser.select(rows)
        made.likelihood = self.likelihood.select(rows)
        if "batch" in vars(self):
            made.batch = len(rows)
        return made

    def counted(self) -> Self:
        """A copy with counts of its own."""
        made = copy(self)
        made.counts = Counts()
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.denoiser!r}, {self.likelihood!r})"


class Levels:
    """Numbers of the schedule at the times of a call, as (B or 1, 1, ..., 1).

    ``factor``: sigma^2 / alpha, 0 where alpha = 0. ``fading``: sigma^2 / (alpha^2 + sigma^2).
    ``start``: alpha = 0 for all samples.
    """

    def __init__(self, alphas: Sequence[float], sigmas: Sequence[float], like: Tensor) -> None:
        wide = torch.promote_types(like.dtype, torch.float32)
        factors = [s * s / a if a else 0.0 for a, s in zip(alphas, sigmas, strict=True)]
        self.start = not any(alphas)
        self.alphas, self.sigmas = tuple(alphas), tuple(sigmas)
        self.factor, self.alpha = (per_sample(v, like, wide) for v in (factors, alphas))
        self._like, self._wide = like, wide
        self.fading = self.column(
            [s * s / (a * a + s * s) for a, s in zip(alphas, sigmas, strict=True)]
        )

    @classmethod
    def of(cls, denoiser: Denoiser, times: Sequence[float], like: Tensor) -> Levels:
        """Those of ``denoiser.schedule`` at one or B times."""
        nodes = [denoiser.schedule.node(t) for t in times]
        return cls([n.alpha for n in nodes], [n.sigma for n in nodes], like)

    def column(self, values: Sequence[float]) -> Tensor:
        """``values``, one or B, as (B or 1, 1, ..., 1)."""
        return per_sample(values, self._like, self._wide)
