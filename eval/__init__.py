"""Scoring: certificates of solvers against exact solutions, solver error on a model, distances of samples and of their features.

Names are imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "Certificate",
    "Estimate",
    "FeatureExtractor",
    "FeatureStats",
    "LocalErrors",
    "Memorization",
    "ModeCoverage",
    "Moments",
    "Neighbourhood",
    "Provenance",
    "ProvenanceError",
    "Reference",
    "ScoreError",
    "SolverError",
    "Straightness",
    "TwoSample",
    "bundled_stats",
    "certify",
    "certify_all",
    "classifier_test",
    "cmmd",
    "data_hash",
    "energy_distance",
    "finite_sample_bias",
    "frechet_distance",
    "frechet_infinity",
    "frechet_interval",
    "inception_score",
    "kernel_distance",
    "load_extractor",
    "load_stats",
    "local_errors",
    "memorization",
    "mmd",
    "mode_coverage",
    "precision_recall",
    "psnr",
    "reference_states",
    "save_stats",
    "sliced_floor",
    "sliced_wasserstein",
    "solver_error",
    "ssim",
    "straightness",
    "to_uint8",
    "wasserstein",
    "wrap_extractor",
]

if TYPE_CHECKING:
    from .certification import Certificate, certify, certify_all
    from .classification import classifier_test
    from .copies import Memorization, memorization
    from .distances import energy_distance, sliced_floor, sliced_wasserstein, wasserstein
    from .errors import ProvenanceError, ScoreError
    from .features import FeatureExtractor, bundled_stats, load_extractor, to_uint8, wrap_extractor
    from .frechet import frechet_distance
    from .inception import inception_score
    from .intervals import Estimate, finite_sample_bias, frechet_infinity, frechet_interval
    from .kernels import TwoSample, cmmd, kernel_distance, mmd
    from .modes import ModeCoverage, mode_coverage
    from .moments import FeatureStats, Moments, Provenance
    from .neighbours import Neighbourhood, precision_recall
    from .pairs import psnr, ssim
    from .solver import LocalErrors, SolverError, local_errors, solver_error
    from .storage import data_hash, load_stats, save_stats
    from .trajectory import Reference, Straightness, reference_states, straightness
else:
    _NAMES = {
        "certification": ("Certificate", "certify", "certify_all"),
        "classification": ("classifier_test",),
        "copies": ("Memorization", "memorization"),
        "distances": ("energy_distance", "sliced_floor", "sliced_wasserstein", "wasserstein"),
        "errors": ("ProvenanceError", "ScoreError"),
        "features": ("FeatureExtractor", "bundled_stats", "load_extractor", "to_uint8", "wrap_extractor"),
        "frechet": ("frechet_distance",),
        "inception": ("inception_score",),
        "intervals": ("Estimate", "finite_sample_bias", "frechet_infinity", "frechet_interval"),
        "kernels": ("TwoSample", "cmmd", "kernel_distance", "mmd"),
        "modes": ("ModeCoverage", "mode_coverage"),
        "moments": ("FeatureStats", "Moments", "Provenance"),
        "neighbours": ("Neighbourhood", "precision_recall"),
        "pairs": ("psnr", "ssim"),
        "solver": ("LocalErrors", "SolverError", "local_errors", "solver_error"),
        "storage": ("data_hash", "load_stats", "save_stats"),
        "trajectory": ("Reference", "Straightness", "reference_states", "straightness"),
    }
    #: name -> the module that it comes from
    _HOME = {name: module for module, names in _NAMES.items() for name in names}

    def __getattr__(name: str) -> object:  # PEP 562; out of the checkers' sight, which would take it for "any name exists"
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
