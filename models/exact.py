"""Shared parts of exact models: schedule values at given times, conditions on a component, and sums
whose order does not depend on the batch.

An exact model computes the posterior means ``E[x0 | x_t]`` and ``E[eps | x_t]`` in closed form for
``x_t = alpha x0 + sigma eps``; its single raw output already is the prediction. The bits of a row
do not depend on other rows of the batch: only elementwise operations and sums in a fixed order are
used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ..checks import ArgumentError, tensor
from ..schedules.base import Schedule
from ..schedules.kinds import ConversionError
from ..schedules.validation import check_schedule
from .base import MAIN, BaseDenoiser
from .denoiser import Condition, ShapeError, Time, check_kind, host_times


class Levels(NamedTuple):
    """Schedule values at one time or at B times: tensors (n, 1), n = 1 or B. Derivatives are
    infinite or NaN where they are undefined."""

    alpha: Tensor
    sigma: Tensor
    dalpha: Tensor
    dsigma: Tensor


def wide(device: torch.device) -> torch.dtype:
    """Widest floating-point dtype of the device: float64, or float32 on devices without it."""
    return torch.float32 if device.type == "mps" else torch.float64


def levels(schedule: Schedule, t: Time, x: Tensor, derivatives: bool) -> Levels:
    """Return the schedule values at ``t`` for the batch ``x``, computed on the host unless ``t`` is
    a tensor on an accelerator (which is not waited for).

    ``derivatives``: also compute dalpha and dsigma. Raises ConversionError where they do not exist
    at a time on the host.
    """
    dtype = wide(x.device)
    if isinstance(t, Tensor) and t.device.type != "cpu":
        times = t.to(wide(t.device)).reshape(-1, 1)
        return Levels(
            *(
                f(times).to(x.device, dtype)
                for f in (schedule.alpha, schedule.sigma, schedule.dalpha, schedule.dsigma)
            )
        )
    nodes = [schedule.node(v) for v in host_times(t, x.shape[0])]
    if derivatives and any(n.dalpha is None or n.dsigma is None for n in nodes):
        raise ConversionError(
            f"a velocity needs d alpha/dt and d sigma/dt, unknown at t={t}; end the grid at "
            "sigma_min"
        )
    rows = zip(*((n.alpha, n.sigma, n.dalpha or 0.0, n.dsigma or 0.0) for n in nodes), strict=True)
    return Levels(*(_column(row, x.device, dtype) for row in rows))


def _column(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    if len(values) == 1:  # a fill needs no transfer
        return torch.full((1, 1), values[0], dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype).to(device)[:, None]


def fold(v: Tensor, dim: int) -> Tensor:
    """Sum over ``dim`` in pairs. The order, hence the bits, do not depend on the other
    dimensions."""
    while (n := v.shape[dim]) > 1:
        half = n // 2
        pairs = v.narrow(dim, 0, half) + v.narrow(dim, half, half)
        v = torch.cat([pairs, v.narrow(dim, n - 1, 1)], dim) if n % 2 else pairs
    return v.squeeze(dim)


def softmax(logits: Tensor) -> Tensor:
    """``exp(logits) / sum exp(logits)`` over the last dimension, with ``fold``."""
    e = torch.exp(logits - logits.detach().amax(-1, keepdim=True))
    return e / fold(e, -1)[..., None]


def blend(kind: str, x0: Tensor, eps: Tensor, at: Levels) -> Tensor:
    """Return ``u x0 + w eps`` with the coefficients of ``kind``, see ``schedules.kinds``; tensors
    (B, d)."""
    if kind == "score":
        return -eps / at.sigma
    if kind in ("v", "velocity"):
        u, w = (-at.sigma, at.alpha) if kind == "v" else (at.dalpha, at.dsigma)
        return u * x0 + w * eps
    return x0 if kind == "x0" else eps


def chosen(cond: Condition, x: Tensor, count: int, what: str) -> Tensor | None:
    """Return the condition as integers (B,) on the device of ``x``, -1 for an unconditional row;
    None if there is no condition.

    ``cond`` is an integer tensor (B,) or a mapping with one under "label". Raises ShapeError for
    another shape, and ValueError for other dtypes and, on the CPU, for numbers outside -1 .. count
    - 1.
    """
    if isinstance(cond, Mapping):
        if "label" not in cond:
            raise ArgumentError(f"the condition must have the key 'label'; it has {sorted(cond)}")
        cond = cond["label"]
    if cond is None:
        return None
    tensor(f"the {what}", cond, floating=False, meta=True)
    if cond.dtype == torch.bool or cond.is_floating_point() or cond.is_complex():
        raise ArgumentError(f"the {what} must be integers, got {cond.dtype}")
    if cond.shape != x.shape[:1]:
        raise ShapeError(f"the {what} have shape {tuple(cond.shape)}, the batch is {x.shape[0]}")
    if (
        cond.device.type == "cpu"
        and cond.numel()
        and not (int(cond.min()) >= -1 and int(cond.max()) < count)
    ):
        raise ArgumentError(
            f"the {what} are {cond.tolist()}; allowed: -1 (no condition) .. {count - 1}"
        )
    return cond.to(x.device, torch.int64)


def deviation(variance: float) -> float | None:
    """Return the square root of ``variance``, the member ``sigma_data``; None if it is zero (all
    samples are equal) or not finite."""
    return math.sqrt(variance) if 0.0 < variance < math.inf else None


class Exact(BaseDenoiser):
    """Base class of exact models: their one raw output is the prediction itself. A subclass defines
    ``predict``."""

    shape: tuple[int, ...]
    preserves_input = True

    def __init__(self, schedule: Schedule, prediction: str, shape: tuple[int, ...]) -> None:
        """``shape`` is the shape of one sample. Raises UnknownName for a prediction other than
        KINDS."""
        check_schedule(schedule)
        self.schedule, self.prediction, self.shape = schedule, check_kind(prediction), shape

    def predict(self, kind: str, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """Return the exact prediction of any kind at the state ``x`` (B, *shape), in the dtype of
        ``x``."""
        raise NotImplementedError

    @override
    def raws(
        self, x_in: Tensor, t: Time, cond: Condition = None, channels: Sequence[str] = MAIN
    ) -> tuple[Tensor, ...]:
        return (self.predict(self.prediction, x_in, t, cond),)

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    def rows(self, x: Tensor) -> Tensor:
        """Return ``x`` (B, *shape) as (B, d) in the dtype of the computation. Raises ShapeError."""
        tensor("x", x, meta=True)
        if tuple(x.shape[1:]) != self.shape or x.ndim == 0:
            raise ShapeError(
                f"the state has shape {tuple(x.shape)}, the model takes (batch, "
                f"{', '.join(map(str, self.shape))})"
            )
        return x.flatten(1).to(wide(x.device))
