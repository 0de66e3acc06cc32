"""Definition of a k-diffusion function: its signature, the sampler with its options, and the times
at which it draws noise."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...engine.planning import request
from ...plans.plan import Plan
from ...samplers import get
from ...samplers.option_names import aliases
from ...schedules import EDM
from ...schedules.grids.request import GridRequest
from .arguments import Levels, bare, bound, check_callables, check_state, floating, mapping
from .following import KDiffusionModel, Shown, run_with_callback, step_starts
from .noises import Asks, Between, Draws, SigmaPath, churn_asks, keyed

Options = dict[str, Any]
#: options that k-diffusion has another word for: solver_type, h_init
_RENAMED = ("correction", "h0")


@dataclass(frozen=True, eq=False)
class Function:
    """A k-diffusion function: ``options`` converts its arguments to options of ``sampler``, ``run``
    runs it.

    ``asks``: the noises that it draws (``noises``); ``path``: they are increments of one Brownian
    path by default; ``slope_first``: see ``following.Shown``.
    """

    name: str
    sampler: str
    signature: inspect.Signature
    options: Callable[..., Options]
    run: Callable[[Function, Mapping[str, Any], Options], Any]
    asks: Callable[..., Asks] | None = None
    path: bool = False
    slope_first: bool = False

    @property
    def own(self) -> tuple[str, ...]:
        """The sampler's options that k-diffusion does not have."""
        sampler = get(self.sampler)
        names = aliases(sampler.options).items()
        theirs = [option for word, option in names if word in self.signature.parameters]
        found = (
            f.name
            for f in fields(sampler.options)
            if f.name not in (*self.signature.parameters, *theirs, *_RENAMED)
        )
        return (*found, *(("afs",) if sampler.form == "plan" else ()))


@torch.no_grad()
def along(made: Function, given: Mapping[str, Any], further: Options) -> Tensor:
    """Run a function of k-diffusion along its list of levels."""
    x, levels = given["x"], Levels.of(given["sigmas"])
    options = {**made.options(**given), **further}
    schedule = path_of(levels.values, given.get("r", 0.5))
    if schedule is None:
        return x  # type: ignore[no-any-return]
    plan = request(made.sampler, schedule, options, GridRequest(times=levels.values)).plan()
    between: Between | None = None
    sampler, callback = given.get("noise_sampler"), given["callback"]
    if made.path and sampler is None:
        # a stage at r > 1 is below its step
        lows = (*(draw.end.sigma for draw in plan.draws), *levels.values)
        between = SigmaPath(plan, x.shape[0], min(s for s in lows if s > 0.0), levels.values[0])
    draws = Draws(plan, _asks(made, plan, levels.tensor, given), between, sampler)
    hats = floating(levels.tensor) if made.asks is churn_asks else levels.tensor
    shown = None if callback is None else Shown(callback, levels.tensor, hats, made.slope_first)
    return run_with_callback(
        plan,
        KDiffusionModel(given["model"], mapping(given["extra_args"]), schedule),
        x,
        draws,
        shown,
    )


def function(
    sampler: str,
    asks: Callable[..., Asks] | None = None,
    *,
    run: Callable[[Function, Mapping[str, Any], Options], Any] = along,
    path: bool = False,
    slope_first: bool = False,
) -> Callable[[Callable[..., Options]], Callable[..., Any]]:
    """A ``sample_*`` function from its signature and the options of ``sampler`` that its arguments
    stand for."""

    def decorate(declared: Callable[..., Options]) -> Callable[..., Any]:
        made = Function(
            declared.__name__, sampler, bare(declared), declared, run, asks, path, slope_first
        )

        @functools.wraps(declared)
        def call(*args: Any, **keywords: Any) -> Any:
            given, further = bound(made.signature, made.name, args, keywords, made.own)
            check_state(given["x"])
            check_callables(
                model=given["model"],
                callback=given["callback"],
                noise_sampler=given.get("noise_sampler"),
            )
            return made.run(made, given, further)

        call.__signature__ = made.signature  # type: ignore[attr-defined]
        return call

    return decorate


def _asks(made: Function, plan: Plan, sigmas: Tensor, given: Mapping[str, Any]) -> Asks | None:
    """The noises that k-diffusion draws; None if an option of fewstep changes the program so that
    they do not apply."""
    starts = {i: k for k, i in step_starts(plan).items()}
    if made.asks is None or sorted(starts) != list(range(plan.steps)):
        return None
    more = {"r": given["r"]} if "r" in given else {}
    return keyed(
        made.asks(plan, [starts[i] for i in range(plan.steps)], floating(sigmas), **more), plan
    )


def path_of(levels: Sequence[float], r: object = 0.5) -> EDM | None:
    """The schedule from below the levels to above them (churn goes up to 1.42 of the first, a stage
    at ``r`` > 1 below the end of its step); None for a single level."""
    if len(levels) < 2:
        return None
    low = min(s for s in levels if s > 0.0)
    beyond = (
        [(t / s) ** (r - 1.0) * t for s, t in pairwise(levels) if t > 0.0]
        if isinstance(r, float) and r > 1.0
        else []
    )
    return EDM(min(low, *beyond, low) * 0.5, levels[0] * 1.5)
