"""The fused linear step and counter-based noise: what a solver step costs on the device. Imports
nothing of ours."""

from __future__ import annotations

from .brownian.path import PATH_STREAM, BrownianPath
from .linear.eager import (
    Coefficient,
    Rows,
    accumulator_dtype,
    linear_combination,
    linear_new,
    linear_step,
    prepare,
)
from .noise.seeded import SOLVER_STREAM, START_STREAM, SeededNoise, normals, seeds_from

__all__ = [
    "PATH_STREAM",
    "SOLVER_STREAM",
    "START_STREAM",
    "BrownianPath",
    "Coefficient",
    "Rows",
    "SeededNoise",
    "accumulator_dtype",
    "linear_combination",
    "linear_new",
    "linear_step",
    "normals",
    "prepare",
    "seeds_from",
]
