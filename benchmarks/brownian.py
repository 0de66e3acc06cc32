"""Time of the noise of one step: an increment of the Brownian path and plain seeded noise of the
same shape, side by side.

    python benchmarks/brownian.py [--steps 50] [--repeat 7]

The queries are those of a sampler: one increment a step, in order, on a grid between half log-SNR
-5 and 5 that contains no node of the tree. The two alternate within every step; the time of a step
is the minimum over the repeats.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import torch

from fewstep.engine.paths import LamPath
from fewstep.fused.noise.seeded import SeededNoise


def measure(
    steps: int, repeat: int, tol: float, batch: int, shape: tuple[int, ...], levy: bool
) -> tuple[float, float]:
    """Return the milliseconds per step of the path and of plain noise."""
    lams = [-5.013 + 9.98 * k / steps for k in range(steps + 1)]
    like, plain = torch.empty(batch, *shape), SeededNoise(tuple(range(batch)))
    best = [[float("inf")] * steps, [float("inf")] * steps]
    for _ in range(repeat):
        path = LamPath(tuple(range(batch)), tol=tol)
        for k, (s, t) in enumerate(pairwise(lams)):
            marks = [time.perf_counter()]
            path(s, t, like) if levy else path.unit(s, t, like)
            marks.append(time.perf_counter())
            plain(k, like)
            marks.append(time.perf_counter())
            for row, began, ended in zip(best, marks, marks[1:], strict=False):
                row[k] = min(row[k], ended - began)
    return 1e3 * sum(best[0]) / steps, 1e3 * sum(best[1]) / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("query    steps  tol    path ms  plain ms  ratio")
    for levy, steps, power in [
        (False, 20, 8),
        (False, 50, 8),
        (False, 20, 10),
        (False, 50, 10),
        (True, 50, 8),
    ]:
        path, plain = measure(steps, args.repeat, 2.0**-power, args.batch, (3, 64, 64), levy)
        print(
            f"{'W and H' if levy else 'W':8} {steps:5}  2^-{power:<3} {path:7.2f}  "
            f"{plain:8.2f}  {path / plain:5.2f}"
        )


if __name__ == "__main__":
    main()
