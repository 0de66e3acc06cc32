"""Make ``drivers.json`` and ``drivers.npz`` from the full set of golden cases:
``python tests/golden/extract_drivers.py FOLDER``.

The runs of peers that are no fixed program: adaptive step sizes, and predictor-corrector sampling.
Their steps depend on the whole batch (a maximum, or a mean, over its samples), so that here, unlike
in ``peers.npz``, all rows are kept. FOLDER is that of ``extract.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from extract import HERE, peer, settings


def wanted(entry: dict[str, Any]) -> bool:
    """Adaptive DPM-Solver, and the predictor-corrector samplers of score_sde and azula."""
    names = (entry["sampler"], entry["settings"].get("method"))
    return entry["trusted"] and not {
        "adaptive",
        "sample_dpm_adaptive",
        "PCSampler",
        "get_pc_sampler",
    }.isdisjoint(names)


def main(folder: Path) -> None:
    """Read ``folder`` and write the two files here."""
    full = json.loads((folder / "cases_core.json").read_text(encoding="utf-8"))["cases"]
    chosen = [entry for entry in full.values() if wanted(entry)]
    kept, arrays = [], {}
    with np.load(folder / "cases_core.npz") as stored:
        for entry in chosen:
            name, start, end = entry["id"], entry["start"], entry["end"]
            kept.append(
                {
                    "id": name,
                    "peer": peer(entry),
                    "schedule": entry["schedule"],
                    "settings": settings(entry),
                    "start": [start["alpha"], start["sigma"], start["scale"]],
                    "end": [end["alpha"], end["sigma"]],
                }
            )
            arrays[f"calls/{name}"] = np.array(entry["model_calls"])
            arrays[f"out/{name}"] = stored[f"out/{name}"]
            if entry.get("n_noise"):
                arrays[f"noise/{name}"] = stored[f"noise/{name}"]
    with np.load(folder / "gmm.npz") as mixture:
        arrays |= {name: mixture[name] for name in ("means", "stds", "weights", "noise")}
    (HERE / "drivers.json").write_text(
        "[\n" + ",\n".join(json.dumps(case) for case in kept) + "\n]\n", encoding="utf-8"
    )
    np.savez_compressed(HERE / "drivers.npz", **arrays)
    print(f"{len(kept)} cases")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
