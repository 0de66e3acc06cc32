r"""Kolmogorov flow: an incompressible flow on a torus under a sinusoidal force, in vorticity form,

    w_t + u . grad w = (1/Re) Laplace w - drag w - 4 cos(4 y) + source,

with ``Laplace psi = -w``, ``u = (psi_y, -psi_x)``; ``vorticity`` has the operators. On [0, 2 pi)^2,
Re = 200 without drag in Zheng et al. 2025 (InverseBench, arXiv 2503.11043), Re = 1000 with drag 0.1
in Kochkov et al. 2021 (arXiv 2102.01010).
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from ...checks import ArgumentError, integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
from .equation import Fields, Params, Problem, Spacing
from .periodic_plane import AXES as AXES
from .periodic_plane import read_history, read_start
from .random_fields import periodic_fields
from .vorticity import Flow, check_whole

FIELDS = ("w",)
OPTIONAL = ("w_t",)
PARAMS: Final = {"re": REQUIRED, "drag": 0.0, "source": 0.0}
order: float | Literal["spectral"] = "spectral"
#: the force is ``-WAVE cos(WAVE y)``
WAVE: Final = 4


def _flow(given: Inputs) -> Flow:
    w, h = given.fields["w"], given.spacing["y"]
    check_whole("kolmogorov", "y", w.shape[-1] * h, 2.0 * math.pi / WAVE)
    re, drag = given.number("re", 0.0), given.number("drag", 0.0)
    if bool((torch.as_tensor(re) == 0.0).any()):
        raise ArgumentError("parameter 're' must be > 0")
    force = -WAVE * torch.cos(WAVE * h * torch.arange(w.shape[-1]).to(w))
    force = force + given.param("source")
    return Flow(w, given.spacing, 1.0 / re, drag, force, given.fields.get("w_t"))


def _read(fields: Fields, spacing: Spacing, params: Params) -> Flow:
    return _flow(
        read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)
    )


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``w_t + u . grad w - (1/Re) Laplace w + drag w + 4 cos(4 y) - source``, (B, T, X, Y), in
    units of 1 / time^2.

    Spectral in space, products by the 2/3 rule; differences of order 4 in t, or ``fields["w_t"]``
    where it is given. The mean of w, zero for a flow on a torus, has no part in u. Params: ``re``,
    the inverse of the viscosity (time / length^2), ``drag`` (1 / time, default 0), ``source``
    (1 / time^2, default 0).
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

    ``substeps`` sets the number of steps between two frames; the default is that of
    ``navier_stokes.solve``. Raises ArgumentError without ``frames``, and where the mean of w or of
    the source is not zero.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS)
    return {"w": _flow(given).solve(check_frames(frames), substeps)}


def exact(n: int) -> Problem:
    """The laminar flow from rest, ``w = -(4/s) (1 - exp(-s t)) cos(4 y)`` with ``s = 16/Re +
    drag``, on [0, 2 pi)^2, ``n`` points an axis; ``n + 1`` times up to t = 1; Re = 20, drag =
    0.1."""
    re, drag, h, dt = 20.0, 0.1, 2.0 * math.pi / integer("n", n, 6), 1.0 / n
    s = WAVE**2 / re + drag
    t = (torch.arange(n + 1).double() * dt)[:, None, None]
    pattern = -WAVE * torch.cos(WAVE * h * torch.arange(n).double()).expand(n, n)
    fields = {"w": (-torch.expm1(-s * t) / s * pattern)[None]}
    fields["w_t"] = (torch.exp(-s * t) * pattern)[None]
    return Problem(fields, {"t": dt, "x": h, "y": h}, {"re": re, "drag": drag})


def draw(n: int, size: int, seed: int = 0, *, frames: int = 101) -> Problem:
    """``n`` flows at Re = 200 without drag on ``size`` points an axis: from the Gaussian field of
    ``seed + i`` (alpha 2.5, tau 7, of root mean square about 5) to t = 5, then ``frames`` records
    until t = 6 (times and Re of arXiv 2503.11043), by the solver in steps of at most 1/200."""
    start = 20.0 * periodic_fields(integer("size", size, 6), seeds_from(seed, integer("n", n, 1)))
    h, params = 2.0 * math.pi / size, {"re": 200.0, "drag": 0.0}
    grown = solve({"w": start}, {"t": 5.0, "x": h, "y": h}, params, frames=2, substeps=1000)["w"]
    spacing = {"t": 1.0 / (integer("frames", frames, 2) - 1), "x": h, "y": h}
    steps = math.ceil(200 / (frames - 1))
    found = solve({"w": grown[:, -1]}, spacing, params, frames=frames, substeps=steps)
    return Problem(found, spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the torus has no walls, (B,)."""
    w = _read(fields, spacing, params).w
    return w.new_zeros(w.shape[0])


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``circulation``, ``energy_balance`` and ``enstrophy_balance``, (B, T): what is left of the
    energy and enstrophy after the work of viscosity, drag and force, the law
    ``d/dt <w^2>/2 = -(1/Re) <|grad w|^2> - drag <w^2> + <force w>`` (see
    ``vorticity.Flow.conserved``)."""
    return _read(fields, spacing, params).conserved()
