"""Stochastic control guidance."""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import number
from .candidates import Active, cost_of_candidates, run_candidates
from .population import Setting
from .registry import Cost, Outcome, register
from .rewards import Reward
from .values import Valued


@dataclass(frozen=True)
class SCG:
    """Options of stochastic control guidance.

    Args:
        threshold: part of the steps, at the beginning, that are not guided.
    """

    threshold: float = 0.25

    def __post_init__(self) -> None:
        number("threshold", self.threshold, 0.0, 1.0)


#: the reward of the prediction
PREDICTION = Valued()


def _active(setting: Setting, options: SCG) -> Active:
    steps = setting.plan.call_steps
    first = options.threshold * (steps[-1] + 1)
    return lambda k: steps[k] >= first


def _cost(setting: Setting, options: SCG) -> Cost:
    return cost_of_candidates(setting, PREDICTION, _active(setting, options))


@register(
    "scg",
    cost=_cost,
    source="Huang et al. 2024, arXiv 2402.14285",
    needs=("noise", "x0"),
)
def scg(setting: Setting, rewards: Reward, options: SCG) -> Outcome:
    """At each noisy step after the first ``threshold`` of them draw ``particles`` candidates for
    the next state of each sample and keep the one whose prediction has the largest reward.

    This is SVDD with the value of the prediction at temperature 0. It maximises the reward and does
    not sample from a tilted law. The first steps are those of the sampler without a reward, and no
    step jumps to the prediction (a public implementation replaces the state by it at step
    ``threshold N``).
    """
    return run_candidates(setting, rewards, PREDICTION, 0.0, _active(setting, options))
