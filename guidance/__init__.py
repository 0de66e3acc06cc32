"""Guidance: wrappers around a denoiser that are denoisers themselves. Samplers need no change to
use them."""

from __future__ import annotations

from .combinations.cfg import CFG
from .combinations.classifier import Classifier
from .combinations.compose import Compose
from .combinations.contrast import Contrast
from .combinations.icg import ICG
from .combinations.named import guide, names
from .combinations.pag import PAG
from .combinations.perturbed import Perturbed
from .combinations.scales import Ramp
from .combinations.tsg import TSG

__all__ = [
    "CFG",
    "ICG",
    "PAG",
    "TSG",
    "Classifier",
    "Compose",
    "Contrast",
    "Perturbed",
    "Ramp",
    "guide",
    "names",
]
