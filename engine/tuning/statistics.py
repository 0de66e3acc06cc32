"""The statistics l, s and b of DPM-Solver-v3, estimated on a model (Zheng et al. 2023, arXiv
2310.13268, eqs. 8 and 11).

With D the prediction of x0, ``u = rho eps = x / alpha - D``, and a prime for the derivative by lam
along the probability-flow ODE, ``d(x / alpha) / dlam = -u``,

    l  = E[sigma d eps_i / d x_i] = 1 - alpha E[d D_i / d x_i]
    f  = u - l x / alpha  = (1 - l) u - l D
    f' = (l - 1) u - D' - l' x / alpha
    s  = cov(f, f') / var(f),    b = E f' - s E f

for each coordinate. As one number for all coordinates, with b = 0: the mean of l, and
``s = sum E[f f'] / sum E[f^2]``. The diagonal of the Jacobian is ``E[v (J v)]`` with signs v, by
forward derivatives where the network has them, by differences elsewhere; D' is a difference along
the ODE. Draws and signs are the same at all nodes, so that l is smooth in lam and l' is the
derivative of the spline through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...checks import ArgumentError, integer, tensor
from ...models.denoiser import Denoiser
from ...models.wrapper import complete
from ...plans.weights.phi import Array
from ...plans.weights.statistics import Curve
from ...schedules.node import Node
from ..provenance import made_for
from ..saved_statistics import Statistics
from ..start_states import prior_scale, start_state
from .problem import EXACT, NETWORK, rounds_times
from .trajectories import Conditions, Model, Trajectories, TuneError, states_at

#: nodes and draws of the paper, and the fewest that are taken
NODES, DRAWS, LEAST_NODES, LEAST_DRAWS = 120, 1024, 8, 16
#: step in half log-SNR of differences along the ODE
_STEP, _COARSE_STEP = 1e-4, 2e-2
#: added to var(f), as in the authors' code
_GUARD = 1e-12
#: forward derivatives are used if they are this near to differences, relative
_NEAR = 0.05
#: first seed of the trajectories, and seed of data draws and signs
_SEEDS = 1 << 43


def model_statistics(
    denoiser: Denoiser,
    *,
    nodes: int = NODES,
    draws: int | None = None,
    data: Tensor | None = None,
    cond: Conditions = None,
    fine_steps: int | None = None,
    seed: int = 0,
) -> Statistics:
    """Estimate the statistics l, s and b of DPM-Solver-v3 for a model.

    Args:
        denoiser: the model, guided or not.
        nodes: intervals between the nodes, uniform in lam from t_max to t_min.
        draws: states at each node (default: 1024 with ``data``; 256 trajectories without, 64 for
            networks). A state costs 4 to 5 rows of the network at each node.
        data: clean samples (B, *shape); the states are ``alpha x0 + sigma z``, with the samples
            over and over. Without data the states are those of the model's converged trajectories.
        cond: a function of the seeds of the draws that returns their conditions, batch first; or
            the conditions themselves.
        fine_steps: steps of the trajectories (default 512, 128 for networks).
        seed: shifts the seeds of the draws.

    Raises TuneError for a network that rounds the times that it is told, for fewer than 16 draws,
    and where the statistics are no numbers.
    """
    model = Model(complete(denoiser))
    if rounds_times(model):
        raise TuneError(
            "the network rounds the times that it is told, so its derivative by them has no "
            "meaning: its statistics cannot be estimated"
        )
    integer("nodes", nodes, LEAST_NODES, 10_000)
    own = EXACT if model.exact else NETWORK
    count = integer("draws", draws or (own[0] if data is None else DRAWS), 1)
    if count < LEAST_DRAWS:
        raise TuneError(f"draws={count}: too few for moments; give at least {LEAST_DRAWS}")
    if data is not None and fine_steps is not None:
        raise TuneError("fine_steps= belongs to trajectories: leave it out with data=")
    first = _SEEDS + integer("seed", seed, 0, 1 << 38)
    seeds = range(first, first + count)
    given = cond(seeds) if callable(cond) else cond
    schedule = model.denoiser.schedule
    places = _places(model, nodes)
    start = schedule.node(schedule.t_max)
    z = start_state(model.denoiser, start, seeds, device=model.denoiser.device, dtype=torch.float64)
    whole = Trajectories(seeds, z, given, z)
    if data is None:
        steps = own[1] if fine_steps is None else integer("fine_steps", fine_steps, 16)
        states: Iterator[Tensor] = iter(states_at(model, whole, places, steps))
        source = f"trajectories of {steps} steps"
    else:
        states = _noised(data, whole, places, prior_scale(model.denoiser, start))
        source = f"{len(data)} samples"
    made = estimated(model, whole, places, states)
    facts = {"nodes": nodes, "draws": count, "source": source, "seed": seed}
    return Statistics(**made._asdict(), made_for=made_for(denoiser), facts=facts)


def statistics_of(model: Model, given: Trajectories, nodes: int, steps: int) -> Statistics:
    """The statistics on the trajectories ``given``."""
    places = _places(model, nodes)
    made = estimated(model, given, places, iter(states_at(model, given, places, steps)))
    return Statistics(**made._asdict())


def _places(model: Model, nodes: int) -> list[Node]:
    """Nodes uniform in lam from t_max to t_min, so far inside the path that differences have room
    and lam is finite."""
    schedule, step = model.denoiser.schedule, _step(model)
    low, high, most = (
        float(schedule.lam(t)) for t in (schedule.t_max, schedule.t_min, schedule.t_low)
    )
    low = low + step if np.isfinite(low) else schedule.lam_start
    high = min(high if np.isfinite(high) else schedule.lam_end, most - step)
    return [schedule.node_at_lam(float(lam)) for lam in np.linspace(low, high, nodes + 1)]


def _noised(
    data: Tensor, given: Trajectories, places: list[Node], scale: float
) -> Iterator[Tensor]:
    """States ``alpha x0 + sigma z``, where the start states are ``scale z``."""
    tensor("data", data)
    if data.shape[1:] != given.x.shape[1:] or not len(data):
        raise ArgumentError(
            f"data has shape {tuple(data.shape)}; allowed (B, {tuple(given.x.shape[1:])})"
        )
    clean = data.to(given.x)[torch.arange(len(given.x)) % len(data)]
    z = given.x / scale
    return (node.alpha * clean + node.sigma * z for node in places)


class Estimate(NamedTuple):
    """The arrays of ``Statistics``."""

    lam: Array
    l: Array  # noqa: E741
    s: Array
    b: Array
    pooled_l: Array
    pooled_s: Array


class _Row(NamedTuple):
    """What is known of the draws at one node, for each coordinate: l, the means of (u, D, D'), and
    their second moments (3, 3, *shape)."""

    l: Tensor  # noqa: E741
    means: Tensor
    moments: Tensor


def estimated(
    model: Model, given: Trajectories, places: list[Node], states: Iterator[Tensor]
) -> Estimate:
    """The statistics from the states at each of ``places``."""
    generator = torch.Generator().manual_seed(given.seeds[0] % (1 << 31))
    signs = torch.randint(0, 2, given.x.shape, generator=generator).to(given.x) * 2.0 - 1.0
    product: Product | None = None
    rows = []
    for node, x in zip(places, states, strict=True):
        if product is None:
            product = _forward if _has_forward(model, given, x, node, signs) else _difference
        rows.append(_row(model, given, x, node, signs, product))
    lams = np.array([node.lam for node in places])
    l, means, moments = (  # noqa: E741
        np.stack([value.cpu().numpy() for value in values]) for values in zip(*rows, strict=True)
    )
    if not all(np.isfinite(value).all() for value in (l, means, moments)):
        raise TuneError("the statistics of this model are no numbers")
    central = moments - means[:, :, None] * means[:, None]
    f, slope = _f(lams, l)
    variance = _product_of(f, f, central)
    s = _product_of(f, slope, central) / (variance + _GUARD)
    b = (slope * means).sum(1) - s * (f * means).sum(1)
    one = l.reshape(len(l), -1).mean(1)
    f, slope = _f(lams, one.reshape(-1, *(1,) * (l.ndim - 1)))
    over, under = (
        _product_of(f, other, moments).reshape(len(l), -1).sum(1) for other in (slope, f)
    )
    return Estimate(lams, l, s, b, one, over / (under + _GUARD))


def _f(lams: Array, l: Array) -> tuple[Array, Array]:  # noqa: E741
    """Coefficients (n, 3, *shape) of f and f' on (u, D, D')."""
    slope = Curve(lams, l).slope(lams)
    zero = np.zeros_like(l)
    return (
        np.stack((1.0 - l, -l, zero), axis=1),
        np.stack((l - 1.0 - slope, -slope, zero - 1.0), axis=1),
    )


def _product_of(a: Array, b: Array, moments: Array) -> Array:
    """``sum_ij a_i b_j moments_ij`` at each node and coordinate."""
    found: Array = (a[:, :, None] * b[:, None] * moments).sum((1, 2))
    return found


def _row(
    model: Model, given: Trajectories, x: Tensor, node: Node, signs: Tensor, product: Product
) -> _Row:
    """The moments at ``node``."""
    data = model.x0(x, node, given.cond)
    u = x / node.alpha - data
    l = 1.0 - node.alpha * (signs * product(model, given, x, node, signs)).mean(0)  # noqa: E741
    values = torch.stack((u, data, _along(model, given, x, node, u)))
    moments = torch.stack([(values * value).mean(1) for value in values])
    return _Row(l, values.mean(1), moments)


def _step(model: Model) -> float:
    """Step of differences along the ODE."""
    return _STEP if model.exact else _COARSE_STEP


def _along(model: Model, given: Trajectories, x: Tensor, node: Node, u: Tensor) -> Tensor:
    """D', a central difference along the tangent of the trajectory."""
    step = _step(model)
    ends = [model.denoiser.schedule.node_at_lam(node.lam + h) for h in (step, -step)]
    high, low = (
        model.x0(end.alpha * (x / node.alpha - (end.lam - node.lam) * u), end, given.cond)
        for end in ends
    )
    return (high - low) / (ends[0].lam - ends[1].lam)


