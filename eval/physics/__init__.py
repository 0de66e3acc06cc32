"""Physics: one module an equation, with its residual in physical units, a reference solver and an
exact solution, and the metrics of generated fields.

Modules and names are imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

#: the equations, each a module of this package
EQUATIONS = (
    "allen_cahn",
    "burgers",
    "darcy",
    "darcy_neumann",
    "ginzburg_landau",
    "heat",
    "helmholtz",
    "kolmogorov",
    "kuramoto_sivashinsky",
    "navier_stokes",
    "nls",
    "poisson",
    "porous_medium",
    "reaction_diffusion",
    "wave",
    "wave_plane",
)

__all__ = [
    "EQUATIONS",
    "Equation",
    "FieldCoverage",
    "FieldRating",
    "FieldScores",
    "Problem",
    "Refinement",
    "Spectrum",
    "allen_cahn",
    "burgers",
    "channel_residual",
    "conserved_drift",
    "correlation",
    "correlation_time",
    "darcy",
    "darcy_neumann",
    "equation_named",
    "field_coverage",
    "forward_error",
    "ginzburg_landau",
    "heat",
    "helmholtz",
    "high_k_ratio",
    "kolmogorov",
    "kuramoto_sivashinsky",
    "load_fields",
    "log_spectral_distance",
    "mean_absolute_residual",
    "navier_stokes",
    "negative_norm",
    "nls",
    "poisson",
    "porous_medium",
    "quantity_scale",
    "rate",
    "reaction_diffusion",
    "refinement",
    "relative_l1",
    "relative_l2",
    "relative_residual",
    "rms_residual",
    "save_fields",
    "spectrum",
    "velocity",
    "wave",
    "wave_plane",
    "wrong_share",
]

if TYPE_CHECKING:
    from . import (
        allen_cahn,
        burgers,
        darcy,
        darcy_neumann,
        ginzburg_landau,
        heat,
        helmholtz,
        kolmogorov,
        kuramoto_sivashinsky,
        navier_stokes,
        nls,
        poisson,
        porous_medium,
        reaction_diffusion,
        wave,
        wave_plane,
    )
    from .channels import channel_residual
    from .convergence import Refinement, refinement
    from .equation import Equation, Problem, equation_named
    from .forward import forward_error
    from .rating.comparisons import relative_l1, relative_l2, wrong_share
    from .rating.conservation import conserved_drift, quantity_scale
    from .rating.coverage import FieldCoverage, field_coverage
    from .rating.residuals import (
        mean_absolute_residual,
        negative_norm,
        relative_residual,
        rms_residual,
    )
    from .rating.rollouts import correlation, correlation_time
    from .rating.scores import FieldRating, FieldScores, rate
    from .rating.spectra import Spectrum, high_k_ratio, log_spectral_distance, spectrum
    from .vorticity import velocity

    #: all of EQUATIONS, so that the type checker compares every module with the interface
    _SATISFY: tuple[Equation, ...] = (
        allen_cahn,
        burgers,
        darcy,
        darcy_neumann,
        ginzburg_landau,
        heat,
        helmholtz,
        kolmogorov,
        kuramoto_sivashinsky,
        navier_stokes,
        nls,
        poisson,
        porous_medium,
        reaction_diffusion,
        wave,
        wave_plane,
    )
    from .storage import load_fields, save_fields
else:
    _NAMES = {
        "channels": ("channel_residual",),
        "convergence": ("Refinement", "refinement"),
        "equation": ("Equation", "Problem", "equation_named"),
        "forward": ("forward_error",),
        "rating.comparisons": ("relative_l1", "relative_l2", "wrong_share"),
        "rating.conservation": ("conserved_drift", "quantity_scale"),
        "rating.coverage": ("FieldCoverage", "field_coverage"),
        "rating.residuals": (
            "mean_absolute_residual",
            "negative_norm",
            "relative_residual",
            "rms_residual",
        ),
        "rating.rollouts": ("correlation", "correlation_time"),
        "rating.scores": ("FieldRating", "FieldScores", "rate"),
        "rating.spectra": ("Spectrum", "high_k_ratio", "log_spectral_distance", "spectrum"),
        "vorticity": ("velocity",),
        "storage": ("load_fields", "save_fields"),
    }
    #: name -> the module that it comes from
    _HOME = {name: module for module, names in _NAMES.items() for name in names}

    # PEP 562; out of the checkers' sight, which would take it for "any name exists"
    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in EQUATIONS:
            return import_module(f".{name}", __name__)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
