"""DiffusionPDE as published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, number
from ...models.base import RunFacts
from ...models.denoiser import Condition, Denoiser
from ...plans.plan import Plan
from ...plans.running.loop import run_plan
from ...plans.running.step_state import StepState
from ...plans.transforms.gradients import GradientError
from ...samplers import registry as samplers
from ...schedules.grids.construction import Grid
from .counts import Counts
from .losses import Losses
from .own_loop import OwnLoop, Route
from .prediction import without_derivative
from .registry import register
from .residual import is_late


@register(
    "diffusion_pde",
    source="Huang et al. 2024, arXiv 2406.17763",
    form="loop",
    needs=("gradients", "losses"),
    exact="none",
    sampler="heun",
)
class DiffusionPDE(OwnLoop):
    """DiffusionPDE as published: after each step the state moves along the gradient of the losses,
    through all network calls of the step.

        x_{i+1} = STEP(x_i) - (N0 / N) grad_{x_i} sum_k w_k |r_k(D)|

    D is the last prediction of the step (for Heun that of the corrector); N0 = ``reference``, the
    number of steps that the weights belong to, and N that of the run, so that the strength of a run
    stays about the same. (Huang, Yang, Wang & Park 2024, arXiv 2406.17763; EDM, Heun, N = N0 =
    2000.) The recipe: observations by ``Loss(likelihood, weight, late=0.1)``, the equation by
    ``Loss(residual, weight, early=0)``, switched after 80 % of the steps. The residual is that of
    the whole field divided by the number of its points; rows at walls must be left out of it where
    its stencil does not hold there. The published weights of the equation belong to differences
    that are not divided by the spacing. Norms are of each sample by itself.

    A loop of its own over the steps of a sampler without memory (heun, ddim). Cost of a step: its
    network calls, as many passes backward through them, and one call of each loss.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        switch: float = 0.8,
        reference: float = 2000.0,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: a ``Loss``, a likelihood, or a sequence of them.
        switch: share of the steps after which ``late`` of a Loss counts instead of ``early``.
        reference: N0; 0: the weights belong to the number of steps that is run.
        """
        self.switch = number("switch", switch, 0.0, 1.0)
        self.reference = number("reference", reference, 0.0)
        super().__init__(denoiser, likelihood)

    @override
    def accepted(self, likelihood: Any) -> Losses:
        return Losses(likelihood)

    @override
    def looped(
        self,
        route: Route,
        x: Tensor,
        cond: Condition,
        report: Callable[[int, int], None] | None,
    ) -> tuple[Tensor, Counts]:
        plans = self.plans(route.sampler, route.options, route.grid)
        return self.run(plans, x, cond, report), self.predicted(plans)

    def plans(self, name: str, options: Any, grid: Grid) -> list[Plan]:
        """The steps of the sampler as plans of their own. Raises ArgumentError for a sampler that
        draws noise or that uses more than the last state."""
        whole = samplers.build(name, grid, options)
        if whole.draws:
            raise ArgumentError(f"diffusion_pde: {name} draws noise; use heun, or ddim with eta=0")
        pairs = zip(grid.times, grid.times[1:], grid.nodes, grid.nodes[1:], strict=False)
        made = [
            samplers.build(name, replace(grid, times=(a, b), nodes=(s, t)), options)
            for a, b, s, t in pairs
        ]
        if sum(plan.nfe for plan in made) != whole.nfe or name not in ("heun", "ddim"):
            raise ArgumentError(
                f"diffusion_pde differentiates each step alone, and {name} uses earlier steps, or "
                "its steps alone are others: use heun or ddim"
            )
        return made

    def predicted(self, plans: list[Plan]) -> Counts:
        """Cost of a run of these steps."""
        total = Counts()
        for i, plan in enumerate(plans):
            total += Counts(plan.nfe)
            node = plan.evaluations[-1].node
            if node.alpha:
                own = self.likelihood.spent(node.rho, is_late(i, len(plans), self.switch))
                total += own + Counts(0, plan.nfe if own.operator else 0)
        return total

    def run(
        self,
        plans: list[Plan],
        x: Tensor,
        cond: Condition = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Run the steps from ``x`` (B, *shape), the state at the first node."""
        if torch.is_inference_mode_enabled():
            raise GradientError("DiffusionPDE differentiates the model: use torch.no_grad")
        model = self.denoiser.for_run(RunFacts())
        for i, plan in enumerate(plans):
            x = self._step(plan, model, x, cond, i, len(plans))
            if report is not None:
                report(i + 1, len(plans))
        return x

    def _step(
        self, plan: Plan, model: Denoiser, x: Tensor, cond: Condition, i: int, n: int
    ) -> Tensor:
        node = plan.evaluations[-1].node
        scale = self.reference / n if self.reference else 1.0
        last: list[Tensor] = []

        def watch(step: StepState) -> None:
            last[:] = [step.outputs["x0"]]

        self.counts.network += plan.nfe
        late = is_late(i, n, self.switch)
        wanted = node.alpha > 0.0 and self.likelihood.spent(node.rho, late).operator > 0
        leaf = x.detach().requires_grad_(wanted)
        out = run_plan(plan, model, leaf, cond=cond, on_step=watch, graph=wanted)
        if not wanted:
            return out.detach()
        with torch.enable_grad():
            wide = torch.promote_types(x.dtype, torch.float32)
            if not last[0].requires_grad:
                raise without_derivative("DiffusionPDE")
            x0 = self.data(last[0].to(wide))
            total = self.likelihood.total(x0, [node.rho], late, self.counts)
            if total is None or not total.requires_grad:
                raise GradientError("the losses do not depend on the state differentiably")
            self.counts.vjp += plan.nfe
            (slope,) = torch.autograd.grad(total.sum(), leaf)
        return (out - scale * slope.to(out)).detach()
