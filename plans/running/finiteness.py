"""Runtime checks: number, shape and type of network outputs and noises; NaN and infinity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from ...checks import ArgumentError, FewstepError, described, shown, traced
from .program import Call


class NumericalError(FewstepError, ArithmeticError):
    """NaN or infinity in a network output or in the result; names the step, its time and the
    samples of the batch."""

    def __init__(self, what: str, step: int, t: float | None, samples: tuple[int, ...]) -> None:
        super().__init__(
            f"{what} is not finite at evaluation {step} (t={t}), samples {list(samples)} of "
            "the batch"
        )
        self.what, self.step, self.t, self.samples = what, step, t, samples


def check_raws(raws: Sequence[Tensor], x: Tensor, count: int) -> None:
    """ValueError unless the network returned ``count`` tensors shaped like ``x``."""
    check_count(raws, count)
    for raw in raws:
        if not _real(raw):
            raise ArgumentError(f"the network returned {described(raw)}; it must be real numbers")
        if raw.shape != x.shape:
            raise ArgumentError(
                f"the network returned shape {tuple(raw.shape)} for a state of shape "
                f"{tuple(x.shape)}"
            )


def check_count(raws: Sequence[Tensor], count: int) -> None:
    """ValueError unless ``raws`` are ``count`` tensors."""
    # the first test is quick: this runs at every step
    listed = type(raws) is tuple or isinstance(raws, Sequence)
    if not listed or [raw for raw in raws if not isinstance(raw, Tensor)]:
        raise ArgumentError(
            f"the raw outputs of a network call must be a tuple of tensors, got {shown(raws)}"
        )
    if len(raws) != count:
        raise ArgumentError(
            f"the denoiser returned {len(raws)} raw outputs, but coefficients for {count}"
        )


def check_apart(raws: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """ArgumentError where a raw output shares memory with a buffer that is about to be written."""
    for raw in raws:
        start = raw.data_ptr()
        for out in outputs:
            distance = start - out.data_ptr()
            if -raw.nbytes < distance < out.nbytes:
                raise ArgumentError(
                    "the network returned memory of this run, which later steps write into (an "
                    "input of an earlier call?); it must return tensors of its own"
                )


def check_noise(z: object, key: int, like: Tensor) -> None:
    """ValueError unless ``z``, returned by a noise function for ``key``, is a tensor of real
    numbers shaped like ``like``."""
    if not isinstance(z, Tensor) or z.shape != like.shape or not _real(z):
        allowed = f"a tensor of real numbers shaped like the state {tuple(like.shape)}"
        raise ArgumentError(
            f"noise(key, like) returned {described(z)} for key {key}; it must be {allowed}"
        )


def _real(value: Tensor) -> bool:
    """Whether ``value`` is dense, holds data, and is not complex."""
    return not value.is_complex() and value.layout is torch.strided and not value.is_meta


class Watch:
    """Finds the first call with a non-finite output: at once on the CPU, after the loop elsewhere.

    On the CPU a call costs one sum for each output: the sum of numbers one of which is NaN or
    infinite is never finite. Rows are looked at only where it is not. Elsewhere one number a sample
    is kept on the device, and all are read together at the end.
    """

    def __init__(self, calls: Sequence[Call], x: Tensor) -> None:
        self.calls, self.eager = calls, x.device.type == "cpu"
        self.count = 0
        self._late: list[Tensor] = []

    def see(self, raws: Sequence[Tensor]) -> None:
        """Check the outputs of the next call."""
        self.count += 1
        if traced():
            _assert(raws, "the network output", self.count - 1)
        elif not self.eager:
            self._late.append(_marks(raws))
        elif not _finite(raws):
            self._raise(self.count - 1, _marks(raws).isnan().tolist())

    def fork(self) -> Watch:
        """A copy that goes on independently."""
        other = copy(self)
        other._late = list(self._late)
        return other

    def close(self, result: Tensor) -> None:
        """Check the result, and before it the calls that were put off."""
        if traced():
            _assert([result], "the result", self.count)
            return
        if self.eager:
            if not _finite([result]):
                self._raise(self.count, _marks([result]).isnan().tolist())
            return
        marks = [*self._late, _marks([result])]
        bad = torch.cat(marks).isnan().tolist()
        for k, mark in enumerate(marks):
            self._raise(k, bad[: len(mark)])
            del bad[: len(mark)]

    def _raise(self, k: int, bad: list[bool]) -> None:
        """NumericalError where a sample of call ``k`` (of the result after the last) is bad."""
        rows = tuple(i for i, wrong in enumerate(bad) if wrong)
        if rows and k < self.count:
            raise NumericalError("the network output", k, self.calls[k].node.t, rows)
        if rows:
            last = self.calls[-1] if self.calls else None
            t = last.node.t if last else None
            raise NumericalError("the result", len(self.calls), t, rows)


def _finite(tensors: Sequence[Tensor]) -> bool:
    """Whether the sum of each is finite; False may be an overflow of finite numbers."""
    return all(math.isfinite(t.sum().item()) for t in tensors)


def _assert(tensors: Sequence[Tensor], what: str, k: int) -> None:
    """An assertion of the graph under ``torch.compile``; nothing inside a transform, where no
    value can be read."""
    if torch.compiler.is_compiling():
        torch._assert_async(
            torch.stack([(t * 0.0).sum() for t in tensors]).sum() == 0.0,
            f"{what} is not finite at evaluation {k}",
        )


def _marks(tensors: Sequence[Tensor]) -> Tensor:
    """One number a sample: NaN where a number of it, in any of ``tensors``, is not finite, else
    0."""
    marks = [(t.detach() * 0.0).unsqueeze(-1).flatten(1).sum(1) for t in tensors]
    return torch.stack(marks).sum(0) if len(marks) > 1 else marks[0]
