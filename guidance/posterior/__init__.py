"""Samplers of the posterior ``p(x0 | y)``, one paper a file."""

from __future__ import annotations

from .cdim import CDIM
from .d_flow import DFlow
from .daps import DAPS
from .ddnm import DDNM
from .ddnm_plus import DDNMPlus
from .ddrm import DDRM
from .dds import DDS
from .diffpir import DiffPIR
from .diffpir_gsg import DiffPIRGSG
from .diffusion_pde import DiffusionPDE
from .dps import DPS
from .dps_gsg import DPSGSG
from .dps_step import DPSStep
from .flow_dps import FlowDPS
from .ilvr import ILVR
from .joint import Joint
from .lgd_mc import LGDMC
from .losses import Loss
from .low_rank import LowRank
from .mcg import MCG
from .mmps import MMPS
from .mpgd import MPGD
from .pigdm import PiGDM
from .pnp_dm import PnPDM
from .pnp_flow import PnPFlow
from .prior_covariance import PriorCovariance
from .probconserv import ProbConserv, conserved
from .red_diff import REDDiff
from .registry import names as methods
from .repaint import RePaint
from .residual import Residual
from .score_sde import ScoreSDE
from .sitcom import SITCOM
from .tmpd import TMPD

__all__ = [
    "CDIM",
    "DAPS",
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "DPSGSG",
    "ILVR",
    "LGDMC",
    "MCG",
    "MMPS",
    "MPGD",
    "SITCOM",
    "TMPD",
    "DDNMPlus",
    "DFlow",
    "DPSStep",
    "DiffPIR",
    "DiffPIRGSG",
    "DiffusionPDE",
    "FlowDPS",
    "Joint",
    "Loss",
    "LowRank",
    "PiGDM",
    "PnPDM",
    "PnPFlow",
    "PriorCovariance",
    "ProbConserv",
    "REDDiff",
    "RePaint",
    "Residual",
    "ScoreSDE",
    "conserved",
    "methods",
]
