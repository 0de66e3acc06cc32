"""Complex Ginzburg-Landau equation on a periodic line, ``A_t = A + (1 + i b) A_xx - (1 + i c)
|A|^2 A``.

In the units of Aranson and Kramer, The world of the complex Ginzburg-Landau equation, Rev. Mod.
Phys. 74 (2002). Closed form: plane waves ``A = sqrt(1 - q^2) exp(i (q x - w t))`` with
``w = c + (b - c) q^2``.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_frames
from .derivatives.spectral import dealiased, derivative, wave_numbers
from .equation import Fields, Params, Problem, Spacing
from .norms import rms
from .periodic_line import no_walls, read_history, read_start, refinement
from .random_fields import white
from .stepping.exponential import etdrk4, substeps_for

FIELDS = ("A",)
OPTIONAL = ("A_t",)
AXES = ("t", "x")
PARAMS: Final[dict[str, Any]] = {"b": REQUIRED, "c": REQUIRED}
order: float | Literal["spectral"] = "spectral"

#: longest step of the solver, in units of ``1 / |1 + i c|``
STEP = 0.01


def _read(fields: Fields, spacing: Spacing, params: Params) -> Inputs:
    return read_history(
        fields,
        spacing,
        params,
        needed=FIELDS,
        optional=OPTIONAL,
        allowed=PARAMS,
        complex_values=True,
    )


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``A_t - A - (1 + i b) A_xx + (1 + i c) |A|^2 A``, complex, (B, T, X).

    Spectral in x, differences of order 4 in t, or ``fields["A_t"]`` where it is given. Params:
    ``b`` and ``c``. Length, time and A are in the units of the equation.
    """
    given = _read(fields, spacing, params)
    wave, b, c = given.fields["A"], given.number("b"), given.number("c")
    spread = (1.0 + 1j * b) * derivative(wave, given.spacing["x"], 2, 2)
    saturation = (1.0 + 1j * c) * wave.abs().square() * wave
    found: Tensor = given.rate("A") - wave - spread + saturation
    return found


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of ``A_t``, (B,)."""
    return rms(_read(fields, spacing, params).rate("A"))


def solve(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    frames: int | None = None,
    substeps: int | None = None,
) -> dict[str, Tensor]:
    """``{"A": (B, frames, X)}`` from the first state ``fields["A"]`` (B, X): Fourier modes, ETDRK4,
    products without the modes from a third on (the 2/3 rule; of a cube, a part still folds back).

    ``substeps`` between two frames: by default as many as keep a step below ``0.01 / max|1 + i
    c|``. Raises ArgumentError, also without ``frames``.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS, complex_values=True)
    start, dt = given.fields["A"], given.spacing["t"]
    b, c = given.number("b"), given.number("c")
    k = wave_numbers(start.shape[1], given.spacing["x"], like=start)

    def nonlinear(v: Tensor, t: float) -> Tensor:
        wave = torch.fft.ifft(dealiased(v, (1,)))
        return dealiased(torch.fft.fft(-(1.0 + 1j * c) * wave.abs().square() * wave), (1,))

    if substeps is None:
        steepest = float((1.0 + torch.as_tensor(c) ** 2).max().sqrt())
        substeps = substeps_for(dt, STEP / steepest)
    spectrum = etdrk4(
        torch.fft.fft(start),
        1.0 - (1.0 + 1j * b) * k**2,
        nonlinear,
        dt,
        frames=check_frames(frames),
        substeps=substeps,
    )
    return {"A": torch.fft.ifft(spectrum)}


def exact(n: int) -> Problem:
    """Two plane waves, of q = 0 and q = 1/2, on [0, 4 pi), ``n`` points; ``n + 1`` times up to t =
    2; b = 0.5 and -1, c = -1.5 and 2."""
    n = integer("n", n, 6)
    h, dt = 4.0 * math.pi / n, 2.0 / n
    x = torch.arange(n, dtype=torch.float64) * h
    t = (torch.arange(n + 1, dtype=torch.float64) * dt)[:, None]
    b, c = torch.tensor([[0.5, -1.0], [-1.5, 2.0]], dtype=torch.float64)
    q = torch.tensor([0.0, 0.5], dtype=torch.float64)
    w = (c + (b - c) * q**2)[:, None, None]
    wave = (1.0 - q[:, None, None] ** 2).sqrt() * (1j * (q[:, None, None] * x - w * t)).exp()
    return Problem({"A": wave, "A_t": -1j * w * wave}, {"t": dt, "x": h}, {"b": b, "c": c})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` turbulent states on [0, 64), ``size`` points, ``size`` times ``10 / (size - 1)`` apart
    from t = 40: b = 2, c = -1.2, so that no plane wave is stable (1 + b c < 0); the start 17 modes
    of complex normals of ``seed + i``. Solved on at least 128 points. No published set: one of our
    own."""
    n, size = integer("n", n, 1), integer("size", size, 6)
    seeds, finer = seeds_from(seed, n), refinement(size, 128)
    x = torch.arange(size * finer, dtype=torch.float64) / (size * finer)
    waves = (2j * math.pi * torch.arange(-8, 9, dtype=torch.float64)[:, None] * x).exp()
    heights = torch.complex(*(0.1 * white(seeds, (17, 1), i) for i in range(2)))
    start = (heights * waves).sum(1)
    spacing, params = {"t": 40.0, "x": 64.0 / (size * finer)}, {"b": 2.0, "c": -1.2}
    grown = solve({"A": start}, spacing, params, frames=2, substeps=1000)["A"][:, 1]
    spacing["t"] = 10.0 / (size - 1)
    steps = substeps_for(spacing["t"], 0.02)
    found = solve({"A": grown}, spacing, params, frames=size, substeps=steps)["A"][..., ::finer]
    return Problem({"A": found.contiguous()}, {**spacing, "x": 64.0 / size}, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the line has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "A")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """Nothing is conserved."""
    _read(fields, spacing, params)
    return {}
