"""Files of statistics: ``.npz`` or ``.safetensors``, exact, validated, never unpickled.

``.npz`` holds ``mu`` (q,) and ``sigma`` (q, q), the names of EDM, pytorch-fid and clean-fid, with
``format``, ``count`` (-1: no count) and ``provenance`` (JSON). ``.safetensors`` holds the tensors,
and the rest as JSON in the metadata key ``statistics``. Either may hold ``features`` (n, q)
float32 of all or some samples, for metrics that need more than moments. Files of other tools with
``mu`` and ``sigma`` only are read as moments without count and provenance.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...checks import ArgumentError, instance, parse_json, shown, tensor, unknown
from ...files import sha256, write_tensors, writing
from ...files.arrays import npz_header, npz_names, read_npz
from ..errors import ScoreError
from ..metrics.matrices import matrix
from .moments import FeatureStats, Provenance

FORMAT = "fewstep-stats-1"
SUFFIXES = (".npz", ".safetensors")


def data_hash(values: Any) -> str:
    """SHA-256 of an array's dtype, shape and bytes: the value of ``Provenance.data`` for a data set
    in memory."""
    if isinstance(values, Tensor):
        tensor("values", values, floating=False, error=ScoreError)
        values = values.detach().cpu()
        values = (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()
    array = np.ascontiguousarray(values)
    if array.dtype.hasobject or not array.size:
        raise ScoreError(f"values={shown(values)}: must be an array of numbers")
    return sha256(f"{array.dtype.str} {array.shape}", array)


def save_stats(stats: FeatureStats, path: str | Path, features: Tensor | None = None) -> None:
    """Write statistics to ``path`` (.npz or .safetensors), whole or not at all; equal statistics
    give equal bytes. ``features`` (n, q) are stored with them in float32."""
    instance("stats", stats, FeatureStats, "FeatureStats")
    path = path_of(path)
    _suffix(path)
    kept = (
        {}
        if features is None
        else {"features": matrix(features).to(torch.float32).cpu().contiguous()}
    )
    if kept and kept["features"].shape[1] != stats.dim:
        raise ScoreError(
            f"features {tuple(kept['features'].shape)} beside statistics of {stats.dim} dimensions"
        )
    facts = {
        "format": FORMAT,
        "count": str(-1 if stats.count is None else stats.count),
        "provenance": json.dumps(asdict(stats.provenance), sort_keys=True),
    }
    mean, cov = stats.mean.cpu().contiguous(), stats.cov.cpu().contiguous()
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {key: np.array(value) for key, value in facts.items()}
        arrays |= {key: value.numpy() for key, value in kept.items()}
        with writing(path) as file:
            np.savez(file, mu=mean.numpy(), sigma=cov.numpy(), **arrays)
    else:
        about = {"statistics": json.dumps(facts)}  # one key: several come in any order
        write_tensors(path, {"mu": mean, "sigma": cov, **kept}, about)


def path_of(path: Any) -> Path:
    """``path`` as a Path. ScoreError for a value that is not a path."""
    try:
        return Path(path)
    except TypeError:
        raise ScoreError(f"path={shown(path)}: must be the name of a file") from None


def load_stats(path: str | Path) -> FeatureStats:
    """Read statistics that ``save_stats`` wrote (bit-exact), or another tool's ``mu`` and
    ``sigma``. Raises ScoreError for anything else."""
    arrays, facts = _read(path_of(path), ("mu", "sigma"))
    try:
        count, provenance = _facts(facts)
        return FeatureStats.from_moments(arrays["mu"], arrays["sigma"], count, provenance)
    except ScoreError as error:
        raise ScoreError(f"{str(path)!r}: {error}") from error


def load_features(path: str | Path) -> Tensor | None:
    """The features in a statistics file, (n, q) float32; None where it holds none. Raises
    ScoreError for a damaged file."""
    found = _read(path_of(path), ("features",))[0].get("features")
    if found is not None and (
        found.ndim != 2 or not found.numel() or not bool(torch.isfinite(found).all())
    ):
        raise ScoreError(
            f"{str(path)!r}: features must be (n, q) and finite, got {tuple(found.shape)}"
        )
    return found


def _read(path: Path, keys: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The arrays named ``keys``, and the metadata. ScoreError for a file with other contents."""
    _suffix(path)
    if not path.is_file():
        raise ScoreError(f"no statistics at {str(path)!r}")
    names, arrays, facts = (_npz if path.suffix == ".npz" else _safetensors)(path, keys)
    if names - {"features"} != {"mu", "sigma"}:
        raise ScoreError(
            f"{str(path)!r} holds {sorted(names)}; it must hold 'mu' and 'sigma' (and 'features')"
        )
    if any(not value.is_floating_point() for value in arrays.values()):
        raise ScoreError(f"{str(path)!r}: statistics must be floating point")
    return arrays, facts


def _suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ScoreError(f"{path.name!r}: files of statistics end in {' or '.join(SUFFIXES)}")


def _facts(facts: dict[str, Any] | None) -> tuple[int | None, Provenance]:
    """Count and provenance from the metadata; both unknown for None."""
    if facts is None:
        return None, Provenance()
    wanted = ("format", "count", "provenance")
    if not all(isinstance(value, str) for value in facts.values()):
        raise ScoreError(f"its metadata must be the texts {', '.join(wanted)}")
    if facts.get("format") != FORMAT or set(facts) != set(wanted):
        raise ScoreError(
            f"format {facts.get('format')!r} with {sorted(facts)}; must be {FORMAT!r} with "
            "count and provenance"
        )
    try:
        count, provenance = (
            int(facts["count"]),
            _object(parse_json(facts["provenance"], "provenance")),
        )
    except ValueError as error:
        raise ScoreError(f"count or provenance cannot be read: {error}") from error
    known = [item.name for item in fields(Provenance)]
    for key in provenance:
        if key not in known:
            raise ScoreError(unknown("field of provenance", key, known))
    return (None if count == -1 else count), Provenance(**provenance)


def _object(value: Any) -> dict[str, Any]:
    """A JSON object. ScoreError for any other JSON."""
    if not isinstance(value, dict):
        raise ScoreError(f"must be a JSON object, found {type(value).__name__}")
    return value


def _npz(
    path: Path, keys: tuple[str, ...]
) -> tuple[set[str], dict[str, Tensor], dict[str, Any] | None]:
    try:
        names = npz_names(path)
        others = [name for name in names if name not in ("mu", "sigma", "features")]
        texts = [
            name
            for name in others
            if (found := npz_header(path, name)).dtype.kind == "U" and not found.shape
        ]
        read = read_npz(path, (*keys, *texts))
        facts = {name: str(read[name]) for name in texts}
        arrays = {key: torch.from_numpy(read[key]) for key in keys if key in read}
        return set(names) - set(facts), arrays, facts or None
    except (ValueError, OSError, TypeError) as error:
        raise ScoreError(f"{str(path)!r} is not an npz file of plain arrays: {error}") from error


def _safetensors(
    path: Path, keys: tuple[str, ...]
) -> tuple[set[str], dict[str, Tensor], dict[str, Any] | None]:
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("statistics")
            facts = None if text is None else _object(parse_json(text, "its metadata 'statistics'"))
            names = set(file.keys())
            return names, {key: file.get_tensor(key) for key in keys if key in names}, facts
    except ArgumentError as error:
        raise ScoreError(f"{str(path)!r}: {error}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ScoreError(f"{str(path)!r} is not a readable safetensors file: {error}") from error
