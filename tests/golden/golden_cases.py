"""Runs of other people's samplers on one Gaussian mixture, and their replay by our plans.

A case is one run of a peer's own code in float64: its settings, the (alpha, sigma) of every model
call in order, its start and end, the noise it drew and its result. The files are made by
``golden/extract.py``. A replay takes the nodes from the model calls, builds our plan on them,
checks that it would evaluate the model at the same noise-to-signal ratios, runs it and returns both
results at the case's end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans.builder import PlanBuilder
from fewstep.plans.plan import Plan
from fewstep.samplers import registry
from fewstep.schedules import (
    EDM,
    DiscreteVP,
    Flow,
    Grid,
    Node,
    Schedule,
    Trig,
    VPLinear,
    from_config,
)

FOLDER = Path(__file__).resolve().parent
SCHEDULES: dict[str, Schedule] = {
    "ddpm_linear": DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000)),
    "sd_scaled_linear": DiscreteVP.from_betas(
        np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    ),
    "cosine": from_config({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000}),
    "vp_linear": VPLinear(0.1, 20.0),
    "edm": EDM(0.002, 80.0),
    "flow": Flow(),
    "azula_vp": EDM(1e-4, 1e4),  # alpha and sigma of its own, rho alone matters
    "azula_rectified": EDM(1e-4, 1e4),
    "ipndm_sin2": Trig(),  # likewise, from alpha = 0
}


#: what the peers call the number of steps
STEPS = ("steps", "num_inference_steps", "n", "num_step", "num_steps", "sample_speed", "sample_N")


class Point(NamedTuple):
    """A noise level in the peer's coordinates, ``x_t = alpha x0 + sigma eps``."""

    alpha: float
    sigma: float

    @property
    def rho(self) -> float:
        """Noise-to-signal ratio."""
        return self.sigma / self.alpha if self.alpha else math.inf


@dataclass(frozen=True)
class Case:
    """One run of a peer.

    Attributes:
        id, peer, sampler, schedule, settings: what ran.
        start, scale: the state at the first level is ``scale * noise``.
        end: the level of ``out``, (rows, 8).
        calls: the levels at which the model was evaluated, in order.
        noise: what was drawn, (draws, rows, 8).
    """

    id: str
    peer: str
    sampler: str
    schedule: str
    settings: dict[str, Any]
    start: Point
    scale: float
    end: Point
    calls: tuple[Point, ...]
    out: Tensor
    noise: Tensor

    @property
    def idle_call(self) -> bool:
        """PNDM of diffusers: the last of its steps goes from the end to the end."""
        return self.sampler == "PNDMScheduler" and same(self.calls[-1].rho, self.end.rho, 1e-12)

    @property
    def steps(self) -> int:
        """The number of steps that was asked for, whatever the peer calls it."""
        return next((int(self.settings[word]) for word in STEPS if word in self.settings), 0)


@lru_cache(maxsize=1)
def index() -> dict[str, Any]:
    """The JSON file."""
    found: dict[str, Any] = json.loads((FOLDER / "peers.json").read_text(encoding="utf-8"))
    return found


@lru_cache(maxsize=1)
def arrays() -> dict[str, Any]:
    """The arrays beside it."""
    with np.load(FOLDER / "peers.npz") as stored:
        return {name: stored[name] for name in stored.files}


@lru_cache(maxsize=1)
def cases() -> dict[str, Case]:
    """All cases by id."""
    data, found, call, draw = arrays(), {}, 0, 0
    for row, entry in enumerate(index()["cases"]):
        count, draws = entry["calls"], entry.get("draws", 0)
        calls = tuple(Point(*map(float, pair)) for pair in data["calls"][call : call + count])
        *start, scale = entry["start"]
        found[entry["id"]] = Case(
            **{name: entry[name] for name in ("id", "peer", "sampler", "schedule", "settings")},
            start=Point(*start),
            scale=scale,
            end=Point(*entry["end"]),
            calls=calls,
            out=torch.from_numpy(data["out"][row]),
            noise=torch.from_numpy(data["noise"][draw : draw + draws]),
        )
        call, draw = call + count, draw + draws
    return found


def start_noise() -> Tensor:
    """The noise that every case starts from, (rows, 8)."""
    return torch.from_numpy(arrays()["start"])


@lru_cache(maxsize=32)
def model(schedule: Schedule, prediction: str) -> GaussianMixture:
    """The mixture on ``schedule``."""
    data = arrays()
    return GaussianMixture(data["means"], data["stds"], data["weights"], schedule, prediction)


