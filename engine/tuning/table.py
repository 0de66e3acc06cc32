"""``Table``: a deterministic plan of falling nodes, as a lower-triangular table of weights.

    x_{k+1} = (sigma_{k+1} / sigma_k) x_k + c_k sum_{j<=k} w_{kj} D_j,     sum_j w_{kj} = 1,
    c_k = alpha_{k+1} - alpha_k sigma_{k+1} / sigma_k

with D_j the prediction of x0 by call j. Every state has the signal and the noise of its node for
all weights, so the free numbers are the weights below the diagonal, the nodes, and the times that
the network is told (labels). DDIM is the unit matrix, a multistep method a band. Shaul et al. 2024,
arXiv 2403.01329, tune all coefficients of such a table, Frankel et al. 2025, arXiv 2502.17423, its
nodes and labels too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...plans.builder import PlanBuilder, dot
from ...plans.instructions import Combine, Evaluate
from ...plans.plan import Plan
from ...schedules.base import Schedule
from ...schedules.kinds import parts
from ...schedules.node import Node

Numbers = NDArray[np.float64]
#: significant digits of a coefficient in a file; more change the result less than float32 does
FEW_DIGITS = 7
#: the least distance of two nodes in half log-SNR
_APART = 1e-3


@dataclass(frozen=True, eq=False)
class Table:
    """A plan as numbers.

    Attributes:
        schedule: of the nodes.
        first, last: the nodes of the start and of the result.
        inner: half log-SNR of the other nodes, (calls - 1,), rising.
        labels: half log-SNR that the network is told there, (calls - 1,).
        weights: (calls, calls), lower triangular, rows of sum 1.
    """

    schedule: Schedule
    first: Node
    last: Node
    inner: Numbers
    labels: Numbers
    weights: Numbers

    @property
    def calls(self) -> int:
        """Number of network calls."""
        return len(self.weights)

    @property
    def nodes(self) -> list[Node]:
        """Nodes of the states, ``calls + 1``."""
        return [self.first, *map(self._at, self.inner), self.last]

    @property
    def told(self) -> list[Node]:
        """Nodes that the network is told, one a call."""
        return [self.first, *map(self._at, self.labels)]

    def _at(self, lam: float) -> Node:
        return self.schedule.node_at_lam(float(lam))

    def moved(self, inner: Numbers, labels: Numbers, weights: Numbers) -> Table | None:
        """The table with other numbers; nodes and labels stay in the schedule's range, the diagonal
        follows from the other weights. None where the nodes do not rise."""
        highest = float(self.schedule.lam(self.schedule.t_low))
        lowest = max(self.first.lam, float(self.schedule.lam(self.schedule.t_max)))
        inner, labels = (np.clip(values, lowest, highest) for values in (inner, labels))
        ends = [self.first.lam, *inner.tolist(), self.last.lam]
        if any(not a + _APART <= b for a, b in pairwise(ends)):
            return None
        if self.calls > 1 and not math.isfinite(inner[0]):
            return None
        below = np.tril(weights, -1)
        made = below + np.diag(1.0 - below.sum(1))
        return replace(self, inner=inner, labels=labels, weights=made)

    def plan(self, digits: int = 17) -> Plan:
        """The plan, with coefficients of so many ``digits``, but for those that signal and noise
        fix."""
        nodes, told = self.nodes, self.told
        builder = PlanBuilder(nodes, name="tuned")
        x, data = builder.start(nodes[0]), []
        for k, (s, t) in enumerate(pairwise(nodes)):
            data.append(builder.evaluate(x, told[k], "x0"))
            e = t.sigma / s.sigma
            total = t.alpha - e * s.alpha
            row = [float(f"{total * w:.{digits}g}") for w in self.weights[k, :k]]
            row.append(total - math.fsum(row))
            x = builder.at(t, e * x + dot(row, data))
        return builder.finish(x)


def table_of(plan: Plan, schedule: Schedule) -> Table | None:
    """The table of ``plan``; None for a plan that is none: with noise, with calls at nodes that do
    not fall or at other nodes than their states, or of several channels."""
    calls = plan.evaluations
    nodes = [*(e.node for e in calls), plan.end]
    if plan.stochastic or plan.off_label or not calls or plan.channels != ("main",):
        return None
    if any(e.to is not None or e.node.sigma == 0.0 for e in calls):
        return None
    if any(not s.rho > t.rho for s, t in pairwise(nodes)) or calls[0].state != 0:
        return None
    rows = _rows(plan)
    weights = np.zeros((len(calls), len(calls)))
    for k, (s, t) in enumerate(pairwise(nodes)):
        e = t.sigma / s.sigma
        weights[k] = (rows[k + 1] - e * rows[k])[1:] / (t.alpha - e * s.alpha)
        weights[k, k] = 1.0 - weights[k, :k].sum()
    inner = np.array([node.lam for node in nodes[1:-1]])
    return Table(schedule, plan.start, plan.end, inner, inner.copy(), weights)


def _rows(plan: Plan) -> Sequence[Numbers]:
    """The states of the calls, and the result, as sums of the start state and of the calls'
    predictions of x0."""
    values = linear_values(plan)
    return [*(values[e.state] for e in plan.evaluations), values[plan.result]]


def linear_values(plan: Plan) -> dict[int, Numbers]:
    """The values of a plan without noise, by number, as sums of the start state and of the calls'
    predictions of x0: coefficients (nfe + 1,)."""
    unit = np.eye(plan.nfe + 1)
    values: dict[int, Any] = {0: unit[0]}
    calls = 0
    for i in plan.code:
        if isinstance(i, Combine):
            values[i.out] = sum((c * values[v] for v, c in i.terms), np.zeros(plan.nfe + 1))
            continue
        assert isinstance(i, Evaluate)
        calls += 1
        for value, kind, _ in i.outs:
            u, w = parts(kind, i.node)
            own = (u - w * i.node.alpha / i.node.sigma) * unit[calls]
            values[value] = own + (w / i.node.sigma) * values[i.state]
    return values
