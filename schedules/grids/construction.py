"""Time grids: ``steps + 1`` strictly decreasing times from noise to data, made by name or given.

``final="zero"``: the times run from t_max to t_min and a last step leads to sigma = 0.
``final="sigma_min"``: they end at t_min. Where sigma(t_min) = 0 (Flow, Trig) both are the same. The
named grids, with equations and sources, are in ``families``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ...checks import (
    ArgumentError,
    GridError,
    between,
    described,
    instance,
    integer,
    is_finite,
    number,
    plain,
    shown,
    unknown,
)
from ..base import Schedule
from ..node import Node
from ..validation import check_schedule
from . import families as families
from .auto import UNKNOWN, DataFacts, Kind, auto_options, former_choice, too_wide
from .frame import Frame
from .registry import AUTOMATIC, GRIDS, Family, check_option_names, get, make_options, option_names

#: the longest grid; a plan of more steps would take gigabytes
MAX_STEPS = 100_000

Params = tuple[tuple[str, float | str | bool], ...]


@dataclass(frozen=True)
class Grid:
    """``steps + 1`` nodes of a schedule from noise to data, with the name and parameters they were
    made from.

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
        """A grid of the given nodes as they are: alpha and sigma need not be the schedule's, rho
        need not fall.

        For a node without ``t``, ``times`` holds the schedule's time at its lam, NaN where there is
        none; the node keeps None. Raises GridError where ``nodes`` is no list of nodes.
        """
        check_schedule(schedule)
        if not isinstance(nodes, Iterable) or not all(isinstance(node, Node) for node in nodes):
            raise GridError(f"nodes={shown(nodes)} must be a list of Nodes")

        def time(node: Node) -> float:
            try:
                return schedule.time_at_lam(node.lam) if node.t is None else node.t
            except ValueError:
                return math.nan

        return cls(schedule, tuple(time(node) for node in nodes), tuple(nodes), "nodes")

    @classmethod
    def from_times(
        cls,
        schedule: Schedule,
        values: Sequence[float],
        name: str,
        params: Params,
        final: str,
        what: str,
    ) -> Grid:
        """A grid through times of ``schedule``. Raises GridError, with ``what`` before the message,
        unless they are times of the schedule at which t and sigma/alpha fall strictly."""
        try:
            times = tuple(schedule.clamp(float(t)) for t in values)
        except ValueError as error:
            raise GridError(f"{what}{error}") from None
        for i, (s, t) in enumerate(pairwise(times)):
            if not s > t:
                advice = (
                    "; fewer steps, or a grid that does not round (uniform, lam, karras), avoid "
                    "repeated times"
                )
                raise GridError(
                    f"{what}times must fall strictly from noise to data, but time {i} is {s!r} "
                    f"and time {i + 1} is {t!r}{advice if s == t else ''}"
                )
        nodes = tuple(schedule.node(t) for t in times)
        for s_node, t_node in pairwise(nodes):
            if not s_node.rho > t_node.rho:
                raise GridError(
                    f"{what}sigma/alpha does not fall between times {s_node.t!r} and {t_node.t!r}"
                )
        return cls(schedule, times, nodes, name, params, final)


