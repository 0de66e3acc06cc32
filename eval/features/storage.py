"""Statistics files: exact, strict, never unpickled.

``.npz`` holds ``mu`` (q,) and ``sigma`` (q, q), the names of EDM, pytorch-fid and clean-fid, and
beside them ``format``, ``count`` (-1: no count) and ``provenance`` (JSON). ``.safetensors`` holds
the tensors, and the rest as JSON in the metadata ``statistics``. Either may hold ``features`` (n,
q) float32 too, of all the samples or of some, for the metrics that moments do not give. A file of
another tool, with ``mu`` and ``sigma`` only, is read as moments without count and provenance.
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
    """SHA-256 of an array's dtype, shape and bytes: what ``Provenance.data`` says of a data set in
    memory."""
    if isinstance(values, Tensor):
        tensor("values", values, floating=False, error=ScoreError)
        values = values.detach().cpu()
        values = (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()
    array = np.ascontiguousarray(values)
    if array.dtype.hasobject or not array.size:
        raise ScoreError(f"values={shown(values)}: an array of numbers is wanted")
    return sha256(f"{array.dtype.str} {array.shape}", array)


def save_stats(stats: FeatureStats, path: str | Path, features: Tensor | None = None) -> None:
    """Write to ``path`` (.npz or .safetensors), whole or not at all. The same statistics give the
    same bytes. ``features`` (n, q) are kept beside them, in float32."""
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
    """``path`` as a Path. Raises ScoreError for what is none."""
    try:
        return Path(path)
    except TypeError:
        raise ScoreError(f"path={shown(path)}: the name of a file is wanted") from None


def load_stats(path: str | Path) -> FeatureStats:
    """Read what ``save_stats`` wrote, to the last bit, or another tool's ``mu`` and ``sigma``.
    Raises ScoreError for anything else."""
    arrays, facts = _read(path_of(path), ("mu", "sigma"))
    try:
        count, provenance = _facts(facts)
        return FeatureStats.from_moments(arrays["mu"], arrays["sigma"], count, provenance)
    except ScoreError as error:
        raise ScoreError(f"{str(path)!r}: {error}") from error


def load_features(path: str | Path) -> Tensor | None:
    """The features that a statistics file keeps, (n, q) float32; None where it keeps none. Raises
    ScoreError."""
    found = _read(path_of(path), ("features",))[0].get("features")
    if found is not None and (
        found.ndim != 2 or not found.numel() or not bool(torch.isfinite(found).all())
    ):
        raise ScoreError(
            f"{str(path)!r}: features must be (n, q) and finite, got {tuple(found.shape)}"
        )
    return found


def _read(path: Path, keys: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The arrays of these names, and the facts, of a file that holds nothing but statistics."""
    _suffix(path)
    if not path.is_file():
        raise ScoreError(f"no statistics at {str(path)!r}")
    names, arrays, facts = (_npz if path.suffix == ".npz" else _safetensors)(path, keys)
    if names - {"features"} != {"mu", "sigma"}:
        raise ScoreError(
            f"{str(path)!r} holds {sorted(names)}; statistics are 'mu' and 'sigma' (and 'features')"
        )
    if any(not value.is_floating_point() for value in arrays.values()):
        raise ScoreError(f"{str(path)!r}: statistics are floating point arrays")
    return arrays, facts


def _suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ScoreError(f"{path.name!r}: statistics are kept in {' or '.join(SUFFIXES)} files")


def _facts(facts: dict[str, Any] | None) -> tuple[int | None, Provenance]:
    """Count and provenance; nothing is known of a file without facts (None)."""
    if facts is None:
        return None, Provenance()
    wanted = ("format", "count", "provenance")
    if not all(isinstance(value, str) for value in facts.values()):
        raise ScoreError(f"its facts must be the texts {', '.join(wanted)}")
    if facts.get("format") != FORMAT or set(facts) != set(wanted):
        raise ScoreError(
            f"format {facts.get('format')!r} with {sorted(facts)}; wanted {FORMAT!r} with "
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
            raise ScoreError(unknown("fact of provenance", key, known))
    return (None if count == -1 else count), Provenance(**provenance)


def _object(value: Any) -> dict[str, Any]:
    """A JSON object. ScoreError for any other JSON."""
    if not isinstance(value, dict):
        raise ScoreError(f"a JSON object is wanted, found {type(value).__name__}")
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
