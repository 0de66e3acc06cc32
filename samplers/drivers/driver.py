"""Drivers: samplers whose steps depend on the data and so cannot be compiled to a plan.

A driver is a function ``(drive, grid, options) -> Tensor``, registered with ``form="driver"``. It
never changes a state itself: it writes short plans with ``PlanBuilder`` (fragments), and
``drive.run`` executes them in the common loop. A fragment may keep further values beside its result
(an error estimate, a second solution). The driver examines the results, then takes the step with
``drive.accept`` or writes another fragment. If the raw outputs of a fragment's first network call
are already known (because the previous step ended there, or was rejected), the call is neither made
nor counted.

All network calls are counted, including those of rejected steps; a call beyond ``max_nfe`` raises
BudgetError. To decide on a step by a norm, the host reads one number per trial from the device.
This is the only synchronisation, and adaptive steps cannot avoid it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError, FewstepError, integer, tensor
from ...plans.builder import Expression, PlanBuilder
from ...plans.instructions import PlanError
from ...plans.plan import Plan
from ...plans.running.channels import network_raws
from ...plans.running.finiteness import NumericalError, Watch, check_noise, check_raws
from ...plans.running.loop import Cursor, NoiseSource, OnStep, Outputs, StepState
from ...plans.running.lowering import Call, lower
from ...plans.running.tensor_versions import edited, version
from ...schedules.host_times import attach_times
from ...schedules.node import Node

if TYPE_CHECKING:
    from ...plans.running.loop import Denoiser

Raws = Sequence[Tensor]
#: ``path(s_lam, t_lam, like)`` returns the increment W and the space-time area H of one Brownian
#: path per sample over [s_lam, t_lam], shaped like ``like``: ``W ~ N(0, h)``, ``H ~ N(0, h / 12)``,
#: ``h = t_lam - s_lam``
Path = Callable[[float, float, Tensor], tuple[Tensor, Tensor]]
#: default limit of network calls
MAX_NFE = 10_000


class BudgetError(FewstepError, ArithmeticError):
    """The run used ``max_nfe`` network calls before it reached the end.

    ``x`` (B, *shape) is the last accepted state, ``t`` its time, ``nfe`` the number of calls made.
    """

    def __init__(self, x: Tensor, t: float | None, nfe: int) -> None:
        super().__init__(
            f"max_nfe={nfe} network calls are spent at t={t}, before the end; raise max_nfe or "
            "the tolerance"
        )
        self.x, self.t, self.nfe = x, t, nfe


class StepSizeError(FewstepError, ArithmeticError):
    """No step meets the tolerance, because it is below the precision of the state's dtype.

    ``x``, ``t``, ``nfe`` as in BudgetError.
    """

    def __init__(self, x: Tensor, t: float | None, nfe: int) -> None:
        super().__init__(
            f"no step from t={t} meets the tolerance in {x.dtype}; raise the tolerance or use "
            "dtype=torch.float64"
        )
        self.x, self.t, self.nfe = x, t, nfe


@dataclass(frozen=True)
class Driven:
    """Options that all drivers share. ``max_nfe``: largest number of network calls, including
    rejected steps."""

    max_nfe: int = MAX_NFE

    def __post_init__(self) -> None:
        integer("max_nfe", self.max_nfe, 1, 2**31)


class Fragment(NamedTuple):
    """A short plan, and the indices of its values that are kept beside the result."""

    plan: Plan
    keep: tuple[int, ...] = ()


def fragment(b: PlanBuilder, x: Expression, *keep: Expression) -> Fragment:
    """Finish the fragment that ends in state ``x`` and keeps the values ``keep`` (made with
    ``b.at`` or ``b.value``, or by evaluation). Raises PlanError for expressions."""
    values = tuple(v.bare for v in keep)
    if None in values:
        raise PlanError(
            "a fragment cannot keep expressions; make them values with b.at() or b.value()"
        )
    return Fragment(b.finish(x), tuple(v for v in values if v is not None))


class Ran(NamedTuple):
    """Outputs of a fragment: the result, the kept values, and the raw outputs of its first and last
    network call."""

    x: Tensor
    kept: tuple[Tensor, ...]
    first: Raws
    last: Raws


class Trial(NamedTuple):
    """Argument of ``Drive.on_trial``, called after a trial was accepted or rejected (``drive.x``
    and ``drive.node`` are then up to date).

    ``start``: node at which the trial began; ``accepted``: True if it was accepted; ``error``: its
    norm as a tensor; ``h``: the next step in lam; ``outputs``: the prediction at ``start``.
    """

    start: Node
    accepted: bool
    error: Tensor
    h: float
    outputs: Outputs


@dataclass
class Drive:
    """State and resources of a run, given to a driver.

    Attributes:
        denoiser, cond: the model and its condition.
        x, node: the last accepted state (B, *shape) and its node.
        noise: ``(key, like)`` returns unit normals, one seed per sample; ``draws`` counts them.
        path: a Brownian path, see ``Path``.
        on_step: called after every accepted step; may replace its result.
        on_trial: called after every trial of the adaptive DPM-Solver, including rejected ones.
        interval_noise: ``(start, end, like)`` returns unit normals, used in place of ``noise`` for
            a draw that belongs to an interval.
        reuse: the first call of a trial is not repeated after a rejection (False: it is).
        exact_end: the adaptive DPM-Solver ends exactly at the end (False: at a step that stops
            less than 1e-5 in lam before it).
        check: raise NumericalError on numbers that are not finite.
        max_nfe, nfe: largest number of network calls, and the number made; ``accepted`` and
            ``rejected``: numbers of steps.
        passes: number of times that the network ran; less than ``nfe`` if several calls were made
            as one batch.
        sizes: number of samples in each call.
    """

    denoiser: Denoiser
    x: Tensor
    node: Node
    noise: NoiseSource | None = None
    path: Path | None = None
    cond: Tensor | Mapping[str, Tensor] | None = None
    on_step: OnStep | None = None
    check: bool = True
    max_nfe: int = MAX_NFE
    nfe: int = 0
    accepted: int = 0
    rejected: int = 0
    passes: int = 0
    draws: int = 0
    calls: list[Call] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    on_trial: Callable[[Trial], None] | None = None
    interval_noise: Callable[[Node, Node, Tensor], Tensor] | None = None
    reuse: bool = True
    exact_end: bool = True

    def __post_init__(self) -> None:
        self.watch = Watch(self.calls, self.x)

    def run(
        self,
        piece: Fragment,
        x: Tensor | None = None,
        *,
        known: Raws | None = None,
        noise: Sequence[Tensor] | None = None,
    ) -> Ran:
        """Run ``piece`` from ``x`` (default: the accepted state), which is not modified.

        ``known``: raw outputs of its first call; ``noise``: its draws (default: the next ones of
        ``self.noise``).
        """
        source = self._numbered(piece.plan) if noise is None else noise
        cursor = Cursor(
            lower(piece.plan, self.denoiser, piece.keep),
            self.denoiser,
            self.x if x is None else x,
            source,
        )
        first: Raws = ()
        last: Raws = ()
        while (call := cursor.call) is not None:
            last = known if known is not None and call.number == 0 else self.call(cursor.x_in, call)
            if call.number == 0:  # copies: a network may return the same memory at every call
                first = tuple(raw.clone() for raw in last) if piece.plan.nfe > 1 else last
            cursor.step(last)
        return Ran(cursor.result, cursor.kept, first, last)

    def call(self, x_in: Tensor, call: Call) -> tuple[Tensor, ...]:
        """Make one counted network call. Raises BudgetError if none is left."""
        return self.call_together([x_in], [call])[0]

    def call_together(
        self, inputs: Sequence[Tensor], calls: Sequence[Call]
    ) -> list[tuple[Tensor, ...]]:
        """Make several network calls as one batch, each counted. Raises BudgetError if fewer are
        left."""
        count, batch = len(calls), len(inputs[0])
        if self.nfe + count > self.max_nfe:
            raise BudgetError(self.x, self.node.t, self.nfe)
        x_in = torch.cat(list(inputs)) if count > 1 else inputs[0]
        cond = self.cond if count == 1 else _repeated(self.cond, count)
        own: Any = self.denoiser  # complete where calls are batched
        raws = network_raws(
            own if count == 1 else own.select(torch.arange(batch).repeat(count)),
            x_in,
            _times([call.node.t for call in calls], batch, x_in.device),
            cond,
            tuple(dict.fromkeys(name for call in calls for name in call.channels)),
            None
            if any(call.to is None for call in calls)
            else _times([call.to.t for call in calls if call.to], batch, x_in.device),
        )
        check_raws(raws, x_in, len(raws))
        self.nfe += count
        self.passes += 1
        self.sizes += [batch] * count
        answers = (
            [tuple(raw[k * batch : (k + 1) * batch] for raw in raws) for k in range(count)]
            if count > 1
            else [tuple(raws)]
        )
        if self.check:
            for call, answer in zip(calls, answers, strict=True):
                self.calls.append(call)
                self.watch.see(answer)
        return answers

    def call_some(self, x_in: Tensor, call: Call, rows: Tensor) -> tuple[Tensor, ...]:
        """Make one counted call for the samples ``rows``, integers, of the batch ``x_in``. The raw
        outputs are those of the whole batch, 0 for the other samples."""
        own: Any = self.denoiser  # complete where the model follows its rows
        part = replace(
            self,
            denoiser=own.select(rows),
            x=self.x.index_select(0, rows),
            cond=_selected(self.cond, rows),
            check=False,
        )
        try:
            made = part.call(x_in.index_select(0, rows), call)
        except BudgetError as error:
            raise BudgetError(self.x, error.t, error.nfe) from None
        raws = tuple(
            torch.zeros((len(x_in), *raw.shape[1:]), dtype=raw.dtype, device=raw.device).index_copy(
                0, rows, raw
            )
            for raw in made
        )
        self.nfe, self.passes = part.nfe, part.passes  # sizes is one list
        if self.check:
            self.calls.append(call)
            self.watch.see(raws)
        return raws

    def evaluate(self, x: Tensor, node: Node) -> Outputs:
        """Prediction at ``x``, convertible to any kind; makes one counted call and does not change
        the run."""
        if node.t is None:
            raise PlanError(f"{node} has no time, so the network cannot be evaluated there")
        scale = self.denoiser.input_scale(node.t)
        return Outputs(
            self.denoiser,
            node,
            x,
            self.call(x if scale == 1.0 else x * scale, Call(self.nfe, node, 0, 0, scale)),
        )

    def draw(self, like: Tensor, start: Node | None = None, end: Node | None = None) -> Tensor:
        """Return the next unit normals, shaped like ``like``. ``start`` and ``end``: the interval
        that the draw belongs to, if any."""
        if self.interval_noise is not None and start is not None and end is not None:
            self.draws += 1
            return self.interval_noise(start, end, like)
        if self.noise is None:
            raise PlanError("this driver draws noise: noise= or seeds must be given")
        self.draws += 1
        z = self.noise(self.draws - 1, like)
        check_noise(z, self.draws - 1, like)
        return z

    def accept(
        self, x: Tensor, node: Node, first: Raws = (), outputs: Outputs | None = None
    ) -> bool:
        """Make ``x`` at ``node`` the accepted state. ``first``: the raw outputs at the previous
        state; ``outputs``: in their place, what ``on_step`` sees. Returns True if ``on_step``
        replaced the state."""
        before, s = self.x, self.node
        self.x, self.node = x, node
        self.accepted += 1
        if self.on_step is None:
            return False
        seen = x.clone()
        written = version(seen)
        step = StepState(
            self.accepted - 1,
            s,
            node,
            before.clone(),
            seen,
            outputs or (Outputs(self.denoiser, s, before, first) if first else {}),
            self.nfe,
        )
        answer = self.on_step(step)
        given = answer if answer is not None else step.x_next
        if given is seen and not edited(seen, written, x):
            return False
        tensor("an edit of the state (what callback returns)", given)
        if given.shape != x.shape:
            raise ArgumentError(
                f"an edit must keep the state's shape {tuple(x.shape)}, got {tuple(given.shape)}"
            )
        self.x = given.to(x)
        return True

    def read(self, error: Tensor) -> float:
        """Read the error norm of a trial on the host. Raises NumericalError if it is not finite."""
        value = float(error.max())
        if not math.isfinite(value):
            rows = (
                tuple((~torch.isfinite(error)).nonzero().flatten().tolist()) if error.ndim else ()
            )
            raise NumericalError("the step", self.nfe, self.node.t, rows)
        return value

    def close(self, x: Tensor) -> Tensor:
        """Check the result and return it."""
        if self.check:
            self.watch.close(x)
        return x

    def _numbered(self, plan: Plan) -> NoiseSource | None:
        """Number the draws of ``plan`` continuously through the whole run, over all its
        fragments."""
        base, source = self.draws, self.noise
        self.draws += len(plan.draws)
        return None if source is None else lambda key, like: source(base + key, like)


def _times(times: Sequence[float | None], batch: int, device: torch.device) -> Tensor:
    """Time of one call (), or times of several calls for each of their samples (K B,)."""
    if len(times) == 1:
        return _filled(times[0], (), device)
    numbers = [float(t) for t in times if t is not None for _ in range(batch)]
    return attach_times(torch.cat([_filled(t, (batch,), device) for t in times]), numbers)


def _filled(t: float | None, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A time on the device, made by a fill, which unlike a transfer does not synchronise."""
    if t is None:
        raise PlanError("the network cannot be evaluated at a node without a time")
    precision = torch.float32 if device.type == "mps" else torch.float64
    return attach_times(torch.full(shape, t, dtype=precision, device=device), (t,))


def _repeated(
    cond: Tensor | Mapping[str, Tensor] | None, times: int
) -> Tensor | Mapping[str, Tensor] | None:
    if isinstance(cond, Mapping):
        return {name: torch.cat([value] * times) for name, value in cond.items()}
    return None if cond is None else torch.cat([cond] * times)


def _selected(
    cond: Tensor | Mapping[str, Tensor] | None, rows: Tensor
) -> Tensor | Mapping[str, Tensor] | None:
    """``cond`` of the samples ``rows``."""
    if isinstance(cond, Mapping):
        return {name: value.index_select(0, rows) for name, value in cond.items()}
    return None if cond is None else cond.index_select(0, rows)
