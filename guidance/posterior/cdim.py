"""CDIM: steps projected until the residual is as large as its noise makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import flag, integer, number
from ...models.denoiser import Denoiser
from ...models.exact import wide as precision
from ...plans.plan import Plan
from ...plans.running.step_state import StepState
from ..combinations.sample_sums import divided, inner_products
from . import demands
from .counts import Counts
from .gram_traces import gram_traces
from .measurement import Measurement
from .posterior import Levels
from .prediction import Prediction
from .pulling import Pulling
from .registry import register
from .stepping import wide

#: a residual above its bound by this part is at the bound: a projection ends there up to rounding
SLACK = 1e-5


class Moments(NamedTuple):
    """Mean and variance of ``|A x_t - y|^2`` for each sample."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, facts: Tensor, sigma_y: float, alpha: float, sigma: float) -> Moments:
        """Those of the state ``x_t = alpha x0 + sigma eps`` for a fixed x0 whose measurement y is
        drawn anew, with what y says of x0 put in its place. ``facts``: (5, B) of ``_facts``."""
        size, trace, trace2, square, image = facts
        v, q, b = sigma_y**2, 1.0 - alpha, sigma**2
        mean = q**2 * square + b * trace + size * v * (1.0 - q**2)
        own = b**2 * trace2 + 2.0 * b * v * trace + size * v**2
        shift = b * (image - v * trace) + v * (square - size * v)
        return cls(mean, (2.0 * own + 4.0 * q**2 * shift).clamp_min(0.0))


