"""SVDD, soft value-based decoding in diffusion models."""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import number
from .candidates import cost_of_candidates, run_candidates
from .population import Setting
from .registry import Cost, Outcome, register
from .rewards import Reward
from .values import Valued, check_values


@dataclass(frozen=True)
class SVDD(Valued):
    """Options of SVDD, those of ``Valued`` and:

    Args:
        temperature: a, in the units of the reward; 0: the largest value is taken.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("temperature", self.temperature, 0.0)


def _cost(setting: Setting, options: SVDD) -> Cost:
    return cost_of_candidates(setting, options)


@register(
    "svdd",
    cost=_cost,
    source="Li et al. 2024, arXiv 2408.08252, algorithm 1",
    needs=("noise", "x0"),
    check=check_values,
)
def svdd(setting: Setting, rewards: Reward, options: SVDD) -> Outcome:
    """At each noisy step draw ``particles`` candidates for the next state of each sample and keep
    one, with probability proportional to ``exp(V / temperature)``.

    The reward itself chooses among the candidates of the last noisy step. With the exact soft value
    the samples tend to ``p(x0) exp(r(x0) / temperature)`` as candidates and steps grow; with the
    value of the prediction (``value="mean"``, SVDD-PM) a bias stays. Each sample chooses for
    itself. The paper draws the index; the largest value, as in its released code, is
    ``temperature=0``. One candidate is the sampler without a reward.
    """
    return run_candidates(setting, rewards, options, options.temperature)
