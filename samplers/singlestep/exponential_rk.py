"""Exponential Runge-Kutta in lam: exact linear part, stages within the step (Hochbruck & Ostermann
2005, SIAM J. Numer. Anal. 43, 1069; 2010, Acta Numerica 19, sec. 2; Zhang et al. 2023, arXiv
2308.02157: "RES").

With ``h = lam_t - lam_s``, stages at ``lam_s + c_k h`` and predictions m_k,

    x_k = (carry) x_s + scale_k h sum_j a_kj m_j,    x_t = (carry) x_s + scale_t h sum_j b_j m_j,

where the coefficients are functions of z, written with ``phi_i = phi_i(z)`` and
``phi_ij = phi_i(c_j z)``:

    kind    carry              scale      z
    x0      sigma_k/sigma_s    alpha_k    -h
    eps     alpha_k/alpha_s    -sigma_k   h

The first column makes every row exact for a constant prediction, ``a_k1 = c_k phi_1k - sum_j a_kj``
and ``b_1 = phi_1 - sum_j b_j``; a tableau contains only the other columns. A step to sigma = 0 (h
infinite) is the one-node step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ...checks import ArgumentError, choice, flag, number
from ...plans.builder import Expression, PlanBuilder
from ...plans.plan import Plan
from ...plans.weights.exponential import weights
from ...plans.weights.node_distances import lam_gap
from ...plans.weights.phi import phi
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..multistep.recurrence import Step, multistep
from ..multistep.weight_rules import Interpolation
from ..option_names import option
from ..registry import register
from .tableau import Tableau

#: ``f(i)`` is phi_i(z), ``f(i, c)`` is phi_i(c z)
Phi = Callable[..., float]
#: coefficients without the first column: of stages 2, 3, ..., then of the result
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ExponentialTableau:
    """Coefficients of an exponential Runge-Kutta method.

    ``c``: positions of the stages (the first is 0). ``rows``: coefficients without the first
    column, of stages 2, 3, ... and of the result. At z = 0 the method must be a classical
    Runge-Kutta method of this ``order``; the constructor raises ArgumentError otherwise.
    """

    order: int
    c: tuple[float, ...]
    rows: Callable[[Phi], Rows]

    def __post_init__(self) -> None:
        self.classical()

    def classical(self) -> Tableau:
        """The Runge-Kutta method at z = 0, where ``phi_i = 1 / i!``."""
        *inner, last = self.rows(lambda i, c=1.0: 1.0 / math.factorial(i))
        stages = [(c - sum(row), *row) for c, row in zip(self.c[1:], inner, strict=True)]
        return Tableau(self.order, self.c, ((), *stages), (1.0 - sum(last), *last))


def second_order(c2: float) -> ExponentialTableau:
    """Two-stage tableau of order 2, ``b_2 = phi_2 / c_2``."""
    return ExponentialTableau(2, (0.0, c2), lambda f: ((), (f(2) / c2,)))


def third_order(c2: float, c3: float, power: int = 2) -> ExponentialTableau:
    """Three-stage tableaus of order 3 (Hochbruck & Ostermann 2005, eq. 5.9).

    ``a_32 = gamma c_2 phi_22 + (c_3^2/c_2) phi_23``, ``b_2 = gamma b_3`` and
    ``b_3 = phi_2 / (gamma c_2 + c_3)`` with ``gamma = (3 c_3^2 - 2 c_3) / ((2 - 3 c_2) c_2)``.
    ``power`` 3 uses ``c_3^3`` in gamma, as in published code; the order is then 3 for c_3 = 1 only.
    """
    gamma = (3.0 * c3**power - 2.0 * c3) / (c2 * (2.0 - 3.0 * c2))

    def rows(f: Phi) -> Rows:
        b3 = f(2) / (gamma * c2 + c3)
        return (), (gamma * c2 * f(2, c2) + c3 * c3 / c2 * f(2, c3),), (gamma * b3, b3)

    order = 3 if power == 2 or c3 == 1.0 else 2
    return ExponentialTableau(order, (0.0, c2, c3), rows)


def _cox_matthews(f: Phi) -> Rows:
    b = 2.0 * f(2) - 4.0 * f(3)
    return (), (0.5 * f(1, 0.5),), (0.0, f(1, 0.5)), (b, b, 4.0 * f(3) - f(2))


def _krogstad(f: Phi) -> Rows:
    b = 2.0 * f(2) - 4.0 * f(3)
    return (), (f(2, 0.5),), (0.0, 2.0 * f(2)), (b, b, 4.0 * f(3) - f(2))


def _strehmel_weiner(f: Phi) -> Rows:
    return (
        (),
        (0.5 * f(2, 0.5),),
        (-2.0 * f(2), 4.0 * f(2)),
        (0.0, 4.0 * f(2) - 8.0 * f(3), 4.0 * f(3) - f(2)),
    )


_HALVES = (0.0, 0.5, 0.5, 1.0)
FOURTH_ORDER = {
    "cox_matthews": ExponentialTableau(4, _HALVES, _cox_matthews),
    "krogstad": ExponentialTableau(4, _HALVES, _krogstad),
    "strehmel_weiner": ExponentialTableau(4, _HALVES, _strehmel_weiner),
}


def exponential_rk(b: PlanBuilder, grid: Grid, tableau: ExponentialTableau, kind: str) -> Plan:
    """Build the plan of ``tableau`` along ``grid``."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        first = b.evaluate(x, s, kind)
        if t.sigma == 0.0:
            x = b.at(t, _row(x, s, t, 0.0, kind, first, (), []))
            continue
        h = lam_gap(s, t)
        z = -h if kind == "x0" else h
        nodes = [t if c == 1.0 else grid.at_lam(s.lam + c * h) for c in tableau.c[1:]]
        rows = tableau.rows(_phi_of(z))
        others: list[Expression] = []
        for node, row in zip(nodes, rows[:-1], strict=True):
            stage = b.at(node, _row(x, s, node, h, kind, first, row, others))
            others.append(b.evaluate(stage, node, kind))
        x = b.at(t, _row(x, s, t, h, kind, first, rows[-1], others))
    return b.finish(x)


