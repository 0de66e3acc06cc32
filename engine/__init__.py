"""The front door: sample, plan, run (later: invert, log_prob)."""

from __future__ import annotations

from .planning import plan
from .sampling import SampleInfo, StateError, run, sample

__all__ = ["SampleInfo", "StateError", "plan", "run", "sample"]
