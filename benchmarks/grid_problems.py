"""The test problems of ``grid_choice`` and ``default_call``: exact mixtures of Gaussians with
diagonal covariances, at ``sigma_data`` = 1 until they are ``scaled``.

The numbers of the default are fitted on ``FIT`` and checked on ``CHECK`` (other families and other
seeds), on ``golden`` and on problems drawn ``fresh`` from a seed. Vectors have the shape (d,),
samples with broad spectra the shape (1, h, w). A rotation of the space changes no figure, so a
diagonal covariance stands for any basis (that of the cosines, for instance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self, override

from fewstep.guidance import Contrast
from fewstep.models import BaseDenoiser
from fewstep.models.denoiser import Condition, Time
from fewstep.schedules import EDM, DiscreteVP, Flow, Schedule, VPCosine, VPLinear

F64 = torch.float64


class Mix(BaseDenoiser):
    """``sum_k w_k N(mean_k, diag variance_k)``, noised as ``x = alpha x0 + sigma eps``; predicts
    ``E[x0 | x]`` in float64."""

    prediction = "x0"
    preserves_input = True

    def __init__(
        self,
        means: Tensor,
        variances: Tensor,
        weights: Tensor,
        shape: tuple[int, ...] | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """``means`` (K, d), ``variances`` (K, d), (K, 1) or (1, d), ``weights`` (K,); ``shape`` of
        one sample, (d,) by default."""
        self.means, self.weights = means, weights / weights.sum()
        self.variances = variances
        self.shape: tuple[int, ...] = (means.shape[1],) if shape is None else shape
        self.schedule = EDM() if schedule is None else schedule
        self.sigma_data = math.sqrt(float(self._variance().mean()))

    def _variance(self) -> Tensor:
        """Of every axis."""
        weights = self.weights[:, None]
        second = (weights * (self.variances + self.means.square())).sum(0)
        return second - (weights * self.means).sum(0).square()

    def on(self, schedule: Schedule) -> Self:
        """The same data on another path."""
        return self._remade(1.0, schedule)

    def scaled(self, factor: float) -> Self:
        """The data times ``factor``."""
        return self._remade(factor, self.schedule)

    def _remade(self, factor: float, schedule: Schedule) -> Self:
        variances = self.variances * factor**2
        return type(self)(self.means * factor, variances, self.weights, self.shape, schedule)

    def x0(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """``E[x0 | x]`` (B, d)."""
        inverse = 1.0 / (alpha * alpha * self.variances + sigma * sigma)
        pulled = inverse * self.means
        distance = (alpha * alpha * self.means * pulled).sum(1) - 2.0 * alpha * (x @ pulled.T)
        shrunk = self.variances * inverse
        if len(inverse) > 1:  # else the same for all components
            distance += x.square() @ inverse.expand_as(pulled).T
            distance -= inverse.log().expand_as(pulled).sum(1)
        r = torch.softmax(self.weights.log() - 0.5 * distance, 1)
        shrunk = r @ shrunk if len(inverse) > 1 else shrunk
        return sigma * sigma * (r @ pulled) + alpha * x * shrunk

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = ("main",),
    ) -> tuple[Tensor, ...]:
        node = self.schedule.node(float(t.reshape(-1)[0]) if isinstance(t, Tensor) else float(t))
        return (self.x0(x_in.flatten(1), node.alpha, node.sigma).view_as(x_in),)

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    def nearest(self, x: Tensor) -> Tensor:
        """The component whose mean is nearest to each sample (B,)."""
        return torch.cdist(x.flatten(1), self.means).argmin(1)


class Guided(Contrast):
    """``E[x0] + w (E[x0 | one half of the components] - E[x0])``: a guided exact model."""

    def __init__(self, base: Mix, w: float) -> None:
        half = slice(0, max(1, base.means.shape[0] // 2))
        part = Mix(
            base.means[half],
            base.variances[half] if len(base.variances) > 1 else base.variances,
            base.weights[half],
            base.shape,
            base.schedule,
        )
        super().__init__(part, base, w)
        self.base, self.w = base, w
        self.sigma_data = base.sigma_data

    def on(self, schedule: Schedule) -> Guided:
        """The same model on another path."""
        return Guided(self.base.on(schedule), self.w)

    def scaled(self, factor: float) -> Guided:
        """The same model of the data times ``factor``."""
        return Guided(self.base.scaled(factor), self.w)


#: weights of guidance that are fitted and checked
WEIGHTS = (3.0, 7.5)

#: a model whose converged end can be found on another path
Problem: TypeAlias = Mix | Guided


def source(seed: int) -> torch.Generator:
    """Return a random generator with this seed."""
    return torch.Generator().manual_seed(seed)


def unit(mix: Mix) -> Mix:
    """The mixture at ``sigma_data`` = 1."""
    assert mix.sigma_data is not None
    return mix.scaled(1.0 / mix.sigma_data)


def golden() -> tuple[Mix, Tensor]:
    """The mixture of tests/golden: 5 round components in 8 dims, and its 16 start noises."""
    random = np.random.RandomState(0)
    means = random.normal(size=(5, 8)) * 2.0
    widths = random.uniform(0.1, 0.5, size=5)
    weights = torch.tensor([0.30, 0.25, 0.20, 0.15, 0.10], dtype=F64)
    mix = Mix(torch.from_numpy(means), torch.from_numpy(widths)[:, None] ** 2, weights)
    return mix, torch.from_numpy(np.random.RandomState(1).normal(size=(16, 8)))


def round_components(seed: int) -> Mix:
    """5 round components in 8 dims, widths .1 to .5, means 2 N(0, 1), unequal weights."""
    r = source(seed)
    means = 2.0 * torch.randn(5, 8, generator=r, dtype=F64)
    widths = 0.1 + 0.4 * torch.rand(5, 1, generator=r, dtype=F64)
    return unit(Mix(means, widths**2, (0.4 * torch.randn(5, generator=r, dtype=F64)).exp()))


def widths_apart(seed: int, d: int, count: int, low: float, high: float) -> Mix:
    """``count`` round components in ``d`` dims, means N(0, 1), log-spaced widths."""
    means = torch.randn(count, d, generator=source(seed), dtype=F64)
    widths = torch.logspace(math.log10(low), math.log10(high), count, dtype=F64)
    return unit(Mix(means, widths[:, None] ** 2, torch.ones(count, dtype=F64)))


def lattice(seed: int, side: int = 3, width: float = 0.08) -> Mix:
    """``side`` x ``side`` points of a plane, unequal weights."""
    axis = torch.linspace(-1.0, 1.0, side, dtype=F64)
    weights = 0.2 + torch.rand(side * side, generator=source(seed), dtype=F64)
    variances = torch.full((side * side, 1), width**2, dtype=F64)
    return unit(Mix(torch.cartesian_prod(axis, axis), variances, weights))


def ellipses(seed: int, d: int = 12, count: int = 6) -> Mix:
    """Components whose width is log-uniform between .05 and .6 on every axis."""
    r = source(seed)
    means = torch.randn(count, d, generator=r, dtype=F64)
    widths = 0.05 * 12.0 ** torch.rand(count, d, generator=r, dtype=F64)
    return unit(Mix(means, widths**2, 0.5 + torch.rand(count, generator=r, dtype=F64)))


def nested(seed: int, d: int = 24) -> Mix:
    """Narrow components inside wide ones, at three centers."""
    centers = torch.randn(3, d, generator=source(seed), dtype=F64)
    widths = torch.tensor([0.08, 0.25, 0.7], dtype=F64).repeat(3)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=F64).repeat(3)
    return unit(Mix(centers.repeat_interleave(3, 0), widths[:, None] ** 2, weights))


def square(d: int) -> tuple[int, ...]:
    """(1, h, w) with h w = d, h the largest divisor up to the root."""
    h = next(n for n in range(math.isqrt(d), 0, -1) if d % n == 0)
    return (1, h, d // h)


def spectrum(seed: int, amplitudes: Tensor, count: int, spread: float = 1.0) -> Mix:
    """``count`` components that all have the widths ``amplitudes`` (d,); their means are drawn with
    ``spread`` times these."""
    d = len(amplitudes)
    means = spread * amplitudes * torch.randn(count, d, generator=source(seed), dtype=F64)
    weights = torch.ones(count, dtype=F64)
    return unit(Mix(means, amplitudes.square()[None], weights, square(d)))


def power_law(seed: int, d: int, exponent: float, count: int, spread: float = 1.0) -> Mix:
    """Widths that fall as ``j^-exponent`` with the number j of the axis."""
    axes = torch.arange(1, d + 1, dtype=F64)
    return spectrum(seed, axes**-exponent, count, spread)


def knee(seed: int, side: int, exponent: float, count: int) -> Mix:
    """Widths by the radial frequency f of a plane, ``(1 + (f/3)^2)^(-exponent/2)``: flat, then a
    power law."""
    axis = torch.arange(side, dtype=F64)
    radius = (axis[:, None].square() + axis.square()).flatten()
    return spectrum(seed, (1.0 + radius / 9.0) ** (-0.5 * exponent), count)


def low_frequencies(
    seed: int, d: int = 256, exponent: float = 1.0, count: int = 200, width: float = 0.1
) -> Mix:
    """``count`` pictures drawn with the spectrum ``j^-exponent``, each with noise of the same
    spectrum and ``width`` times its size."""
    axes = torch.arange(1, d + 1, dtype=F64) ** -exponent
    axes = axes / axes.square().mean().sqrt()
    means = axes * torch.randn(count, d, generator=source(seed), dtype=F64)
    variances = (width * axes).square()[None]
    return unit(Mix(means, variances, torch.ones(count, dtype=F64), square(d)))


#: the problems that the numbers are fitted on
FIT: dict[str, Callable[[], Mix]] = {
    "round 1": lambda: round_components(1),
    "plane": lambda: widths_apart(3, 2, 4, 0.1, 0.4),
    "widths 16": lambda: widths_apart(4, 16, 8, 0.05, 0.5),
    "widths 64": lambda: widths_apart(5, 64, 20, 0.1, 0.8),
    "many 64": lambda: widths_apart(6, 64, 200, 0.05, 0.051),
    "power 0.5": lambda: power_law(11, 256, 0.5, 4),
    "power 1": lambda: power_law(12, 256, 1.0, 4),
    "power 1.4": lambda: power_law(14, 512, 1.4, 4),
    "low frequencies": lambda: low_frequencies(15),
}
#: the problems that they are checked on
CHECK: dict[str, Callable[[], Mix]] = {
    "round 21": lambda: round_components(21),
    "lattice": lambda: lattice(22),
    "ellipses": lambda: ellipses(23),
    "nested": lambda: nested(24),
    "many 32": lambda: widths_apart(25, 32, 100, 0.1, 0.11),
    "power 0.7": lambda: power_law(31, 256, 0.7, 6),
    "power 1.2": lambda: power_law(32, 576, 1.2, 3, 0.7),
    "knee 1.5": lambda: knee(33, 20, 1.5, 5),
    "knee 2.5": lambda: knee(34, 16, 2.5, 5),
    "low frequencies 60": lambda: low_frequencies(35, 324, 0.8, 60, 0.2),
}


def fresh(seed: int) -> Mix:
    """A problem drawn afresh: family, sizes and scale (0.25 to 4) from ``seed``; even seeds give
    vectors, odd ones spectra."""
    r = np.random.default_rng(seed)
    count = int(r.integers(2, 13))
    families: tuple[Callable[[], Mix], ...] = (
        lambda: round_components(seed),
        lambda: widths_apart(seed, int(r.integers(2, 65)), count, 0.05, 0.5),
        lambda: ellipses(seed, int(r.integers(4, 33)), count),
        lambda: nested(seed, int(r.integers(4, 33))),
    )
    spectra: tuple[Callable[[], Mix], ...] = (
        lambda: power_law(seed, 256, float(r.uniform(0.5, 1.4)), count, float(r.uniform(0.5, 1.5))),
        lambda: knee(seed, 16, float(r.uniform(1.0, 3.0)), count),
        lambda: low_frequencies(seed, 256, float(r.uniform(0.5, 1.4)), 10 * count),
    )
    kind = spectra if seed % 2 else families
    return kind[int(r.integers(len(kind)))]().scaled(4.0 ** float(r.uniform(-1.0, 1.0)))


def rates(first: float, last: float, root: int) -> DiscreteVP:
    """The table of 1000 noise rates whose ``root``-th roots are equally spaced."""
    ends = (first ** (1 / root), last ** (1 / root))
    return DiscreteVP.from_betas((torch.linspace(*ends, 1000, dtype=F64) ** root).tolist())


def cosine_table() -> DiscreteVP:
    """The table of 1000 noise rates of improved DDPM, each at most 0.999."""
    level = [math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(1001)]
    return DiscreteVP.from_betas([min(1 - level[i + 1] / level[i], 0.999) for i in range(1000)])


#: the paths of the comparison: three tables, four in continuous time
PATHS: dict[str, Schedule] = {
    "ddpm": rates(1e-4, 0.02, 1),
    "sd": rates(0.00085, 0.012, 2),
    "cosine": cosine_table(),
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "edm": EDM(),
    "flow": Flow(),
}
