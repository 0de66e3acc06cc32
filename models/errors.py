"""The exception for models that cannot be loaded."""

from __future__ import annotations

from ..checks import ArgumentError


class ModelError(ArgumentError):
    """A model cannot be loaded: unknown name, missing or damaged file, or unsuitable weights."""
