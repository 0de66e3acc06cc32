"""How much of the distribution of true solutions the samples cover, in the principal components of
the fields.

A residual does not see a distribution that has collapsed: one solution, drawn again and again, has
none. Half of the true solutions define the components and the units; samples are compared with the
other half, so that neither side of the comparison was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ....checks import integer
from ...errors import ScoreError
from ...metrics.distances import energy_distance
from ...metrics.matrices import matrix
from ...scoring.features import chosen_places
from ...scoring.intervals import kernel_distance_error
from ..arguments import wide

#: principal components; at most so many samples of either side
COMPONENTS, MOST = 32, 2000
#: fewest true solutions: quarters of 8
FEWEST = 32


@dataclass(frozen=True)
class FieldCoverage:
    """Coverage of a set of samples.

    Attributes:
        energy: unbiased energy distance between samples and true solutions, in units of the true
            solutions' standard deviation; near 0, of either sign, for equal distributions.
        energy_error: its standard error (jackknife over the samples).
        spread: variance of the samples over that of the true solutions: 0 for a single solution.
    """

    energy: float
    energy_error: float
    spread: float


class Components:
    """The principal components of true solutions, and the solutions that samples are compared with.

    ``data`` are fields of true solutions by name, (B, ...); each field counts in units of its own
    standard deviation. Raises ScoreError for fewer than 32 solutions, and solutions without
    variance.
    """

    def __init__(self, data: Mapping[str, Tensor], components: int = COMPONENTS) -> None:
        integer("components", components, 1)
        kept = _thinned(data)
        count = len(next(iter(kept.values())))
        if count < FEWEST:
            raise ScoreError(f"{count} true solutions: coverage needs at least {FEWEST}")
        fitted = {name: wide(value)[::2] for name, value in kept.items()}
        self.centre = {name: value.mean(0, keepdim=True) for name, value in fitted.items()}
        spread = {k: (v - self.centre[k]).abs().square().mean().sqrt() for k, v in fitted.items()}
        self.unit = {name: value for name, value in spread.items() if float(value) > 0.0}
        if not self.unit:
            raise ScoreError("the true solutions do not vary: there is nothing to cover")
        rows = self._rows(fitted)
        self.vectors = _directions(rows, components)
        self.total = float((rows @ self.vectors).square().sum(1).mean().sqrt())
        self.held_out = self.project({name: value[1::2] for name, value in kept.items()})

    def _rows(self, fields: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for name, unit in self.unit.items():
            value = (wide(fields[name]) - self.centre[name]) / unit
            value = torch.view_as_real(value) if value.is_complex() else value
            parts.append(value.flatten(1))
        return torch.cat(parts, 1)

    def project(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Coordinates (B, components) of fields, in units of the true solutions' standard
        deviation."""
        return matrix(self._rows(fields) @ self.vectors / self.total)

    def coverage(self, fields: Mapping[str, Tensor]) -> FieldCoverage:
        """Coverage by samples. Raises ScoreError for fewer than 3."""
        return _compared(self.held_out, self.project(_thinned(fields)))

    def own(self) -> FieldCoverage:
        """Coverage of one half of the true solutions that were held out by the other."""
        return _compared(self.held_out[::2], self.held_out[1::2])


def field_coverage(
    samples: Mapping[str, Tensor], data: Mapping[str, Tensor], components: int = COMPONENTS
) -> tuple[FieldCoverage, FieldCoverage]:
    """Coverage of the true solutions ``data`` by ``samples``, and by true solutions themselves.

    Both are fields by name, (B, ...), of one grid; at least 3 samples and 32 solutions. More than
    2,000 of either are thinned. Raises ScoreError.
    """
    found = Components(data, components)
    return found.coverage(samples), found.own()


def _directions(rows: Tensor, most: int) -> Tensor:
    """The first ``most`` right singular vectors of ``rows`` (n, q), as columns (q, r)."""
    small = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    values, vectors = torch.linalg.eigh(small)
    kept = (values > 1e-12 * values[-1]).nonzero().flatten()[-most:].flip(0)
    found: Tensor = vectors[:, kept]
    return found if len(rows) >= rows.shape[1] else rows.T @ (found / values[kept].sqrt())


def _thinned(fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    places = chosen_places(torch.arange(len(next(iter(fields.values())))), MOST)
    return {name: value[places.to(value.device)] for name, value in fields.items()}


def _compared(reference: Tensor, samples: Tensor) -> FieldCoverage:
    if len(samples) < 3:
        raise ScoreError(f"{len(samples)} samples: coverage needs at least 3")
    error = kernel_distance_error(reference, samples, lambda a, b: -torch.cdist(a, b))
    value = energy_distance(reference, samples).value
    spread = float(samples.var(0).sum() / reference.var(0).sum())
    return FieldCoverage(value, error, spread)
