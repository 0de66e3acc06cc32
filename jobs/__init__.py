"""Long work in folders: generate samples, solve inverse problems, invert and score images, score
physical fields, make reference statistics.

Each function may be stopped at any time and called again: what is finished is kept, and the bytes
are those of an unbroken run. Several processes, as accelerate, torchrun or mpirun start them, share
the work. The commands ``fewstep generate``, ``solve``, ``invert``, ``score``, ``ref`` and ``tune``
call these functions; ``tune`` is not shared.
"""

from __future__ import annotations

from .generation import GenerationResult as GenerationResult
from .generation import generate as generate
from .inversion import InversionResult as InversionResult
from .inversion import invert as invert
from .physics import PhysicsResult as PhysicsResult
from .physics import score_physics as score_physics
from .reference_statistics import ReferenceResult as ReferenceResult
from .reference_statistics import reference as reference
from .scoring import ScoringResult as ScoringResult
from .scoring import score as score
from .solution import SolutionResult as SolutionResult
from .solution import solve as solve
from .tuning_folder import tune as tune

__all__ = [
    "GenerationResult",
    "InversionResult",
    "PhysicsResult",
    "ReferenceResult",
    "ScoringResult",
    "SolutionResult",
    "generate",
    "invert",
    "reference",
    "score",
    "score_physics",
    "solve",
    "tune",
]
