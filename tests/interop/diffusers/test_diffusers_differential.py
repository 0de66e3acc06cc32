"""Each diffusers class beside its counterpart, while a caller does what callers do: copies, files,
edits, times of other kinds, other runs.

Every row of ``diffusers_rows`` meets every one of ``WAYS`` over the counts, one of them a row and
count: no draw decides.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import distance, network, noise, ours, theirs
from diffusers_rows import ROWS, Row

from fewstep import FewstepScheduler

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore::UserWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
)
#: what is done to the scheduler after its second step
COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),
}
#: the time that step is told instead of a view of the list
TOLD: dict[str, Callable[[torch.Tensor], Any]] = {
    "batched": lambda t: t.expand(2),
    "clone": torch.clone,
    "float": float,
}
WAYS = (
    "plain",
    *COPIES,
    *TOLD,
    "tuple",
    "edit",
    "beside",
    "again",
    "saved",
    "generators",
    "float64",
)
#: rows whose state is ``x0 + sigma eps`` there are compared at the end, where that is ours over
#: alpha
UNSCALED = ("Euler", "Heun", "KDPM2", "LMS", "EDM")
#: classes that go on from a state that they kept, and so lose an edit
KEEPING = ("Heun", "FlowMatchHeun", "KDPM2", "PNDM", "DPMSolverSinglestep", "UniPC")


def run(
    scheduler: Any, row: Row, steps: int, way: str, start: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The final state and the first input of the network; ``start``: of ours, the input that theirs
    had."""
    mine = start is not None
    scheduler.set_timesteps(steps, **row.given)
    x = noise() if way != "float64" else noise().double()
    scaled = row.name.startswith(UNSCALED)
    x = start if start is not None else x * float(getattr(scheduler, "init_noise_sigma", 1.0))
    first = scheduler.scale_model_input(x, scheduler.timesteps[0]) if scaled else x
    generator: Any = (
        [torch.Generator().manual_seed(k) for k in (2, 3)]
        if way == "generators"
        else torch.Generator().manual_seed(2)
    )
    drawn = (
        {"generator": generator}
        if "generator" in inspect.signature(scheduler.step).parameters
        else {}
    )
    for k in range(len(scheduler.timesteps)):
        t = scheduler.timesteps[k]
        x_in = scheduler.scale_model_input(x, t) if scaled else x
        output = network(x_in.float(), float(t)).to(x.dtype)
        told = TOLD[way](t) if mine and way in TOLD else t
        answer = scheduler.step(output, told, x, return_dict=way != "tuple", **drawn)
        x = answer[0] if way == "tuple" else answer.prev_sample
        if way == "edit" and k == 1:
            x = x.mul_(0.9) if mine else 0.9 * x
        if mine and k == 1:
            scheduler = COPIES.get(way, lambda s: s)(scheduler)
        if mine and k == 0 and way == "beside":
            other = ours(row.name, row.config)
            other.set_timesteps(3, **row.given)
            other.step(output, other.timesteps[0], x.clone(), generator=torch.Generator())
    return x / (scheduler.plan.end.alpha if mine and scaled else 1.0), first


@pytest.mark.parametrize("place", range(len(ROWS)), ids=lambda k: str(ROWS[k]))
def test_what_a_caller_does_changes_nothing(place, tmp_path):
    row = ROWS[place]
    for turn, steps in enumerate((3, 5, 10)):
        way = WAYS[(place + 4 * turn) % len(WAYS)]
        lost = way == "edit" and row.name.startswith(KEEPING)
        # whose noise is float32 in any case
        single = way == "float64" and str(row.config.get("algorithm_type")).startswith("sde")
        if steps in row.apart or lost or single:
            continue
        expected, start = run(theirs(row.name, row.config), row, steps, way, None)
        scheduler, asked = ours(row.name, row.config), steps
        # whose N steps are more calls; here a number of steps is one of calls
        if row.name == "PNDM":
            counted = theirs(row.name, row.config)
            counted.set_timesteps(steps)
            asked = len(counted.timesteps)
        if way == "saved":
            scheduler.save_pretrained(tmp_path)
            scheduler = FewstepScheduler.from_pretrained(tmp_path)
        if way == "again":
            run(scheduler, row, asked + 1, "plain", start.clone())
        found, _ = run(scheduler, row, asked, way, start.clone())
        assert found.dtype == expected.dtype or way == "float64"
        assert distance(found.double(), expected.double()) < 3e-4, way
