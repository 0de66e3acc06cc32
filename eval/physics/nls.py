"""Nonlinear Schroedinger equation on a periodic line, ``i psi_t + psi_xx / 2 + g |psi|^2 psi =
0``.

Focusing for g > 0. The reference solver is that of arXiv 2509.05901: Fourier modes, DOP853
(adaptive, order 8), optionally the 2/3 rule. Closed forms for g = 1: see ``solitons``.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from ...checks import between, choice, flag, integer
from ...fused import seeds_from
from .arguments import Inputs, check_frames
from .derivatives.spectral import derivative, resolved, wave_numbers
from .equation import Fields, Params, Problem, Spacing
from .norms import rms
from .periodic_line import no_walls, read_history, read_start, refinement
from .random_fields import uniform, white
from .solitons import soliton, soliton_rate
from .stepping.adaptive import Array, dop853

FIELDS = ("psi",)
OPTIONAL = ("psi_t",)
AXES = ("t", "x")
PARAMS: Final[dict[str, Any]] = {"g": 1.0}
order: float | Literal["spectral"] = "spectral"

#: what the solver integrates: see ``solve``
FORMS = ("integrating_factor", "direct")
#: family of ``draw`` -> its last time
FAMILIES = {"soliton": 5.0, "collision": 10.0, "modulation": 10.0}


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
    """``i psi_t + psi_xx / 2 + g |psi|^2 psi``, complex, (B, T, X).

    Spectral in x, differences of order 4 in t, or ``fields["psi_t"]`` where it is given. Params:
    ``g`` (default 1). Length, time and psi are in the units of the equation; fields of ``i psi_t +
    psi_xx + 2 |psi|^2 psi = 0`` satisfy it with half their spacing in t.
    """
    given = _read(fields, spacing, params)
    psi, g = given.fields["psi"], given.number("g")
    spread = derivative(psi, given.spacing["x"], 2, 2) / 2.0
    found: Tensor = 1j * given.rate("psi") + spread + g * psi.abs().square() * psi
    return found


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of ``psi_t``, (B,)."""
    return rms(_read(fields, spacing, params).rate("psi"))


def solve(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    frames: int | None = None,
    rtol: float = 1e-10,
    form: str = "integrating_factor",
    dealias: bool = False,
) -> dict[str, Tensor]:
    """``{"psi": (B, frames, X)}`` from the first state ``fields["psi"]`` (B, X): Fourier modes and
    DOP853, each sample with its own steps.

    ``form`` says for what: "integrating_factor" for ``exp(i k^2 t / 2) psi_k``, whose steps the
    linear part does not limit, or "direct" for ``psi_k``. ``rtol`` is the error of a step relative
    to each mode, from 3e-14; the absolute one is a hundredth of that of a constant of psi's largest
    value. ``dealias`` leaves out the modes from a third on in and after the product (the 2/3 rule;
    of a cube, a part still folds back). Raises ArgumentError, also without ``frames``.
    """
    given = read_start(fields, spacing, params, needed=FIELDS, allowed=PARAMS, complex_values=True)
    psi, n = given.fields["psi"], given.fields["psi"].shape[1]
    rtol, form = between("rtol", rtol, 2.9e-14, 1e-2), choice("form", form, FORMS)
    frames, dt = check_frames(frames), given.spacing["t"]
    k = wave_numbers(n, given.spacing["x"]).numpy()
    keep = resolved(n, psi).cpu().numpy() if flag("dealias", dealias) else np.ones(n)
    g = (given.number("g") * torch.ones_like(psi[:, :1].real)).cpu()
    found = [
        _trajectory(one.cpu().numpy(), float(strength), k, keep, dt, frames, rtol, form)[0]
        for one, strength in zip(psi, g, strict=True)
    ]
    return {"psi": torch.from_numpy(np.stack(found)).to(psi)}


def _trajectory(
    start: Array,
    g: float,
    k: Array,
    keep: Array,
    dt: float,
    frames: int,
    rtol: float,
    form: str,
) -> tuple[Array, int]:
    """States (frames, X) of one sample, and the number of slopes."""
    turn = -0.5j * k**2

    def product(spectrum: Array) -> Array:
        psi = np.fft.ifft(keep * spectrum)
        found: Array = 1j * g * keep * np.fft.fft((psi.real**2 + psi.imag**2) * psi)
        return found

    def direct(t: float, v: Array) -> Array:
        return turn * v + product(v)

    def turned(t: float, y: Array) -> Array:
        factor: Array = np.exp(turn * t)
        found: Array = factor.conj() * product(factor * y)
        return found

    def leave(t: float, y: Array) -> Array:
        found: Array = np.exp(turn * t) * y
        return found

    inside = form == "integrating_factor"
    states, calls = dop853(
        np.fft.fft(start),
        turned if inside else direct,
        dt,
        frames=frames,
        rtol=rtol,
        # n psi / 100 is the size of the larger modes
        atol=0.01 * rtol * len(k) * max(float(np.abs(start).max()), 1e-300),
        leave=leave if inside else None,
    )
    return np.fft.ifft(states), calls


