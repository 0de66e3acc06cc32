"""What is measured of sampled fields: their equation, their solution, their distribution.

relative_residual      of the fields as sampled, relative to the equation's scale
relative_l2            distance of the solution to the solver's, for the nearest admissible
                       coefficient, relative
energy_distance        of samples and data (see ``rating.coverage``); with ``spread`` it tells a
spread                 collapsed distribution of small residuals: 1 is the data's variance
log_spectral_distance  of the solution's spectrum to the data's mean spectrum
boundary_error         of the boundary condition
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ....models.field_maps import FieldMaps
from ..equation import Problem, equation_named
from ..rating.scores import FieldRating, rate
from .task import Task

MEASURES = (
    "relative_residual",
    "relative_l2",
    "energy_distance",
    "spread",
    "log_spectral_distance",
    "boundary_error",
)


@dataclass(frozen=True)
class Reference:
    """Solutions ``data`` of a task's equation on the grid of a model's samples, and the maps of its
    channels."""

    task: Task
    maps: FieldMaps
    data: Problem

    def ratings(self, x: Tensor) -> dict[str, FieldRating]:
        """Return the measures of the samples ``x`` (n, C, H, W) by name."""
        task, (_, spacing, params) = self.task, self.data
        fields = self.maps.physical(x.double())
        own = [name for name in MEASURES if name != "relative_l2"]
        found = rate(task.equation, fields, spacing, params, data=self.data, metrics=own).ratings
        solved = self._solution(fields)
        solution = rate(
            task.equation, fields, spacing, params, solved, metrics="relative_l2"
        ).ratings
        both = {**found, **solution}
        return {
            name: both[name] if name in both else both[f"{name}[{task.solution}]"]
            for name in MEASURES
        }

    def _solution(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The solver's solution for the nearest admissible coefficient."""
        given = {self.task.given: self.task.admissible(fields[self.task.given])}
        found = equation_named(self.task.equation).solve(given, self.data.spacing, self.data.params)
        return {self.task.solution: found[self.task.solution]}
