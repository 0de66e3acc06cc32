r"""Allen-Cahn equation on a torus, ``u_t = eps^2 Laplace u + u - u^3 + source``.

Without a source the free energy ``<eps^2 |grad u|^2 / 2 + (u^2 - 1)^2 / 4>`` falls, and solutions
keep to ``|u| <= 1``: Allen and Cahn 1979, Acta Metall. 27, 1085. Between the phases -1 and 1
lies a front of width about ``3 eps``, which four points or more resolve. Residual and solver form
the cube at the points of the grid.
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
from .random_fields import uniform
from .stepping.exponential import etdrk4, substeps_for

FIELDS = ("u",)
OPTIONAL = ("u_t",)
PARAMS: Final = {"eps": REQUIRED, "source": 0.0}
order: float | Literal["spectral"] = "spectral"
#: steps of the solver are at most this long, over the largest u^2 where that is over 1
STEP: Final = 0.1


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    return read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)


def _terms(given: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``u_t``, ``eps^2 Laplace u``, ``u - u^3`` and the source, (B, T, X, Y)."""
    u = given.fields["u"]
    diffusion = given.number("eps") ** 2 * laplacian(u, given.spacing)
    return given.rate("u"), diffusion, u - u**3, given.param("source") + torch.zeros_like(u)


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``u_t - eps^2 Laplace u - u + u^3 - source``, (B, T, X, Y), in units of u over time.

    Spectral in space, differences of order 4 in t, or ``fields["u_t"]`` where it is given. Params:
    ``eps`` (length / time^(1/2)), ``source`` (default 0).
    """
    u_t, diffusion, reaction, source = _terms(_read(fields, spacing, params))
    return u_t - diffusion - reaction - source


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the largest of ``u_t``, ``eps^2 Laplace u``, ``u - u^3`` and the source,
    (B,)."""
    return largest(*_terms(_read(fields, spacing, params)))


def solve(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    frames: int | None = None,
    substeps: int | None = None,
) -> dict[str, Tensor]:
    """``{"u": (B, frames, X, Y)}`` from the first state ``fields["u"]`` (B, X, Y), by ETDRK4; the
    source must be constant in time.

    ``substeps`` sets the number of steps between two frames; by default a step is at most
    ``STEP / max(1, u^2)``, for a relative error of about 1e-6. Raises ArgumentError without
    ``frames``.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS)
    u, dt, frames = given.fields["u"], given.spacing["t"], check_frames(frames)
    source = torch.fft.rfft2(given.param("source") + torch.zeros_like(u))
    rate = 1.0 - given.number("eps") ** 2 * square_wave_numbers(u, given.spacing)

    def nonlinear(v: Tensor, t: float) -> Tensor:
        change: Tensor = source - torch.fft.rfft2(inverse(v, u.shape) ** 3)
        return change

    if substeps is None:
        substeps = substeps_for(dt, STEP / max(1.0, float(u.detach().square().max())))
    found = etdrk4(torch.fft.rfft2(u), rate, nonlinear, dt, frames=frames, substeps=substeps)
    return {"u": torch.cat([u[:, None], inverse(found[:, 1:], u.shape)], 1)}


def exact(n: int) -> Problem:
    """``u = (1/2 + 3/10 sin 2t) cos(2 pi x) cos(4 pi y)`` on [0, 1)^2 with the source that makes it
    a solution, ``n`` points an axis; ``n + 1`` times up to t = 1; eps = 0.05."""
    eps, k, h = 0.05, 2.0 * math.pi, 1.0 / integer("n", n, 6)
    x = torch.arange(n).double() * h
    t = (torch.arange(n + 1).double() * h)[:, None, None]
    pattern = torch.cos(k * x)[:, None] * torch.cos(2.0 * k * x)
    u = ((0.5 + 0.3 * torch.sin(2.0 * t)) * pattern)[None]
    u_t = (0.6 * torch.cos(2.0 * t) * pattern)[None]
    source = u_t + 5.0 * (k * eps) ** 2 * u - u + u**3
    return Problem({"u": u, "u_t": u_t}, {"t": h, "x": h, "y": h}, {"eps": eps, "source": source})


def draw(n: int, size: int, seed: int = 0, *, frames: int = 201) -> Problem:
    """``n`` solutions with eps = 0.05 on ``size`` points an axis of the unit torus: u at t = 0
    uniform in (-0.1, 0.1) at each node, from ``seed + i``, smoothed by a Gaussian of width 0.02;
    ``frames`` records 0.1 apart from t = 1 on, when the fine modes of the start have decayed."""
    seeds, size = seeds_from(seed, integer("n", n, 1)), integer("size", size, 6)
    noise = uniform(seeds, -0.1, 0.1, shape=(size, size))
    spacing, params = {"t": 0.1, "x": 1.0 / size, "y": 1.0 / size}, {"eps": 0.05}
    smooth = torch.exp(-0.5 * 0.02**2 * square_wave_numbers(noise, spacing))
    start = inverse(smooth * torch.fft.rfft2(noise), noise.shape)
    frames = 10 + integer("frames", frames, 1)
    u = solve({"u": start}, spacing, params, frames=frames, substeps=1)["u"][:, 10:]
    return Problem({"u": u.contiguous()}, spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the torus has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "u")


def free_energy(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``<eps^2 |grad u|^2 / 2 + (u^2 - 1)^2 / 4>``, the mean over the torus, (B, T): falls in time
    without a source."""
    return _free_energy(_read(fields, spacing, params))


def _free_energy(given: Inputs) -> Tensor:
    u = given.fields["u"]
    gradient = -(given.number("eps") ** 2) * u * laplacian(u, given.spacing)
    return mean(gradient / 2.0 + (u**2 - 1.0) ** 2 / 4.0)


def excess(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """How far the largest ``|u|`` lies above 1, (B, T): 0 without a source, if it is 0 at the
    start."""
    u = _read(fields, spacing, params).fields["u"]
    return (u.abs().amax((-2, -1)) - 1.0).clamp(min=0.0)


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``free_energy_balance``, (B, T): the free energy F with what it has lost since the first
    time, by the law ``dF/dt = <u_t source> - <u_t^2>``, integrated at order 4."""
    given = _read(fields, spacing, params)
    u_t = given.rate("u")
    lost = running_integral(mean(u_t * (u_t - given.param("source"))), given.spacing["t"], 1)
    return {"free_energy_balance": _free_energy(given) + lost}
