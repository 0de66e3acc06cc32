"""Generalised porous medium equation between walls, ``u_t = (k(u) u_x)_x``, and its law of mass.

The laws of k, with their closed forms, are those of ``filtration``; the data set is that of Hansen
et al. 2023 (ProbConserv, arXiv 2302.11002) on [0, 1]. Fluxes are differences of ``K(u)``, the
integral of k, between nodes, so that what leaves one cell enters the next: order 2 where the
solution is smooth. At a front no difference holds; there the mass decides (``conserved``).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import torch
from torch import Tensor

from ...checks import ArgumentError, between, choice, integer
from ...fused import seeds_from
from .arguments import Inputs, check_frames, check_real, read
from .equation import Fields, Params, Problem, Spacing
from .filtration import LAWS, Law, Porous, Stefan
from .norms import rms
from .random_fields import uniform

FIELDS = ("u",)
OPTIONAL = ("u_t",)
AXES = ("t", "x")
#: ``m`` belongs to the law "porous", ``threshold`` (u*) to "stefan"; ``t0``: the first time
PARAMS: Final[dict[str, Any]] = {"law": "porous", "m": None, "threshold": None, "t0": 0.0}
order: float | Literal["spectral"] = 2.0

#: law -> its parameter
PARAMETER = {"porous": "m", "stefan": "threshold"}


def _read(fields: Fields, spacing: Spacing, params: Params) -> tuple[Inputs, Law]:
    found = read(
        fields, spacing, params, needed=FIELDS, optional=OPTIONAL, axes=AXES, allowed=PARAMS
    )
    check_real(found.fields)
    return found, _law(found)


def _law(given: Inputs) -> Law:
    """The law with its parameter as (B, 1, ...) or a number. Raises ArgumentError where that is
    missing or out of range, or the other law's is given."""
    law = choice("law", given.params["law"], LAWS)
    name, other = PARAMETER[law], next(PARAMETER[one] for one in LAWS if one != law)
    if given.params[other] is not None:
        raise ArgumentError(f"parameter {other!r} does not belong to law={law!r}; leave it out")
    if given.params[name] is None:
        raise ArgumentError(f"law={law!r} needs the parameter {name!r}")
    given.number("t0", 0.0)
    value = torch.as_tensor(given.number(name, 0.0), dtype=given.fields["u"].dtype)
    if not bool((value > 0.0).all()) or (law == "stefan" and not bool((value < 1.0).all())):
        span = "above 0" if law == "porous" else "between 0 and 1"
        raise ArgumentError(f"parameter {name!r}={value.flatten().tolist()} must be {span}")
    return Porous(value) if law == "porous" else Stefan(value)


def _times(given: Inputs) -> Tensor:
    """Times of the frames, (B or 1, T, 1)."""
    u = given.fields["u"]
    steps: Tensor = torch.arange(u.shape[1]).to(u)[:, None] * given.spacing["t"]
    found: Tensor = given.param("t0") + steps[None]
    return found


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``u_t - (K_{i-1} - 2 K_i + K_{i+1}) / h^2`` with ``K = K(u)``, at the interior nodes, (B, T,
    X-2), in units of u over time.

    Differences of order 4 in t, or ``fields["u_t"]`` where it is given. Params: ``law`` "porous"
    (default) with ``m``, K = u^(m+1) / (m+1), or "stefan" with ``threshold``, K = max(u - u*, 0).
    ``t0``, the time of the first frame (default 0), is what the values on the walls and the mass
    depend on.
    """
    given, law = _read(fields, spacing, params)
    potential = law.potential(given.fields["u"])
    flux: Tensor = potential.diff(n=2, dim=2) / given.spacing["x"] ** 2
    return given.rate("u")[:, :, 1:-1] - flux


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of ``u_t``, (B,)."""
    return rms(_read(fields, spacing, params)[0].rate("u"))


def solve(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    frames: int | None = None,
    rtol: float = 1e-8,
) -> dict[str, Tensor]:
    """``{"u": (B, frames, X)}`` from the state ``fields["u"]`` (B, X) at the time ``t0``: the
    fluxes of ``residual`` in x, LSODA (adaptive, implicit where stiff) of tolerance ``rtol`` in t,
    and the closed form's values on both walls. Raises ArgumentError, also without ``frames``.
    """
    given = read(fields, spacing, params, needed=FIELDS, axes=("x",), allowed=PARAMS, spaced=AXES)
    check_real(given.fields)
    _law(given)
    frames, rtol = check_frames(frames), between("rtol", rtol, 0.0, 1e-2)
    u, t = given.fields["u"].cpu(), given.spacing["t"] * torch.arange(frames).double()
    found = [
        _trajectory(u[i], given.spacing["x"], t + _own(given, "t0", i), _own_law(given, i), rtol)
        for i in range(len(u))
    ]
    return {"u": torch.stack(found).to(given.fields["u"])}


