"""Samplers of the posterior ``p(x0 | y)``, one paper a file."""

from __future__ import annotations

from .diffusion_pde import DiffusionPDE
from .dps import DPS
from .dps_step import DPSStep
from .losses import Loss
from .mmps import MMPS
from .pigdm import PiGDM
from .probconserv import ProbConserv, conserved
from .registry import names as methods
from .residual import Residual

__all__ = [
    "DPS",
    "MMPS",
    "DPSStep",
    "DiffusionPDE",
    "Loss",
    "PiGDM",
    "ProbConserv",
    "Residual",
    "conserved",
    "methods",
]
