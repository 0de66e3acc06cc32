"""Sections of ``default_call`` on the grid alone: ``auto`` against named grids for one sampler, and
against ``auto`` of version 0.1 for the other kinds of samplers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import TypeAlias

from grid_measures import (
    FORMER_GRID,
    MULTISTEPS,
    NAMED,
    Case,
    Ratio,
    Sampler,
    Sizes,
    automatic,
    fitting_plan,
    geometric,
    label,
    mean_and_worst,
    ratio_in,
    settings,
    table,
    worst_cells,
)
from grid_problems import CHECK
from grid_weak import WEAK_CHECK, WeakCase, weak_settings

import fewstep
from fewstep.plans.plan import Plan
from fewstep.schedules import Schedule
from fewstep.schedules.grids.auto import DataFacts

#: scales at which the facts without sigma_data are tried
UNKNOWN_SCALES = (0.35, 0.5, 1.0)
FAR = 2.0
#: the part of the check that the named grids are compared on
NAMED_PROBLEMS = ("round 21", "ellipses", "many 32", "power 0.7", "knee 2.5", "low frequencies 60")
#: scales of the other kinds of samplers
SCALES = (0.5, 1.0)
SINGLESTEPS: tuple[Sampler, ...] = (("heun", {}), ("dpmpp_2s", {}), ("dpm_solver_3", {}))
#: on Gaussians ddpm has the errors of euler_ancestral, and seeds_2 those of dpmpp_sde
STOCHASTIC: tuple[Sampler, ...] = (
    ("dpmpp_2m_sde", {}),
    ("euler_ancestral", {}),
    ("er_sde", {}),
    ("sa_solver", {}),
    ("dpmpp_sde", {}),
)

#: (group, calls) -> ratios
Ratios: TypeAlias = dict[tuple[str, int], list[Ratio]]


def by_name(sampler: Sampler, schedule: Schedule, nfe: int) -> list[Plan]:
    """The plans on the named grids that can be made."""
    layouts = (partial(fewstep.grid, name, schedule, **options) for name, options in NAMED)
    found = (fitting_plan(sampler, schedule, nfe, layout) for layout in layouts)
    return [plan for plan in found if plan is not None]


def named_section(sizes: Sizes) -> str:
    """``auto`` over the best of the named grids in the cell, by path and by sampler."""
    known: Ratios = {}
    unknown: Ratios = {}
    samplers: Ratios = {}
    plans: dict[tuple[str, str, int], list[Plan]] = {}
    problems = {name: CHECK[name] for name in NAMED_PROBLEMS}
    for path, scale in product(sizes.paths, sizes.scales):
        for schedule, _, cases in settings(problems, [(path, scale)], sizes.samples):
            for sampler, nfe in product(MULTISTEPS, sizes.calls):
                key = (path, label(sampler), nfe)
                named = plans.setdefault(key, []) or by_name(sampler, schedule, nfe)
                plans[key] = named
                for case in cases:
                    best = min(case.error(plan) for plan in named)
                    own = _auto(sampler, schedule, nfe, case, scale) / best
                    value = ratio_in(case, nfe, own, label(sampler))
                    known.setdefault((path, nfe), []).append(value)
                    samplers.setdefault((label(sampler), nfe), []).append(value)
                    if scale in UNKNOWN_SCALES:
                        own = _auto(sampler, schedule, nfe, case, None) / best
                        value = ratio_in(case, nfe, own, label(sampler))
                        unknown.setdefault((path, nfe), []).append(value)
    grids = ", ".join(label(grid) for grid in NAMED)
    text = (
        f"Error of `auto` divided by that of the best of {len(NAMED)} named grids in the cell "
        f"({grids}), which no single grid reaches: geometric means, and the share of cells above "
        f"{FAR:g}. Problems: {', '.join(NAMED_PROBLEMS)}. Scale known: {_listed(sizes.scales)}, "
        f"given by the model; unknown: {_listed(s for s in sizes.scales if s in UNKNOWN_SCALES)}, "
        "where 0.5 is assumed."
    )
    parts = [text, _wide("path", known, sizes), "Scale unknown:", _wide("path", unknown, sizes)]
    parts += ["Scale known, by sampler:", _wide("sampler", samplers, sizes)]
    return "\n\n".join([*parts, worst_cells(v for row in known.values() for v in row)])


def _auto(sampler: Sampler, schedule: Schedule, nfe: int, case: Case, scale: float | None) -> float:
    """The median error on grid ``auto``."""
    facts = DataFacts(scale, case.spatial)
    plan = automatic(sampler, schedule, nfe, facts)
    assert plan is not None
    return case.error(plan)


def _listed(numbers: Iterable[float]) -> str:
    """Numbers, for a sentence."""
    return ", ".join(f"{number:g}" for number in numbers)


def _wide(what: str, ratios: Ratios, sizes: Sizes) -> str:
    """A row for each group and one for all: figures by calls, over all calls, and cells far off."""
    groups = list(dict.fromkeys(group for group, _ in ratios))
    lines = []
    for name in [*groups, "all"]:
        rows = [
            [r.value for g in (groups if name == "all" else [name]) for r in ratios.get((g, n), [])]
            for n in sizes.calls
        ]
        every = [v for row in rows for v in row]
        far = f"{100 * sum(v > FAR for v in every) / max(1, len(every)):.1f} %"
        cells = (f"{geometric(row):.2f}" for row in [*rows, every])
        lines.append([name, *cells, far, f"{max(every, default=0.0):.1f}"])
    head = [what, *(f"{n} calls" for n in sizes.calls), "all calls", f"above {FAR:g}", "worst"]
    return table(head, lines)


def scaling_section(sizes: Sizes) -> str:
    """``auto`` over ``auto_0_1`` for samplers of several calls a step, and for those with noise."""
    ratios = _ratios(SINGLESTEPS, sizes, False) | _ratios(STOCHASTIC, sizes, True)
    lines = [
        [name, *(mean_and_worst(ratios.get((name, n), [])) for n in sizes.calls)]
        for name in map(label, (*SINGLESTEPS, *STOCHASTIC))
    ]
    worst = worst_cells(v for row in ratios.values() for v in row)
    text = (
        "Error on `auto` divided by that on `auto_0_1`, the grid `auto` of version 0.1: geometric "
        "mean (worst). All paths, scales 0.5 and 1. Samplers of several calls a step "
        f"({', '.join(map(label, SINGLESTEPS))}): the median error over samples; problems of the "
        "check. Stochastic samplers (the others): the exact weak error on other Gaussians than "
        f"those of the fit ({', '.join(WEAK_CHECK)})."
    )
    return f"{text}\n\n{table(['sampler', *(f'{n} calls' for n in sizes.calls)], lines)}\n\n{worst}"


def both(sampler: Sampler, schedule: Schedule, nfe: int, facts: DataFacts) -> tuple[Plan, ...]:
    """The plans on ``auto`` and on the former ``auto``; none if the sampler needs more calls."""
    layout = partial(fewstep.grid, FORMER_GRID, schedule)
    found = (
        automatic(sampler, schedule, nfe, facts),
        fitting_plan(sampler, schedule, nfe, layout),
    )
    return tuple(plan for plan in found if plan is not None) if None not in found else ()


def _ratios(samplers: Sequence[Sampler], sizes: Sizes, stochastic: bool) -> Ratios:
    """Ratios of errors, now over before."""
    ratios: Ratios = {}
    pairs = list(product(sizes.paths, SCALES))
    made: Iterator[tuple[Schedule, float, Sequence[Case | WeakCase]]] = (
        weak_settings(WEAK_CHECK, pairs) if stochastic else settings(CHECK, pairs, sizes.samples)
    )
    for schedule, _, cases in made:
        for sampler, nfe, case in product(samplers, sizes.calls, cases):
            plans = both(sampler, schedule, nfe, case.facts)
            if plans:
                now, before = (case.error(plan) for plan in plans)
                value = ratio_in(case, nfe, now / before, label(sampler))
                ratios.setdefault((label(sampler), nfe), []).append(value)
    return ratios
