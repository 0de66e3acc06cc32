"""SEEDS: exponential singlesteps on the reverse SDE with exact noise (Gonzalez et al. 2023, arXiv
2305.14267, Alg. 1-4).

The methods use the stages of DPM-Solver(++) with the kernel of the SDE of strength tau
(``plans.weights``), and one noise for each part of the step between stages. The noise drawn on [a,
b] contributes ``carry(b -> t) noise(a -> b) z`` to a later state at t, both in the stages and in
the final step,

    data form   carry noise = sigma_t e^{-tau^2 (lam_t - lam_b)} sqrt(1 - e^{-2 tau^2 (lam_b -
                lam_a)})
    noise form  carry noise = tau sigma_t sqrt(e^{2 (lam_t - lam_a)} - e^{2 (lam_t - lam_b)})

so the predictions depend on the same noise that the final step adds. With one stage the method is
SDE-DPM-Solver(++)-1; in data form that is DDIM with eta = 1. The paper proves weak order 1 for all;
on Gaussian data two and three stages have weak order 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import choice, number
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.plan import Plan
from ...plans.weights.exponential import weights
from ...schedules.grids.construction import Grid
from ..option_names import CORRECTIONS, option
from ..registry import register


@dataclass(frozen=True)
class SEEDS3:
    """Options of SEEDS-3.

    ``kind``: x0 (data form) or eps (noise form, whose noise grows as e^h). ``correction``: weights
    of the final step, ``midpoint`` (dpmsolver) or ``exact`` (taylor: the interpolant through all
    stages). ``tau``: diffusion strength, 1 is the published method, 0 is DPM-Solver.
    """

    kind: str = "x0"
    correction: str = option("midpoint", also=("solver_type",), words=CORRECTIONS)
    tau: float = option(1.0, also=("eta",))

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("x0", "eps"))
        choice("correction", self.correction, ("midpoint", "exact"))
        number("tau", self.tau, 0.0, 3.0)


@dataclass(frozen=True)
class SEEDS2(SEEDS3):
    """Options of ``seeds_3``, and ``r1``: position of the stage in lam, as a fraction of the
    step."""

    r1: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        number("r1", self.r1, 0.05, 0.95)


def exponential_sde(b: PlanBuilder, grid: Grid, ratios: tuple[float, ...], options: SEEDS3) -> Plan:
    """Build the plan with stages at ``ratios`` of each step in lam; the step to sigma = 0 has no
    stages."""
    kind, tau, exact = options.kind, options.tau, options.correction == "exact"
    x = b.start(grid[0])
    for s, t in grid.pairs():
        stages = [grid.at_lam(s.lam + r * (t.lam - s.lam)) for r in ratios] if t.sigma > 0.0 else []
        nodes, values, noise, y = [s], [b.evaluate(x, s, kind)], Expression({}), x
        for end in (*stages, t):
            part = weights(nodes[-1], end, nodes[-1:], kind, tau=tau)
            noise = (
                dot((part.carry, part.noise), (noise, b.noise(nodes[-1], end)))
                if part.noise > 0.0
                else part.carry * noise
            )
            used = (
                [0, len(nodes) - 1]
                if end is t and len(nodes) > 2 and not exact
                else list(range(len(nodes)))
            )
            half = end is t and len(nodes) == 2 and not exact
            w = (
                weights(
                    s, end, [nodes[k] for k in used], kind, tau=tau, moment="half" if half else None
                )
                if len(nodes) > 1
                else part
            )
            y = b.at(end, dot((w.carry, *w.values, 1.0), (x, *(values[k] for k in used), noise)))
            if end is not t:
                nodes.append(end)
                values.append(b.evaluate(y, end, kind))
        x = y
    return b.finish(x)


@register(
    "seeds_2",
    order=2,
    source="Gonzalez et al. 2023, arXiv 2305.14267, Alg. 2",
    tau=lambda o: o.tau,
    allow="signal",
    variants=({"correction": "exact"}, {"r1": 0.3}, {"kind": "eps"}, {"tau": 0.5}),
)
def seeds_2(b: PlanBuilder, grid: Grid, options: SEEDS2) -> Plan:
    """SEEDS-2: DPM-Solver++ 2S on the reverse SDE with exact noise, shared by stage and step."""
    return exponential_sde(b, grid, (options.r1,), options)


@register(
    "seeds_3",
    order=lambda o: 2 if o.tau else 3,
    source="Gonzalez et al. 2023, arXiv 2305.14267, Alg. 3-4",
    tau=lambda o: o.tau,
    allow="signal",
    variants=({"correction": "exact"}, {"kind": "eps"}, {"tau": 0.0}),
)
def seeds_3(b: PlanBuilder, grid: Grid, options: SEEDS3) -> Plan:
    """SEEDS-3: DPM-Solver++ 3S on the reverse SDE with exact noise, shared by stages and step; weak
    order 2."""
    return exponential_sde(b, grid, (1 / 3, 2 / 3), options)