def _phi_of(z: float) -> Phi:
    @cache
    def value(i: int, c: float = 1.0) -> float:
        return phi(i, c * z)

    return value


def _row(
    x: Expression,
    s: Node,
    to: Node,
    h: float,
    kind: str,
    first: Expression,
    row: tuple[float, ...],
    others: list[Expression],
) -> Expression:
    """State at ``to``: the step with the prediction ``first`` alone, plus
    ``scale h sum_j row_j (m_j - first)``."""
    w = weights(s, to, [s], kind)
    scale = h * (to.alpha if kind == "x0" else -to.sigma)
    y = w.carry * x + (w.values[0] - scale * sum(row)) * first
    return sum((m * (scale * a) for a, m in zip(row, others, strict=True)), y)


@dataclass(frozen=True)
class RES2S:
    """Options. ``r1``: position of the stage in lam, as a fraction of the step (c2 in the paper);
    ``kind``: x0 or eps."""

    r1: float = option(0.5, also=("c2",))
    kind: str = "x0"

    def __post_init__(self) -> None:
        number("r1", self.r1, 1e-3, 1.0)
        choice("kind", self.kind, ("x0", "eps"))


@dataclass(frozen=True)
class RES3S(RES2S):
    """Options of RES 3S.

    ``r1``, ``r2``: positions of the stages in lam (c2, c3 in the paper); ``gamma``: ``exact``, or
    ``compat`` for the c3^3 of published code (equal for c3 = 1).
    """

    r2: float = option(1.0, also=("c3",))
    gamma: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        number("r2", self.r2, 1e-3, 1.0)
        choice("gamma", self.gamma, ("exact", "compat"))
        if abs(self.r1 - 2 / 3) < 1e-6:
            raise ArgumentError(f"r1={self.r1!r}: gamma has a pole at r1 = 2/3; choose another r1")
        if abs(self.r1 - self.r2 ** (self.power - 1)) < 1e-6:
            raise ArgumentError(
                f"r1={self.r1!r}, r2={self.r2!r}: b_3 has a pole where r1 = r2 (compat: "
                "r2^2); choose other positions"
            )

    @property
    def power(self) -> int:
        """Exponent of c3 in gamma."""
        return 2 if self.gamma == "exact" else 3


