"""Methods that change the states along gradients of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from typing_extensions import Self, override

from ...models.base import MAIN, BaseDenoiser
from ...models.denoiser import Condition, Denoiser, Time
from ...schedules.host_times import device_times
from ...schedules.node import Node
from .posterior import Levels
from .prediction import Prediction, predicted
from .stepping import Stepping


@dataclass
class Kept:
    """What a run keeps between a call and the change after it: the prediction, where alpha > 0, and
    what further calls need."""

    prediction: Prediction | None = None
    model: BaseDenoiser | None = None
    cond: Condition = None


class Pulling(Stepping):
    """A ``Stepping`` method whose ``moved`` may differentiate the prediction of the step
    (``pulled``), and call the model again (``again``)."""

    differentiates = True

    def __init__(self, denoiser: Denoiser, likelihood: Any) -> None:
        super().__init__(denoiser, likelihood)
        self._kept = Kept()  # shared with the copy that the run calls, as _run is

    @override
    def counted(self) -> Self:
        made = super().counted()
        made._kept = Kept()
        return made

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        kept = self._kept
        kept.prediction, kept.model, kept.cond = None, self.denoiser, cond
        return super().raws(x_in, t, cond, channels, to)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        self._kept.prediction = p
        return p.value

    def pulled(self) -> Prediction | None:
        """The prediction of the step; None where alpha = 0, where it does not depend on the
        state."""
        kept = self._kept
        p, kept.prediction = kept.prediction, None
        return p

    def again(self, x: Tensor, node: Node) -> Prediction:
        """The prediction at the state ``x`` (B, *shape) at ``node``, one more network call."""
        kept = self._kept
        assert kept.model is not None
        t = device_times([float(node.t or 0.0)], x.device)[0]
        return predicted(kept.model, x, t, kept.cond, self.counts, type(self).__name__)
