"""Lowering: turns a plan and the numbers of a denoiser into launches, one fused linear step between
two network calls.

All Combines between two Evaluates become one launch with several outputs. A prediction is
``p x + sum q raw`` of the evaluated state and the network's raw outputs, so prediction type,
preconditioning and linear guidance fold into the coefficients. A value that is used once is
substituted; a value that is needed later becomes a further output. Buffers are numbered slots,
freed at a value's last use, so the memory is known before running. Edits (a replaced evaluated
state) enter as operands of their own, see ``loop``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ...checks import host_constant, instance, members
from ...schedules.kinds import convert, parts
from ...schedules.node import Node
from ..instructions import Combine, Evaluate, PlanError
from ..plan import Plan
from .channels import channel_numbers, check_reads
from .edits import Descent
from .program import Call as Call
from .program import Launch as Launch
from .program import Operand as Operand
from .program import Program as Program

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser


#: a term below this share of its Combine's largest is a residue of rounding
_RESIDUE = 2.0**-48


#: an expression over operands: ``sum c operand``
Terms = dict[Operand, float]
#: the first raw outputs of a call
_RAWS = tuple(Operand("raw", j) for j in range(4))


class Row(NamedTuple):
    """One output while lowering: ``slot <- sum c operand``."""

    slot: int
    terms: Terms


def _pack(rows: list[Row], call: Call | None, edited: bool) -> Launch:
    """``edited``: rows may hold edits."""
    if len(rows) == 1 and not edited:
        slot, terms = rows[0]
        return Launch((slot,), tuple(terms), (tuple(terms.values()),), (), call)
    operands = tuple(dict.fromkeys([o for row in rows for o in row.terms if o[0] != "edit"]))
    matrix = tuple([tuple([row.terms.get(o, 0.0) for o in operands]) for row in rows])
    edits: tuple[tuple[int, int, float], ...] = ()
    if edited:
        edits = tuple(
            [
                (j, o.number, c)
                for j, row in enumerate(rows)
                for o, c in row.terms.items()
                if o[0] == "edit"
            ]
        )
    return Launch(tuple([row.slot for row in rows]), operands, matrix, edits, call)


def lower(plan: Plan, denoiser: Denoiser, keep: tuple[int, ...] = ()) -> Program:
    """Bind ``plan`` to a denoiser's ``prediction``, ``coefficients`` and ``input_scale``.

    ``keep`` are values to return beside the result (an error estimate, a second
    solution). Raises ConversionError where the network cannot give the kind that the plan asks for,
    naming the remedy, and PlanError where the denoiser has no such channel or no second time.
    """
    instance("plan", plan, Plan, "a plan, as fewstep.plan makes it,")
    members("denoiser", denoiser, ("prediction", "coefficients", "input_scale"), "a denoiser")
    check_reads(plan, denoiser)
    numbers = numbers_of(plan, denoiser)
    return _lowered(_Same(plan), denoiser.prediction, numbers, tuple(keep))


def check_lowering(plan: Plan, denoiser: Denoiser) -> None:
    """Raise what ``lower`` raises, at a fraction of its time."""
    check_reads(plan, denoiser)
    for k, e in enumerate(plan.evaluations):
        _numbers(k, e, denoiser)
        for _, kind, _ in e.outs:
            convert(denoiser.prediction, kind, e.node)


@host_constant
def constant_program(plan: Plan | Program, denoiser: Denoiser) -> Program:
    """The program of ``plan`` as a constant of a graph of ``torch.compile``."""
    if isinstance(plan, Program):
        return replace(plan).complete()  # a copy: the numbers of the caller's may be variables
    return lower(plan, denoiser).complete()


def lower_whole(plan: Plan, denoiser: Denoiser) -> Program:
    """``lower`` with every term of the plan: those whose coefficient is 0, or what rounding left of
    0, are kept, so that plans of one structure give programs of one structure. Coefficients may
    be 0-dim tensors (float64); then the matrices hold tensors. Not memoised."""
    check_reads(plan, denoiser)
    numbers = numbers_of(plan, denoiser)
    return _Lowering(plan, denoiser.prediction, numbers, (), whole=True).program()


class Numbers(NamedTuple):
    """Numbers of a denoiser at one call: its ``input_scale``, and ``(p, (q_1, ...))`` of each
    channel that is read."""

    scale: float
    channels: tuple[tuple[str, float, tuple[float, ...]], ...]


def numbers_of(plan: Plan, denoiser: Denoiser) -> tuple[Numbers, ...]:
    """The numbers of ``denoiser`` at each call of ``plan``."""
    return tuple(_numbers(k, e, denoiser) for k, e in enumerate(plan.evaluations))


def _numbers(k: int, e: Evaluate, denoiser: Denoiser) -> Numbers:
    if e.node.t is None:
        raise PlanError(f"evaluation {k} has no time; only a plan whose nodes carry t can be run")
    rows, t = [], e.node.t
    for channel in e.channels:
        p, qs = channel_numbers(denoiser, t, channel)
        rows.append((channel, float(p), tuple(map(float, qs))))
    return Numbers(float(denoiser.input_scale(t)), tuple(rows))


class _Same:
    """A plan compared by identity: its hash would visit every number."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __hash__(self) -> int:
        return id(self.plan)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.plan is other.plan


