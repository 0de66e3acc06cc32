"""Time grids: ``steps + 1`` strictly decreasing times from noise to data, made by name or given.

``final="zero"``: the times run from t_max to t_min and a last step leads to sigma = 0.
``final="sigma_min"``: they end at t_min. Where sigma(t_min) = 0 (Flow, Trig) both are the same. The
spacings themselves, with equations and sources, are in ``spacings``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...checks import (
    ArgumentError,
    GridError,
    described,
    flag,
    instance,
    integer,
    is_finite,
    number,
    plain,
    shown,
    unknown,
)
from ..base import Schedule, check_schedule
from ..discrete import DiscreteVP
from ..node import Node
from .auto import auto_choice
from .registry import ALIASES, GRIDS
from .spacings import Frame

#: the longest grid; a plan of more steps would take gigabytes
MAX_STEPS = 100_000

Params = tuple[tuple[str, float | str | bool], ...]


@dataclass(frozen=True)
class Grid:
    """``steps + 1`` nodes of a schedule from noise to data, with the name and parameters they came
    from.

    Compared and hashed by value. ``len(grid)`` is the number of nodes, ``grid[i]`` is node i.
    """

    schedule: Schedule
    times: tuple[float, ...]
    nodes: tuple[Node, ...]
    name: str = "custom"
    params: Params = ()
    final: str = "zero"

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        for name in ("times", "nodes"):
            instance(name, getattr(self, name), tuple, "a tuple; fewstep.grid makes one")
        if not len(self.times) == len(self.nodes) >= 2:
            raise GridError(
                f"{len(self.times)} times and {len(self.nodes)} nodes; a grid has the same "
                "number of both, at least 2"
            )

    @property
    def steps(self) -> int:
        """Number of steps, one less than the number of nodes."""
        return len(self.nodes) - 1

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, i: int) -> Node:
        return self.nodes[i]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def pairs(self) -> Iterator[tuple[Node, Node]]:
        """``(s, t)`` for every step, from noise to data."""
        return pairwise(self.nodes)

    def tail(self, i: int) -> Grid:
        """The grid from node ``i`` on: the last ``steps - i`` steps. GridError unless 0 <= i <
        steps."""
        try:
            i = integer("i", i, 0, self.steps - 1)
        except ArgumentError:
            raise GridError(
                f"tail({shown(i)}) of a grid of {self.steps} steps: allowed 0 <= i < {self.steps}"
            ) from None
        if i == 0:
            return self
        before = sum(int(v) for k, v in self.params if k == "tail")
        params = (*((k, v) for k, v in self.params if k != "tail"), ("tail", before + i))
        return Grid(self.schedule, self.times[i:], self.nodes[i:], self.name, params, self.final)

    def at_lam(self, lam: float) -> Node:
        """The schedule's node at half log-SNR ``lam``. ValueError outside its range."""
        return self.schedule.node_at_lam(lam)

    def at_rho(self, rho: float) -> Node:
        """The schedule's node at noise-to-signal ratio ``rho``. ValueError outside its range."""
        return self.schedule.node_at_rho(rho)

    def at_t(self, t: float) -> Node:
        """The schedule's node at time ``t``. ValueError outside its range."""
        return self.schedule.node(t)

    @classmethod
    def from_nodes(cls, nodes: Sequence[Node], schedule: Schedule) -> Grid:
        """A grid of explicit nodes, taken as they are (their alpha and sigma need not be the
        schedule's, rho need not fall).

        A node without ``t`` gets the schedule's time at its lam in ``times``, NaN where there is
        none; the node keeps None.
        """

        check_schedule(schedule)
        if not isinstance(nodes, Iterable) or not all(isinstance(node, Node) for node in nodes):
            raise GridError(f"nodes={shown(nodes)}: a list of Nodes is wanted")

        def time(node: Node) -> float:
            try:
                return schedule.time_at_lam(node.lam) if node.t is None else node.t
            except ValueError:
                return math.nan

        return cls(schedule, tuple(time(node) for node in nodes), tuple(nodes), "nodes")


