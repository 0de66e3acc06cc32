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


def affine_end(den: Any, sampler: str, steps: int, name: str) -> tuple[float, float]:
    """Mean and variance at the end of a sampler whose map is affine, from N(0, prior_scale^2)."""
    scale = PATHS[name].prior_scale
    x = torch.tensor([[-scale], [scale]], dtype=F64)
    label = torch.zeros(2, dtype=torch.int64)
    low, high = (
        fewstep.sample(den, sampler, steps=steps, grid=GRIDS[name], x=x, cond=label)
        .flatten()
        .tolist()
    )
    return 0.5 * (low + high), (0.5 * (high - low)) ** 2
