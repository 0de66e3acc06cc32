"""Kuramoto-Sivashinsky equation on a periodic line, ``u_t + u u_x + u_xx + u_xxxx = source``.

The data set is that of Lippe et al. 2023 (PDE-Refiner, arXiv 2308.05732): random sines on a line
of length 64. Modes with ``k < 1`` grow at ``k^2 - k^4``, the product passes their energy to others;
the motion is chaotic.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import Inputs, check_frames
from .derivatives.spectral import derivative
from .equation import Fields, Params, Problem, Spacing
from .norms import rms
from .periodic_line import half_wave_numbers, no_walls, read_history, read_start, refinement
from .random_fields import uniform
from .stepping.exponential import etdrk4, substeps_for

FIELDS = ("u",)
OPTIONAL = ("u_t",)
AXES = ("t", "x")
PARAMS: Final[dict[str, Any]] = {"source": 0.0}
order: float | Literal["spectral"] = "spectral"

#: longest step of the solver, in the units of the equation
STEP = 0.05


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    return read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``u_t + u u_x + u_xx + u_xxxx - source``, (B, T, X).

    Spectral in x, differences of order 4 in t, or ``fields["u_t"]`` where it is given. Params:
    ``source`` (default 0). Length, time and u are in the units of the equation.
    """
    given = _read(fields, spacing, params)
    u, h = given.fields["u"], given.spacing["x"]
    terms = u * derivative(u, h, 2) + derivative(u, h, 2, 2) + derivative(u, h, 2, 4)
    found: Tensor = given.rate("u") + terms - given.param("source")
    return found


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of ``u_t``, (B,)."""
    return rms(_read(fields, spacing, params).rate("u"))


def solve(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    frames: int | None = None,
    substeps: int | None = None,
) -> dict[str, Tensor]:
    """``{"u": (B, frames, X)}`` from the first state ``fields["u"]`` (B, X): Fourier modes, ETDRK4,
    products without the modes from a third on (the 2/3 rule).

    ``substeps`` between two frames: by default as many as keep a step at most 0.05. A source must
    be constant in time: a number, or values on the line, (B, X) or (B, 1, X). Raises
    ArgumentError, also without ``frames``.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS)
    u, dt, h = given.fields["u"], given.spacing["t"], given.spacing["x"]
    n = u.shape[1]
    k = half_wave_numbers(n, h, u)
    keep = (3.0 * torch.arange(n // 2 + 1, device=u.device) < n).to(u)
    slope = -0.5j * keep * half_wave_numbers(n, h, u, odd=True)
    forcing = torch.fft.rfft(given.param("source") * torch.ones_like(u))

    def nonlinear(v: Tensor, t: float) -> Tensor:
        found: Tensor = forcing + slope * torch.fft.rfft(torch.fft.irfft(keep * v, n).square())
        return found

    spectrum = etdrk4(
        torch.fft.rfft(u),
        k**2 - k**4,
        nonlinear,
        dt,
        frames=check_frames(frames),
        substeps=substeps_for(dt, STEP) if substeps is None else substeps,
    )
    return {"u": torch.fft.irfft(spectrum, n)}


def exact(n: int) -> Problem:
    """``u = sin(x - t) + cos(2 x + t) / 2`` on [0, 2 pi), ``n`` points; ``n + 1`` times up to
    t = 1; the source is what makes it a solution."""
    n = integer("n", n, 6)
    h, dt = 2.0 * math.pi / n, 1.0 / n
    x = torch.arange(n, dtype=torch.float64) * h
    t = (torch.arange(n + 1, dtype=torch.float64) * dt)[:, None]
    p, q = x - t, 2.0 * x + t
    u = p.sin() + q.cos() / 2.0
    u_t = -p.cos() - q.sin() / 2.0
    u_x = p.cos() - q.sin()
    # of each mode: u_xx + u_xxxx = (k^4 - k^2) u
    source = u_t + u * u_x + 6.0 * q.cos()
    fields = {"u": u[None], "u_t": u_t[None]}
    return Problem(fields, {"t": dt, "x": h}, {"source": source[None]})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` trajectories from starts of the data set on [0, 64), ``size`` points, ``size`` times
    0.2 apart from t = 72 (times of our own): the start a sum of 10 sines of ``seed + i``, amplitude
    uniform in [-0.5, 0.5], 1 to 3 periods, any phase. Solved on at least 128 points."""
    n, size = integer("n", n, 1), integer("size", size, 6)
    seeds, finer = seeds_from(seed, n), refinement(size, 128)
    x = torch.arange(size * finer, dtype=torch.float64) / (size * finer)
    height, periods, phase = (
        uniform(seeds, low, high, draw=i, shape=(10, 1))
        for i, (low, high) in enumerate(((-0.5, 0.5), (1.0, 4.0), (0.0, 2.0 * math.pi)))
    )
    start = (height * torch.sin(2.0 * math.pi * periods.floor() * x + phase)).sum(1)
    spacing = {"t": 72.0, "x": 64.0 / (size * finer)}
    grown = solve({"u": start}, spacing, {}, frames=2)["u"][:, 1]
    spacing["t"] = 0.2
    u = solve({"u": grown}, spacing, {}, frames=size)["u"][..., ::finer]
    return Problem({"u": u.contiguous()}, {**spacing, "x": 64.0 / size}, {})


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the line has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "u")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``mass``, the integral of u over the line, (B, T); constant where the source's integral is
    0."""
    given = _read(fields, spacing, params)
    return {"mass": given.fields["u"].sum(2) * given.spacing["x"]}
