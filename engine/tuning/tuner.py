"""``fewstep.tune``: search, fit, validate on other noises, and say what was gained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...checks import choice, integer
from ...checks.durations import duration
from ...models.base import BaseDenoiser
from ...models.denoiser import Denoiser
from ...models.wrapper import complete
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.grids.request import GridRequest
from ..automatic import facts_of
from ..planning import request
from ..provenance import made_for
from ..tuned import Tuned
from .candidate import Candidate, Stage
from .compensation import fit_compensation
from .distill import distilled
from .greedy import fit_greedily
from .joint import fit_coefficients, fit_jointly
from .losses import short
from .metric import Loss, Metric
from .problem import EXACT, NETWORK, Problem
from .report import chosen, facts
from .restarts import fit_again
from .schedules import fit_schedules
from .search import search
from .solver_space import search_space
from .statistics_search import search_with_statistics
from .times import fit_times
from .trajectories import Conditions, Model, Trajectories, TuneError, trajectories

#: the stages by the name of what is tuned
STAGES: Mapping[str, tuple[tuple[str, Stage], ...]] = {
    "search": (),
    "statistics": (("statistics", search_with_statistics),),
    "times": (("times", fit_times),),
    "space": (("space", search_space),),
    "schedules": (("schedules", fit_schedules),),
    "compensation": (("compensation", fit_compensation),),
    "coefficients": (("greedy", fit_greedily), ("coefficients", fit_coefficients)),
    "all": (
        ("greedy", fit_greedily),
        ("joint", fit_jointly),
        ("restarts", fit_again),
    ),
}
#: fewest trajectories of a fit
LEAST = 16
#: share of the budget for the stages; the rest is for the comparison
_SHARE = 0.95
#: first seeds of the three sets of trajectories, far from those that users begin with
_SETS = {"train": 1 << 40, "validation": 1 << 41, "test": 1 << 42}
Report = Callable[[str], None]


def tune(
    denoiser: Denoiser,
    nfe: int = 8,
    *,
    what: str = "all",
    budget: float | str = 300.0,
    sampler: str | None = None,
    grid: str | Grid = "auto",
    options: Mapping[str, Any] | None = None,
    trajectories: int | None = None,
    test: int | None = None,
    fine_steps: int | None = None,
    cond: Conditions = None,
    loss: Loss | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> Tuned:
    """Find the best deterministic plan of ``nfe`` network calls for a model.

    Plans are fitted to the model's own converged trajectories, chosen by others, and compared with
    the best untuned plan on a third set. The untuned plan is returned where it wins.

    Args:
        denoiser: the model, guided or not.
        nfe: network calls of the plan.
        what: ``"search"`` chooses among untuned samplers and grids; ``"statistics"`` adds
            DPM-Solver-v3 with statistics of the model; ``"times"`` also fits the times of the best;
            ``"schedules"`` takes times by GITS, AYS and optimal steps; ``"compensation"`` fits the
            ratios of DC-Solver; ``"coefficients"`` fits the coefficients of the best; ``"all"``
            coefficients, times and the times that the network is told. ``"space"`` searches a
            decision for every step. Several in turn: ``"space+all"``.
        budget: seconds, or a text such as ``"5min"``, from the call on, converged trajectories
            included; the search always runs.
        sampler, grid, options: begin from this plan and search no other.
        trajectories: of the fit (default 256, 64 for networks); half as many validate.
        test: trajectories of the comparison (default: as many as of the fit).
        fine_steps: steps of the converged trajectories (default 512, 128 for networks).
        cond: conditions of the trajectories: a function of their seeds (a sequence of integers)
            that returns a tensor or a mapping, batch first; None: none.
        loss: distil the plan to this loss at last: ``loss(x, cond)`` of end states (B, *shape)
            returns a tensor () of all of them or (B,), lower is better. It need not be
            differentiable.
        seed: shifts the seeds of all trajectories.
        report: called with lines of progress.

    Returns the plan with its provenance and report (docs/tune.md). Raises TuneError where there are
    too few trajectories, where the converged ends are no numbers, or where no deterministic plan
    has ``nfe`` calls.
    """
    nfe = integer("nfe", nfe, 1)
    for part in str(what).split("+"):
        choice("what", part, STAGES)
    began = time.monotonic()
    seconds = duration("budget", budget)
    tell = report or (lambda line: None)
    model = Model(complete(denoiser))
    counts = _counts(model, trajectories, test, fine_steps)
    start = _start(model.denoiser, nfe, sampler, grid, dict(options or {}))
    sets = _sets(model, counts, integer("seed", seed, 0, 1 << 38), cond, tell)
    problem = Problem(
        model, facts_of(model.denoiser), nfe, sets["train"], sets["validation"], counts[2]
    )
    problem.ends_at = began + _SHARE * seconds
    metric = None if loss is None else Metric(loss, model)
    if metric is not None:
        metric.refuse_nan(problem.train.end, problem.train.cond)
    found, history = _stages(problem, what, start, tell)
    best, untuned = chosen(found)
    about: dict[str, Any] = {}
    if metric is not None:
        best, about = distilled(problem, best, untuned, metric, sets["test"], tell)
        spent = about["loss"]["seconds"]
        history.append({"stage": "distill", "validation": short(best.score), "seconds": spent})
    said = facts(problem, best, untuned, history, sets) | about
    said |= {"what": what, "seed": seed, "seconds": round(time.monotonic() - began, 1)}
    return Tuned(best.plan, made_for(denoiser), said)


def _counts(
    model: Model, train: int | None, test: int | None, fine_steps: int | None
) -> tuple[int, int, int]:
    """Trajectories of the fit and of the comparison, and steps of their converged ends."""
    own = EXACT if model.exact else NETWORK
    train = own[0] if train is None else integer("trajectories", train, 1)
    if train < LEAST:
        raise TuneError(
            f"trajectories={train}: too few to tell a gain from chance; give at least {LEAST}, "
            f"better {own[0]}"
        )
    test = train if test is None else integer("test", test, LEAST)
    steps = own[1] if fine_steps is None else integer("fine_steps", fine_steps, 16)
    return train, test, steps


def _sets(
    model: Model, counts: tuple[int, int, int], seed: int, cond: Conditions, tell: Report
) -> dict[str, Trajectories]:
    """The trajectories of the fit, of the validation, and of the comparison."""
    schedule = model.denoiser.schedule
    first, found = schedule.node(schedule.t_max), {}
    if cond is not None and not callable(cond):
        raise TuneError("cond: must be a function of the seeds of the trajectories")
    sizes = (counts[0], max(LEAST, counts[0] // 2), counts[1])
    for (name, begin), size in zip(_SETS.items(), sizes, strict=True):
        tell(f"{name}: {size} converged trajectories of {counts[2]} steps")
        seeds = range(begin + seed, begin + seed + size)
        found[name] = trajectories(model, seeds, cond, first, counts[2], name == "test")
    return found


def _start(
    denoiser: BaseDenoiser,
    nfe: int,
    sampler: str | None,
    grid: str | Grid,
    options: Mapping[str, Any],
) -> Plan | None:
    """The plan that the caller names; None to search one. TuneError for a plan that draws noise."""
    if sampler is None:
        if grid != "auto" or options:
            raise TuneError("grid= and options= belong to a sampler: give sampler= as well")
        return None
    where = GridRequest(nfe=nfe, grid=grid, facts=facts_of(denoiser))
    plan = request(sampler, denoiser.schedule, options, where).plan()
    if plan.stochastic:
        raise TuneError(
            f"sampler={sampler!r} draws noise, so its runs have no converged end to be fitted to; "
            "give a deterministic sampler, such as 'unipc'"
        )
    return plan


def _stages(
    problem: Problem, what: str, start: Plan | None, tell: Report
) -> tuple[list[Candidate], list[dict[str, Any]]]:
    """The candidates after all stages, best first, and what each stage reached."""
    found: list[Candidate] = []
    if start is not None:
        found = [Candidate(start, problem.held_score(start), start.name)]
    first: tuple[tuple[str, Stage], ...] = () if found else (("search", search),)
    history = []
    for name, stage in (*first, *(stage for part in what.split("+") for stage in STAGES[part])):
        if found and not problem.time_left:
            tell(f"{name}: left out, the budget is spent")
            break
        began = time.monotonic()
        found = stage(problem, found)
        if not found or found[0].score == math.inf:
            raise TuneError(f"no deterministic plan of {problem.nfe} network calls runs here")
        spent = round(time.monotonic() - began, 2)
        history.append({"stage": name, "validation": short(found[0].score), "seconds": spent})
        tell(f"{name}: validation error {found[0].score:.4g} in {spent} s")
    return found, history
