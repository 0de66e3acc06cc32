"""``Statistics``, what ``fewstep.engine.model_statistics`` returns: l, s and b of a model, and
their file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ..checks import ArgumentError
from ..files import write
from ..plans.model_statistics import ModelStatistics, read_statistics


@dataclass(frozen=True, eq=False)
class Statistics(ModelStatistics):
    """The empirical model statistics l, s and b of DPM-Solver-v3, the option ``statistics=`` of
    ``dpm_solver_v3`` and ``dpm_solver_v3_elementwise``.

    Attributes as in ``plans.model_statistics.ModelStatistics``: ``lam`` (n,), ``l``, ``s``, ``b``
    (n, *shape), ``pooled_l``, ``pooled_s`` (n,), ``made_for``, ``facts``.
    """

    def save(self, path: str | Path) -> None:
        """Write the statistics and what they are for to the safetensors file ``path``, whole or
        not at all."""
        if not str(path).strip():
            raise ArgumentError(f"path={str(path)!r}: must be the name of a file")
        write(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read what ``save`` wrote. PlanError for other files."""
        found = read_statistics(path)
        return cls(**{f.name: getattr(found, f.name) for f in fields(ModelStatistics)})
