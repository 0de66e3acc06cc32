"""Skipped network calls: replaces calls of a plan by predictions that earlier calls gave (output
caching, step skipping).

At a skipped call at node t the prediction of kind k is taken from the last p calls made, at nodes
t_j with predictions m_j,

    m(t) = sum_j l_j(t) m_j,   l_j(t) = prod_{i != j} (u - u_i) / (u_j - u_i),

with u the half log-SNR lam, the time t, or the number of the call. p = 1 is reuse of the last
output, as caches of outputs do it (the x0, eps or velocity kept while the state moves on); p = 2 is
linear extrapolation. Other kinds that the call reads follow from m(t) and the state at t. The new
plan is type-checked, and its ``nfe`` counts the calls that are left.

DDIM with reuse of x0 or of eps is DDIM on the nodes of the calls made: a step of DDIM is exact for
a constant x0, and on that line eps is constant too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ...checks import ArgumentError, choice, integer
from ...schedules.kinds import KINDS, convert
from ...schedules.node import Node
from ..builder import Expression, PlanBuilder
from ..instructions import Evaluate, PlanError
from ..plan import Plan
from ..weights.node_distances import GAPS, finite

#: what predictions are extrapolated in: half log-SNR, time, number of the call
VARIABLES = ("lam", "t", "call")


class Kept(NamedTuple):
    """A prediction kept from a call that was made: its node, its number, its value."""

    node: Node
    call: int
    value: Expression


def skip_calls(
    plan: Plan,
    skipped: Collection[int],
    *,
    kind: str | None = None,
    points: int = 1,
    variable: str = "lam",
) -> Plan:
    """``plan`` without the network calls numbered ``skipped`` (from 0).

    Args:
        kind: the kind of prediction that is kept: x0, eps, v, velocity or score. None: each that
            the call reads.
        points: how many calls the extrapolation uses, fewer where fewer were made; 1 reuses the
            last.
        variable: ``lam``, ``t`` or ``call``; a node where it is infinite is left out.

    PlanError for the first call, for numbers that are no calls, and for a call with two times.
    """
    if kind is not None:
        choice("kind", kind, KINDS)
    integer("points", points, 1, 8)
    choice("variable", variable, VARIABLES)
    gone = frozenset(skipped)
    if wrong := sorted(k for k in gone if not 0 < k < plan.nfe):
        raise PlanError(
            f"{plan.name or 'plan'}: call {wrong[0]} cannot be skipped: the plan has {plan.nfe} "
            "calls, numbered from 0, and the first must be made"
        )
    return _Skipping(plan, gone, kind, points, variable).plan()


class _Skipping:
    """The new plan while it is written. ``values``: the expression of each value of the old."""

    def __init__(
        self, old: Plan, gone: frozenset[int], kind: str | None, points: int, variable: str
    ) -> None:
        self.old, self.gone = old, gone
        self.kind, self.points, self.variable = kind, points, variable
        self.b = PlanBuilder(old.nodes, "asymptotic", old.name)
        self.values: dict[int, Expression] = {0: self.b.start(old.start)}
        #: (kind, channel) -> the predictions kept, newest first, one at a node
        self.kept: dict[tuple[str, str], list[Kept]] = {}

    def plan(self) -> Plan:
        """Write it."""
        b, call = self.b, 0
        noises = [b.noise(draw.start, draw.end) for draw in self.old.draws]
        for i in self.old.code:
            if isinstance(i, Evaluate):
                if i.to is not None:
                    raise PlanError(f"{b.name or 'plan'}: a call with two times cannot be skipped")
                (self._skip if call in self.gone else self._make)(i, call)
                call += 1
                continue
            x = sum((c * self.values[v] for v, c in i.terms), Expression({}))
            x = sum((c * noises[key] for key, c in i.noise), x)
            self.values[i.out] = b.value(x) if i.node is None else b.at(i.node, x)
        return b.finish(self.values[self.old.result])

    def _make(self, i: Evaluate, call: int) -> None:
        """Make the call, and keep what later ones need."""
        reads = [(kind, channel) for _, kind, channel in i.outs]
        more = [(self._kept_as(kind), channel) for kind, channel in reads]
        every = list(dict.fromkeys([*reads, *more]))
        made = self.b.evaluate_kinds(self.values[i.state], i.node, every)
        found = dict(zip(every, made, strict=True))
        for value, kind, channel in i.outs:
            self.values[value] = found[kind, channel]
        for read in dict.fromkeys(more):
            past = [k for k in self.kept.get(read, []) if k.node != i.node]
            self.kept[read] = [Kept(i.node, call, found[read]), *past][: self.points]

    def _skip(self, i: Evaluate, call: int) -> None:
        """Put the extrapolated prediction in the place of the call."""
        for value, kind, channel in i.outs:
            read = (self._kept_as(kind), channel)
            if read not in self.kept:  # a start that reads another kind
                read = next((r for r in self.kept if r[1] == channel), read)
            if read not in self.kept:
                raise PlanError(
                    f"{self.b.name or 'plan'}: call {call} reads the channel {channel}, which no "
                    "call before it gave; make an earlier one of them"
                )
            m = self._extrapolated(self.kept[read], i.node, call)
            p, q = convert(read[0], kind, i.node)
            m = m if (p, q) == (0.0, 1.0) else p * self.values[i.state] + q * m
            self.values[value] = m if m.bare is not None else self.b.value(m)

    def _kept_as(self, kind: str) -> str:
        return kind if self.kind is None else self.kind

    def _extrapolated(self, kept: list[Kept], node: Node, call: int) -> Expression:
        """The prediction at ``node`` from those kept."""
        past = kept
        if self.variable != "call":
            past = [k for k in kept if finite(k.node, self.variable)]
            past = past if finite(node, self.variable) and past else kept[:1]
        if len(past) == 1:
            return past[0].value
        at = [self._distance(past[0], k.node, k.call) for k in past]
        here = self._distance(past[0], node, call)
        weights = lagrange(at, here)
        return sum((w * k.value for w, k in zip(weights, past, strict=True)), Expression({}))

    def _distance(self, a: Kept, node: Node, call: int) -> float:
        """From the prediction ``a`` to ``node`` in the variable."""
        return (
            float(call - a.call) if self.variable == "call" else GAPS[self.variable](a.node, node)
        )


def lagrange(points: list[float], at: float) -> list[float]:
    """The values at ``at`` of the Lagrange basis of ``points``, which sum to 1."""
    out = []
    for j, u in enumerate(points):
        weight = 1.0
        for k, other in enumerate(points):
            if k != j:
                if u == other:
                    raise ArgumentError(f"points={points}: two of them are equal")
                weight *= (at - other) / (u - other)
        out.append(weight)
    return out
