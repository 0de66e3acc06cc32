"""The type check of a plan: signal and noise of every value, and how far its states miss theirs.

The type of a value is its signal (the coefficient of x0) and a sparse vector over noise atoms (the
start noise and each draw). A state at ``node`` must have signal ``alpha`` and noise norm ``sigma``,
to 1e-12 of the largest term of its Combine; from then on it has exactly these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..checks import FewstepError
from ..schedules.kinds import parts
from ..schedules.node import Node
from .instructions import EXACTNESS, Combine, Evaluate, Exactness, PlanData, PlanError
from .weights.phi import Array

#: relative to the largest term of the Combine
TOLERANCE = 1e-12


class NoiseType:
    """What a value is: ``signal x0 + sum noise[a] atom_a``; atom 0 is the start noise, atom k + 1
    is draw k.

    ``noise`` is the number ``noise[0]`` as long as nothing was drawn, then an array of as many
    atoms as the value can hold. ``norm`` is the standard deviation of the noise part (measured
    unless given).
    """

    __slots__ = ("noise", "norm", "signal")

    def __init__(self, signal: float, noise: float | Array, norm: float | None = None) -> None:
        self.signal = signal
        self.noise = noise
        if norm is None:
            norm = abs(noise) if isinstance(noise, float) else math.sqrt(float(noise @ noise))
        self.norm = norm

    @property
    def direction(self) -> float | Array:
        """The noise part over its norm: what a prediction of the noise is. 1 where there is
        none."""
        return self.noise / self.norm if self.norm > 0.0 else 1.0


class TypeCheck:
    """Checks the instructions of one plan in order.

    Args:
        allow: the weakest level of exactness accepted.
        name: the plan's name, for messages.

    Attributes:
        states: the node of every state by value number.
        draws: the number of noises drawn so far.
        defect: the largest relative mismatch of a state so far.
        off_label: the evaluations (0-based) whose node is not their state's node.
    """

    def __init__(self, allow: Exactness = "asymptotic", name: str = "") -> None:
        self.name = name
        self.states: dict[int, Node] = {}
        self.draws = 0
        self.defect = 0.0
        self.off_label: list[int] = []
        self._allow = EXACTNESS.index(allow)
        self._level = 0
        self._types: dict[int, NoiseType] = {}
        self._calls = 0
        self._noisy = NoiseType(0.0, 1.0)

    def __contains__(self, value: int) -> bool:
        return value in self._types

    @property
    def exactness(self) -> Exactness:
        """The weakest level of a state so far."""
        return EXACTNESS[self._level]

    def start(self, node: Node) -> None:
        """Value 0, a state at ``node``."""
        self.states[0] = node
        self._types[0] = NoiseType(node.alpha, float(node.sigma))

    def evaluate(self, e: Evaluate) -> None:
        """The predictions of one network call; those of every channel are predictions at its
        node."""
        node = e.node
        type_ = self._types[e.state]
        if type_.norm > 0.0:
            self._noisy = type_
        at = self.states.get(e.state)
        if at is not node and at != node:
            self.off_label.append(self._calls)
        self._calls += 1
        for value, kind, _ in e.outs:
            u, w = parts(kind, node)
            self._types[value] = NoiseType(u, w * self._noisy.direction if w else 0.0)

    def combine(self, out: int, terms: Mapping[int, float], node: Node | None) -> None:
        """Value ``out`` from ``terms`` (draw k has key ``-1 - k``); PlanError where it is no state
        at ``node``."""
        signal, noise, largest = self._sum(terms)
        if node is None:
            self._types[out] = NoiseType(signal, noise)
            return
        self._types[out] = self._state(signal, noise, node, largest)
        self.states[out] = node

    def _sum(self, terms: Mapping[int, float]) -> tuple[float, float | Array, float]:
        signal, largest = 0.0, 0.0
        noise: float | Array = np.zeros(1 + self.draws) if self.draws else 0.0
        types = self._types
        for key, c in terms.items():
            if key < 0:
                noise[-key] += c  # type: ignore[index]
                largest = max(largest, abs(c))
                continue
            type_ = types[key]
            part = c * type_.signal
            signal += part
            largest = max(largest, abs(part), abs(c) * type_.norm)
            if isinstance(noise, float):
                noise += c * type_.noise
            elif isinstance(type_.noise, float):
                if type_.noise:
                    noise[0] += c * type_.noise
            else:
                noise[: len(type_.noise)] += c * type_.noise
        return signal, noise, largest

    def _state(self, signal: float, noise: float | Array, node: Node, largest: float) -> NoiseType:
        """The type of a state at ``node``, once ``signal`` and ``noise`` were found near enough."""
        norm = abs(noise) if isinstance(noise, float) else math.sqrt(float(noise @ noise))
        alpha, sigma = node.alpha, node.sigma
        scale = max(largest, alpha, sigma)
        off_signal = abs(signal - alpha) / scale
        off_noise = abs(norm - sigma) / scale
        # a NaN is no match
        level = 2 if not off_signal <= TOLERANCE else 1 if not off_noise <= TOLERANCE else 0
        if level > self._allow:
            raise PlanError(
                f"{self.name or 'plan'}: ({signal!r}, {norm!r}) is no state at "
                f"alpha={node.alpha!r}, sigma={node.sigma!r} "
                f"(t={node.t}): off by {max(off_signal, off_noise):.1e} of the largest term"
            )
        self._level = max(self._level, level)
        self.defect = max(self.defect, off_signal, off_noise)
        if norm > 0.0:
            return NoiseType(alpha, noise * (sigma / norm), sigma)
        return NoiseType(alpha, noise, norm)


class Measured(NamedTuple):
    """``Plan.exactness``, ``Plan.defect`` and ``Plan.off_label``, measured by the type check."""

    exactness: Exactness
    defect: float
    off_label: tuple[int, ...]


def measure(plan: PlanData) -> Measured:
    """Type check of a finished plan. PlanError where its instructions are no program."""
    if not plan.nodes or plan.nodes[0] != plan.start:
        raise PlanError("the first of the nodes is not the plan's start")
    types = TypeCheck("asymptotic", plan.name)
    types.start(plan.start)
    for i in plan.code:
        if isinstance(i, Evaluate):
            _check_read(types, i.state)
            for value in dict.fromkeys(out[0] for out in i.outs):
                _check_new(types, value)
            if len({out[0] for out in i.outs}) < len(i.outs):
                raise PlanError(f"evaluation of value {i.state} makes one value twice")
            types.evaluate(i)
        else:
            terms = _terms(types, i, len(plan.draws))
            _check_new(types, i.out)
            types.combine(i.out, terms, i.node)
    claimed = {plan.start, *(i.node for i in plan.code if isinstance(i, Combine))}
    lost = next((node for node in plan.nodes if node not in claimed), None)
    if lost is not None:
        raise PlanError(f"no state of the plan is at its node {lost}")
    if plan.result not in types:
        raise PlanError(f"the result, value {plan.result}, is never made")
    stray = next((value for value in plan.partners if value not in types.states), None)
    if stray is not None or len({plan.result, *plan.partners}) <= len(plan.partners):
        raise PlanError(
            f"the partners {plan.partners} of the result, value {plan.result}, must be other states"
        )
    end = types.states.get(plan.result)
    if end is None:
        raise PlanError(f"the result, value {plan.result}, is no state at a node")
    if end != plan.end or plan.nodes[-1] != plan.end:
        raise PlanError(
            f"the result is a state at {end}; the plan says its end is {plan.end}, its "
            f"last node {plan.nodes[-1]}"
        )
    return Measured(types.exactness, types.defect, tuple(types.off_label))


def check(plan: PlanData) -> None:
    """PlanError, naming the field, unless exactness, defect and off_label of ``plan`` are as
    measured."""
    try:
        with np.errstate(all="ignore"):
            found = measure(plan)
    except PlanError:
        raise
    except (FewstepError, ArithmeticError, LookupError) as error:
        raise PlanError(f"the plan cannot be followed: {error}") from error
    if found.exactness != plan.exactness:
        raise PlanError(
            f"the plan says {plan.exactness!r}; its coefficients make it "
            f"{found.exactness!r}, off by {found.defect:.1e}"
        )
    if not math.isclose(found.defect, plan.defect, rel_tol=1e-6, abs_tol=TOLERANCE):
        raise PlanError(
            f"the plan says defect={plan.defect!r}; its coefficients have {found.defect!r}"
        )
    if found.off_label != plan.off_label:
        raise PlanError(
            f"the plan says off_label={plan.off_label}; its evaluations have {found.off_label}"
        )


def _check_read(types: TypeCheck, value: int) -> None:
    if value not in types:
        raise PlanError(f"value {value} is read before it is made")


def _check_new(types: TypeCheck, value: int) -> None:
    if value in types:
        raise PlanError(f"value {value} is made twice")


def _terms(types: TypeCheck, i: Combine, draws: int) -> dict[int, float]:
    """The terms of a Combine by key, all of them finite, made before and read once."""
    terms: dict[int, float] = {}
    for value, c in i.terms:
        _check_read(types, value)
        if value in terms:
            raise PlanError(f"value {i.out} reads value {value} twice")
        terms[value] = c
    for key, c in i.noise:
        if not 0 <= key < draws:
            raise PlanError(f"draw {key} is not in the plan's list of {draws}")
        if -1 - key in terms:
            raise PlanError(f"value {i.out} reads draw {key} twice")
        terms[-1 - key] = c
        types.draws = max(types.draws, key + 1)
    if not all(map(math.isfinite, terms.values())):
        raise PlanError(f"non-finite coefficient in {terms} at {i.node}")
    return terms