def prediction_of(case: Case) -> str:
    """A kind that says everything at every level of the case's path."""
    return {
        "flow": "velocity",
        "edm": "x0",
        "azula_vp": "x0",
        "azula_rectified": "x0",
        "ipndm_sin2": "v",
    }.get(case.schedule, "eps")


@lru_cache(maxsize=4096)
def node(schedule: Schedule, rho: float) -> Node:
    """The schedule's node at ``rho``; where a table has the level, exactly at the table's entry."""
    t = schedule.t_max if math.isinf(rho) else schedule.time_at_rho(rho)
    if isinstance(schedule, DiscreteVP) and abs(t - round(t)) < 1e-7:
        t = float(round(t))
    return schedule.node(t)


def grid_of(case: Case, where: Sequence[int | float]) -> Grid:
    """The grid through the model calls numbered ``where`` (a float is a level itself) and the end,
    unless the last one is there already."""
    levels = [i if isinstance(i, float) else case.calls[i].rho for i in where]
    if not same(levels[-1], case.end.rho, 1e-8):
        levels.append(case.end.rho)
    schedule = SCHEDULES[case.schedule]
    assert all(a > b for a, b in pairwise(levels)), f"{case.id}: levels do not fall: {levels}"
    return Grid.from_nodes([node(schedule, rho) for rho in levels], schedule)


def same(a: float, b: float, within: float) -> bool:
    """Equal, or equal up to a fraction."""
    return a == b or (math.isfinite(a - b) and abs(a - b) <= within * max(abs(a), abs(b)))


class Difference(NamedTuple):
    """How far a replay is from the peer: the largest absolute difference of the state at the end,
    in the peer's coordinates."""

    largest: float
    ours: Tensor


def check_calls(case: Case, plan: Plan) -> None:
    """AssertionError unless the plan evaluates the model where the peer did (a last call at the
    end, which changes nothing, aside)."""
    ours, theirs = [e.node.rho for e in plan.evaluations], [call.rho for call in case.calls]
    if case.idle_call:
        theirs = theirs[:-1]
    assert len(ours) == len(theirs), (
        f"{case.id}: {len(ours)} evaluations, the peer made {len(theirs)}"
    )
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert same(a, b, 1e-8), f"{case.id}: evaluation {i} is at rho = {a}, the peer's at {b}"


def draws(case: Case, plan: Plan) -> Sequence[Tensor]:
    """The case's noises in the order of the plan's draws. Some peers draw in the last step as well
    and multiply by 0; SASolver draws at every step, also where it puts nothing in."""
    if case.sampler != "SASolverScheduler":
        assert len(case.noise) - len(plan.draws) in (0, 1), (
            f"{case.id}: {len(case.noise)} noises for {len(plan.draws)} draws"
        )
        return list(case.noise[: len(plan.draws)])
    return [case.noise[plan.nodes.index(draw.start)] for draw in plan.draws]


def run(case: Case, plan: Plan, denoiser: Any = None) -> Difference:
    """Run ``plan`` from the case's start with the case's draws."""
    denoiser = (
        denoiser if denoiser is not None else model(SCHEDULES[case.schedule], prediction_of(case))
    )
    first, last = plan.start, plan.end
    into = first.alpha / case.start.alpha if case.start.alpha else first.sigma / case.start.sigma
    out = fewstep.run(plan, denoiser, into * case.scale * start_noise(), noise=draws(case, plan))
    out = out * (case.end.alpha / last.alpha)
    return Difference(float((out - case.out).abs().max()), out)


def plan_of(
    case: Case, sampler: str, options: dict[str, Any], where: Sequence[int | float]
) -> Plan:
    """The plan of a registered sampler on the grid through the case's model calls ``where``."""
    return registry.build(
        sampler, grid_of(case, where), registry.make_options(registry.get(sampler), options)
    )


def replay(
    case: Case, sampler: str, options: dict[str, Any], where: Sequence[int | float]
) -> Difference:
    """Replay the case with a registered sampler on the grid through its model calls ``where``."""
    plan = plan_of(case, sampler, options, where)
    check_calls(case, plan)
    return run(case, plan)


def replay_written(
    case: Case, write: Callable[[PlanBuilder, Grid], Plan], where: Sequence[int | float]
) -> Difference:
    """Replay the case with a plan written here: a peer's own rule, which no sampler of ours
    follows."""
    grid = grid_of(case, where)
    plan = write(PlanBuilder(grid.nodes, "asymptotic", "peer"), grid)
    check_calls(case, plan)
    return run(case, plan)
