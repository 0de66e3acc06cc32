"""Wave equation on a periodic line, ``u_tt = c^2 u_xx``.

Every Fourier mode oscillates at ``c k``, which is the reference solver: ``u_k(t) = u_k cos(c k t) +
u_t,k sin(c k t) / (c k)``.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
from .derivatives.spectral import derivative
from .equation import Fields, Params, Problem, Spacing
from .norms import rms
from .periodic_line import half_wave_numbers, no_walls, read_history, read_start
from .random_fields import uniform, white
from .stepping.oscillation import oscillate

FIELDS = ("u",)
OPTIONAL = ("u_t", "u_tt")
AXES = ("t", "x")
PARAMS: Final[dict[str, Any]] = {"c": REQUIRED}
order: float | Literal["spectral"] = "spectral"


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    return read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)


def _terms(given: Inputs) -> tuple[Tensor, Tensor]:
    """``u_tt`` and ``c^2 u_xx``."""
    u_xx = derivative(given.fields["u"], given.spacing["x"], 2, 2)
    return given.acceleration("u"), given.number("c", 0.0) ** 2 * u_xx


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``u_tt - c^2 u_xx``, (B, T, X), in units of u over time squared.

    Spectral in x. In t: ``fields["u_tt"]`` where it is given, else differences of order 4, of
    ``fields["u_t"]`` where that is given. Params: ``c`` (length / time).
    """
    u_tt, tension = _terms(_read(fields, spacing, params))
    return u_tt - tension


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of ``u_tt``, (B,)."""
    return rms(_terms(_read(fields, spacing, params))[0])


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"u": ..., "u_t": ...}``, (B, frames, X), from the first state ``fields["u"]`` and
    ``fields["u_t"]`` (B, X): exact for the grid's modes. Raises ArgumentError without ``frames``.
    """
    given = read_start(fields, spacing, params, needed=("u", "u_t"), allowed=PARAMS)
    u, n = given.fields["u"], given.fields["u"].shape[1]
    times = given.spacing["t"] * torch.arange(check_frames(frames)).to(u)
    angular = given.number("c", 0.0) * half_wave_numbers(n, given.spacing["x"], u)
    start, speed = (torch.fft.rfft(given.fields[name]) for name in ("u", "u_t"))
    found, found_t = oscillate(start, speed, angular, times)
    return {"u": torch.fft.irfft(found, n), "u_t": torch.fft.irfft(found_t, n)}


def exact(n: int) -> Problem:
    """``u = sum_k sin(k (x - c t)) / k + cos(k (x + c t)) / k^2`` for k = 1, 2, 3 on [0, 2 pi),
    ``n`` points; ``n + 1`` times up to t = 1; c = 0.7."""
    n, c = integer("n", n, 6), 0.7
    h, dt = 2.0 * math.pi / n, 1.0 / n
    x = torch.arange(n, dtype=torch.float64) * h
    t = (torch.arange(n + 1, dtype=torch.float64) * dt)[:, None]
    u, u_t, u_tt = (torch.zeros(1, n + 1, n, dtype=torch.float64) for _ in range(3))
    for k in (1, 2, 3):
        right, left, w = k * (x - c * t), k * (x + c * t), c * k
        u += right.sin() / k + left.cos() / k**2
        u_t -= w * right.cos() / k + w * left.sin() / k**2
        u_tt -= w**2 * (right.sin() / k + left.cos() / k**2)
    return Problem({"u": u, "u_t": u_t, "u_tt": u_tt}, {"t": dt, "x": h}, {"c": c})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` solutions on [0, 1), ``size`` points and ``size`` times, both ends of [0, 1] included:
    the start ``sum_k (xi_k cos(2 pi k x) + eta_k sin(2 pi k x)) / k`` for k = 1, 2, 3 with normals
    of ``seed + i``, at rest; c uniform in [0.5, 1]. No published set: one of our own."""
    seeds, size = seeds_from(seed, integer("n", n, 1)), integer("size", size, 6)
    spacing = {"t": 1.0 / (size - 1), "x": 1.0 / size}
    k = torch.arange(1, 4, dtype=torch.float64)[:, None]
    angle = 2.0 * math.pi * k * torch.arange(size, dtype=torch.float64) / size
    cosines, sines = (white(seeds, (3, 1), i) / k for i in range(2))
    u = (cosines * angle.cos() + sines * angle.sin()).sum(1)
    params = {"c": uniform(seeds, 0.5, 1.0, draw=2)}
    found = solve({"u": u, "u_t": torch.zeros_like(u)}, spacing, params, frames=size)
    return Problem(found, spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the line has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "u")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``energy``, the integral of ``(u_t^2 - c^2 u u_xx) / 2``, and ``momentum``, that of ``u_t``,
    (B, T). The integral of ``-u u_xx`` is that of ``u_x^2``, and holds the Nyquist mode."""
    given = _read(fields, spacing, params)
    u, h, u_t = given.fields["u"], given.spacing["x"], given.rate("u")
    stored = given.number("c", 0.0) ** 2 * u * derivative(u, h, 2, 2)
    return {"energy": (u_t.square() - stored).sum(2) * (h / 2.0), "momentum": u_t.sum(2) * h}
