"""Guidance: wrappers around a denoiser that are denoisers themselves. Samplers need no change to
use them."""

from __future__ import annotations

from .combinations.cfg import CFG
from .combinations.named import guide, names
from .combinations.scales import Ramp

__all__ = ["CFG", "Ramp", "guide", "names"]
