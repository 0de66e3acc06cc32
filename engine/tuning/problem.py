"""``Problem``: what a plan is tuned on, and how long."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from torch import Tensor

from ...checks import FewstepError
from ...plans.plan import Plan
from ...schedules.grids.auto import DataFacts
from .losses import sample_errors, score
from .trajectories import Model, Trajectories

#: shares of the path at which a network is asked whether it rounds the time
_PLACES = (0.1234, 0.4567, 0.789)
#: training trajectories and steps of the converged ends, for models in float64 and for networks
EXACT, NETWORK = (256, 512), (64, 128)


def rounds_times(model: Model) -> bool:
    """Whether the network rounds the times that it is told."""
    schedule = model.denoiser.schedule
    places = [schedule.t_low + share * (schedule.t_max - schedule.t_low) for share in _PLACES]
    return any(model.denoiser.time_mismatch(t) for t in places)


@dataclass
class Problem:
    """Trajectories to fit to and trajectories to choose by.

    Attributes:
        model: the model, which counts its calls.
        facts: of its data, for automatic choices.
        nfe: network calls of the plan.
        train, held: trajectories of the fit, and of the validation.
        fine_steps: steps of the converged trajectories.
        ends_at: ``time.monotonic()`` at which the budget is spent.
    """

    model: Model
    facts: DataFacts
    nfe: int
    train: Trajectories
    held: Trajectories
    fine_steps: int
    ends_at: float = math.inf
    _scores: dict[Plan, float] = field(default_factory=dict)

    @property
    def time_left(self) -> bool:
        """Whether the budget is not spent."""
        return self.time_for(0.0)

    def time_for(self, seconds: float) -> bool:
        """Whether something that takes so long ends within the budget."""
        return time.monotonic() + seconds < self.ends_at

    @property
    def any_time(self) -> bool:
        """Whether the network takes every time, so that a derivative by it has a meaning."""
        return not rounds_times(self.model)

    def end(self, plan: Plan, given: Trajectories) -> Tensor | None:
        """The ends of a plan; None where it does not run to its end."""
        try:
            return self.model.run(plan, given.x, given.cond)
        except FewstepError:
            return None

    def errors(self, plan: Plan, given: Trajectories) -> Tensor | None:
        """RMSE of each trajectory; None where the plan does not run to its end."""
        end = self.end(plan, given)
        return None if end is None else sample_errors(end, given.end)

    def held_score(self, plan: Plan) -> float:
        """The score on the validation trajectories, inf where the plan does not run."""
        if plan not in self._scores:
            found = self.errors(plan, self.held)
            self._scores[plan] = math.inf if found is None else score(found)
        return self._scores[plan]
