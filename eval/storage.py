"""Statistics files: exact, strict, never unpickled.

``.npz`` holds ``mu`` (q,) and ``sigma`` (q, q), the names of EDM, pytorch-fid and clean-fid, and beside them ``format``, ``count`` (-1: no
count) and ``provenance`` (JSON). ``.safetensors`` holds the tensors, and the rest as JSON in the metadata ``statistics``. A file of
another tool, with ``mu`` and ``sigma`` only, is read as moments without count and provenance.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import ScoreError
from .moments import FeatureStats, Provenance

FORMAT = "fewstep-stats-1"
SUFFIXES = (".npz", ".safetensors")


def data_hash(values: Any) -> str:
    """SHA-256 of an array's dtype, shape and bytes: what ``Provenance.data`` says of a data set in memory."""
    array = np.ascontiguousarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.data)
    return digest.hexdigest()


def save_stats(stats: FeatureStats, path: str | Path) -> None:
    """Write to ``path`` (.npz or .safetensors), under a temporary name first. The same statistics give the same bytes."""
    path = Path(path)
    _suffix(path)
    temporary = path.with_name(path.name + ".tmp")
    facts = {
        "format": FORMAT,
        "count": str(-1 if stats.count is None else stats.count),
        "provenance": json.dumps(asdict(stats.provenance), sort_keys=True),
    }
    mean, cov = stats.mean.cpu().contiguous(), stats.cov.cpu().contiguous()
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {key: np.array(value) for key, value in facts.items()}
        with temporary.open("wb") as file:
            np.savez(file, mu=mean.numpy(), sigma=cov.numpy(), **arrays)
    else:
        save_file({"mu": mean, "sigma": cov}, temporary, metadata={"statistics": json.dumps(facts)})  # one key: several come in any order
        os.chmod(temporary, 0o644)
    temporary.replace(path)


def load_stats(path: str | Path) -> FeatureStats:
    """Read what ``save_stats`` wrote, to the last bit, or another tool's ``mu`` and ``sigma``. Raises ScoreError for anything else."""
    path = Path(path)
    _suffix(path)
    if not path.is_file():
        raise ScoreError(f"no statistics at {str(path)!r}")
    arrays, facts = (_npz if path.suffix == ".npz" else _safetensors)(path)
    if set(arrays) != {"mu", "sigma"}:
        raise ScoreError(f"{str(path)!r} holds {sorted(arrays)}; statistics are 'mu' and 'sigma'")
    try:
        count, provenance = _facts(facts)
        return FeatureStats.from_moments(arrays["mu"], arrays["sigma"], count, provenance)
    except ScoreError as error:
        raise ScoreError(f"{str(path)!r}: {error}") from error


def _suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ScoreError(f"{path.name!r}: statistics are kept in {' or '.join(SUFFIXES)} files")


def _facts(facts: Mapping[str, str]) -> tuple[int | None, Provenance]:
    """Count and provenance; nothing is known of a file without ``format``."""
    if not facts:
        return None, Provenance()
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or set(facts) != {"format", "count", "provenance"}:
        raise ScoreError(f"format {facts.get('format')!r} with {sorted(facts)}; wanted {FORMAT!r} with count and provenance")
    try:
        count, provenance = int(facts["count"]), json.loads(facts["provenance"])
        return (None if count == -1 else count), Provenance(**provenance)
    except (ValueError, TypeError) as error:
        raise ScoreError(f"count or provenance cannot be read: {error}") from error


def _npz(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, BadZipFile, AttributeError, TypeError, EOFError) as error:
        raise ScoreError(f"{str(path)!r} is not an npz file of plain arrays: {error}") from error
    facts = {key: str(value) for key, value in found.items() if value.dtype.kind == "U" and value.ndim == 0}
    numbers = {key: value for key, value in found.items() if key not in facts}
    if any(value.dtype.kind != "f" for value in numbers.values()):
        raise ScoreError(f"{str(path)!r}: statistics are floating point arrays")
    return {key: torch.from_numpy(value) for key, value in numbers.items()}, facts


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("statistics", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ScoreError(f"{str(path)!r} is not a readable safetensors file: {error}") from error
