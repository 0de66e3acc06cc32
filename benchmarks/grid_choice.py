"""Comparison of all grids on all schedules: the measurement behind grid ``"auto"``.

    python benchmarks/grid_choice.py [--write docs/grids.md] [--schedules NAME ...]

Three exact mixtures of image-like scale, data in about [-1, 1]. Every sampler and budget starts
from the same noise; its error is the RMSE of its end point to that of the converged
probability-flow ODE. A cell is one problem, sampler and budget; a grid's figure is the geometric
mean over the cells of its error divided by the least error of any grid in that cell.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from grid_problems import PROBLEMS, source
from torch import Tensor

import fewstep
from fewstep.models.exact import Exact
from fewstep.plans.plan import Plan
from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    Grid,
    GridError,
    Schedule,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
)
from fewstep.schedules.grids.auto import auto_choice

BATCH, REFERENCE_STEPS, RHO_END, RHO_START = 256, 300, 1e-5, 1e4
BUDGETS = (5, 8, 10, 20)
SAMPLERS: dict[str, dict[str, Any]] = {
    "ddim": {},
    "heun": {},
    "dpmpp_2m": {},
    "unipc": {"order": 3},
}
MULTISTEPS = ("dpmpp_2m", "unipc")
FLOW_SAMPLERS: dict[str, dict[str, Any]] = {"flow_euler": {}, "flow_heun": {}}

PLAIN = (
    "uniform",
    "lam",
    "quadratic",
    "sgm_uniform",
    "kl_optimal",
    "beta",
    "beta_t",
    "ays",
    "linear_quadratic",
)
CANDIDATES: tuple[tuple[str, dict[str, float]], ...] = (
    *((name, {}) for name in PLAIN),
    ("karras", {"rho": 7.0}),
    ("karras", {"rho": 7.0, "drop_last": True}),
    ("lam", {"drop_last": True}),
    ("polyexponential", {"power": 0.8, "drop_last": True}),
    *(("power", {"power": power, "drop_last": True}) for power in (2.0, 3.0)),
)
#: not eligible for "auto": they end at a noise level of their own, so that the error stops falling
#: with more steps
PUBLISHED = {"ays"}


def betas(first: float, last: float, root: int) -> DiscreteVP:
    """The table of 1000 noise rates whose ``root``-th roots are equally spaced."""
    return DiscreteVP.from_betas(
        (
            torch.linspace(first ** (1 / root), last ** (1 / root), 1000, dtype=torch.float64)
            ** root
        ).tolist()
    )


#: class -> its instances, whose cells are pooled
PATHS = (
    (VPLinear(),),
    (VPCosine(),),
    (VPSigmoid(),),
    (SubVP(),),
    (betas(1e-4, 0.02, 1), betas(0.00085, 0.012, 2)),
)
SCHEDULES: dict[str, tuple[Schedule, ...]] = {
    type(s[0]).__name__: s for s in (*PATHS, (VE(),), (EDM(),), (Flow(),), (Trig(),))
}


class Cell(NamedTuple):
    """One comparison of all grids."""

    schedule: str
    problem: str
    sampler: str
    nfe: int


#: cell -> grid -> error
Errors = dict[Cell, dict[str, float]]
#: schedule -> what -> why
Refused = dict[str, dict[str, str]]


def label(name: str, options: dict[str, float]) -> str:
    """A candidate as it is printed."""
    return " ".join([name, *(k if v is True else f"{k}={v:g}" for k, v in options.items())])


def rmse(a: Tensor, b: Tensor) -> float:
    """Over samples and axes."""
    return float((a - b).square().mean().sqrt())


def converged(
    make: Callable[[Schedule], Exact], schedule: Schedule, z: Tensor
) -> tuple[Tensor, float]:
    """The end point at sigma = 0 from ``prior_scale z``, and its change on doubling the steps.

    Integrated in x / alpha on sigma = rho, from min(rho(t_max), 1e4) to 1e-5. Above 1e4 the state
    is ``sigma z + alpha E[x0]``.
    """
    top = schedule.node(schedule.t_max)
    rho = min(top.rho, RHO_START)
    model = make(EDM(RHO_END, rho))
    x = (
        schedule.prior_scale * z / top.alpha
        if top.rho == rho
        else rho * z + model.predict("x0", rho * z, rho)
    )
    coarse, fine = (
        fewstep.sample(model, "dpmpp_3m", steps=n, grid="lam", x=x)
        for n in (REFERENCE_STEPS, 2 * REFERENCE_STEPS)
    )
    return fine, rmse(coarse, fine)


def measure(names: Sequence[str]) -> tuple[Errors, Refused, float]:
    """Errors by cell and grid, what each schedule refused and why, and the worst error of a
    reference."""
    errors: Errors = {}
    refused: Refused = {name: {} for name in names}
    worst = 0.0
    for name in names:
        for number, schedule in enumerate(SCHEDULES[name]):
            runs = []
            for problem, make in PROBLEMS.items():
                model = make(schedule)
                z = torch.randn(BATCH, *model.shape, generator=source(4), dtype=torch.float64)
                end, own = converged(make, schedule, z)
                worst = max(worst, own)
                runs.append((f"{problem} {number}", model, schedule.prior_scale * z, end))
            for sampler, nfe, grid, plan in plans(name, schedule, refused[name]):
                for problem, model, x, end in runs:
                    row = errors.setdefault(Cell(name, problem, sampler, nfe), {})
                    row[grid] = rmse(fewstep.run(plan, model, x), end)
    return errors, refused, worst


def plans(
    name: str, schedule: Schedule, refused: dict[str, str]
) -> Iterator[tuple[str, int, str, Plan]]:
    """Sampler, budget, grid and plan of everything that can be made; the rest goes to ``refused``
    with its reason."""
    # steps in t: on the paths they were made for
    samplers = SAMPLERS | (FLOW_SAMPLERS if name in ("Flow", "Trig") else {})
    for (grid, more), (sampler, options), nfe in product(CANDIDATES, samplers.items(), BUDGETS):
        try:
            yield (
                sampler,
                nfe,
                label(grid, more),
                widest(sampler, nfe, options, partial(fewstep.grid, grid, schedule, **more)),
            )
        except ValueError as error:
            refused.setdefault(
                label(grid, more)
                if isinstance(error, GridError)
                else f"{sampler} on {label(grid, more)}",
                str(error),
            )


def widest(sampler: str, nfe: int, options: dict[str, Any], grid: Callable[[int], Grid]) -> Plan:
    """The longest plan of at most ``nfe`` evaluations: a step takes one or two of them."""
    for steps in (nfe, (nfe + 1) // 2, nfe // 2):
        made = grid(steps)
        if (plan := fewstep.plan(sampler, made.schedule, grid=made, **options)).nfe <= nfe:
            return plan
    raise ValueError(f"{sampler} needs more than {nfe} evaluations")


def auto(name: str) -> str:
    """The grid that "auto" stands for."""
    return label(*auto_choice(SCHEDULES[name][0]))


def figures(errors: Errors, schedule: str, *parts: str | int) -> dict[str, float]:
    """Grid -> its figure on ``schedule``, of some samplers or budgets if given; grids refused in
    one of the cells are left out."""
    cells = [
        row
        for cell, row in errors.items()
        if cell.schedule == schedule and (not parts or {cell.sampler, cell.nfe} & set(parts))
    ]
    whole = [g for g in (label(*c) for c in CANDIDATES) if cells and all(g in row for row in cells)]
    return {
        g: math.exp(sum(math.log(row[g] / min(row.values())) for row in cells) / len(cells))
        for g in whole
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def choices(errors: Errors, names: Sequence[str]) -> str:
    """What "auto" is, against the next best and the worst grid, of all samplers and of the
    multisteps."""
    rows = []
    for name in names:
        others, fast = (
            ratios(figures(errors, name), auto(name)),
            ratios(figures(errors, name, *MULTISTEPS), auto(name)),
        )
        best, fit = (min(set(found) - PUBLISHED, key=found.__getitem__) for found in (others, fast))
        worst = max(others, key=others.__getitem__)
        rows.append(
            [
                name,
                auto(name),
                f"{fit}: {fast[fit]:.2f}",
                *(f"{g}: {others[g]:.2f}" for g in (best, worst)),
            ]
        )
    return table(
        [
            "schedule",
            "auto",
            "best other grid for the multisteps",
            "for all samplers",
            "worst grid",
        ],
        rows,
    )


def ratios(found: dict[str, float], own: str) -> dict[str, float]:
    """The figures of the grids that do not coincide with ``own``, over its."""
    return {g: v / found[own] for g, v in found.items() if abs(v - found[own]) > 1e-9}


def everything(errors: Errors, names: Sequence[str]) -> str:
    """All figures, the one of "auto" in bold."""
    columns = {name: figures(errors, name) for name in names}
    rows = []
    for grid in (label(*c) for c in CANDIDATES):
        cells = {
            n: f"{column[grid]:.2f}" if grid in column else "-" for n, column in columns.items()
        }
        rows.append([grid, *(f"**{v}**" if grid == auto(n) else v for n, v in cells.items())])
    return table(["grid", *names], rows)


def slices(errors: Errors, names: Sequence[str]) -> str:
    """The figure of "auto" by budget and by sampler."""
    parts = (*BUDGETS, *SAMPLERS, *FLOW_SAMPLERS)
    found = {(n, part): figures(errors, n, part).get(auto(n)) for n in names for part in parts}
    rows = [
        [n, *("-" if (v := found[n, part]) is None else f"{v:.2f}" for part in parts)]
        for n in names
    ]
    return table(["schedule", *(f"nfe {n}" for n in BUDGETS), *parts[len(BUDGETS) :]], rows)


def refusals(refused: Refused) -> str:
    """One line each."""
    return (
        "\n".join(
            f"- {name}, {what}: {why}"
            for name, whys in refused.items()
            for what, why in whys.items()
        )
        or "None."
    )


PAGE = """# The default grid, `"auto"`

