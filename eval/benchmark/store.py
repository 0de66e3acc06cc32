"""Files of a benchmark: one JSON record per measurement, and tensors of converged end points.

    OUT/rows/KIND-KEY.json              KEY is the hash of the facts that decide the record
    CACHE/reference-KEY.safetensors

Each is written whole or not at all. A record has one entry for each column of its measurement
(``rows.columns``); one that lacks a column was written before that column existed and is completed.
A record is found by its key, or, if its plan was written in an older format or with coefficients
that differ by rounding, by comparing the plans.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...checks import FewstepError
from ...files import read_json, sha256, write, write_tensors
from ...plans.plan import Plan
from .rows import NUMBERS, Kind, columns

#: part of every key: another number where records of an older version must not be taken
VERSION = 1
#: columns that version 0.1 left out of a record where they did not apply
LEFT_OUT: Mapping[Kind, tuple[str, ...]] = {
    "error": ("rmse", "rmse_low", "rmse_high", "relative", "picture", "points", "squares"),
    "quality": (),
}
#: columns without which a record is damaged
NEEDED: Mapping[Kind, set[str]] = {
    "error": {"nfe", "steps", "call", "stochastic"},
    "quality": {"quality", "quality_low", "quality_high", "quality_plain"},
}


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the hash of the facts that decide a record."""
    text = json.dumps({"version": VERSION, **facts}, sort_keys=True, allow_nan=False)
    return sha256(text)[:24]


def missing(kind: Kind, record: Mapping[str, Any]) -> set[str]:
    """Return the columns that a record lacks because it was written before they existed."""
    return set(columns(kind)) - set(record)


def _hash(record: Mapping[str, Any]) -> str:
    """The hash of a record, whatever the order of its keys."""
    return sha256(json.dumps(record, sort_keys=True, allow_nan=False))


def _is_record(record: Mapping[str, Any], kind: Kind) -> bool:
    """Whether a record has known columns only, those needed, and numbers where numbers belong."""
    if not NEEDED[kind] <= set(record) <= set(columns(kind)):
        return False
    numbers = [value for key, value in record.items() if key in NUMBERS]
    return all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in numbers
        if value is not None
    )


def _plan(text: str) -> Plan | None:
    """The plan of a record's facts; None for a driver, which has none."""
    try:
        return Plan.from_json(text)
    except FewstepError:
        return None


class Store:
    """Records below ``out`` and references below ``cache`` (``out/cache`` by default); without
    folders nothing is stored."""

    def __init__(self, out: Path | None = None, cache: Path | None = None) -> None:
        self.out = out
        self.cache = cache if cache is not None else None if out is None else out / "cache"
        for folder in (self.out, self.cache):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, list[tuple[Path, str, Plan | None]]] | None = None

    def record(self, kind: Kind, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a record that is there and undamaged, or None.

        It may lack columns that did not exist when it was written (``missing``).
        """
        if self.out is None:
            return None
        path = self._row(kind, facts)
        found = _read(path, kind)
        return found if found is not None else self._by_plan(kind, facts)

    def _by_plan(self, kind: Kind, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """A record with the same other facts whose plan is the same but for format or rounding."""
        text = str(facts.get("plan"))
        plan = _plan(text)
        for path, kept_text, kept_plan in self._plans().get(_rest(kind, facts), ()):
            if kept_text == text or (plan is not None and _same(plan, kept_plan)):
                found = _read(path, kind)
                if found is not None:
                    return found
        return None

    def _plans(self) -> dict[str, list[tuple[Path, str, Plan | None]]]:
        """The plans of the records that were there at the first call, by kind and other facts."""
        if self._kept is None:
            self._kept = {}
            for path in sorted((self.out / "rows").glob("*.json")) if self.out else ():
                try:
                    facts = read_json(path)["facts"]
                    text = str(facts["plan"])
                    rest = _rest(path.name.partition("-")[0], facts)
                except (OSError, ValueError, TypeError, KeyError):
                    continue  # damaged
                self._kept.setdefault(rest, []).append((path, text, _plan(text)))
        return self._kept

    def keep(self, kind: Kind, facts: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write a record together with the facts that decide it."""
        if self.out is not None:
            body = json.dumps(
                {"facts": dict(facts), "record": dict(record), "sha256": _hash(record)},
                allow_nan=False,
            )
            write(self._row(kind, facts), body.encode())

    def _row(self, kind: Kind, facts: Mapping[str, Any]) -> Path:
        assert self.out is not None
        return self.out / "rows" / f"{kind}-{key_of(facts)}.json"

    def arrays(
        self, name: str, facts: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Return tensors and their notes, or None where there is no undamaged file."""
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
        """Remove the file that ``keep_arrays`` wrote."""
        if self.cache is not None:
            (self.cache / f"{name}-{key_of(facts)}.safetensors").unlink(missing_ok=True)


def _read(path: Path, kind: Kind) -> dict[str, Any] | None:
    """The record of one file, with None for the columns that version 0.1 left out, and ``calls``
    where every sample made all of them."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return None
    record = found.get("record")
    if (
        not isinstance(record, dict)
        or found.get("sha256", _hash(record)) != _hash(record)
        or not _is_record(record, kind)
    ):
        return None
    made = {"calls": float(record["nfe"])} if kind == "error" else {}
    return {**dict.fromkeys(LEFT_OUT[kind]), **made, **record}


def _rest(kind: str, facts: Mapping[str, Any]) -> str:
    """The facts other than the plan, as one text.

    A solver error does not depend on the metric, which version 0.1 had among its facts.
    """
    left_out = {"plan", "metric"} if kind == "error" else {"plan"}
    others = {key: value for key, value in facts.items() if key not in left_out}
    return json.dumps([kind, others], sort_keys=True)


def _same(plan: Plan, other: Plan | None) -> bool:
    """Whether two plans have one name and the same coefficients up to rounding."""
    return other is not None and plan.name == other.name and plan.close(other)
