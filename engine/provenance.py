"""What a plan was tuned for, and whether a model is that one."""

from __future__ import annotations

from typing import Any
from weakref import ref

from ..models.base import BaseDenoiser
from ..models.denoiser import Denoiser
from ..models.hashes import object_hash
from ..models.wrapper import Wrapper, complete, innermost
from ..plans.instructions import PlanError
from ..plans.plan_file import MadeFor
from ..schedules.base import Schedule

#: (the model, the addresses and versions of its weights, its hash) of the last models
_KEPT: list[tuple[Any, Any, str]] = []
_MOST_KEPT = 4


def made_for(denoiser: Denoiser) -> MadeFor:
    """The hashes and names of ``denoiser``, of its schedule and of its guidance."""
    whole = innermost(denoiser)
    model, words = whole, list[str]()
    while isinstance(model, Wrapper):
        if not model.same_predictions:
            scales: Any = getattr(model, "scales", ())
            words.append(" ".join([type(model).__name__, *map(str, scales)]))
        model = innermost(model.denoiser)
    schedule = whole.schedule
    return MadeFor(
        type(model).__name__,
        _hash_of(model),
        type(schedule).__name__,
        object_hash(schedule),
        ", ".join(words),
        "" if model is whole else _hash_of(whole),
    )


def check_made_for_schedule(name: str, tuned: MadeFor, schedule: Schedule) -> None:
    """PlanError unless ``schedule`` is the one that the plan ``name`` was tuned for."""
    if object_hash(schedule) == tuned.schedule_sha256:
        return
    kind = type(schedule).__name__
    numbers = " with other numbers" if kind == tuned.schedule else ""
    raise PlanError(
        f"{name} was tuned for another schedule ({tuned.schedule}{numbers}), and this is "
        f"{schedule!r:.160}{_remedy(name)}"
    )


def check_made_for(name: str, tuned: MadeFor, denoiser: BaseDenoiser) -> None:
    """PlanError unless ``denoiser`` is the model, with the guidance, that the plan ``name`` was
    tuned for."""
    check_made_for_schedule(name, tuned, denoiser.schedule)
    now = made_for(denoiser)
    if now == tuned:
        return
    if now.model_sha256 != tuned.model_sha256:
        raise PlanError(
            f"{name} was tuned for another model ({tuned.model}, hash "
            f"{tuned.model_sha256[:12]}), and this is a {now.model}, hash "
            f"{now.model_sha256[:12]}{_remedy(name)}"
        )
    raise PlanError(
        f"{name} was tuned for this model with {tuned.guidance or 'no guidance'}, and it has "
        f"{now.guidance or 'no guidance'}{_remedy(name)}"
    )


def _remedy(name: str) -> str:
    given = "plan=tuned.plan" if name == "plan" else "force=True"
    return f"; {given} uses it all the same"


def _hash_of(model: Denoiser) -> str:
    """The hash of a model, kept while its weights are not written to."""
    weights = [(p.data_ptr(), p._version) for p in complete(model).parameters()]
    for kept, known, found in _KEPT:
        if weights and kept() is model and known == weights:
            return found
    found = object_hash(model)
    try:
        _KEPT.append((ref(model), weights, found))
    except TypeError:  # an object without weak references
        return found
    del _KEPT[:-_MOST_KEPT]
    return found
