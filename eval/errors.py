"""What can be wrong with the material of a score."""

from __future__ import annotations

from ..checks import ArgumentError, UsageError


class ScoreError(ArgumentError):
    """Features, samples or statistics that cannot be scored: too few, NaN, of other dimensions, or
    damaged files."""


class ChoiceError(ScoreError, UsageError):
    """An option of a sampler or a grid of a benchmark that it does not have, or a value that it
    does not take."""


class ProvenanceError(ScoreError):
    """Statistics made by different rules (extractor, resizing, grey levels): their distance means
    nothing."""
