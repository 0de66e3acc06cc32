"""``Combination``, the base class of guidance that combines several predictions.

A linear combination ``sum_j w_j m_j`` of predictions with ``sum_j w_j = 1`` is the same for every
kind of prediction, because all kinds are affine in each other. Its weights are coefficients of the
raw outputs, so it folds into the solver's step. Other combinations are computed inside ``raws`` in
one kind (``on``), which is then the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, UnknownName, unknown
from ...models.base import MAIN, BaseDenoiser, RunFacts, read_coefficients
from ...models.denoiser import Condition, Time, combine, host_times
from ...models.wrapper import Wrapper
from ...schedules.kinds import KINDS, ConversionError, convert
from .branches import Branch, ask, batch_size, changed
from .conditions import Source

#: the kind that the first branch's model predicts
PREDICTION = "prediction"
#: kinds that are the noise times a number, which determine no x0 at alpha = 0
NOISE_KINDS = ("eps", "score")


class Combination(Wrapper):
    """Base class of denoisers whose prediction combines those of ``branches``.

    The first branch's model gives schedule, shape and device. Channels: ``main``, the combination,
    and the name of each branch. A subclass defines ``weights(t)``, and ``mix`` if it is made with
    ``kind``: then the branches are combined by ``mix`` as predictions of that kind.
    """

    guided = True
    preserves_input = True
    #: the class's own; that of an instance is False too if one of its models keeps values
    joinable = True

    def __init__(self, branches: Sequence[Branch], kind: str | None = None) -> None:
        """Raises ArgumentError if the schedules or the shapes differ, if one model answers several
        branches and keeps values between calls, or for an unknown kind."""
        super().__init__(branches[0].denoiser)
        self.branches = tuple(branches)
        self.channels = (*MAIN, *(branch.name for branch in branches))
        self.kind = self._kind(kind)
        if self.kind is not None:
            self.prediction = self.kind
        self.batch = batch_size(branches)
        self.joinable = self.joinable and all(b.denoiser.joinable for b in branches)
        self._check_models()

    def _kind(self, kind: str | None) -> str | None:
        """Return the kind to combine in: ``prediction`` is that of the first branch's model."""
        if kind is None or kind in KINDS:
            return kind
        if kind != PREDICTION:
            raise ArgumentError(unknown("on", kind, (PREDICTION, *KINDS)))
        return self.denoiser.prediction

    def _check_models(self) -> None:
        """Raise ArgumentError unless the models of all branches fit together."""
        first = self.denoiser
        for model in (branch.denoiser for branch in self.branches):
            if model.schedule != first.schedule:
                raise ArgumentError(
                    f"the models are on {first.schedule!r} and {model.schedule!r}: they must be on "
                    "the same schedule"
                )
            if None not in (model.shape, first.shape) and model.shape != first.shape:
                raise ArgumentError(
                    f"the models have samples of shape {first.shape} and {model.shape}"
                )
            shared = sum(branch.denoiser is model for branch in self.branches) > 1
            if shared and not model.joinable:
                raise ArgumentError(
                    f"{type(model).__name__} keeps values between the calls of a run, so one "
                    "model cannot answer several branches: wrap the network itself"
                )

    def weights(self, t: float) -> tuple[float, ...]:
        """Return the weight of each branch at ``t``. A branch of weight 0 is not called where
        nothing else reads it; NaN stands for a weight that is no number."""
        raise NotImplementedError

    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        """Return the combination (B, *shape) of the branches' predictions of kind ``kind`` at the
        state ``x``; ``times`` are one or B. Only called if at least two branches are needed; that
        of a branch that is not needed, whose weight is 0, may be any tensor."""
        raise NotImplementedError

    def _needed(self, times: Sequence[float], channels: Sequence[str]) -> list[int]:
        """The branches that have to be called for ``channels``."""
        read = {self.channels.index(name) - 1 for name in channels if name != "main"}
        if "main" in channels:
            rows = [self.weights(t) for t in times]
            read |= {i for row in rows for i, w in enumerate(row) if w != 0.0}
        return sorted(read)

    @override
    def network_rows(self, t: float, channels: Sequence[str] = MAIN) -> int:
        needed = self._needed([t], channels)
        return sum(self.branches[i].denoiser.network_rows(t) for i in needed)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        times = host_times(t, x_in.shape[0])
        needed = self._needed(times, channels)
        answers = ask([self.branches[i] for i in needed], self.denoiser, x_in, t, cond, to)
        found = dict(zip(needed, answers, strict=True))
        spare = answers[0][0]
        if self.kind is None:
            # a branch that nothing reads repeats a tensor: the number of outputs never changes
            unread = [(spare,) * len(qs) for qs in self._factors(times[0])]
            return tuple(raw for i, own in enumerate(unread) for raw in found.get(i, own))
        # predictions in float32 or better: their differences are small
        wide = x_in.to(torch.promote_types(x_in.dtype, torch.float32))
        x = combine([wide], [[1.0 / self.denoiser.input_scale(v) for v in times]])
        values = {i: self._value(i, x, times, raws) for i, raws in found.items()}
        spare = values[needed[0]]
        each = [values.get(i, spare) for i in range(len(self.branches))]
        # the weights have sum 1: a branch that is the only one needed has weight 1
        main = spare if len(values) == 1 else self.mix(each, x, times)
        return tuple(value.to(x_in.dtype) for value in (main, *each))

    def _value(self, i: int, x: Tensor, times: Sequence[float], raws: Sequence[Tensor]) -> Tensor:
        """The prediction of branch ``i`` as ``kind`` at the state ``x``."""
        numbers = [self._numbers(i, v) for v in times]
        columns = [[qs[j] for _, qs in numbers] for j in range(len(raws))]
        return combine([x, *raws], [[p for p, _ in numbers], *columns])

    def _numbers(self, i: int, t: float) -> tuple[float, tuple[float, ...]]:
        """Coefficients ``(p, (q_1, ...))`` of the state and the raw outputs of branch ``i`` in its
        prediction as the kind that this denoiser predicts."""
        model = self.branches[i].denoiser
        p, qs = read_coefficients(model, t)
        if model.prediction == self.prediction:
            return p, tuple(qs)
        a, b = convert(model.prediction, self.prediction, self.schedule.node(t))
        return a + b * p, tuple(b * q for q in qs)

    def _factors(self, t: float) -> list[tuple[float, ...]]:
        """The coefficients of the raw outputs of each branch."""
        return [self._numbers(i, t)[1] for i in range(len(self.branches))]

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Return the coefficients of ``channel``. Raises UnknownName for a channel that this
        denoiser has not, and ConversionError where a branch's prediction has no conversion."""
        if channel not in self.channels:
            raise UnknownName(unknown("channel", channel, self.channels))
        place = self.channels.index(channel) - 1
        if self.kind is not None:
            self._check_kind(t)
        numbers = [self._numbers(i, t) for i in range(len(self.branches))]
        if self.kind is not None:
            self.weights(t)  # raises before the first call
            return 0.0, tuple(float(i == place) for i in range(-1, len(self.branches)))
        weights = (
            self.weights(t)
            if channel == "main"
            else tuple(float(i == place) for i in range(len(self.branches)))
        )
        p = sum(w * p for w, (p, _) in zip(weights, numbers, strict=True) if w)
        return p, tuple(w * q for w, (_, qs) in zip(weights, numbers, strict=True) for q in qs)

    def _check_kind(self, t: float) -> None:
        """Raise ConversionError if the first branch's model cannot be read as ``kind`` at ``t``, or
        determines x0 there and a prediction of kind ``kind`` does not."""
        own, node = self.denoiser.prediction, self.schedule.node(t)
        lost = node.alpha == 0.0 and self.kind in NOISE_KINDS and own not in NOISE_KINDS
        try:
            convert(own, self.prediction, node)
        except ConversionError as error:
            raise ConversionError(
                f"{type(self).__name__} combines predictions of kind {self.kind}: {error}; or pass "
                f"on={own!r}"
            ) from error
        if lost:
            raise ConversionError(
                f"{type(self).__name__} combines predictions of kind {self.kind}, which say "
                f"nothing about x0 at alpha=0 (t={t}); pass on={own!r}, or a grid that starts "
                "after alpha = 0"
            )

    @override
    def time_mismatch(self, t: float) -> float:
        return max(branch.denoiser.time_mismatch(t) for branch in self.branches)

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        for branch in self.branches:
            branch.check(cond, batch)

    @override
    def select(self, rows: Tensor) -> Self:
        return self._changed(lambda m: m.select(rows), lambda s: s.select(rows))

    @override
    def for_run(self, facts: RunFacts) -> Self:
        return self._changed(lambda m: m.for_run(facts), lambda s: s.for_run(facts))

    def _changed(
        self,
        model: Callable[[BaseDenoiser], BaseDenoiser],
        source: Callable[[Source], Source],
    ) -> Self:
        """Return a copy with ``model`` applied to the models and ``source`` to the sources of
        conditions; itself if nothing changes."""
        new = changed(self.branches, model, source)
        pairs = zip(new, self.branches, strict=True)
        if all(a.denoiser is b.denoiser and a.source is b.source for a, b in pairs):
            return self
        made = self.copied()
        made.branches, made.denoiser = new, new[0].denoiser
        made.batch = batch_size(new)
        return made

    def copied(self) -> Self:
        """Return a shallow copy."""
        return copy(self)

    @override
    def parameters(self) -> Iterator[Tensor]:
        models = {id(branch.denoiser): branch.denoiser for branch in self.branches}
        for model in models.values():
            yield from model.parameters()
