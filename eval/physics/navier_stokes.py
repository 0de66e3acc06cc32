r"""Navier-Stokes equation of an incompressible flow on a torus, in vorticity form,

    w_t + u . grad w = nu Laplace w + force + source,
    force = forcing (sin(2 pi (x + y)) + cos(2 pi (x + y))),

with ``Laplace psi = -w``, ``u = (psi_y, -psi_x)``; ``vorticity`` has the operators. The data set is
that of Li et al. 2021 (FNO, arXiv 2010.08895): nu = 1e-3 and forcing = 0.1 on the unit torus, ``w``
at the start a Gaussian field.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
from .equation import Fields, Params, Problem, Spacing
from .periodic_plane import AXES as AXES
from .periodic_plane import read_history, read_start
from .random_fields import periodic_fields
from .vorticity import Flow, check_whole

FIELDS = ("w",)
OPTIONAL = ("w_t",)
PARAMS: Final = {"nu": REQUIRED, "forcing": REQUIRED, "source": 0.0}
order: float | Literal["spectral"] = "spectral"


def _flow(given: Inputs) -> Flow:
    w = given.fields["w"]
    amplitude = given.number("forcing")
    force = amplitude * _pattern(w, given, bool((torch.as_tensor(amplitude) != 0).any()))
    force = force + given.param("source")
    return Flow(w, given.spacing, given.number("nu", 0.0), 0.0, force, given.fields.get("w_t"))


def _pattern(w: Tensor, given: Inputs, forced: bool) -> Tensor:
    """``sin(2 pi (x + y)) + cos(2 pi (x + y))`` on the grid of ``w``, (X, Y). Raises ArgumentError
    if ``forced`` and the torus has no whole number of periods."""
    angle = torch.zeros((), dtype=w.dtype, device=w.device)
    for axis, n in zip(("x", "y"), w.shape[-2:], strict=True):
        h = given.spacing[axis]
        check_whole("forcing", axis, n * h, 1.0, forced)
        angle = angle[..., None] + 2.0 * math.pi * h * torch.arange(n).to(w)
    return torch.sin(angle) + torch.cos(angle)


def _read(fields: Fields, spacing: Spacing, params: Params) -> Flow:
    return _flow(
        read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)
    )


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``w_t + u . grad w - nu Laplace w - force - source``, (B, T, X, Y), in units of 1 / time^2.

    Spectral in space, products by the 2/3 rule; differences of order 4 in t, or ``fields["w_t"]``
    where it is given. The mean of w, zero for a flow on a torus, has no part in u. Params: ``nu``
    (length^2 / time), ``forcing`` (1 / time^2; 0.1 in the data set, 0 for none), ``source``
    (default 0). Stored pairs of two times have no residual: see ``forward_error``.
    """
    return _read(fields, spacing, params).residual()


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the largest of the equation's terms, (B,)."""
    return _read(fields, spacing, params).scale()


def solve(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    frames: int | None = None,
    substeps: int | None = None,
) -> dict[str, Tensor]:
    """``{"w": (B, frames, X, Y)}`` from the first state ``fields["w"]`` (B, X, Y), by ETDRK4 with
    the 2/3 rule; the source must be constant in time.

    ``substeps`` sets the number of steps between two frames. By default each interval has as many
    as the fastest sample needs for steps of the time in which the flow crosses the shortest
    resolved wave, over 2 pi (see ``vorticity.Flow.solve``). From a field of the data set to time 1
    on 64 x 64 points that is a relative error below 1e-7; 10 steps give 1e-6 and 5 steps 2e-5, at a
    cost of that many steps. Raises ArgumentError without ``frames``, and where the mean of w or of
    the source is not zero.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS)
    return {"w": _flow(given).solve(check_frames(frames), substeps)}


def exact(n: int) -> Problem:
    """Taylor-Green vortices ``w = 2 cos(2 pi x) cos(2 pi y) exp(-8 pi^2 nu t)`` on [0, 1)^2,
    without forcing, ``n`` points an axis; ``n + 1`` times up to t = 1; nu = 0.01."""
    nu, k, h = 0.01, 2.0 * math.pi, 1.0 / integer("n", n, 6)
    x = torch.arange(n).double() * h
    t = (torch.arange(n + 1).double() * h)[:, None, None]
    pattern = 2.0 * torch.cos(k * x)[:, None] * torch.cos(k * x)
    w = (torch.exp(-2.0 * nu * k**2 * t) * pattern)[None]
    fields = {"w": w, "w_t": -2.0 * nu * k**2 * w}
    return Problem(fields, {"t": h, "x": h, "y": h}, {"nu": nu, "forcing": 0.0})


def draw(n: int, size: int, seed: int = 0, *, frames: int = 51) -> Problem:
    """``n`` flows of the data set on ``size`` points an axis: w at the start from the Gaussian
    field of ``seed + i`` (alpha 2.5, tau 7), then the solver in steps of at most 1/100 to t = 1,
    with ``frames`` records, the start included."""
    start = periodic_fields(integer("size", size, 6), seeds_from(seed, integer("n", n, 1)))
    spacing = {"t": 1.0 / (integer("frames", frames, 2) - 1), "x": 1.0 / size, "y": 1.0 / size}
    params = {"nu": 1e-3, "forcing": 0.1}
    steps = math.ceil(100 / (frames - 1))
    found = solve({"w": start}, spacing, params, frames=frames, substeps=steps)
    return Problem(found, spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the torus has no walls, (B,)."""
    w = _read(fields, spacing, params).w
    return w.new_zeros(w.shape[0])


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``circulation``, ``energy_balance`` and ``enstrophy_balance``, (B, T): what is left of the
    energy and enstrophy after the work of viscosity and forces (see ``vorticity.Flow.conserved``).
    """
    return _read(fields, spacing, params).conserved()
