"""Equal network calls for drivers whose calls depend on the data: the most steps whose mean number
of calls of one sample is within the budget, found by measurement."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...checks import ArgumentError
from ...engine.planning import Request
from ...samplers import registry
from ...samplers.budgets import largest

#: seeds whose calls are measured
SEEDS = 16
#: largest number of steps that is tried, in units of the budget
MOST = 3


def skips(asked: Request) -> bool:
    """Whether the sampler is a driver that runs on the grid's steps and makes as many calls as the
    data need: its steps do not say its calls."""
    return asked.driver and skips_calls(registry.get(asked.name))


def skips_calls(entry: registry.Sampler) -> bool:
    """Whether a sampler is such a driver."""
    return entry.form == "driver" and not entry.free and entry.fill is None


def steps_within(budget: int, calls: Callable[[int], float]) -> int:
    """The most steps, from ``budget`` to ``MOST`` times it, with ``calls(steps)``, the mean number
    of calls of one sample, at most ``budget``. ``calls`` is taken to rise with the steps."""
    found = largest(
        lambda steps: math.ceil(calls(steps) - 1e-9), MOST * budget, budget, min(budget, 1)
    )
    if not found:
        raise ArgumentError(f"one step makes more than {budget} network calls")
    return found
