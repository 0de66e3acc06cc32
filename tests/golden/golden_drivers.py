"""Runs of peers whose steps depend on the data: what ``golden/extract_drivers.py`` kept, with all
rows of the batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from golden_cases import FOLDER, Point
from torch import Tensor

from fewstep.models import GaussianMixture
from fewstep.schedules import Schedule


@dataclass(frozen=True)
class Coupled:
    """One run: ``calls`` are the levels of its model evaluations, ``noise`` (draws, 16, 8) what it
    drew, ``out`` (16, 8) its result."""

    id: str
    peer: str
    schedule: str
    settings: dict[str, Any]
    start: Point
    end: Point
    x: Tensor
    calls: tuple[Point, ...]
    noise: Tensor
    out: Tensor


@lru_cache(maxsize=1)
def _arrays() -> dict[str, Any]:
    with np.load(FOLDER / "drivers.npz") as stored:
        return {name: stored[name] for name in stored.files}


@lru_cache(maxsize=1)
def coupled() -> dict[str, Coupled]:
    """All runs by id."""
    data, found = _arrays(), {}
    for entry in json.loads((FOLDER / "drivers.json").read_text(encoding="utf-8")):
        name, (alpha, sigma, scale) = entry["id"], entry["start"]
        found[name] = Coupled(
            **{key: entry[key] for key in ("id", "peer", "schedule", "settings")},
            start=Point(alpha, sigma),
            end=Point(*entry["end"]),
            x=torch.from_numpy(data["noise"]) * scale,
            calls=tuple(Point(*map(float, pair)) for pair in data[f"calls/{name}"]),
            noise=torch.from_numpy(data.get(f"noise/{name}", np.empty((0, 16, 8)))),
            out=torch.from_numpy(data[f"out/{name}"]),
        )
    return found


def exact_model(schedule: Schedule, prediction: str) -> GaussianMixture:
    """The mixture of the golden cases on ``schedule``."""
    data = _arrays()
    return GaussianMixture(data["means"], data["stds"], data["weights"], schedule, prediction)