Written by `python benchmarks/grid_choice.py --write docs/grids.md`; the choice is coded in
`schedules/grids/auto.py`.

Three exact models with data in about [-1, 1]: `blobs` (12 round components in 48 dimensions,
widths 0.05 to 0.3), `spectra` (4 components in 64 dimensions, widths falling as a power law from
0.5 to 0.02) and `strokes` (200 synthetic 8 x 8 pen strokes, pixel noise 0.05). {batch} states
`prior_scale z`, `final="zero"`, and budgets of {budgets} network calls. Samplers: {samplers}. The
error is the RMSE to the end point at sigma = 0 of the probability-flow ODE from the same state
(which moved by at most {own:.0e} on doubling its steps). Each number is the geometric mean, over
problems, samplers and budgets, of the error of a grid divided by the smallest error of any grid:
a grid that is always best has 1. DiscreteVP pools the tables of DDPM (linear) and Stable
Diffusion (scaled linear).

## The choice

The chosen grid, and the best other grid with the ratio of its error to that of the chosen one,
for the multistep samplers (dpmpp_2m, unipc) and for all samplers. No grid is best for both,
because `heun` needs more steps near the data than multistep samplers do. The chosen grid is
simple, and at most 30 % behind the best grid of either group. `ays` is excluded: it ends at its
own last noise level, so its error does not converge to 0.

{choices}

## All grids

{everything}

## The choice by budget and sampler

{slices}

## Refused

{refusals}
"""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, help="also write the page here")
    parser.add_argument("--schedules", nargs="+", choices=list(SCHEDULES), default=list(SCHEDULES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    errors, refused, own = measure(options.schedules)
    page = PAGE.format(
        batch=BATCH,
        budgets=", ".join(map(str, BUDGETS)),
        samplers=", ".join(label(*s) for s in SAMPLERS.items())
        + f"; on Flow and Trig {' and '.join(FLOW_SAMPLERS)} too",
        own=own,
        choices=choices(errors, options.schedules),
        everything=everything(errors, options.schedules),
        slices=slices(errors, options.schedules),
        refusals=refusals(refused),
    )
    print(page)
    if options.write:
        options.write.write_text(page, encoding="utf-8")
    print(f"{time.process_time():.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
