"""The pictures and the table of docs/guidance.md: the bundled models under guidance.

    python docs/examples/guidance_pictures.py docs/guidance

draws one row of samples for each setting, with the same seeds and classes, into OUT/MODEL.png.
With ``--samples 1000`` it also scores that many samples of each setting against the training set
and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import fewstep

NFE = 10
#: row -> arguments of ``fewstep.jobs.generate``
ROWS: dict[str, dict[str, Any]] = {
    "w = 1": {},
    "CFG, w = 1.5": {"guidance": "cfg", "guidance_scale": 1.5},
    "CFG, w = 2": {"guidance": "cfg", "guidance_scale": 2.0},
    "CFG, w = 3": {"guidance": "cfg", "guidance_scale": 3.0},
    "CFG, w = 4": {"guidance": "cfg", "guidance_scale": 4.0},
    "CFG, w = 4, rho in (0.2, 2)": {
        "guidance": "cfg",
        "guidance_scale": 4.0,
        "guidance_interval": "0.2,2",
    },
    "APG, w = 4": {
        "guidance": "apg",
        "guidance_scale": 4.0,
        "guidance_option": {"eta": 0.0, "norm": 5.0, "momentum": -0.5},
    },
    "CFG++, l = 0.6": {"guidance": "cfg", "guidance_scale": 0.6, "sampler": "euler_cfg_pp"},
    "CFG++, l = 1": {"guidance": "cfg", "guidance_scale": 1.0, "sampler": "euler_cfg_pp"},
}
COLUMNS = 10


def settings(row: str) -> dict[str, Any]:
    """The arguments of a row, with a named sampler and grid, so that rows differ in guidance only
    (CFG++ is a sampler)."""
    return {"sampler": "dpmpp_2m", "grid": "karras", "nfe": NFE, "batch": 100, **ROWS[row]}


def picture(model: str, out: Path, zoom: int) -> None:
    """Write one row of samples for each setting to ``out``/``model``.png."""
    rows = []
    for row in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            given = {**settings(row), "batch": COLUMNS, "labels": "cycle"}
            made = fewstep.jobs.generate(model, Path(folder) / "x", seeds=range(COLUMNS), **given)
            rows.append([Image.open(file).convert("RGB") for file in made.files])
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (COLUMNS * (width + 2) - 2, len(rows) * (height + 2) - 2), "white")
    for j, images in enumerate(rows):
        for i, image in enumerate(images):
            sheet.paste(image, (i * (width + 2), j * (height + 2)))
    sheet = sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
    sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
        out / f"{model}.png", optimize=True
    )


def table(model: str, samples: int) -> str:
    """The scores of each setting as a table in Markdown."""
    lines = [
        "| setting | FD (95 % interval) | precision | recall |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        result = fewstep.jobs.score(
            model=model,
            seeds=range(samples),
            metrics="fd,precision,recall",
            resamples=50,
            **settings(row),
        )
        fd, precision, recall = (result[name] for name in ("fd", "precision", "recall"))
        lines.append(
            f"| {row} | {fd.value:.3g} ({fd.low:.3g} to {fd.high:.3g}) | {precision.value:.3f} | "
            f"{recall.value:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, write the pictures, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--samples", type=int, default=0, help="score so many samples of each row")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for model in args.models:
        picture(model, args.out, 2)
        if args.samples:
            print(f"\n{model}, {args.samples} samples\n\n{table(model, args.samples)}", flush=True)


if __name__ == "__main__":
    main()