def exact(n: int) -> Problem:
    """The soliton of amplitude 1.7 and velocity ``pi / 20`` (a whole number of phase turns in the
    box) on [-20, 20), ``n`` points; ``n + 1`` times up to t = 16."""
    n, amplitude, velocity = integer("n", n, 6), 1.7, math.pi / 20.0
    h, dt = 40.0 / n, 16.0 / n
    x = torch.arange(n, dtype=torch.float64) * h - 20.0
    t = torch.arange(n + 1, dtype=torch.float64) * dt
    psi, psi_t = (wave(x, t, amplitude, velocity)[None] for wave in (soliton, soliton_rate))
    return Problem({"psi": psi, "psi_t": psi_t}, {"t": dt, "x": h}, {})


def draw(n: int, size: int, seed: int = 0, family: str = "soliton") -> Problem:
    """``n`` solutions on [-20, 20), periodic, ``size`` points, of ``seed + i``; ``size`` times from
    0, the end included. Solved on at least 512 points. No published set; families of ``FAMILIES``:

    ``soliton``: amplitude in [0.8, 2], velocity in [-1, 1], centre in [-5, 5], uniform; up to t =
    5.
    ``collision``: two of them, velocity in [0.5, 1] from a centre in [-10, -6] and the mirror image
    of that range; up to t = 10.
    ``modulation``: 1 and 1 % of complex normals in 33 modes, which grow; up to t = 10.

    Raises ArgumentError.
    """
    n, size = integer("n", n, 1), integer("size", size, 6)
    end = FAMILIES[choice("family", family, FAMILIES)]
    seeds, finer = seeds_from(seed, n), refinement(size, 512)
    spacing = {"t": end / (size - 1), "x": 40.0 / (size * finer)}
    x = torch.arange(size * finer, dtype=torch.float64) * spacing["x"] - 20.0
    start = _modulated(seeds, x) if family == "modulation" else _solitons(seeds, x, family)
    psi = solve({"psi": start}, spacing, {}, frames=size, rtol=1e-9)["psi"][..., ::finer]
    return Problem({"psi": psi.contiguous()}, {**spacing, "x": 40.0 / size}, {})


def _solitons(seeds: tuple[int, ...], x: Tensor, family: str) -> Tensor:
    """First states (n, X) of the families "soliton" and "collision"."""
    ranges = [((0.8, 2.0), (-1.0, 1.0), (-5.0, 5.0))]
    if family == "collision":
        ranges = [((0.8, 2.0), (0.5, 1.0), (-10.0, -6.0)), ((0.8, 2.0), (-1.0, -0.5), (6.0, 10.0))]
    total, now = torch.zeros(len(seeds), len(x), dtype=torch.complex128), x.new_zeros(1)
    for i, one in enumerate(ranges):
        values = [uniform(seeds, *ends, draw=3 * i + j).tolist() for j, ends in enumerate(one)]
        total += torch.cat([soliton(x, now, *each) for each in zip(*values, strict=True)])
    return total


def _modulated(seeds: tuple[int, ...], x: Tensor) -> Tensor:
    """First states (n, X) of the family "modulation"."""
    waves = (2j * math.pi / 40.0 * torch.arange(-16, 17, dtype=torch.float64)[:, None] * x).exp()
    heights = torch.complex(*(white(seeds, (33, 1), i) for i in range(2))) / math.sqrt(66.0)
    return 1.0 + 0.01 * (heights * waves).sum(1)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Zero: the line has no walls, (B,)."""
    return no_walls(_read(fields, spacing, params), "psi")


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """Integrals over the line, (B, T): ``mass`` of ``|psi|^2``, ``momentum`` of ``Im(psi* psi_x)``
    and ``energy`` of ``|psi_x|^2 / 2 - g |psi|^4 / 2``. Of the soliton: 2 A, 2 A v and A v^2 -
    A^3 / 3."""
    given = _read(fields, spacing, params)
    psi, h, g = given.fields["psi"], given.spacing["x"], given.number("g")
    slope, density = derivative(psi, h, 2), psi.abs().square()
    return {
        "mass": density.sum(2) * h,
        "momentum": (psi.conj() * slope).imag.sum(2) * h,
        "energy": (slope.abs().square() - g * density.square()).sum(2) * (h / 2.0),
    }
