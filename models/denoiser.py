"""The Denoiser protocol: a network with its schedule, prediction type and scaling.

The prediction is affine in the state and in the raw outputs of the network,

    value(x, t) = p(t) x + sum_i q_i(t) raw_i(s(t) x, t),        s = input_scale,

so the prediction type (``schedules.kinds``), the preconditioning ``D = c_skip x + c_out F(c_in x)``
(Karras et al. 2022, arXiv 2206.00364, eq. 7) and linear guidance are coefficients that combine with
those of a solver's step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..checks import (
    ArgumentError,
    ArgumentTypeError,
    UnknownName,
    members,
    shown,
    tensor,
    unknown,
)
from ..schedules.base import Schedule, host_number
from ..schedules.host_times import known_times
from ..schedules.kinds import KINDS, convert
from ..schedules.validation import check_schedule

#: a time of the schedule: a number, a 0-dim tensor, or one time per sample (B,)
Time = float | Tensor
#: condition of a network, batch first; None is unconditional
Condition = Tensor | Mapping[str, Tensor] | None


class ShapeError(ArgumentError):
    """A tensor has a shape that does not fit the state."""


@runtime_checkable
class Denoiser(Protocol):
    """Protocol of a network (or an exact model) with the coefficients that turn its raw outputs
    into a prediction."""

    @property
    def schedule(self) -> Schedule:
        """Noise schedule (path) that the network was trained on."""

    @property
    def prediction(self) -> str:
        """Prediction type, one of ``KINDS``."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one sample, without the batch; None if any shape is accepted."""

    def raws(self, x_in: Tensor, t: Time, cond: Condition = None) -> tuple[Tensor, ...]:
        """Return the raw outputs, each (B, *shape), for ``x_in = input_scale(t) x`` (B, *shape) at
        time ``t``."""

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        """Return the coefficients ``(p, (q_1, ...))``, float64."""

    def input_scale(self, t: float) -> float:
        """Factor from the state to the network's input, float64."""

    def __call__(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """Return the prediction ``p x + sum q_i raw_i`` of kind ``prediction`` at the unscaled
        state ``x`` (B, *shape)."""


#: members of a denoiser besides ``__call__``
MEMBERS = ("schedule", "prediction", "shape", "raws", "coefficients", "input_scale")


def check_denoiser(denoiser: object) -> None:
    """Raise ArgumentTypeError unless ``denoiser`` has the members of a Denoiser."""
    missing = [member for member in MEMBERS if not hasattr(denoiser, member)]
    if missing and hasattr(denoiser, "x0_logits"):
        raise ArgumentTypeError(
            f"denoiser={shown(denoiser)} is a model of tokens, which only fewstep.sample and "
            "guidance.steer take"
        )
    if missing and callable(denoiser):
        raise ArgumentTypeError(
            f"denoiser={shown(denoiser)}: must be a denoiser; wrap a network by "
            "fewstep.models.wrap(network, schedule, prediction)"
        )
    members(
        "denoiser",
        denoiser,
        MEMBERS,
        "a denoiser, such as fewstep.models.wrap(...) or .load(...) makes,",
    )


def check_kind(kind: str) -> str:
    """Return ``kind`` if it is one of KINDS. Raises UnknownName with the nearest match."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnknownName(unknown("prediction", kind, KINDS))
    return kind


def host_times(t: Time, batch: int) -> list[float]:
    """Return the times as one or ``batch`` Python floats. A tensor on an accelerator that was not
    made by a run is copied to the host, which waits for the device. Raises ShapeError for other
    sizes."""
    if not isinstance(t, Tensor):
        return [host_number(t)]
    if t.ndim > 1 or t.numel() not in (1, batch):
        raise ShapeError(
            f"the time has shape {tuple(t.shape)}; allowed: a number, () or ({batch},)"
        )
    known = known_times(t)
    return known if known is not None else [float(v) for v in t.reshape(-1).tolist()]


def per_sample(values: Sequence[float], like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``values``, one or B of them, as a tensor that broadcasts against ``like`` (B,
    ...)."""
    shape = (len(values),) + (1,) * (like.ndim - 1)
    if len(values) == 1:  # a fill needs no transfer
        return torch.full(shape, values[0], dtype=dtype, device=like.device)
    return torch.tensor(values, dtype=dtype).to(like.device).reshape(shape)


def combine(tensors: Sequence[Tensor], columns: Sequence[Sequence[float]]) -> Tensor:
    """Return ``sum_j c_j tensors[j]``, with one coefficient per tensor or one per sample, summed in
    float32 or better, in the dtype of the first tensor.

    Terms whose coefficients are all 0 are skipped; a single term with coefficient 1 is returned
    without a copy.
    """
    wide = reduce(torch.promote_types, (v.dtype for v in tensors), torch.float32)
    out: Tensor | None = None
    for each, column in zip(tensors, columns, strict=True):
        if not any(column):
            continue
        term = each.to(wide)
        if any(c != 1.0 for c in column):
            term = term * (column[0] if len(column) == 1 else per_sample(column, each, wide))
        out = term if out is None else out + term
    return torch.zeros_like(tensors[0]) if out is None else out.to(tensors[0].dtype)


def call(denoiser: Denoiser, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
    """Return the prediction of ``denoiser`` at the state ``x`` (B, *shape), from its raw outputs
    and coefficients; the default ``__call__``.

    ``t`` is a number, 0-dim or (B,); with (B,) each sample has its own coefficients. Raises
    ShapeError for another shape of ``t``, or if the numbers of raw outputs and coefficients differ.
    """
    tensor("x", x, axes=1, meta=True)
    times = host_times(t, x.shape[0])
    x_in = combine([x], [[denoiser.input_scale(v) for v in times]])
    raws = denoiser.raws(x_in, t, cond)
    numbers = [denoiser.coefficients(v) for v in times]
    if any(len(qs) != len(raws) for _, qs in numbers):
        raise ShapeError(f"{len(raws)} raw outputs for {len(numbers[0][1])} coefficients")
    columns = [[p for p, _ in numbers], *([qs[i] for _, qs in numbers] for i in range(len(raws)))]
    return combine([x, *raws], columns)


def convert_prediction(
    value: Tensor, x: Tensor, t: Time, src: str, dst: str, schedule: Schedule
) -> Tensor:
    """Convert a prediction of kind ``src`` at state ``x`` (B, *shape) and time ``t`` to kind
    ``dst``: ``p x + q value``, see ``schedules.kinds``.

    Raises UnknownName for unknown kinds, and ConversionError where ``src`` does not determine
    ``dst``.
    """
    for kind in (src, dst):
        check_kind(kind)
    for name, given in (("value", value), ("x", x)):
        tensor(name, given, axes=1, meta=True)
    check_schedule(schedule)
    if value.shape != x.shape:
        raise ShapeError(
            f"the prediction has shape {tuple(value.shape)}, the state {tuple(x.shape)}"
        )
    if src == dst:
        return value
    numbers = [convert(src, dst, schedule.node(v)) for v in host_times(t, x.shape[0])]
    return combine([x, value], [[p for p, _ in numbers], [q for _, q in numbers]])