#: ``(model, given, x, node, v)`` -> dD/dx v
Product = Callable[[Model, Trajectories, Tensor, Node, Tensor], Tensor]


def _difference(model: Model, given: Trajectories, x: Tensor, node: Node, v: Tensor) -> Tensor:
    """dD/dx v by a central difference."""
    h = model.share * x.square().mean().sqrt()
    high, low = (model.x0(x + sign * h * v, node, given.cond) for sign in (1.0, -1.0))
    return (high - low) / (2.0 * h)


def _forward(model: Model, given: Trajectories, x: Tensor, node: Node, v: Tensor) -> Tensor:
    """dD/dx v by a forward derivative."""
    found: Tensor = torch.func.jvp(lambda y: model.x0(y, node, given.cond), (x,), (v,))[1]
    return found.detach()


def _has_forward(model: Model, given: Trajectories, x: Tensor, node: Node, v: Tensor) -> bool:
    """Whether the network has forward derivatives: a few rows agree with differences. A network may
    lack them by any error, or cut them silently."""
    few = given.part(slice(0, 4))
    try:
        found = _forward(model, few, x[:4], node, v[:4])
    except Exception:
        return False
    wanted = _difference(model, few, x[:4], node, v[:4])
    return float((found - wanted).norm()) <= _NEAR * float(wanted.norm())