def grid(
    name: str | None,
    schedule: Schedule,
    steps: int | None = None,
    *,
    final: str = "zero",
    start: float | None = None,
    shift: float | None = None,
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    kind: Kind | None = None,
    facts: DataFacts | None = None,
    **options: Any,
) -> Grid:
    """The grid ``name`` of ``steps`` steps on ``schedule``.

    Args:
        name: a name of ``grid_names()``; "auto" is the measured rule of docs/grids.md, "auto_0_1"
            what it was in version 0.1; None or "custom" with ``times`` or ``sigmas``.
        steps: number of steps; left out with ``times`` or ``sigmas``.
        final: "zero" or "sigma_min" (module docstring); given times end where they end.
        start: begin at this time instead of t_max: the named grid is laid out anew from there, with
            ``steps`` steps. (The tail of the full grid is ``grid(...).tail(i)``.)
        shift: translate grids spaced in t by lam -> lam - log(shift), on schedules from alpha = 0
            to sigma = 0; default: the schedule's own. Grids in lam or rho are not shifted.
        times: decreasing times of the schedule, taken as they are.
        sigmas: the same as values of sigma/alpha, which may end in 0.
        kind, facts: what "auto" depends on: the kind of sampler (one of SAMPLER_KINDS of
            ``schedules.grids.auto``, default "multistep"), and the scale and shape of the data
            (default: unknown). Other grids refuse them.
        options: of the named grid, with its default:
            rho: exponent of karras (7).
            power: of power (2) and polyexponential (1).
            offset: first index of leading (0).
            drop_last: uniform, linspace, leading, power, lam, karras, (poly)exponential lay out one
                point more and drop the last (False).
            a, b: of beta and beta_t (0.6, 0.6).
            threshold: of linear_quadratic (0.025).
            sigma_data, center, spread: of logistic (0.5, 1.5, 1.5), and of auto.
            table: of ays ("sd15", "sdxl", "svd"), oss ("flux", "wan"), gits ("cifar10") and
                hyperparameters ("sd15", "sd15_full", "sdxl"), which with final="sigma_min" ends at
                its own last level.

    Raises GridError (a ValueError) for an unknown name, an option that the grid does not have, a
    value out of range, steps < 1, and times that are not finite, not in the schedule or do not fall
    strictly (a grid of whole indices with more steps than the table has entries).
    """
    check_schedule(schedule)
    automatic = name is None or (isinstance(name, str) and name == "auto")
    if (kind is not None or facts is not None) and not automatic:
        raise GridError(f"grid {shown(name)}: only grid 'auto' takes kind= and facts=")
    known, options = option_names(), {**options, "shift": shift}
    given = {k: v for k, v in options.items() if v is not None or k not in known}
    if times is not None or sigmas is not None:
        more = bool(given) or start is not None
        return _explicit(name, schedule, steps, final, times, sigmas, more)
    if not isinstance(final, str) or final not in ("zero", "sigma_min"):
        raise GridError(unknown("final", final, ("zero", "sigma_min")))
    steps = _checked(integer, "steps", steps, 1)
    if steps > MAX_STEPS:
        raise GridError(f"steps={steps}: must be at most {MAX_STEPS}")
    top = schedule.t_max if start is None else _start(schedule, start)
    if name is None or (isinstance(name, str) and name in AUTOMATIC):
        frame = Frame(schedule, steps, top, final)
        name, given = _automatic(name or "auto", frame, given, kind or "multistep", facts)
    family = get(name)
    check_option_names(family, given)
    shift = _shift(family, given.pop("shift", None), schedule)
    frame = Frame(schedule, steps, top, final, shift)
    return _laid_out(family, frame, make_options(family, given), start is not None)


def _automatic(
    name: str, frame: Frame, given: Mapping[str, Any], kind: Kind, facts: DataFacts | None
) -> tuple[str, dict[str, Any]]:
    """The grid and its options that ``auto`` or ``auto_0_1`` stands for; ``given`` options
    replace those of the rule."""
    schedule, first = frame.schedule, frame.schedule.rho(frame.top)
    former, fixed = former_choice(schedule)
    if name != "auto":
        return former, {**fixed, **given}
    least = schedule.rho(frame.bottom) if frame.final == "zero" else 0.0
    facts = UNKNOWN if facts is None else facts
    try:
        known = replace(facts, sigma_data=given.get("sigma_data", facts.sigma_data))
        options = auto_options(frame.steps, kind, known, (first, least))
    except ValueError as error:
        raise GridError(str(error)) from None
    if too_wide(kind, known, first) and not options.keys() & given.keys():
        return former, {**fixed, **given}
    return "logistic", {**options, **given}


