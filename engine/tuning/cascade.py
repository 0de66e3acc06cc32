"""Cascade polynomial regression: DC-Solver's ratios for other numbers of calls and guidance scales
(Zhao et al. 2024, arXiv 2409.03755).

The ratio of step s = 1, .., n of a run of n calls at guidance scale w is a polynomial whose
coefficients are polynomials, with w / 12 and n / 50 in the place of w and n:

    r = sum_d A_d (s / n)^d,    A_d = sum_e a_de w^(2 - e),    a_de = sum_c k_dec n^(2 - c),
    d = 0, .., 3,    c, e = 0, 1, 2

The 36 numbers k enter linearly, so least squares finds them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...checks import ArgumentError, integer, number
from ...samplers.multistep.dc_solver import BEFORE
from .compensation import LEAST, MOST
from .table import Numbers

#: shape of the numbers: powers of s / n, of w and of n
SHAPE = (4, 3, 3)
#: what w and n are divided by
_SCALES = (12.0, 50.0)


class Observation(NamedTuple):
    """The ratios of a run, one for each step, at a guidance scale (1: none)."""

    ratios: tuple[float, ...]
    guidance: float = 1.0


@dataclass(frozen=True)
class Cascade:
    """The 36 numbers ``k_dec``, row by row."""

    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        size = int(np.prod(SHAPE))
        if len(self.numbers) != size:
            raise ArgumentError(f"numbers: {len(self.numbers)} of them, must be {size}")
        object.__setattr__(
            self, "numbers", tuple(float(number("numbers", k)) for k in self.numbers)
        )

    def predict(self, nfe: int, guidance: float = 1.0) -> tuple[float, ...]:
        """The ratio of each step of a run of ``nfe`` calls: 1 in the first two, and within the
        range of the search in the others."""
        nfe = integer("nfe", nfe, 1)
        guidance = float(number("guidance", guidance))
        found = _features(nfe, guidance) @ np.asarray(self.numbers)
        later = np.clip(found, LEAST, MOST).tolist()
        return (*(1.0,) * min(nfe, BEFORE), *later)


def fit_cascade(observations: Sequence[Observation]) -> Cascade:
    """The cascade next to the observed ratios in the sum of squares, the least of its numbers where
    several are. ArgumentError where there is no step to fit."""
    rows, wanted = [], []
    for ratios, guidance in observations:
        rows.append(_features(len(ratios), guidance))
        wanted.append(np.asarray(ratios[BEFORE:], dtype=np.float64))
    if sum(map(len, wanted)) == 0:
        raise ArgumentError(f"observations: none has more than {BEFORE} steps")
    design = np.concatenate(rows)
    sizes = np.maximum(np.abs(design).max(0), 1e-300)
    found = np.linalg.lstsq(design / sizes, np.concatenate(wanted), rcond=1e-13)[0]
    return Cascade(tuple((found / sizes).tolist()))


def _features(nfe: int, guidance: float) -> Numbers:
    """What the numbers are multiplied with, one row for each step from the third on."""
    w, n = guidance / _SCALES[0], nfe / _SCALES[1]
    places = np.arange(BEFORE + 1, nfe + 1) / nfe
    powers = np.array([2.0, 1.0, 0.0])
    steps = places[:, None] ** np.arange(SHAPE[0])
    found: Numbers = np.einsum("sd,e,c->sdec", steps, w**powers, n**powers)
    return found.reshape(len(places), int(np.prod(SHAPE)))
