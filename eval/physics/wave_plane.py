"""Wave equation on a torus, ``u_tt = c^2 (u_xx + u_yy)``; ``wave`` is that on a line.

Every Fourier mode oscillates at ``c |k|``, which is the reference solver.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
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
from .random_fields import periodic_fields, uniform
from .stepping.oscillation import oscillate

FIELDS = ("u",)
OPTIONAL = ("u_t", "u_tt")
PARAMS: Final[dict[str, Any]] = {"c": REQUIRED}
order: float | Literal["spectral"] = "spectral"


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    return read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)


def _terms(given: Inputs) -> tuple[Tensor, Tensor]:
    """``u_tt`` and ``c^2 Laplace u``, (B, T, X, Y)."""
    tension = given.number("c", 0.0) ** 2 * laplacian(given.fields["u"], given.spacing)
    return given.acceleration("u"), tension


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``u_tt - c^2 Laplace u``, (B, T, X, Y), in units of u over time squared.

    Spectral in space. In t: ``fields["u_tt"]`` where it is given, else differences of order 4, of
    ``fields["u_t"]`` where that is given. Params: ``c`` (length / time).
    """
    u_tt, tension = _terms(_read(fields, spacing, params))
    return u_tt - tension


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the larger of the two terms, (B,)."""
    return largest(*_terms(_read(fields, spacing, params)))


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"u": ..., "u_t": ...}``, (B, frames, X, Y), from the first state ``fields["u"]`` and
    ``fields["u_t"]`` (B, X, Y): exact for the grid's modes. Raises ArgumentError without
    ``frames``."""
    given = read_start(fields, spacing, params, needed=("u", "u_t"), allowed=PARAMS)
    u = given.fields["u"]
    angular = given.number("c", 0.0) * square_wave_numbers(u, given.spacing).sqrt()
    times = given.spacing["t"] * torch.arange(check_frames(frames)).to(u)
    start, speed = (torch.fft.rfft2(given.fields[name]) for name in ("u", "u_t"))
    found = oscillate(start, speed, angular, times)
    return dict(zip(("u", "u_t"), (inverse(part, u.shape) for part in found), strict=True))


def exact(n: int) -> Problem:
    """``u = sin(2 pi (3x + 4y) - 10 pi c t) + cos(2 pi x) cos(2 pi y) cos(2^(3/2) pi c t) / 2`` on
    [0, 1)^2, ``n`` points an axis; ``n + 1`` times up to t = 1/8; c = 0.3."""
    c, k, h = 0.3, 2.0 * math.pi, 1.0 / integer("n", n, 9)
    x = torch.arange(n, dtype=torch.float64) * h
    t = (torch.arange(n + 1, dtype=torch.float64) * h / 8.0)[:, None, None]
    fast, slow = 5.0 * k * c, math.sqrt(2.0) * k * c
    phase = k * (3.0 * x[:, None] + 4.0 * x) - fast * t
    pattern = torch.cos(k * x)[:, None] * torch.cos(k * x) / 2.0
    u = torch.sin(phase) + torch.cos(slow * t) * pattern
    u_t = -fast * torch.cos(phase) - slow * torch.sin(slow * t) * pattern
    u_tt = -(fast**2) * torch.sin(phase) - slow**2 * torch.cos(slow * t) * pattern
    fields = {"u": u[None], "u_t": u_t[None], "u_tt": u_tt[None]}
    return Problem(fields, {"t": h / 8.0, "x": h, "y": h}, {"c": c})


def draw(n: int, size: int, seed: int = 0, *, frames: int = 51) -> Problem:
    """``n`` solutions on ``size`` points an axis of the unit torus, ``frames`` times until t = 1,
    both ends included: u at the start the Gaussian field of ``seed + i`` (alpha 8, tau 20), at
    rest; c uniform in [0.5, 1]. No published set: one of our own, smooth enough for differences of
    the default times."""
    seeds, frames = seeds_from(seed, integer("n", n, 1)), integer("frames", frames, 2)
    start = periodic_fields(integer("size", size, 6), seeds, alpha=8.0, tau=20.0)
    spacing = {"t": 1.0 / (frames - 1), "x": 1.0 / size, "y": 1.0 / size}
    params = {"c": uniform(seeds, 0.5, 1.0, draw=2)}
    fields = {"u": start, "u_t": torch.zeros_like(start)}
    return Problem(solve(fields, spacing, params, frames=frames), spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the torus has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "u")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``energy``, ``<u_t^2 + c^2 |grad u|^2> / 2``, and ``momentum``, ``<u_t>``, means over the
    torus, (B, T)."""
    given = _read(fields, spacing, params)
    u, u_t = given.fields["u"], given.rate("u")
    stored = -(given.number("c", 0.0) ** 2) * u * laplacian(u, given.spacing)
    return {"energy": mean(u_t.square() + stored) / 2.0, "momentum": mean(u_t)}
