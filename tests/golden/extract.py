"""Make ``peers.json`` and ``peers.npz`` from the full set of golden cases:
``python tests/golden/extract.py FOLDER``.

FOLDER holds ``cases_core.json``, ``cases_core.npz`` and ``gmm.npz``. Kept are the trusted cases
that have a recipe, and of each only what a replay needs, for the first rows of the batch (rows are
independent). Cases without a recipe are counted, with the reason.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from golden_cases import Case, Point  # noqa: E402
from golden_recipes import LeftOut, recipe  # noqa: E402

ROWS = 8
#: settings of diffusers that say which schedule it is, which the case says already
SCHEDULE_SETTINGS = {"beta_start", "beta_end", "beta_schedule", "schedule"}
NOTHING = torch.empty(0)


def settings(entry: dict[str, Any]) -> dict[str, Any]:
    """The peer's settings as one flat dict."""
    given = dict(entry["settings"])
    flat = {**given.pop("config", {}), **given.pop("step_kwargs", {})}
    given.pop("set_timesteps_kwargs", None)  # where the nodes are is known from the model calls
    return {
        name: value
        for name, value in {**flat, **given}.items()
        if name not in SCHEDULE_SETTINGS and value is not None
    }


def peer(entry: dict[str, Any]) -> str:
    """Its repository's name."""
    return str(entry["peer"].split("@")[0].split(" ")[0].split("/")[-1])


def slim(entry: dict[str, Any]) -> dict[str, Any]:
    """The JSON part of a case."""
    start, end = entry["start"], entry["end"]
    return {
        "id": entry["id"],
        "peer": peer(entry),
        "sampler": entry["sampler"],
        "schedule": entry["schedule"],
        "settings": settings(entry),
        "start": [start["alpha"], start["sigma"], start["scale"]],
        "end": [end["alpha"], end["sigma"]],
        "calls": len(entry["model_calls"]),
        **({"draws": entry["n_noise"]} if entry.get("n_noise") else {}),
    }


def probe(kept: dict[str, Any], calls: list[list[float]]) -> Case:
    """A case without its arrays, enough to ask for a recipe."""
    *start, scale = kept["start"]
    names = ("id", "peer", "sampler", "schedule", "settings")
    points = tuple(Point(*call) for call in calls)
    return Case(
        *(kept[name] for name in names),
        Point(*start),
        scale,
        Point(*kept["end"]),
        points,
        NOTHING,
        NOTHING,
    )


def main(folder: Path) -> None:
    """Read ``folder`` and write the two files here."""
    full = json.loads((folder / "cases_core.json").read_text(encoding="utf-8"))
    left: Counter[str] = Counter()
    kept, calls, out, noise = [], [], [], []
    with np.load(folder / "cases_core.npz") as stored:
        for entry in full["cases"].values():
            if not entry["trusted"]:
                continue
            case = slim(entry)
            try:
                recipe(probe(case, entry["model_calls"]))
            except LeftOut as reason:
                left[f"{case['peer']}: {reason}"] += 1
                continue
            kept.append(case)
            calls.extend(entry["model_calls"])
            out.append(stored[f"out/{entry['id']}"][:ROWS])
            if "draws" in case:
                noise.extend(stored[f"noise/{entry['id']}"][:, :ROWS])
    versions = {
        name: version
        for name, version in full["meta"]["peers"].items()
        if name in {case["peer"].lower() for case in kept}
    }
    lines = ",\n".join(json.dumps(case) for case in kept)
    head = json.dumps({"peers": versions, "left_out": dict(sorted(left.items()))}, indent=1)[:-2]
    (HERE / "peers.json").write_text(f'{head},\n "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    with np.load(folder / "gmm.npz") as mixture:
        parameters = {name: mixture[name] for name in ("means", "stds", "weights")} | {
            "start": mixture["noise"][:ROWS]
        }
    np.savez_compressed(
        HERE / "peers.npz",
        calls=np.array(calls),
        out=np.stack(out),
        noise=np.stack(noise),
        **parameters,
    )
    print(f"{len(kept)} cases kept, {sum(left.values())} left out")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
