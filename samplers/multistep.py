"""One multistep method, many names: exponential-Lagrange steps on stored predictions, with an optional corrector.

A step from s to t interpolates the last p predictions in a variable (lam, rho or t) and integrates the exact kernel (``plans.weights``).
A corrector redoes the step just made with the new prediction among the nodes and keeps that prediction (no further network call).

    kind x0,  variable lam        DPM-Solver++ 2M/3M, UniPC, SDE-DPM-Solver++      arXiv 2211.01095, 2302.04867
    kind eps, variable lam        DPM-Solver 2M/3M, DEIS in log rho                arXiv 2206.00927
    kind eps, variable rho or t   LMS, DEIS rho-AB and t-AB                        arXiv 2204.13902, eqs. 14-15
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..plans.builder import Lin, PlanBuilder, dot
from ..plans.instructions import Plan
from ..plans.weights import Map, Weights, weights
from ..schedules.grids import Grid
from ..schedules.node import Node
from .options import choice, flag, integer, number
from .registry import register

History = list[tuple[Node, Lin]]


@dataclass(frozen=True)
class Scheme:
    """The choices that make a multistep method.

    Attributes:
        kind, variable: what is stored, and the variable in which it is interpolated.
        order: number of past nodes of the predictor.
        corrector: whether UniC is applied, with one node more than the predictor had.
        moment: replacement of the second moment where two nodes are used (None: exact).
        halved: halve the third moment where three are used (the peers' 3M).
        tau: diffusion strength.
        lower_order_final: at most as many nodes as there are steps left.
        skip: steps (from 0) whose corrector is left out.
    """

    kind: str = "x0"
    variable: str = "lam"
    order: int = 2
    corrector: bool = False
    moment: str | None = None
    halved: bool = False
    tau: float = 0.0
    lower_order_final: bool = True
    s_noise: float = 1.0
    skip: tuple[int, ...] = ()


def multistep(b: PlanBuilder, grid: Grid, scheme: Scheme) -> Plan:
    """Write the plan of ``scheme`` along ``grid``."""
    x = b.start(grid[0])
    base, before = x, grid[0]
    history: History = []
    z: Lin | None = None
    used = 0
    t_of_lam = grid.schedule.t_of_lam if scheme.variable == "t" else None
    for i, (s, t) in enumerate(grid.pairs()):
        m = b.evaluate(x, s, scheme.kind)
        if scheme.corrector and i and i - 1 not in scheme.skip:
            x = b.at(s, _step(base, before, s, [(s, m), *history[:used]], scheme, z, t_of_lam))
        history = [(s, m), *history[: scheme.order - 1]]
        left = grid.steps - i
        used = min(scheme.order, len(history), left if scheme.lower_order_final else scheme.order)
        z = b.noise(s, t) if scheme.tau and t.sigma > 0.0 else None
        base, before = x, s
        x = b.at(t, _step(x, s, t, history[:used], scheme, z, t_of_lam))
    return b.finish(x)


def _step(x: Lin, s: Node, t: Node, nodes: History, scheme: Scheme, z: Lin | None, t_of_lam: Map | None) -> Lin:
    where = [node for node, _ in nodes]
    moment = scheme.moment if len(nodes) == 2 else None
    w = weights(s, t, where, scheme.kind, variable=scheme.variable, tau=scheme.tau, t_of_lam=t_of_lam, moment=moment)
    if scheme.halved and len(nodes) == 3:
        w = _halve_third_moment(w, s, t, where)
    y = w.carry * x + dot(w.values, [m for _, m in nodes])
    return y if z is None or w.noise == 0.0 else y + (w.noise * scheme.s_noise) * z


def _halve_third_moment(w: Weights, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
    """The third-order multistep of every peer: their second difference is half of ``h^2 x''`` (order 2, see ``dpmpp_3m_compat``)."""
    h = t.lam - s.lam
    if not math.isfinite(h):
        return w
    theta = [(n.lam - s.lam) / h for n in nodes]
    third = sum(v * q * q for v, q in zip(w.values, theta, strict=True))
    column = [1.0 / math.prod(q - r for j, r in enumerate(theta) if j != i) for i, q in enumerate(theta)]
    return replace(w, values=tuple(v - 0.5 * third * c for v, c in zip(w.values, column, strict=True)))


@dataclass(frozen=True)
class DPMMultistep:
    """``correction``: how the two-node step weighs the difference, ``midpoint`` (the default everywhere) or ``taylor`` (exact)."""

    correction: str = "midpoint"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        choice("correction", self.correction, ("midpoint", "taylor"))
        flag("lower_order_final", self.lower_order_final)

    @property
    def moment(self) -> str | None:
        """The second moment of ``plans.weights`` that the correction stands for."""
        return "half" if self.correction == "midpoint" else None


@dataclass(frozen=True)
class DPMMultistepSDE(DPMMultistep):
    """``eta``: diffusion strength squared (k-diffusion's eta, tau^2 = eta); ``s_noise`` scales the noise."""

    eta: float = 1.0
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("eta", self.eta, 0.0, 10.0)
        number("s_noise", self.s_noise, 0.0, 10.0)


@dataclass(frozen=True)
class UniPC:
    """``order`` 1-4 past nodes; ``variant`` bh1 or bh2 (differs only where two nodes meet); ``corrector`` on or off; ``kind`` x0 or eps;
    ``skip_corrector``: steps from 0 without it."""

    order: int = 2
    variant: str = "bh2"
    corrector: bool = True
    kind: str = "x0"
    lower_order_final: bool = True
    skip_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 4)
        choice("variant", self.variant, ("bh1", "bh2"))
        choice("kind", self.kind, ("x0", "eps"))
        flag("corrector", self.corrector)
        flag("lower_order_final", self.lower_order_final)
        object.__setattr__(self, "skip_corrector", tuple(self.skip_corrector))


@dataclass(frozen=True)
class LMS:
    """``order``: number of past nodes."""

    order: int = 4
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 6)
        flag("lower_order_final", self.lower_order_final)


