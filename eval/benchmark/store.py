"""What a benchmark keeps: one JSON record a measurement, arrays of converged end points; each
written whole or not at all.

OUT/rows/KIND-KEY.json      KEY is the hash of everything that decides the record, so other settings
                            find other records
CACHE/reference-KEY.safetensors
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...files import read_json, sha256, write, write_tensors
from .rows import Row

#: part of every key: another number where records of an older version must not be taken
VERSION = 1
#: fields of a row, those that each kind of record has, and those that are no numbers
FIELDS = {field.name for field in fields(Row)}
NEEDED = {
    "error": {"nfe", "steps", "call", "stochastic"},
    "quality": {f"quality{end}" for end in ("", "_low", "_high", "_plain")},
}
WORDS = {"call", "stochastic", "picture", "points", "squares"}


def key_of(facts: Mapping[str, Any]) -> str:
    """The hash of what decides a record."""
    text = json.dumps({"version": VERSION, **facts}, sort_keys=True, allow_nan=False)
    return sha256(text)[:24]


def _hash(record: Mapping[str, Any]) -> str:
    """The hash of a record, whatever the order of its keys."""
    return sha256(json.dumps(record, sort_keys=True, allow_nan=False))


def _is_row(record: Mapping[str, Any], kind: str) -> bool:
    """Whether a record has the fields of its kind, and numbers where a row has numbers."""
    if not NEEDED[kind] <= set(record) <= FIELDS:
        return False
    numbers = [value for key, value in record.items() if key not in WORDS]
    return all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in numbers
        if value is not None
    )


class Store:
    """Records below ``out`` and references below ``cache`` (``out/cache`` by default); without
    folders nothing is kept."""

    def __init__(self, out: Path | None = None, cache: Path | None = None) -> None:
        self.out = out
        self.cache = cache if cache is not None else None if out is None else out / "cache"
        for folder in (self.out, self.cache):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)

    def record(self, kind: str, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """A record that is there and whole, or None."""
        if self.out is None:
            return None
        try:
            found = read_json(self._row(kind, facts))
        except (OSError, ValueError):
            return None
        record = found.get("record")
        if (
            not isinstance(record, dict)
            or found.get("sha256", _hash(record)) != _hash(record)
            or not _is_row(record, kind)
        ):
            return None
        return record

    def keep(self, kind: str, facts: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write a record, with what decided it beside."""
        if self.out is not None:
            body = json.dumps(
                {"facts": dict(facts), "record": dict(record), "sha256": _hash(record)},
                allow_nan=False,
            )
            write(self._row(kind, facts), body.encode())

    def _row(self, kind: str, facts: Mapping[str, Any]) -> Path:
        assert self.out is not None
        return self.out / "rows" / f"{kind}-{key_of(facts)}.json"

    def arrays(
        self, name: str, facts: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and their notes, or None where there is no whole file."""
        if self.cache is None:
            return None
        path = self.cache / f"{name}-{key_of(facts)}.safetensors"
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                keys = list(file.keys())
                return {key: file.get_tensor(key) for key in keys}, dict(file.metadata() or {})
        except (SafetensorError, OSError, ValueError):
            return None

    def keep_arrays(
        self,
        name: str,
        facts: Mapping[str, Any],
        arrays: Mapping[str, Tensor],
        notes: Mapping[str, str],
    ) -> None:
        """Write tensors with their notes."""
        if self.cache is not None:
            write_tensors(self.cache / f"{name}-{key_of(facts)}.safetensors", arrays, notes)

    def forget_arrays(self, name: str, facts: Mapping[str, Any]) -> None:
        """Remove what ``keep_arrays`` wrote."""
        if self.cache is not None:
            (self.cache / f"{name}-{key_of(facts)}.safetensors").unlink(missing_ok=True)
