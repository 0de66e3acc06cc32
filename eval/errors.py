"""Errors of scores, and of the samples, features and statistics they are computed from."""

from __future__ import annotations

from ..checks import ArgumentError, UsageError


class ScoreError(ArgumentError):
    """Features, samples or statistics that cannot be scored: too few samples, NaN, mismatched
    dimensions, or a damaged file."""


class ChoiceError(ScoreError, UsageError):
    """A benchmark was given an option that its sampler or grid does not have, or a value that the
    option does not allow."""


class ProvenanceError(ScoreError):
    """Statistics computed with different extractors, resize rules or rounding to grey levels, which
    must not be compared."""
