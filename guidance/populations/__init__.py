"""Steering of populations: methods that choose among samples by a reward and need no gradient."""

from __future__ import annotations

from .best_of_n import BestOfN
from .dsearch import DSearch
from .enkg import EnKG
from .fitted_values import FittedValue, fit_value
from .registry import names as steering_methods
from .rewards import Reward, RewardError
from .scg import SCG
from .smc import SMC
from .svdd import SVDD
from .tds import TDS

__all__ = [
    "SCG",
    "SMC",
    "SVDD",
    "TDS",
    "BestOfN",
    "DSearch",
    "EnKG",
    "FittedValue",
    "Reward",
    "RewardError",
    "fit_value",
    "steering_methods",
]
