"""PlanBuilder: turns a sampler written with symbolic values into a checked plan.

A sampler combines values with ``+ - * /`` as in its paper; ``b.at(node, expression)`` emits the
Combine, and the type check (``type_check``) tests that the result is a state at ``node``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..checks import ArgumentTypeError, choice, shown
from ..schedules.node import Node
from .expressions import Expression as Expression
from .expressions import dot as dot
from .expressions import listed
from .instructions import EXACTNESS, MAIN, Combine, Draw, Evaluate, Exactness, PlanError
from .plan import Plan
from .type_check import TypeCheck


class PlanBuilder:
    """Collects the instructions of one plan.

    Args:
        nodes: the step boundaries, from noise to data.
        allow: the weakest level of exactness accepted (``exact``, ``signal``, ``asymptotic``).
        name: the plan's name.
    """

    def __init__(self, nodes: Iterable[Node], allow: Exactness = "exact", name: str = "") -> None:
        self.nodes = tuple(listed("nodes", nodes))
        for node in self.nodes:
            _check_node(node)
        choice("allow", allow, EXACTNESS)
        self.name = name
        self._types = TypeCheck(allow, name)
        self._code: list[Evaluate | Combine] = []
        self._draws: list[Draw] = []
        self._values = 0
        self._prologue: Expression | None = None

    def _new(self) -> Expression:
        self._values += 1
        return Expression({self._values - 1: 1.0})

    def start(self, node: Node) -> Expression:
        """The start state, a state at ``node`` (after a prologue: the state that it reached)."""
        _check_node(node)
        if self._prologue is not None:
            x, self._prologue = self._prologue, None
            reached = self._types.states[self._value_of(x)]
            if reached != node:
                raise PlanError(f"the prologue ended at {reached}, not at {node}")
            return x
        if self._values:
            raise PlanError("start() comes first and only once")
        self._types.start(node)
        return self._new()

    def prologue(self, s: Node, t: Node) -> Expression:
        """One x0-kind step with one node, ``x_t = (sigma_t / sigma_s) x + (alpha_t - alpha_s
        sigma_t / sigma_s) D``: the way out of alpha = 0, where lam and rho are infinite. The next
        ``start(t)`` returns the state reached."""
        x = self.start(s)
        e = t.sigma / s.sigma
        self._prologue = self.at(t, e * x + (t.alpha - e * s.alpha) * self.evaluate(x, s, "x0"))
        return self._prologue

    def noise(self, start: Node, end: Node) -> Expression:
        """A fresh unit noise z, drawn for the interval from ``start`` to ``end``."""
        for node in (start, end):
            _check_node(node)
        self._draws.append(Draw(start, end))
        self._types.draws += 1
        return Expression({-len(self._draws): 1.0})

    def evaluate(
        self, x: Expression, node: Node, kind: str, channel: str = MAIN, to: Node | None = None
    ) -> Expression:
        """One network call on state ``x`` labelled ``node``; the prediction as ``kind``.

        Args:
            channel: which of the denoiser's channels is read.
            to: the second time of a two-time network.
        """
        return self.evaluate_kinds(x, node, ((kind, channel),), to)[0]

    def evaluate_kinds(
        self,
        x: Expression,
        node: Node,
        kinds: Sequence[str | tuple[str, str]],
        to: Node | None = None,
    ) -> tuple[Expression, ...]:
        """One network call read several times: each of ``kinds`` is a kind of the main channel, or
        ``(kind, channel)``."""
        _check_value(x)
        _check_node(node)
        if to is not None:
            _check_node(to)
        reads = [(kind, MAIN) if isinstance(kind, str) else kind for kind in kinds]
        for _, channel in reads:
            if channel is not MAIN:
                _check_channel(channel)
        state = x.bare
        if state is None:
            state = self._value_of(self.at(node, x))
        first = self._values
        self._values = last = first + len(reads)
        numbers = range(first, last)
        outs = tuple([(k, *read) for k, read in zip(numbers, reads, strict=True)])
        call = Evaluate(outs, state, node, to)
        self._types.evaluate(call)
        self._code.append(call)
        return tuple([Expression({k: 1.0}) for k in numbers])

    def at(self, node: Node, x: Expression) -> Expression:
        """Declare ``x`` a state at ``node``; PlanError if its signal or noise does not match."""
        _check_node(node)
        return self._emit(x, node)

    def value(self, x: Expression) -> Expression:
        """An auxiliary value, which is not a state (a velocity, a running mean); not checked."""
        return self._emit(x, None)

    def finish(self, x: Expression, partners: Sequence[Expression] = ()) -> Plan:
        """The plan that returns the state ``x``; PlanError if ``x`` is not a state.

        ``partners``: the other states that an exactly invertible sampler carries at its end.
        """
        result, *others = (self._state(value) for value in (x, *partners))
        return Plan(
            code=tuple(self._code),
            start=self._types.states[0],
            end=self._types.states[result],
            result=result,
            nodes=self.nodes,
            draws=tuple(self._draws),
            exactness=self._types.exactness,
            defect=self._types.defect,
            off_label=tuple(self._types.off_label),
            name=self.name,
            partners=tuple(others),
        )

    def _state(self, x: Expression) -> int:
        """The number of the state ``x``."""
        _check_value(x)
        value = x.bare
        if value is None or value not in self._types.states:
            raise PlanError("finish() must be given a state, made with start() or at()")
        return value

    @staticmethod
    def _value_of(x: Expression) -> int:
        return next(iter(x.terms))

    def _emit(self, x: Expression, node: Node | None) -> Expression:
        _check_lin(x)
        terms = {k: c for k, c in x.terms.items() if c} if 0.0 in x.terms.values() else x.terms
        if not all(map(math.isfinite, terms.values())):
            raise PlanError(f"{self.name or 'plan'}: non-finite coefficient in {terms} at {node}")
        self._types.combine(self._values, terms, node)
        values, draws = tuple(terms.items()), tuple[tuple[int, float], ...]()
        if self._draws:
            values = tuple([pair for pair in values if pair[0] >= 0])
            draws = tuple([(-1 - k, c) for k, c in terms.items() if k < 0])
        self._code.append(Combine(self._values, values, draws, node))
        return self._new()


def _check_value(x: Any) -> None:
    if not isinstance(x, Expression) or not x.terms:
        raise ArgumentTypeError(
            f"{shown(x)}: must be a plan value, as returned by start(), at(), value() or evaluate()"
        )


def _check_lin(x: Any) -> None:
    if not isinstance(x, Expression):
        raise ArgumentTypeError(
            f"{shown(x)}: must be a plan value, as returned by start(), at(), value() or evaluate()"
        )


def _check_node(node: Any) -> None:
    if not isinstance(node, Node):
        raise ArgumentTypeError(f"node={shown(node)}: must be a Node of a schedule")


def _check_channel(channel: Any) -> None:
    if not isinstance(channel, str) or not channel:
        raise ArgumentTypeError(f"channel={shown(channel)}: must be the name of a channel")
