"""Evaluation: order certificates of samplers, solver error on a model, diagnostics of scores,
metrics and scores of samples, benchmarks.

Names are imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "Asymmetry",
    "Bench",
    "BenchSettings",
    "Certificate",
    "Cost",
    "Counting",
    "Estimate",
    "Evaluations",
    "FeatureExtractor",
    "FeatureSet",
    "FeatureStats",
    "FokkerPlanck",
    "GaussianError",
    "ImageSource",
    "IntrinsicDimension",
    "LocalErrors",
    "Lpips",
    "Memorization",
    "ModeCoverage",
    "Moments",
    "Neighbourhood",
    "PathReference",
    "Provenance",
    "ProvenanceError",
    "Rating",
    "RatingOptions",
    "ScoreError",
    "Scores",
    "SolverError",
    "Straightness",
    "StrongError",
    "TrajectoryReference",
    "TwoSample",
    "WeakDifference",
    "WeakError",
    "bench",
    "bundled_stats",
    "certify",
    "certify_all",
    "classifier_test",
    "cmmd",
    "count_evaluations",
    "data_hash",
    "doubled_reference",
    "energy_distance",
    "finite_sample_bias",
    "flipd",
    "fokker_planck_residual",
    "frechet_distance",
    "frechet_infinity",
    "frechet_interval",
    "gaussian_weak_error",
    "inception_score",
    "intrinsic_dimension",
    "kernel_distance",
    "load_extractor",
    "load_features",
    "load_lpips",
    "load_reference",
    "load_stats",
    "local_errors",
    "memorization",
    "mmd",
    "mode_coverage",
    "open_source",
    "physics",
    "precision_recall",
    "psnr",
    "reference_states",
    "save_report",
    "save_stats",
    "score",
    "score_asymmetry",
    "sliced_floor",
    "sliced_wasserstein",
    "solver_error",
    "ssim",
    "straightness",
    "strong_error",
    "to_uint8",
    "wasserstein",
    "weak_error",
    "wrap_extractor",
]

if TYPE_CHECKING:
    from . import physics
    from .benchmark.report.saving import save_report
    from .benchmark.result import Bench
    from .benchmark.runner import bench
    from .benchmark.settings import BenchSettings
    from .certificates.certification import Certificate, certify, certify_all
    from .diagnostics.conservativity import Asymmetry, score_asymmetry
    from .diagnostics.dimension import IntrinsicDimension, flipd, intrinsic_dimension
    from .diagnostics.fokker_planck import FokkerPlanck, fokker_planck_residual
    from .errors import ProvenanceError, ScoreError
    from .features.extractors import FeatureExtractor, wrap_extractor
    from .features.grey_levels import to_uint8
    from .features.image_sources import ImageSource, open_source
    from .features.loading import bundled_stats, load_extractor
    from .features.moments import FeatureStats, Moments, Provenance
    from .features.storage import data_hash, load_features, load_stats, save_stats
    from .metrics.classification import classifier_test
    from .metrics.copying import Memorization, memorization
    from .metrics.distances import energy_distance, sliced_floor, sliced_wasserstein, wasserstein
    from .metrics.frechet import frechet_distance
    from .metrics.image_pairs import psnr, ssim
    from .metrics.inception import inception_score
    from .metrics.intervals import Estimate, finite_sample_bias, frechet_infinity, frechet_interval
    from .metrics.kernels import TwoSample, cmmd, kernel_distance, mmd
    from .metrics.modes import ModeCoverage, mode_coverage
    from .metrics.neighbours import Neighbourhood, precision_recall
    from .metrics.perceptual import Lpips, load_lpips
    from .scoring.ratings import Rating, RatingOptions
    from .scoring.reference import FeatureSet, load_reference
    from .scoring.scores import Scores, score
    from .solver.accounting import Evaluations, count_evaluations
    from .solver.counting import Cost, Counting
    from .solver.error import LocalErrors, SolverError, local_errors, solver_error
    from .solver.pathwise import PathReference, StrongError, strong_error
    from .solver.trajectory import (
        Straightness,
        TrajectoryReference,
        doubled_reference,
        reference_states,
        straightness,
    )
    from .solver.weak import (
        GaussianError,
        WeakDifference,
        WeakError,
        gaussian_weak_error,
        weak_error,
    )
else:
    _NAMES = {
        "solver.accounting": ("Evaluations", "count_evaluations"),
        "benchmark.settings": ("BenchSettings",),
        "benchmark.result": ("Bench",),
        "benchmark.runner": ("bench",),
        "certificates.certification": ("Certificate", "certify", "certify_all"),
        "metrics.classification": ("classifier_test",),
        "diagnostics.conservativity": ("Asymmetry", "score_asymmetry"),
        "metrics.copying": ("Memorization", "memorization"),
        "solver.counting": ("Cost", "Counting"),
        "diagnostics.dimension": ("IntrinsicDimension", "flipd", "intrinsic_dimension"),
        "metrics.distances": (
            "energy_distance",
            "sliced_floor",
            "sliced_wasserstein",
            "wasserstein",
        ),
        "errors": ("ProvenanceError", "ScoreError"),
        "features.extractors": ("FeatureExtractor", "wrap_extractor"),
        "features.grey_levels": ("to_uint8",),
        "features.loading": ("bundled_stats", "load_extractor"),
        "diagnostics.fokker_planck": ("FokkerPlanck", "fokker_planck_residual"),
        "metrics.frechet": ("frechet_distance",),
        "features.image_sources": ("ImageSource", "open_source"),
        "metrics.inception": ("inception_score",),
        "metrics.intervals": (
            "Estimate",
            "finite_sample_bias",
            "frechet_infinity",
            "frechet_interval",
        ),
        "metrics.kernels": ("TwoSample", "cmmd", "kernel_distance", "mmd"),
        "metrics.modes": ("ModeCoverage", "mode_coverage"),
        "features.moments": ("FeatureStats", "Moments", "Provenance"),
        "metrics.neighbours": ("Neighbourhood", "precision_recall"),
        "metrics.image_pairs": ("psnr", "ssim"),
        "solver.pathwise": ("PathReference", "StrongError", "strong_error"),
        "metrics.perceptual": ("Lpips", "load_lpips"),
        "benchmark.report.saving": ("save_report",),
        "scoring.scores": ("Scores", "score"),
        "scoring.ratings": ("Rating", "RatingOptions"),
        "scoring.reference": ("FeatureSet", "load_reference"),
        "solver.error": ("LocalErrors", "SolverError", "local_errors", "solver_error"),
        "features.storage": ("data_hash", "load_features", "load_stats", "save_stats"),
        "solver.trajectory": (
            "TrajectoryReference",
            "Straightness",
            "doubled_reference",
            "reference_states",
            "straightness",
        ),
        "solver.weak": (
            "GaussianError",
            "WeakDifference",
            "WeakError",
            "gaussian_weak_error",
            "weak_error",
        ),
    }
    #: former name -> present name
    _RENAMED = {"Reference": "TrajectoryReference"}
    #: name -> the module that it comes from
    _HOME = {name: module for module, names in _NAMES.items() for name in names}

    # PEP 562; out of the checkers' sight, which would take it for "any name exists"
    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "physics":
            return import_module(".physics", __name__)
        if name in _RENAMED:
            from warnings import warn

            present = _RENAMED[name]
            warn(f"eval.{name} is now eval.{present}", DeprecationWarning, stacklevel=2)
            return getattr(import_module(f".{_HOME[present]}", __name__), present)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
