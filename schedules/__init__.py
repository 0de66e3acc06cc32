"""Noise schedules ``x_t = alpha(t) x0 + sigma(t) eps`` and time grids."""

from __future__ import annotations

from ..checks import GridError, ScheduleError
from ..checks.modules import import_all
from .base import Schedule
from .config import from_config, to_config
from .discrete import DiscreteVP
from .flow import Flow, Trig
from .grids.auto import DataFacts
from .grids.construction import Grid, grid, grid_names
from .grids.request import GridRequest
from .kinds import KINDS, ConversionError, convert
from .mean_reverting import MeanReverting
from .node import Node
from .pfgmpp import PFGMPP
from .registry import SCHEDULES, names, register
from .validation import check
from .ve import EDM, VE
from .vp import SubVP, VPCosine, VPLinear, VPSigmoid

__all__ = [
    "EDM",
    "KINDS",
    "PFGMPP",
    "VE",
    "ConversionError",
    "DataFacts",
    "DiscreteVP",
    "Flow",
    "Grid",
    "GridError",
    "GridRequest",
    "MeanReverting",
    "Node",
    "Schedule",
    "ScheduleError",
    "SubVP",
    "Trig",
    "VPCosine",
    "VPLinear",
    "VPSigmoid",
    "check",
    "convert",
    "from_config",
    "grid",
    "grid_names",
    "names",
    "register",
    "to_config",
]

# a schedule in a module of its own is a name of this package too
import_all(__name__, __path__)
globals().update(SCHEDULES)
