"""Heat equation on a periodic line, ``u_t = kappa u_xx + source``.

Exact solution without a source: every Fourier mode decays by ``exp(-kappa k^2 t)``, which is also
the reference solver.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from .arguments import REQUIRED, Inputs, check_frames, check_periodic, read
from .derivatives.spectral import derivative, wave_numbers
from .equation import Fields, Params, Problem, Spacing

FIELDS = ("u",)
OPTIONAL = ("u_t",)
AXES = ("t", "x")
PARAMS: Final = {"kappa": REQUIRED, "source": 0.0}
order: float | Literal["spectral"] = "spectral"


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    found = read(
        fields, spacing, params, needed=FIELDS, optional=OPTIONAL, axes=AXES, allowed=PARAMS
    )
    check_periodic(found.fields, {"x": 2})
    return found


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
    return _terms(_read(fields, spacing, params))[0].square().mean((1, 2)).sqrt()


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"u": (B, frames, X)}`` from the first state ``fields["u"]`` (B, X): exact for the grid's
    modes. A source must be constant in time: a number, or values on the line, (B, X).

    Raises ArgumentError without ``frames``.
    """
    given = read(fields, spacing, params, needed=FIELDS, axes=("x",), allowed=PARAMS, spaced=AXES)
    check_periodic(given.fields, {"x": 1})
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
    kappa, h, dt = 0.1, 2.0 * math.pi / n, 1.0 / n
    x, t = torch.arange(n).double() * h, (torch.arange(n + 1).double() * dt)[:, None]
    modes = [torch.exp(-kappa * k**2 * t) * torch.sin(k * x) / k for k in (1, 2, 3)]
    rates = [-kappa * k**2 * mode for k, mode in zip((1, 2, 3), modes, strict=True)]
    fields = {"u": torch.stack(modes).sum(0)[None], "u_t": torch.stack(rates).sum(0)[None]}
    return Problem(fields, {"t": dt, "x": h}, {"kappa": kappa})


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the line has no walls, (B,)."""
    u = _read(fields, spacing, params).fields["u"]
    return u.new_zeros(u.shape[0])


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``mass``, the integral of u over the line, (B, T); constant where the source's integral is
    0."""
    given = _read(fields, spacing, params)
    return {"mass": given.fields["u"].sum(2) * given.spacing["x"]}
