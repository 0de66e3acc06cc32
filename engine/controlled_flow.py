"""RF-Inversion: flows steered between data and noise by a linear control (Rout et al. 2024, arXiv
2410.10792).

With the velocity u, towards noise, the noise eps and the data x0,

    rf_invert   dx/dt = (1 - gamma) u(x, t) + gamma (eps - x) / (1 - t)     from t = 0 up
    rf_sample   dx/dt = (1 - eta) u(x, t) + eta (x - x0) / t                from t = 1 down

by Euler steps. gamma = 0 inverts the flow, gamma = 1 leads to eps; eta = 0 samples, eta = 1 leads
back to x0. In between, the noise found is more normal than that of the flow, and sampling under
another condition stays near x0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..checks import ArgumentError, number
from ..fused.noise.seeded import GUIDANCE_STREAM, SeededNoise, check_seeds, seeds_from
from ..models.base import BaseDenoiser, RunFacts
from ..models.denoiser import Denoiser, convert_prediction
from ..models.wrapper import complete
from ..schedules.flow import Flow
from ..schedules.grids.construction import Grid, grid
from .arguments import StateError, check_cond, check_given, check_state

Cond = Tensor | Mapping[str, Tensor] | None


def rf_invert(
    denoiser: Denoiser,
    x0: Tensor,
    *,
    gamma: float = 0.5,
    steps: int = 28,
    cond: Cond = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Return the noise of ``x0`` (B, *shape) by the controlled flow from data to noise.

    Args:
        denoiser: a model of velocities on a ``Flow`` schedule.
        gamma: strength of the control, 0 to 1.
        steps: Euler steps, uniform in t before the schedule's shift; one network call each.
        cond: the condition of the data, batch first.
        seed, seeds: sample i is steered to the noise of seed ``seed + i``, or of ``seeds``.

    Raises ArgumentError for a model that is not on a flow, StateError for data that do not fit.
    """
    model, gamma = _checked(denoiser, x0, cond), number("gamma", gamma, 0.0, 1.0)
    chosen = seeds_from(seed, len(x0)) if seeds is None else check_seeds(seeds)
    if len(chosen) != len(x0):
        raise StateError(f"{len(chosen)} seeds were given for {len(x0)} samples")
    path = grid("uniform", model.schedule, steps)
    own = model.for_run(RunFacts(chosen, tuple(range(path.steps)), True))
    with torch.no_grad():
        eps, x = SeededNoise(chosen, GUIDANCE_STREAM)(0, x0), x0
        times = [float(node.t or 0.0) for node in reversed(path.nodes)]
        for now, then in pairwise(times):
            u = _velocity(own, x, now, cond)
            x = x + (then - now) * ((1.0 - gamma) * u + (gamma / (1.0 - now)) * (eps - x))
    return x


def rf_sample(
    denoiser: Denoiser,
    noise: Tensor,
    x0: Tensor,
    *,
    eta: float = 0.9,
    window: Sequence[int] = (0, 6),
    steps: int = 28,
    cond: Cond = None,
) -> Tensor:
    """Return the sample from ``noise`` that is steered to ``x0`` (both (B, *shape)) in the steps
    of ``window``.

    Args:
        denoiser, steps, cond: as in ``rf_invert``; ``cond`` is the condition to change to.
        noise: the state at t = 1, the result of ``rf_invert``.
        eta: strength of the control, 0 to 1.
        window: (first, stop), the steps that are steered, from 0; the more, the nearer to x0.

    Raises ArgumentError for a model that is not on a flow, StateError for data that do not fit.
    """
    model, eta = _checked(denoiser, x0, cond), number("eta", eta, 0.0, 1.0)
    check_given(noise=noise)
    if noise.shape != x0.shape:
        raise StateError(f"noise= has shape {tuple(noise.shape)}, x0 {tuple(x0.shape)}")
    path = grid("uniform", model.schedule, steps)
    first, stop = _window(window, path)
    own = model.for_run(RunFacts((), tuple(range(path.steps))))
    with torch.no_grad():
        x = noise
        for i, (s, t) in enumerate(path.pairs()):
            now, share = float(s.t or 0.0), eta if first <= i < stop else 0.0
            u = _velocity(own, x, now, cond)
            x = x + (float(t.t or 0.0) - now) * ((1.0 - share) * u + (share / now) * (x - x0))
    return x


def _window(window: Sequence[int], path: Grid) -> tuple[int, int]:
    """The first and the last step but one that are steered."""
    given = tuple(window) if isinstance(window, (tuple, list)) else ()
    whole = len(given) == 2 and all(type(k) is int for k in given)
    if not whole or not 0 <= given[0] <= given[1] <= path.steps:
        raise ArgumentError(
            f"window={window!r}: must be (first, stop) with 0 <= first <= stop <= {path.steps}, "
            "the number of steps"
        )
    return given[0], given[1]


def _checked(denoiser: Denoiser, x0: Tensor, cond: Cond) -> BaseDenoiser:
    """The model, checked with the data and the condition."""
    model = complete(denoiser)
    if not isinstance(model.schedule, Flow):
        raise ArgumentError(f"this needs a model on a Flow schedule, not {model.schedule!r}")
    check_given(x0=x0)
    check_state(x0, model)
    check_cond(cond, x0.shape[0])
    model.check_cond(cond, x0.shape[0])
    return model


def _velocity(model: BaseDenoiser, x: Tensor, t: float, cond: Cond) -> Tensor:
    value = model(x, t, cond)
    return convert_prediction(value, x, t, model.prediction, "velocity", model.schedule)
