"""Time of seeded noise and of Brownian paths against ``torch.randn``.

    python benchmarks/noise.py [--threads 1] [--rounds 15] [--write docs/step.md]

    independent  the noise of one step, ``SeededNoise``
    path, W      the increment of one step of a grid of 20 from half log-SNR -5 to 5, ``LamPath``
    path, W, H   the same with its space-time integral

``randn`` makes a tensor of the same shape. It and both backends alternate in one process; a time is
the minimum over the rounds, that of a path the mean of the minima over its steps. ``--write`` puts
the table between the markers of a page.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from fewstep.engine.paths import LamPath
from fewstep.fused import SeededNoise, noise_backend
from fewstep.fused.noise.native import KERNEL

BEGIN, END = "<!-- table of benchmarks/noise.py -->", "<!-- end of the table of noise -->"
SHAPES = ((1, 4, 64, 64), (4, 4, 128, 128), (16, 3, 256, 256))
STEPS = 20
LAMS = [-5.013 + 9.98 * k / STEPS for k in range(STEPS + 1)]
SPANS = list(pairwise(LAMS))
KINDS = ("independent", "path, W", "path, W, H")
#: draws one step of a run
Draw = Callable[[int], object]


def drawn_by(kind: str, like: Tensor) -> Draw:
    """The noise of step k of a run of our own."""
    seeds = tuple(range(len(like)))
    if kind == "independent":
        noise = SeededNoise(seeds)
        return lambda k: noise(k, like)
    path = LamPath(seeds)
    if kind == "path, W":
        return lambda k: path.unit(*SPANS[k], like)
    return lambda k: path(*SPANS[k], like)


def row(kind: str, shape: tuple[int, ...], rounds: int) -> str:
    """One line of the table."""
    like = torch.empty(shape)
    best = {name: [math.inf] * STEPS for name in ("randn", *KERNEL.backends)}
    for _ in range(rounds):
        draws: dict[str, Draw] = {"randn": lambda k: torch.randn(shape)}
        draws |= {name: drawn_by(kind, like) for name in KERNEL.backends}
        for k in range(STEPS):
            for name, draw in draws.items():
                with noise_backend("numpy" if name == "randn" else name):
                    began = time.perf_counter()
                    draw(k)
                    best[name][k] = min(best[name][k], time.perf_counter() - began)
    mean = {name: sum(times) / STEPS for name, times in best.items()}
    size = "x".join(map(str, shape))
    ratios = " | ".join(f"{mean[name] / mean['randn']:.2f}" for name in KERNEL.backends)
    return f"| {kind} | {size} | {ratios} |"


def main() -> None:
    """Print the table, and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path, help="a page with the markers of the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [
        "| noise | size | " + " | ".join(KERNEL.backends) + " |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for shape in SHAPES:
        rounds = options.rounds if math.prod(shape) < 1 << 20 else max(3, options.rounds // 5)
        for kind in KINDS:
            lines.append(row(kind, shape, rounds))
            print(lines[-1], flush=True)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        head, tail = text.split(BEGIN)[0], text.split(END, 1)[1]
        body = "\n".join(lines)
        options.write.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
