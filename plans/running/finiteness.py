"""What may go wrong in a run: network outputs of the wrong shape, and numbers that are not
finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import ArgumentError, FewstepError, described, shown
from .lowering import Call


class NumericalError(FewstepError, ArithmeticError):
    """A NaN or infinity came from the network or the state; names the step, its time and the
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
            raise ArgumentError(f"the network returned {described(raw)}: real numbers are wanted")
        if raw.shape != x.shape:
            raise ArgumentError(
                f"the network returned shape {tuple(raw.shape)} for a state of shape "
                f"{tuple(x.shape)}"
            )


def check_count(raws: Sequence[Tensor], count: int) -> None:
    """ValueError unless ``raws`` are ``count`` tensors."""
    # the first is quick: every step of every run comes here
    listed = type(raws) is tuple or isinstance(raws, Sequence)
    if not listed or [raw for raw in raws if not isinstance(raw, Tensor)]:
        raise ArgumentError(
            f"the raw outputs of a network call must be a tuple of tensors, got {shown(raws)}"
        )
    if len(raws) != count:
        raise ArgumentError(
            f"the denoiser returned {len(raws)} raw outputs, its coefficients say {count}"
        )


def check_noise(z: object, key: int, like: Tensor) -> None:
    """ValueError unless ``z``, what a noise function gave for ``key``, is a tensor of real numbers
    shaped like ``like``."""
    if not isinstance(z, Tensor) or z.shape != like.shape or not _real(z):
        wanted = f"a tensor of real numbers shaped like the state {tuple(like.shape)} is wanted"
        raise ArgumentError(f"noise(key, like) returned {described(z)} for key {key}: {wanted}")


def _real(value: Tensor) -> bool:
    """Whether ``value`` is dense, holds data, and is not complex."""
    return not value.is_complex() and value.layout is torch.strided and not value.is_meta


class Watch:
    """Finds the first call with a non-finite output: at once on the CPU, after the loop
    elsewhere."""

    def __init__(self, calls: Sequence[Call], x: Tensor) -> None:
        self.calls, self.eager = calls, x.device.type == "cpu"
        self.flags: list[Tensor] = []

    def see(self, raws: Sequence[Tensor]) -> None:
        """Look at the outputs of the next call."""
        self.flags.append(_bad_rows(raws))
        if self.eager:
            self._raise(len(self.flags) - 1)

    def close(self, result: Tensor) -> None:
        """Look at the result, and at what was put off."""
        if not self.eager:
            for k in range(len(self.flags)):
                self._raise(k)
        bad = _bad_rows([result])
        if bool(bad.any()):
            last = self.calls[-1] if self.calls else None
            rows = tuple(bad.nonzero().flatten().tolist())
            raise NumericalError("the result", len(self.calls), last.node.t if last else None, rows)

    def _raise(self, k: int) -> None:
        if bool(self.flags[k].any()):
            rows = tuple(self.flags[k].nonzero().flatten().tolist())
            raise NumericalError("the network output", k, self.calls[k].node.t, rows)


def _bad_rows(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([~torch.isfinite(t).unsqueeze(-1).flatten(1).all(1) for t in tensors]).any(0)
