"""Replacement of what is measured, as in score-based inpainting."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...plans.running.step_state import StepState
from . import demands
from .counts import Counts
from .registry import register
from .stepping import Stepping, wide


@register(
    "score_sde",
    source="Song et al. 2020, arXiv 2011.13456, appendix I.2",
    form="step",
    needs=("pinverse", "noiseless", "linear"),
    exact="none",
    sampler="ddim",
    options={"eta": 1.0},
)
class ScoreSDE(Stepping):
    """Replacement: after each step the measured part of the state is that of the noised y.

        x_t <- x_t + A^+ (alpha_t y + sigma_t A xi - A x_t),   xi ~ N(0, I) anew in each step

    (Song et al. 2020, arXiv 2011.13456, appendix I.2: inpainting and colourisation; here for every
    linear operator with a pseudo-inverse.) The samples have the measurement exactly. It is no
    sampler of the posterior, for any number of steps: what is not measured hears of the
    measurement only through the model. Samplers with one call a step; cost of a step: 1 network
    call, 1 operator call and 1 of the pseudo-inverse.
    """

    per_step = Counts(0, 0, 1, 1)

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.exact(made, type(self).__name__)
        demands.invertible(made, type(self).__name__)
        return made

    @override
    def moved(self, step: StepState) -> Tensor:
        x, node = wide(step.x_next), step.next_node
        held = x - node.sigma * self.drawn(step) if node.sigma else x
        return x + self.pinverse(self.measured(held, node), x)
