"""Noise of a plan: independent draws, or one Brownian path in half log-SNR shared by all grids.

``noise="brownian"``. Path time is lam, clipped to ``[-32, 32]``; a draw for a step from s to t
toward data is

    z = (W(lam_t) - W(lam_s)) / sqrt(lam_t - lam_s),

a unit normal. Every grid reads the same path: draws of two runs whose intervals overlap are
correlated as the increments are, and so are two draws of one run (``[s, mid]`` and ``[s, t]``). A
draw that does not go toward data (churn, restarts) uses independent noise, indexed by its key. The
draws after it use the next layer of the path, so that an interval that is covered again gets new
noise: layer k holds the draws after the k-th draw toward noise. If the same interval is drawn twice
in a layer, the second draw uses independent noise. The joint distribution of a plan's draws is that
of independent noise if no two draws of a layer overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from ..checks import ArgumentError, instance, integer, number, unknown
from ..fused.brownian.path import BrownianPath
from ..fused.noise.seeded import SeededNoise, check_seeds
from ..plans.instructions import Draw, PlanError
from ..plans.plan import Plan
from ..plans.running.loop import Noise
from ..plans.weights.noise_scale import NOISE_SCALES
from .arguments import check_tensors
from .traced_noise import refuse_traced, seeded

#: lam is clipped to this range: alpha or sigma is 0 in float64 long before its ends
LAM_LIMIT = 32.0
#: smallest step in lam whose noise has the exact distribution
TOLERANCE = 2.0**-8

NAMES = ("independent", "brownian")
Named = Literal["independent", "brownian"]


def clipped(lam: float) -> float:
    """Path time of ``lam``."""
    return min(max(lam, -LAM_LIMIT), LAM_LIMIT)


class LamPath:
    """Brownian path of each seed in half log-SNR: ``path(s_lam, t_lam, like) -> (W, H)`` for any
    s_lam <= t_lam in any order.

    W ~ N(0, h) and H ~ N(0, h/12) are independent, h = t_lam - s_lam; H is the space-time integral
    of ``fused.brownian``.
    """

    def __init__(self, seeds: Sequence[int], *, tol: float = TOLERANCE, layer: int = 0) -> None:
        """``tol``: smallest step with the exact distribution; rounded down to a power of two times
        the cell length 1. Paths with another tol or another ``layer`` are different paths."""
        self.path = BrownianPath(
            check_seeds(seeds),
            -LAM_LIMIT,
            LAM_LIMIT,
            tol,
            cells=round(2.0 * LAM_LIMIT),
            layer=layer,
        )

    def __call__(self, s_lam: float, t_lam: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return (W, H) of the step, shaped like ``like`` (B, *shape). Raises ValueError for a step
        toward noise."""
        return self.path.levy(clipped(s_lam), clipped(t_lam), like)

    def unit(self, s_lam: float, t_lam: float, like: Tensor) -> Tensor:
        """Return ``W / sqrt(h)``. Raises ValueError for a step toward noise or shorter than tol."""
        s, t = clipped(s_lam), clipped(t_lam)
        if not t - s >= self.path.tol * (1.0 - 1e-9):
            raise ArgumentError(
                f"a step from lam = {s_lam} to {t_lam} is shorter than the path's tol = "
                f"{self.path.tol}; use noise='independent', or "
                f"noise=PlanPath(plan, seeds, tol=...) with a smaller one"
            )
        return self.path.increment(s, t, like).mul_((t - s) ** -0.5)


class PlanPath:
    """Noises of ``plan`` from the paths of ``seeds``: a callable ``(key, like) -> z`` for
    ``noise=``; see the module for the rule.

    Draws are computed on demand, in any order. Raises ValueError if a step toward data is shorter
    than ``tol``.
    """

    def __init__(self, plan: Plan, seeds: Sequence[int], *, tol: float = TOLERANCE) -> None:
        instance("plan", plan, Plan, "a plan, as fewstep.plan makes it,")
        tol = number("tol", tol, 0.0)
        self.draws, self.seeds, self.tol = plan.draws, check_seeds(seeds), tol
        self.layers = layers(plan.draws)
        self._independent = SeededNoise(self.seeds)
        self._paths: dict[int, LamPath] = {}
        for key, (draw, layer) in enumerate(zip(self.draws, self.layers, strict=True)):
            step = clipped(draw.end.lam) - clipped(draw.start.lam)
            if layer is not None and step < tol * (1.0 - 1e-9):
                raise ArgumentError(
                    f"draw {key} spans {step:.3g} in lam, less than the path's tol = "
                    f"{tol:.3g}; give a smaller tol"
                )

    def __call__(self, key: int, like: Tensor) -> Tensor:
        """Return noise ``key`` of the plan."""
        integer("key", key, 0, len(self.draws) - 1)
        layer, draw = self.layers[key], self.draws[key]
        if layer is None:
            return self._independent(key, like)
        if layer not in self._paths:
            self._paths[layer] = LamPath(self.seeds, tol=self.tol, layer=layer)
        return self._paths[layer].unit(draw.start.lam, draw.end.lam, like)


def layers(draws: Sequence[Draw]) -> tuple[int | None, ...]:
    """Return the layer of the path that each draw reads; None for independent noise."""
    out: list[int | None] = []
    ups, seen = 0, set()
    for draw in draws:
        s, t = clipped(draw.start.lam), clipped(draw.end.lam)
        out.append(ups if s < t and (ups, s, t) not in seen else None)
        seen.add((ups, s, t))
        ups += not s < t
    return tuple(out)


def check_name(noise: Noise | str) -> None:
    """Raise ValueError if ``noise`` is a string but not one of ``NAMES``."""
    check_tensors(noise)
    if isinstance(noise, str) and noise not in NAMES:
        scale = (
            f"; the noise scale {noise!r} of er_sde is the option diffusion={noise!r}"
            if noise in NOISE_SCALES
            else ""
        )
        raise ArgumentError(
            unknown("noise", noise, NAMES) + "; or a callable, or tensors by key" + scale
        )


def noise_for(plan: Plan, noise: Noise | str, seeds: Sequence[int] | None) -> Noise:
    """Return the noise of ``plan`` in the form that the loop takes, checked before anything runs.

    ``noise`` is a name (``independent`` or ``brownian``, both from ``seeds``), None (independent if
    there are seeds), a callable, or tensors by key, one for every draw. Raises PlanError if tensors
    are missing or left over, or if a stochastic plan has no noise.
    """
    check_name(noise)
    if isinstance(noise, str):
        if seeds is None:
            raise PlanError(f"noise={noise!r} needs seeds")
        if noise == "brownian" and plan.draws:
            refuse_traced("noise='brownian'")
            return PlanPath(plan, seeds)
        return seeded(seeds)
    if noise is None:
        if seeds is None and plan.draws:
            raise PlanError(
                f"this plan draws noise ({len(plan.draws)} times): pass noise= or seeds="
            )
        return seeded(seeds) if seeds is not None else None
    if not callable(noise):
        _check_given(plan, noise)
    return noise


def _check_given(plan: Plan, noise: Any) -> None:
    wanted = len(plan.draws)
    if isinstance(noise, Mapping):
        missing = [k for k in range(wanted) if k not in noise]
        if missing:
            raise PlanError(
                f"the plan draws noises 0 .. {wanted - 1}; the mapping lacks "
                f"{missing[:8]}{' ...' if len(missing) > 8 else ''}"
            )
    found = len(noise)
    if found != wanted:
        raise PlanError(f"the plan draws {wanted} noises, but {found} were given")
