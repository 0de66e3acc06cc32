"""Exponential Adams methods with options per step: the search space of Liu et al. 2023 (arXiv
2312.07243, USF).

A step from s to t interpolates the last p predictions, as x0, eps, v or velocity, in lam, rho or t
(v also in the angle of the path) and integrates the exact kernel (``plans.weights``). The first
derivative may come from other predictions, and be scaled (``derivative_points``). A corrector
repeats the step with the new prediction among the nodes. Each option is one value for all steps, or
a tuple with one entry per step; ``afs`` is the first step of that paper without a call. One network
call provides all kinds that later steps need. Special cases, with their own ``lower_order_final``:

    ddim               order=1
    dpmpp_2m           order=2, correction="midpoint"; correction="exact" is res_2m
    dpmpp_3m           order=3
    dpm_solver_3m      order=3, kind="eps"
    deis (t-AB)        order=3, kind="eps", variable="t"
    lms, rho-AB        order=4, kind="eps", variable="rho"
    unip of order p    order=p, correction="midpoint" (bh2) or "bh1"
    unipc              the same with corrector="pseudo"
    flow_adams         kind="velocity", variable="t"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ...checks import ArgumentError, choice, flag, integer, number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...plans.weights.exponential import KINDS, MAX_NODES, VARIABLES, Map
from ...schedules.grids.construction import Grid
from ..option_names import CORRECTIONS, option
from ..registry import register
from .derivative_points import DerivativePoints
from .recurrence import Rule, Step, multistep
from .weight_rules import MOMENTS, Interpolation

CORRECTORS = ("none", "pseudo", "implicit")


class StepOptions(NamedTuple):
    """Options of one step; see ``ExponentialAdams`` for their meaning."""

    order: int
    kind: str
    variable: str
    corrector: str
    correction: str
    points: int = 0
    scale: float = 0.0

    def step(self, t_of_lam: Map) -> Step:
        """Build the ``Step`` that these options describe."""
        rule: Rule
        rule = plain = Interpolation(self.kind, self.variable, 0.0, self.correction, t_of_lam)
        if self.points or self.scale:
            rule = DerivativePoints(plain, self.order, self.points, self.scale)
        reach = max(self.order, self.points + 1)
        corrector = 0 if self.corrector == "none" else reach + 1
        return Step(rule, reach, corrector, again=self.corrector == "implicit")

    @property
    def declared(self) -> int:
        """Order of a run of such steps: the number of nodes, plus one with a corrector; less where
        the first derivative has fewer points or is scaled."""
        more = int(self.corrector != "none")
        nodes, points = self.order + more, (self.points or self.order - 1) + more
        most = 2 if self.scale else MAX_NODES
        return min(nodes, points + 1, most) if nodes > 1 else 1


@dataclass(frozen=True)
class ExponentialAdams:
    """Options of ``exponential_adams``: each is one value for all steps, or a tuple with one entry
    per step of the grid (the step from alpha = 0 ignores its entry).

    Attributes:
        order: number of past nodes, 1 to 6 (fewer in the first steps).
        kind: kind of prediction that is interpolated: x0, eps, v or velocity.
        variable: interpolation variable: lam, rho or t (velocity: t only), or angle (v only).
        corrector: ``none``; ``pseudo``: repeat the step with the prediction made at its end, which
            is kept; ``implicit``: also evaluate the network at the corrected state.
        correction: weights of two nodes in lam: exact, midpoint, bh1 or linear (``weight_rules``).
        points: number of past predictions, besides the newest, that the first derivative comes
            from, up to 5; 0: order - 1. Not for v, nor is ``scale``.
        scale: c of the factor ``1 + c h`` of the first derivative, from -10 to 10.
        lower_order_final: use at most as many nodes as there are steps left.
    """

    order: int | tuple[int, ...] = 3
    kind: str | tuple[str, ...] = "x0"
    variable: str | tuple[str, ...] = "lam"
    corrector: str | tuple[str, ...] = "none"
    correction: str | tuple[str, ...] = option(
        "exact", was=("moment",), words={**CORRECTIONS, "half": "midpoint"}
    )
    lower_order_final: bool = True
    points: int | tuple[int, ...] = 0
    scale: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        flag("lower_order_final", self.lower_order_final)
        fields = StepOptions._fields
        for name in fields:
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        for name in fields:
            if getattr(self, name) == ():
                raise ArgumentError(f"{name}=(): must have one entry per step")
        lengths = {
            name: len(value) for name in fields if isinstance(value := getattr(self, name), tuple)
        }
        if len(set(lengths.values())) > 1:
            raise ArgumentError(f"tuples must all have one entry per step, got lengths {lengths}")
        for c in self.choices(next(iter(lengths.values()), 1)):
            _check(c)

    def choices(self, steps: int) -> list[StepOptions]:
        """Return the options of each step. Raises ArgumentError if a tuple has another length."""
        columns = [self._column(name, steps) for name in StepOptions._fields]
        return [StepOptions(*row) for row in zip(*columns, strict=True)]

    def _column(self, name: str, steps: int) -> tuple[Any, ...]:
        value = getattr(self, name)
        if not isinstance(value, tuple):
            return (value,) * steps
        if len(value) != steps:
            raise ArgumentError(f"{name}={value!r}: {len(value)} entries for {steps} steps")
        return value

    @property
    def declared(self) -> int:
        """Lowest order of a step (``StepOptions.declared``)."""
        steps = max(
            (len(v) for name in StepOptions._fields if isinstance(v := getattr(self, name), tuple)),
            default=1,
        )
        return min(c.declared for c in self.choices(steps))


def _check(c: StepOptions) -> None:
    integer("order", c.order, 1, MAX_NODES)
    choice("kind", c.kind, KINDS)
    choice("variable", c.variable, VARIABLES)
    choice("corrector", c.corrector, CORRECTORS)
    choice("correction", c.correction, tuple(MOMENTS))
    integer("points", c.points, 0, MAX_NODES - 1)
    number("scale", c.scale, -10.0, 10.0)
    if (c.points or c.scale) and c.kind == "v":
        given = f"points={c.points}" if c.points else f"scale={c.scale}"
        raise ArgumentError(f"{given} with kind='v': allowed with x0, eps and velocity")
    if c.corrector != "none":
        integer("order (with a corrector)", c.order, 1, MAX_NODES - 1)
    if c.kind == "velocity" and c.variable != "t":
        raise ArgumentError(f"variable={c.variable!r}: must be 't' with kind='velocity'")
    if c.variable == "angle" and c.kind != "v":
        raise ArgumentError(f"variable='angle': kind must be 'v', got kind={c.kind!r}")
    if c.correction != "exact" and (c.variable != "lam" or c.kind == "v"):
        raise ArgumentError(
            f"correction={c.correction!r} requires variable='lam' and kind x0 or eps, got "
            f"variable={c.variable!r}, kind={c.kind!r}"
        )


@register(
    "exponential_adams",
    order=lambda o: o.declared,
    source="Liu et al. 2023, arXiv 2312.07243 (USF); Hochbruck & Ostermann 2010, Acta Numerica 19, "
    "sec. 2.7",
    allow="asymptotic",
    variants=(
        *({"order": p} for p in (1, 2, 4, 5)),
        *(
            {"order": p, "kind": "eps", "variable": v}
            for p, v in ((3, "lam"), (4, "rho"), (3, "t"))
        ),
        *({"order": p, "variable": v} for p, v in ((2, "rho"), (3, "t"))),
        {"order": 2, "corrector": "pseudo"},
        {"order": 2, "corrector": "implicit", "kind": "eps", "variable": "rho"},
        *({"order": p, "kind": "v", "variable": "angle"} for p in (1, 2, 3, 4)),
        *({"order": 3, "kind": "v", "variable": v} for v in ("lam", "rho", "t")),
        {"order": 2, "kind": "v", "variable": "angle", "corrector": "pseudo"},
        *({"order": p, "points": n} for p, n in ((3, 1), (2, 2), (4, 2))),
        {"order": 3, "scale": -0.5},
        {"order": 2, "points": 2, "scale": -0.1, "kind": "eps", "corrector": "pseudo"},
    ),
)
def exponential_adams(b: PlanBuilder, grid: Grid, options: ExponentialAdams) -> Plan:
    """Exponential Adams of any order in lam, rho, t or the angle, on x0, eps, v or velocity, with
    options per step."""
    before = len(b.nodes) - len(grid)  # 1 if the step from alpha = 0 is already made
    choices = options.choices(grid.steps + before)[before:]
    steps = [c.step(grid.schedule.t_of_lam) for c in choices]
    return multistep(b, grid, steps, lower_order_final=options.lower_order_final)


@dataclass(frozen=True)
class FlowAdams:
    """Options. ``order``: number of past velocities, 1 to 6."""

    order: int = 2
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        integer("order", self.order, 1, MAX_NODES)
        flag("lower_order_final", self.lower_order_final)


@register(
    "flow_adams",
    order=lambda o: o.order,
    source="Adams-Bashforth of the steps themselves on dx/dt = u, Lipman et al. 2022, arXiv "
    "2210.02747",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
    variants=tuple({"order": p} for p in (1, 3, 4)),
)
def flow_adams(b: PlanBuilder, grid: Grid, options: FlowAdams) -> Plan:
    """Adams-Bashforth in t on the velocity, for steps of any length: one evaluation per step."""
    step = Step(Interpolation("velocity", "t"), options.order)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)
