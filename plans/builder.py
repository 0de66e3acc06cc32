"""Writing a solver: symbolic values in, a checked plan out.

A sampler combines values with ``+ - * /`` as on the page; ``b.at(node, expression)`` emits the
Combine and checks its claim. Every value carries a type: its signal (coefficient of x0) and a
sparse vector over noise atoms (the start noise and each z). A state at ``node`` must have signal
``alpha`` and noise norm ``sigma``, to 1e-12 of its largest term; it is from then on exactly what it
claims to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..checks import ArgumentTypeError, choice, shown
from ..schedules.base import host_number
from ..schedules.kinds import parts
from ..schedules.node import Node
from .instructions import EXACTNESS, Combine, Draw, Evaluate, Exactness, Plan, PlanError
from .weights.phi import Array

#: relative to the largest term of the Combine
TOLERANCE = 1e-12


class Expression:
    """A linear expression over values (keys >= 0) and noises (key ``-1 - k`` for draw ``k``)."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[int, float]) -> None:
        if not isinstance(terms, dict):
            raise ArgumentTypeError(
                f"terms={shown(terms)}: a dict from value to coefficient is wanted"
            )
        self.terms = terms

    def __add__(self, other: Expression | float) -> Expression:
        if not isinstance(other, Expression):
            if other == 0:  # so that sum() works
                return self
            raise ArgumentTypeError(
                f"a plan value can only be added to plan values, not to {other!r}"
            )
        terms = dict(self.terms)
        for key, c in other.terms.items():
            terms[key] = terms.get(key, 0.0) + c
        return Expression(terms)

    __radd__ = __add__

    def __mul__(self, c: float) -> Expression:
        c = c if type(c) is float else _number(c)
        return Expression({k: v * c for k, v in self.terms.items()} if c else {})

    __rmul__ = __mul__

    def __neg__(self) -> Expression:
        return self * -1.0

    def __sub__(self, other: Expression) -> Expression:
        return self + (-other)

    def __truediv__(self, c: float) -> Expression:
        c = c if type(c) is float else _number(c)
        if c == 0.0:
            raise PlanError("a plan value is divided by 0: two nodes of this step coincide")
        return Expression({k: v / c for k, v in self.terms.items()})

    @property
    def bare(self) -> int | None:
        """The value itself when the expression is just one value."""
        if len(self.terms) == 1:
            ((key, c),) = self.terms.items()
            if c == 1.0 and key >= 0:
                return key
        return None


def dot(weights: Iterable[float], values: Iterable[Expression]) -> Expression:
    """``sum w v``, left to right."""
    terms: dict[int, float] = {}
    weights, values = _listed("weights", weights), _listed("values", values)
    if len(weights) != len(values):
        raise PlanError(f"{len(weights)} weights for {len(values)} values")
    for w, value in zip(weights, values, strict=True):
        if not isinstance(value, Expression):
            raise ArgumentTypeError(f"values hold {shown(value)}: plan values are wanted")
        if w := w if type(w) is float else _number(w):
            for key, c in value.terms.items():
                terms[key] = terms.get(key, 0.0) + c * w
    return Expression(terms)


def _listed(name: str, values: Iterable[Any]) -> Sequence[Any]:
    if not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{name}={shown(values)}: a list is wanted")
    return values if isinstance(values, (list, tuple)) else list(values)


def _number(c: Any) -> float:
    """A coefficient as a float; NaN and infinity are refused where they are used."""
    try:
        return host_number(c)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"coefficient {shown(c)}: a number is wanted") from None


def _check_value(x: Any) -> None:
    if not isinstance(x, Expression) or not x.terms:
        raise ArgumentTypeError(
            f"{shown(x)}: a plan value is wanted, as start(), at(), value() and evaluate() give"
        )


def _check_lin(x: Any) -> None:
    if not isinstance(x, Expression):
        raise ArgumentTypeError(
            f"{shown(x)}: a plan value is wanted, as start(), at(), value() and evaluate() give"
        )


def _check_node(node: Any) -> None:
    if not isinstance(node, Node):
        raise ArgumentTypeError(f"node={shown(node)}: a Node of a schedule is wanted")


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


