"""The Gaussian transitions of a stochastic plan: means, standard deviations and log-probabilities
of its noisy steps.

The states of a run are x_0, ..., x_nfe: the state of the first network call (the start), that of
every later call, and the result. Every value of a plan is a linear combination of these states, of
the predictions made at them, and of unit noises z. Hence, given the earlier states, x_{k+1} is

    x_{k+1} = mean + std xi,   xi ~ N(0, 1),
    mean = sum_j carry_j x_j + sum_j c_j m_j,   j <= k,

m_j a prediction at x_j, and the density of the noisy states given the others is the product of

    log p(x_{k+1} | x_0, ..., x_k) = -|x_{k+1} - mean|^2 / (2 std^2) - d (log std + log(2 pi) / 2)

over the k with std > 0, d the number of elements of a sample (Flow-GRPO, arXiv 2505.05470, divides
by d). ``transitions`` finds the rows of the means by running the plan on symbols. The innovation
``xi = (x_{k+1} - mean) / std`` is known once x_{k+1} is. It replaces its part of the noises in all
other values: in what a multistep method or a corrector keeps, and in later states that read the
same noise again. With the noise coefficients as vectors, the noise of a state is projected on those
of the states before (Gram-Schmidt), std is the length of what is left, and so the product is the
exact joint density.

A state without new noise, such as the one at sigma = 0, is taken as it was recorded: it has no
density, and no gradient goes through it. Noise drawn before the first network call (churn) belongs
to the law of the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..checks import instance
from ..schedules.node import Node
from .instructions import Combine, PlanData, PlanError
from .transition import Transition as Transition
from .transition import Transitions as Transitions

#: a coefficient that is this small beside its two summands is a residue of their rounding
_RESIDUE = 2.0**-46
#: noise below this share of sigma is a residue of rounding
_LEAST = 1e-12
#: why a step has no density
NO_NOISE = "no noise enters it"
KNOWN_NOISE = "the states before determine it: its noise was read before"
EARLY_NOISE = "its noise is drawn before the first network call: it belongs to the start"


def transitions(plan: PlanData) -> Transitions:
    """The transitions of ``plan``, the same as ``plan.transitions``.

    PlanError where a state contains a noise that was drawn before the first network call and that
    the start does not tell: its law given the states before is not known.
    """
    instance("plan", plan, PlanData, "a plan, as fewstep.plan makes it,")
    return _Unrolled(plan).transitions()


#: ``(call,)`` is the state of a call, ``(call, kind, channel)`` a prediction made there
_Atom = tuple[Any, ...]
#: the start value, until the first call's state is known
_START: _Atom = ("start",)


@dataclass
class _Form:
    """``sum known atom + sum noise z``; ``told``: the calls whose states told a part of its
    noise."""

    known: dict[_Atom, float] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)

    def add(self, other: _Form, c: float) -> None:
        """Add ``c other``."""
        _add(self.known, other.known, c)
        _add(self.noise, other.noise, c)

    @property
    def spread(self) -> float:
        """The norm of the noise."""
        return math.hypot(*self.noise.values())


def _add(total: dict[Any, float], other: Mapping[Any, float], c: float) -> None:
    for key, w in other.items():
        old = total.get(key, 0.0)
        new = old + c * w
        if new == 0.0 or abs(new) <= _RESIDUE * abs(old):
            total.pop(key, None)
        else:
            total[key] = new


class _Unrolled:
    """The plan run on symbols, call by call."""

    def __init__(self, plan: PlanData) -> None:
        self.plan = plan
        self.values: dict[int, _Form] = {0: _Form({_START: 1.0})}
        self.draws: dict[int, _Form] = {}
        self.nodes: dict[int, Node] = {0: plan.start}
        self.labels = [e.node for e in plan.evaluations]
        self.early: frozenset[int] = frozenset()
        self.read: set[int] = set()  # the noises that a state has been seen with
        self.found: list[Transition] = []
        self.none: list[tuple[int, str]] = []
        self.shared: set[int] = set()
        self.open: list[_Form] = []  # values and draws with noise that no state has told
        self.count = 0

    def transitions(self) -> Transitions:
        drew = False
        for i in self.plan.code:
            if isinstance(i, Combine):
                self._combine(i)
                drew = drew or bool(i.noise)
                continue
            self._observe(i.state, drew)
            for value, kind, channel in i.outs:
                self.values[value] = _Form({(self.count, kind, channel): 1.0})
            self.count, drew = self.count + 1, False
        self._observe(self.plan.result, drew)
        steps = tuple(replace(t, shared=t.index + 1 in self.shared) for t in self.found)
        return Transitions(steps, tuple(self.none))

    def _combine(self, i: Combine) -> None:
        form = _Form()
        for value, c in i.terms:
            form.add(self._used(self.values[value]), c)
        for key, c in i.noise:
            if key not in self.draws:
                self.draws[key] = _Form({}, {key: 1.0})
                self.open.append(self.draws[key])
            form.add(self._used(self.draws[key]), c)
        self.values[i.out] = form
        if form.noise:
            self.open.append(form)
        if i.node is not None:
            self.nodes[i.out] = i.node

    def _used(self, form: _Form) -> _Form:
        self.shared |= form.told
        return form

    def _observe(self, value: int, drew: bool) -> None:
        """The state of the next call is known from here on; where new noise enters it, this is a
        transition. ``drew``: noise was read since the last call."""
        form, k = self.values[value], self.count
        if k == 0:
            self._observe_start(form)
        elif self.early & form.noise.keys():
            raise PlanError(
                f"{self.plan.name or 'plan'}: the state of call {k} contains a noise drawn before "
                "the first network call, which the recorded states do not tell: it has no density"
            )
        elif form.spread > _LEAST * self._node(k, value).sigma:
            self._transition(k, value, form)
        else:
            self.none.append((k - 1, KNOWN_NOISE if drew else NO_NOISE))
        self.values[value] = _Form({(k,): 1.0})

    def _node(self, k: int, value: int) -> Node:
        last = self.labels[k] if k < len(self.labels) else self.plan.end
        return self.nodes.get(value, last)

    def _observe_start(self, form: _Form) -> None:
        """The start value is what the first call's state says of it."""
        factor = form.known.get(_START, 0.0)
        if factor == 0.0:
            raise PlanError(f"{self.plan.name or 'plan'}: the first state is not made of the start")
        self.early = frozenset(form.noise)
        if form.noise:
            self.none.append((-1, EARLY_NOISE))
        start = _Form({(0,): 1.0}, {key: -c for key, c in form.noise.items()})
        for other in self.values.values():
            other.add(start, other.known.pop(_START, 0.0) / factor)
        self.open = [f for f in (*self.values.values(), *self.draws.values()) if f.noise]

    def _transition(self, k: int, value: int, form: _Form) -> None:
        std = form.spread
        direction = {key: c / std for key, c in form.noise.items()}
        self.found.append(self._row(k, value, form, std))
        innovation = _Form({(k,): 1.0 / std})
        _add(innovation.known, form.known, -1.0 / std)
        tells = _Form(innovation.known, {key: -c for key, c in direction.items()})
        for other in self.open:
            if other is form or other.noise.keys().isdisjoint(direction):
                continue
            c = math.fsum(w * direction.get(key, 0.0) for key, w in other.noise.items())
            if c:
                other.add(tells, c)
                other.told.add(k)
        self.open = [other for other in self.open if other.noise and other is not form]

    def _row(self, k: int, value: int, form: _Form, std: float) -> Transition:
        index = k - 1
        states = [(index - atom[0], c) for atom, c in form.known.items() if len(atom) == 1]
        terms = [(index - a[0], a[1], a[2], c) for a, c in form.known.items() if len(a) == 3]
        start = self.labels[index]
        end = self._node(k, value)
        keys = tuple(key for key in form.noise if key not in self.read)
        self.read |= form.noise.keys()
        return Transition(index, start, end, tuple(sorted(states)), tuple(sorted(terms)), std, keys)
