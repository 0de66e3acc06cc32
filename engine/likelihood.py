"""``fewstep.log_prob``: the likelihood of data under the probability-flow ODE.

In the angle of the path, ``phi = atan2(sigma, alpha)``, with ``r = hypot(alpha, sigma)`` and
``w = x / r``, the flow is ``dw/dphi = v / r`` with ``v = alpha eps - sigma x0``: regular at alpha =
0 and at sigma = 0. By the instantaneous change of variables (Chen et al. 2018, arXiv 1806.07366,
Thm 1; Song et al. 2021, arXiv 2011.13456, eq. 39)

    log p_s(x_s) = log p_T(x_T) + d log(r_T / r_s) + int tr(dv/dx) dphi.

The trace is an additional component of the state with its own derivative, so the same plan and the
same loop integrate it.

Units. Nats, of the density of ``x0`` at time ``t`` (by default t_min: data are taken as samples of
the slightly noised path, as in the paper). Bits per dimension of data with ``levels`` values per
dimension, dequantised by uniform noise of one level, scaled to ``[low, high)``:

    bits = -log p / (d log 2) - log2((high - low) / levels),        which adds 7 for 256 levels on
                                                                    [-1, 1) and 8 on [0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, overload

import torch
from torch import Tensor

from ..checks import (
    ArgumentError,
    choice,
    described,
    flag,
    integer,
    number,
    tensor,
)
from ..fused.noise.seeded import check_seeds, normals, seeds_from
from ..models.base import BaseDenoiser, RunFacts
from ..models.denoiser import Condition, Denoiser
from ..models.wrapper import complete
from ..plans.builder import Expression, PlanBuilder, dot
from ..plans.plan import Plan
from ..plans.running.loop import Cursor, NumericalError
from ..plans.transforms.gradients import GradientError as GradientError
from ..samplers.singlestep.tableau import TABLEAUS
from ..schedules import PFGMPP
from ..schedules.base import Schedule
from ..schedules.kinds import convert
from ..schedules.node import Node
from .arguments import StateError, check_callable, check_cond, check_state

#: random stream of the probes of a trace
PROBE_STREAM = 1 << 30
#: largest number of elements of a sample for which ``trace="auto"`` is exact
EXACT_UP_TO = 64
#: largest number of elements of the vector-Jacobian products computed in one batched pass; larger
#: states take one product at a time
_TOGETHER = 1 << 16
#: angle below which steps are equal, and above which they grow in proportion to the angle
_KNEE = 0.02

TRACES = ("auto", "exact", "hutchinson")
PROBES = ("rademacher", "gaussian")


@dataclass(frozen=True)
class Likelihood:
    """Result of ``log_prob``.

    Attributes:
        nats: log p of each sample, (B,) float64.
        standard_error: of ``nats`` over the probes, (B,); None for the exact trace and for one
            probe.
        latent: the state at t_max, (B, *shape) float64.
        prior: log p of the latent, (B,).
        dims: number of elements of a sample.
        nfe: network calls, each with its vector-Jacobian products.
    """

    nats: Tensor
    standard_error: Tensor | None
    latent: Tensor
    prior: Tensor
    dims: int
    nfe: int

    def bits_per_dim(self, levels: int = 256, low: float = -1.0, high: float = 1.0) -> Tensor:
        """Bits per dimension, (B,); see the module for the convention."""
        return bits_per_dim(self.nats, self.dims, levels, low, high)


def bits_per_dim(
    nats: Tensor, dims: int, levels: int = 256, low: float = -1.0, high: float = 1.0
) -> Tensor:
    """``-nats / (dims log 2) - log2((high - low) / levels)``."""
    tensor("nats", nats)
    integer("dims", dims, 1, 1 << 53)
    integer("levels", levels, 1, 1 << 53)
    if not number("low", low) < number("high", high):
        raise ArgumentError(f"low={low!r}, high={high!r}: low must be below high")
    return nats / (-dims * math.log(2.0)) - math.log2((high - low) / levels)


@overload
def log_prob(
    denoiser: Denoiser, x0: Tensor, *, info: Literal[False] = ..., **options: Any
) -> Tensor: ...
@overload
def log_prob(
    denoiser: Denoiser, x0: Tensor, *, info: Literal[True], **options: Any
) -> Likelihood: ...
def log_prob(
    denoiser: Denoiser, x0: Tensor, *, info: bool = False, **options: Any
) -> Tensor | Likelihood:
    """Return the log-likelihood of ``x0`` (B, *shape) in nats, (B,) float64; with ``info=True`` a
    ``Likelihood`` (bits per dimension, standard error, latent). Options, equations and errors:
    ``engine.likelihood.likelihood``."""
    flag("info", info)
    found = likelihood(denoiser, x0, **options)
    return found if info else found.nats


def likelihood(
    denoiser: Denoiser,
    x0: Tensor,
    *,
    t: float | None = None,
    steps: int = 64,
    rule: str = "rk4",
    trace: str = "auto",
    probes: int = 1,
    probe: str = "rademacher",
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    cond: Condition = None,
    prior: Callable[[Tensor], Tensor] | None = None,
) -> Likelihood:
    """Compute the likelihood of ``x0`` (B, *shape) under the probability-flow ODE.

    Args:
        t: time of the density, by default t_min of the schedule; the network must be able to
            predict eps there if sigma = 0.
        steps, rule: steps of a Runge-Kutta tableau in the angle (``rk4``: four network calls per
            step).
        trace: ``exact`` (one vector-Jacobian product per element), ``hutchinson`` (one per probe:
            ``E e^T J e = tr J``; Hutchinson 1989, doi 10.1080/03610918908812806), or ``auto``:
            exact up to 64 elements.
        probes, probe: number of probes, each fixed along the whole path and averaged;
            ``rademacher`` or ``gaussian``.
        seed, seeds: of the probes, one per sample as in ``fewstep.sample``.
        prior: log density (B,) of the float64 state at t_max; default ``N(0, prior_scale^2)``.

    The flow is integrated in float64 (float32 on devices without it); the network receives the
    dtype of ``x0``. The network's output for a row must not depend on other rows.

    Raises ValueError for options, StateError for shapes, ConversionError if the network's
    prediction does not determine v at an end of the path, GradientError after one call if autograd
    cannot differentiate the network, NumericalError for a result that is not finite.
    """
    for name, value, allowed in (
        ("trace", trace, TRACES),
        ("probe", probe, PROBES),
        ("rule", rule, tuple(TABLEAUS)),
    ):
        choice(name, value, allowed)
    for name, count in (("steps", steps), ("probes", probes)):
        integer(name, count, 1, 1_000_000)
    denoiser = complete(denoiser)
    check_state(x0, denoiser)
    check_cond(cond, x0.shape[0])
    check_callable(prior=prior)
    chosen = check_seeds(seeds) if seeds is not None else seeds_from(seed, x0.shape[0])
    if len(chosen) != x0.shape[0]:
        raise StateError(f"{len(chosen)} seeds were given, but the batch size is {x0.shape[0]}")
    if prior is None and isinstance(denoiser.schedule, PFGMPP):
        raise ArgumentError("the prior of a PFGM++ path is not Gaussian: pass prior=")
    # the state of a mean-reverting path is x - offset
    offset = denoiser.offset
    x0 = x0 if offset is None else x0 - offset.to(x0)
    dims = x0[0].numel()
    exact = trace == "exact" or (trace == "auto" and dims <= EXACT_UP_TO)
    directions = None if exact else probe_vectors(chosen, x0, probes, probe)
    plan = angle_plan(denoiser.schedule, denoiser.schedule.t_min if t is None else t, steps, rule)
    latent, traces = _integrate(plan, denoiser.for_run(RunFacts(chosen)), x0, directions, cond)
    scale = denoiser.schedule.prior_scale
    last = prior(latent) if prior is not None else _normal(latent, scale)
    volume = dims * math.log(_radius(plan.end) / _radius(plan.start))
    if not isinstance(last, Tensor) or last.shape != (x0.shape[0],):
        raise StateError(
            f"prior(latent) returned {described(last)}: it must return log densities, "
            f"({x0.shape[0]},)"
        )
    each = last[:, None] + volume + traces
    spread = each.std(dim=1) / math.sqrt(probes) if not exact and probes > 1 else None
    found = Likelihood(each.mean(dim=1), spread, latent, last, dims, plan.nfe)
    bad = (~torch.isfinite(found.nats)).nonzero().flatten().tolist()
    if bad:
        raise NumericalError("the log-likelihood", plan.nfe, plan.end.t, tuple(bad))
    return found


def probe_vectors(seeds: Sequence[int], like: Tensor, count: int, kind: str) -> Tensor:
    """Return ``count`` probes shaped like ``like``, (count, B, *shape): normals from the sample's
    seed, or their signs."""
    draws = [
        normals(
            seeds, like.shape[1:], stream=PROBE_STREAM, draw=k, device=like.device, dtype=like.dtype
        )
        for k in range(count)
    ]
    vectors = torch.stack(draws)
    return vectors if kind == "gaussian" else torch.where(vectors < 0.0, -1.0, 1.0).to(like.dtype)


def angle_plan(schedule: Schedule, t: float, steps: int, rule: str) -> Plan:
    """Return the plan from time ``t`` to t_max with ``steps`` steps in the angle: equal steps below
    0.02, growing in proportion to the angle above."""
    first, last = schedule.node(t), schedule.node(schedule.t_max)
    low, high = (math.asinh(_angle(node) / _KNEE) for node in (first, last))
    if not low < high:
        raise ArgumentError(f"t={t}: must be a time before t_max = {schedule.t_max}")
    inner = [
        _at_angle(schedule, _KNEE * math.sinh(low + (high - low) * k / steps))
        for k in range(1, steps)
    ]
    nodes, tableau = [first, *inner, last], TABLEAUS[rule]
    b = PlanBuilder(nodes, "asymptotic", f"log_prob {rule}")
    x = b.start(first)
    for s, e in pairwise(nodes):
        h = _angle(e) - _angle(s)
        slopes: list[Expression] = []
        for c, row in zip((*tableau.c, 1.0), (*tableau.a, tableau.b), strict=True):
            node = s if c == 0.0 else e if c == 1.0 else _at_angle(schedule, _angle(s) + c * h)
            y = (
                b.at(
                    node, (_radius(node) / _radius(s)) * x + (_radius(node) * h) * dot(row, slopes)
                )
                if row
                else x
            )
            if len(slopes) < len(tableau.c):
                slopes.append(b.evaluate(y, node, "v") / _radius(node))
        x = y
    return b.finish(x)


def _angle(node: Node) -> float:
    return math.atan2(node.sigma, node.alpha)


def _radius(node: Node) -> float:
    return math.hypot(node.alpha, node.sigma)


def _at_angle(schedule: Schedule, phi: float) -> Node:
    return schedule.node_at_rho(math.tan(phi))


def _normal(x: Tensor, scale: float) -> Tensor:
    flat = x.flatten(1) / scale
    return -0.5 * flat.square().sum(dim=1) - flat.shape[1] * math.log(
        scale * math.sqrt(2.0 * math.pi)
    )


class _Augmented(BaseDenoiser):
    """Denoiser of the state with the trace as additional component; its raw output is v.
    ``_integrate`` makes its calls."""

    prediction = "v"

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)


def _integrate(
    plan: Plan, denoiser: Denoiser, x0: Tensor, probes: Tensor | None, cond: Condition
) -> tuple[Tensor, Tensor]:
    """Return the state at the end and ``int tr dphi`` for each probe, (B, probes)."""
    # raises before any call
    numbers = [convert(denoiser.prediction, "v", e.node) for e in plan.evaluations]
    width = x0[0].numel()
    precision = torch.float32 if x0.device.type == "mps" else torch.float64
    state = torch.zeros(
        (x0.shape[0], width + (1 if probes is None else len(probes))),
        dtype=precision,
        device=x0.device,
    )
    state[:, :width] = x0.flatten(1)
    cursor = Cursor(plan, _Augmented(denoiser.schedule), state)
    for (a, b), e in zip(numbers, plan.evaluations, strict=True):
        x = cursor.x_in[:, :width].to(x0.dtype).view(x0.shape)
        v, traces = _v_and_traces(denoiser, x, e.node, a, b, probes, cond)
        # a component of a state at a node is r times the quantity itself: r l, whose slope in phi
        # is r tr
        cursor.step(
            (
                torch.cat(
                    [v.flatten(1).to(precision), _radius(e.node) * traces.to(precision)], dim=1
                ),
            )
        )
    result = cursor.result
    return result[:, :width].reshape(x0.shape), result[:, width:] / _radius(plan.end)


def _v_and_traces(
    denoiser: Denoiser,
    x: Tensor,
    node: Node,
    a: float,
    b: float,
    probes: Tensor | None,
    cond: Condition,
) -> tuple[Tensor, Tensor]:
    """Return ``v = a x + b value`` and its trace, or ``e^T (dv/dx) e`` for each probe, (B,
    probes)."""
    time = float(node.t or 0.0)
    p, qs = denoiser.coefficients(time)
    scale = denoiser.input_scale(time)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        # a copy, because the network may write into it
        raws = denoiser.raws(x * scale, time, cond)
        value = torch.stack([raw * (b * q) for raw, q in zip(raws, qs, strict=True)]).sum(dim=0)
        if not value.requires_grad:
            raise GradientError(_NO_GRADIENT)
        products = products_with(value, x, unit_vectors(x) if probes is None else probes)
    own = a + b * p  # coefficient of the state in v, whose trace, or e^T e of a probe, is known
    if probes is None:
        traces = products.sum(dim=1, keepdim=True) + own * x[0].numel()
    else:
        traces = products + own * probes.flatten(2).square().sum(dim=2).T
    return (own * x + value).detach(), traces


_NO_GRADIENT = (
    "log_prob needs the derivative of the network by its input, and autograd finds none: the "
    "network detaches its input, runs without "
    "gradients (no_grad, inference_mode), or works outside of torch"
)


def products_with(value: Tensor, x: Tensor, vectors: Tensor) -> Tensor:
    """Return ``e^T (dvalue/dx) e`` of each row for each of ``vectors`` (K, B, *shape): (B, K)."""
    parts = []
    for some in torch.split(vectors, max(1, min(len(vectors), _TOGETHER // x.numel()))):
        many = len(some) > 1
        (grads,) = torch.autograd.grad(
            value,
            x,
            some if many else some[0],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=many,
        )
        if grads is None:
            raise GradientError(_NO_GRADIENT)
        parts.append(((grads if many else grads[None]) * some).flatten(2).sum(dim=2))
    return torch.cat(parts).T


def unit_vectors(x: Tensor) -> Tensor:
    """Return the unit vectors of a sample, (d, B, *shape)."""
    d = x[0].numel()
    return (
        torch.eye(d, dtype=x.dtype, device=x.device)[:, None]
        .expand(d, x.shape[0], d)
        .reshape(d, *x.shape)
    )
