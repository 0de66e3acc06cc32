r"""Gray-Scott reaction and diffusion of two substances on a torus,

    u_t = du Laplace u - u v^2 + feed (1 - u) + source_u,
    v_t = dv Laplace v + u v^2 - (feed + kill) v + source_v.

Source: Pearson 1993, Complex patterns in a simple system, Science 261, 189, equation 2; there
du = 2e-5 and dv = 1e-5, and patterns at feed 0.04 and kill 0.06 among others. Residual and solver
form the product at the points of the grid. Fronts are about ``(du / feed)^(1/2)`` wide.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
from .derivatives.differences import running_integral
from .equation import Fields, Params, Problem, Spacing
from .norms import largest
from .periodic_plane import AXES as AXES
from .periodic_plane import (
    inverse,
    laplacian,
    mean,
    no_walls,
    read_history,
    read_start,
    square_wave_numbers,
)
from .random_fields import periodic_fields
from .stepping.exponential import etdrk4, substeps_for

FIELDS = ("u", "v")
OPTIONAL = ("u_t", "v_t")
PARAMS: Final = {
    "du": REQUIRED,
    "dv": REQUIRED,
    "feed": REQUIRED,
    "kill": REQUIRED,
    "source_u": 0.0,
    "source_v": 0.0,
}
order: float | Literal["spectral"] = "spectral"
#: steps of the solver are at most this long, over the largest of v^2 and 2 |u v|
STEP: Final = 0.25


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    return read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)


def _terms(given: Inputs) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Rate, diffusion, reaction and supply of u and of v."""
    u, v = given.fields["u"], given.fields["v"]
    feed, kill = given.number("feed"), given.number("kill")
    reaction = u * v**2
    return (
        (
            given.rate("u"),
            given.number("du", 0.0) * laplacian(u, given.spacing),
            -reaction,
            feed * (1.0 - u) + given.param("source_u"),
        ),
        (
            given.rate("v"),
            given.number("dv", 0.0) * laplacian(v, given.spacing),
            reaction,
            -(feed + kill) * v + given.param("source_v"),
        ),
    )


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """The left less the right sides of the two equations, (B, 2, T, X, Y), that of u first, in
    units of concentration over time.

    Spectral in space, differences of order 4 in t, or ``u_t`` and ``v_t`` where they are given.
    Params: ``du``, ``dv`` (length^2 / time), ``feed``, ``kill`` (1 / time), ``source_u``,
    ``source_v`` (default 0).
    """
    parts = [
        rate - diffusion - reaction - supply
        for rate, diffusion, reaction, supply in _terms(_read(fields, spacing, params))
    ]
    return torch.stack(parts, 1)


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square, over both equations, of the largest of rate, diffusion, reaction and
    supply, (B,)."""
    of_u, of_v = _terms(_read(fields, spacing, params))
    return largest(*(torch.stack(pair, 1) for pair in zip(of_u, of_v, strict=True)))


def solve(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    frames: int | None = None,
    substeps: int | None = None,
) -> dict[str, Tensor]:
    """``{"u": (B, frames, X, Y), "v": ...}`` from the first states ``fields["u"]`` and
    ``fields["v"]`` (B, X, Y), by ETDRK4; the sources must be constant in time.

    ``substeps`` sets the number of steps between two frames; by default a step is at most ``STEP /
    max(1/4, v^2, 2 |u v|)`` of the first state, for a relative error of about 1e-6. Raises
    ArgumentError without ``frames``.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS)
    start = torch.stack([given.fields["u"], given.fields["v"]], 1)
    feed, kill = given.number("feed"), given.number("kill")
    square, shape = square_wave_numbers(start, given.spacing), start.shape
    flat = torch.zeros_like(start[:, 0, :1, :1])
    rate_u = -given.number("du", 0.0) * square - feed + flat
    rate_v = -given.number("dv", 0.0) * square - (feed + kill) + flat
    rate = torch.stack([rate_u, rate_v], 1)
    sources = [feed + given.param("source_u"), given.param("source_v")]
    source = torch.fft.rfft2(torch.stack([s + torch.zeros_like(start[:, 0]) for s in sources], 1))

    def nonlinear(state: Tensor, t: float) -> Tensor:
        u, v = inverse(state, shape).unbind(1)
        reaction = torch.fft.rfft2(u * v**2)
        change: Tensor = source + torch.stack([-reaction, reaction], 1)
        return change

    dt, frames = given.spacing["t"], check_frames(frames)
    steps = substeps_for(dt, _step(start)) if substeps is None else substeps
    found = etdrk4(torch.fft.rfft2(start), rate, nonlinear, dt, frames=frames, substeps=steps)
    states = torch.cat([start[:, None], inverse(found[:, 1:], shape)], 1)
    return {"u": states[:, :, 0], "v": states[:, :, 1]}