def _laid_out(family: Family, frame: Frame, options: Any, begun: bool) -> Grid:
    """The grid of a family. ``begun``: the first time was given as ``start``."""
    schedule, full, shift = frame.schedule, asdict(options), frame.shift
    try:
        with np.errstate(all="ignore"):
            values = family.layout(frame, options)
    except (ArithmeticError, ArgumentError) as error:
        raise GridError(
            f"grid {family.name!r} cannot be laid out with {full}, shift={shift}, {frame.steps} "
            f"steps on {schedule!r}: {error}"
        ) from None
    params: list[tuple[str, float | str | bool]] = [
        (k, v) for k, v in full.items() if not (v is False or v == 0)
    ]
    params += [("shift", shift)] if shift != 1.0 else []
    params += [("start", frame.top)] if begun else []
    what = f"grid {family.name!r} with {frame.steps} steps on {schedule!r}: "
    return Grid.from_times(schedule, values, family.name, tuple(params), frame.final, what)


def _shift(family: Family, shift: Any, schedule: Schedule) -> float:
    """The shift of a grid spaced in t, checked; None: the schedule's own."""
    if shift is None:
        shift = getattr(schedule, "shift", 1.0) if family.in_t else 1.0
    found = float(_checked(between, "shift", shift, 0))
    whole = schedule.alpha(schedule.t_max) == 0.0 and schedule.sigma(schedule.t_min) == 0.0
    if found != 1.0 and not whole:
        raise GridError(
            f"shift={found!r} needs a path from alpha = 0 to sigma = 0 (Flow, Trig), not "
            f"{schedule!r}"
        )
    return found


def _checked(check: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a check of ``checks``, its ArgumentError as GridError."""
    try:
        return check(*arguments)
    except ArgumentError as error:
        raise GridError(str(error)) from None


def _start(schedule: Schedule, start: float) -> float:
    """The first time, checked."""
    try:
        t = schedule.clamp(
            float(start if isinstance(start, float) else _checked(number, "start", start))
        )
    except ValueError as error:
        raise GridError(f"start={start!r}: {error}") from None
    if t == schedule.t_zero:
        raise GridError(f"start={start!r} is sigma = 0 of {schedule!r}: no step is left")
    return t


def _explicit(
    name: str | None,
    schedule: Schedule,
    steps: int | None,
    final: str,
    times: Sequence[float] | None,
    sigmas: Sequence[float] | None,
    more: bool,
) -> Grid:
    """The grid of explicit times or noise-to-signal ratios. ``more``: options or ``start`` were
    given as well, which is refused."""
    if times is not None and sigmas is not None:
        raise GridError("times= and sigmas= were both given: give one of them")
    if not (name is None or (isinstance(name, str) and name in ("custom", "auto"))) or more:
        raise GridError(
            f"times= or sigmas= make a grid of their own; grid {shown(name)} with its "
            "options, or start=, cannot be given as well"
        )
    word = "times" if times is not None else "sigmas"
    raw = numbers(word, times if times is not None else sigmas)
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
    return Grid.from_times(schedule, values, "custom", (), final, f"{word}: ")


def numbers(word: str, values: Any) -> list[float]:
    """A caller's list, array or tensor as floats; -inf is sigma = 0 of VE."""
    if getattr(values, "is_meta", False) or getattr(values, "is_sparse", False):
        raise GridError(f"{word} must be a list of numbers, got a {described(values)}")
    listed = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(listed, (str, bytes)) or not isinstance(listed, Iterable):
        raise GridError(f"{word}={values!r} must be a list of numbers")
    items = [plain(v) for v in listed]
    bad = [v for v in items if isinstance(v, bool) or not isinstance(v, (int, float))]
    if bad:
        raise GridError(f"{word} holds {bad[0]!r}; each value must be a number")
    return [float(v) if is_finite(v) or isinstance(v, float) else math.inf for v in items]


def grid_names() -> tuple[str, ...]:
    """All grid names, aliases left out."""
    return (*sorted(GRIDS), *AUTOMATIC)
