"""Section of ``default_call`` on the bundled networks: the default call against that of version
0.1."""

from __future__ import annotations

import torch
from grid_measures import FORMER_GRID, FORMER_SAMPLER, Sizes, table
from torch import Tensor

import fewstep
from fewstep.fused.noise.seeded import SeededNoise, seeds_from
from fewstep.guidance import CFG
from fewstep.models import BaseDenoiser

NETWORKS = ("mnist", "cifar10")
GUIDED, WEIGHTS = "mnist", (3.0, 7.5)
#: steps of a converged run; its grid is logistic with these options, and sigma_data 0.5
STEPS, CENTER, SPREAD = 120, 2.5, 1.8


def fine(denoiser: BaseDenoiser, x: Tensor, labels: Tensor | None) -> Tensor:
    """The converged end."""
    grid = fewstep.grid(
        "logistic", denoiser.schedule, STEPS, sigma_data=0.5, center=CENTER, spread=SPREAD
    )
    plan = fewstep.plan("dpmpp_3m", denoiser.schedule, grid=grid)
    return fewstep.run(plan, denoiser, x, cond=labels)


def compared(name: str, denoiser: BaseDenoiser, sizes: Sizes) -> list[list[object]]:
    """A row for each number of calls: median and 90th percentile of the error, before and now."""
    assert denoiser.shape is not None
    noise = SeededNoise(seeds_from(sizes.first_seed, sizes.images))
    z = noise.start(denoiser.shape, torch.device("cpu"), torch.float32)
    x = denoiser.schedule.prior_scale * z
    labels = torch.arange(sizes.images) % denoiser.classes if denoiser.classes else None
    end = fine(denoiser, x, labels)
    lines = []
    for nfe in sizes.calls:
        ends = (
            fewstep.sample(denoiser, FORMER_SAMPLER, nfe=nfe, grid=FORMER_GRID, x=x, cond=labels),
            fewstep.sample(denoiser, nfe=nfe, x=x, cond=labels),
        )
        found = [(e - end).square().flatten(1).mean(1).sqrt() for e in ends]
        before, now = ((float(e.median()), float(e.quantile(0.9))) for e in found)
        ratios = [f"{b / a:.2f}" for a, b in zip(before, now, strict=True)]
        lines.append([name, nfe, *before, *now, *ratios])
    return lines


def networks_section(sizes: Sizes) -> str:
    """The bundled networks by labels, and one of them guided."""
    lines = []
    for name in NETWORKS:
        lines += compared(name, fewstep.models.load(name), sizes)
    for w in WEIGHTS:
        model = CFG(fewstep.models.load(GUIDED), w)
        lines += compared(f"{GUIDED}, w = {w:g}", model, sizes)
    text = (
        f"RMSE to a converged run (dpmpp_3m, {STEPS} steps) of {sizes.images} images with the "
        f"seeds {sizes.first_seed} and up, labels in turn; w: guided by the labels. Median and "
        "90th percentile over the images."
    )
    head = ["model", "calls"]
    head += [f"{what} {when}" for when in ("before", "now") for what in ("median", "p90")]
    return f"{text}\n\n{table([*head, 'ratio', 'ratio of p90'], lines)}"