def _step(state: Tensor) -> float:
    u, v = state.detach().unbind(1)
    return STEP / max(0.25, float(v.square().max()), 2.0 * float((u * v).abs().max()))


def exact(n: int) -> Problem:
    """``u = 0.6 + 0.2 exp(-t) cos(2 pi x) cos(2 pi y)``, ``v = 0.3 + 0.1 cos(2t) sin(4 pi x)`` on
    [0, 1)^2 with the sources that make them a solution, ``n`` points an axis; ``n + 1`` times up to
    t = 1; du = 0.02, dv = 0.01, feed = 0.04, kill = 0.06."""
    params = {"du": 0.02, "dv": 0.01, "feed": 0.04, "kill": 0.06}
    k, h = 2.0 * math.pi, 1.0 / integer("n", n, 6)
    x = torch.arange(n).double() * h
    t = (torch.arange(n + 1).double() * h)[:, None, None]
    wave = 0.2 * torch.exp(-t) * torch.cos(k * x)[:, None] * torch.cos(k * x)
    turn = 0.1 * torch.sin(2.0 * k * x)[:, None].expand(n, n)
    swing = torch.cos(2.0 * t) * turn
    u, v, u_t, v_t = 0.6 + wave, 0.3 + swing, -wave, -2.0 * torch.sin(2.0 * t) * turn
    source_u = u_t + 2.0 * k**2 * params["du"] * wave + u * v**2 - params["feed"] * (1.0 - u)
    source_v = v_t + 4.0 * k**2 * params["dv"] * swing - u * v**2
    source_v = source_v + (params["feed"] + params["kill"]) * v
    fields = {"u": u[None], "v": v[None], "u_t": u_t[None], "v_t": v_t[None]}
    sources = {"source_u": source_u[None], "source_v": source_v[None]}
    return Problem(fields, {"t": h, "x": h, "y": h}, {**params, **sources})


def draw(n: int, size: int, seed: int = 0, *, frames: int = 51) -> Problem:
    """``n`` solutions with du = 2e-5, dv = 1e-5, feed = 0.04, kill = 0.06 on ``size`` points an
    axis of the unit torus (128 resolve the fronts): at t = 0 ``v = s/4`` and ``u = 1 - s/2`` with
    ``s = 1 / (1 + exp(-8 g))``, g the Gaussian field of ``seed + i`` (alpha 2.5, tau 7);
    ``frames`` records 1 apart from t = 10 on, when the fine modes of the start have decayed."""
    field = periodic_fields(integer("size", size, 6), seeds_from(seed, integer("n", n, 1)))
    covered = torch.sigmoid(8.0 * field)
    spacing = {"t": 1.0, "x": 1.0 / size, "y": 1.0 / size}
    params = {"du": 2e-5, "dv": 1e-5, "feed": 0.04, "kill": 0.06}
    start = {"u": 1.0 - covered / 2.0, "v": covered / 4.0}
    frames = 10 + integer("frames", frames, 1)
    found = solve(start, spacing, params, frames=frames, substeps=2)
    later = {name: value[:, 10:].contiguous() for name, value in found.items()}
    return Problem(later, spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the torus has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "u")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``mass_balance``, (B, T): ``<u + v>``, the mean over the torus, less what was supplied since
    the first time, ``feed (1 - <u>) - (feed + kill) <v>`` and the sources, integrated at order
    4."""
    given = _read(fields, spacing, params)
    of_u, of_v = _terms(given)
    supplied = running_integral(mean(of_u[3] + of_v[3]), given.spacing["t"], 1)
    return {"mass_balance": mean(given.fields["u"] + given.fields["v"]) - supplied}