def _own(given: Inputs, name: str, i: int) -> float:
    """The parameter of sample i."""
    value = given.params[name]
    return float(value[i] if isinstance(value, Tensor) and value.ndim else value)


def _own_law(given: Inputs, i: int) -> Law:
    law = given.params["law"]
    value = torch.tensor(_own(given, PARAMETER[law], i), dtype=torch.float64)
    return Porous(value) if law == "porous" else Stefan(value)


def _trajectory(start: Tensor, h: float, t: Tensor, law: Law, rtol: float) -> Tensor:
    """States (T, X) of one sample at the times ``t`` from ``start`` (X,)."""
    from scipy.integrate import solve_ivp  # type: ignore[import-untyped]

    ends = torch.tensor([0.0, h * (len(start) - 1)], dtype=torch.float64)

    def with_walls(time: float, inside: Tensor) -> Tensor:
        walls = law.solution(ends, torch.tensor(time, dtype=torch.float64))
        return torch.cat([walls[:1], inside, walls[1:]])

    def slope(time: float, inside: Any) -> Any:
        u = with_walls(time, torch.from_numpy(inside))
        return (law.potential(u).diff(n=2) / h**2).numpy()

    if len(t) == 1:
        return start[None]
    found = solve_ivp(
        slope,
        (float(t[0]), float(t[-1])),
        start[1:-1].numpy(),
        method="LSODA",
        t_eval=t.numpy(),
        rtol=rtol,
        atol=rtol,
        lband=1,
        uband=1,
    )
    if not found.success:
        raise ArgumentError(f"the adaptive solver stopped: {found.message}")
    inside = torch.from_numpy(found.y.T.copy())
    rows = [with_walls(float(time), row) for time, row in zip(t[1:], inside[1:], strict=True)]
    return torch.stack([start, *rows])


def exact(n: int, law: str = "porous") -> Problem:
    """The closed form of ``law`` on [0, 1], ``n`` nodes, ``n`` times from 0.2 to 0.8: m = 2, or a
    threshold of 0.6."""
    n, law = integer("n", n, 6), choice("law", law, LAWS)
    x = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    t = torch.linspace(0.2, 0.8, n, dtype=torch.float64)[:, None]
    value = 2.0 if law == "porous" else 0.6
    form: Law = (Porous if law == "porous" else Stefan)(torch.tensor(value, dtype=torch.float64))
    fields = {"u": form.solution(x, t)[None], "u_t": form.rate(x, t)[None]}
    params = {"law": law, PARAMETER[law]: value, "t0": 0.2}
    return Problem(fields, {"t": 0.6 / (n - 1), "x": 1.0 / (n - 1)}, params)


def draw(n: int, size: int, seed: int = 0, law: str = "porous") -> Problem:
    """``n`` closed forms on [0, 1], ``size`` nodes and ``size`` times from 0, of ``seed + i``:
    "porous" with m uniform in [2, 3] up to t = 1, or "stefan" with a threshold uniform in [0.55,
    0.7] up to t = 0.1. The front stays inside."""
    seeds, size = seeds_from(seed, integer("n", n, 1)), integer("size", size, 6)
    porous = choice("law", law, LAWS) == "porous"
    low, high, end = (2.0, 3.0, 1.0) if porous else (0.55, 0.7, 0.1)
    value = uniform(seeds, low, high)
    place = torch.linspace(0.0, 1.0, size, dtype=torch.float64)
    form: Law = (Porous if porous else Stefan)(value[:, None, None])
    spacing = {"t": end / (size - 1), "x": 1.0 / (size - 1)}
    fields = {"u": form.solution(place, end * place[:, None])}
    return Problem(fields, spacing, {"law": law, PARAMETER[law]: value})


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of u less the closed form over both walls, relative to that of u over all
    nodes, (B,)."""
    given, law = _read(fields, spacing, params)
    u = given.fields["u"]
    ends = torch.tensor([0.0, given.spacing["x"] * (u.shape[2] - 1)]).to(u)
    off = u[:, :, [0, -1]] - law.solution(ends, _times(given))
    return rms(off) / rms(u).clamp(min=torch.finfo(u.dtype).tiny)


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """``mass_above_law``: the integral of u over the nodes by trapezoids, less what has come in
    since t = 0, (B, T): ``(m t)^(1 + 1/m) / (m + 1)`` or ``2 c sqrt(t / pi)``, while the front is
    inside. The sharp front of the exact solution leaves an error of the order of one cell."""
    given, law = _read(fields, spacing, params)
    u, t = given.fields["u"], _times(given)
    mass = torch.trapezoid(u, dx=given.spacing["x"], dim=2)
    return {"mass_above_law": mass - law.mass(t)[..., 0]}
