"""A lowered plan as a function of its parameters, and the gradient of a run with respect to them.

The loss depends on the parameters through the entries of the launch matrices and through the times
of the network calls:

    dL/dtheta = sum_entries <g_out, operand> d entry / d theta + sum_calls dL/dt_k d t_k / d theta

with g_out the cotangent of a launch's output. The entries are functions of the plan's coefficients
that autograd differentiates (float64, host). Their derivatives by times and labels are central
differences of the plan, compiled and lowered again in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..instructions import PlanError
from ..plan import Plan
from ..running.lowering import lower_whole
from ..running.program import Program
from .exact_coefficients import exact_coefficients
from .parameters import check_theta, located, padded, placed, with_coefficients, with_parameters
from .stencil import stencil

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser

#: step of the differences as a share of the distance to the neighbouring time
_STEP = 1e-3


class Point(NamedTuple):
    """What a program reads from its plan: entries of the matrices, first and second times of the
    calls, in one vector, float64."""

    numbers: Tensor
    layout: tuple[Any, ...]


@dataclass(frozen=True)
class PlanView:
    """``plan`` with the parameters ``theta`` (``plans.transforms.parameters``), lowered for
    ``denoiser``."""

    plan: Plan
    denoiser: Denoiser
    theta: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        check_theta(self.plan, self.theta)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that gradients are wanted for."""
        return tuple(name for name, value in self.theta.items() if value.requires_grad)

    @cached_property
    def program(self) -> Program:
        """The program that runs, with every term of the plan, also of those at times near by."""
        return lower_whole(self._padded(with_parameters(self.plan, self.theta)), self.denoiser)

    def _padded(self, plan: Plan) -> Plan:
        """``plan`` with the terms that it has at the given times or near by: where a coefficient
        vanishes at these times, the plan has no such term, but the derivative does."""
        if "times" not in self.names or "coefficients" in self.theta:
            return plan
        around = self._around
        moved = [
            t + _STEP * (0.4 + 0.3 / i) * min(around[i - 1] - t, t - around[i + 1])
            for i, t in enumerate(around[1:-1], 1)
        ]
        theta = {**self.theta, "times": torch.tensor(moved, dtype=torch.float64)}
        return padded(plan, placed(self.plan, theta))

    @cached_property
    def _around(self) -> list[float]:
        """The times of the grid; -inf for the data of a path without a time there."""
        nodes = with_parameters(self.plan, self.theta).nodes
        return [-math.inf if node.t is None else node.t for node in nodes]

    @cached_property
    def derivatives(self) -> dict[str, Tensor]:
        """Derivatives (parameters, numbers) of the program by times and labels, by name."""
        return {name: self._differences(name) for name in self.names if name != "coefficients"}

    def moving(self, k: int) -> tuple[bool, bool]:
        """Whether a parameter changes the first time, and the second time, of call ``k``."""
        calls = len(self.program.calls)
        found = [d[:, [k - 2 * calls, k - calls]].abs().amax(0) for d in self.derivatives.values()]
        first, second = torch.stack(found).amax(0).tolist() if found else (0.0, 0.0)
        return first != 0.0, second != 0.0

    def gradients(self, numbers: Tensor) -> list[Tensor]:
        """Return dL/dtheta for each of ``names``; ``numbers`` is dL by the program's numbers: the
        entries, the first and the second times of the calls."""
        found = []
        for name in self.names:
            if name == "coefficients":
                found.append(self._back(numbers))
            else:
                found.append(self.derivatives[name] @ numbers)
        return [g.to(self.theta[name]) for name, g in zip(self.names, found, strict=True)]

    def _back(self, numbers: Tensor) -> Tensor:
        """dL by the coefficients, through the lowering and the equations of their states."""
        with torch.enable_grad():
            leaf = self.theta["coefficients"].detach().to("cpu", torch.float64).requires_grad_()
            base = located(self.plan, self.theta)
            exact = exact_coefficients(base, leaf)
            taped = replace(base, code=with_coefficients(base, exact.unbind()))
            made = _point(lower_whole(taped, self.denoiser))
            (found,) = torch.autograd.grad(made.numbers, leaf, numbers)
        return found

    def _differences(self, name: str) -> Tensor:
        values = self.theta[name].detach().to("cpu", torch.float64)
        known, rows = _point(self.program), []
        for i, at in enumerate(values.tolist()):
            total = torch.zeros_like(known.numbers)
            for place, weight in self._places(name, i, at):
                moved = values.clone()
                moved[i] = place
                total += weight * self._at(name, moved, known).numbers
            rows.append(total)
        return torch.stack(rows)

    def _places(self, name: str, i: int, at: float) -> list[tuple[float, float]]:
        if name == "labels":
            return time_stencil(self.denoiser, at, torch.float64)
        high, low = self._around[i], self._around[i + 2]
        return stencil(at, _STEP * min(high - at, at - low), low, high)

    def _at(self, name: str, values: Tensor, known: Point) -> Point:
        theta = {**self.theta, name: values}
        with torch.no_grad():
            made = padded(placed(self.plan, theta), self.program.plan)
            found = _point(lower_whole(made, self.denoiser))
        if found.layout != known.layout:
            raise PlanError(
                f"{self.plan.name or 'plan'}: its program at other {name} has other terms, so it "
                f"has no derivative by its {name}"
            )
        return found


def _point(program: Program) -> Point:
    entries: list[Any] = [c for launch in program.launches for row in launch.matrix for c in row]
    ends = [call.node.t for call in program.calls] + [
        None if call.to is None else call.to.t for call in program.calls
    ]
    entries += [0.0 if t is None else t for t in ends]
    with_graph = [torch.as_tensor(c, dtype=torch.float64) for c in entries]
    layout = tuple((launch.outs, launch.operands) for launch in program.launches)
    return Point(torch.stack(with_graph), layout)


def entry_gradients(outs: Sequence[Tensor | None], operands: Sequence[Tensor]) -> list[Tensor]:
    """dL by the entries of a launch, ``<g_out, operand>``, row by row; ``outs`` are the cotangents
    of its outputs, ``operands`` its inputs."""
    return [
        value.new_zeros((), dtype=torch.float32) if g is None else (g * value.to(g.dtype)).sum()
        for g in outs
        for value in operands
    ]


def time_stencil(denoiser: Denoiser, t: float, dtype: torch.dtype) -> list[tuple[float, float]]:
    """Times around ``t`` and weights for the derivative of a network's outputs by its time: about
    ``eps^(1/5)`` apart in half log-SNR, where truncation and rounding balance."""
    schedule = denoiser.schedule
    low, high = schedule.t_low, schedule.t_max
    rate = abs(float(schedule.dlam(t)))
    near = min((d for d in (high - t, t - low, 1.0) if d > 0.0), default=1.0)
    step = float(torch.finfo(dtype).eps ** 0.2)
    return stencil(t, step / rate if 0.0 < rate < math.inf else 0.1 * step * near, low, high)
