"""Heat equation on a periodic line, ``u_t = kappa u_xx + source``.

Exact solution without a source: every Fourier mode decays by ``exp(-kappa k^2 t)``, which is also
the reference solver. The data set is that of Hansen et al. 2023 (ProbConserv, arXiv 2302.11002).
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
from .derivatives.spectral import derivative, wave_numbers
from .equation import Fields, Params, Problem, Spacing
from .norms import rms
from .periodic_line import no_walls, read_history, read_start
from .random_fields import uniform

FIELDS = ("u",)
OPTIONAL = ("u_t",)
AXES = ("t", "x")
PARAMS: Final = {"kappa": REQUIRED, "source": 0.0}
order: float | Literal["spectral"] = "spectral"


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    return read_history(fields, spacing, params, needed=FIELDS, optional=OPTIONAL, allowed=PARAMS)


def _terms(given: Inputs) -> tuple[Tensor, Tensor, Tensor | float]:
    """``u_t``, ``kappa u_xx`` and the source."""
    curvature = derivative(given.fields["u"], given.spacing["x"], 2, 2)
    return given.rate("u"), given.number("kappa", 0.0) * curvature, given.param("source")


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``u_t - kappa u_xx - source``, (B, T, X), in units of u over time.

    Spectral in x, differences of order 4 in t, or ``fields["u_t"]`` where it is given. Params:
    ``kappa`` (length^2 / time), ``source`` (default 0).
    """
    u_t, diffusion, source = _terms(_read(fields, spacing, params))
    return u_t - diffusion - source


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of ``u_t``, (B,)."""
    return rms(_read(fields, spacing, params).rate("u"))


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"u": (B, frames, X)}`` from the first state ``fields["u"]`` (B, X): exact for the grid's
    modes. A source must be constant in time: a number, or values on the line, (B, X) or
    (B, 1, X). Raises ArgumentError, also without ``frames``.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS)
    u, t = given.fields["u"], given.spacing["t"] * torch.arange(check_frames(frames))
    rate = given.number("kappa", 0.0) * wave_numbers(u.shape[1], given.spacing["x"], like=u) ** 2
    rate, t = (rate * torch.ones_like(u))[:, None], t.to(u)[None, :, None]
    grown = torch.where(rate == 0.0, t, -torch.expm1(-rate * t) / rate.clamp(min=1e-300))
    source = torch.fft.fft(given.param("source") * torch.ones_like(u))[:, None]
    spectrum = torch.exp(-rate * t) * torch.fft.fft(u)[:, None] + grown * source
    return {"u": torch.fft.ifft(spectrum).real}


def exact(n: int) -> Problem:
    """``u = sum_k exp(-kappa k^2 t) sin(k x) / k`` for k = 1, 2, 3 on [0, 2 pi), ``n`` points;
    ``n + 1`` times up to t = 1; kappa = 0.1."""
    n, kappa = integer("n", n, 6), 0.1
    h, dt = 2.0 * math.pi / n, 1.0 / n
    x, t = torch.arange(n).double() * h, (torch.arange(n + 1).double() * dt)[:, None]
    modes = [torch.exp(-kappa * k**2 * t) * torch.sin(k * x) / k for k in (1, 2, 3)]
    rates = [-kappa * k**2 * mode for k, mode in zip((1, 2, 3), modes, strict=True)]
    fields = {"u": torch.stack(modes).sum(0)[None], "u_t": torch.stack(rates).sum(0)[None]}
    return Problem(fields, {"t": dt, "x": h}, {"kappa": kappa})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` solutions of the data set on [0, 2 pi), ``size`` points and ``size`` times, both ends
    of [0, 1] included: the start is ``sin x``, kappa uniform in [1, 5] of ``seed + i``."""
    seeds, size = seeds_from(seed, integer("n", n, 1)), integer("size", size, 6)
    spacing = {"t": 1.0 / (size - 1), "x": 2.0 * math.pi / size}
    start = torch.sin(torch.arange(size, dtype=torch.float64) * spacing["x"]).repeat(n, 1)
    params = {"kappa": uniform(seeds, 1.0, 5.0)}
    return Problem(solve({"u": start}, spacing, params, frames=size), spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the line has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "u")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``mass``, the integral of u over the line, (B, T); constant where the source's integral is
    0."""
    given = _read(fields, spacing, params)
    return {"mass": given.fields["u"].sum(2) * given.spacing["x"]}
