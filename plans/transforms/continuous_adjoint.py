"""The continuous adjoint of the probability-flow ODE, solved by any deterministic plan.

With ``Y = x / alpha``, ``rho = sigma / alpha`` the ODE is ``dY/drho = eps(x, t)``, and the gradient
``a = dL/dY`` obeys (Pan et al. 2023, AdjointDPM, arXiv 2307.10711, eqs. 8 to 10)

    da/drho = -(d eps / dY)^T a,        dg/drho = -(d eps / d theta)^T a

from the result up to the start, where a is the gradient of the start and g that of theta. The
state, a and g are solved together by one plan from data to noise: each is the component
``alpha (Y, a, g)`` of a state whose eps is its derivative. Plans that read velocities alone solve
``dx/dt = u``, ``da/dt = -(du/dx)^T a``, ``dg/dt = -(du/dtheta)^T a``, which reaches alpha = 0.

The result is the gradient of the ODE, not of the sampler that ran: it has an error of the order of
the plan. Memory does not grow with the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...schedules.base import Schedule
from ...schedules.host_times import device_times
from ...schedules.kinds import convert
from ...schedules.node import Node
from ..instructions import PlanError
from ..plan import Plan
from ..running.channels import channel_numbers, network_raws
from ..running.loop import Cursor
from ..running.lowering import Call, lower
from .leaves import Cond, Leaves

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser


@dataclass(frozen=True)
class _Kind:
    """A denoiser whose raw output is the prediction itself, for lowering the backward plan."""

    schedule: Schedule
    prediction: str
    shape: None = None

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    def input_scale(self, t: float) -> float:
        return 1.0


@dataclass
class ContinuousAdjoint:
    """Gradients by the continuous adjoint.

    ``plan`` runs from data to noise; it must be deterministic. ``denoiser``, ``cond`` and
    ``parameters`` are those of the run.
    """

    plan: Plan
    denoiser: Denoiser
    cond: Cond
    parameters: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        """Raises ConversionError where the network's prediction cannot be converted at a node of
        the plan, and PlanError for a plan to alpha = 0 that reads other kinds than velocities."""
        reads = {kind for e in self.plan.evaluations for _, kind, _ in e.outs}
        self.kind = "velocity" if reads == {"velocity"} else "eps"
        if self.kind == "eps" and 0.0 in (self.plan.start.alpha, self.plan.end.alpha):
            raise PlanError(
                f"{self.plan.name}: the adjoint in rho does not reach alpha = 0; use a sampler "
                "that steps on velocities, such as flow_heun, or a grid that starts after alpha = 0"
            )
        for e in self.plan.evaluations:
            convert(self.denoiser.prediction, self.kind, e.node)

    def _scale(self, node: Node) -> float:
        """The component's value by that of a or g."""
        return 1.0 if self.kind == "velocity" else node.alpha

    def gradients(
        self, result: Tensor, cotangent: Tensor, cond: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the gradient of the start state, and those of ``cond`` and the parameters, from
        the ``result`` (B, *shape) of the run and its cotangent."""
        wide = torch.promote_types(result.dtype, torch.float32)
        # dL/dY = alpha dL/dx
        unit = self._scale(self.plan.start)
        pair = torch.cat([result.to(wide), (unit * unit) * cotangent.to(wide)])
        sums = [
            torch.zeros(1, *leaf.shape, dtype=wide, device=leaf.device)
            for leaf in (*cond, *self.parameters)
        ]
        program = lower(self.plan, _Kind(self.denoiser.schedule, self.kind))  # type: ignore[arg-type]
        cursors = [Cursor(program, self.denoiser, v) for v in (pair, *sums)]
        times = device_times([float(c.node.t or 0.0) for c in program.calls], result.device)
        while (call := cursors[0].call) is not None:
            x, a = cursors[0].x_in.chunk(2)
            found = self._derivatives(x.to(result.dtype), a, call, times[call.number], cond)
            for cursor, value in zip(cursors, found, strict=True):
                cursor.step((value,))
        ends = [1.0 / self._scale(self.plan.end) ** p for p in (2, *[1] * len(sums))]
        start, *others = (cursor.result * end for cursor, end in zip(cursors, ends, strict=True))
        return start.chunk(2)[1], [each[0] for each in others]

    def _derivatives(
        self, x: Tensor, component: Tensor, call: Call, t: Tensor, cond: Sequence[Tensor]
    ) -> list[Tensor]:
        """The derivatives of the pair (x, a) and of each g at a call."""
        unit, node = self._scale(call.node), call.node
        a = component / unit
        with torch.enable_grad():
            leaves = Leaves(x, self.cond, cond, self.parameters)
            value = self._prediction(leaves, node, t)
            found = torch.autograd.grad(
                value, leaves.all, a.to(value.dtype), allow_unused=True, materialize_grads=True
            )
        wide = component.dtype
        own = torch.cat([value.detach().to(wide), (-unit) * found[0].to(wide)])
        return [own, *(-g.to(wide)[None] for g in found[1:])]

    def _prediction(self, leaves: Leaves, node: Node, t: Tensor) -> Tensor:
        """The prediction of kind ``kind`` at the leaf state, with a graph."""
        time = float(node.t or 0.0)
        p, qs = channel_numbers(self.denoiser, time)
        a, b = convert(self.denoiser.prediction, self.kind, node)
        raws = network_raws(
            self.denoiser, leaves.x * self.denoiser.input_scale(time), t, leaves.cond
        )
        value = (a + b * p) * leaves.x
        for q, raw in zip(qs, raws, strict=True):
            value = value + (b * q) * raw
        return value
