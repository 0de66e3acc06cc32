"""The exception of everything that can be wrong with a model on disk."""

from __future__ import annotations


class ModelError(ValueError):
    """A model cannot be loaded: unknown name, missing or damaged file, or weights that do not fit."""
