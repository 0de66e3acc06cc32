"""The score's derivative along the path at a fixed state, ``d s(x, lam) / d lam``.

``central``: differences of fourth order in half log-SNR,
``(8 (s_1 - s_-1) - (s_2 - s_-2)) / (12 h)``, with ``h = eps^(1/5)`` of the network's precision,
where truncation and rounding errors balance: 7.4e-4 in float64, 0.041 in float32. ``jvp``: the
network's own derivative with respect to its time in forward mode; the schedule's numbers (host
floats) are differentiated by the same differences in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.autograd.forward_ad
from torch import Tensor

from ...engine.likelihood import GradientError
from ...models.denoiser import Condition, Denoiser, combine
from ...models.exact import wide
from ...models.wrapper import complete
from ...schedules.kinds import convert
from ...schedules.node import Node
from ..errors import ScoreError
from .derivatives import score_of

#: ways to differentiate; ``auto``: jvp where autograd finds the time and the first sample agrees
#: with differences, else central
WAYS = ("auto", "central", "jvp")
#: largest difference of the two ways on one sample, relative to the norm of the derivative
AGREE = 0.01
#: (offset in steps, weight over the step) of the fourth-order central difference
WEIGHTS = ((-2, 1.0 / 12.0), (-1, -2.0 / 3.0), (1, 2.0 / 3.0), (2, -1.0 / 12.0))
NO_TIME = (
    "derivative='jvp': forward mode finds no dependence on the time; use 'central', or a network "
    "that takes t as a tensor and supports forward mode"
)
T = TypeVar("T", float, Tensor)
_forward: Any = torch.autograd.forward_ad


def step_of(dtype: torch.dtype) -> float:
    """The default step of the differences, ``eps^(1/5)``."""
    return float(torch.finfo(dtype).eps ** 0.2)


def _differences(
    function: Callable[[Node], Sequence[T]], denoiser: Denoiser, node: Node, h: float
) -> list[T]:
    """``d/dlam`` of each value of ``function`` at ``node``. ScoreError where the path ends within
    two steps."""
    schedule = denoiser.schedule
    try:
        places = [(c / h, schedule.node_at_lam(node.lam + k * h)) for k, c in WEIGHTS]
    except ValueError as error:
        raise ScoreError(
            f"t={node.t} is within 2 steps of {h:.3g} in half log-SNR from the end of the "
            f"path: {error}"
        ) from None
    rows = [[c * value for value in function(place)] for c, place in places]
    return [a + b + c + d for a, b, c, d in zip(*rows, strict=True)]


def refuse_rounded(denoiser: Denoiser, node: Node, h: float) -> None:
    """Raise ScoreError for a network whose time is rounded to an index."""
    mismatch = complete(denoiser).time_mismatch
    if any(_differences(lambda place: [mismatch(float(place.t or 0.0))], denoiser, node, h)):
        raise ScoreError(
            "the network takes its time as a rounded index, so it has no derivative along the path"
        )


@torch.no_grad()
def central(model: Denoiser, x: Tensor, node: Node, h: float, cond: Condition = None) -> Tensor:
    """The derivative by central differences: four evaluations. ScoreError near the ends of the
    path."""
    return _differences(lambda place: [score_of(model, x, place, cond)], model, node, h)[0]


def _numbers(model: Denoiser, node: Node) -> list[float]:
    """The factors of the state and of the raw outputs in the score, and the input's scale."""
    t = float(node.t or 0.0)
    p, qs = model.coefficients(t)
    a, b = convert(model.prediction, "score", node)
    return [a + b * p, *(b * q for q in qs), model.input_scale(t)]


def sees_time(model: Denoiser, x: Tensor, node: Node, cond: Condition = None) -> bool:
    """Whether the network's outputs at ``x`` (B, *shape) depend on its time according to autograd:
    one evaluation and one reverse pass."""
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        # a network that reads the time as a number
        warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
        t = torch.tensor(
            float(node.t or 0.0), dtype=wide(x.device), device=x.device, requires_grad=True
        )
        raws = model.raws(model.input_scale(float(node.t or 0.0)) * x, t, cond)
        total = torch.stack([raw.sum() for raw in raws]).sum()
        return (
            total.requires_grad and torch.autograd.grad(total, t, allow_unused=True)[0] is not None
        )


@torch.no_grad()
def by_jvp(model: Denoiser, x: Tensor, node: Node, cond: Condition = None) -> Tensor | None:
    """The derivative by forward mode through the network's time; None where forward mode finds no
    dependence on it."""
    numbers, slopes = (
        _numbers(model, node),
        _differences(lambda place: _numbers(model, place), model, node, step_of(torch.float64)),
    )
    precision = wide(x.device)
    t = torch.tensor(float(node.t or 0.0), dtype=precision, device=x.device)
    rate = torch.tensor(
        1.0 / float(model.schedule.dlam(float(node.t or 0.0))), dtype=precision, device=x.device
    )
    try:
        with _forward.dual_level():
            alone = model.raws(numbers[-1] * x, _forward.make_dual(t, rate), cond)
            if all(_forward.unpack_dual(raw).tangent is None for raw in alone):
                return None
            both = model.raws(
                _forward.make_dual(numbers[-1] * x, slopes[-1] * x),
                _forward.make_dual(t, rate),
                cond,
            )
            pairs = [_forward.unpack_dual(raw) for raw in both]
            raws = [
                (
                    pair.primal,
                    torch.zeros_like(pair.primal) if pair.tangent is None else pair.tangent,
                )
                for pair in pairs
            ]
    except NotImplementedError:
        return None
    columns = [slopes[:1], *([c] for c in slopes[1:-1]), *([c] for c in numbers[1:-1])]
    return combine([x, *(raw for raw, _ in raws), *(tangent for _, tangent in raws)], columns)


def chosen_way(
    way: str, model: Denoiser, x: Tensor, node: Node, h: float, cond: Condition = None
) -> str:
    """Choose ``central`` or ``jvp`` for this model from a first sample ``x`` (1, *shape).
    GradientError where jvp is requested and impossible."""
    if way == "central" or (way == "auto" and not sees_time(model, x, node, cond)):
        return "central"
    own = by_jvp(model, x, node, cond)
    if own is None:
        if way == "jvp":
            raise GradientError(NO_TIME)
        return "central"
    other = own if way == "jvp" else central(model, x, node, h, cond)
    return "jvp" if bool((own - other).norm() <= AGREE * other.norm()) else "central"
