"""Step skipping: another sampler on a finer grid, which reuses or extrapolates the outputs of
earlier network calls where it makes none (``plans.transforms.skipped_calls``).

Caches that keep a network's output over several steps do this (a fixed interval, as in the static
caches that SADA, arXiv 2507.17135, compares with). Reuse under DDIM is DDIM on the nodes of the
calls made; under a multistep method it puts equal predictions into the history and so reduces the
method to first order. Extrapolation through p points keeps the order min(p, order of the method).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ...checks import choice, integer
from ...checks.option_values import pairs
from ...plans.builder import PlanBuilder
from ...plans.instructions import MAIN
from ...plans.plan import Plan
from ...plans.transforms.skipped_calls import VARIABLES, skip_calls
from ...schedules.flow import Flow
from ...schedules.grids.construction import Grid, grid
from ...schedules.kinds import KINDS
from ...schedules.ve import EDM
from ..registry import SamplerError, build, get, make_options, register

NAME = "skipped"


@dataclass(frozen=True)
class Skipped:
    """Options of ``skipped``.

    ``method``: the sampler whose calls are skipped, with ``arguments`` as its options. ``every``:
    the calls 0, ``every``, 2 ``every``, ... are made; ``skip``: the numbers of the calls that are
    not made, in place of ``every``. ``kind``: the kind of prediction kept, x0, eps, v, velocity or
    score; None: the one that the method reads. ``points``: number of calls extrapolated from, 1 is
    reuse of the last, 2 linear extrapolation; ``variable``: in lam, t, or the number of the call.
    """

    method: str = "ddim"
    arguments: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    every: int = 2
    skip: tuple[int, ...] = ()
    kind: str | None = None
    points: int = 1
    variable: str = "lam"

    def __post_init__(self) -> None:
        integer("every", self.every, 1, 1000)
        integer("points", self.points, 1, 8)
        choice("variable", self.variable, VARIABLES)
        if self.kind is not None:
            choice("kind", self.kind, KINDS)
        skip = tuple(integer("skip", k, 1, 100_000) for k in self.skip)
        object.__setattr__(self, "skip", tuple(sorted(set(skip))))
        sampler = get(self.method)
        if self.method == NAME or sampler.form != "plan" or sampler.channels != (MAIN,):
            raise SamplerError(
                f"method={self.method!r}: must be a sampler of form plan, other than {NAME!r}, "
                "that reads one prediction"
            )
        object.__setattr__(self, "arguments", pairs("arguments", self.arguments))
        self.inner()

    def inner(self) -> Any:
        """The options of the method."""
        return make_options(get(self.method), dict(self.arguments))

    def gone(self, calls: int) -> tuple[int, ...]:
        """The numbers of the calls not made among ``calls``."""
        return self.skip or tuple(k for k in range(calls) if k % self.every)


def _filled(nfe: int, options: Skipped) -> tuple[int, Skipped]:
    """The steps of which ``nfe`` calls are left, counted on a path of the method's kind."""
    from ..budgets import fitted_steps

    total = nfe + len(options.skip) if options.skip else nfe * options.every
    if options.skip and options.skip[-1] >= total:
        raise SamplerError(
            f"skip={options.skip}: with nfe={nfe} the plan has {total} calls, numbered from 0; "
            "skip fewer, or give steps="
        )
    path = Flow() if get(options.method).on[0] == "flow" else EDM()
    inner = options.inner()
    steps, chosen = fitted_steps(options.method, total, inner, lambda n: grid("lam", path, n))
    if chosen == inner:
        return steps, options
    given = {f.name: getattr(chosen, f.name) for f in fields(chosen)}
    return steps, replace(options, arguments=tuple(given.items()))


@register(
    NAME,
    order=lambda o: min(
        get(o.method).order_of(o.inner()), math.inf if o.every == 1 and not o.skip else o.points
    ),
    source="output caching with a fixed interval; compared in Jiang et al. 2025, arXiv 2507.17135",
    tau=lambda o: get(o.method).tau_of(o.inner()),
    allow="asymptotic",
    alpha_zero=True,
    fill=_filled,
    follows=lambda o: (o.method, o.inner()),
    variants=(
        {"kind": "eps"},
        {"every": 3, "kind": "velocity"},
        {"method": "dpmpp_2m"},
        {"method": "dpmpp_2m", "points": 2},
        {
            "method": "dpmpp_3m",
            "arguments": {"lower_order_final": False},
            "points": 3,
            "variable": "call",
        },
        {"method": "heun", "points": 2},
        {"method": "ddpm"},
    ),
)
def skipped(b: PlanBuilder, grid: Grid, options: Skipped) -> Plan:
    """Another sampler with some of its network calls replaced by earlier outputs, reused or
    extrapolated (output caching)."""
    plan = build(options.method, grid, options.inner())
    less = skip_calls(
        plan,
        options.gone(plan.nfe),
        kind=options.kind,
        points=options.points,
        variable=options.variable,
    )
    return replace(less, name=b.name)
