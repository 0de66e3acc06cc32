"""Guidance: wrappers around a denoiser that are denoisers themselves. Samplers need no change to
use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import discrete, operators, policy
from .combinations.apg import APG
from .combinations.black_scholes import BlackScholes
from .combinations.cfg import CFG
from .combinations.cfg_zero import CFGZero
from .combinations.classifier import Classifier
from .combinations.compose import Compose
from .combinations.contrast import Contrast
from .combinations.fdg import FDG
from .combinations.icg import ICG
from .combinations.levels import Levels
from .combinations.mambo import MAMBO
from .combinations.named import guide, names
from .combinations.pag import PAG
from .combinations.perturbed import Perturbed
from .combinations.scales import Ramp
from .combinations.tcfg import TCFG
from .combinations.threshold import Threshold
from .combinations.tsg import TSG
from .likelihoods import Constraint, Gaussian
from .populations import Reward, fit_value, steering_methods
from .posterior import (
    DPS,
    MMPS,
    DiffusionPDE,
    DPSStep,
    Loss,
    LowRank,
    PiGDM,
    PriorCovariance,
    ProbConserv,
    Residual,
    conserved,
    methods,
)
from .smoothing.estimate import Smoothing
from .smoothing.surrogate import Smoothed

__all__ = [
    "APG",
    "CFG",
    "DPS",
    "FDG",
    "ICG",
    "MAMBO",
    "MMPS",
    "PAG",
    "TCFG",
    "TSG",
    "BlackScholes",
    "CFGZero",
    "Classifier",
    "Compose",
    "Constraint",
    "Contrast",
    "DPSStep",
    "DiffusionPDE",
    "Gaussian",
    "Levels",
    "Loss",
    "LowRank",
    "Perturbed",
    "PiGDM",
    "PriorCovariance",
    "ProbConserv",
    "Ramp",
    "Residual",
    "Reward",
    "Smoothed",
    "Smoothing",
    "Threshold",
    "conserved",
    "discrete",
    "fit_value",
    "guide",
    "methods",
    "names",
    "operators",
    "policy",
    "solve",
    "steer",
    "steering_methods",
]

if TYPE_CHECKING:
    from ..engine.solving import solve as solve
    from ..engine.steering import steer as steer
else:

    def __getattr__(name: str) -> object:
        """``solve`` and ``steer`` are made in ``engine``, which knows samplers and grids by name
        and imports this package: they are fetched when they are asked for."""
        if name == "solve":
            from ..engine.solving import solve

            return solve
        if name != "steer":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ..engine.steering import steer

        return steer
