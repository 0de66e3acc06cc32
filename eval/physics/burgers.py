"""Burgers' equation on a periodic line, ``u_t + u u_x = nu u_xx + source``.

The data set is that of Li et al. 2021 (FNO, arXiv 2010.08895) as used by Huang et al. 2024
(DiffusionPDE, arXiv 2406.17763): nu = 0.01 on [0, 1), t in [0, 1]. The closed form is that of Hopf
1950 and Cole 1951: ``u = -2 nu phi_x / phi`` with ``phi_t = nu phi_xx``.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...checks import ArgumentError, choice, integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
from .derivatives.spectral import derivative
from .equation import Fields, Params, Problem, Spacing
from .norms import rms
from .periodic_line import half_wave_numbers, no_walls, read_history, read_start, refinement
from .random_fields import line_fields
from .stepping.exponential import etdrk4, substeps_for

FIELDS = ("u",)
OPTIONAL = ("u_t",)
AXES = ("t", "x")
PARAMS: Final[dict[str, Any]] = {"nu": REQUIRED, "source": 0.0, "units": "physical"}
order: float | Literal["spectral"] = "spectral"

#: physical: the spacings are those given. diffusionpde_legacy: see ``residual``
UNITS = ("physical", "diffusionpde_legacy")
#: of ``1 / (k_max max|u|)``: the longest step of the solver
COURANT = 0.2


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    found = read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)
    if choice("units", found.params["units"], UNITS) != "physical":
        source = found.params["source"]
        if "u_t" in found.fields or isinstance(source, Tensor) or source != 0.0:
            raise ArgumentError(
                "units='diffusionpde_legacy' takes differences of u only: give neither u_t nor a "
                "source"
            )
    return found


def _terms(given: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """``u_t``, ``u u_x`` and ``nu u_xx``."""
    u, h, nu = given.fields["u"], given.spacing["x"], given.number("nu", 0.0)
    if given.params["units"] != "physical":
        u_x = _unit_difference(u, 2)
        return _unit_difference(u, 1), u * u_x, nu * _unit_difference(u_x, 2)
    return given.rate("u"), u * derivative(u, h, 2), nu * derivative(u, h, 2, 2)


def _unit_difference(u: Tensor, dim: int) -> Tensor:
    """``(u_{i+1} - u_{i-1}) / 2`` along ``dim``, with zeros beyond both ends."""
    wide = pad(u.movedim(dim, -1), (1, 1))
    return ((wide[..., 2:] - wide[..., :-2]) / 2.0).movedim(-1, dim)


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``u_t + u u_x - nu u_xx - source``, (B, T, X), in units of u over time.

    Spectral in x, differences of order 4 in t, or ``fields["u_t"]`` where it is given. Params:
    ``nu`` (length^2 / time), ``source`` (default 0) and ``units``.

    ``units="diffusionpde_legacy"`` is what the code of DiffusionPDE and FunDPS takes in place of
    the residual: central differences of order 2 with unit spacing in t and x whatever ``spacing``
    says, the second derivative as the first one twice, zeros beyond the four edges. On their grid
    (dt = 1/127, dx = 1/128) it is about 1/128 of the residual of a viscosity 128 times smaller than
    ``nu``, so that exact data do not give zero. Meant to reproduce their numbers only.
    """
    given = _read(fields, spacing, params)
    u_t, transport, diffusion = _terms(given)
    found: Tensor = u_t + transport - diffusion - given.param("source")
    return found


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of ``u_t``, (B,), in the units of the residual."""
    return rms(_terms(_read(fields, spacing, params))[0])


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

    ``substeps`` between two frames: by default as many as keep a step below ``0.2 / (k_max
    max|u|)``, with the largest value that the batch can reach. A source must be constant in time: a
    number, or values on the line, (B, X) or (B, 1, X). Raises ArgumentError, also without
    ``frames``.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS)
    choice("units of the solver", given.params["units"], UNITS[:1])
    u, dt, frames = given.fields["u"], given.spacing["t"], check_frames(frames)
    n, h, nu = u.shape[1], given.spacing["x"], given.number("nu", 0.0)
    k = half_wave_numbers(n, h, u)
    keep = (3.0 * torch.arange(n // 2 + 1, device=u.device) < n).to(u)
    source = given.param("source") * torch.ones_like(u)
    forcing, slope = torch.fft.rfft(source), -0.5j * keep * half_wave_numbers(n, h, u, odd=True)

    def nonlinear(v: Tensor, t: float) -> Tensor:
        found: Tensor = forcing + slope * torch.fft.rfft(torch.fft.irfft(keep * v, n).square())
        return found

    if substeps is None:
        largest = float(u.abs().max() + dt * (frames - 1) * source.abs().max())
        substeps = substeps_for(dt, COURANT / (float(k[-1]) * max(largest, 1e-300)))
    spectrum = etdrk4(
        torch.fft.rfft(u), -nu * k**2, nonlinear, dt, frames=frames, substeps=substeps
    )
    return {"u": torch.fft.irfft(spectrum, n)}


def sine_solution(x: Tensor, t: float, nu: float) -> tuple[Tensor, Tensor]:
    """``u`` and ``u_t`` of the solution that starts as ``sin(2 pi x)``, at the points ``x`` (n,)
    and one time t >= 0, by Cole and Hopf.

    ``phi(x, t)`` is the mean of ``phi(x + sqrt(4 nu t) q, 0)`` over ``q`` of density
    ``exp(-q^2) / sqrt(pi)``, its derivatives in x are means of those of ``phi(., 0) = exp((cos(2 pi
    y) - 1) / (4 pi nu))``: no term cancels another at small t. Trapezoids in q, and the largest
    exponent subtracted at each x.
    """
    # exp(-q^2) at the ends is below 1e-16 of the largest weight, whose exponent is 1/(2 pi nu) at
    # most above that of q = 0
    reach = math.sqrt(40.0 + 1.0 / (2.0 * math.pi * nu))
    q = torch.linspace(-reach, reach, 2 * math.ceil(20.0 * reach) + 1, dtype=torch.float64)
    y = x[:, None] + math.sqrt(4.0 * nu * t) * q
    exponent = torch.cos(2.0 * math.pi * y) / (4.0 * math.pi * nu) - q**2
    weight = torch.softmax(exponent, 1)
    a = 1.0 / (2.0 * nu)
    u0, slope = torch.sin(2.0 * math.pi * y), 2.0 * math.pi * torch.cos(2.0 * math.pi * y)
    # phi_x / phi, phi_xx / phi and phi_xxx / phi
    first = -a * (weight * u0).sum(1)
    second = (weight * (a**2 * u0**2 - a * slope)).sum(1)
    third = (weight * (3 * a**2 * u0 * slope - a**3 * u0**3 + 4.0 * math.pi**2 * a * u0)).sum(1)
    return -2.0 * nu * first, -2.0 * nu**2 * (third - first * second)


def exact(n: int) -> Problem:
    """The solution that starts as ``sin(2 pi x)`` on [0, 1), ``n`` points; ``n + 1`` times up to
    t = 1/4; nu = 0.05."""
    n, nu = integer("n", n, 6), 0.05
    x, dt = torch.arange(n, dtype=torch.float64) / n, 0.25 / n
    pairs = [sine_solution(x, i * dt, nu) for i in range(n + 1)]
    u, u_t = (torch.stack(values)[None] for values in zip(*pairs, strict=True))
    return Problem({"u": u, "u_t": u_t}, {"t": dt, "x": 1.0 / n}, {"nu": nu})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` trajectories of the data set on ``size`` points in x and ``size`` times, both ends of
    [0, 1] included: nu = 0.01, the start a Gaussian field of ``seed + i`` (gamma 2.5, tau 7, sigma
    49). Solved on at least 128 points."""
    n, size = integer("n", n, 1), integer("size", size, 6)
    finer = refinement(size, 128)
    start = line_fields(size * finer, seeds_from(seed, n))
    spacing, params = {"t": 1.0 / (size - 1), "x": 1.0 / (size * finer)}, {"nu": 0.01}
    steps = substeps_for(spacing["t"], 0.13 * spacing["x"])
    u = solve({"u": start}, spacing, params, frames=size, substeps=steps)["u"][..., ::finer]
    return Problem({"u": u.contiguous()}, {**spacing, "x": 1.0 / size}, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the line has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "u")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``mass``, the integral of u over the line, (B, T); constant where the source's integral is
    0."""
    given = _read(fields, spacing, params)
    return {"mass": given.fields["u"].sum(2) * given.spacing["x"]}
