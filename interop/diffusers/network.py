"""The network of a pipeline as a denoiser: its prediction type, preconditioning and clipping.

Its input is the state itself (``scale_model_input`` changes nothing). Preconditioning, where a
config has one, is a pair of numbers ``(p, q)`` with ``x0 = p x + q output``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...fused.linear.eager import linear_combination
from ...schedules import Node, Schedule, convert
from ...schedules.noise_path import NoisePath


@dataclass(frozen=True)
class Network:
    """The network of a pipeline as a denoiser. ``clip``: x0 is clipped, so the plan receives x0,
    which is no longer linear in the network's output."""

    schedule: Schedule
    kind: str
    clip: float | tuple[float, float] | None = None
    shape: None = None

    @property
    def prediction(self) -> str:
        """Kind of the value that a plan is given."""
        return "x0" if self.clip is not None or self._scaled else self.kind

    @property
    def _scaled(self) -> bool:
        """True if the output is multiplied by c_out and is none of the prediction types: only with
        sigma_data = 1 is such a v the v of the path."""
        return isinstance(self.schedule, NoisePath) and (
            self.schedule.sigma_data != 1.0 or self.kind != "v"
        )

    def input_scale(self, t: float) -> float:
        """1."""
        return 1.0

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        """The value from the state and the network's output."""
        if self.clip is not None or not self._scaled:
            return 0.0, (1.0,)
        p, q = self.data(self.schedule.node(t))
        return p, (q,)

    def data(self, node: Node) -> tuple[float, float]:
        """``x0 = p x + q output``. With sigma_data d: p = d^2 alpha, q = +-s d alpha (arXiv
        2206.00364, table 1; minus for v)."""
        schedule = self.schedule
        if not isinstance(schedule, NoisePath) or not self._scaled:
            return convert(self.kind, "x0", node)
        d = schedule.sigma_data
        return d * d * node.alpha, (-d if self.kind == "v" else d) * node.sigma

    def raws(self, output: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
        """Not called: a pipeline calls the network."""
        raise NotImplementedError("a pipeline calls its network itself")

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        """Not called: a pipeline calls the network."""
        raise NotImplementedError("a pipeline calls its network itself")

    def value(self, output: Tensor, x: Tensor, node: Node) -> Tensor:
        """What the plan is given: the output as it is, or x0 after clipping."""
        if self.clip is None:
            return output
        p, q = self.data(node)
        return self.clipped(linear_combination([x, output], [p, q], x.dtype))

    def clipped(self, data: Tensor) -> Tensor:
        """x0 within its bound."""
        if self.clip is None:
            return data
        return (
            data.clamp(-self.clip, self.clip)
            if isinstance(self.clip, float)
            else dynamic_threshold(data, *self.clip)
        )


def dynamic_threshold(x: Tensor, ratio: float, bound: float) -> Tensor:
    """``clamp(x, -s, s) / s``, s the quantile ``ratio`` of |x| in each sample, at least 1 and then
    at most ``bound`` (Saharia et al. 2022, arXiv 2205.11487). A bound below 1 is s itself, as in
    diffusers."""
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    s = (
        torch.quantile(wide.abs().flatten(1), ratio, dim=1)
        .clamp(1.0, bound)
        .view(-1, *(1,) * (x.ndim - 1))
    )
    return (torch.minimum(torch.maximum(wide, -s), s) / s).to(x.dtype)