_TAYLOR = ({"correction": "taylor"},)


@register("dpmpp_2m", order=2, source="Lu et al. 2022, arXiv 2211.01095, Alg. 2", variants=_TAYLOR)
def dpmpp_2m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 2M: two data predictions, one evaluation a step."""
    return multistep(b, grid, Scheme(moment=options.moment, lower_order_final=options.lower_order_final))


@register("dpmpp_3m", order=3, source="Lu et al. 2022, arXiv 2211.01095, app. D with the full second difference")
def dpmpp_3m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 3M of true third order (the exact quadratic through three data predictions)."""
    return multistep(b, grid, Scheme(order=3, moment=options.moment, lower_order_final=options.lower_order_final))


@register("dpmpp_3m_compat", order=2, source="DPM-Solver reference code and its descendants")
def dpmpp_3m_compat(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 3M as diffusers and k-diffusion compute it: half of the second difference, hence second order."""
    return multistep(b, grid, Scheme(order=3, moment=options.moment, halved=True, lower_order_final=options.lower_order_final))


@register(
    "dpmpp_2m_sde",
    order=2,
    source="Lu et al. 2022, arXiv 2211.01095, app. B",
    tau=lambda o: math.sqrt(o.eta),
    allow="signal",
    variants=({"correction": "taylor"}, {"eta": 0.5}),
)
def dpmpp_2m_sde(b: PlanBuilder, grid: Grid, options: DPMMultistepSDE) -> Plan:
    """SDE-DPM-Solver++ 2M: the reverse SDE with two data predictions."""
    scheme = Scheme(moment=options.moment, tau=math.sqrt(options.eta), s_noise=options.s_noise, lower_order_final=options.lower_order_final)
    return multistep(b, grid, scheme)


@register("dpm_solver_2m", order=2, source="Lu et al. 2022, arXiv 2206.00927, multistep form", variants=_TAYLOR)
def dpm_solver_2m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver 2M: two noise predictions."""
    return multistep(b, grid, Scheme(kind="eps", moment=options.moment, lower_order_final=options.lower_order_final))


@register("dpm_solver_3m", order=3, source="Lu et al. 2022, arXiv 2206.00927, multistep form with the full second difference")
def dpm_solver_3m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver 3M: three noise predictions, true third order."""
    return multistep(b, grid, Scheme(kind="eps", order=3, moment=options.moment, lower_order_final=options.lower_order_final))


@register(
    "unipc",
    order=lambda o: o.order + (1 if o.corrector else 0),
    source="Zhao et al. 2023, arXiv 2302.04867, Alg. 1-2",
    variants=(
        {"variant": "bh1"},
        *({"order": p} for p in (1, 3, 4)),
        *({"order": p, "corrector": False} for p in (1, 2, 3, 4)),
        *({"order": p, "kind": "eps"} for p in (1, 2, 3)),
    ),
)
def unipc(b: PlanBuilder, grid: Grid, options: UniPC) -> Plan:
    """UniPC: predictor and corrector of any order for one evaluation a step."""
    scheme = Scheme(
        kind=options.kind,
        order=options.order,
        corrector=options.corrector,
        moment="half" if options.variant == "bh2" else "bh1",
        lower_order_final=options.lower_order_final,
        skip=options.skip_corrector,
    )
    return multistep(b, grid, scheme)


@register(
    "lms",
    order=lambda o: o.order,
    source="Katherine Crowson, k-diffusion; Adams-Bashforth in rho",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def lms(b: PlanBuilder, grid: Grid, options: LMS) -> Plan:
    """Linear multistep in rho with exact integrals."""
    scheme = Scheme(kind="eps", variable="rho", order=options.order, lower_order_final=options.lower_order_final)
    return multistep(b, grid, scheme)
