"""Public functions to run samplers: sample, plan, run, steer, solve, invert, log_prob,
transition_log_prob, transition_means, tune."""

from __future__ import annotations

from ..plans.transforms.gradients import Reconstruction
from .controlled_flow import rf_invert, rf_sample
from .editing import flow_align, flow_edit
from .information import SampleInfo
from .inversion import InversionInfo, invert
from .likelihood import Likelihood, bits_per_dim, log_prob
from .paths import LamPath, PlanPath
from .planning import plan
from .sampling import StateError, run, sample
from .solving import SolveInfo, solve
from .steering import SteerInfo, steer
from .transition_densities import transition_log_prob, transition_means
from .tuned import Tuned
from .tuning.tuner import tune
from .whole_runs import forget_runs

__all__ = [
    "InversionInfo",
    "LamPath",
    "Likelihood",
    "PlanPath",
    "Reconstruction",
    "SampleInfo",
    "SolveInfo",
    "StateError",
    "SteerInfo",
    "Tuned",
    "bits_per_dim",
    "flow_align",
    "flow_edit",
    "forget_runs",
    "invert",
    "log_prob",
    "plan",
    "rf_invert",
    "rf_sample",
    "run",
    "sample",
    "solve",
    "steer",
    "transition_log_prob",
    "transition_means",
    "tune",
]
