"""Fields drawn by the bundled model of Darcy flow: docs/training/darcy_samples.png.

    python docs/examples/darcy_pictures.py

Eight samples of the seeds 0 to 7, not selected, 18 network calls each. Rows: the coefficient, the
solution, and the solver's solution for the nearest admissible coefficient.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import fewstep
from fewstep.eval.physics import darcy

OUT = Path(__file__).resolve().parent.parent / "training" / "darcy_samples.png"
SEEDS, NFE, GAP, LARGEST = 8, 18, 2, 0.0165


def drawn() -> list[torch.Tensor]:
    """The rows of the picture, each (8, 64, 64) in [0, 1]."""
    den = fewstep.models.load("darcy")
    x = fewstep.sample(den, sampler="dpmpp_2m", nfe=NFE, n=SEEDS, seed=0)
    fields = fewstep.models.fields_of("darcy").physical(x.double())
    spacing = {"x": 1 / 63, "y": 1 / 63}
    solved = darcy.solve({"a": darcy.nearest_phase(fields["a"])}, spacing, {})["u"]
    error = (fields["u"] - solved).flatten(1).norm(dim=1) / solved.flatten(1).norm(dim=1)
    print("relative L2:", " ".join(f"{e:.3f}" for e in error.tolist()))
    return [(fields["a"] - 2.0) / 11.0, fields["u"] / LARGEST, solved / LARGEST]


def sheet(rows: list[torch.Tensor]) -> Image.Image:
    """All fields side by side, twice enlarged, dark where they are small."""
    n, size = len(rows[0]), rows[0].shape[1]
    step = size + GAP
    page = np.full((len(rows) * step - GAP, n * step - GAP), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, field in enumerate(row.clamp(0.0, 1.0)):
            pixels = (255.0 * field).round().to(torch.uint8).numpy()
            page[r * step : r * step + size, c * step : c * step + size] = pixels
    image = Image.fromarray(page)
    return image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)


if __name__ == "__main__":
    sheet(drawn()).save(OUT, optimize=True)
