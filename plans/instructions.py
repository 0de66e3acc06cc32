"""A solver as data: two instructions over single-assignment values, and the data of a plan.

``Evaluate`` is one network call; ``Combine`` is ``out <- sum c value + sum c z(key)`` with float64
coefficients known beforehand. Value 0 is the start state. Nothing here computes: plans
are built in ``builder`` and run in ``running.loop``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..checks import ArgumentError
from ..schedules.node import Node
from .recipe import Recipe

#: the channel of a denoiser that has only one: its prediction
MAIN = "main"

Exactness = Literal["exact", "signal", "asymptotic"]
#: from the strictest to the loosest
EXACTNESS: tuple[Exactness, ...] = ("exact", "signal", "asymptotic")


class PlanError(ArgumentError):
    """A plan that cannot be built, lowered or read."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """One network call on value ``state`` with the label of ``node``.

    Attributes:
        outs: ``(value, kind, channel)`` of each prediction read from this call.
        state: the value that the network is called on.
        node: where the network is called.
        to: the second time of a two-time network (a flow map from ``node`` to ``to``), else None.
    """

    outs: tuple[tuple[int, str, str], ...]
    state: int
    node: Node
    to: Node | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels read from this call, each once."""
        if len(self.outs) == 1:
            return (self.outs[0][2],)
        return tuple(dict.fromkeys([channel for _, _, channel in self.outs]))


@dataclass(frozen=True, slots=True)
class Combine:
    """``out <- sum c value + sum c z(key)``; the value is a state at ``node``, or an
    auxiliary value where ``node`` is None."""

    out: int
    terms: tuple[tuple[int, float], ...]
    noise: tuple[tuple[int, float], ...] = ()
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """The interval of the path that noise ``z(key)`` is drawn for; the key is the position in
    ``Plan.draws``."""

    start: Node
    end: Node


@dataclass(frozen=True)
class PlanData:
    """The fields of a plan, and what is counted from them.

    Attributes:
        code: instructions in order.
        start, end: the nodes of value 0 and of ``result``.
        result: the value that the plan returns.
        nodes: the step boundaries, from noise to data (a step may hold several stages).
        draws: the noises, by key.
        exactness: measured by the type check: ``exact`` (every state has signal alpha and
            noise norm sigma), ``signal`` (alpha exact, the noise norm not), ``asymptotic``
            (neither, to rounding).
        defect: the largest relative mismatch seen by the type check.
        off_label: positions (0-based evaluation numbers) of Evaluates whose label is not their
            state's node.
        name: a label; it takes no part in ``==``.
        reason: why an automatic choice took this sampler and grid, else empty; no part of ``==``.
        recipe: how the plan was made, if the registry made it; no part of ``==`` and not saved.
        partners: the values that an exactly invertible sampler carries beside its result; the run
            can be undone from the result and these (``transforms.undone``). Else empty.
    """

    code: tuple[Evaluate | Combine, ...]
    start: Node
    end: Node
    result: int
    nodes: tuple[Node, ...]
    draws: tuple[Draw, ...] = ()
    exactness: Exactness = "exact"
    defect: float = field(default=0.0, compare=False)
    off_label: tuple[int, ...] = ()
    name: str = field(default="", compare=False)
    reason: str = field(default="", compare=False)
    partners: tuple[int, ...] = ()
    recipe: Recipe | None = field(default=None, compare=False, repr=False)

    @property
    def evaluations(self) -> tuple[Evaluate, ...]:
        """The network calls in order."""
        return tuple(i for i in self.code if isinstance(i, Evaluate))

    @property
    def nfe(self) -> int:
        """Number of network calls."""
        return sum(isinstance(i, Evaluate) for i in self.code)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of the denoiser that the plan reads, each once."""
        outs = [i.outs for i in self.code if isinstance(i, Evaluate)]
        return tuple(dict.fromkeys([channel for each in outs for _, _, channel in each]))

    @property
    def steps(self) -> int:
        """Number of steps between grid nodes."""
        return len(self.nodes) - 1

    @property
    def stochastic(self) -> bool:
        """True when the plan draws noise."""
        return bool(self.draws)

    @property
    def structure(self) -> tuple[tuple[object, ...], ...]:
        """The instructions without their numbers; plans of equal structure differ only in
        coefficients and nodes."""
        rows: list[tuple[object, ...]] = []
        for i in self.code:
            if isinstance(i, Evaluate):
                rows.append(("evaluate", i.outs, i.state, i.to is not None))
            else:
                rows.append(
                    (
                        "combine",
                        i.out,
                        tuple(v for v, _ in i.terms),
                        tuple(k for k, _ in i.noise),
                        i.node is not None,
                    )
                )
        return tuple(rows)

    @property
    def coefficients(self) -> tuple[float, ...]:
        """All coefficients in the order of ``structure``."""
        return tuple(
            c for i in self.code if isinstance(i, Combine) for _, c in (*i.terms, *i.noise)
        )
