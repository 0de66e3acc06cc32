"""Scoring: certificates of solvers against exact solutions, solver error on a model, distances of samples and of their features.

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
    "Reference",
    "ScoreError",
    "Scores",
    "SolverError",
    "Straightness",
    "StrongError",
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
    from .accounting import Evaluations, count_evaluations
    from .bench_settings import BenchSettings
    from .benchmark import Bench, bench
    from .certification import Certificate, certify, certify_all
    from .classification import classifier_test
    from .conservativity import Asymmetry, score_asymmetry
    from .copies import Memorization, memorization
    from .counting import Cost, Counting
    from .dimension import IntrinsicDimension, flipd, intrinsic_dimension
    from .distances import energy_distance, sliced_floor, sliced_wasserstein, wasserstein
    from .errors import ProvenanceError, ScoreError
    from .features import FeatureExtractor, bundled_stats, load_extractor, to_uint8, wrap_extractor
    from .fokker_planck import FokkerPlanck, fokker_planck_residual
    from .frechet import frechet_distance
    from .image_sources import ImageSource, open_source
    from .inception import inception_score
    from .intervals import Estimate, finite_sample_bias, frechet_infinity, frechet_interval
    from .kernels import TwoSample, cmmd, kernel_distance, mmd
    from .modes import ModeCoverage, mode_coverage
    from .moments import FeatureStats, Moments, Provenance
    from .neighbours import Neighbourhood, precision_recall
    from .pairs import psnr, ssim
    from .pathwise import PathReference, StrongError, strong_error
    from .perceptual import Lpips, load_lpips
    from .report import save_report
    from .scoring import Scores, score
    from .scoring_metrics import Rating, RatingOptions
    from .scoring_reference import FeatureSet, load_reference
    from .solver import LocalErrors, SolverError, local_errors, solver_error
    from .storage import data_hash, load_features, load_stats, save_stats
    from .trajectory import Reference, Straightness, doubled_reference, reference_states, straightness
    from .weak import GaussianError, WeakDifference, WeakError, gaussian_weak_error, weak_error
else:
    _NAMES = {
        "accounting": ("Evaluations", "count_evaluations"),
        "bench_settings": ("BenchSettings",),
        "benchmark": ("Bench", "bench"),
        "certification": ("Certificate", "certify", "certify_all"),
        "classification": ("classifier_test",),
        "conservativity": ("Asymmetry", "score_asymmetry"),
        "copies": ("Memorization", "memorization"),
        "counting": ("Cost", "Counting"),
        "dimension": ("IntrinsicDimension", "flipd", "intrinsic_dimension"),
        "distances": ("energy_distance", "sliced_floor", "sliced_wasserstein", "wasserstein"),
        "errors": ("ProvenanceError", "ScoreError"),
        "features": ("FeatureExtractor", "bundled_stats", "load_extractor", "to_uint8", "wrap_extractor"),
        "fokker_planck": ("FokkerPlanck", "fokker_planck_residual"),
        "frechet": ("frechet_distance",),
        "image_sources": ("ImageSource", "open_source"),
        "inception": ("inception_score",),
        "intervals": ("Estimate", "finite_sample_bias", "frechet_infinity", "frechet_interval"),
        "kernels": ("TwoSample", "cmmd", "kernel_distance", "mmd"),
        "modes": ("ModeCoverage", "mode_coverage"),
        "moments": ("FeatureStats", "Moments", "Provenance"),
        "neighbours": ("Neighbourhood", "precision_recall"),
        "pairs": ("psnr", "ssim"),
        "pathwise": ("PathReference", "StrongError", "strong_error"),
        "perceptual": ("Lpips", "load_lpips"),
        "report": ("save_report",),
        "scoring": ("Scores", "score"),
        "scoring_metrics": ("Rating", "RatingOptions"),
        "scoring_reference": ("FeatureSet", "load_reference"),
        "solver": ("LocalErrors", "SolverError", "local_errors", "solver_error"),
        "storage": ("data_hash", "load_features", "load_stats", "save_stats"),
        "trajectory": ("Reference", "Straightness", "doubled_reference", "reference_states", "straightness"),
        "weak": ("GaussianError", "WeakDifference", "WeakError", "gaussian_weak_error", "weak_error"),
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
