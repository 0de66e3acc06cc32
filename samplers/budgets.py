"""Budgets: finds the largest plan with at most ``nfe`` network calls by building O(log nfe) plans.

The number of calls of every sampler increases with its steps. The search therefore starts from a
number of steps that fits and one that does not, and alternates interpolation (exact if the calls
are affine in the steps, as is usual) with bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, NamedTuple

from ..checks import flag, instance, integer
from ..schedules.grids.construction import Grid
from .registry import Sampler, SamplerError, build, get

#: the search for the smallest plan tries the sizes 1 .. _FIRST
_FIRST = 8


class Point(NamedTuple):
    """A size and its cost; the cost is None if no plan of that size exists."""

    size: int
    cost: int | None

    def fits(self, budget: int) -> bool:
        """True if the cost is within ``budget``."""
        return self.cost is not None and self.cost <= budget


def largest(cost: Callable[[int], int | None], most: int, budget: int, least: int = 1) -> int:
    """Largest size in ``least .. most`` with ``cost(size) <= budget``; 0 if there is none.

    ``cost`` must not decrease. It may return None for sizes above the largest possible one.
    """
    low, high = Point(least, cost(least)), Point(most + 1, None)
    if most < least or not low.fits(budget):
        return 0
    guess, halve = most, False
    while high.size - low.size > 1:
        found = Point(guess, cost(guess))
        low, high = (found, high) if found.fits(budget) else (low, found)
        middle = guess = (low.size + high.size) // 2
        if not halve and low.cost is not None and high.cost is not None and high.cost > low.cost:
            guess = low.size + (high.size - low.size) * (budget - low.cost) // (
                high.cost - low.cost
            )
        guess, halve = min(max(guess, low.size + 1), high.size - 1), not halve or guess == middle
    return low.size


def fitted_steps(
    name: str, nfe: int, options: Any, grid_of: Callable[[int], Grid], given: bool = False
) -> tuple[int, Any]:
    """Steps and options of the largest plan with at most ``nfe`` evaluations. Raises SamplerError
    if even the smallest plan costs more.

    ``grid_of(steps)`` must return the grid; it may raise GridError for too many steps (a table with
    fewer entries). ``given``: the grid is fixed and equals ``grid_of(0)``. A driver is also limited
    by ``max_nfe``: it raises BudgetError when it would exceed it.
    """
    sampler, nfe, given = get(name), integer("nfe", nfe, 1, 2**31), flag("given", given)
    instance(
        "options",
        options,
        sampler.options,
        f"options of {name}, as samplers.make_options returns them",
    )
    if not callable(grid_of):
        raise SamplerError(
            f"grid_of={grid_of!r}: must be a function from a number of steps to a Grid"
        )
    whole = nfe + hasattr(options, "afs")  # an analytic first step removes one call
    if sampler.form == "driver":
        steps, chosen = _of_driver(sampler, nfe, options, grid_of(0).steps if given else 0)
        return steps, replace(chosen, max_nfe=min(nfe, chosen.max_nfe))
    search = _Search(sampler, options, grid_of)
    if given:
        return search.on_given(nfe, whole)
    return search.over_sizes(nfe, whole)


def _of_driver(sampler: Sampler, nfe: int, options: Any, steps: int) -> tuple[int, Any]:
    if sampler.fill is None:
        return min(steps or nfe, nfe), options
    found, chosen = sampler.fill(nfe, options)
    if steps and steps > found:
        raise SamplerError(
            f"{sampler.name}: the given grid has {steps} steps, but nfe={nfe} allows {found}"
        )
    return steps or found, chosen


class _Search:
    """Plans of one sampler by size: the budget of its ``fill`` if it has one, else its number of
    steps."""

    def __init__(self, sampler: Sampler, options: Any, grid_of: Callable[[int], Grid]) -> None:
        self.sampler, self.options, self.grid_of = sampler, options, grid_of
        self.error: ValueError | None = None

    def choice(self, size: int) -> tuple[int, Any]:
        """Steps and options of the plan of this size."""
        return (
            (size, self.options)
            if self.sampler.fill is None
            else self.sampler.fill(size, self.options)
        )

    def cost(self, size: int) -> int | None:
        """Number of calls of the plan of this size; None if there is none, with the reason in
        ``error``."""
        try:
            steps, options = self.choice(size)
            return build(self.sampler.name, self.grid_of(steps), options).nfe
        except ValueError as error:
            # too few calls, more steps than entries of a table, or an option with another number
            # of steps
            self.error = error
        return None

    def over_sizes(self, nfe: int, whole: int) -> tuple[int, Any]:
        """Search over grids of any number of steps."""
        if Point(whole, self.cost(whole)).fits(nfe):
            return self.choice(whole)
        least = next(
            (size for size in self.first_sizes(whole) if self.cost(size) is not None), None
        )
        if least is None:
            raise self.error or SamplerError(
                f"{self.sampler.name} has no plan of {whole} calls or fewer"
            )
        size = largest(self.cost, whole - 1, nfe, least)
        if size == 0:
            calls = self.cost(least)
            raise SamplerError(
                f"{self.sampler.name} cannot do one step with nfe={nfe}: its smallest plan "
                f"makes {calls} network calls"
            )
        return self.choice(size)

    def first_sizes(self, whole: int) -> list[int]:
        """Candidates for the smallest plan: small sizes, and the lengths of options with one value
        per step."""
        values = [getattr(self.options, f.name) for f in fields(self.options)]
        lengths = {len(value) for value in values if isinstance(value, tuple) and value}
        return sorted(size for size in {*range(1, _FIRST + 1), *lengths} if size <= whole)

    def on_given(self, nfe: int, whole: int) -> tuple[int, Any]:
        """Choose options for a fixed grid: those of ``fill`` if it uses this number of steps, else
        the options unchanged."""
        grid = self.grid_of(0)
        ways = [self.options]
        if self.sampler.fill is not None:
            steps, options = self.sampler.fill(whole, self.options)
            ways = [options, self.options] if steps == grid.steps else ways
        costs = [build(self.sampler.name, grid, options).nfe for options in ways]
        for options, cost in zip(ways, costs, strict=True):
            if cost <= nfe:
                return grid.steps, options
        raise SamplerError(
            f"{self.sampler.name}: on the given grid of {grid.steps} steps it makes "
            f"{min(costs)} network calls, more than nfe={nfe}"
        )
