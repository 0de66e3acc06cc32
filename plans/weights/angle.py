"""Weights of a step on ``v = alpha eps - sigma x0``, in the angle of the path.

With ``r = hypot(alpha, sigma)`` and ``phi = atan2(sigma, alpha)`` the state ``w = x / r`` obeys
``dw/dphi = u``, ``u = v / r`` (Salimans & Ho 2022, arXiv 2202.00512, appendix D, on any path).
Along a straight line (constant x0 and eps) u turns with the state,

    turned(phi) = cos(phi - phi_s) u_s - sin(phi - phi_s) w_s,

so the polynomial interpolates the remainder ``u - turned``, which is 0 at s. With d_j = phi_j -
phi_s, d = phi_t - phi_s and the Lagrange basis l_j of all nodes in the variable q,

    w_t = cos(d) w_s + sin(d) u_s + sum_{j != s} B_j (u_j - cos(d_j) u_s + sin(d_j) w_s),
    B_j = int_{phi_s}^{phi_t} l_j(q(phi)) dphi.

One node is DDIM (as in the paper), a straight line is exact to rounding for any nodes, and p nodes
have order p. A polynomial through ``v / r`` itself has the same order but is not exact on straight
lines: in one step from alpha = 0 to sigma = 0 it would leave all of the noise in the state. All
terms are finite at both ends. With q = phi
the integrals are those of Adams-Bashforth; in lam, rho and t they are quadrature in lam, where
``dphi = -dlam / (2 cosh lam)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...checks import ArgumentError
from ...schedules.node import Node
from .lagrange import Basis, Map, Weights
from .node_distances import angle_gap, cross, finite, lam_gap, time
from .phi import Array, kernel_means, moments

#: e^-45 of the kernel's peak is below rounding
_WINDOW = 45.0


def angle_weights(
    s: Node, t: Node, nodes: Sequence[Node], variable: str, t_of_lam: Map | None
) -> Weights:
    """Weights of the step from s to t for ``v`` at ``nodes``, s among them; ``variable`` is lam,
    rho, t or angle.

    Nodes at infinity in ``variable`` have weight 0; where s or t is, s has all of it. ValueError
    where s is missing, for nodes too close and for a variable t without ``t_of_lam``.
    """
    if s not in nodes:
        raise ArgumentError(
            f"a step on v turns with the prediction at its own start, t={s.t}, which is not "
            "among the nodes"
        )
    at_s = nodes.index(s)
    r2 = s.alpha**2 + s.sigma**2
    carry, values = (s.alpha * t.alpha + s.sigma * t.sigma) / r2, [0.0] * len(nodes)
    values[at_s] = -cross(s, t) / r2
    live = [i for i, n in enumerate(nodes) if finite(n, variable)]
    if s == t or len(live) < 2 or not (finite(s, variable) and finite(t, variable)):
        return Weights(carry, tuple(values), 0.0)
    basis = Basis.of(s, t, [nodes[i] for i in live], variable)
    total = angle_gap(s, t) * math.hypot(t.alpha, t.sigma)
    for i, share in zip(live, _shares(basis, s, t, variable, t_of_lam), strict=True):
        if i == at_s:
            continue
        n, weight = nodes[i], total * share
        values[i] = weight / math.hypot(n.alpha, n.sigma)
        # cos(d_j) / r_s and sin(d_j) / r_s, each times r_j r_s
        scale = weight / (math.hypot(n.alpha, n.sigma) * r2)
        values[at_s] -= scale * (s.alpha * n.alpha + s.sigma * n.sigma)
        carry -= scale * cross(s, n)
    return Weights(carry, tuple(values), 0.0)


def _shares(basis: Basis, s: Node, t: Node, variable: str, t_of_lam: Map | None) -> list[float]:
    """Means of the basis over the angle."""
    if variable == "angle":
        return basis.means(moments(len(basis.theta), 0.0))
    if variable == "t" and t_of_lam is None:
        raise ArgumentError("variable='t' with two or more nodes needs t_of_lam=schedule.t_of_lam")
    ends = [n.lam if math.isfinite(n.lam) else 0.0 for n in (s, t)]
    near = min(max(min(ends), 0.0), max(ends))  # where the kernel is largest
    first, last = (min(max(n.lam, near - _WINDOW), near + _WINDOW) for n in (s, t))
    whole = (first, last) == (s.lam, t.lam)
    length = abs(lam_gap(s, t) if whole else last - first)
    direction = math.copysign(1.0, t.lam - s.lam)
    noise = 0.0

    def theta(y: Array) -> Array:
        if variable == "lam":
            return direction * y / basis.step
        if variable == "rho":
            rest = (
                s.rho * np.expm1(-direction * y)
                if whole
                else np.exp(-(first + direction * y)) - s.rho
            )
            return np.asarray(rest / basis.step)
        assert t_of_lam is not None
        return (
            np.asarray(t_of_lam(first + direction * y), dtype=np.float64) - time(s)
        ) / basis.step

    def kernel(y: Array) -> Array:
        size = np.abs(first + direction * y)
        return np.asarray(np.exp(abs(near) - size) / (1.0 + np.exp(-2.0 * size)))

    if variable == "t":
        noise = 4e-16 * max(abs(time(s)), abs(time(t))) / abs(basis.step)
    means = kernel_means(lambda y: basis.at(theta(y)) * kernel(y), 0.0, length, noise)
    return [float(w) for w in means]
