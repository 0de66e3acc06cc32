"""One multistep method, many names: exponential-Lagrange steps on stored predictions, with an
optional corrector.

A step from s to t interpolates the last p predictions in a variable (lam, rho or t) and integrates
the exact kernel (``plans.weights``). A corrector redoes the step just made with the new prediction
among the nodes and keeps that prediction (no further network call).

    kind x0,  variable lam        DPM-Solver++ 2M/3M, UniPC, SDE-DPM-Solver++      arXiv 2211.01095, 2302.04867
    kind eps, variable lam        DPM-Solver 2M/3M, DEIS in log rho                arXiv 2206.00927
    kind eps, variable rho or t   LMS, DEIS rho-AB and t-AB                        arXiv 2204.13902, eqs. 14-15

With tau > 0 the step puts in one noise, the same in predictor and corrector (SDE-DPM-Solver,
SA-Solver). The correlation of the prediction with the noise inside a step is left out, so the weak
order is 2 at most, whatever the number of nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import ArgumentError, choice, flag, integer
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.instructions import Plan
from ...plans.weights.exponential import MAX_POLYNOMIAL, Map, weights
from ...plans.weights.noise_scale import NoiseScale, noise_scale_weights
from ...schedules.grids.construction import MAX_STEPS, Grid
from ...schedules.node import Node
from ..registry import register
from .third_order_compat import THIRDS
from .unipc_compat import one_row_weights

History = list[tuple[Node, Expression]]


@dataclass(frozen=True)
class Scheme:
    """The choices that make a multistep method.

    Attributes:
        kind, variable: what is stored, and the variable in which it is interpolated.
        order: number of past nodes of the predictor.
        corrector: number of nodes of the corrector, the new one among them; 0 for none.
        again: evaluate the corrected state as well (PECE), instead of keeping the prediction at the
            predicted one (PEC).
        moment: replacement of the second moment where two nodes are used (None: exact).
        third: what peers do where three nodes are used, None: the exact quadratic; ``halved``: half
            of its second difference (3M); ``onesided``: its first derivative is the backward
            difference of two nodes (ER-SDE).
        one_row: the corrector of ``one_row`` (the peers' UniPC with varying coefficients).
        tau: diffusion strength, one number or one a step.
        scale: the noise scale of an extended SDE, in place of tau and variable.
        lower_order_final: at most as many nodes as there are steps left.
        s_noise: multiplies the noise.
        skip: steps (from 0) whose corrector is left out.
    """

    kind: str = "x0"
    variable: str = "lam"
    order: int = 2
    corrector: int = 0
    again: bool = False
    moment: str | None = None
    third: str | None = None
    one_row: bool = False
    tau: float | tuple[float, ...] = 0.0
    scale: NoiseScale | None = None
    lower_order_final: bool = True
    s_noise: float = 1.0
    skip: tuple[int, ...] = ()

    def tau_at(self, i: int) -> float:
        """The strength in step ``i``."""
        return self.tau[i] if isinstance(self.tau, tuple) else self.tau


def multistep(b: PlanBuilder, grid: Grid, scheme: Scheme) -> Plan:
    """Write the plan of ``scheme`` along ``grid``."""
    x = b.start(grid[0])
    step = _Step(x, grid[0], 0.0, None)
    history: History = []
    corrected = 0
    t_of_lam = grid.schedule.t_of_lam if scheme.variable == "t" else None
    for i, (s, t) in enumerate(grid.pairs()):
        m = b.evaluate(x, s, scheme.kind)
        if corrected and i and i - 1 not in scheme.skip:
            x = b.at(s, step.to(s, [(s, m), *history][:corrected], scheme, t_of_lam))
            m = b.evaluate(x, s, scheme.kind) if scheme.again else m
        history = [(s, m), *history[: max(scheme.order, scheme.corrector - 1) - 1]]
        left = grid.steps - i if scheme.lower_order_final else len(history)
        corrected = min(scheme.corrector, len(history) + 1, left + 1)
        tau = scheme.tau_at(i)
        noisy = t.sigma > 0.0 and (scheme.scale.noisy if scheme.scale else tau > 0.0)
        step = _Step(x, s, tau, b.noise(s, t) if noisy else None)
        x = b.at(t, step.to(t, history[: min(scheme.order, left)], scheme, t_of_lam))
    return b.finish(x)


@dataclass(frozen=True)
class _Step:
    """A step from state ``x`` at ``s`` with its noise: what predictor and corrector have in
    common."""

    x: Expression
    s: Node
    tau: float
    z: Expression | None

    def to(self, t: Node, nodes: History, scheme: Scheme, t_of_lam: Map | None) -> Expression:
        """The state at ``t`` from the predictions at ``nodes``."""
        s, where = self.s, [node for node, _ in nodes]
        if scheme.scale is not None:
            w = noise_scale_weights(s, t, where, scheme.scale)
        elif scheme.one_row and where[0] == t:
            w = one_row_weights(s, t, where, scheme.kind)
        else:
            moment = scheme.moment if len(nodes) == 2 else None
            w = weights(
                s,
                t,
                where,
                scheme.kind,
                variable=scheme.variable,
                tau=self.tau,
                t_of_lam=t_of_lam,
                moment=moment,
            )
        if scheme.third is not None and len(nodes) == 3:
            w = THIRDS[scheme.third](w, s, t, where)
        y = w.carry * self.x + dot(w.values, [m for _, m in nodes])
        return y if self.z is None or w.noise == 0.0 else y + (w.noise * scheme.s_noise) * self.z


@dataclass(frozen=True)
class DPMMultistep:
    """``correction``: how the two-node step weighs the difference, ``midpoint`` (the default
    everywhere) or ``taylor`` (exact), which k-diffusion and diffusers call ``heun``."""

    correction: str = "midpoint"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        if self.correction == "heun":
            object.__setattr__(self, "correction", "taylor")
        choice("correction", self.correction, ("midpoint", "taylor", "heun"))
        flag("lower_order_final", self.lower_order_final)

    @property
    def moment(self) -> str | None:
        """The second moment of ``plans.weights`` that the correction stands for."""
        return "half" if self.correction == "midpoint" else None


@dataclass(frozen=True)
class NoiseForm3(DPMMultistep):
    """As ``DPMMultistep``. ``third``: the second difference, ``exact`` or ``halved`` (as diffusers
    computes it: second order)."""

    third: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("third", self.third, ("exact", "halved"))


_UNIPC_MOMENTS = {"bh1": "bh1", "bh2": "half", "vary_coeff": None, "vary_coeff_compat": None}


@dataclass(frozen=True)
class UniPC:
    """``order`` 1-4 past nodes; ``variant``: bh1, bh2 (they differ only where two nodes meet),
    vary_coeff (exact there too) or vary_coeff_compat (its corrector as public code has it, see
    ``one_row``); ``corrector`` on or off; ``kind`` x0 or eps; ``skip_corrector``: steps from 0
    without it."""

    order: int = 2
    variant: str = "bh2"
    corrector: bool = True
    kind: str = "x0"
    lower_order_final: bool = True
    skip_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 4)
        choice("variant", self.variant, tuple(_UNIPC_MOMENTS))
        choice("kind", self.kind, ("x0", "eps"))
        flag("corrector", self.corrector)
        flag("lower_order_final", self.lower_order_final)
        object.__setattr__(
            self,
            "skip_corrector",
            tuple(integer("skip_corrector", k, 0, MAX_STEPS) for k in self.skip_corrector),
        )
        if self.skip_corrector and not self.corrector:
            raise ArgumentError(
                f"skip_corrector={self.skip_corrector!r} with corrector=False: there is no "
                "corrector to skip"
            )


@dataclass(frozen=True)
class UniP:
    """``order``: past nodes; ``variant``: bh1, bh2 (they differ for two nodes) or vary_coeff (exact
    there too); ``kind``: x0 or eps."""

    order: int = 2
    variant: str = "bh2"
    kind: str = "x0"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 6)
        choice("variant", self.variant, ("bh1", "bh2", "vary_coeff"))
        choice("kind", self.kind, ("x0", "eps"))
        flag("lower_order_final", self.lower_order_final)


@dataclass(frozen=True)
class LMS:
    """``order``: number of past nodes, 1 to 32; above 6 the weights grow fast and the method is of
    use to reproduce other programs only."""

    order: int = 4
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        integer("order", self.order, 1, MAX_POLYNOMIAL)
        flag("lower_order_final", self.lower_order_final)


_TAYLOR = ({"correction": "taylor"},)


@register("dpmpp_2m", order=2, source="Lu et al. 2022, arXiv 2211.01095, Alg. 2", variants=_TAYLOR)
def dpmpp_2m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 2M: two data predictions, one evaluation a step."""
    return multistep(
        b, grid, Scheme(moment=options.moment, lower_order_final=options.lower_order_final)
    )


@register(
    "dpmpp_3m",
    order=3,
    source="Lu et al. 2022, arXiv 2211.01095, app. D with the full second difference",
)
def dpmpp_3m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 3M of true third order (the exact quadratic through three data predictions)."""
    return multistep(
        b, grid, Scheme(order=3, moment=options.moment, lower_order_final=options.lower_order_final)
    )


@register("dpmpp_3m_compat", order=2, source="DPM-Solver reference code and its descendants")
def dpmpp_3m_compat(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 3M as diffusers and k-diffusion compute it: half of the second difference, hence
    second order."""
    return multistep(
        b,
        grid,
        Scheme(
            order=3,
            moment=options.moment,
            third="halved",
            lower_order_final=options.lower_order_final,
        ),
    )


@register(
    "dpm_solver_2m",
    order=2,
    source="Lu et al. 2022, arXiv 2206.00927, multistep form",
    variants=_TAYLOR,
)
def dpm_solver_2m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver 2M: two noise predictions."""
    return multistep(
        b,
        grid,
        Scheme(kind="eps", moment=options.moment, lower_order_final=options.lower_order_final),
    )


@register(
    "dpm_solver_3m",
    order=lambda o: 3 if o.third == "exact" else 2,
    source="Lu et al. 2022, arXiv 2206.00927, multistep form with the full second difference",
    variants=({"third": "halved"},),
)
def dpm_solver_3m(b: PlanBuilder, grid: Grid, options: NoiseForm3) -> Plan:
    """DPM-Solver 3M: three noise predictions, true third order unless ``third="halved"``."""
    third = None if options.third == "exact" else options.third
    scheme = Scheme(
        kind="eps",
        order=3,
        moment=options.moment,
        third=third,
        lower_order_final=options.lower_order_final,
    )
    return multistep(b, grid, scheme)


def _unipc_order(o: UniPC) -> int:
    if not o.corrector:
        return o.order
    return 1 if o.variant == "vary_coeff_compat" and o.order > 1 else o.order + 1


@register(
    "unipc",
    order=_unipc_order,
    source="Zhao et al. 2023, arXiv 2302.04867, Alg. 1-2",
    variants=(
        {"variant": "bh1"},
        *({"variant": v, "order": p} for v in ("vary_coeff", "vary_coeff_compat") for p in (2, 3)),
        *({"order": p} for p in (1, 3, 4)),
        *({"order": p, "corrector": False} for p in (1, 2, 3, 4)),
        *({"order": p, "kind": "eps"} for p in (1, 2, 3)),
    ),
)
def unipc(b: PlanBuilder, grid: Grid, options: UniPC) -> Plan:
    """UniPC: predictor and corrector of any order for one evaluation a step."""
    # a list for longer runs may name later steps too
    if options.skip_corrector and min(options.skip_corrector) >= grid.steps:
        raise ArgumentError(
            f"skip_corrector={options.skip_corrector!r}: no step of these, counted from 0, "
            f"is among {grid.steps}"
        )
    scheme = Scheme(
        kind=options.kind,
        order=options.order,
        corrector=options.order + 1 if options.corrector else 0,
        moment=_UNIPC_MOMENTS[options.variant],
        one_row=options.variant == "vary_coeff_compat",
        lower_order_final=options.lower_order_final,
        skip=options.skip_corrector,
    )
    return multistep(b, grid, scheme)


@register(
    "unip",
    order=lambda o: o.order,
    source="Zhao et al. 2023, arXiv 2302.04867, Alg. 2",
    variants=(
        {"variant": "bh1"},
        {"variant": "vary_coeff"},
        *({"order": p} for p in (1, 3, 4)),
        {"kind": "eps"},
    ),
)
def unip(b: PlanBuilder, grid: Grid, options: UniP) -> Plan:
    """UniP, the predictor of UniPC alone: DPM-Solver++ 2M for two nodes (bh2), exact interpolation
    for more."""
    moment = _UNIPC_MOMENTS[options.variant]
    return multistep(
        b,
        grid,
        Scheme(
            options.kind,
            order=options.order,
            moment=moment,
            lower_order_final=options.lower_order_final,
        ),
    )


@register(
    "lms",
    order=lambda o: o.order,
    source="Katherine Crowson, k-diffusion; Adams-Bashforth in rho",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def lms(b: PlanBuilder, grid: Grid, options: LMS) -> Plan:
    """Linear multistep in rho with exact integrals."""
    scheme = Scheme(
        kind="eps", variable="rho", order=options.order, lower_order_final=options.lower_order_final
    )
    return multistep(b, grid, scheme)
