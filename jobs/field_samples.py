"""Samples that are physical fields: a folder of ``generate``, npz files of channels, or npz files
of fields in physical units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..checks import ArgumentError, unknown
from ..files import file_hash, read_json
from ..files.arrays import npz_names, read_npz
from ..files.listing import list_files

if TYPE_CHECKING:
    from ..eval.physics.equation import Problem
    from ..models.field_maps import FieldMaps

#: the array of channels in an npz file, and of 8-bit pictures
CHANNELS, PICTURES = "x", ("image", "jpeg")


@dataclass(frozen=True, eq=False)
class FieldSamples:
    """Samples in physical units.

    Attributes:
        problem: fields, and the spacing and parameters that the files hold.
        name: for people.
        model: the model that drew them, where the folder says so.
        maps: of the channels; None for files of physical fields.
    """

    problem: Problem
    name: str
    model: str | None
    maps: FieldMaps | None

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.problem.fields.values())))

    def stored(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``fields`` rounded as the samples are: through the channels where they are channels, else
        in the samples' dtype."""
        if self.maps is None:
            own = self.problem.fields
            return {k: v.to(own[k].dtype) if k in own else v for k, v in fields.items()}
        from ..eval.physics.storage import joined

        parts = {}
        for m in self.maps.maps:
            stem, _, part = m.name.rpartition(".")
            parts[m.name] = getattr(fields[stem], part) if stem else fields[m.name]
        return joined(self.maps.physical(self.maps.channels(parts).float().double()))


def field_samples(
    source: str | Path,
    names: Sequence[str] | None = None,
    maps: Mapping[str, tuple[float, float]] | None = None,
) -> FieldSamples:
    """Read samples.

    ``names`` are the fields of the channels in order, ``maps`` field -> (scale, shift) with
    ``channel = scale value + shift``; default those of the model that drew the samples.

    Raises ArgumentError for folders without samples, 8-bit pictures, files that differ from the
    manifest, channels that no one names, and names for files of physical fields.
    """
    files, model = _files(Path(source))
    kinds = {npz_names(path) for path in files}
    held = set().union(*kinds)
    if not held.isdisjoint(PICTURES):
        raise ArgumentError(_pictures(source))
    if len({frozenset(kind) for kind in kinds}) > 1:
        raise ArgumentError(f"{str(source)!r}: the npz files hold different arrays: {sorted(held)}")
    if CHANNELS in held:
        channels = _maps(names, maps, model, str(source))
        problem = _of_channels(files, channels)
    else:
        if names or maps:
            raise ArgumentError(
                f"{str(source)!r} holds the physical fields {sorted(held)}, not channels: leave "
                "out fields and field_map"
            )
        channels, problem = None, _of_fields(files)
    if not problem.fields:
        raise ArgumentError(f"{str(source)!r} holds no fields, only {sorted(held)}")
    return FieldSamples(problem, str(source), model, channels)


def _files(path: Path) -> tuple[list[Path], str | None]:
    """The npz files in order, and the model where a manifest names it."""
    if path.is_file():
        return [path], None
    if not path.is_dir():
        raise ArgumentError(f"{str(path)!r} is neither a folder nor a file")
    manifest = path / "manifest.json"
    if manifest.is_file():
        found = read_json(manifest)
        model = found.get("model")
        return _of_manifest(path, found), model if isinstance(model, str) else None
    if (path / "blocks").exists():
        raise ArgumentError(
            f"{str(path)!r} is a folder of `fewstep generate` that is not finished: run the same "
            "command again"
        )
    files, left = list_files(path, {".npz"})
    if not files:
        raise ArgumentError(f"{str(path)!r} holds no npz files; {left.text()}".rstrip("; "))
    return files, None


def _of_manifest(root: Path, manifest: Mapping[str, Any]) -> list[Path]:
    """The files that a manifest lists, checked by their hashes."""
    rows = manifest.get("samples")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise ArgumentError(f"{str(root / 'manifest.json')!r} lists no samples")
    hashes = {str(row.get("file")): row.get("sha256") for row in rows}
    for name, wanted in hashes.items():
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()):
            raise ArgumentError(f"the manifest of {str(root)!r} names {name!r}, outside of it")
        if path.suffix != ".npz":
            raise ArgumentError(_pictures(root))
        if not path.is_file() or file_hash(path) != wanted:
            raise ArgumentError(f"{str(path)!r} is missing or is not the file of the manifest")
    return [root / name for name in hashes]


def _pictures(source: object) -> str:
    return (
        f"{str(source)!r} holds pictures of 256 grey levels, whose rounding a residual multiplies "
        "by 1/h^2: give samples in floating point, npz files with the channels `x`, or with the "
        "fields by name (fewstep.eval.physics.save_fields)"
    )


def _maps(
    names: Sequence[str] | None,
    maps: Mapping[str, tuple[float, float]] | None,
    model: str | None,
    source: str,
) -> FieldMaps:
    """The maps of the channels: those of the model, changed by what is given."""
    from ..models.errors import ModelError
    from ..models.field_maps import FieldMap, FieldMaps, fields_of

    known: FieldMaps | None = None
    try:
        known = None if model is None else fields_of(model)
    except (ModelError, OSError):  # another model, or one that has moved
        known = None
    if names is None and known is None:
        raise ArgumentError(
            f"{source!r} holds channels, and {'no model' if model is None else repr(model)} says "
            "which fields they are: give fields= (--fields a,u), and field_map= (--field-map "
            "a=SCALE,SHIFT) unless they are in physical units"
        )
    plain = {m.name: m for m in known.maps} if known is not None else {}
    wanted = tuple(names) if names is not None else tuple(plain)
    for name in maps or {}:
        if name not in wanted:
            raise ArgumentError(unknown("field of field_map", name, wanted))
    given = {name: FieldMap(name, *pair) for name, pair in (maps or {}).items()}
    return FieldMaps(tuple(given.get(n) or plain.get(n) or FieldMap(n) for n in wanted))


def _of_channels(files: Sequence[Path], maps: FieldMaps) -> Problem:
    from ..eval.physics.equation import Problem
    from ..eval.physics.storage import joined

    arrays = [read_npz(path, (CHANNELS,))[CHANNELS] for path in files]
    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1 or arrays[0].dtype.kind != "f" or arrays[0].ndim < 3:
        raise ArgumentError(
            f"channels of {arrays[0].dtype}, shapes {shapes}: must be floating point (B, channels, "
            "points), all alike"
        )
    x = torch.from_numpy(np.concatenate(arrays)).double()
    return Problem(joined(maps.physical(x)), {}, {})


def _of_fields(files: Sequence[Path]) -> Problem:
    """The fields of all files; spacing and parameters must be the same in all."""
    from ..eval.physics.storage import load_fields

    parts = [load_fields(path) for path in files]
    first = parts[0]
    for path, part in zip(files, parts, strict=True):
        if part.spacing != first.spacing or not _same(part.params, first.params):
            raise ArgumentError(f"{str(path)!r} has another spacing or other parameters")
        if {k: v.shape[1:] for k, v in part.fields.items()} != {
            k: v.shape[1:] for k, v in first.fields.items()
        }:
            raise ArgumentError(f"{str(path)!r} has fields of other shapes")
    fields = {k: torch.cat([part.fields[k] for part in parts]) for k in first.fields}
    return first._replace(fields=fields)


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        v is b[k] or (torch.equal(v, b[k]) if isinstance(v, Tensor) else v == b[k])
        for k, v in a.items()
    )
