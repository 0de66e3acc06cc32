"""Samplers of the posterior ``p(x0 | y)``, one paper a file."""

from __future__ import annotations

from .diffusion_pde import DiffusionPDE
from .dps import DPS
from .dps_step import DPSStep
from .losses import Loss
from .low_rank import LowRank
from .mmps import MMPS
from .pigdm import PiGDM
from .prior_covariance import PriorCovariance
from .probconserv import ProbConserv, conserved
from .registry import names as methods
from .residual import Residual

__all__ = [
    "DPS",
    "MMPS",
    "DPSStep",
    "DiffusionPDE",
    "Loss",
    "LowRank",
    "PiGDM",
    "PriorCovariance",
    "ProbConserv",
    "Residual",
    "conserved",
    "methods",
]
