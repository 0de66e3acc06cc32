"""Finds the edits that a state already contains: the difference of a replaced state is added to
later states at the same node, once.

A state descends from the states among its terms, auxiliary values looked through; where it is made
of predictions alone, from the states that these were made at. An edit at evaluation k is carried by
the evaluated state, by every later state at its node that it was added to, and by what descends
from one of them through a state at another node (a level that is visited again, as in restart). A
corrector or a Runge-Kutta stage starts again from a state before the edit, so it carries nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...schedules.node import Node
from ..instructions import Combine, Evaluate


class Roots(NamedTuple):
    """Inputs of a value: the ``states`` among its terms, and the states ``evaluated`` for its
    predictions."""

    states: tuple[int, ...]
    evaluated: tuple[int, ...]


class Descent:
    """Ancestors of every state, built instruction by instruction; values are identified by
    number."""

    def __init__(self, start: Node) -> None:
        self.nodes: dict[int, Node] = {0: start}
        self._roots: dict[int, Roots] = {0: Roots((0,), ())}
        self._parents: dict[int, tuple[int, ...]] = {0: ()}
        self._made: dict[int, Combine] = {}
        self._age: dict[int, int] = {0: 0}
        self._carriers: dict[int, set[int]] = {}

    def evaluate(self, e: Evaluate, number: int) -> None:
        """Record a network call: the evaluated state contains the edit made there."""
        self._carriers[number] = {e.state}
        for value, _, _ in e.outs:
            self._roots[value] = Roots((), (e.state,))

    def combine(self, i: Combine) -> None:
        """Record a value and its inputs."""
        if i.node is None:
            self._roots[i.out] = self._roots_of(i)
            return
        self.nodes[i.out] = i.node
        self._roots[i.out] = Roots((i.out,), ())
        self._made[i.out] = i
        self._age[i.out] = len(self._age)

    def _roots_of(self, i: Combine) -> Roots:
        made = [self._roots[value] for value, c in i.terms if c != 0.0]
        states = tuple(dict.fromkeys([state for roots in made for state in roots.states]))
        evaluated = tuple(dict.fromkeys([state for roots in made for state in roots.evaluated]))
        return Roots(states, evaluated)

    def _parents_of(self, state: int) -> tuple[int, ...]:
        """The states that ``state`` descends from; most are never asked for theirs."""
        known = self._parents.get(state)
        if known is None:
            roots = self._roots_of(self._made[state])
            known = self._parents[state] = roots.states or roots.evaluated
        return known

    def carry(self, number: int, value: int) -> None:
        """Record that the edit of evaluation ``number`` was added to ``value``."""
        self._carriers[number].add(value)

    def carries(self, number: int, value: int) -> bool:
        """Whether the state ``value`` descends, through a state at another node, from one that
        carries the edit of ``number``."""
        carriers, node = self._carriers[number], self.nodes[value]
        first = min(self._age[carrier] for carrier in carriers)
        return self._reaches(value, lambda state: self.nodes[state] != node, carriers, first)

    def _reaches(
        self, value: int, leaves: Callable[[int], bool], targets: set[int], first: int
    ) -> bool:
        open_, seen = [state for state in self._parents_of(value) if leaves(state)], set[int]()
        while open_:
            state = open_.pop()
            if state in targets:
                return True
            if state not in seen and self._age[state] > first:
                seen.add(state)
                open_.extend(self._parents_of(state))
        return False
