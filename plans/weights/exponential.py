"""Weights of one step by exponential-Lagrange integrals; all samplers take their coefficients from
here.

A step from s to t replaces the prediction by its interpolant through the nodes and integrates the
kernel exactly,

    x_t = carry x_s + sum_j values_j m_j + noise z,    values_j = int_s^t K(v) l_j(q(v)) dv,

with l_j the Lagrange basis in the variable q in {lam, rho, t} (or the angle, for v),
``h = lam_t - lam_s``, ``kappa = 1 + tau^2``:

    kind      carry                           K(v) dv
    x0        (sigma_t/sigma_s) e^{-tau^2 h}  alpha_t kappa e^{-kappa (lam_t - lam)} dlam
    eps       alpha_t/alpha_s                 alpha_t kappa drho
    velocity  1                               dt
    v         see ``angle``                   dphi

The noise is ``sigma_t sqrt(1 - e^{-2 tau^2 h})`` for x0, ``tau sigma_t sqrt(e^{2h} - 1)`` for eps
and 0 for the others.

(Lu et al. 2022, arXiv 2206.00927, eq. 3.4 and arXiv 2211.01095, eq. 9; Zhang & Chen 2022, arXiv
2204.13902, eq. 15; Xue et al. 2023, arXiv 2309.05019, eq. 11). The weights are ``total * share_j``,
where the total is ``int K dv`` in a form without cancellation, so a straight line
``x = alpha x0 + sigma eps`` is exact to rounding, and the shares sum to 1. In lam the shares
follow from the moments ``k! phi_{k+1}`` (``phi``) with z = -kappa h (x0) or h (eps); eps in
rho and velocities in t are the case z = 0; the rest is quadrature. Where the kernel is concentrated
in one point (x0 at sigma_t = 0) the share is l_j there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from ...checks import ArgumentError, unknown
from ...schedules.node import Node
from .angle import angle_weights
from .lagrange import Basis as Basis
from .lagrange import Map as Map
from .lagrange import Weights as Weights
from .lagrange import monic
from .node_distances import cross, finite, lam_gap, t_gap, time
from .phi import Array, kernel_means, moments, phi

KINDS = ("x0", "eps", "velocity", "v")
VARIABLES = ("lam", "rho", "t", "angle")
MOMENTS = ("half", "bh1", "linear")
#: most nodes in one step
MAX_NODES = 6
#: the same where the kernel is constant (eps in rho, velocities in t): polynomials, integrated by
#: Gauss-Legendre above ``MAX_NODES``
MAX_POLYNOMIAL = 32

#: e^-45 of the kernel's peak is below rounding
_WINDOW = 45.0


def weights(
    s: Node,
    t: Node,
    nodes: Sequence[Node],
    kind: str,
    *,
    variable: str = "lam",
    tau: float = 0.0,
    t_of_lam: Map | None = None,
    moment: str | None = None,
) -> Weights:
    """Weights of the step from s to t for predictions ``m_j`` made at ``nodes`` (1 to 6, in any
    order, t itself for a corrector; up to 32 for eps in rho and velocities in t).

    Args:
        kind: what the m_j are: x0, eps, velocity (dx/dt, always interpolated in t) or v (s itself
            must be a node).
        variable: the variable of the interpolation; angle, ``atan2(sigma, alpha)``, goes with v
            only.
        tau: strength of the added noise, constant over the step; 0 is the ODE, 1 the reversed
            forward SDE. Needs a step toward data.
        t_of_lam: the schedule's map, float64 arrays to arrays; needed for two or more nodes with
            ``variable="t"``.
        moment: with two nodes and ``variable="lam"`` a replacement of the second moment mu_1:
            ``half`` mu_0/2 (DPM-Solver++ 2M midpoint, UniPC bh2), ``bh1`` h/2, ``linear`` kappa h/2
            for x0 and h/2 for eps (SA-Solver).

    Nodes at infinity in ``variable`` have weight exactly 0. Where s or t is at infinity, all the
    weight is on one node: the finite one furthest along the step, or the only one given. At sigma_t
    = 0 no noise is added (the carry of an x0 step is 0, an eps step has kappa = 1).

    Raises:
        ValueError: x0 from sigma = 0 or eps from alpha = 0 (other kinds do it), nodes too close,
            tau > 0 toward noise, for velocities or v, a node without t where t is needed, an
            unknown name.
    """
    _check(nodes, kind, variable, tau, moment)
    if kind == "v":
        return angle_weights(s, t, nodes, variable, t_of_lam)
    carry, total, noise = _PARTS[kind](s, t, tau)
    if total == 0.0 or len(nodes) == 1:
        return Weights(carry, (total,) if len(nodes) == 1 else (0.0,) * len(nodes), noise)
    where = "t" if kind == "velocity" else variable
    live = [i for i, n in enumerate(nodes) if finite(n, where)]
    if len(live) < 2 or not (finite(s, where) and finite(t, where)):
        forward = t.lam > s.lam
        last = max(live, key=lambda i: nodes[i].lam if forward else -nodes[i].lam) if live else 0
        return Weights(carry, tuple(total if i == last else 0.0 for i in range(len(nodes))), noise)
    basis = Basis.of(s, t, [nodes[i] for i in live], where)
    shares = _shares(basis, s, t, kind, where, 1.0 + tau * tau, t_of_lam, moment)
    if len(live) == len(nodes):
        return Weights(carry, tuple([total * share for share in shares]), noise)
    values = [0.0] * len(nodes)
    for i, share in zip(live, shares, strict=True):
        values[i] = total * share
    return Weights(carry, tuple(values), noise)


@lru_cache(maxsize=32)
def adams(p: int) -> tuple[float, ...]:
    """Adams-Bashforth coefficients of ``p`` nodes with uniform spacing, newest first: (1,), (3/2,
    -1/2), (23/12, -16/12, 5/12), ...

    ``c_j = int_0^1 prod_{i != j} (theta + i) / (i - j) dtheta``, in exact fractions until the last
    rounding. ValueError unless p = 1..12.
    """
    if not 1 <= p <= 12:
        raise ArgumentError(f"adams takes 1 to 12 nodes, got p={p!r}")
    out = []
    for j in range(p):
        others = [i for i in range(p) if i != j]
        numerator = monic([-float(i) for i in others])  # whole numbers below 2^53
        integral = sum((Fraction(c) / (k + 1) for k, c in enumerate(numerator)), Fraction(0))
        out.append(float(integral / math.prod(i - j for i in others)))
    return tuple(out)


def _check(nodes: Sequence[Node], kind: str, variable: str, tau: float, moment: str | None) -> None:
    if kind not in KINDS:
        raise ArgumentError(unknown("kind of stored prediction", kind, KINDS))
    if variable not in VARIABLES:
        raise ArgumentError(unknown("interpolation variable", variable, VARIABLES))
    most = MAX_POLYNOMIAL if _polynomial(kind, variable) else MAX_NODES
    if not 1 <= len(nodes) <= most:
        raise ArgumentError(f"a step takes 1 to {most} nodes, got {len(nodes)}")
    if not 0.0 <= tau < math.inf:
        raise ArgumentError(f"tau={tau!r}: allowed 0 <= tau < inf")
    if variable == "angle" and kind != "v":
        raise ArgumentError(
            f"variable='angle' goes with kind 'v', got kind={kind!r}; allowed for it: lam, rho, t"
        )
    if tau and kind == "v":
        raise ArgumentError(f"tau={tau!r}: a step on v adds no noise; use kind 'x0'")
    if moment is None:
        return
    if moment not in MOMENTS:
        raise ArgumentError(unknown("moment", moment, MOMENTS))
    if len(nodes) > 2 or variable != "lam" or kind in ("velocity", "v"):
        raise ArgumentError(
            f"moment={moment!r} replaces the second moment of two nodes in lam; "
            f"got {len(nodes)} nodes, kind={kind!r}, variable={variable!r}"
        )


def _parts_x0(s: Node, t: Node, tau: float) -> tuple[float, float, float]:
    """Carry, ``alpha_t - carry_0 alpha_s`` (the integral of the kernel) and noise."""
    if s.sigma == 0.0:
        raise ArgumentError(
            f"an x0 step cannot start at sigma = 0 (t={s.t}); use kind 'eps', or 'velocity'"
        )
    carry = t.sigma / s.sigma
    if tau == 0.0:
        return carry, t.alpha if carry * s.alpha == 0.0 else cross(s, t) / s.sigma, 0.0
    h = _toward_data(s, t, tau)
    fade = tau * tau * h
    return (
        carry * math.exp(-fade),
        -t.alpha * math.expm1(-(fade + h)),
        t.sigma * math.sqrt(-math.expm1(-2.0 * fade)),
    )


def _parts_eps(s: Node, t: Node, tau: float) -> tuple[float, float, float]:
    """Carry, ``sigma_t - carry sigma_s`` (times kappa) and noise."""
    if s.alpha == 0.0:
        raise ArgumentError(
            f"an eps step cannot start at alpha = 0 (t={s.t}), where rho is infinite; use "
            "kind 'x0' with one node, or 'velocity'"
        )
    carry = t.alpha / s.alpha
    total = t.sigma if carry * s.sigma == 0.0 else -cross(s, t) / s.alpha
    if tau == 0.0:
        return carry, total, 0.0
    _toward_data(s, t, tau)
    if t.sigma == 0.0:
        return carry, total, 0.0
    return carry, total * (1.0 + tau * tau), tau * math.sqrt(-total * (carry * s.sigma + t.sigma))


def _parts_velocity(s: Node, t: Node, tau: float) -> tuple[float, float, float]:
    if tau:
        raise ArgumentError(f"tau={tau!r}: a step on velocities adds no noise; use kind 'x0'")
    total = t_gap(s, t)
    if not math.isfinite(total):
        raise ArgumentError(
            f"a step on velocities from t={s.t} to t={t.t} is infinite; use kind 'x0' or 'eps'"
        )
    return 1.0, total, 0.0


_PARTS = {"x0": _parts_x0, "eps": _parts_eps, "velocity": _parts_velocity}


def _toward_data(s: Node, t: Node, tau: float) -> float:
    h = lam_gap(s, t)
    if h < 0.0:
        raise ArgumentError(
            f"tau={tau!r} needs a step toward data, but lam falls from {s.lam:.6g} to "
            f"{t.lam:.6g}; use tau=0"
        )
    return h


def _shares(
    basis: Basis,
    s: Node,
    t: Node,
    kind: str,
    variable: str,
    kappa: float,
    t_of_lam: Map | None,
    moment: str | None,
) -> list[float]:
    """Means of the basis under the kernel."""
    n = len(basis.theta)
    if _polynomial(kind, variable):
        return basis.means(moments(n, 0.0)) if n <= MAX_NODES else _gauss_legendre(basis)
    if variable == "lam":
        z = -kappa * basis.step if kind == "x0" else basis.step
        return basis.means(
            moments(n, z)
            if moment is None
            else (1.0, _second_moment(moment, z, kappa if kind == "x0" else 1.0))
        )
    return _quadrature(basis, s, t, kind, variable, kappa, t_of_lam)


def _polynomial(kind: str, variable: str) -> bool:
    """True where the kernel is constant in the variable of the interpolation."""
    return kind == "velocity" or (kind == "eps" and variable == "rho")


def _gauss_legendre(basis: Basis) -> list[float]:
    """Means of the basis over the step: exact for polynomials, and without the cancellation of many
    monomials."""
    points, heights = np.polynomial.legendre.leggauss((len(basis.theta) + 1) // 2)
    return [float(v) for v in basis.at(0.5 * (points + 1.0)) @ (0.5 * heights)]


def _second_moment(moment: str, z: float, kappa: float) -> float:
    """The replacement of ``mu_1 / mu_0``, with ``mu_0 = |z| phi_1(z)``."""
    if moment == "half":
        return 0.5
    return 0.5 / phi(1, z) / (kappa if moment == "bh1" else 1.0)


def _quadrature(
    basis: Basis, s: Node, t: Node, kind: str, variable: str, kappa: float, t_of_lam: Map | None
) -> list[float]:
    """Means of the basis where lam is not the variable: integrals over the distance ``y`` in lam
    from where the kernel gathers."""
    h = lam_gap(s, t)
    # x0 kernels gather at the end with less noise, eps kernels at the other
    at_t = (kind == "x0") == (h > 0.0)
    if at_t and math.isinf(t.lam):
        return [float(v) for v in basis.at(np.ones(1))[:, 0]]
    direction = math.copysign(1.0, -h if at_t else h)  # of lam, from there to the other end
    rate = kappa if kind == "x0" else 1.0
    noise = 0.0
    if variable == "rho":

        def theta(y: Array) -> Array:
            return s.rho * np.expm1(-((h if at_t else 0.0) + direction * y)) / basis.step

    else:
        if t_of_lam is None:
            raise ArgumentError(
                "variable='t' with two or more nodes needs t_of_lam=schedule.t_of_lam"
            )
        lam, start = (t if at_t else s).lam, time(s)
        noise = 4e-16 * max(abs(start), abs(time(t))) / abs(basis.step)

        def theta(y: Array) -> Array:
            return (
                np.asarray(t_of_lam(lam + direction * y), dtype=np.float64) - start
            ) / basis.step

    means = kernel_means(lambda y: basis.at(theta(y)), rate, min(abs(h), _WINDOW / rate), noise)
    return [float(w) for w in means]
