"""Plan: a compiled fixed-grid solver, which is compared, printed and saved without a network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from ..checks import flag, instance, number
from ..schedules.node import Node
from .call_steps import call_steps
from .densities import Transitions, transitions
from .explain import explain_plan
from .instructions import Combine, Evaluate, Exactness, PlanData
from .serial import plan_fields, plan_to_json
from .transforms.parameters import parameters, with_parameters
from .type_check import check


@dataclass(frozen=True)
class Plan(PlanData):
    """A compiled fixed-grid solver: frozen, hashable, compared exactly by ``==``."""

    @property
    def consistency(self) -> Exactness:
        """The former name of ``exactness``; deprecated."""
        warnings.warn("Plan.consistency is now Plan.exactness", DeprecationWarning, stacklevel=2)
        return self.exactness

    @cached_property
    def transitions(self) -> Transitions:
        """The steps with noise as Gaussian transitions: rows of the means and standard deviations,
        and why the others are none (``plans.densities``).

        PlanError where a state has no density.
        """
        return transitions(self)

    @cached_property
    def call_steps(self) -> tuple[int, ...]:
        """The grid step of each network call, from 0 (``plans.call_steps``)."""
        return call_steps(self)

    def close(self, other: Plan, rtol: float = 1e-12) -> bool:
        """True when both plans have the same structure and coefficients equal to ``rtol`` of the
        largest coefficient of each instruction."""
        instance("other", other, Plan, "a plan")
        number("rtol", rtol, 0.0)
        if (
            self.structure != other.structure
            or self.result != other.result
            or self.partners != other.partners
            or len(self.draws) != len(other.draws)
        ):
            return False
        if not all(_node_close(a, b, rtol) for a, b in zip(self.nodes, other.nodes, strict=True)):
            return False
        for i, j in zip(self.code, other.code, strict=True):
            if isinstance(i, Combine) and isinstance(j, Combine):
                a, b = [[c for _, c in (*x.terms, *x.noise)] for x in (i, j)]
                scale = max((abs(c) for c in (*a, *b)), default=0.0)
                if any(abs(p - q) > rtol * scale for p, q in zip(a, b, strict=True)):
                    return False
            elif (
                isinstance(i, Evaluate)
                and isinstance(j, Evaluate)
                and not (
                    _node_close(i.node, j.node, rtol)
                    and (i.to is None or j.to is None or _node_close(i.to, j.to, rtol))
                )
            ):
                return False
        return True

    def renamed(self, name: str) -> Plan:
        """The same plan with another name."""
        instance("name", name, str, "a text")
        return replace(self, name=name)

    def parameters(self, what: str | Sequence[str] = "coefficients") -> dict[str, Tensor]:
        """The plan's numbers as tensors by name, float64: ``coefficients`` (K,), ``times``
        (steps - 1,) of the inner grid nodes, ``labels`` (nfe,), the times at which the network is
        called (``plans.transforms.parameters``). ``run(..., grad=, plan_parameters=)`` gives
        their gradients.

        PlanError for times or labels of a plan that does not know its sampler.
        """
        return parameters(self, what)

    def with_parameters(self, theta: Mapping[str, Tensor]) -> Plan:
        """The plan with other ``parameters``, type-checked again.

        Coefficients are moved to the nearest ones that give every state its signal and noise.
        PlanError where the plan would be less exact, GridError for times out of order.
        """
        return with_parameters(self, theta)

    def explain(self, *, backend: bool = False) -> str:
        """The plan as a table, one line an instruction; with ``backend``, also which backend
        computes its steps on the CPU and on CUDA here (``fewstep.fused.linear_backend``)."""
        return explain_plan(self, flag("backend", backend))

    def to_json(self) -> str:
        """The plan as JSON, exact and strict; infinities are strings, unknown numbers are null."""
        return plan_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that ``to_json`` wrote, type-checked again; PlanError on anything else."""
        plan = cls(**plan_fields(text))
        check(plan)
        return plan


def _node_close(a: Node, b: Node, rtol: float) -> bool:
    return math.isclose(a.alpha, b.alpha, rel_tol=rtol, abs_tol=rtol) and math.isclose(
        a.sigma, b.sigma, rel_tol=rtol, abs_tol=rtol
    )