def grid(
    name: str | None,
    schedule: Schedule,
    steps: int | None = None,
    *,
    final: str = "zero",
    start: float | None = None,
    shift: float | None = None,
    rho: float | None = None,
    power: float | None = None,
    offset: int | None = None,
    drop_last: bool | None = None,
    a: float | None = None,
    b: float | None = None,
    threshold: float | None = None,
    table: str | None = None,
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
) -> Grid:
    """The grid ``name`` of ``steps`` steps on ``schedule``.

    Args:
        name: a name of ``grid_names()``; "auto" is the schedule's own choice; None or "custom" with
            ``times`` or ``sigmas``.
        steps: number of steps; left out with ``times`` or ``sigmas``.
        final: "zero" or "sigma_min" (module docstring); given times end where they end.
        start: begin at this time instead of t_max: the named spacing is laid out anew from there,
            with ``steps`` steps. (The tail of the full grid is ``grid(...).tail(i)``.)
        shift: translate grids spaced in t by lam -> lam - log(shift), on schedules from alpha = 0
            to sigma = 0; default: the schedule's own. Grids in lam or rho are not shifted.
        rho: exponent of karras (7).
        power: of power (2) and polyexponential (1).
        offset: first index of leading (0).
        drop_last: uniform, linspace, leading, power, lam, karras, (poly)exponential take one point
            more and drop the last (False).
        a, b: of beta and beta_t (0.6, 0.6).
        threshold: of linear_quadratic (0.025).
        table: of ays ("sd15", "sdxl", "svd") and oss ("flux", "wan").
        times: decreasing times of the schedule, taken as they are.
        sigmas: the same as values of sigma/alpha, which may end in 0.

    Raises GridError (a ValueError) for an unknown name, an option the spacing does not have, steps
    < 1, times that are not finite, not in the schedule or not strictly decreasing (a spacing in
    integers with more steps than the table has entries).
    """
    check_schedule(schedule)
    if times is not None or sigmas is not None:
        given = (start, shift, rho, power, offset, drop_last, a, b, threshold, table)
        return _given(
            name, schedule, steps, final, times, sigmas, any(v is not None for v in given)
        )
    if not isinstance(final, str) or final not in ("zero", "sigma_min"):
        raise GridError(unknown("final", final, ("zero", "sigma_min")))
    steps = _checked(integer, "steps", steps, 1)
    if steps > MAX_STEPS:
        raise GridError(f"steps={steps}: allowed are at most {MAX_STEPS}")
    options: dict[str, Any] = {
        "rho": rho,
        "power": power,
        "offset": offset,
        "drop_last": drop_last,
        "a": a,
        "b": b,
    }
    options |= {"threshold": threshold, "table": table, "shift": shift}
    options = {k: v for k, v in options.items() if v is not None}
    if name is None or (isinstance(name, str) and name == "auto"):
        name, chosen = auto_choice(schedule)
        options = {**chosen, **options}
    return _named(
        ALIASES.get(name, name) if isinstance(name, str) else name,
        schedule,
        steps,
        final,
        start,
        options,
    )


def _named(
    name: str,
    schedule: Schedule,
    steps: int,
    final: str,
    start: float | None,
    options: dict[str, Any],
) -> Grid:
    """A grid of the registry."""
    if not isinstance(name, str) or name not in GRIDS:
        raise GridError(unknown("grid", name, [*GRIDS, *ALIASES, "auto"]))
    entry = GRIDS[name]
    for key in options:
        if key not in entry.options and not (key == "shift" and entry.in_t):
            takers = [
                n for n, e in GRIDS.items() if key in e.options or (key == "shift" and e.in_t)
            ]
            raise GridError(f"grid {name!r} takes no {key}=; {', '.join(takers)} do")
    shift = options.pop("shift", getattr(schedule, "shift", 1.0) if entry.in_t else 1.0)
    full, shift = _check_options({**entry.options, **options}, shift, schedule)
    top = schedule.t_max if start is None else _start(schedule, start)
    try:
        with np.errstate(all="ignore"):
            values = entry.spacing(Frame(schedule, steps, top, final, shift), full)
    except (ArithmeticError, ArgumentError) as error:
        raise GridError(
            f"grid {name!r} cannot be laid out with {full}, shift={shift}, {steps} steps on "
            f"{schedule!r}: {error}"
        ) from None
    params: list[tuple[str, float | str | bool]] = [
        (k, v) for k, v in full.items() if not (v is False or v == 0)
    ]
    params += [("shift", shift)] if shift != 1.0 else []
    params += [("start", top)] if start is not None else []
    advice = f"grid {name!r} with {steps} steps on {schedule!r}: "
    return _build(schedule, values, name, tuple(params), final, advice)


def _check_options(
    options: dict[str, Any], shift: Any, schedule: Schedule
) -> tuple[dict[str, Any], float]:
    """The options and the shift as plain Python values; GridError for values that no spacing can
    use."""
    found = dict(options)
    for key, high in (
        ("rho", math.inf),
        ("power", math.inf),
        ("a", math.inf),
        ("b", math.inf),
        ("threshold", 0.5),
    ):
        if key in found:
            found[key] = _between(key, found[key], high)
    if "drop_last" in found:
        found["drop_last"] = _checked(flag, "drop_last", found["drop_last"])
    if "offset" in found:
        offset = found["offset"] = _checked(integer, "offset", found["offset"], -(2**63))
        if offset < 0 or (offset and not isinstance(schedule, DiscreteVP)):
            raise GridError(
                f"offset={offset!r}: allowed >= 0, on tables (DiscreteVP) only; the schedule "
                f"is {schedule!r}"
            )
    shift = float(_between("shift", shift, math.inf))
    if shift != 1.0 and not (
        schedule.alpha(schedule.t_max) == 0.0 and schedule.sigma(schedule.t_min) == 0.0
    ):
        raise GridError(
            f"shift={shift!r} needs a path from alpha = 0 to sigma = 0 (Flow, Trig); "
            f"{schedule!r} is none"
        )
    return found, shift


