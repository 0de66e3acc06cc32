"""The fit behind grid ``"auto"``: which center and spread of the grid ``logistic`` to take.

    python benchmarks/grid_choice.py [--kinds multistep "multistep guided" ...]
        [--spaces vector spatial] [--calls N ...] [--samples N] [--settings N]

Problems ``FIT`` of ``grid_problems``, on the ``SETTINGS`` (path, scale of the data). A cell is a
problem, setting, sampler and number of calls; its error is the median over the samples of the RMSE
to the converged end, and that of stochastic samplers the exact weak error of ``grid_weak``. The
figure of a pair (center, spread) is the geometric mean over the cells of its error divided by the
least error of any searched pair in that cell: 1 would be a pair that is best everywhere. The
searched pairs are used as they are; the rule's pair is that of the grid, after its adjustment at
the least level of the path. ``default_call.py --only fit`` writes the tables to docs/grids.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple, TypeAlias

import torch
from grid_measures import (
    Measured,
    Sampler,
    automatic,
    fitting_plan,
    geometric,
    label,
    sampler_kind,
    settings,
    table,
)
from grid_problems import FIT, WEIGHTS, Guided, Mix, Problem
from grid_weak import WEAK_FIT, weak_settings

import fewstep
from fewstep.plans.plan import Plan
from fewstep.schedules import Schedule
from fewstep.schedules.grids.auto import DataFacts, auto_options

CENTERS = (0.45, 0.7, 1.1, 1.7, 2.7, 4.5, 7.0)
SPREADS = (1.0, 1.3, 1.6, 2.0)
CALLS = (5, 8, 10, 20)
#: group, by the keys of the rule -> its samplers
SAMPLERS: Mapping[str, tuple[Sampler, ...]] = {
    "multistep": (
        ("ipndm", {"order": 2}),
        ("ipndm", {"order": 3}),
        ("ghvb", {"order": 2.5}),
        ("deis", {"order": 3}),
    ),
    "multistep guided": (("ipndm", {"order": 2}), ("ipndm", {"order": 3})),
    "multistep_x0": (
        ("dpmpp_2m", {}),
        ("unipc", {"order": 2}),
        ("unipc", {"order": 3}),
        ("dpmpp_3m", {}),
    ),
    "multistep_x0 guided": (("dpmpp_2m", {}), ("unipc", {"order": 2})),
    "singlestep": (("heun", {}), ("dpm_solver_3", {})),
    "singlestep_x0": (("dpmpp_2s", {}), ("dpmpp_3s", {})),
    "stochastic": (
        ("dpmpp_2m_sde", {}),
        ("dpmpp_3m_sde", {}),
        ("euler_ancestral", {}),
        ("er_sde", {}),
        ("sa_solver", {}),
        ("dpmpp_sde", {}),  # seeds_2 has the same errors on Gaussians
    ),
}
#: what of ``FIT`` is guided
GUIDED = ("round 1", "widths 16", "power 0.5", "low frequencies")
TITLES: Mapping[str, str] = {
    "multistep": "Multistep samplers on eps or v",
    "multistep guided": "Multistep samplers on eps or v, guided models",
    "multistep_x0": "Multistep samplers on x0",
    "multistep_x0 guided": "Multistep samplers on x0, guided models",
    "singlestep": "Singlestep samplers on eps",
    "singlestep_x0": "Singlestep samplers on x0",
    "stochastic": "Stochastic samplers",
}
SPACES = {"vector": False, "spatial": True}
SETTINGS: tuple[tuple[str, float], ...] = (
    ("sd", 1.0),
    ("ddpm", 0.5),
    ("edm", 2.0),
    ("flow", 1.0),
)
#: the best pairs that are printed
PRINTED = 3


class Pair(NamedTuple):
    """Options of the grid ``logistic``."""

    center: float
    spread: float

    def __str__(self) -> str:
        return f"{self.center:.3g}, {self.spread:.3g}"


class Cell(NamedTuple):
    """What all pairs are compared on."""

    calls: int
    sampler: str
    setting: tuple[str, float]
    problem: str


class Row(NamedTuple):
    """The errors of a cell: with the rule's pair, and with the searched ones. ``listed``: the
    rule's pair before its adjustment at the least level of the path."""

    listed: Pair
    pair: Pair
    rule: float
    searched: dict[Pair, float]

    @property
    def best(self) -> float:
        """The least error of a searched pair."""
        return min(self.searched.values())


Errors: TypeAlias = dict[Cell, Row]
PAIRS = [Pair(center, spread) for center, spread in product(CENTERS, SPREADS)]


def problems(group: str, spatial: bool) -> dict[str, Callable[[], Problem]]:
    """The problems of a group of samplers and a kind of data."""
    mixes = {name: make for name, make in FIT.items() if (len(make().shape) > 1) == spatial}
    if not group.endswith(" guided"):
        return dict(mixes)
    names = [name for name in mixes if name in GUIDED]
    return {f"{n}, w {w:g}": partial(guided, mixes[n], w) for n, w in product(names, WEIGHTS)}


def guided(make: Callable[[], Mix], w: float) -> Guided:
    """A problem guided with the weight ``w``."""
    return Guided(make(), w)


