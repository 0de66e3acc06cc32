"""The fused linear step and counter-based noise: what a solver step costs on the device. Imports nothing of ours."""

from __future__ import annotations

from .linear import Coefficient, Rows, accumulator_dtype, linear_combination, linear_step, prepare
from .noise import SOLVER_STREAM, START_STREAM, SeededNoise, normals, seeds_from

__all__ = [
    "SOLVER_STREAM",
    "START_STREAM",
    "Coefficient",
    "Rows",
    "SeededNoise",
    "accumulator_dtype",
    "linear_combination",
    "linear_step",
    "normals",
    "prepare",
    "seeds_from",
]