def _between(key: str, value: Any, high: float) -> float:
    """``value`` as a number in (0, high)."""
    found = plain(value)
    if (
        isinstance(found, bool)
        or not isinstance(found, (int, float))
        or not is_finite(found)
        or not 0.0 < found < high
    ):
        raise GridError(f"{key}={value!r}: allowed 0 < {key} < {high}")
    return found


def _checked(check: Callable[..., Any], *arguments: Any) -> Any:
    """What a check of ``checks`` gives; its ArgumentError as GridError."""
    try:
        return check(*arguments)
    except ArgumentError as error:
        raise GridError(str(error)) from None


def _start(schedule: Schedule, start: float) -> float:
    """The first time asked for, checked."""
    try:
        t = schedule.clamp(
            float(start if isinstance(start, float) else _checked(number, "start", start))
        )
    except ValueError as error:
        raise GridError(f"start={start!r}: {error}") from None
    if t == schedule.t_zero:
        raise GridError(f"start={start!r} is sigma = 0 of {schedule!r}: no step is left")
    return t


def _given(
    name: str | None,
    schedule: Schedule,
    steps: int | None,
    final: str,
    times: Sequence[float] | None,
    sigmas: Sequence[float] | None,
    more: bool,
) -> Grid:
    """The grid of explicit times or noise-to-signal ratios."""
    if times is not None and sigmas is not None:
        raise GridError("times= and sigmas= were both given: give one of them")
    if not (name is None or (isinstance(name, str) and name in ("custom", "auto"))) or more:
        raise GridError(
            f"times= or sigmas= make a grid of their own; grid {shown(name)} with its "
            "options, or start=, cannot be given as well"
        )
    word = "times" if times is not None else "sigmas"
    raw = _numbers(word, times if times is not None else sigmas)
    if len(raw) < 2:
        raise GridError(f"{word} has {len(raw)} values; at least 2 are needed")
    if steps is not None and _checked(integer, "steps", steps, 1) != len(raw) - 1:
        raise GridError(
            f"steps={steps}, but {word} has {len(raw)} values, which is {len(raw) - 1} steps"
        )
    try:
        values = raw if times is not None else [schedule.time_at_rho(v) for v in raw]
    except ValueError as error:
        raise GridError(f"sigmas: {error}") from None
    return _build(schedule, values, "custom", (), final, f"{word}: ")


def _numbers(word: str, values: Any) -> list[float]:
    """A caller's list, array or tensor as floats; -inf is sigma = 0 of VE."""
    if getattr(values, "is_meta", False) or getattr(values, "is_sparse", False):
        raise GridError(f"{word} is a {described(values)}; a list of numbers is wanted")
    listed = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(listed, (str, bytes)) or not isinstance(listed, Iterable):
        raise GridError(f"{word}={values!r}: a list of numbers is wanted")
    items = [plain(v) for v in listed]
    bad = [v for v in items if isinstance(v, bool) or not isinstance(v, (int, float))]
    if bad:
        raise GridError(f"{word} holds {bad[0]!r}; numbers are wanted")
    return [float(v) if is_finite(v) or isinstance(v, float) else math.inf for v in items]


def _build(
    schedule: Schedule, values: Sequence[float], name: str, params: Params, final: str, what: str
) -> Grid:
    """A Grid of checked times."""
    try:
        times = tuple(schedule.clamp(float(t)) for t in values)
    except ValueError as error:
        raise GridError(f"{what}{error}") from None
    for i, (s, t) in enumerate(pairwise(times)):
        if not s > t:
            raise GridError(
                f"{what}times must fall strictly from noise to data, but time {i} is {s!r} "
                f"and time {i + 1} is {t!r}"
                + (
                    "; fewer steps, or a spacing that does not round (uniform, lam, karras), "
                    "avoid repeated times"
                    if s == t
                    else ""
                )
            )
    nodes = tuple(schedule.node(t) for t in times)
    flat = next((i for i, (s, t) in enumerate(pairwise(nodes)) if not s.rho > t.rho), None)
    if flat is not None:
        raise GridError(
            f"{what}sigma/alpha does not fall between times {times[flat]!r} and {times[flat + 1]!r}"
        )
    return Grid(schedule, times, nodes, name, params, final)


def grid_names() -> tuple[str, ...]:
    """All grid names, aliases left out."""
    return (*GRIDS, "auto")
