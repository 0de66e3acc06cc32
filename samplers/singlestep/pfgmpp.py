"""PFGM++ sampling: EDM's Heun in sigma with the alignment r = sigma sqrt(D) (Xu et al. 2023, arXiv
2302.04265, Alg. 1).

On the schedule ``PFGMPP`` the plan is that of ``heun``. Only the random draws differ, and they
belong to the path: the start state is heavy-tailed, and so is the noise of churn, z times one
random factor per sample. The factor is either the exact one, which keeps the marginal, or that of
the authors' perturbation in N + D dimensions (``PFGMPP(..., jump="authors")``). ``fewstep.sample``
and ``fewstep.run`` generate both from the seeds.
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
    """PFGM++: Heun in sigma with optional churn, whose noise is the perturbation in N + D
    dimensions."""
    return churned(b, grid, TABLEAUS["heun"], options)
