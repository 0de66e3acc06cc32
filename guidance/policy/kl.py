r"""The Kullback-Leibler divergence of a noisy step from that of a reference model.

Both steps are Gaussians of one standard deviation, hence

    KL(N(mean, std^2) | N(mean_ref, std^2)) = |mean - mean_ref|^2 / (2 std^2)

In Flow-GRPO (Liu et al. 2025, arXiv 2505.05470) ``std^2 = g_t^2 (-dt)``, and in their velocities
it is ``(-dt) / 2 (g_t (1 - t) / (2 t) + 1 / g_t)^2 |v - v_ref|^2``. Their code divides by
``2 g_t^2``: its divergence is (-dt) times the exact one, so a step counts by its length.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ... import checks
from ...checks import ArgumentError
from .arguments import alike, constant, widened

REDUCTIONS = ("sum", "mean")
COMPATS = ("flow_grpo",)
Numbers = float | Sequence[float] | Tensor


def transition_kl(
    mean: Tensor,
    mean_ref: Tensor,
    std: Numbers,
    *,
    reduction: str = "sum",
    compat: str | None = None,
    dt: Numbers | None = None,
) -> Tensor:
    """Return ``|mean - mean_ref|^2 / (2 std^2)`` (K, B), the divergence of each step of each
    sample from that of the reference model, in nats.

    Args:
        mean: (K, B, *shape), ``transition_means(plan, den, states)``.
        mean_ref: of the reference model at the same states, without gradients.
        std: of the steps, ``[t.std for t in plan.transitions]``; or one number.
        reduction: over the elements of a sample, ``"sum"``, which is the divergence, or
            ``"mean"``, which divides by their number, as public code does.
        compat: ``"flow_grpo"`` multiplies by -dt, as the authors' code does by leaving -dt out of
            std^2. It needs ``dt``.
        dt: lengths of the steps in the authors' time, negative:
            ``[t.end.sigma - t.start.sigma for t in plan.transitions]`` on ``Flow``.
    """
    new, old = widened("mean", mean, 3), constant("mean_ref", mean_ref, 3)
    alike("mean", new, "mean_ref", old)
    checks.choice("reduction", reduction, REDUCTIONS)
    s = _per_step("std", std, new)
    if not bool((s > 0.0).all()):
        raise ArgumentError(f"std={checks.shown(std)}: must be positive")
    scale = 2.0 * s.square()
    if compat is not None:
        checks.choice("compat", compat, COMPATS)
        if dt is None:
            raise ArgumentError(f"compat={compat!r} needs dt, the (negative) lengths of the steps")
        h = _per_step("dt", dt, new)
        if not bool((h < 0.0).all()):
            raise ArgumentError(f"dt={checks.shown(dt)}: must be negative, from noise to data")
        scale = scale / -h
    elif dt is not None:
        raise ArgumentError("dt is used with compat='flow_grpo' only: std has its factor -dt")
    squares = (new - old).square().flatten(2)
    total = squares.sum(2) if reduction == "sum" else squares.mean(2)
    return total / scale[:, None]


def _per_step(name: str, value: Numbers, mean: Tensor) -> Tensor:
    """Return one number a step (K,) in the dtype of ``mean``."""
    steps = len(mean)
    if isinstance(value, Tensor):
        found = constant(name, value, 0).reshape(-1).to(mean)
    else:
        given = value if isinstance(value, Sequence) else [value]
        found = mean.new_tensor([checks.number(name, v) for v in given])
    if found.numel() not in (1, steps):
        raise ArgumentError(f"{name} has {found.numel()} numbers for {steps} steps")
    return found.expand(steps)
