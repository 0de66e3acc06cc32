"""The text of a plan that its hash in a folder is made of: JSON in the form of version 0.1.

It does not follow ``Plan.to_json``, whose format may change: the same plan has the same hash in
folders of every version. What version 0.1 had not (a channel beside ``main``, a second time) is
written only where a plan has it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ..plans.instructions import Combine, Evaluate
from ..plans.plan import Plan
from ..schedules.node import Node

FORMAT = "fewstep.plan/1"
#: the channel that every denoiser has
MAIN = "main"


def plan_text(plan: Plan) -> str:
    """Every number of ``plan``, as version 0.1 wrote it."""
    body = {
        "format": FORMAT,
        "name": plan.name,
        "start": _node(plan.start),
        "end": _node(plan.end),
        "result": plan.result,
        "nodes": [_node(node) for node in plan.nodes],
        "draws": [[_node(draw.start), _node(draw.end)] for draw in plan.draws],
        "consistency": plan.exactness,
        "defect": plan.defect,
        "off_label": list(plan.off_label),
        "code": [_instruction(i) for i in plan.code],
        **({"partners": list(plan.partners)} if plan.partners else {}),
    }
    return json.dumps(body, allow_nan=False)


def _node(node: Node) -> dict[str, float | str | None]:
    names = ("alpha", "sigma", "t", "dalpha", "dsigma")
    return {name: _number(getattr(node, name)) for name in names}


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "inf" if value > 0 else "-inf"


def _instruction(i: Evaluate | Combine) -> dict[str, Any]:
    if isinstance(i, Evaluate):
        outs = [[name for name in out if name != MAIN] for out in i.outs]
        to = getattr(i, "to", None)
        later = {} if to is None else {"to": _node(to)}
        return {"evaluate": outs, "state": i.state, "node": _node(i.node), **later}
    return {
        "combine": i.out,
        "terms": [list(term) for term in i.terms],
        "noise": [list(term) for term in i.noise],
        "node": None if i.node is None else _node(i.node),
    }
