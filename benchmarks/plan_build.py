"""Time to build and to lower the plan of every sampler that has one, cold and memoised.

    python benchmarks/plan_build.py [--steps N] [--repeats N]

A 50-step plan must be built and lowered in less than 10 ms.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import fewstep
from fewstep.models import Denoiser, wrap
from fewstep.plans import lower
from fewstep.samplers import registry

BOUND_MS = 10.0


def milliseconds(call: Callable[[], object], before: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of ``call``; ``before`` runs ahead of each call and is not
    timed."""
    taken = []
    for _ in range(repeats):
        before()
        start = time.thread_time()
        call()
        taken.append(1e3 * (time.thread_time() - start))
    return statistics.median(taken)


def main() -> None:
    """Print one row per sampler: evaluations, time to build and to lower, by the bound, and both
    memoised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    schedule = fewstep.schedules.VPLinear()
    grid = fewstep.grid("lam", schedule, options.steps)
    den = wrap(lambda x, t: x, schedule, "eps")
    den_with_channels = fewstep.guidance.CFG(den, scale=2.0)
    print(
        f"{'sampler':24} {'nfe':>5} {'build ms':>9} {'lower ms':>9} {'x bound':>8} {'memoised':>9}"
    )
    worst = ("", 0.0)
    for name in fewstep.samplers.names():
        if registry.get(name).form == "driver":
            continue

        def build(name: str = name) -> object:
            return fewstep.plan(name, schedule, grid=grid)

        model = den_with_channels if registry.get(name).guided else den

        def lowered(name: str = name, model: Denoiser = model) -> object:
            return lower(fewstep.plan(name, schedule, grid=grid), model)

        cold = milliseconds(build, registry.forget_plans, options.repeats)
        both = milliseconds(lowered, registry.forget_plans, options.repeats)
        warm = milliseconds(lowered, lambda: None, options.repeats)
        nfe = fewstep.plan(name, schedule, grid=grid).nfe
        print(
            f"{name:28} {nfe:5d} {cold:9.2f} {both - cold:9.2f} {both / BOUND_MS:9.2f} {warm:9.4f}"
        )
        worst = max(worst, (name, both), key=lambda row: row[1])
    print(
        f"slowest: {worst[0]}, {worst[1]:.1f} ms, {worst[1] / BOUND_MS:.2f} x the bound of "
        f"{BOUND_MS:g} ms for 50 steps"
    )


if __name__ == "__main__":
    main()