@lru_cache(maxsize=64)
def _lowered(
    same: _Same, prediction: str, numbers: tuple[Numbers, ...], keep: tuple[int, ...]
) -> Program:
    """The program (memoised: programs are immutable)."""
    return _Lowering(same.plan, prediction, numbers, keep).program()


class _Lowering:
    def __init__(
        self,
        plan: Plan,
        prediction: str,
        numbers: tuple[Numbers, ...],
        keep: tuple[int, ...],
        whole: bool = False,
    ) -> None:
        self.plan, self.prediction, self.numbers, self.keep = plan, prediction, numbers, keep
        self.whole = whole
        self.segments, self.evaluations = _segments(plan, whole)
        self.last = self._last_uses()
        self.expressions: dict[int, Terms] = {0: {Operand("slot", 0): 1.0}}
        self.slot_of: dict[int, int] = {0: 0}
        self.free: list[int] = []
        self.busy: list[tuple[int, int]] = []  # (last launch that reads it, slot)
        self.slots = 1
        self.raws = max((len(qs) for n in numbers for _, _, qs in n.channels), default=1)
        self.evaluated: dict[Node, list[int]] = {}
        for k, e in enumerate(self.evaluations):
            self.evaluated.setdefault(e.node, []).append(k)
        self.claims = {
            i.out: i.node for i in plan.code if isinstance(i, Combine) and i.node is not None
        }
        self.descent = Descent(plan.start)
        self.edited = False

    def _last_uses(self) -> dict[int, int]:
        """The last segment in which a value is read; an evaluated state is kept through the launch
        after its call."""
        last: dict[int, int] = {}
        for k, body in enumerate(self.segments):
            for i in body:
                for value, _ in i.terms:
                    last[value] = k
        for k, e in enumerate(self.evaluations):
            last[e.state] = max(last.get(e.state, 0), k + 1)
        return last | dict.fromkeys(self.keep, len(self.segments))

    def program(self) -> Program:
        launches = tuple([self._launch(k) for k in range(len(self.segments))])
        kept = tuple(self.slot_of[value] for value in self.keep)
        return Program(
            self.plan, launches, self.slot_of[self.plan.result], self.slots, self.raws, kept
        )

    def _launch(self, k: int) -> Launch:
        if k:
            self._bind_outputs(k)
        for i in self.segments[k]:
            self._bind_combine(i, k)
        evaluate = self.evaluations[k] if k < len(self.evaluations) else None
        target = self.plan.result if evaluate is None else evaluate.state
        rows = self._materialise(k, target, final=evaluate is None)
        call = None if evaluate is None else self._call(k, evaluate, rows)
        freed = [slot for until, slot in self.busy if until <= k]
        if freed:
            self.busy = [pair for pair in self.busy if pair[0] > k]
            self.free.extend(sorted(freed, reverse=True))
        return _pack(rows, call, self.edited)

    def _bind_outputs(self, k: int) -> None:
        """The predictions of call k - 1 as expressions in its state and raw outputs."""
        e = self.evaluations[k - 1]
        self.descent.evaluate(e, k - 1)
        numbers = {channel: (p, qs) for channel, p, qs in self.numbers[k - 1].channels}
        state = self.expressions[e.state]
        for value, kind, channel in e.outs:
            p, qs = numbers[channel]
            a, b = convert(self.prediction, kind, e.node)
            share = a + b * p
            expression = {o: c * share for o, c in state.items()} if share != 0.0 else {}
            for j, q in enumerate(qs):
                if b * q != 0.0:
                    expression[_RAWS[j] if j < 4 else Operand("raw", j)] = b * q
            self.expressions[value] = expression

    def _bind_combine(self, i: Combine, k: int) -> None:
        expression: Terms = {}
        for value, c in i.terms:
            for operand, w in self.expressions[value].items():
                expression[operand] = expression.get(operand, 0.0) + c * w
        for key, c in i.noise:
            expression[Operand("noise", key)] = c
        self.descent.combine(i)
        # a later state at a node that was already evaluated inherits the edits that it does not
        # carry
        at = None if i.node is None else self.evaluated.get(i.node)
        earlier = [n for n in at if n < k] if at is not None else ()
        if earlier:
            fresh = 1.0 - sum(c for value, c in i.terms if self.claims.get(value) == i.node)
            for number in earlier:
                if not self.descent.carries(number, i.out):
                    self.descent.carry(number, i.out)
                    if fresh != 0.0:
                        expression[Operand("edit", number)] = fresh
                        self.edited = True
        if not self.whole and 0.0 in expression.values():
            expression = {o: c for o, c in expression.items() if c != 0.0}
        self.expressions[i.out] = expression

    def _materialise(self, k: int, target: int, *, final: bool) -> list[Row]:
        """Outputs of launch k: the target, and every value that is read later and is no scaled
        buffer."""
        rows: list[Row] = []
        last, slot_of = self.last, self.slot_of
        for value, expression in list(self.expressions.items()):
            if value != target:
                until = last.get(value, -1)
                if not (value in self.keep if final else until > k):
                    if until <= k:
                        del self.expressions[value]
                    continue
            if value in slot_of and not (final and value == 0):
                continue
            if value != target and not final and len(expression) == 1:
                (operand,) = expression
                if operand.kind == "slot":
                    self._extend(operand.number, last[value])
                    continue
            slot = self._allocate(last.get(value, k + 1))
            rows.append(Row(slot, expression))
            slot_of[value] = slot
            self.expressions[value] = {Operand("slot", slot): 1.0}
        return rows

    def _call(self, k: int, e: Evaluate, rows: list[Row]) -> Call:
        scale, state = self.numbers[k].scale, self.slot_of[e.state]
        if scale == 1.0:
            return Call(k, e.node, state, state, 1.0, e.channels, e.to)
        source = next((r for r in rows if r.slot == state), None)
        terms = source.terms if source else {Operand("slot", state): 1.0}
        slot = self._allocate(k + 1)  # through the next launch: a network may return its own input
        rows.append(Row(slot, {o: c * scale for o, c in terms.items()}))
        return Call(k, e.node, state, slot, scale, e.channels, e.to)

    def _allocate(self, until: int) -> int:
        if self.free:
            slot = self.free.pop()
        else:
            slot, self.slots = self.slots, self.slots + 1
        self.busy.append((until, slot))
        return slot

    def _extend(self, slot: int, until: int) -> None:
        self.busy = [(max(until, u), s) if s == slot else (u, s) for u, s in self.busy]


