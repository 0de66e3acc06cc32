"""A recording: a function of tensors that ran once while its kernels were recorded, and is replayed
from then on without Python.

Its inputs are copied into tensors of the recording, where the kernels read them; its output is a
copy. What is no tensor is as it was when the recording was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..models.denoiser import Condition

#: ``(state, noises by key, condition) -> result``
Work = Callable[[Tensor, Sequence[Tensor], Condition], Tensor]
#: runs before a recording: libraries choose their kernels, caches are filled
WARM_UP = 2


class Machinery(Protocol):
    """What records kernels."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Record ``work()``: what replays it, and the tensor that holds its result after each
        replay (and nothing before the first one)."""
        ...


class CudaGraphs:
    """``torch.cuda.CUDAGraph`` on ``device``."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """See ``Machinery``. The work runs ``WARM_UP`` times on a stream of its own first."""
        with torch.cuda.device(self.device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    work()
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = work()
        return graph.replay, out


class Recording:
    """``work`` for inputs with the shapes of ``x``, ``noises`` and ``cond``, recorded by
    ``machinery``."""

    def __init__(
        self,
        work: Work,
        machinery: Machinery,
        x: Tensor,
        noises: Sequence[Tensor],
        cond: Condition,
    ) -> None:
        # tensors that are written outside of inference mode too, and carry no gradient
        with torch.inference_mode(False), torch.no_grad():
            self.inputs = [_own(value) for value in listed(x, noises, cond)]
            own_x, own_noises, own_cond = _arranged(self.inputs, len(noises), cond)
            self.replay, self.out = machinery.record(lambda: work(own_x, own_noises, own_cond))

    def __call__(self, x: Tensor, noises: Sequence[Tensor], cond: Condition) -> Tensor:
        """The result for these inputs, a tensor of the caller's."""
        with torch.inference_mode(False), torch.no_grad():
            for own, given in zip(self.inputs, listed(x, noises, cond), strict=True):
                own.copy_(given)
            self.replay()
            return self.out.clone()


def listed(x: Tensor, noises: Sequence[Tensor], cond: Condition) -> list[Tensor]:
    """All tensors of a run: the state, the noises, the condition's by name."""
    more = [] if cond is None else [cond] if isinstance(cond, Tensor) else _by_name(cond)
    return [x, *noises, *more]


def _by_name(cond: Mapping[str, Tensor]) -> list[Tensor]:
    return [cond[name] for name in sorted(cond)]


def _arranged(
    tensors: Sequence[Tensor], noises: int, cond: Condition
) -> tuple[Tensor, Sequence[Tensor], Condition]:
    """``tensors`` in the places of ``listed``."""
    x, drawn, rest = tensors[0], tensors[1 : 1 + noises], tensors[1 + noises :]
    if cond is None:
        return x, drawn, None
    if isinstance(cond, Tensor):
        return x, drawn, rest[0]
    return x, drawn, dict(zip(sorted(cond), rest, strict=True))


def _own(value: Tensor) -> Tensor:
    return torch.empty_like(value, requires_grad=False).copy_(value)
