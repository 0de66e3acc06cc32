"""Import time of ``fewstep``, of its main functions, and of ``torch`` for comparison, each in a new
interpreter.

    python benchmarks/import_time.py [--repeats N]

Importing the main functions (``fewstep.sample``, the exact models, every sampler) must take less
than 1.2 times ``import torch``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

STATEMENTS = {
    "import torch": "import torch",
    "import fewstep": "import fewstep",
    "main functions": "import fewstep; fewstep.sample, fewstep.models, fewstep.samplers",
}
BOUND = 1.2


def seconds(statement: str) -> float:
    """Return the seconds that ``statement`` takes in a new interpreter, without its start-up."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return float(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )


def main() -> None:
    """Time all statements in turn and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    for statement in STATEMENTS.values():
        seconds(statement)  # warms the disk cache
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(repeats):  # in turn, so that a busy moment falls on all alike
        for name, statement in STATEMENTS.items():
            taken[name].append(seconds(statement))
    torch = statistics.median(taken["import torch"])
    print(f"{'statement':16} {'median ms':>10} {'x torch':>8}")
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"{name:16} {1e3 * median:10.1f} {median / torch:8.3f}")
    print(f"bound for the main functions: {BOUND} x torch")


if __name__ == "__main__":
    main()