def _segments(plan: Plan, whole: bool) -> tuple[list[list[Combine]], list[Evaluate]]:
    segments: list[list[Combine]] = [[]]
    evaluations: list[Evaluate] = []
    sizes = {0: math.hypot(plan.start.alpha, plan.start.sigma)}
    for i in plan.code:
        if isinstance(i, Evaluate):
            for value, kind, _ in i.outs:
                plain = kind in ("x0", "eps")
                sizes[value] = 1.0 if plain else math.hypot(*parts(kind, i.node))
            evaluations.append(i)
            segments.append([])
        else:
            segments[-1].append(i if whole else _significant(i, sizes))
            sizes[i.out] = 0.0 if whole else _size(i, sizes)
    return segments, evaluations


def _size(i: Combine, sizes: dict[int, float]) -> float:
    """About how large the value is for data of size 1: a state's ``|(alpha, sigma)|``, a bound for
    what is none."""
    if i.node is not None:
        return math.hypot(i.node.alpha, i.node.sigma)
    return sum(abs(c) * sizes[value] for value, c in i.terms) + sum(abs(c) for _, c in i.noise)


def _significant(i: Combine, sizes: dict[int, float]) -> Combine:
    """``i`` without terms that are what rounding left of a weight of 0: each would cost a pass over
    memory."""
    shares = [abs(c) * sizes[value] for value, c in i.terms]
    least = _RESIDUE * max(shares, default=0.0)
    if not shares or min(shares) > least:
        return i
    kept = tuple([term for term, share in zip(i.terms, shares, strict=True) if share > least])
    return replace(i, terms=kept)
