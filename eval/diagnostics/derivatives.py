"""Derivatives of a model's score with respect to its state: the score with its graph, and products
with the Jacobian and its transpose.

With ``J = ds/dx`` a reverse pass gives ``J^T v``; that product is linear in v, so a reverse pass
through it gives ``J w``. The network must therefore be twice differentiable in reverse mode;
forward mode is not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import choice, integer
from ...engine.heavy_tails import kernel_noise
from ...engine.likelihood import EXACT_UP_TO, PROBES, TRACES, GradientError, probe_vectors
from ...engine.sampling import StateError
from ...fused.noise.seeded import check_seeds, normals, seeds_from
from ...models.denoiser import Condition, Denoiser, convert_prediction
from ...models.exact import wide
from ...models.wrapper import complete
from ...schedules.node import Node
from ..errors import ScoreError

#: random stream of the noise added to data
DATA_STREAM = (1 << 30) + 1

NO_GRADIENT = (
    "autograd finds no derivative of the score with respect to the state: the network "
    "detaches its input, runs without gradients "
    "(no_grad, inference_mode), or computes outside of torch; let it compute with gradients, or "
    "use intrinsic_dimension, which needs none"
)
NOT_TWICE = (
    "the score has no second derivative with respect to the state, because an operation of the "
    "network has none: for fused attention run the "
    "network in torch.nn.attention.sdpa_kernel(SDPBackend.MATH); others are torch.cdist and "
    "custom functions that are differentiable once"
)
#: words of torch's errors for an operation without a (second) derivative
MISSING = ("derivative", "differentiate twice")


def seeds_of(n: int, seed: int, seeds: Sequence[int] | None) -> tuple[int, ...]:
    """One seed per sample. StateError for another number of seeds."""
    chosen = seeds_from(seed, n) if seeds is None else check_seeds(seeds)
    if len(chosen) != n:
        raise StateError(f"{len(chosen)} seeds, but the batch is {n}")
    return chosen


def data_of(denoiser: Denoiser, x0: Tensor) -> Tensor:
    """Clean samples ``x0`` (B, *shape) in float64 (float32 on devices without it), minus the offset
    of a mean-reverting path.

    StateError for a shape other than the model's, ScoreError for values that are not finite.
    """
    if not x0.is_floating_point() or x0.ndim < 2 or not len(x0):
        raise StateError(
            f"the samples must be floating point (batch, *shape), got {x0.dtype} {tuple(x0.shape)}"
        )
    if denoiser.shape is not None and tuple(x0.shape[1:]) != tuple(denoiser.shape):
        raise StateError(
            f"the samples have shape {tuple(x0.shape[1:])}, the model's is {tuple(denoiser.shape)}"
        )
    if not bool(torch.isfinite(x0).all()):
        raise ScoreError("the samples hold NaN or infinity")
    offset = complete(denoiser).offset
    x = x0.detach().to(wide(x0.device))
    return x if offset is None else x - offset.to(x)


def noisy_node(denoiser: Denoiser, t: float) -> Node:
    """The node at ``t``. ScoreError where the score is undefined (sigma = 0) or the node has no
    time."""
    node = denoiser.schedule.node(t)
    if not node.sigma > 0.0 or node.t is None:
        raise ScoreError(f"t={t}: the score needs sigma > 0")
    return node


def noised(denoiser: Denoiser, data: Tensor, node: Node, seeds: Sequence[int]) -> Tensor:
    """``alpha x0 + sigma z``, z from ``seeds``, for ``data`` (B, *shape)."""
    z = normals(
        seeds, data.shape[1:], stream=DATA_STREAM, draw=0, device=data.device, dtype=data.dtype
    )
    return node.alpha * data + node.sigma * kernel_noise(denoiser.schedule, seeds, z)


def score_of(denoiser: Denoiser, x: Tensor, node: Node, cond: Condition = None) -> Tensor:
    """The model's score ``grad log p_t(x)``, (B, *shape), converted from its prediction."""
    t = float(node.t or 0.0)
    return convert_prediction(
        denoiser(x, t, cond), x, t, denoiser.prediction, "score", denoiser.schedule
    )


def score_graph(
    denoiser: Denoiser, x: Tensor, node: Node, cond: Condition = None
) -> tuple[Tensor, Tensor]:
    """A copy of ``x`` (B, *shape) that requires grad, and the score there with its graph.
    GradientError where the network is not differentiable by autograd."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        t = float(node.t or 0.0)
        value = denoiser(x, t, cond)
        if not value.requires_grad:
            raise GradientError(NO_GRADIENT)
        return x, convert_prediction(value, x, t, denoiser.prediction, "score", denoiser.schedule)


def pull(value: Tensor, x: Tensor, v: Tensor, twice: bool = False) -> Tensor:
    """``J^T v`` for ``value`` as a function of ``x``, v shaped as the value; with its graph if
    ``twice``. GradientError where there is no derivative."""
    (found,) = derivatives(value, (x,), v, twice)
    if found is None:
        raise GradientError(NO_GRADIENT)
    return found


def push(value: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """``J v`` by a reverse pass through ``J^T w``, which is linear in w."""
    w = torch.zeros_like(value, requires_grad=True)
    back = pull(value, x, w, twice=True)
    (found,) = derivatives(back, (w,), v)
    if found is None:
        raise GradientError(NOT_TWICE)
    return found


def derivatives(
    value: Tensor, xs: Sequence[Tensor], v: Tensor | None = None, twice: bool = False
) -> tuple[Tensor | None, ...]:
    """Gradients of ``value`` with respect to each of ``xs``; None where it does not depend on it.
    GradientError where an operation has no derivative."""
    if not value.requires_grad:
        return (None,) * len(xs)
    try:
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            value, xs, v, retain_graph=True, create_graph=twice, allow_unused=True
        )
    except (RuntimeError, NotImplementedError) as error:
        if any(words in str(error) for words in MISSING):
            raise GradientError(f"{NOT_TWICE} ({error})") from error
        raise
    return found


def directions(
    x: Tensor, trace: str, probes: int, probe: str, seeds: Sequence[int]
) -> Tensor | None:
    """Probe vectors (K, B, *shape) of an estimate; None where the trace is exact (default for
    samples of up to 64 elements)."""
    choice("trace", trace, TRACES)
    choice("probe", probe, PROBES)
    integer("probes", probes, 1, 1_000_000)
    if trace == "exact" or (trace == "auto" and x[0].numel() <= EXACT_UP_TO):
        return None
    return probe_vectors(seeds, x, probes, probe)


def unit_vector(x: Tensor, k: int) -> Tensor:
    """The k-th unit vector for every sample of ``x``."""
    e = torch.zeros_like(x)
    e.flatten(1)[:, k] = 1.0
    return e
