"""Write solutions of an equation to an npz file, as training data or a test set.

    python -m fewstep.eval.physics.dataset darcy --n 20000 --size 64 --seed 100000 --out darcy.npz

The file holds each field (n, [T,] space) in physical units, float32, and ``provenance``, a text
that ``fewstep.train`` copies to the model's ``config.json``. Sample i depends on ``seed + i`` and
the size only.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...checks import integer
from ...checks.commands import guarded, tell
from ...files import write
from . import EQUATIONS
from .equation import Equation, equation_named

#: samples drawn at a time
BLOCK = 256


def fields_of_seeds(
    equation: Equation,
    n: int,
    size: int,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, np.ndarray]:
    """Return the fields of ``equation.draw``, drawn in blocks, each (n, [T,] space) float32."""
    parts: dict[str, list[np.ndarray]] = {}
    for first in range(0, n, BLOCK):
        count = min(BLOCK, n - first)
        for name, value in equation.draw(count, size, seed + first).fields.items():
            parts.setdefault(name, []).append(value.float().numpy())
        report(f"{first + count} of {n}")
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def write_dataset(name: str, n: int, size: int, seed: int, out: Path) -> None:
    """Write the file. Raises ArgumentError for an unknown equation and bad numbers."""
    n, size = integer("--n", n, 1), integer("--size", size, 6)
    arrays = fields_of_seeds(equation_named(name), n, size, integer("--seed", seed, 0), tell)
    text = (
        f"fewstep.eval.physics.{name}.draw, {size} points an axis, seeds {seed} .. "
        f"{seed + n - 1}, stored as float32"
    )
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, provenance=np.array(text))
    write(out, buffer.getvalue())


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m fewstep.eval.physics.dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("equation", help=", ".join(EQUATIONS))
    p.add_argument("--n", type=int, required=True, help="number of solutions")
    p.add_argument("--size", type=int, default=64, help="points an axis (default 64)")
    p.add_argument("--seed", type=int, default=0, help="of the first solution (default 0)")
    p.add_argument("--out", type=Path, required=True, help="the npz file")
    return p


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    write_dataset(args.equation, args.n, args.size, args.seed, args.out)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return guarded(
        lambda: run(parser().parse_args(argv)),
        "fewstep.eval.physics.dataset",
        process=argv is None,
    )


if __name__ == "__main__":
    sys.exit(main())
