"""Guidance: wrappers around a denoiser that are denoisers themselves. Samplers need no change to
use them.

Names are imported at first use. ``solve`` and ``steer`` are made in ``engine``, which knows
samplers and grids by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "APG",
    "CDIM",
    "CFG",
    "DAPS",
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "DPSGSG",
    "FDG",
    "ICG",
    "ILVR",
    "LGDMC",
    "MAMBO",
    "MCG",
    "MMPS",
    "MPGD",
    "PAG",
    "SITCOM",
    "TCFG",
    "TMPD",
    "TSG",
    "BlackScholes",
    "CFGZero",
    "Classifier",
    "Compose",
    "Constraint",
    "Contrast",
    "DDNMPlus",
    "DFlow",
    "DPSStep",
    "DiffPIR",
    "DiffPIRGSG",
    "DiffusionPDE",
    "FlowDPS",
    "Gaussian",
    "Joint",
    "Levels",
    "Loss",
    "LowRank",
    "Perturbed",
    "PiGDM",
    "PnPDM",
    "PnPFlow",
    "Poisson",
    "PriorCovariance",
    "ProbConserv",
    "REDDiff",
    "Ramp",
    "RePaint",
    "Residual",
    "Reward",
    "ScoreSDE",
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
    from .likelihoods import Constraint, Gaussian, Poisson
    from .populations import Reward, fit_value, steering_methods
    from .posterior import (
        CDIM,
        DAPS,
        DDNM,
        DDRM,
        DDS,
        DPS,
        DPSGSG,
        ILVR,
        LGDMC,
        MCG,
        MMPS,
        MPGD,
        SITCOM,
        TMPD,
        DDNMPlus,
        DFlow,
        DiffPIR,
        DiffPIRGSG,
        DiffusionPDE,
        DPSStep,
        FlowDPS,
        Joint,
        Loss,
        LowRank,
        PiGDM,
        PnPDM,
        PnPFlow,
        PriorCovariance,
        ProbConserv,
        REDDiff,
        RePaint,
        Residual,
        ScoreSDE,
        conserved,
        methods,
    )
    from .smoothing.estimate import Smoothing
    from .smoothing.surrogate import Smoothed
else:
    from ..checks.late_names import late_names

    __getattr__ = late_names(
        __name__,
        {
            "discrete": ".discrete",
            "operators": ".operators",
            "policy": ".policy",
            "APG": ".combinations.apg",
            "BlackScholes": ".combinations.black_scholes",
            "CFG": ".combinations.cfg",
            "CFGZero": ".combinations.cfg_zero",
            "Classifier": ".combinations.classifier",
            "Compose": ".combinations.compose",
            "Contrast": ".combinations.contrast",
            "FDG": ".combinations.fdg",
            "ICG": ".combinations.icg",
            "Levels": ".combinations.levels",
            "MAMBO": ".combinations.mambo",
            **dict.fromkeys(("guide", "names"), ".combinations.named"),
            "PAG": ".combinations.pag",
            "Perturbed": ".combinations.perturbed",
            "Ramp": ".combinations.scales",
            "TCFG": ".combinations.tcfg",
            "Threshold": ".combinations.threshold",
            "TSG": ".combinations.tsg",
            **dict.fromkeys(("Constraint", "Gaussian", "Poisson"), ".likelihoods"),
            **dict.fromkeys(("Reward", "fit_value", "steering_methods"), ".populations"),
            **dict.fromkeys(
                (
                    "DAPS",
                    "PnPDM",
                    "MPGD",
                    "SITCOM",
                    "DPSGSG",
                    "DiffPIRGSG",
                    "DDNM",
                    "DDRM",
                    "DDS",
                    "DPS",
                    "ILVR",
                    "MMPS",
                    "Joint",
                    "DFlow",
                    "PnPFlow",
                    "FlowDPS",
                    "CDIM",
                    "MCG",
                    "LGDMC",
                    "TMPD",
                    "DDNMPlus",
                    "DiffPIR",
                    "DiffusionPDE",
                    "DPSStep",
                    "Loss",
                    "LowRank",
                    "PiGDM",
                    "PriorCovariance",
                    "ProbConserv",
                    "REDDiff",
                    "RePaint",
                    "Residual",
                    "ScoreSDE",
                    "conserved",
                    "methods",
                ),
                ".posterior",
            ),
            "Smoothing": ".smoothing.estimate",
            "Smoothed": ".smoothing.surrogate",
            "solve": "..engine.solving",
            "steer": "..engine.steering",
        },
    )