@register(
    "cdim",
    source="Jayaram et al. 2024, arXiv 2411.00359 v2, algorithm 1, equations 14 to 16",
    form="step",
    needs=("gradients", "adjoint", "linear"),
    exact="none",
    sampler="ddim",
)
class CDIM(Pulling):
    """Constrained diffusion implicit models: after each step the state is projected until its
    residual is as small as that of noised data.

        while R > mean + c sqrt(var), R = |A x_s - y|^2, at most ``projections`` times:
            g = grad_{x_s} |A D(x_s) - y|^2
            x_s <- x_s - eta g,  eta the least root of |A (x_s - eta g) - y|^2 = mean + c sqrt(var)

    (Jayaram, Kemelmacher-Shlizerman & Seitz 2024, arXiv 2411.00359 v2.) Where there is no root eta
    is the minimiser. Mean and variance of R are those for ``x_s = alpha x0 + sigma eps``, ``y =
    A x0 + n``: for any path, with ``q = 1 - alpha``, ``b = sigma^2``, d measurements,

        mean = q^2 |y|^2 + b tr A A^T + d sigma_y^2 (1 - q^2)
        var  = 2 tr (b A A^T + sigma_y^2)^2
               + 4 q^2 (b (|A^T y|^2 - sigma_y^2 tr A A^T) + sigma_y^2 (|y|^2 - d sigma_y^2))

    A Constraint has sigma_y = 0. Each sample by itself. The last step is not projected; ``end``
    adds the pseudo-inverse there, which makes a measurement without noise exact. Traces are made
    once (``gram_traces``), |A^T y|^2 too. Samplers with one call a step. Cost of a step: 1 network
    call, 1 operator call, and for each projection 1 network call, 1 vector-Jacobian product, 2
    operator calls and 1 adjoint call; with ``early`` the projections stop, for the whole batch,
    when no sample needs one, which reads the device once for each, and the cost depends on the
    data.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        c: float = 0.1,
        projections: int = 20,
        early: bool = True,
        end: bool = False,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint with a linear operator.
        c: width of the bound in standard deviations of R.
        projections: most projections of a step, at least 0.
        early: stop when no sample needs a projection; False: the same cost for all data.
        end: for a Constraint with a pseudo-inverse: project the samples onto it.
        """
        self.c, self.projections = number("c", c, 0.0), integer("projections", projections, 0)
        self.early, self.end = flag("early", early), flag("end", end)
        self.foretold = not (self.early and self.projections)
        self._facts: Tensor | None = None
        self._made_for: tuple[int, ...] | None = None
        super().__init__(denoiser, likelihood)
        self.differentiates = False  # the gradients are those of the projections

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.linear(made, type(self).__name__)
        if self.end:
            demands.exact(made, "CDIM with end=True")
            demands.invertible(made, "CDIM with end=True")
        return made

    @override
    def samples(self, shape: Sequence[int]) -> int | None:
        found = super().samples(shape)
        if self._made_for != tuple(shape):
            self._made_for = tuple(shape)
            self._facts = self._facts_of(tuple(shape))
        return found

    def _facts_of(self, shape: tuple[int, ...]) -> Tensor:
        """d, tr A A^T, tr (A A^T)^2, |y|^2, |A^T y|^2 of each measurement, (5, 1 or B) float64."""
        operator = self.likelihood.operator
        zero = torch.zeros((operator.samples(shape) or 1, *shape), dtype=torch.float64)
        shift = zero if self.offset is None else zero + self.offset.to(zero)
        y = self.likelihood.residual(shift)
        seen = operator.zero_filled(torch.ones_like(y)).flatten(1).sum(1)
        back = operator.adjoint(y).flatten(1)
        square, image = y.flatten(1).square().sum(1), back.square().sum(1)
        parts = (seen, *gram_traces(operator, shape), square, image)
        return torch.stack([part.expand(max(map(len, parts))) for part in parts])

    @override
    def select(self, rows: Tensor) -> Self:
        made = super().select(rows)
        if self._facts is not None and self._facts.shape[1] > 1:
            made._facts = self._facts[:, rows.to(self._facts.device)]
        return made

    def moments(self, alpha: float, sigma: float) -> Moments:
        """Mean and variance of R at a level, (1,) or (B,) float64."""
        assert self._facts is not None
        return Moments.of(self._facts, self.likelihood.sigma_y, alpha, sigma)

    @override
    def planned(self, plan: Plan) -> Counts:
        k, after = self.projections, [*[call.node for call in plan.evaluations][1:], plan.end]
        total = Counts(plan.nfe)
        for node in after:
            if node.sigma and k:
                total += Counts(k, k, 1 + 2 * k, k)
            elif not node.sigma and self.end:
                total += Counts(0, 0, 1, 1)
        return total

    @override
    def cost(self, t: float) -> Counts:
        return Counts(1)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        return p.value

    @override
    def moved(self, step: StepState) -> Tensor:
        x, node = wide(step.x_next), step.next_node
        if not node.sigma:
            if self.end:
                x = x + self.pinverse(self.measured(x, node), x)
            return x
        if not self.projections:
            return x
        found = self.moments(node.alpha, node.sigma)
        bound = (found.mean + self.c * found.variance.sqrt()).reshape(-1, *(1,) * (x.ndim - 1))
        bound = bound.to(x.device, precision(x.device))
        self.counts.operator += 1
        lost = -self.likelihood.residual(self.data(x))
        for _ in range(self.projections):
            (size,) = inner_products((lost, lost))
            due = size > (1.0 + SLACK) * bound.reshape(-1, *(1,) * (size.ndim - 1))
            if self.early and not bool(due.any()):
                break
            x, lost = self._projected(step, x, lost, due, bound)
        return x

    def _projected(
        self, step: StepState, x: Tensor, lost: Tensor, due: Tensor, bound: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The states that are due moved along their gradients, and ``A x - y`` of all."""
        p = self.again(x.to(step.x_next.dtype), step.next_node)
        own = Measurement(self.likelihood, self.data(p.value), self.counts, p.graph)
        g = -2.0 * p.vjp(own.adjoint(own.residual)).to(x)
        image = own.forward(g)
        size, along, length = inner_products((lost, lost), (lost, image), (image, image))
        over = size - bound.reshape(-1, *(1,) * (size.ndim - 1))
        inside = along.square() - length * over
        root = divided(over, along + inside.clamp_min(0.0).sqrt())
        eta = torch.where((inside >= 0.0) & (along > 0.0), root, divided(along, length))
        eta = torch.where(due, eta.clamp_min(0.0), 0.0)
        column = eta.reshape(-1, *(1,) * (x.ndim - 1)).to(x)
        return x - column * g, lost - eta.reshape(-1, *(1,) * (lost.ndim - 1)).to(lost) * image
