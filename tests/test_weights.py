"""Weights of a step against 40-digit quadrature of kernel times Lagrange basis, golden values, and the invariants of a straight line.

The oracle shares no formula with the product: it takes the nodes' alpha and sigma as exact numbers and integrates numerically.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mpmath import mp, mpf

from fewstep.plans.weights import Weights
from fewstep.schedules.node import Node
from fewstep.schedules.vp import VPLinear

mp.dps = 40

VP = VPLinear()
INF = math.inf


def ve(lam: float, t: float | None = None) -> Node:
    """A node with alpha = 1."""
    return Node(1.0, math.exp(-lam), t)


def vp(lam: float) -> Node:
    """A variance-preserving node."""
    return Node(1.0 / math.sqrt(1.0 + math.exp(-2.0 * lam)), 1.0 / math.sqrt(1.0 + math.exp(2.0 * lam)))


def exact_lam(n: Node) -> mpf:
    """Half log-SNR of the stored alpha and sigma."""
    if n.sigma == 0.0:
        return mp.inf
    return -mp.inf if n.alpha == 0.0 else mp.log(mpf(n.alpha)) - mp.log(mpf(n.sigma))


def vp_linear_t(lam: mpf) -> mpf:
    """The time of VPLinear, in mpmath."""
    b0, b1 = mpf(VP.beta_min), mpf(VP.beta_max)
    big_l = mp.log1p(mp.exp(-2 * lam))
    return 2 * big_l / (mp.sqrt(b0**2 + 2 * (b1 - b0) * big_l) + b0)


def flow_t(lam: mpf) -> mpf:
    """The time of the straight flow, ``rho / (1 + rho)``."""
    return 1 / (1 + mp.exp(lam))


def oracle(
    s: Node,
    t: Node,
    nodes: Sequence[Node],
    kind: str,
    variable: str = "lam",
    tau: float = 0.0,
    t_of_lam: Callable[[mpf], mpf] | None = None,
) -> list[mpf]:
    """``int_s^t K(v) l_j(q(v)) dv`` by tanh-sinh quadrature on short panels."""
    ls, lt, kappa = exact_lam(s), exact_lam(t), 1 + mpf(tau) ** 2
    at = {"lam": exact_lam, "rho": lambda n: mpf(n.sigma) / mpf(n.alpha), "t": lambda n: mpf(n.t)}[variable]
    of_lam = {"lam": lambda v: v, "rho": lambda v: mp.exp(-v), "t": t_of_lam}[variable]
    xs = [at(n) for n in nodes]

    def lagrange(j: int, q: mpf) -> mpf:
        return mp.fprod((q - x) / (xs[j] - x) for i, x in enumerate(xs) if i != j)

    if kind == "velocity":
        return [mp.quad(lambda q, j=j: lagrange(j, q), [mpf(s.t), mpf(t.t)]) for j in range(len(xs))]
    if kind == "eps" and lt == mp.inf:  # regular in rho
        rho_s = mpf(s.sigma) / mpf(s.alpha)
        cuts = [rho_s * mpf(c) for c in (1, "0.5", "0.1", "0.01", "1e-4", "1e-8", 0)]
        q_of = (lambda r: r) if variable == "rho" else (lambda r: of_lam(-mp.log(r)))
        return [mpf(t.alpha) * kappa * mp.quad(lambda r, j=j: lagrange(j, q_of(r)), cuts) for j in range(len(xs))]
    if ls == -mp.inf:
        ls = lt - 110 / kappa
    cuts = mp.linspace(ls, lt, int(abs(lt - ls)) + 2)

    def kernel(v: mpf) -> mpf:
        return mpf(t.alpha) * kappa * (mp.exp(-kappa * (lt - v)) if kind == "x0" else -mp.exp(-v))

    return [mp.quad(lambda v, j=j: kernel(v) * lagrange(j, of_lam(v)), cuts) for j in range(len(xs))]


def error(w: Weights, want: Sequence[mpf]) -> float:
    """Largest relative error of a value."""
    return max(float(abs((mpf(v) - x) / x)) for v, x in zip(w.values, want, strict=True))
