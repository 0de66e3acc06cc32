"""``sampler="auto"``: the sampler that the measurements of docs/grids.md recommend; and the facts
about a model that the automatic choices use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..models.base import BaseDenoiser
from ..samplers.registry import SamplerError
from ..schedules.base import Schedule
from ..schedules.grids.auto import DataFacts, not_fitted
from ..schedules.grids.request import GridRequest
from .option_hints import option_hint

#: the name of the automatic choice
AUTO = "auto"


class Choice(NamedTuple):
    """A registered sampler with its options, and the reason why it was chosen."""

    name: str
    options: Mapping[str, Any]
    reason: str


#: (largest number of network calls, sampler, its options)
Rows = tuple[tuple[float, str, Mapping[str, Any]], ...]
#: (samples with spatial axes or of unknown shape, guided model or latents) -> the choice by calls;
#: higher orders at few calls diverge under strong guidance
BY_CALLS: Mapping[tuple[bool, bool], Rows] = {
    (False, False): (
        (3, "unipc", {"order": 2}),
        (5, "ipndm", {"order": 2}),
        (math.inf, "ghvb", {"order": 2.5}),
    ),
    (True, False): ((4, "ipndm", {"order": 2}), (math.inf, "ipndm", {"order": 3})),
    (False, True): ((8, "ipndm", {"order": 2}), (math.inf, "ipndm", {"order": 3})),
    (True, True): ((14, "ipndm", {"order": 2}), (math.inf, "ipndm", {"order": 3})),
}


def facts_of(denoiser: BaseDenoiser, shape: Sequence[int] | None = None) -> DataFacts:
    """The facts about ``denoiser``. ``shape``: of one sample, if it is not the model's."""
    size = denoiser.shape if shape is None else shape
    return DataFacts(
        denoiser.sigma_data,
        None if size is None else len(size) > 1,
        denoiser.guided,
        denoiser.latent,
    )


def choices() -> list[dict[str, Any]]:
    """All choices as rows: ``samples``, the largest number of ``calls``, ``sampler``,
    ``options``."""
    return [
        {
            "samples": DataFacts(None, spatial, guided=cautious).samples,
            "calls": most,
            "sampler": name,
            "options": dict(options),
        }
        for (spatial, cautious), listed in BY_CALLS.items()
        for most, name, options in listed
    ]


def automatic_sampler(where: GridRequest, schedule: Schedule, given: Mapping[str, Any]) -> Choice:
    """The sampler for the grid and the budget ``where``. Raises SamplerError for options in
    ``given`` other than ``afs``, because the samplers that may be chosen have different ones."""
    calls, facts = where.length, where.facts
    rows = BY_CALLS[facts.spatial is not False, facts.cautious]
    name, options = next((n, o) for most, n, o in rows if calls <= most)
    _refuse_options(name, [key for key in given if key != "afs"], where, given)
    words = "".join(f", {key}={value:g}" for key, value in options.items())
    reason = f"sampler auto: {name}{words}; for {calls} network calls and {facts.samples}"
    return Choice(name, {**options, **given}, "; ".join([reason, *not_fitted(schedule)]))


def _refuse_options(
    name: str, stray: Sequence[str], where: GridRequest, given: Mapping[str, Any]
) -> None:
    """Raise SamplerError for the first of the options ``stray``, if there is one."""
    for key in stray:
        hint = option_hint(key, given[key], where)
        raise SamplerError(
            f"sampler='auto' takes no option {key!r}: name the sampler that has it, for instance "
            f"sampler={name!r}" + ("" if hint is None else f"; {hint}")
        )
