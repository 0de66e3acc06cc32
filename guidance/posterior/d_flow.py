"""D-Flow: the start noise whose run fits the measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, flag, integer, number
from ...models.base import BaseDenoiser, RunFacts
from ...models.denoiser import Condition, Denoiser
from ...plans.plan import Plan
from ...plans.running.loop import NumericalError, run_plan
from ...plans.running.lowering import lower
from ...plans.transforms.gradients import GradientError, run_recomputed
from ...plans.transforms.recomputed import Recomputed
from ...samplers import registry as samplers
from .counted import Counted
from .counts import Counts
from .own_loop import OwnLoop, Route
from .prediction import without_derivative
from .registry import register


@register(
    "d_flow",
    source="Ben-Hamu et al. 2024, arXiv 2402.14017",
    form="loop",
    needs=("gradients", "adjoint"),
    exact="Gaussian priors and exact constraints, for many iterations and steps",
    sampler="heun",
)
class DFlow(OwnLoop):
    """D-Flow: the start noise z is moved until the run that begins there fits the measurement.

        min_z |y - A(Phi(z))|^2 + weight (|z|^2 / 2 - (d - 1) log |z|)

    (Ben-Hamu, Puny, Gat, Karrer, Singer & Lipman 2024, arXiv 2402.14017.) Phi is the run of a
    sampler that draws no noise, from z times the scale of the start; its gradient is the exact one
    of ``grad="checkpoint"``: memory does not grow with the steps. L-BFGS from the sample's own
    noise (or ``x=``), each sample by itself, so that no sample depends on its batch. The second
    term is -log of the density of |z|, times ``weight``; public code has it with the other sign.
    Without it the fit is exact, the noise of y included, and z stays as near to its start as the
    data allow: for a Gaussian prior and y without noise the samples are those of the posterior.

    Cost of an evaluation for one sample and N calls of the sampler: 2 N network calls, N
    vector-Jacobian products, 1 operator and 1 adjoint call; and one run at the end. ``iterations``
    evaluations without ``line_search``; with it (strong Wolfe) as many as it needs, up to 5/4 of
    that. The device is read in each.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        iterations: int = 20,
        weight: float = 0.0,
        line_search: bool = True,
    ) -> None:
        """Args:
        denoiser: the model, which autograd can follow.
        likelihood: Gaussian or Constraint; sigma_y is not used.
        iterations: of L-BFGS, at least 1.
        weight: of the density of the noise's length, at least 0.
        line_search: strong Wolfe line search; False: steps of length 1, at a cost that is known.
        """
        self.iterations = integer("iterations", iterations, 1)
        self.weight, self.line_search = (
            number("weight", weight, 0.0),
            flag("line_search", line_search),
        )
        super().__init__(denoiser, likelihood)

    @override
    def looped(
        self,
        route: Route,
        x: Tensor,
        cond: Condition,
        report: Callable[[int, int], None] | None,
    ) -> tuple[Tensor, Counts | None]:
        if torch.is_inference_mode_enabled():
            raise GradientError("DFlow differentiates the run: use torch.no_grad")
        plan = samplers.build(route.sampler, route.grid, route.options)
        if plan.draws:
            raise ArgumentError(
                f"d_flow: {route.sampler} draws noise; use a sampler of the ODE, such as heun"
            )
        made = []
        for i, seed in enumerate(route.seeds):
            try:
                made.append(self._fitted(plan, x[i : i + 1], _row(cond, i), i, seed))
            except NumericalError as error:
                error.args = (f"{error.args[0]}; it is sample {i}, seed {seed}",)
                raise
            if report is not None:
                report(i + 1, len(route.seeds))
        return torch.cat(made), self._foretold(plan, len(route.seeds))

    def _foretold(self, plan: Plan, count: int) -> Counts | None:
        """Cost of a run; None with a line search."""
        if self.line_search:
            return None
        k, n = count * self.iterations, plan.nfe
        return Counts(2 * n * k + n * count, n * k, k, k)

    def _fitted(self, plan: Plan, x: Tensor, cond: Condition, i: int, seed: int) -> Tensor:
        """The sample i, from its start state x (1, *shape)."""
        rows = torch.tensor([i], device=x.device)
        own = Counted(self.denoiser.select(rows), self.counts)
        model = own.for_run(RunFacts((seed,), plan.call_steps))
        scale, dtype = self.schedule.prior_scale, torch.promote_types(x.dtype, torch.float32)
        z = (x.detach().to(dtype) / scale).clone().requires_grad_(True)
        searching: dict[str, Any] = {"line_search_fn": "strong_wolfe"}
        if not self.line_search:  # never ends before its last iteration
            searching = {"tolerance_grad": -1.0, "tolerance_change": -1.0}
        optimiser = torch.optim.LBFGS(
            [z], lr=1.0, max_iter=self.iterations, history_size=100, **searching
        )
        loss = _Loss(self, plan, model, cond, rows, scale)

        def closure() -> float:
            value, z.grad = loss(z)
            return value

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        return run_plan(plan, model, (scale * z.detach()).to(x.dtype), cond=cond)


class _Loss:
    """The loss of one sample and its gradient by z."""

    def __init__(
        self,
        method: DFlow,
        plan: Plan,
        model: BaseDenoiser,
        cond: Condition,
        rows: Tensor,
        scale: float,
    ) -> None:
        self.method, self.model, self.cond, self.scale = method, model, cond, scale
        self.likelihood = method.likelihood.select(rows)
        self.program = lower(plan, model)

    def __call__(self, z: Tensor) -> tuple[float, Tensor]:
        counts, likelihood = self.method.counts, self.likelihood
        weights = [p for p in self.model.parameters() if p.requires_grad]
        run = Recomputed(self.program, self.model, None, self.cond, parameters=weights)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_(True)
            try:
                out = run_recomputed(run, self.scale * leaf)
            except GradientError as error:
                raise GradientError(f"{error}. {without_derivative('DFlow')}") from error
            x0 = self.method.data(out)
            counts.operator += 1
            counts.adjoint += 1
            counts.vjp += self.program.plan.nfe
            loss = likelihood.residual(x0).square().sum()
            if self.method.weight:
                length = torch.linalg.vector_norm(leaf)
                shell = 0.5 * length**2 - (leaf.numel() - 1) * length.log()
                loss = loss + self.method.weight * shell
            (slope,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), slope


def _row(cond: Condition, i: int) -> Condition:
    """The condition of sample i."""
    if cond is None:
        return None
    if isinstance(cond, Mapping):
        return {key: value[i : i + 1] for key, value in cond.items()}
    return cond[i : i + 1]
