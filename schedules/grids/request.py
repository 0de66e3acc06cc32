"""The grid that a caller asks for: a name, or nodes of its own, and a length.

``fewstep.plan``, ``fewstep.sample`` and all that call them collect these arguments in one
``GridRequest``, which checks them and builds the ``Grid`` on a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...checks import ArgumentError, integer
from ..base import Schedule
from .auto import UNKNOWN, DataFacts, Kind
from .construction import MAX_STEPS, Grid, numbers
from .construction import grid as make_grid

#: number of steps where neither steps nor nfe nor nodes are given
DEFAULT_STEPS = 20
#: the largest budget of network calls
MAX_NFE = 2**31


@dataclass(frozen=True)
class GridRequest:
    """A grid by name or by its nodes, not yet laid out on a schedule. Compared and hashed by value.

    Attributes:
        steps: number of steps; or ``nfe``, a budget of network calls. Neither: the number of the
            given nodes, else 20.
        grid: the name of a grid, or a ``Grid`` as it is.
        times, sigmas: the nodes, as times or as values of sigma/alpha.
        final: ``zero`` or ``sigma_min``, of a named grid.
        start: first time, instead of t_max, of a named grid.
        options: options of a named grid, as (name, value) pairs.
        kind, facts: what grid ``auto`` depends on (see ``auto``).

    Raises ArgumentError for numbers out of range and for arguments that exclude each other, and
    GridError for nodes that are no numbers.
    """

    steps: int | None = None
    nfe: int | None = None
    grid: str | Grid | None = "auto"
    times: Sequence[float] | None = None
    sigmas: Sequence[float] | None = None
    final: str = "zero"
    start: float | None = None
    options: tuple[tuple[str, Any], ...] = ()
    kind: Kind = "multistep"
    facts: DataFacts = UNKNOWN

    def __post_init__(self) -> None:
        if self.grid is not None and not isinstance(self.grid, (str, Grid)):
            raise ArgumentError(
                f"grid={self.grid!r} must be a name or a Grid; times= or sigmas= take lists"
            )
        if self.steps is not None and self.nfe is not None:
            raise ArgumentError(f"steps={self.steps} and nfe={self.nfe}: give one of them")
        for name, most in (("steps", MAX_STEPS), ("nfe", MAX_NFE)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, count(name, value, most))
        for name in ("times", "sigmas"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(numbers(name, value)))
        self._check_exclusive()

    def _check_exclusive(self) -> None:
        """Raise ArgumentError where the nodes are given twice, or given with arguments that only a
        named grid has."""
        nodes = {"times": self.times is not None, "sigmas": self.sigmas is not None}
        own = [name for name, is_given in nodes.items() if is_given]
        named = isinstance(self.grid, str) and self.grid not in ("auto", "custom")
        if not own and not isinstance(self.grid, Grid):
            return
        source = "a Grid" if isinstance(self.grid, Grid) else f"{own[0]}="
        more = [f"{name}=" for name in (own if isinstance(self.grid, Grid) else own[1:])]
        more += [f"grid={self.grid!r}"] * (named and bool(own))
        more += ["start="] * (self.start is not None)
        more += [f"final={self.final!r}"] * (self.final != "zero")
        more += [f"{name}=" for name, _ in self.options]
        if more:
            raise ArgumentError(
                f"{source} already gives all nodes, so {', '.join(more)} cannot be used: "
                "leave one of them out"
            )

    @property
    def given(self) -> bool:
        """Whether the nodes themselves are given: a Grid, times or sigmas."""
        return isinstance(self.grid, Grid) or self.times is not None or self.sigmas is not None

    @property
    def automatic(self) -> bool:
        """Whether the grid is left to the rule of ``auto``."""
        return not self.given and self.grid in (None, "auto")

    @property
    def length(self) -> int:
        """Steps or budget of calls or given nodes less one, whichever is given; else 20."""
        if isinstance(self.grid, Grid):
            return self.grid.steps
        nodes = self.times if self.times is not None else self.sigmas
        if nodes is not None:
            return max(len(nodes) - 1, 1)
        return self.steps or self.nfe or DEFAULT_STEPS

    def build(self, schedule: Schedule, steps: int | None = None) -> Grid:
        """The grid on ``schedule``. ``steps``: a number that was fitted to ``nfe``.

        Raises GridError for a grid that cannot be laid out, and ArgumentError where the given nodes
        are of another number or belong to another schedule.
        """
        steps = self.steps if steps is None else steps
        made = self.grid
        if not isinstance(made, Grid):
            where: dict[str, Any] = {"final": self.final, "start": self.start}
            where |= {"kind": self.kind, "facts": self.facts} if self.automatic else {}
            name, length = made, DEFAULT_STEPS if steps is None else steps
            if not self.given:
                return make_grid(name, schedule, length, **where, **dict(self.options))
            made = make_grid("custom", schedule, times=self.times, sigmas=self.sigmas)
        if made.schedule != schedule:
            raise ArgumentError(f"the grid belongs to {made.schedule}, the model to {schedule}")
        if steps is not None and steps != made.steps:
            raise ArgumentError(f"steps={steps}, but the given grid has {made.steps}")
        return made


def count(name: str, value: int, most: int) -> int:
    """``value`` as an integer from 1 to ``most``. Raises ArgumentError."""
    found = integer(name, value, 1)
    if found > most:
        raise ArgumentError(f"{name}={found} must be at most {most}")
    return found
