"""Plans as JSON: exact (floats by shortest repr) and strict (an unknown or missing field is an
error, NaN never appears).

``exactness``, ``defect`` and ``off_label`` are measured again by ``Plan.from_json`` and must agree
with the text. Format 2 is written, formats 1 and 2 are read.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ..checks import ArgumentError, is_finite, parse_json
from ..schedules.kinds import KINDS
from ..schedules.node import Node
from .instructions import EXACTNESS, MAIN, Combine, Draw, Evaluate, PlanData, PlanError

FORMAT = "fewstep.plan/2"
#: what version 0.1 wrote: one channel, no second time, and the former name of ``exactness``
FORMAT_1 = "fewstep.plan/1"
_FIELDS = (
    "format",
    "name",
    "start",
    "end",
    "result",
    "nodes",
    "draws",
    "defect",
    "off_label",
    "code",
)
_NODE = ("alpha", "sigma", "t", "dalpha", "dsigma")


def plan_to_json(plan: PlanData) -> str:
    """``plan`` as text; ``plan_fields`` gives its fields back bit for bit."""
    body = {
        "format": FORMAT,
        "name": plan.name,
        "start": _node_out(plan.start),
        "end": _node_out(plan.end),
        "result": plan.result,
        "nodes": [_node_out(n) for n in plan.nodes],
        "draws": [[_node_out(d.start), _node_out(d.end)] for d in plan.draws],
        "exactness": plan.exactness,
        "defect": plan.defect,
        "off_label": list(plan.off_label),
        "code": [_instruction_out(i) for i in plan.code],
        **({"reason": plan.reason} if plan.reason else {}),
        **({"partners": list(plan.partners)} if plan.partners else {}),
    }
    return json.dumps(body, allow_nan=False)


def plan_fields(text: str) -> dict[str, Any]:
    """The fields of the plan that ``plan_to_json`` wrote, not yet type-checked; PlanError on
    anything else."""
    try:
        body = parse_json(text, "plan", strict=True)
    except ArgumentError as error:
        raise PlanError(f"not JSON: {error}") from error
    old = isinstance(body, dict) and body.get("format") == FORMAT_1
    exactness = "consistency" if old else "exactness"
    known = isinstance(body, dict) and not old
    optional = tuple(key for key in ("reason", "partners") if known and key in body)
    _exactly(body, (*_FIELDS, exactness, *optional), "plan")
    if body["format"] not in (FORMAT, FORMAT_1):
        raise PlanError(f"plan format {body['format']!r}; allowed: {FORMAT}, {FORMAT_1}")
    if body[exactness] not in EXACTNESS:
        raise PlanError(f"exactness {body[exactness]!r}; allowed: {', '.join(EXACTNESS)}")
    for key in ("name", *(key for key in optional if key == "reason")):
        if not isinstance(body[key], str):
            raise PlanError(f"the plan's {key} is {body[key]!r}; it must be a text")
    return {
        "code": tuple(_instruction_in(i, old) for i in _list(body["code"])),
        "start": _node_in(body["start"]),
        "end": _node_in(body["end"]),
        "result": _int(body["result"]),
        "nodes": tuple(_node_in(n) for n in _list(body["nodes"])),
        "draws": tuple(Draw(*(_node_in(n) for n in _pair(d))) for d in _list(body["draws"])),
        "exactness": body[exactness],
        "defect": _finite(body["defect"]),
        "off_label": tuple(_int(k) for k in _list(body["off_label"])),
        "name": body["name"],
        "reason": body.get("reason", ""),
        "partners": tuple(_int(v) for v in _list(body.get("partners", []))),
    }


def _node_out(node: Node) -> dict[str, float | str | None]:
    return {key: _number_out(getattr(node, key)) for key in _NODE}


def _number_out(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    if math.isnan(value):
        raise PlanError("a plan cannot hold NaN")
    return "inf" if value > 0 else "-inf"


def _instruction_out(i: Evaluate | Combine) -> dict[str, Any]:
    if isinstance(i, Evaluate):
        return {
            "evaluate": [list(o) for o in i.outs],
            "state": i.state,
            "node": _node_out(i.node),
            "to": None if i.to is None else _node_out(i.to),
        }
    node = None if i.node is None else _node_out(i.node)
    return {
        "combine": i.out,
        "terms": [list(t) for t in i.terms],
        "noise": [list(t) for t in i.noise],
        "node": node,
    }


def _instruction_in(body: Any, old: bool) -> Evaluate | Combine:
    if isinstance(body, dict) and "evaluate" in body:
        return _evaluate_in(body, old)
    _exactly(body, ("combine", "terms", "noise", "node"), "Combine")
    terms, noise = (
        tuple((_int(v), _finite(c)) for v, c in map(_pair, _list(body[key])))
        for key in ("terms", "noise")
    )
    return Combine(
        _int(body["combine"]),
        terms,
        noise,
        None if body["node"] is None else _node_in(body["node"]),
    )


def _evaluate_in(body: dict[str, Any], old: bool) -> Evaluate:
    outs = _list(body["evaluate"])
    if old:
        _exactly(body, ("evaluate", "state", "node"), "Evaluate")
        rows = [(*_pair(out), MAIN) for out in outs]
    else:
        _exactly(body, ("evaluate", "state", "node", "to"), "Evaluate")
        rows = [_triple(out) for out in outs]
    to = None if old or body["to"] is None else _node_in(body["to"])
    reads = tuple((_int(v), _kind(kind), _channel(channel)) for v, kind, channel in rows)
    return Evaluate(reads, _int(body["state"]), _node_in(body["node"]), to)


def _node_in(body: Any) -> Node:
    _exactly(body, _NODE, "node")
    alpha, sigma = _finite(body["alpha"]), _finite(body["sigma"])
    if not (alpha >= 0.0 <= sigma and alpha + sigma > 0.0):
        raise PlanError(
            f"alpha={alpha}, sigma={sigma} is not a point of a path; both must be >= 0, and "
            "one of them > 0"
        )
    return Node(
        alpha, sigma, *(None if body[key] is None else _number(body[key]) for key in _NODE[2:])
    )


def _exactly(body: Any, keys: tuple[str, ...], what: str) -> None:
    if not isinstance(body, dict) or set(body) != set(keys):
        found = sorted(body) if isinstance(body, dict) else type(body).__name__
        raise PlanError(f"{what}: expected the fields {sorted(keys)}, found {found}")


def _number(value: Any) -> float:
    return float(value) if value in ("inf", "-inf") else _finite(value)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_finite(value):
        raise PlanError(f"{str(value)[:80]!r} is not a finite number")
    return float(value)


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PlanError(f"{value!r} is not an index (an integer >= 0)")
    return value


def _kind(value: Any) -> str:
    if not isinstance(value, str) or value not in KINDS:
        raise PlanError(f"unknown prediction kind {value!r}; allowed: {', '.join(KINDS)}")
    return str(value)


def _channel(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise PlanError(f"{value!r} is not the name of a channel")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise PlanError(f"expected a list, found {type(value).__name__}")
    return value


def _pair(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise PlanError(f"expected a pair, found {value!r}")
    return value[0], value[1]


def _triple(value: Any) -> tuple[Any, Any, Any]:
    if not isinstance(value, list) or len(value) != 3:
        raise PlanError(f"expected a value, a kind and a channel, found {value!r}")
    return value[0], value[1], value[2]