def measure(
    group: str, spatial: bool, calls: Sequence[int], samples: int, most_settings: int
) -> Errors:
    """The errors of all pairs in all cells of a group of samplers and a kind of data."""
    errors: Errors = {}
    pairs = SETTINGS[:most_settings]
    made: Iterator[tuple[Schedule, float, Sequence[Measured]]] = (
        weak_settings(WEAK_FIT[spatial], pairs)
        if group == "stochastic"
        else settings(problems(group, spatial), pairs, samples)
    )
    for schedule, scale, cases in made:
        facts = DataFacts(scale, spatial, guided=group.endswith(" guided"))
        for sampler, nfe in product(SAMPLERS[group], calls):
            assert sampler_kind(sampler) == group.removesuffix(" guided")
            _fill(errors, schedule, facts, cases, sampler, nfe)
    return errors


def _fill(
    errors: Errors,
    schedule: Schedule,
    facts: DataFacts,
    cases: Sequence[Measured],
    sampler: Sampler,
    nfe: int,
) -> None:
    """Add the cells of one sampler and budget."""
    own = automatic(sampler, schedule, nfe, facts)
    if own is None:
        return
    plans = {pair: _plan(pair, schedule, facts, sampler, nfe) for pair in PAIRS}
    listed, rule = _rule(sampler, schedule, own.steps, facts)
    for case in cases:
        cell = Cell(nfe, label(sampler), (case.path, case.scale), case.problem)
        searched = {pair: case.error(plan) for pair, plan in plans.items()}
        errors[cell] = Row(listed, rule, case.error(own), searched)


def _rule(sampler: Sampler, schedule: Schedule, steps: int, facts: DataFacts) -> tuple[Pair, Pair]:
    """The rule's pair before and after its adjustment."""
    kind = sampler_kind(sampler)
    ends = (schedule.rho(schedule.t_max), schedule.rho(schedule.t_min))
    found = (auto_options(steps, kind, facts), auto_options(steps, kind, facts, ends))
    before, after = (Pair(options["center"], options["spread"]) for options in found)
    return before, after


def _plan(pair: Pair, schedule: Schedule, facts: DataFacts, sampler: Sampler, nfe: int) -> Plan:
    layout = partial(
        fewstep.grid, "logistic", schedule, sigma_data=facts.sigma_data, **pair._asdict()
    )
    plan = fitting_plan(sampler, schedule, nfe, layout)
    assert plan is not None
    return plan


def choices(errors: Errors) -> str:
    """By number of calls: the rule's pair and the best of the searched ones, with their figures;
    in brackets the largest adjustment of the rule's pair."""
    lines = []
    for calls in budgets(errors):
        rows = [row for cell, row in errors.items() if cell.calls == calls]
        own = " or ".join(dict.fromkeys(str(row.listed) for row in rows))
        moved = max((row.pair for row in rows if row.pair != row.listed), default=None)
        own += "" if moved is None else f" (up to {moved})"
        figure = geometric(row.rule / row.best for row in rows)
        found = [(geometric(row.searched[p] / row.best for row in rows), p) for p in PAIRS]
        best = (f"{pair}: {f:.2f}" for f, pair in sorted(found)[:PRINTED])
        lines.append([calls, f"{own}: {figure:.2f}", *best])
    order = ["best", *(f"no. {n}" for n in range(2, PRINTED + 1))]
    return table(["calls", "rule", *order], lines)


def budgets(errors: Errors) -> list[int]:
    """The numbers of calls, rising."""
    return sorted({cell.calls for cell in errors})


def rivals(errors: Errors) -> str:
    """By number of calls: the error of every sampler on the rule's grid, divided by that of the
    best sampler in the cell; geometric means."""
    names = list(dict.fromkeys(cell.sampler for cell in errors))
    lines = []
    for calls in budgets(errors):
        groups: dict[Cell, dict[str, float]] = {}
        for cell, row in errors.items():
            if cell.calls == calls:
                groups.setdefault(cell._replace(sampler=""), {})[cell.sampler] = row.rule
        lines.append(
            [
                calls,
                *(
                    geometric(g[name] / min(g.values()) for g in groups.values() if name in g)
                    for name in names
                ),
            ]
        )
    return table(["calls", *names], lines)


def report(
    kinds: Sequence[str] = tuple(SAMPLERS),
    spaces: Sequence[str] = tuple(SPACES),
    calls: Sequence[int] = CALLS,
    samples: int = 32,
    most_settings: int = len(SETTINGS),
) -> str:
    """The tables of the fit."""
    parts = []
    for kind, space in product(kinds, spaces):
        errors = measure(kind, SPACES[space], calls, samples, most_settings)
        samplers = ", ".join(label(sampler) for sampler in SAMPLERS[kind])
        cells = sum(cell.calls == calls[0] for cell in errors)
        text = f"{cells} cells a row" if cells else "no cells at the first budget"
        parts.append(f"### {TITLES[kind]}, {space} data\n\n{samplers}; {text}.")
        parts += [choices(errors), "The samplers on the rule's grid:", rivals(errors)]
    return "\n\n".join(parts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--calls", nargs="+", type=int, default=CALLS)
    parser.add_argument("--samples", type=int, default=32, help="start noises of a cell")
    parser.add_argument("--settings", type=int, default=len(SETTINGS), help="the first N of them")
    o = parser.parse_args()
    torch.set_num_threads(1)
    print(report(o.kinds, o.spaces, o.calls, o.samples, o.settings))


if __name__ == "__main__":
    main()
