"""LGD-MC: the likelihood as a mean over guesses of the clean sample."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, between, integer
from ...models.base import MAIN, RunFacts
from ...models.denoiser import Condition, Denoiser, Time, host_times
from ..combinations.seeds import Seeds
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register


@register(
    "lgd_mc",
    source="Song et al. 2023, ICML, loss-guided diffusion; also in arXiv 2503.11043",
    needs=("gradients", "adjoint", "noise"),
    exact="N(0, std^2 I) as samples -> infinity",
)
class LGDMC(Posterior):
    """Loss-guided diffusion by Monte Carlo: the likelihood of the state is the mean of that of n
    guesses around the prediction.

        D' = D + (sigma^2 / alpha) grad_x log (1/n) sum_k p(y | x0 = D(x) + r xi_k)
           = D + (sigma^2 / alpha) J^T sum_k w_k A^T (d log p / d A)(D + r xi_k)
        w = softmax_k log p(y | D + r xi_k),    r^2 = s^2 sigma^2 / (alpha^2 s^2 + sigma^2)

    (Song, Zhang, Yin, Mardani, Liu, Kautz, Chen & Vahdat 2023, ICML.) The mean is that of
    likelihoods: public code that averages the gradients of the guesses is DPS with noise. For many
    guesses and a Gaussian likelihood it is ``PiGDM``; for n = 1 one guess has all the weight. Any
    law of the noise, any operator. Guesses miss a likelihood that is narrow beside r A: with little
    noise and few guesses the run overshoots and may diverge. The normals xi are drawn from the
    sample's seed, afresh at each t. Cost of a call: 1 network call, 1 vector-Jacobian product, n
    operator and n adjoint calls, each for one guess of every sample.
    """

    any_noise = True

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, samples: int = 10, std: float = 1.0
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Poisson.
        samples: n, at least 1.
        std: s, the standard deviation of the data.
        """
        self.guesses = integer("samples", samples, 1)
        self.std = float(between("std", std, 0.0))
        self._seeds = Seeds()
        self._times: tuple[float, ...] = (0.0,)
        super().__init__(denoiser, likelihood)
        if self.likelihood.gaussian and not self.likelihood.sigma_y:
            raise ArgumentError(
                "lgd_mc divides by sigma_y^2, and a Constraint has none: use the methods mmps and "
                "pigdm, which take exact constraints"
            )

    @override
    def spent(self) -> Counts:
        return Counts(1, 1, self.guesses, self.guesses)

    @override
    def for_run(self, facts: RunFacts) -> Self:
        """A copy that draws from the seeds of the run; without seeds sample i has seed i."""
        made = self._around(self.denoiser.for_run(facts))
        made = copy(made) if made is self else made
        made._seeds = Seeds(facts.seeds) if facts.seeds else self._seeds
        return made

    @override
    def select(self, rows: Tensor) -> Self:
        made = super().select(rows)
        made._seeds = self._seeds.select(rows)
        return made

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        self._times = (*host_times(t, x_in.shape[0]),)
        return super().raws(x_in, t, cond, channels, to)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        s2 = self.std**2
        levels = zip(at.alphas, at.sigmas, strict=True)
        r = at.column([(s2 * s * s / (a * a * s2 + s * s)) ** 0.5 for a, s in levels])
        d = self.data(p.value)
        shape = (self.guesses, *d.shape[1:])
        xi = self._seeds.normals(self._times, len(d), shape, d.device).to(d)
        logs, pulls = [], []
        for k in range(self.guesses):
            own = Measurement(self.likelihood, d + r * xi[:, k], p.counts, p.graph)
            logs.append(self.likelihood.log_density(own.value))
            pulls.append(own.adjoint(self.likelihood.slope(own.value)))
        weights = torch.softmax(torch.stack(logs), 0).to(d)
        total = torch.zeros_like(d)
        for w, pull in zip(weights, pulls, strict=True):
            total = total + w.reshape(-1, *(1,) * (d.ndim - 1)) * pull
        return p.value + at.factor * p.vjp(total)
