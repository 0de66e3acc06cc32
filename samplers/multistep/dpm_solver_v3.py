"""DPM-Solver-v3: multistep steps in lam with the empirical statistics of the model (Zheng et al.
2023, arXiv 2310.13268, Alg. 1 and eqs. 5-11).

With functions l, s of lam the prediction ``N = sigma eps - l x`` is stored, and ``f = N / alpha``
is extrapolated as a solution of ``f' = s f`` times a polynomial (``plans.weights.statistics``):
l = 1, s = 0 is DPM-Solver++, l = 0, s = -1 is DPM-Solver, and the statistics of a model lie between
(``fewstep.engine.model_statistics``). A corrector repeats the step with the value of N at its end,
and keeps this N: it needs no further network call.

The paper has one value of l and s for each coordinate and a constant b. A plan combines whole
states with numbers, so this sampler uses l and s as one number for all coordinates, and b = 0.
``dpm_solver_v3_elementwise`` is the method with all three. On the golden mixture one number loses
4 % of the median error and 1.1 to 1.7 times of the 90th percentile against it
(benchmarks/model_statistics.py).

For l and s other than those two pairs a step maps a straight line ``alpha x0 + sigma eps`` only
asymptotically to itself, and the plan's exactness says so. The step to sigma = 0 is the prediction
of x0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...checks import ArgumentError, choice, flag, integer, number, shown
from ...plans.builder import Expression, PlanBuilder
from ...plans.model_statistics import ModelStatistics, read_statistics
from ...plans.plan import Plan
from ...plans.plan_file import MadeFor
from ...plans.weights.lagrange import Weights
from ...plans.weights.statistics import Curves, constant, update
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register
from .recurrence import Step, multistep

CORRECTORS = ("none", "equal", "pseudo", "full")
#: published settings: for up to so many steps (None: more), (p_pseudo, corrector,
#: lower_order_final)
SETTINGS: dict[str, tuple[tuple[int | None, tuple[bool, str, bool]], ...]] = {
    "edm": ((5, (True, "equal", True)), (6, (False, "equal", True)), (None, (False, "none", True))),
    "score_sde": (
        (5, (True, "equal", False)),
        (8, (False, "equal", True)),
        (10, (False, "none", True)),
        (None, (False, "equal", True)),
    ),
    "guided": ((None, (False, "pseudo", True)),),
}
#: largest absolute value of the constants l, s and b
_MOST = 20.0


class How(NamedTuple):
    """What the steps of one run are: most nodes, pseudo predictor, corrector, fewer nodes at the
    end."""

    order: int
    p_pseudo: bool
    corrector: str
    lower_order_final: bool

    @property
    def declared(self) -> int:
        """Order of the method: p of the predictor, c of the corrector gives min(c, p + 1); pseudo
        derivatives leave at most 2."""
        p = min(self.order, 2) if self.p_pseudo else self.order
        c = self.order + (self.corrector in ("pseudo", "full"))
        if self.corrector == "none" or c < 2:
            return p
        return min(2 if self.corrector == "pseudo" else c, p + 1)

    def counts(self, steps: int) -> list[tuple[int, int]]:
        """Number of values of N that predictor and corrector of each step use; 0: no corrector."""
        found = []
        for i in range(steps):
            p = min(self.order, i + 1, *([steps - i] if self.lower_order_final else []))
            c = 0 if self.corrector == "none" else p + (self.corrector != "equal")
            found.append((p, c if c > 1 else 0))
        return found


@dataclass(frozen=True)
class V3Options:
    """Options of DPM-Solver-v3.

    Attributes:
        order: most values of N that a step uses, 1 to 3 (paper: 3, guided 2).
        corrector: ``none``; ``equal``: with as many values as the predictor, the new one included;
            ``pseudo`` and ``full``: one more, with pseudo derivatives (the code's c_pseudo) or with
            those of the polynomial.
        p_pseudo: pseudo derivatives in the predictor.
        lower_order_final: use at most as many values as there are steps left.
        settings: published choice of corrector, p_pseudo and lower_order_final by the number of
            steps: ``edm``, ``score_sde`` or ``guided`` (with order 2), or ``none``.
        statistics: what ``fewstep.engine.model_statistics`` returns, or the path of its file; None:
            the constants l and s.
        l, s: constants in place of statistics.
        force: use the statistics of another model.
    """

    order: int = 3
    corrector: str = "none"
    p_pseudo: bool = False
    lower_order_final: bool = True
    settings: str = "none"
    statistics: ModelStatistics | str | None = None
    l: float = 1.0  # noqa: E741
    s: float = 0.0
    force: bool = False

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 3)
        choice("corrector", self.corrector, CORRECTORS)
        for name in ("p_pseudo", "lower_order_final", "force"):
            flag(name, getattr(self, name))
        choice("settings", self.settings, ("none", *SETTINGS))
        if self.settings != "none" and (self.p_pseudo, self.corrector) != (False, "none"):
            raise ArgumentError(
                f"settings={self.settings!r} chooses corrector and p_pseudo: leave them out"
            )
        for name in self._constants:
            number(name, getattr(self, name), -_MOST, _MOST)
        self._check_statistics()

    @property
    def _constants(self) -> tuple[str, ...]:
        return ("l", "s")

    def _check_statistics(self) -> None:
        if not isinstance(self.statistics, (str, ModelStatistics, type(None))):
            raise ArgumentError(
                f"statistics={shown(self.statistics)}: must be what engine.model_statistics "
                "returns, or the path of a file as text"
            )
        if self.statistics is None:
            if self.force:
                raise ArgumentError(
                    "force=True: there are no statistics to force; give statistics="
                )
            return
        given = {name: getattr(self, name) for name in self._constants}
        usual = {name: type(self).__dataclass_fields__[name].default for name in given}
        if given != usual:
            raise ArgumentError(f"{given} with statistics=: give only one of the two")
        if isinstance(self.statistics, str):
            read_statistics(self.statistics)

    def how(self, steps: int) -> How:
        """What the steps of a run of ``steps`` steps are."""
        own = (self.p_pseudo, self.corrector, self.lower_order_final)
        for most, published in SETTINGS.get(self.settings, ()):
            if most is None or steps <= most:
                own = (*published[:2], published[2] and self.lower_order_final)
                break
        return How(self.order, *own)

    @property
    def found(self) -> ModelStatistics | None:
        """The statistics; None for constants. PlanError for a file that is none."""
        given = self.statistics
        return read_statistics(given) if isinstance(given, str) else given

    @property
    def made_for(self) -> MadeFor | None:
        """The model that must be run; None: any."""
        found = None if self.force else self.found
        return None if found is None else found.made_for


@dataclass(frozen=True)
class Extrapolation:
    """Weights of N for ``recurrence``: pseudo derivatives in the predictor, in the corrector, or
    in none."""

    curves: Curves
    p_pseudo: bool
    c_pseudo: bool
    kind: str = "x0"
    noisy: bool = False

    def weights(self, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """See ``recurrence.Rule``."""
        corrector = nodes[0] == t
        ordered = [nodes[1], nodes[0], *nodes[2:]] if corrector else list(nodes)
        pseudo = self.c_pseudo if corrector else self.p_pseudo
        made = update(self.curves, s, t, ordered, pseudo)
        values = [float(v) for v in made.values]
        if corrector:
            values[:2] = values[1::-1]
        return Weights(float(made.carry), tuple(values), 0.0)

    def formed(self, b: PlanBuilder, x: Expression, node: Node, m: Expression) -> Expression:
        """``N = sigma eps - l x = (1 - l) x - alpha D``."""
        own = float(self.curves.l.at([node.lam])[0])
        return b.value((1.0 - own) * x - node.alpha * m)


VARIANTS: tuple[dict[str, Any], ...] = (
    *({"order": p} for p in (1, 2)),
    *({"order": p, "l": 0.5, "s": -0.3} for p in (1, 2, 3)),
    *({"order": p, "corrector": "equal", "l": 0.5, "s": -0.3} for p in (2, 3)),
    *({"order": p, "corrector": "full", "l": 0.5, "s": -0.3} for p in (1, 2, 3)),
    {"corrector": "pseudo", "l": 0.5, "s": -0.3},
    {"p_pseudo": True, "l": 0.5, "s": -0.3},
    {"order": 2, "settings": "guided"},
)


@register(
    "dpm_solver_v3",
    order=lambda o: o.how(10**6).declared,
    source="Zheng et al. 2023, arXiv 2310.13268, Alg. 1, with one l and s for all coordinates",
    allow="asymptotic",
    variants=VARIANTS,
)
def dpm_solver_v3(b: PlanBuilder, grid: Grid, options: V3Options) -> Plan:
    """DPM-Solver-v3: multistep with the statistics of the model, one number for all coordinates;
    without statistics DPM-Solver++."""
    found = options.found
    curves = Curves(constant(options.l), constant(options.s)) if found is None else found.pooled
    how = options.how(len(b.nodes) - 1)
    rule = Extrapolation(curves, how.p_pseudo, how.corrector == "pseudo")
    steps = [Step(rule, p, c) for p, c in how.counts(grid.steps)]
    return multistep(b, grid, steps, lower_order_final=False, formed=rule.formed)
