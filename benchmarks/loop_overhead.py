"""Time per step of the loop with a network that costs nothing, here and in another checkout.

    python benchmarks/loop_overhead.py [--against FOLDER] [--steps 100] [--rounds 7]

FOLDER is a checkout of another commit, a folder with the name fewstep. Both run in processes of
their own, which alternate; a time is the processor time of ``fewstep.run`` by the number of steps,
the minimum over the runs and rounds, on a state of 64 elements and one thread.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

#: sampler -> what it shows
SAMPLERS = ("ddim", "dpmpp_2m", "unipc", "dpmpp_2m_sde")
WORK = """
import sys, time, torch, fewstep
steps, names = int(sys.argv[1]), sys.argv[2:]
torch.set_num_threads(1)
den = fewstep.models.wrap(lambda x, t: x.clone(), fewstep.schedules.VPLinear(), "eps", shape=(64,))
x = torch.ones(1, 64)
for name in names:
    plan = fewstep.plan(name, den.schedule, steps=steps, grid="lam")
    noise = (lambda key, like: x) if plan.stochastic else None
    best = float("inf")
    for _ in range(15):
        began = time.process_time()
        fewstep.run(plan, den, x, noise=noise)
        best = min(best, time.process_time() - began)
    print(name, 1e6 * best / steps)
"""
ROOT = Path(__file__).resolve().parent.parent


def microseconds(checkout: Path, steps: int) -> dict[str, float]:
    """Time per step of each sampler in a checkout."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(steps), *SAMPLERS],
        env={**os.environ, "PYTHONPATH": str(checkout.resolve().parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def main() -> None:
    """Print one row per sampler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    checkouts = [ROOT, *([options.against] if options.against else [])]
    best: list[dict[str, float]] = [{} for _ in checkouts]
    for _ in range(options.rounds):
        for checkout, known in zip(checkouts, best, strict=True):
            for name, value in microseconds(checkout, options.steps).items():
                known[name] = min(value, known.get(name, float("inf")))
    print(f"{'sampler':16} {'here us':>9} {'there us':>9} {'ratio':>6}")
    for name in SAMPLERS:
        here, *there = (known[name] for known in best)
        other = f" {there[0]:9.2f} {here / there[0]:6.3f}" if there else ""
        print(f"{name:16} {here:9.2f}{other}", flush=True)


if __name__ == "__main__":
    main()
