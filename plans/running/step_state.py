"""StepState, the argument of ``on_step``: the states before and after a step, and the
predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ...checks import unknown
from ...fused.linear.eager import linear_combination
from ...schedules.kinds import KINDS, convert
from ...schedules.node import Node
from ..instructions import MAIN
from .channels import channel_numbers

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser


class Outputs(Mapping[str, Tensor]):
    """Predictions of the evaluation just made, as any kind; computed when read.

    ``outputs["x0"]``, ``outputs["eps"]``, ... are of the main channel,
    ``outputs["x0", "uncond"]`` of another; ``channels`` are those that were read.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        node: Node,
        x: Tensor,
        raws: Sequence[Tensor],
        channels: tuple[str, ...] = (MAIN,),
    ) -> None:
        self._denoiser, self._node, self._x, self.raws = denoiser, node, x, tuple(raws)
        self.channels = channels

    def __getitem__(self, key: str | tuple[str, str]) -> Tensor:
        kind, channel = (key, MAIN) if isinstance(key, str) else key
        if kind not in KINDS:
            raise KeyError(kind)
        if channel not in self.channels:
            raise KeyError(unknown("channel", channel, self.channels))
        p, qs = channel_numbers(self._denoiser, float(self._node.t or 0.0), channel)
        a, b = convert(self._denoiser.prediction, kind, self._node)
        return linear_combination(
            [self._x, *self.raws], [a + b * p, *(b * q for q in qs)], self._x.dtype
        )

    def __iter__(self) -> Iterator[str]:
        return iter(KINDS)

    def __len__(self) -> int:
        return len(KINDS)


@dataclass
class StepState:
    """Argument of ``on_step`` after each network call; return a tensor (or assign ``x_next``) to
    replace the next state.

    Attributes:
        index: evaluation number, from 0.
        node, next_node: the nodes of ``x`` and of ``x_next``.
        x, x_next: copies, safe to keep, (B, *shape).
        outputs: the prediction as any kind.
        nfe: network calls so far.
    """

    index: int
    node: Node
    next_node: Node
    x: Tensor
    x_next: Tensor
    outputs: Mapping[str, Tensor]
    nfe: int


OnStep = Callable[[StepState], Tensor | None]
