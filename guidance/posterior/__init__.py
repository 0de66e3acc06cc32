"""Samplers of the posterior ``p(x0 | y)``, one paper a file."""

from __future__ import annotations

from .ddnm import DDNM
from .ddnm_plus import DDNMPlus
from .diffusion_pde import DiffusionPDE
from .dps import DPS
from .dps_step import DPSStep
from .ilvr import ILVR
from .lgd_mc import LGDMC
from .losses import Loss
from .low_rank import LowRank
from .mmps import MMPS
from .pigdm import PiGDM
from .prior_covariance import PriorCovariance
from .probconserv import ProbConserv, conserved
from .registry import names as methods
from .repaint import RePaint
from .residual import Residual
from .score_sde import ScoreSDE
from .tmpd import TMPD

__all__ = [
    "DDNM",
    "DPS",
    "ILVR",
    "LGDMC",
    "MMPS",
    "TMPD",
    "DDNMPlus",
    "DPSStep",
    "DiffusionPDE",
    "Loss",
    "LowRank",
    "PiGDM",
    "PriorCovariance",
    "ProbConserv",
    "RePaint",
    "Residual",
    "ScoreSDE",
    "conserved",
    "methods",
]
