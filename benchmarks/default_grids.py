"""Sections of ``default_call`` on the grid alone: ``auto`` against named grids for one sampler, and
against ``auto`` of version 0.1 for the other kinds of samplers."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import NamedTuple, TypeAlias

import torch
from grid_measures import (
    FORMER_GRID,
    MULTISTEPS,
    NAMED,
    Case,
    Ratio,
    Sampler,
    Sizes,
    fitting_plan,
    geometric,
    label,
    mean_and_worst,
    median,
    noises,
    ratio_in,
    sampler_kind,
    settings,
    table,
    worst_cells,
)
from grid_problems import CHECK, F64, PATHS, Mix, source
from torch import Tensor

import fewstep
from fewstep.plans.plan import Plan
from fewstep.schedules import Schedule
from fewstep.schedules.grids.auto import DataFacts, Kind

#: scales at which the facts without sigma_data are tried
UNKNOWN_SCALES = (0.35, 0.5, 1.0)
FAR = 2.0
SINGLESTEPS: tuple[Sampler, ...] = (("heun", {}), ("dpmpp_2s", {}), ("dpm_solver_3", {}))
STOCHASTIC: tuple[Sampler, ...] = (
    ("dpmpp_2m_sde", {}),
    ("euler_ancestral", {}),
    ("er_sde", {}),
    ("ddpm", {}),
)
#: the part of the check that stochastic samplers are run on, and the directions of the distance
WEAK_PROBLEMS = ("round 21", "lattice", "power 0.7", "knee 2.5")
WEAK_SCALE = 0.5
WEAK_PATHS = ("sd", "edm", "flow")
DIRECTIONS, EXACT_DRAWS = 64, 16384

#: (group, calls) -> ratios
Ratios: TypeAlias = dict[tuple[str, int], list[Ratio]]


def automatic(
    sampler: Sampler, schedule: Schedule, nfe: int, kind: Kind, facts: DataFacts
) -> Plan | None:
    """The plan on grid ``auto`` for these facts."""
    layout = partial(fewstep.grid, "auto", schedule, kind=kind, facts=facts)
    return fitting_plan(sampler, schedule, nfe, layout)


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
    for path, scale in product(sizes.paths, sizes.scales):
        for schedule, _, cases in settings(CHECK, [(path, scale)], sizes.samples):
            for sampler, nfe in product(MULTISTEPS, sizes.calls):
                key = (path, label(sampler), nfe)
                named = plans.setdefault(key, []) or by_name(sampler, schedule, nfe)
                plans[key] = named
                for case in cases:
                    best = min(median(plan, case) for plan in named)
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
        f"{FAR:g}. Scale known: {', '.join(f'{s:g}' for s in sizes.scales)}, given by the model; "
        f"unknown: {', '.join(f'{s:g}' for s in UNKNOWN_SCALES)}, where 0.5 is assumed."
    )
    parts = [text, _wide("path", known, sizes), "Scale unknown:", _wide("path", unknown, sizes)]
    parts += ["Scale known, by sampler:", _wide("sampler", samplers, sizes)]
    return "\n\n".join([*parts, worst_cells(v for row in known.values() for v in row)])


def _auto(sampler: Sampler, schedule: Schedule, nfe: int, case: Case, scale: float | None) -> float:
    """The median error on grid ``auto``."""
    facts = DataFacts(scale, case.spatial)
    plan = automatic(sampler, schedule, nfe, sampler_kind(sampler), facts)
    assert plan is not None
    return median(plan, case)


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
    ratios = _singlesteps(sizes) | _weak(sizes)
    lines = [
        [name, *(mean_and_worst(ratios.get((name, n), [])) for n in sizes.calls)]
        for name in map(label, (*SINGLESTEPS, *STOCHASTIC))
    ]
    worst = worst_cells(v for row in ratios.values() for v in row)
    text = (
        "Error on `auto` divided by that on `auto_0_1`, the grid `auto` of version 0.1: geometric "
        "mean (worst). Samplers of several calls a step: the median error over samples; problems "
        "of the check, all paths, scales 0.5 and 1. Stochastic samplers: the distance of "
        f"{sizes.draws} samples to {EXACT_DRAWS} exact draws (Wasserstein-2, root mean square over "
        f"{DIRECTIONS} directions) on {', '.join(WEAK_PROBLEMS)}; paths "
        f"{', '.join(WEAK_PATHS)}, scale {WEAK_SCALE:g}. The distance of exact draws among "
        "themselves bounds it from below, so these ratios tend to 1."
    )
    return f"{text}\n\n{table(['sampler', *(f'{n} calls' for n in sizes.calls)], lines)}\n\n{worst}"


def both(sampler: Sampler, schedule: Schedule, nfe: int, facts: DataFacts) -> tuple[Plan, ...]:
    """The plans on ``auto`` and on the former ``auto``; none if the sampler needs more calls."""
    layout = partial(fewstep.grid, FORMER_GRID, schedule)
    found = (
        automatic(sampler, schedule, nfe, sampler_kind(sampler), facts),
        fitting_plan(sampler, schedule, nfe, layout),
    )
    return tuple(plan for plan in found if plan is not None) if None not in found else ()


def _singlesteps(sizes: Sizes) -> Ratios:
    ratios: Ratios = {}
    for schedule, _, cases in settings(CHECK, product(sizes.paths, (0.5, 1.0)), sizes.samples):
        for sampler, nfe, case in product(SINGLESTEPS, sizes.calls, cases):
            plans = both(sampler, schedule, nfe, case.facts)
            if plans:
                now, before = (median(plan, case) for plan in plans)
                value = ratio_in(case, nfe, now / before, label(sampler))
                ratios.setdefault((label(sampler), nfe), []).append(value)
    return ratios


def _weak(sizes: Sizes) -> Ratios:
    """Ratios of distances to exact draws."""
    ratios: Ratios = {}
    paths = [path for path in WEAK_PATHS if path in sizes.paths]
    for name in WEAK_PROBLEMS:
        mix = CHECK[name]().scaled(WEAK_SCALE)
        target = Projections.of(mix, sizes.draws)
        facts = DataFacts(WEAK_SCALE, len(mix.shape) > 1)
        for path, sampler, nfe in product(paths, STOCHASTIC, sizes.calls):
            plans = both(sampler, PATHS[path], nfe, facts)
            if plans:
                model = mix.on(PATHS[path])
                now, before = (target.distance(noisy(plan, model, sizes.draws)) for plan in plans)
                words = f"{label(sampler)}, {name}, {path}, {nfe} calls"
                value = Ratio(now / before, words)
                ratios.setdefault((label(sampler), nfe), []).append(value)
    return ratios


def noisy(plan: Plan, model: Mix, n: int) -> Tensor:
    """``n`` samples of a stochastic plan."""
    draw = source(6)

    def noise(key: object, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw, dtype=like.dtype)

    x = model.schedule.prior_scale * noises(model, n, 7)
    return fewstep.run(plan, model, x, noise=noise, check=False)


class Projections(NamedTuple):
    """Exact draws in some directions: ``quantiles`` (n, directions) at ``(i + 1/2) / n``."""

    directions: Tensor
    quantiles: Tensor

    @classmethod
    def of(cls, mix: Mix, n: int) -> Projections:
        """For a comparison with ``n`` samples."""
        exact = mix.draws(EXACT_DRAWS, source(5)).flatten(1)
        directions = torch.randn(exact.shape[1], DIRECTIONS, generator=source(8), dtype=F64)
        directions = directions / directions.norm(dim=0)
        ordered = (exact @ directions).sort(0).values
        at = (torch.arange(n, dtype=F64) + 0.5) / n * EXACT_DRAWS
        return cls(directions, ordered[at.long()])

    def distance(self, x: Tensor) -> float:
        """Wasserstein-2 distance of the projections, root mean square over directions."""
        ordered = (x.flatten(1) @ self.directions).sort(0).values
        return float((ordered - self.quantiles).square().mean().sqrt())
