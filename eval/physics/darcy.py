r"""Darcy flow on a square, ``-div(a grad u) = source`` with ``u = 0`` on the walls.

Grid: nodes between walls, the boundary included. The data set is that of Li et al. 2021 (FNO,
arXiv 2010.08895) as used by Huang et al. 2024 (DiffusionPDE, arXiv 2406.17763): ``a`` is 12 where a
Gaussian field is >= 0 and 3 elsewhere, ``source`` is 1, on the unit square.

Discretisations (parameter ``mode``):

    ``fv``                  finite volumes of five points (see ``elliptic``), the face coefficients
                            by ``mean``, "arithmetic" or "harmonic". The solver solves this one: the
                            residual of its data is that of rounding, if the means are the same.
    ``wide_h``              central differences of central differences, at nodes two steps from the
                            walls; not small on exact data where ``a`` jumps
    ``diffusionpde_legacy`` the official code of arXiv 2406.17763: the same without division by the
                            spacing and with zeros beyond the walls; about 1 for any smooth field
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from ...checks import ArgumentError, choice, integer
from ...fused import seeds_from
from .arguments import Inputs, read, refuse_frames
from .elliptic import MEANS, flux_divergence, solve_dirichlet
from .equation import Fields, Params, Problem, Spacing
from .norms import wall_error
from .random_fields import neumann_fields

FIELDS = ("a", "u")
OPTIONAL: tuple[str, ...] = ()
AXES = ("x", "y")
PARAMS: Final = {"source": 1.0, "mean": "arithmetic", "mode": "fv"}
MODES = ("fv", "wide_h", "diffusionpde_legacy")
order: float | Literal["spectral"] = 2.0
#: the two values of the coefficient in the data set
LOW, HIGH = 3.0, 12.0


def _read(fields: Fields, spacing: Spacing, params: Params, needed: tuple[str, ...]) -> Inputs:
    found = read(fields, spacing, params, needed=needed, axes=AXES, allowed=PARAMS)
    choice("mean", found.params["mean"], MEANS)
    choice("mode", found.params["mode"], MODES)
    return found


def _source(given: Inputs) -> Tensor:
    """The source on every node, (B, X, Y)."""
    like = next(iter(given.fields.values()))
    source: Tensor = given.param("source") * torch.ones_like(like)
    return source


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``div(a grad u) + source`` in units of the source: (B, X-2, Y-2) at interior nodes for
    ``fv``, (B, X-4, Y-4) for ``wide_h``, (B, X, Y) for ``diffusionpde_legacy``.

    Params: ``source`` (default 1), ``mean``, ``mode`` (see the module).
    """
    given = _read(fields, spacing, params, FIELDS)
    a, u, source = given.fields["a"], given.fields["u"], _source(given)
    steps = (given.spacing["x"], given.spacing["y"])
    if given.params["mode"] == "fv":
        divergence = flux_divergence(a, u, steps, given.params["mean"])
        return divergence + source[:, 1:-1, 1:-1]
    if given.params["mode"] == "diffusionpde_legacy":
        steps = (1.0, 1.0)
    fluxes = [a * _central(u, dim, steps[dim - 1]) for dim in (1, 2)]
    wide = sum(
        _central(flux, dim, steps[dim - 1]) for dim, flux in zip((1, 2), fluxes, strict=True)
    )
    inner = slice(2, -2) if given.params["mode"] == "wide_h" else slice(None)
    return (wide + source)[:, inner, inner]


def _central(value: Tensor, dim: int, h: float) -> Tensor:
    """``(v_(i+1) - v_(i-1)) / 2h`` along ``dim`` with zeros beyond the ends."""
    pad = (0, 0, 1, 1) if dim == 1 else (1, 1)
    padded = torch.nn.functional.pad(value, pad)
    n = value.shape[dim]
    return (padded.narrow(dim, 2, n) - padded.narrow(dim, 0, n)) / (2.0 * h)


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the source at interior nodes, (B,); where that is 0, of ``div(a grad
    u)``."""
    given = _read(fields, spacing, params, FIELDS)
    source = _source(given)[:, 1:-1, 1:-1].square().mean((1, 2)).sqrt()
    steps, a, u = (given.spacing["x"], given.spacing["y"]), given.fields["a"], given.fields["u"]
    divergence = flux_divergence(a, u, steps, given.params["mean"])
    return torch.where(source > 0.0, source, divergence.square().mean((1, 2)).sqrt())


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"u": (B, X, Y)}`` of the coefficient ``fields["a"]`` (B, X, Y) > 0, float64, on the CPU:
    Cholesky factorisation of the finite volumes.

    Raises ArgumentError for a coefficient that is not positive, and for a ``mode`` other than
    ``fv``.
    """
    refuse_frames(frames)
    given = _read(fields, spacing, params, ("a",))
    if given.params["mode"] != "fv":
        raise ArgumentError(f"mode={given.params['mode']!r}: the solver has 'fv' only")
    a = given.fields["a"]
    if not bool(((a > 0.0) & a.isfinite()).all()):
        raise ArgumentError(
            f"the coefficient a must be > 0 and finite; its least is {float(a.min())}"
        )
    steps = (given.spacing["x"], given.spacing["y"])
    return {"u": solve_dirichlet(a, _source(given), steps, given.params["mean"])}


def exact(n: int) -> Problem:
    """``a = 1 + x``, ``u = sin(pi x) sin(pi y)`` with ``source = 2 pi^2 (1 + x) u - pi cos(pi x)
    sin(pi y)``, on ``n`` nodes an axis."""
    nodes = torch.linspace(0.0, 1.0, integer("n", n, 6), dtype=torch.float64)
    x, y = torch.meshgrid(nodes, nodes, indexing="ij")
    u = torch.sin(math.pi * x) * torch.sin(math.pi * y)
    source = 2.0 * math.pi**2 * (1.0 + x) * u - math.pi * torch.cos(math.pi * x) * torch.sin(
        math.pi * y
    )
    fields = {"a": (1.0 + x)[None], "u": u[None]}
    return Problem(fields, _unit_spacing(n), {"source": source[None]})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` pairs of the data set on ``size`` x ``size`` nodes: ``a`` from the Gaussian field of
    ``seed + i`` (alpha 2, tau 3), ``u`` from the solver, source 1, arithmetic means."""
    seeds = seeds_from(seed, integer("n", n, 1))
    field = neumann_fields(integer("size", size, 6), seeds)
    a = torch.where(field >= 0.0, HIGH, LOW).double()
    spacing = _unit_spacing(size)
    return Problem({"a": a, **solve({"a": a}, spacing, {})}, spacing, {})


def nearest_phase(a: Tensor) -> Tensor:
    """The coefficient of the data set nearest to ``a``: 12 where ``a >= 7.5``, else 3."""
    low, high = torch.full_like(a, LOW), torch.full_like(a, HIGH)
    return torch.where(a >= (LOW + HIGH) / 2.0, high, low)


def _unit_spacing(n: int) -> dict[str, float]:
    return {"x": 1.0 / (n - 1), "y": 1.0 / (n - 1)}


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of u on the walls relative to that of u on all nodes, (B,)."""
    return wall_error(_read(fields, spacing, params, FIELDS).fields["u"])


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """Empty: the equation has no time."""
    _read(fields, spacing, params, FIELDS)
    return {}
