"""Derivatives of a model's score by its state: the score with its graph, products with the Jacobian
and its transpose.

With ``J = ds/dx`` a reverse pass gives ``J^T v``; that product is linear in v, so a reverse pass
through it gives ``J w``: the network must be twice differentiable by reverse mode, and nothing
else.
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
from ...models.base import complete
from ...models.denoiser import Condition, Denoiser, convert_prediction
from ...models.exact import wide
from ...schedules.node import Node
from ..errors import ScoreError

#: stream of the noise that is added to data here
DATA_STREAM = (1 << 30) + 1

NO_GRADIENT = (
    "the score's derivative by the state is wanted, and autograd finds none: the network "
    "detaches its input, runs without gradients "
    "(no_grad, inference_mode), or works outside of torch; let it compute with gradients, or "
    "use intrinsic_dimension, which needs none"
)
NOT_TWICE = (
    "the score's second derivative by the state is wanted, and an operation of the network "
    "has none: fused attention is one such, run the "
    "network in torch.nn.attention.sdpa_kernel(SDPBackend.MATH); others are torch.cdist and "
    "custom functions that are differentiable once"
)
#: what torch says where an operation has no (second) derivative
MISSING = ("derivative", "differentiate twice")


def seeds_of(n: int, seed: int, seeds: Sequence[int] | None) -> tuple[int, ...]:
    """One seed a sample. StateError for another number of them."""
    chosen = seeds_from(seed, n) if seeds is None else check_seeds(seeds)
    if len(chosen) != n:
        raise StateError(f"{len(chosen)} seeds, but the batch is {n}")
    return chosen


def data_of(denoiser: Denoiser, x0: Tensor) -> Tensor:
    """Clean samples ``x0`` (B, *shape) in float64 (float32 on devices without it), less the offset
    of a mean-reverting path.

    StateError for another shape than the model's, ScoreError for data that are not finite.
    """
    if not x0.is_floating_point() or x0.ndim < 2 or not len(x0):
        raise StateError(
            f"the samples must be floating point (batch, *shape), got {x0.dtype} {tuple(x0.shape)}"
        )
    if denoiser.shape is not None and tuple(x0.shape[1:]) != tuple(denoiser.shape):
        raise StateError(
            f"the samples have shape {tuple(x0.shape[1:])}, the model wants {tuple(denoiser.shape)}"
        )
    if not bool(torch.isfinite(x0).all()):
        raise ScoreError("the samples hold NaN or infinity")
    offset = complete(denoiser).offset
    x = x0.detach().to(wide(x0.device))
    return x if offset is None else x - offset.to(x)


def noisy_node(denoiser: Denoiser, t: float) -> Node:
    """The node at ``t``. ScoreError where there is no score: at sigma = 0, or no time that the
    model can be asked at."""
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
    """``grad log p_t(x)`` as the model sees it, (B, *shape), from its prediction of whatever
    kind."""
    t = float(node.t or 0.0)
    return convert_prediction(
        denoiser(x, t, cond), x, t, denoiser.prediction, "score", denoiser.schedule
    )


def score_graph(
    denoiser: Denoiser, x: Tensor, node: Node, cond: Condition = None
) -> tuple[Tensor, Tensor]:
    """A copy of ``x`` (B, *shape) that collects gradients, and the score there. GradientError where
    autograd does not see the network."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        t = float(node.t or 0.0)
        value = denoiser(x, t, cond)
        if not value.requires_grad:
            raise GradientError(NO_GRADIENT)
        return x, convert_prediction(value, x, t, denoiser.prediction, "score", denoiser.schedule)


def pull(value: Tensor, x: Tensor, v: Tensor, twice: bool = False) -> Tensor:
    """``J^T v`` for ``value`` of ``x``, v shaped as the value; with its graph where ``twice``.
    GradientError where there is none."""
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
    """The reverse pass from ``value`` to each of ``xs``, None where it does not arrive.
    GradientError where an operation has none."""
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
    """The probes of an estimate, (K, B, *shape); None where the trace is exact (up to 64 elements a
    sample by default)."""
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
