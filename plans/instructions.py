"""A solver as data: two instructions over single-assignment values, and the plan that holds them.

``Evaluate`` is one network call; ``Combine`` is ``out <- sum c value + sum c z(key)`` with float64
coefficients known beforehand. Value 0 is the start state. Nothing here computes: building is
``builder``, running is ``loop``.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Literal

from ..checks import ArgumentError, instance, number
from ..schedules.node import Node

Exactness = Literal["exact", "signal", "asymptotic"]
#: from the strictest to the loosest
EXACTNESS: tuple[Exactness, ...] = ("exact", "signal", "asymptotic")


class PlanError(ArgumentError):
    """A plan that cannot be built, lowered or read."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """One network call on value ``state`` with the label of ``node``; ``outs`` are
    ``(value, kind)`` pairs."""

    outs: tuple[tuple[int, str], ...]
    state: int
    node: Node


@dataclass(frozen=True, slots=True)
class Combine:
    """``out <- sum c value + sum c z(key)``; ``node`` is the state it claims to be, None for an
    auxiliary value."""

    out: int
    terms: tuple[tuple[int, float], ...]
    noise: tuple[tuple[int, float], ...] = ()
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """Noise ``z(key)``, key being the position in ``Plan.draws``: the interval of the path that it
    stands for."""

    start: Node
    end: Node


@dataclass(frozen=True)
class Plan:
    """A compiled fixed-grid solver: frozen, hashable, compared exactly by ``==``.

    Attributes:
        code: instructions in order.
        start, end: the nodes of value 0 and of ``result``.
        result: the value that the plan returns.
        nodes: the step boundaries, from noise to data (a step may hold several stages).
        draws: the noises, by key.
        exactness: measured by the type check: ``exact`` (every claimed state has signal alpha and
            noise norm sigma), ``signal`` (alpha exact, the noise norm not), ``asymptotic``
            (neither, to rounding).
        defect: the largest relative mismatch seen by the type check.
        off_label: positions (0-based evaluation numbers) of Evaluates whose label is not their
            state's node.
        name: a label; it takes no part in ``==``.
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

    @property
    def evaluations(self) -> tuple[Evaluate, ...]:
        """The network calls in order."""
        return tuple(i for i in self.code if isinstance(i, Evaluate))

    @property
    def nfe(self) -> int:
        """Number of network calls."""
        return sum(isinstance(i, Evaluate) for i in self.code)

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
        """The plan without its numbers: plans of equal structure differ in coefficients and nodes
        only."""
        rows: list[tuple[object, ...]] = []
        for i in self.code:
            if isinstance(i, Evaluate):
                rows.append(("evaluate", i.outs, i.state))
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

    @property
    def consistency(self) -> Exactness:
        """The former name of ``exactness``; deprecated."""
        warnings.warn("Plan.consistency is now Plan.exactness", DeprecationWarning, stacklevel=2)
        return self.exactness

    def close(self, other: Plan, rtol: float = 1e-12) -> bool:
        """True when both plans do the same to relative tolerance ``rtol`` of each instruction's
        largest coefficient."""
        instance("other", other, Plan, "a plan")
        number("rtol", rtol, 0.0)
        if (
            self.structure != other.structure
            or self.result != other.result
            or len(self.draws) != len(other.draws)
        ):
            return False
        if not all(_node_close(a, b, rtol) for a, b in zip(self.nodes, other.nodes, strict=True)):
            return False
        for i, j in zip(self.code, other.code, strict=True):
            if isinstance(i, Combine) and isinstance(j, Combine):
                a, b = [[c for _, c in (*x.terms, *x.noise)] for x in (i, j)]
                scale = max((abs(c) for c in (*a, *b)), default=0.0)
                if any(abs(p - q) > rtol * scale for p, q in zip(a, b, strict=True)):
                    return False
            elif (
                isinstance(i, Evaluate)
                and isinstance(j, Evaluate)
                and not _node_close(i.node, j.node, rtol)
            ):
                return False
        return True

    def renamed(self, name: str) -> Plan:
        """The same plan under another label."""
        instance("name", name, str, "a text")
        return replace(self, name=name)

    def explain(self) -> str:
        """The plan as a table, one line an instruction."""
        from .explain import explain_plan

        return explain_plan(self)

    def to_json(self) -> str:
        """Exact and strict text form; infinities are strings, unknown numbers are null."""
        from .serial import plan_to_json

        return plan_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Inverse of ``to_json``; PlanError on anything unexpected."""
        from .serial import plan_from_json

        return plan_from_json(text)


def _node_close(a: Node, b: Node, rtol: float) -> bool:
    return math.isclose(a.alpha, b.alpha, rel_tol=rtol, abs_tol=rtol) and math.isclose(
        a.sigma, b.sigma, rel_tol=rtol, abs_tol=rtol
    )
