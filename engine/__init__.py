"""Public functions to run samplers: sample, plan, run, steer, solve, invert, log_prob,
transition_log_prob, transition_means, tune, model_statistics. Names are imported at first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "InversionInfo",
    "LamPath",
    "Likelihood",
    "PlanPath",
    "Reconstruction",
    "SampleInfo",
    "SolveInfo",
    "StateError",
    "Statistics",
    "SteerInfo",
    "Tuned",
    "bits_per_dim",
    "flow_align",
    "flow_edit",
    "forget_runs",
    "invert",
    "log_prob",
    "model_statistics",
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

if TYPE_CHECKING:
    from ..plans.transforms.gradients import Reconstruction
    from .controlled_flow import rf_invert, rf_sample
    from .editing import flow_align, flow_edit
    from .information import SampleInfo
    from .inversion import InversionInfo, invert
    from .likelihood import Likelihood, bits_per_dim, log_prob
    from .paths import LamPath, PlanPath
    from .planning import plan
    from .sampling import StateError, run, sample
    from .saved_statistics import Statistics
    from .solving import SolveInfo, solve
    from .steering import SteerInfo, steer
    from .transition_densities import transition_log_prob, transition_means
    from .tuned import Tuned
    from .tuning.statistics import model_statistics
    from .tuning.tuner import tune
    from .whole_runs import forget_runs
else:
    from ..checks.late_names import late_names

    __getattr__ = late_names(
        __name__,
        {
            "Reconstruction": "..plans.transforms.gradients",
            **dict.fromkeys(("rf_invert", "rf_sample"), ".controlled_flow"),
            **dict.fromkeys(("flow_align", "flow_edit"), ".editing"),
            "SampleInfo": ".information",
            **dict.fromkeys(("InversionInfo", "invert"), ".inversion"),
            **dict.fromkeys(("Likelihood", "bits_per_dim", "log_prob"), ".likelihood"),
            **dict.fromkeys(("LamPath", "PlanPath"), ".paths"),
            "plan": ".planning",
            **dict.fromkeys(("StateError", "run", "sample"), ".sampling"),
            **dict.fromkeys(("SolveInfo", "solve"), ".solving"),
            **dict.fromkeys(("SteerInfo", "steer"), ".steering"),
            **dict.fromkeys(("transition_log_prob", "transition_means"), ".transition_densities"),
            "Tuned": ".tuned",
            "Statistics": ".saved_statistics",
            "model_statistics": ".tuning.statistics",
            "tune": ".tuning.tuner",
            "forget_runs": ".whole_runs",
        },
    )
