"""Steering of populations: methods that choose among samples by a reward and need no gradient."""

from __future__ import annotations

from .best_of_n import BestOfN
from .registry import names as steering_methods
from .rewards import Reward, RewardError
from .smc import SMC

__all__ = [
    "SMC",
    "BestOfN",
    "Reward",
    "RewardError",
    "steering_methods",
]
