"""Device work of a solver step: the fused linear combination, counter-based noise and Brownian
paths."""

from __future__ import annotations

from .brownian.path import PATH_STREAM, BrownianPath
from .linear.dispatch import linear_backend
from .linear.eager import (
    Coefficient,
    Rows,
    accumulator_dtype,
    linear_combination,
    prepare,
)
from .linear.native import BACKENDS
from .linear.steps import linear_new, linear_step
from .noise.native import noise_backend
from .noise.seeded import SOLVER_STREAM, START_STREAM, SeededNoise, normals, seeds_from

__all__ = [
    "BACKENDS",
    "PATH_STREAM",
    "SOLVER_STREAM",
    "START_STREAM",
    "BrownianPath",
    "Coefficient",
    "Rows",
    "SeededNoise",
    "accumulator_dtype",
    "linear_backend",
    "linear_combination",
    "linear_new",
    "linear_step",
    "noise_backend",
    "normals",
    "prepare",
    "seeds_from",
]
