"""Tuned plans against the best untuned ones on exact mixtures, on noises that no fit has seen.

    python benchmarks/tuned_plans.py                       # all paths, 5, 8, 10 and 20 calls
    python benchmarks/tuned_plans.py --paths edm --nfe 5 --out plans
    python benchmarks/tuned_plans.py --problems 1 2 3      # mixtures drawn from these seeds

Every cell is one ``fewstep.tune`` with its defaults. The ends that the errors are measured from are
those of ``grid_measures.converged``, which the tuning does not use: it fits the plans to its own
converged trajectories. ``peers`` is the median error of the best of 14 samplers of other toolkits
in all their settings, over the 16 golden noises (``default_mixtures.PEERS``). ``ratio`` is the
median of the tuned plan over the least other median of its row.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import product
from pathlib import Path
from typing import NamedTuple

from default_mixtures import GOLDEN_CALLS, PEERS, rmse
from grid_measures import Case, case, geometric, table
from grid_problems import PATHS, Mix, golden, round_components
from torch import Tensor

import fewstep
from fewstep.engine.automatic import facts_of
from fewstep.eval.benchmark.settings import fitted, named_options
from fewstep.plans.plan import Plan

#: noises of the comparison, and their seed
FRESH, SEED = 2048, 4321
UNTUNED, TUNED = ("untuned", "p90", "flips"), ("tuned", "p90", "flips")
HEAD = ("problem", "path", "calls", "peers", *UNTUNED, *TUNED, "ratio", "seconds")
#: the problem of tests/golden
GOLDEN = "golden"


class Errors(NamedTuple):
    """Median, 90th percentile, and share of samples that end at another component."""

    median: float
    p90: float
    flips: float


def measured(plan: Plan, made: Case, home: Tensor) -> Errors:
    """The errors of a plan."""
    end = fewstep.run(plan, made.model, made.state)
    errors = rmse(end, made)
    flips = float((made.model.nearest(end) != home).double().mean())  # type: ignore[union-attr]
    return Errors(float(errors.median()), float(errors.quantile(0.9)), flips)


def untuned_plan(name: str, made: Case, nfe: int) -> Plan:
    """The plan that a report names, such as ``unipc:order=3 on karras``."""
    sampler, grid = map(named_options, name.split(" on "))
    facts = facts_of(made.model)
    return fitted(sampler, grid, made.model.schedule, nfe, facts=facts).plan()


def problem(name: str) -> Mix:
    """The golden mixture, or the one drawn from the seed ``name``."""
    return golden()[0] if name == GOLDEN else round_components(int(name))


def cell(
    name: str, path: str, nfe: int, budget: float, what: str, out: Path | None
) -> list[object]:
    """A row of the table."""
    mix = problem(name)
    made = case(path, 1.0, name, mix, FRESH, SEED)
    home = mix.nearest(made.end)
    tuned = fewstep.tune(made.model, nfe, what=what, budget=budget)
    if out is not None:
        tuned.save(out / f"{name}-{path}-{nfe}.json")
    untuned = untuned_plan(str(tuned.report["untuned"]), made, nfe)
    peers = dict(zip(GOLDEN_CALLS, PEERS[path], strict=True)).get(nfe) if name == GOLDEN else None
    before, now = (measured(plan, made, home) for plan in (untuned, tuned.plan))
    row: list[object] = [name, path, nfe, "-" if peers is None else peers]
    for errors in (before, now):
        row += [errors.median, errors.p90, f"{100 * errors.flips:.2g} %"]
    best = min(before.median, math.inf if peers is None else peers)
    return [*row, now.median / best, tuned.report["seconds"]]


def main() -> None:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="+", default=[GOLDEN], help="golden, or seeds")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=list(PATHS))
    parser.add_argument("--nfe", nargs="+", type=int, default=[5, 8, 10, 20])
    parser.add_argument("--budget", type=float, default=300.0, help="seconds a plan")
    parser.add_argument("--what", default="all")
    parser.add_argument("--out", type=Path, help="folder of the plan files")
    args = parser.parse_args()
    rows = []
    for name, path, nfe in product(args.problems, args.paths, args.nfe):
        rows.append(cell(name, path, nfe, args.budget, args.what, args.out))
        print(json.dumps(rows[-1]), flush=True)
    ratios = [float(str(row[-2])) for row in rows]
    print(f"\n{table(HEAD, rows)}\n")
    print(f"tuned over best untuned: geometric mean {geometric(ratios):.3f}, ", end="")
    print(f"largest {max(ratios):.3f}")


if __name__ == "__main__":
    main()
