"""Files of plans with their provenance: strict JSON, one object, no code.

    {"format": "fewstep.tuned/1", "made_for": {}, "report": {}, "points": [], "plan": {}}

``plan`` is the plan as ``serial`` writes it, but shorter: a node is ``{"at": i}``, its place in
``points``, rows of alpha, sigma, t, dalpha, dsigma; an instruction is a list, ``["E", outs, state,
i, to]`` or ``["C", out, values, coefficients, noise, i]`` with i a place or null. The plan is
type-checked again when it is read.
``made_for`` says which model and schedule the plan is for (``MadeFor``), ``report`` is what was
measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..checks import ArgumentError, parse_json, shown
from .instructions import PlanError
from .plan import Plan

FORMAT = "fewstep.tuned/1"
#: the largest file that is read
MOST_BYTES = 1 << 20
#: the fields of a node, in the order of a row of ``points``
_NODE = ("alpha", "sigma", "t", "dalpha", "dsigma")
_FIELDS = ("format", "made_for", "report", "points", "plan")


@dataclass(frozen=True)
class MadeFor:
    """What a plan was tuned for.

    Attributes:
        model: class of the model without guidance; ``model_sha256``: hash of its numbers and
            weights.
        schedule: class of its schedule; ``schedule_sha256``: hash of its numbers.
        guidance: the guidance in words, empty if there is none; ``guidance_sha256``: hash of the
            guided model, the model itself included.
    """

    model: str
    model_sha256: str
    schedule: str
    schedule_sha256: str
    guidance: str = ""
    guidance_sha256: str = ""


class PlanFile(NamedTuple):
    """The content of a file: the plan, what it was tuned for, and the report."""

    plan: Plan
    made_for: MadeFor
    report: Mapping[str, Any]


def plan_file_text(plan: Plan, made_for: MadeFor, report: Mapping[str, Any]) -> str:
    """The text of a file that ``read_plan_file`` reads. ``report``: plain JSON."""
    points: list[Any] = []
    body: dict[str, Any] = {
        "format": FORMAT,
        "made_for": asdict(made_for),
        "report": dict(report),
        "points": points,
        "plan": _packed(json.loads(plan.to_json()), points),
    }
    body["plan"]["code"] = [_row(i) for i in body["plan"]["code"]]
    return json.dumps(body, allow_nan=False, separators=(",", ":")) + "\n"


def read_plan_file(path: str | Path) -> PlanFile:
    """Read a file that ``Tuned.save`` wrote; a file that has not changed is read once.

    Raises PlanError, which names the file, for anything else.
    """
    place = Path(path)
    try:
        facts = os.stat(place)
        if not place.is_file():
            raise PlanError(f"plan file {str(place)!r}: must be a file")
        if facts.st_size > MOST_BYTES:
            raise PlanError(
                f"plan file {str(place)!r} has {facts.st_size} bytes; at most {MOST_BYTES} are read"
            )
        return _read(str(place.absolute()), facts.st_mtime_ns, facts.st_size)
    except (OSError, ValueError) as error:
        if isinstance(error, PlanError):
            raise
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise PlanError(f"plan file {str(place)!r}: {why}") from error


@lru_cache(maxsize=64)
def _read(path: str, changed: int, size: int) -> PlanFile:
    """The content of the file at ``path``, as it was at ``changed``."""
    body = parse_json(Path(path).read_bytes(), "the text", strict=True)
    if not isinstance(body, dict) or set(body) != set(_FIELDS):
        found = sorted(body) if isinstance(body, dict) else type(body).__name__
        raise PlanError(
            f"plan file {path!r}: expected the fields {sorted(_FIELDS)}, found {found}: it is not "
            "a file that fewstep.tune saved"
        )
    if body["format"] != FORMAT:
        raise PlanError(f"plan file {path!r}: format {body['format']!r}; allowed: {FORMAT}")
    if not isinstance(body["report"], dict):
        raise PlanError(f"plan file {path!r}: the report must be an object")
    try:
        made_for = made_for_of(body["made_for"])
        plan = Plan.from_json(_plan_text(body["plan"], _points(body["points"])))
    except ArgumentError as error:
        raise PlanError(f"plan file {path!r}: {error}") from error
    return PlanFile(plan, made_for, body["report"])


def made_for_of(body: Any) -> MadeFor:
    """The MadeFor whose fields are ``body``. PlanError for other fields."""
    names = {f.name for f in fields(MadeFor)}
    if not isinstance(body, dict) or set(body) != names:
        raise PlanError(f"made_for must have the fields {sorted(names)}")
    for name, value in body.items():
        if not isinstance(value, str):
            raise PlanError(f"made_for.{name} is {shown(value)}; it must be a text")
    return MadeFor(**body)


def _row(i: dict[str, Any]) -> list[Any]:
    """An instruction as a list."""
    at, to = (None if i.get(key) is None else i[key]["at"] for key in ("node", "to"))
    if "evaluate" in i:
        return ["E", i["evaluate"], i["state"], at, to]
    values, coefficients = ([term[k] for term in i["terms"]] for k in (0, 1))
    return ["C", i["combine"], values, coefficients, i["noise"], at]


def _instruction(row: Any) -> dict[str, Any]:
    """The inverse of ``_row``."""
    kind, length = (row[0], len(row)) if isinstance(row, list) and row else (None, 0)
    if kind == "E" and length == 5:
        _, outs, state, at, to = row
        return {"evaluate": outs, "state": state, "node": _at(at), "to": _at(to)}
    if kind == "C" and length == 6:
        _, out, values, coefficients, noise, at = row
        both = isinstance(values, list) and isinstance(coefficients, list)
        if both and len(values) == len(coefficients):
            terms = [list(pair) for pair in zip(values, coefficients, strict=True)]
            return {"combine": out, "terms": terms, "noise": noise, "node": _at(at)}
    raise PlanError(f"{shown(row)} is no instruction")


def _at(place: Any) -> dict[str, Any] | None:
    return None if place is None else {"at": place}


def _plan_text(body: Any, points: list[dict[str, Any]]) -> str:
    """The text that ``Plan.from_json`` reads."""
    if not isinstance(body, dict) or not isinstance(body.get("code"), list):
        raise PlanError("the plan must be an object with a list of instructions")
    code = [_instruction(row) for row in body["code"]]
    return json.dumps(_unpacked({**body, "code": code}, points))


def _packed(value: Any, points: list[Any]) -> Any:
    """``value`` with its nodes replaced by their places in ``points``, which grows."""
    if isinstance(value, dict):
        if set(value) == set(_NODE):
            row = [value[key] for key in _NODE]
            if row not in points:
                points.append(row)
            return {"at": points.index(row)}
        return {key: _packed(item, points) for key, item in value.items()}
    return [_packed(item, points) for item in value] if isinstance(value, list) else value


def _points(rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise PlanError(f"points must be a list, found {type(rows).__name__}")
    for row in rows:
        if not isinstance(row, list) or len(row) != len(_NODE):
            raise PlanError(f"a point must be {', '.join(_NODE)}, found {shown(row)}")
    return [dict(zip(_NODE, row, strict=True)) for row in rows]


def _unpacked(value: Any, points: list[dict[str, Any]]) -> Any:
    """The inverse of ``_packed``."""
    if isinstance(value, dict):
        if set(value) == {"at"}:
            place = value["at"]
            if type(place) is not int or not 0 <= place < len(points):
                raise PlanError(f"{shown(place)} is no place in the {len(points)} points")
            return points[place]
        return {key: _unpacked(item, points) for key, item in value.items()}
    return [_unpacked(item, points) for item in value] if isinstance(value, list) else value