class PlanBuilder:
    """Collects instructions over the given step boundaries; ``allow`` is the weakest level of
    exactness accepted."""

    def __init__(self, nodes: Iterable[Node], allow: Exactness = "exact", name: str = "") -> None:
        self.nodes = tuple(_listed("nodes", nodes))
        for node in self.nodes:
            _check_node(node)
        choice("allow", allow, EXACTNESS)
        self.name = name
        self._allow = EXACTNESS.index(allow)
        self._level = 0
        self._defect = 0.0
        self._code: list[Evaluate | Combine] = []
        self._draws: list[Draw] = []
        self._types: list[NoiseType] = []
        self._claims: dict[int, Node] = {}
        self._off_label: list[int] = []
        self._calls = 0
        self._noisy = NoiseType(0.0, 1.0)
        self._prologue: Expression | None = None

    def _new(self, type_: NoiseType) -> Expression:
        self._types.append(type_)
        return Expression({len(self._types) - 1: 1.0})

    def start(self, node: Node) -> Expression:
        """The start state, a state at ``node`` (after a prologue: the state that it reached)."""
        _check_node(node)
        if self._prologue is not None:
            x, self._prologue = self._prologue, None
            if self._claims[self._value_of(x)] != node:
                raise PlanError(
                    f"the prologue ended at {self._claims[self._value_of(x)]}, not at {node}"
                )
            return x
        if self._types:
            raise PlanError("start() comes first and only once")
        self._claims[0] = node
        return self._new(NoiseType(node.alpha, float(node.sigma)))

    def prologue(self, s: Node, t: Node) -> Expression:
        """One x0-kind step with one node, ``x_t = (sigma_t / sigma_s) x + (alpha_t - alpha_s
        sigma_t / sigma_s) D``: the way out of alpha = 0, where lam and rho are infinite. The next
        ``start(t)`` goes on from there."""
        x = self.start(s)
        e = t.sigma / s.sigma
        self._prologue = self.at(t, e * x + (t.alpha - e * s.alpha) * self.evaluate(x, s, "x0"))
        return self._prologue

    def noise(self, start: Node, end: Node) -> Expression:
        """A fresh unit noise z, which stands for the interval from ``start`` to ``end``."""
        for node in (start, end):
            _check_node(node)
        self._draws.append(Draw(start, end))
        return Expression({-len(self._draws): 1.0})

    def evaluate(self, x: Expression, node: Node, kind: str) -> Expression:
        """One network call on state ``x`` labelled ``node``; the prediction as ``kind``."""
        return self.evaluate_kinds(x, node, (kind,))[0]

    def evaluate_kinds(
        self, x: Expression, node: Node, kinds: tuple[str, ...]
    ) -> tuple[Expression, ...]:
        """One network call read as several kinds."""
        _check_value(x)
        _check_node(node)
        state = x.bare
        if state is None:
            state = self._value_of(self.at(node, x))
        if self._types[state].norm > 0.0:
            self._noisy = self._types[state]
        claim = self._claims.get(state)
        if claim is not node and claim != node:
            self._off_label.append(self._calls)
        self._calls += 1
        outs, pairs = [], []
        for kind in kinds:
            u, w = parts(kind, node)
            pairs.append((len(self._types), kind))
            outs.append(self._new(NoiseType(u, w * self._noisy.direction if w else 0.0)))
        self._code.append(Evaluate(tuple(pairs), state, node))
        return tuple(outs)

    def at(self, node: Node, x: Expression) -> Expression:
        """``x`` claims to be a state at ``node``: checked here, and then it is."""
        _check_node(node)
        return self._emit(x, node)

    def value(self, x: Expression) -> Expression:
        """An auxiliary value that claims nothing (a velocity, a running mean)."""
        return self._emit(x, None)

    def finish(self, x: Expression) -> Plan:
        """The plan that returns state ``x``."""
        _check_value(x)
        result = x.bare
        if result is None or result not in self._claims:
            raise PlanError("finish() wants a state made with start() or at()")
        return Plan(
            code=tuple(self._code),
            start=self._claims[0],
            end=self._claims[result],
            result=result,
            nodes=self.nodes,
            draws=tuple(self._draws),
            exactness=EXACTNESS[self._level],
            defect=self._defect,
            off_label=tuple(self._off_label),
            name=self.name,
        )

    @staticmethod
    def _value_of(x: Expression) -> int:
        return next(iter(x.terms))

    def _emit(self, x: Expression, node: Node | None) -> Expression:
        _check_lin(x)
        terms = {k: c for k, c in x.terms.items() if c} if 0.0 in x.terms.values() else x.terms
        if not all(map(math.isfinite, terms.values())):
            raise PlanError(f"{self.name or 'plan'}: non-finite coefficient in {terms} at {node}")
        signal, noise, largest = self._combine_types(terms)
        type_ = NoiseType(signal, noise)
        out = len(self._types)
        if node is not None:
            type_ = self._check(type_, node, largest)
            self._claims[out] = node
        values = tuple([pair for pair in terms.items() if pair[0] >= 0])
        draws = tuple([(-1 - k, c) for k, c in terms.items() if k < 0])
        self._code.append(Combine(out, values, draws, node))
        return self._new(type_)

    def _combine_types(self, terms: dict[int, float]) -> tuple[float, float | Array, float]:
        signal, largest = 0.0, 0.0
        noise: float | Array = np.zeros(1 + len(self._draws)) if self._draws else 0.0
        for key, c in terms.items():
            if key < 0:
                noise[-key] += c  # type: ignore[index]
                largest = max(largest, abs(c))
                continue
            type_ = self._types[key]
            signal += c * type_.signal
            largest = max(largest, abs(c * type_.signal), abs(c) * type_.norm)
            if isinstance(noise, float):
                noise += c * type_.noise
            elif isinstance(type_.noise, float):
                if type_.noise:
                    noise[0] += c * type_.noise
            else:
                noise[: len(type_.noise)] += c * type_.noise
        return signal, noise, largest

    def _check(self, type_: NoiseType, node: Node, largest: float) -> NoiseType:
        norm = type_.norm
        scale = max(largest, node.alpha, node.sigma)
        off_signal = abs(type_.signal - node.alpha) / scale
        off_noise = abs(norm - node.sigma) / scale
        # a NaN is no match
        level = 2 if not off_signal <= TOLERANCE else 1 if not off_noise <= TOLERANCE else 0
        if level > self._allow:
            raise PlanError(
                f"{self.name or 'plan'}: ({type_.signal!r}, {norm!r}) is no state at "
                f"alpha={node.alpha!r}, sigma={node.sigma!r} "
                f"(t={node.t}): off by {max(off_signal, off_noise):.1e} of the largest term"
            )
        self._level = max(self._level, level)
        self._defect = max(self._defect, off_signal, off_noise)
        if norm > 0.0:
            return NoiseType(node.alpha, type_.noise * (node.sigma / norm), node.sigma)
        return NoiseType(node.alpha, type_.noise, norm)
