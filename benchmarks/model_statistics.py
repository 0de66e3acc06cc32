"""DPM-Solver-v3 without statistics, with one number for all coordinates, and with one for each, on
the golden mixture.

    python benchmarks/model_statistics.py
    python benchmarks/model_statistics.py --paths edm --nfe 5

The statistics are those of ``fewstep.engine.model_statistics`` with its defaults. A figure is the
median error over fresh noises of the best of all orders, correctors and ``GRIDS``, from the ends of
``grid_measures.converged``; below it the 90th percentile of the same plan.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from typing import Any

from default_mixtures import rmse
from grid_measures import Case, case, geometric, table
from grid_problems import PATHS, golden

import fewstep
from fewstep.engine import model_statistics
from fewstep.engine.tuning.statistics_search import choices

#: noises, and their seed
FRESH, SEED = 2048, 4321
GRIDS = ("auto", "lam", "karras")
WAYS = ("none", "one number", "each coordinate")


def best(made: Case, nfe: int, sampler: str, given: dict[str, Any]) -> tuple[float, float, str]:
    """Median and 90th percentile of the best choice, and that choice."""
    found = []
    for options, grid in product(choices(), GRIDS):
        end = fewstep.sample(
            made.model, sampler, steps=nfe, grid=grid, x=made.state, **options, **given
        )
        errors = rmse(end, made)
        words = ",".join(f"{k}={v}" for k, v in options.items())
        found.append((float(errors.median()), float(errors.quantile(0.9)), f"{words} on {grid}"))
    return min(found)


def cell(path: str, nfe: int, made: Case) -> list[object]:
    """A row of the table."""
    statistics = model_statistics(made.model)
    row: list[object] = [path, nfe]
    for way in WAYS:
        sampler = "dpm_solver_v3_elementwise" if way == WAYS[2] else "dpm_solver_v3"
        given = {} if way == WAYS[0] else {"statistics": statistics}
        row += best(made, nfe, sampler, given)[:2]
    return row


def main() -> None:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=["vp_linear", "edm"])
    parser.add_argument("--nfe", nargs="+", type=int, default=[5, 8, 10])
    args = parser.parse_args()
    mix, _ = golden()
    rows = []
    for path in args.paths:
        made = case(path, 1.0, "golden", mix, FRESH, SEED)
        for nfe in args.nfe:
            rows.append(cell(path, nfe, made))
            print(json.dumps(rows[-1]), flush=True)
    head = ("path", "calls", *(word for way in WAYS for word in (way, "p90")))
    print(f"\n{table(head, rows)}\n")
    for k, way in ((4, WAYS[1]), (6, WAYS[2])):
        ratios = [float(str(row[k])) / float(str(row[2])) for row in rows]
        print(f"{way} / none: geometric mean {geometric(ratios):.3f}")


if __name__ == "__main__":
    main()
