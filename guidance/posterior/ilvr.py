"""ILVR: the low frequencies of a reference."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...plans.running.step_state import StepState
from ..operators.super_resolution import SuperResolution
from .counts import Counts
from .registry import register
from .score_sde import ScoreSDE


@register(
    "ilvr",
    source="Choi et al. 2021, arXiv 2108.02938, algorithm 1",
    form="step",
    needs=("pinverse", "noiseless", "linear"),
    exact="none",
    sampler="ddim",
    options={"eta": 1.0},
)
class ILVR(ScoreSDE):
    """Iterative latent variable refinement: the low frequencies of each state are those of a noised
    reference, of which y is a small version.

        x_t <- x_t - P x_t + P (alpha_t x_ref + sigma_t xi),   P = up(down(.)),   y = down(x_ref)

    (Choi et al. 2021, arXiv 2108.02938, algorithm 1, with the reference at the level of the new
    state, as in the paper.) ``down`` is the operator, most often
    ``operators.SuperResolution(factor, "bicubic")``; ``up`` is its pseudo-inverse, so that P is a
    projection and down(x) = y exactly, or enlarging by the same kernel. As ``ScoreSDE`` it is no
    sampler of the posterior. Samplers with one call a step; cost of a step: 1 network call, and
    until ``stop`` 1 operator call and 1 of ``up``.
    """

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, up: str = "pinverse", stop: float = 1.0
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Constraint.
        up: "pinverse", or "resize": ``factor^2 A^T`` of a SuperResolution, which enlarges by its
            kernel (bicubic: P is then no projection, and the samples have y only nearly).
        stop: share of the steps, from the start, that are refined, in (0, 1].
        """
        self.up, self.stop = (
            choice("up", up, ("pinverse", "resize")),
            number("stop", stop, 0.0, 1.0),
        )
        super().__init__(denoiser, likelihood)
        if self.up == "resize" and not isinstance(self.likelihood.operator, SuperResolution):
            raise ArgumentError(
                f"up='resize' is for operators.SuperResolution, got {self.likelihood.operator!r}: "
                "use up='pinverse'"
            )

    def refines(self, index: int, calls: int) -> bool:
        """Whether the step of call ``index`` of ``calls`` is refined."""
        return index < self.stop * calls

    @override
    def planned(self, plan: Plan) -> Counts:
        total = Counts()
        for index in range(plan.nfe):
            total += Counts(1) + (self.per_step if self.refines(index, plan.nfe) else Counts())
        return total

    @override
    def moved(self, step: StepState) -> Tensor:
        if not self.refines(step.index, self._run.calls):
            return step.x_next
        return super().moved(step)

    @override
    def pinverse(self, y: Tensor, like: Tensor) -> Tensor:
        if self.up == "pinverse":
            return super().pinverse(y, like)
        self.counts.adjoint += 1
        own: SuperResolution = self.likelihood.operator
        return own.factor**2 * own.adjoint(y).reshape(like.shape)
