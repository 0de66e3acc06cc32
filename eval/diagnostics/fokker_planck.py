"""Residual of the score Fokker-Planck equation.

The scores of ``dx = f x dt + g dw`` satisfy (Lai et al. 2023, FP-Diffusion, arXiv 2210.04296,
theorem on the score FPE)

    r = d_t s - grad [ g^2/2 (div s + |s|^2) - f <x, s> ] = 0.

Reported are ``E |r| / d`` in the schedule's time, as in the paper, and the residual relative to
d_t s, which does not depend on the choice of time. It is computed in half log-SNR, where
``g^2/2 dt/dlam = -sigma^2``. If r = 0 and the score is right at the end, ODE and SDE samples have
the same distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import choice
from ...engine.likelihood import GradientError
from ...models.denoiser import Condition, Denoiser
from ...models.precision import InOwnPrecision
from ...schedules import PFGMPP
from ...schedules.node import Node
from ..errors import ScoreError
from ..solver.batches import condition, row_batches
from .derivatives import (
    NOT_TWICE,
    data_of,
    derivatives,
    directions,
    noised,
    noisy_node,
    pull,
    score_graph,
    seeds_of,
    unit_vector,
)
from .time_derivative import WAYS, by_jvp, central, chosen_way, refuse_rounded, step_of


@dataclass(frozen=True, eq=False)
class FokkerPlanck:
    """Fokker-Planck residuals at T times and n samples.

    Attributes:
        times: times of the schedule.
        per_dimension: ``mean |r| / d`` in the schedule's time, (T,) float64.
        relative: root mean square of r over that of d_t s, (T,).
        square: the square of ``relative`` minus the variance of the probes, (T,); unbiased, so it
            may be negative; NaN for one probe.
        per_sample: ``|r| / d`` of each sample, (T, n).
        probe_error: the part of ``per_dimension`` due to the probes,
            ``mean sqrt(sum_k |r_k - r|^2 / (K (K - 1))) / d``, (T,); 0 for exact traces, NaN for
            one probe.
        derivative: how d_t was computed, ``central`` or ``jvp``.
        step: of the differences, in half log-SNR.
    """

    times: tuple[float, ...]
    per_dimension: Tensor
    relative: Tensor
    square: Tensor
    per_sample: Tensor
    probe_error: Tensor
    derivative: str
    step: float


def fokker_planck_residual(
    denoiser: Denoiser,
    x0: Tensor,
    times: Sequence[float],
    *,
    trace: str = "auto",
    probes: int = 2,
    probe: str = "rademacher",
    derivative: str = "auto",
    step: float | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    cond: Condition = None,
    batch: int | None = None,
) -> FokkerPlanck:
    """The residual at ``x0`` noised to each of ``times``.

    Args:
        denoiser: any model on a Gaussian path, twice differentiable by its state; it computes in
            its own dtype.
        x0: clean samples (n, *shape).
        times: of the schedule, at least two difference steps away from its ends.
        trace, probes, probe: ``div s`` exactly (two reverse passes per element) or by probes (two
            per probe), as in ``log_prob``.
        derivative: ``central``, ``jvp`` or ``auto``, see ``diagnostics.time_derivative``.
        step: of the differences; default by the rule there.
        seed, seeds: of noise and probes, one a sample.
        cond, batch: conditions of the model; samples in one network call.

    Raises GradientError, with a remedy, where a derivative is missing; ScoreError for a PFGM++
    path, whose densities satisfy no Fokker-Planck equation, for times at the ends, and for a
    network that rounds its time to an index.
    """
    choice("derivative", derivative, WAYS)
    if isinstance(denoiser.schedule, PFGMPP):
        raise ScoreError("a PFGM++ path has no Fokker-Planck equation")
    if not times:
        raise ScoreError("times is empty: give at least one")
    data, model = data_of(denoiser, x0), InOwnPrecision(denoiser)
    h = step_of(model.dtype) if step is None else step
    if not 0.0 < h < 1.0:
        raise ScoreError(f"step={h!r}: must be between 0 and 1")
    chosen = seeds_of(len(data), seed, seeds)
    nodes = [noisy_node(denoiser, t) for t in times]
    for node in nodes:
        refuse_rounded(denoiser, node, h)
    first = noised(denoiser, data[:1], nodes[0], chosen[:1])
    way = chosen_way(derivative, model, first, nodes[0], h, condition(cond, slice(0, 1)))
    found = torch.zeros(len(nodes), 3, len(data), dtype=torch.float64)
    for i, node in enumerate(nodes):
        for rows, own in row_batches(len(data), batch, cond):
            x = noised(denoiser, data[rows], node, chosen[rows])
            vectors = directions(x, trace, probes, probe, chosen[rows])
            slope = (
                central(model, x, node, h, own)
                if way == "central"
                else _sure(by_jvp(model, x, node, own))
            )
            found[i, :, rows] = (
                torch.stack(_norms(model, x, node, own, vectors, slope)).double().cpu()
            )
    rates = torch.tensor(
        [abs(float(denoiser.schedule.dlam(t))) for t in times], dtype=torch.float64
    )[:, None]
    each, noise = (found[:, k] * rates / data[0].numel() for k in (0, 2))
    whole, size, extra = found.square().mean(dim=2).unbind(dim=1)
    size = size.clamp_min(1e-300)
    relative, square = (whole / size).sqrt(), (whole - extra) / size
    return FokkerPlanck(
        tuple(times), each.mean(dim=1), relative, square, each, noise.mean(dim=1), way, h
    )


def _sure(slope: Tensor | None) -> Tensor:
    if slope is None:
        raise ScoreError(
            "forward mode finds the time in some calls of the network only: use "
            "derivative='central'"
        )
    return slope


def _norms(
    model: Denoiser, x: Tensor, node: Node, cond: Condition, vectors: Tensor | None, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """In half log-SNR: ``|r|``, ``|d s|`` and the standard error of r over probes, (B,) each."""
    t = float(node.t or 0.0)
    drift = float(model.schedule.f(t)) / float(model.schedule.dlam(t))
    x, score = score_graph(model, x, node, cond)
    flat, variance = score.flatten(1), node.sigma**2
    plain = variance * flat.square().sum(dim=1) + drift * (x.flatten(1) * flat).sum(dim=1)
    residual = slope + pull(plain, x, torch.ones_like(plain))
    bends = torch.stack([variance * bend for bend in _bends(score, x, vectors)])
    if vectors is None:
        residual = residual + bends.sum(dim=0)
        noise = torch.zeros_like(plain)
    else:
        spread = bends.flatten(2)
        noise = (
            (spread.var(dim=0).sum(dim=1) / len(spread)).sqrt()
            if len(spread) > 1
            else torch.full_like(plain, float("nan"))
        )
        residual = residual + bends.mean(dim=0)
    return residual.flatten(1).norm(dim=1), slope.flatten(1).norm(dim=1), noise


def _bends(score: Tensor, x: Tensor, vectors: Tensor | None) -> Iterator[Tensor]:
    """Gradient with respect to x of each diagonal entry of the Jacobian, or of ``v^T J v`` for each
    probe, (B, *shape) each.

    ``J^T v`` depends on v, so a missing gradient with respect to v means that an operation of the
    network cuts the graph: GradientError, not a gradient of zero.
    """
    for v in [unit_vector(x, k) for k in range(x[0].numel())] if vectors is None else vectors:
        cotangent = v.detach().clone().requires_grad_()
        product = pull(score, x, cotangent, twice=True)
        bend, linear = derivatives((product * v).sum(), (x, cotangent))
        if linear is None:
            raise GradientError(NOT_TWICE)
        yield torch.zeros_like(x) if bend is None else bend