@dataclass(frozen=True)
class ETDRK4:
    """Options. ``tableau``: cox_matthews (ETDRK4), krogstad or strehmel_weiner; ``kind``: x0 or
    eps."""

    tableau: str = "cox_matthews"
    kind: str = "x0"

    def __post_init__(self) -> None:
        choice("tableau", self.tableau, tuple(FOURTH_ORDER))
        choice("kind", self.kind, ("x0", "eps"))


@dataclass(frozen=True)
class RES2M:
    """Options. ``lower_order_final``: use one node in the last step."""

    lower_order_final: bool = True

    def __post_init__(self) -> None:
        flag("lower_order_final", self.lower_order_final)


@register(
    "res_2s",
    order=2,
    source="Zhang et al. 2023, arXiv 2308.02157, Alg. 1 (RES); Hochbruck & Ostermann 2005, eq. 5.3",
    variants=({"r1": 0.8}, {"kind": "eps"}),
)
def res_2s(b: PlanBuilder, grid: Grid, options: RES2S) -> Plan:
    """RES second order, singlestep: two evaluations per step (DPM-Solver++ 2S with the exact
    weight)."""
    return exponential_rk(b, grid, second_order(options.r1), options.kind)


def _res_3s_order(o: RES3S) -> int:
    return 3 if o.gamma == "exact" or o.r2 == 1.0 else 2


@register(
    "res_3s",
    order=_res_3s_order,
    source="Zhang et al. 2023, arXiv 2308.02157; Hochbruck & Ostermann 2005, eq. 5.9",
    variants=(
        {"kind": "eps"},
        {"r1": 0.4, "r2": 0.8},
        {"r1": 0.4, "r2": 0.8, "gamma": "compat"},
        {"r1": 1 / 3, "r2": 2 / 3},
    ),
)
def res_3s(b: PlanBuilder, grid: Grid, options: RES3S) -> Plan:
    """RES third order, singlestep: three evaluations per step; meets the stiff order conditions for
    any r1 and r2."""
    return exponential_rk(b, grid, third_order(options.r1, options.r2, options.power), options.kind)


@register(
    "res_2m",
    order=2,
    source="Zhang et al. 2023, arXiv 2308.02157, Alg. 2 (multistep RES); ComfyUI res_multistep",
)
def res_2m(b: PlanBuilder, grid: Grid, options: RES2M) -> Plan:
    """RES second order, multistep: two data predictions with the exact integral (DPM-Solver++ 2M,
    exact)."""
    step = Step(Interpolation(), 2)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)


@register(
    "etdrk4",
    order=4,
    source="Cox & Matthews 2002, J. Comput. Phys. 176, 430; Krogstad 2005, J. Comput. Phys. 203, "
    "72; Strehmel & Weiner 1992",
    variants=(
        {"kind": "eps"},
        *({"tableau": name} for name in FOURTH_ORDER if name != "cox_matthews"),
    ),
)
def etdrk4(b: PlanBuilder, grid: Grid, options: ETDRK4) -> Plan:
    """Exponential Runge-Kutta of order 4 in lam: four evaluations per step."""
    return exponential_rk(b, grid, FOURTH_ORDER[options.tableau], options.kind)
