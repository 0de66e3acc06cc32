"""Error statistics shared by all comparisons of a sampler with a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from .trajectory import rms

#: a reference counts as converged where its error is below this share of the measured error
CONVERGED = 0.05


class Solution(Protocol):
    """A reference solution: its end states (B, *shape) and an estimate of their RMS error."""

    @property
    def end(self) -> Tensor:
        """The exact end states, up to ``error``."""

    @property
    def error(self) -> float:
        """RMS error of ``end``."""


R = TypeVar("R", bound=Solution)
D = TypeVar("D", bound="Deviation")  # type: ignore[type-arg]


@dataclass(frozen=True, eq=False)
class Deviation(Generic[R]):
    """Error of a sampler on a model.

    Attributes:
        rmse: root mean square over samples and entries; ``relative``: over that of the reference;
            ``largest``: of any entry.
        per_sample: RMSE of each sample, (n,).
        nfe: network calls of the sampler.
        reference: the reference solution; ``reference.error`` bounds the error of the comparison.
        x: the sampler's result.
    """

    rmse: float
    relative: float
    largest: float
    per_sample: Tensor
    nfe: int
    reference: R
    x: Tensor

    @property
    def converged(self) -> bool:
        """Whether the reference's own error is below a twentieth of ``rmse``, so that ``rmse`` is
        the sampler's error."""
        return self.reference.error <= CONVERGED * self.rmse

    @classmethod
    def of(cls: type[D], x: Tensor, reference: R, nfe: int) -> D:
        """The deviation of ``x`` (B, *shape), reached in ``nfe`` network calls."""
        apart = (x.double() - reference.end.double()).flatten(1)
        total = rms(apart)
        relative = total / max(rms(reference.end), 1e-300)
        return cls(
            total,
            relative,
            float(apart.abs().max()),
            apart.square().mean(dim=1).sqrt(),
            nfe,
            reference,
            x,
        )
