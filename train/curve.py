"""Plots a loss log with two logarithmic axes: ``python -m fewstep.train.curve
docs/training/mnist.csv docs/training/mnist_loss.png``.

The log's columns are step, images, seconds, lr, loss, as written by the training loop.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..checks import ArgumentError
from ..checks.commands import guarded
from .loss_log import read_lines

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 16, 34, 44
INK, GRID, LINE = (30, 30, 30), (222, 222, 222), (31, 98, 180)


def read_log(path: Path) -> tuple[list[float], list[float]]:
    """Return the images seen and the loss of every row."""
    rows = list(csv.DictReader(read_lines(path)))
    return [float(row["images"]) for row in rows], [float(row["loss"]) for row in rows]


def ticks(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2, 5 times powers of ten between ``low`` and ``high``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def place(value: float, low: float, high: float, start: float, end: float) -> float:
    """Return the position of ``value`` between the pixels ``start`` and ``end`` of a logarithmic
    axis."""
    return start + (end - start) * math.log(value / low) / math.log(high / low)


def draw(images: list[float], loss: list[float], title: str) -> Image.Image:
    """Draw the curve as an image. Raises ValueError for fewer than two rows."""
    if len(loss) < 2:
        raise ArgumentError(f"the log must have at least two rows; it has {len(loss)}")
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    (x0, x1), (y0, y1) = (min(images), max(images)), (min(loss) / 1.1, max(loss) * 1.1)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in ticks(x0, x1):
        x = place(tick, x0, x1, LEFT, right)
        pen.line((x, TOP, x, bottom), fill=GRID)
        pen.text(
            (x, bottom + 5),
            f"{tick / 1e6:g}M" if tick >= 1e6 else f"{tick / 1e3:g}k",
            fill=INK,
            font=font,
            anchor="mt",
        )
    for tick in ticks(y0, y1):
        y = place(tick, y0, y1, bottom, TOP)
        pen.line((LEFT, y, right, y), fill=GRID)
        pen.text((LEFT - 6, y), f"{tick:g}", fill=INK, font=font, anchor="rm")
    points = [
        (place(a, x0, x1, LEFT, right), place(b, y0, y1, bottom, TOP))
        for a, b in zip(images, loss, strict=True)
    ]
    pen.line(points, fill=LINE, width=2, joint="curve")
    pen.rectangle((LEFT, TOP, right, bottom), outline=INK)
    pen.text((LEFT, TOP - 8), title, fill=INK, font=font, anchor="ls")
    pen.text(
        ((LEFT + right) / 2, HEIGHT - 6), "training images seen", fill=INK, font=font, anchor="mb"
    )
    return picture


def main(argv: list[str]) -> int:
    """Run the command; its arguments are the log and the image to write."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    log = Path(argv[0])
    draw(*read_log(log), f"{log.stem}: EDM training loss").save(argv[1], optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), "fewstep.train.curve"))
