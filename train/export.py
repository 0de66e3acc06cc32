"""Writes a run's averaged weights as a model folder, and starts a run from such a folder.

``config.json`` holds the network's architecture, the EDM parameters, the names of the labels, the
training progress and, for a model of physical fields, their maps and how the data were made;
``model.safetensors`` the averaged weights in float16. A run that is resumed without its checkpoint
starts from these weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..checks import ArgumentError
from ..files import write, write_tensors
from ..models.weights import CONFIG, FORMAT, WEIGHTS, load_network
from .loop import Recipe, State
from .loss_log import read_lines

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def describe(state: State, recipe: Recipe) -> dict[str, Any]:
    """Return the contents of config.json."""
    keys = ["lr", "batch", "flip", "dropout_label", "p_mean", "p_std", "gamma"]
    keys += ["square", "weights"] if recipe.fields is not None else []
    training: dict[str, Any] = {
        "step": state.step,
        "images": state.images,
        "seconds": round(state.seconds),
    }
    made: dict[str, Any] = {}
    if recipe.fields is not None:
        made = {"fields": recipe.fields.to_list(), "data": state.provenance}
    if state.residual:
        training["residual_loss"] = state.residual
    return {
        "format": FORMAT,
        "network": state.network.config.to_dict(),
        "edm": {"sigma_data": recipe.sigma_data, "sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX},
        "labels": list(recipe.labels),
        **made,
        "training": training | {"recipe": {key: getattr(recipe, key) for key in keys}},
    }


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json."""
    write(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def export(state: State, recipe: Recipe, folder: Path) -> None:
    """Write ``folder/config.json`` and ``folder/model.safetensors`` (float16, averaged weights)."""
    tensors = {
        key: value.detach().to(torch.float16) for key, value in state.ema.state_dict().items()
    }
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    write_config(folder, describe(state, recipe))


def start_from(state: State, name_or_folder: str | Path) -> None:
    """Load ``state`` in place from an exported folder or bundled name. Raises ValueError if it
    belongs to another network."""
    loaded = load_network(name_or_folder)
    if loaded.network.config != state.network.config:
        raise ArgumentError(
            f"{str(name_or_folder)!r} holds another network: {loaded.network.config}, not "
            f"{state.network.config}"
        )
    for module in (state.network, state.ema):
        module.load_state_dict(loaded.network.state_dict())
    done = loaded.config.get("training", {})
    state.step, state.images, state.seconds = (
        done.get(key, 0) for key in ("step", "images", "seconds")
    )
    state.provenance, state.residual = loaded.config.get("data", ""), done.get("residual_loss", "")


def merge_log(source: Path, target: Path) -> None:
    """Copy the rows of loss log ``source`` to ``target``, replacing its rows from the first step of
    ``source`` on."""
    header, *new = read_lines(source)
    old = read_lines(target)[1:] if target.exists() else []
    first = min(int(row.split(",")[0]) for row in new)
    rows = [row for row in old if int(row.split(",")[0]) < first] + new
    write(target, ("\n".join([header, *rows]) + "\n").encode())
