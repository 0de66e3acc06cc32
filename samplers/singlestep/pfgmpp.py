"""PFGM++ sampling (Xu et al. 2023, arXiv 2302.04265, Alg. 1): EDM's Heun in sigma with the
alignment r = sigma sqrt(D).

On the schedule ``PFGMPP`` the plan is that of ``heun``; what differs is random and belongs to the
path: the start state is heavy-tailed, and so is the noise of a churn jump, z times one number a
sample: the exact one that keeps the marginal, or that of the authors' perturbation in N + D
dimensions (``PFGMPP(..., jump="authors")``). Both are made from the seeds by ``fewstep.sample`` and
``fewstep.run``.
"""

from __future__ import annotations

from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..registry import register
from .churn import Churn, stochastic
from .rho_runge_kutta import churned
from .tableau import TABLEAUS


@register(
    "pfgmpp",
    order=2,
    source="Xu et al. 2023, arXiv 2302.04265, Alg. 1",
    tau=stochastic,
    allow="signal",
    variants=({"s_churn": 2.0},),
)
def pfgmpp(b: PlanBuilder, grid: Grid, options: Churn) -> Plan:
    """PFGM++: Heun in sigma with the stochastic perturbation of N + D dimensions where asked
    for."""
    return churned(b, grid, TABLEAUS["heun"], options)
