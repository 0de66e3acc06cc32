"""Time to build the plan of every sampler that has one, cold and memoised.

    python benchmarks/plan_build.py [--steps N] [--repeats N]

A 50-step plan must be built in less than 10 ms.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import fewstep
from fewstep.samplers import registry

BOUND_MS = 10.0


def milliseconds(call: Callable[[], object], before: Callable[[], object], repeats: int) -> float:
    """Return the median time of ``call``; ``before`` runs ahead of each call and is not timed."""
    taken = []
    for _ in range(repeats):
        before()
        start = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def main() -> None:
    """Print one row per sampler: evaluations, cold and memoised time, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    schedule = fewstep.schedules.VPLinear()
    grid = fewstep.grid("lam", schedule, options.steps)
    print(
        f"{'sampler':24} {'nfe':>5} {'cold ms':>9} {'x bound':>8} {'memoised ms':>12} "
        f"{'cold / memoised':>16}"
    )
    worst = ("", 0.0)
    for name in fewstep.samplers.names():
        if registry.get(name).form == "driver":
            continue

        def build(name: str = name) -> object:
            return fewstep.plan(name, schedule, grid=grid)

        cold = milliseconds(build, registry.forget_plans, options.repeats)
        warm = milliseconds(build, lambda: None, options.repeats)
        nfe = fewstep.plan(name, schedule, grid=grid).nfe
        print(
            f"{name:24} {nfe:5d} {cold:9.2f} {cold / BOUND_MS:8.2f} {warm:12.4f} "
            f"{cold / warm:16.0f}"
        )
        worst = max(worst, (name, cold), key=lambda row: row[1])
    print(
        f"slowest: {worst[0]}, {worst[1]:.1f} ms, {worst[1] / BOUND_MS:.2f} x the bound of "
        f"{BOUND_MS:g} ms for 50 steps"
    )


if __name__ == "__main__":
    main()
