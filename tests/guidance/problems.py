"""Small problems with known answers, shared by the tests of guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import fewstep
from fewstep.models import BaseDenoiser, GaussianMixture
from fewstep.schedules import EDM, Flow, Schedule, VPLinear

F64 = torch.float64
PATHS: dict[str, Schedule] = {"edm": EDM(0.002, 80.0), "vp": VPLinear(), "flow": Flow()}
#: on which grid each path is run
GRIDS = {"edm": "karras", "vp": "lam", "flow": "lam"}
#: the kinds of samplers that every method of guidance has to run with
SAMPLERS = ("ddim", "dpmpp_2m", "unipc", "dpmpp_2m_sde")


def scalar_pair(schedule: Schedule, prediction: str = "eps") -> GaussianMixture:
    """Scalar Gaussians: N(1.5, 0.3) for the label 0, N(0, 1) unconditionally (label -1 or 1)."""
    return GaussianMixture([[1.5], [0.0]], [math.sqrt(0.3), 1.0], [0.0, 1.0], schedule, prediction)


class Recorder(BaseDenoiser):
    """A network ``F(x, t, cond) = tanh(x + shift cond)`` that keeps its calls; cond (B,) numbers,
    None counts as 0."""

    preserves_input = True

    def __init__(self, schedule: Schedule, shift: float = 0.3, null: float | None = None) -> None:
        self.schedule, self.shift, self.null = schedule, shift, null
        self.prediction = "velocity" if isinstance(schedule, Flow) else "eps"
        self.calls: list[tuple[Tensor, Any, Any]] = []

    def raws(
        self, x_in: Tensor, t: Any, cond: Any = None, channels: Sequence[str] = ("main",)
    ) -> tuple[Tensor, ...]:
        self.calls.append((x_in.clone(), t, cond))
        value = cond["c"] if isinstance(cond, dict) else cond
        add = 0.0 if value is None else value.to(x_in).reshape(-1, *(1,) * (x_in.ndim - 1))
        return (torch.tanh(x_in + self.shift * add),)

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    def null_cond(self, cond: Any, batch: int) -> Any:
        if self.null is None:
            return None
        given = cond["c"] if isinstance(cond, dict) else cond
        made = torch.full((batch,), self.null, dtype=F64 if given is None else given.dtype)
        return {"c": made} if isinstance(cond, dict) else made

    @property
    def rows(self) -> int:
        """Rows of all calls."""
        return sum(x.shape[0] for x, _, _ in self.calls)


class Preconditioned(BaseDenoiser):
    """An exact model of kind x0 behind ``D = c_skip x + c_out F(c_in x)`` (alpha = 1, sigma_data =
    0.5): another input scale and other coefficients for the same predictions."""

    preserves_input = True
    prediction = "x0"

    def __init__(self, inner: Any) -> None:
        self.inner, self.schedule, self.shape = inner, inner.schedule, inner.shape

    def _numbers(self, t: float) -> tuple[float, float, float]:
        sigma = float(self.schedule.sigma(t))
        total = sigma * sigma + 0.25
        return 0.25 / total, 0.5 * sigma / math.sqrt(total), 1.0 / math.sqrt(total)

    def raws(
        self, x_in: Tensor, t: Any, cond: Any = None, channels: Sequence[str] = ("main",)
    ) -> tuple[Tensor, ...]:
        skip, out, scale = self._numbers(float(t))
        x = x_in / scale
        return ((self.inner(x, t, cond) - skip * x) / out,)

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        skip, out, _ = self._numbers(t)
        return skip, (out,)

    def input_scale(self, t: float) -> float:
        return self._numbers(t)[2]


#: (weight, mean, variance) of one Gaussian of a combination
Part = tuple[float, float, float]


def linear_end(name: str, parts: Sequence[Part]) -> tuple[float, float]:
    """Mean and variance at the end of ``dy/drho = rho sum_j c_j (y - m_j) / (v_j + rho^2)`` for y =
    x / alpha, from N(0, prior_scale^2) at rho_max down to 0: the flow of a combination with weights
    c_j of exact scalar Gaussians. By quadrature."""
    schedule = PATHS[name]
    first = schedule.node(schedule.t_max)
    # the straight path starts at alpha = 0, far out in rho
    high = 1e7 if first.alpha == 0.0 else first.rho
    start = high if first.alpha == 0.0 else schedule.prior_scale / first.alpha
    u = torch.linspace(0.0, math.log1p(high), 400_001, dtype=F64)  # log(1 + rho)
    rho = torch.expm1(u)
    h, pull = torch.zeros_like(rho), torch.zeros_like(rho)
    for c, m, v in parts:
        h += 0.5 * c * torch.log(v + rho**2)
        pull += c * m * rho / (v + rho**2)
    mean = torch.trapezoid(torch.exp(h[0] - h) * pull * (1.0 + rho), u)
    return float(mean), (start * math.exp(float(h[0] - h[-1]))) ** 2


def affine_end(den: Any, sampler: str, steps: int, name: str, cond: Any = 0) -> tuple[float, float]:
    """Mean and variance at the end of a sampler whose map is affine, from N(0, prior_scale^2);
    ``cond``: a label, or None."""
    scale = PATHS[name].prior_scale
    x = torch.tensor([[-scale], [scale]], dtype=F64)
    label = None if cond is None else torch.full((2,), cond, dtype=torch.int64)
    low, high = (
        fewstep.sample(den, sampler, steps=steps, grid=GRIDS[name], x=x, cond=label)
        .flatten()
        .tolist()
    )
    return 0.5 * (low + high), (0.5 * (high - low)) ** 2
