"""CFG-Zero*: guidance with an optimal scale of the unconditional velocity, and no move in the first
steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, integer
from ...models.base import MAIN, RunFacts
from ...models.denoiser import Condition, Denoiser, Time
from ...models.exact import wide
from ...schedules.flow import Flow
from .prompted import guided
from .sample_sums import inner_products
from .stepped import Stepped

#: added to |v_u|^2, as in the authors' code
EPS = 1e-8


class CFGZero(Stepped):
    """CFG-Zero* guidance of flow models (Fan et al. 2025, arXiv 2503.18886, alg. 1).

        v = s v_u + w (v_c - s v_u),    s = <v_c, v_u> / (|v_u|^2 + 1e-8)
        v = 0                           in the first ``zero_steps`` steps of a run

    v_c is the conditional velocity, v_u the unconditional one, w the scale; inner products are over
    all elements of a sample, in float64. A zero velocity leaves the state where it is; the network
    is called all the same. The zero steps need the path ``Flow`` and the kind ``velocity``: on
    other paths pass ``zero_steps=0``, which leaves the optimal scale s. A direct call
    ``den(x, t, cond)`` belongs to no run and is never zero.

    diffusers' ClassifierFreeZeroStarGuidance computes on the network's own prediction, which is the
    velocity for flow models.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Callable[[float], float] | Tensor,
        uncond: Condition = None,
        *,
        zero_steps: int = 1,
        interval: Sequence[float] | None = None,
        on: str = "velocity",
    ) -> None:
        """Args:
            denoiser, scale, uncond, interval: as for ``CFG``.
            zero_steps: number of first steps without a move. The default 1 is that of the authors'
                code and of diffusers; the paper recommends the first 4 % of the steps. It needs a
                sampler with a plan: drivers, ``log_prob`` and ``invert`` refuse it.
            on: kind of prediction that is combined: velocity as in the paper, v, eps, x0, score,
                or ``prediction``, the model's own.

        Raises ArgumentError for ``zero_steps`` on another path or kind, and for sizes that do not
        fit. A run that has no other step is refused before its first call.
        """
        self.zero_steps = integer("zero_steps", zero_steps, 0)
        self.on = on
        option = f"zero_steps={self.zero_steps}" if self.zero_steps else ""
        super().__init__(denoiser, scale, uncond, interval, on, option)
        if self.zero_steps and not (isinstance(self.schedule, Flow) and self.kind == "velocity"):
            raise ArgumentError(
                f"zero_steps={self.zero_steps} on {self.schedule!r} in the kind {self.kind}: only "
                "a zero velocity on the path Flow leaves the state unchanged; pass zero_steps=0"
            )

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        uncond, cond = (v.to(wide(v.device)) for v in values)
        along, length = inner_products((cond, uncond), (uncond, uncond))
        return guided(cond, along / (length + EPS) * uncond, self.scale.column(times, cond))

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        main, *branches = super().raws(x_in, t, cond, channels, to)
        if self.step is not None and self.step < self.zero_steps:
            main = torch.zeros_like(main)
        return (main, *branches)

    @override
    def for_run(self, facts: RunFacts) -> Self:
        """Return a copy for one run. Raises ArgumentError if the run has no step that moves, does
        not know its steps, or goes from data to noise."""
        made = super().for_run(facts)
        if self.zero_steps and facts.steps and max(facts.steps) < self.zero_steps:
            raise ArgumentError(
                f"zero_steps={self.zero_steps} of a run whose network calls are in "
                f"{max(facts.steps) + 1} step(s): nothing would move; take more steps or fewer "
                "zero_steps"
            )
        return made
