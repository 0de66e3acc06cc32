"""Steering without gradients on the bundled models: the pictures and the table of docs/steering.md.

    python docs/examples/steering_pictures.py [--only jpeg logit] [--write]

    jpeg    photographs that compress well: the reward is the size of the JPEG file
    logit   digits that a classifier sees as a 3, drawn without a label: the reward is its margin

Each method draws one sample for each of 8 seeds, with 16 particles. The table has the mean reward
of these samples, how different they are from each other, and the cost. Some minutes on two cores.
``--write`` writes docs/steering/*.png, and the table of the page.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import fewstep
from fewstep import guidance as G
from fewstep.jobs import pictures
from fewstep.models.classifier import load_classifier

DOCS = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- figures of docs/examples/steering_pictures.py -->", "<!-- end of the figures -->"
SEEDS, PARTICLES, STEPS = range(8), 16, 20


class Task(NamedTuple):
    """A model, a reward, its unit in the table, and the temperature of the methods that have
    one."""

    model: str
    reward: Callable[[], G.Reward]
    unit: str
    temperature: float


def jpeg_bytes(images: list[Image.Image]) -> list[float]:
    """Minus the bytes of each picture as a JPEG file of quality 75."""
    sizes = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=75)
        sizes.append(-float(file.tell()))
    return sizes


def margin() -> G.Reward:
    """The logit of a 3 less the largest other one."""
    classifier = load_classifier("mnist")[0]

    def rate(x: Tensor) -> Tensor:
        logits = classifier(x)
        return logits[:, 3] - torch.cat([logits[:, :3], logits[:, 4:]], dim=1).amax(1)

    return G.Reward(rate)


TASKS = {
    "jpeg": Task("cifar10", lambda: G.Reward(jpeg_bytes, takes="pil"), "bytes", 10.0),
    "logit": Task("mnist", margin, "margin", 0.3),
}
#: row -> method and its options; ``temperature`` stands for that of the task
ROWS: dict[str, dict[str, Any]] = {
    "no reward": {"method": "best_of_n", "particles": 1},
    "best of 16": {"method": "best_of_n"},
    "SMC": {"method": "smc", "temperature": True},
    "SVDD": {"method": "svdd", "temperature": True},
    "SCG": {"method": "scg"},
    "DSearch": {"method": "dsearch"},
}


def run(task: Task, row: str) -> tuple[Tensor, Any]:
    """The samples of a row and what the run tells of itself."""
    given = {"particles": PARTICLES, **ROWS[row]}
    if given.pop("temperature", False):
        given["temperature"] = task.temperature
    return G.steer(
        fewstep.models.load(task.model),
        task.reward(),
        sampler="ddim",
        sampler_options={"eta": 1.0},
        steps=STEPS,
        seeds=SEEDS,
        batch=64,
        **given,
    )


def spread(x: Tensor) -> float:
    """Root mean square difference of two samples, over the elements."""
    flat = x.flatten(1)
    return float(torch.pdist(flat).square().mean().div(flat.shape[1]).sqrt())


def sheet(rows: list[Tensor]) -> Image.Image:
    """Rows of pictures, each twice as large."""
    lines = []
    for row in rows:
        framed = np.pad(pictures.to_pixels(row.numpy()), ((0, 0), (1, 1), (1, 1), (0, 0)))
        lines.append(np.concatenate(list(framed), 1))
    pixels = np.concatenate(lines, 0).repeat(2, 0).repeat(2, 1)
    image = pictures.picture(pixels).convert("RGB")
    return image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)


def made(name: str) -> tuple[list[str], list[Tensor]]:
    """The lines of the table and the pictures of a task."""
    task, lines, rows = TASKS[name], [], []
    for row in ROWS:
        x, info = run(task, row)
        assert info.rows == info.predicted.rows
        reward = float(info.rewards.mean())
        lines.append(
            f"| {name} | {row} | {reward:.4g} | {spread(x):.2f} | {info.rows // len(SEEDS)} | "
            f"{info.reward_rows // len(SEEDS)} |"
        )
        print(lines[-1], f"{info.seconds:.0f} s", flush=True)
        rows.append(x)
    return lines, rows


def main() -> None:
    """Read the command line, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--write", action="store_true", help="write the pictures and the table")
    args = parser.parse_args()
    table = [
        "| task | method | mean reward | spread | network rows a sample | rewards a sample |",
        "|---|---|---|---|---|---|",
    ]
    for name in args.only:
        lines, rows = made(name)
        table += lines
        if args.write:
            (DOCS / "steering").mkdir(exist_ok=True)
            (DOCS / "steering" / f"{name}.png").write_bytes(pictures.png(sheet(rows)))
    if args.write and set(args.only) == set(TASKS):
        page = DOCS / "steering.md"
        text = page.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END, 1)[1]
        body = "\n".join(table)
        page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
