"""The kind of a sampler, on which grid ``"auto"`` depends."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..checks import FewstepError
from ..plans.plan import Plan
from ..schedules.flow import Flow
from ..schedules.grids.auto import Kind
from ..schedules.grids.construction import grid
from ..schedules.ve import EDM
from .registry import build, get

#: path of the plan that the kind is read from, by the sampler's first path
PATHS = {"vp": EDM(), "flow": Flow()}
STEPS = 4


def kind_of(name: str, options: Any) -> Kind:
    """``stochastic`` if its plans draw noise, ``singlestep`` if they make more than one network
    call a step, else ``multistep``; the two with ``_x0`` if the plans read x0, or are of first
    order, where all predictions give the same step.

    Read from a plan of four steps; a sampler that has none with these options is multistep. A
    driver has the kind of the sampler that it ``follows``, else stochastic or singlestep.
    """
    sampler = get(name)
    if sampler.follows is not None:
        return kind_of(*sampler.follows(options))
    if sampler.form == "driver":
        return "stochastic" if sampler.tau_of(options) else "singlestep"
    return _measured(name, options)


@lru_cache(maxsize=256)
def _measured(name: str, options: Any) -> Kind:
    try:
        plan = build(name, grid("lam", PATHS[get(name).on[0]], STEPS), options)
    except FewstepError:
        return "multistep"
    if plan.stochastic:
        return "stochastic"
    if plan.nfe + hasattr(options, "afs") > plan.steps + 1:  # afs saves one call
        return "singlestep_x0" if _reads_x0(plan) else "singlestep"
    first_order = get(name).order_of(options) <= 1
    return "multistep_x0" if first_order or _reads_x0(plan) else "multistep"


def _reads_x0(plan: Plan) -> bool:
    return all(kind == "x0" for e in plan.evaluations for _, kind, _ in e.outs)
