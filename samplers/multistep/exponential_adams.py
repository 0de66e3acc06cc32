"""Exponential Adams methods: every multistep of this package as one function with a choice a step,
the space that solver search walks in (Liu et al. 2023, arXiv 2312.07243, USF).

A step from s to t takes the last p predictions as x0, eps, v or velocity, interpolates them in lam,
rho or t (v also in the angle of the path), and integrates the exact kernel (``plans.weights``,
``plans.angle_weights``); a corrector redoes it with the new prediction among the nodes. Each choice
is one value, or a tuple with one a step. One network call serves all kinds that later steps ask of
it. Some named methods (``lower_order_final`` is theirs too):

    ddim             order=1                                    dpm_solver_3m    order=3, kind="eps"
    dpmpp_2m         order=2, moment="half"                     deis (t-AB)      order=3, kind="eps", variable="t"
    dpmpp_2m taylor  order=2                                    lms, rho-AB      order=4, kind="eps", variable="rho"
    dpmpp_3m         order=3                                    unip-p           order=p, moment="half" (bh2) or "bh1"
    res_2m           order=2                                    unipc-p          the same, corrector="pseudo"
    flow_adams       kind="velocity", variable="t"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...checks import ArgumentError, choice, flag, integer
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.instructions import Plan
from ...plans.weights.exponential import KINDS, MAX_NODES, MOMENTS, VARIABLES, Map, weights
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register

CORRECTORS = ("none", "pseudo", "implicit")


class Choice(NamedTuple):
    """What one step does; ``order`` counts past nodes, see ``ExponentialAdams``."""

    order: int
    kind: str
    variable: str
    corrector: str
    moment: str


#: a past evaluation: its node and its prediction by kind
Past = tuple[Node, dict[str, Expression]]


def exponential_adams_plan(
    b: PlanBuilder, grid: Grid, choices: Sequence[Choice], *, lower_order_final: bool
) -> Plan:
    """Write the plan that follows ``choices``, one a step of ``grid``."""
    x = b.start(grid[0])
    reach = max(c.order for c in choices)
    history: list[Past] = []
    step = None
    for i, (s, t) in enumerate(grid.pairs()):
        kinds = _kinds(choices, i)
        now = _evaluate(b, x, s, kinds)
        if step is not None and step.choice.corrector != "none":
            x = b.at(s, step.to(s, [(s, now), *step.past]))
            now = _evaluate(b, x, s, kinds) if step.choice.corrector == "implicit" else now
        history = [(s, now), *history[: reach - 1]]
        used = min(choices[i].order, len(history), grid.steps - i if lower_order_final else reach)
        step = _Step(x, s, history[:used], choices[i], grid.schedule.t_of_lam)
        x = b.at(t, step.to(t, step.past))
    return b.finish(x)


def _kinds(choices: Sequence[Choice], i: int) -> tuple[str, ...]:
    """The kinds that step i, the corrector of the one before and the steps that still reach back to
    node i ask for."""
    wanted = [c.kind for j, c in enumerate(choices[i:]) if j < c.order]
    if i and choices[i - 1].corrector != "none":
        wanted.append(choices[i - 1].kind)
    return tuple(dict.fromkeys(wanted))


def _evaluate(
    b: PlanBuilder, x: Expression, s: Node, kinds: tuple[str, ...]
) -> dict[str, Expression]:
    return dict(zip(kinds, b.evaluate_kinds(x, s, kinds), strict=True))


class _Step(NamedTuple):
    """A step from state ``x`` at ``s``: what predictor and corrector have in common."""

    x: Expression
    s: Node
    past: list[Past]
    choice: Choice
    t_of_lam: Map

    def to(self, t: Node, nodes: list[Past]) -> Expression:
        """The state at ``t`` from the predictions at ``nodes``."""
        c = self.choice
        where = [node for node, _ in nodes]
        moment = c.moment if c.moment != "exact" and len(nodes) == 2 else None
        w = weights(
            self.s, t, where, c.kind, variable=c.variable, t_of_lam=self.t_of_lam, moment=moment
        )
        return w.carry * self.x + dot(w.values, [by_kind[c.kind] for _, by_kind in nodes])


@dataclass(frozen=True)
class ExponentialAdams:
    """A value for all steps, or a tuple with one a step of the grid (the step out of alpha = 0
    ignores its entry).

    Attributes:
        order: past nodes, 1 to 6 (fewer where there are not as many yet).
        kind: what is interpolated: x0, eps, v or velocity.
        variable: in what: lam, rho or t (a velocity always in t), or angle (v only).
        corrector: none; pseudo, redo the step with the prediction made at its end, which is kept;
            implicit, evaluate again after it.
        moment: with two nodes in lam: exact, or half, bh1, linear (see ``plans.weights``).
        lower_order_final: at most as many nodes as there are steps left.
    """

    order: int | tuple[int, ...] = 3
    kind: str | tuple[str, ...] = "x0"
    variable: str | tuple[str, ...] = "lam"
    corrector: str | tuple[str, ...] = "none"
    moment: str | tuple[str, ...] = "exact"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        flag("lower_order_final", self.lower_order_final)
        fields = Choice._fields
        for name in fields:
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        for name in fields:
            if getattr(self, name) == ():
                raise ArgumentError(f"{name}=(): one entry a step is wanted")
        lengths = {
            name: len(value) for name in fields if isinstance(value := getattr(self, name), tuple)
        }
        if len(set(lengths.values())) > 1:
            raise ArgumentError(f"tuples of different lengths, one entry a step each: {lengths}")
        for c in self.choices(next(iter(lengths.values()), 1)):
            _check(c)

    def choices(self, steps: int) -> list[Choice]:
        """One choice a step; ValueError where a tuple has another length."""
        columns = [self._column(name, steps) for name in Choice._fields]
        return [Choice(*row) for row in zip(*columns, strict=True)]

    def _column(self, name: str, steps: int) -> tuple[Any, ...]:
        value = getattr(self, name)
        if not isinstance(value, tuple):
            return (value,) * steps
        if len(value) != steps:
            raise ArgumentError(f"{name}={value!r}: {len(value)} entries for {steps} steps")
        return value

    @property
    def declared(self) -> int:
        """The smallest order of a step: its nodes, one more with a corrector."""
        steps = max(
            (len(v) for name in Choice._fields if isinstance(v := getattr(self, name), tuple)),
            default=1,
        )
        return min(c.order + (c.corrector != "none") for c in self.choices(steps))


def _check(c: Choice) -> None:
    integer("order", c.order, 1, MAX_NODES)
    choice("kind", c.kind, KINDS)
    choice("variable", c.variable, VARIABLES)
    choice("corrector", c.corrector, CORRECTORS)
    choice("moment", c.moment, ("exact", *MOMENTS))
    if c.corrector != "none":
        integer("order (with a corrector)", c.order, 1, MAX_NODES - 1)
    if c.kind == "velocity" and c.variable != "t":
        raise ArgumentError(f"variable={c.variable!r}: a velocity is interpolated in t")
    if c.variable == "angle" and c.kind != "v":
        raise ArgumentError(f"variable='angle' goes with kind='v', got kind={c.kind!r}")
    if c.moment != "exact" and (c.variable != "lam" or c.kind == "v"):
        raise ArgumentError(
            f"moment={c.moment!r} is one of two nodes in lam, on x0 or eps; got "
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
    ),
)
def exponential_adams(b: PlanBuilder, grid: Grid, options: ExponentialAdams) -> Plan:
    """Exponential Adams of any order in lam, rho, t or the angle on x0, eps, v or velocities, with
    a choice for each step."""
    before = len(b.nodes) - len(grid)  # steps made already: the one out of alpha = 0
    choices = options.choices(grid.steps + before)[before:]
    return exponential_adams_plan(b, grid, choices, lower_order_final=options.lower_order_final)


@dataclass(frozen=True)
class FlowAdams:
    """``order``: number of past velocities, 1 to 6."""

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
    variants=tuple({"order": p} for p in (1, 3, 4)),
)
def flow_adams(b: PlanBuilder, grid: Grid, options: FlowAdams) -> Plan:
    """Adams-Bashforth in t on the velocity, for any steps: one evaluation a step."""
    step = Choice(options.order, "velocity", "t", "none", "exact")
    return exponential_adams_plan(
        b, grid, [step] * grid.steps, lower_order_final=options.lower_order_final
    )
