"""Cost of a sampler, with or without guidance, in network calls, row evaluations and derivatives.

One evaluation is one forward pass of one sample. Classifier-free guidance costs two per evaluation
of the guided model, in one call of twice the rows or in two calls; a forward-mode product costs one
more, a reverse pass two more (``counting``); rejected steps of an adaptive solver count; cached
values cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...engine.sampling import sample
from ...models.denoiser import Denoiser
from ..errors import ScoreError
from .counting import JVP_WEIGHT, VJP_WEIGHT, Cost, Counting


@dataclass(frozen=True)
class Evaluations:
    """Cost of drawing ``batch`` samples.

    Attributes:
        nfe: evaluations of the (guided) model reported by the sampler: ``plan.nfe``, or a driver's
            own count.
        planned: ``plan.nfe``, known without a network; None for a driver.
        cost: calls, rows and derivatives of the network itself.
        batch: number of samples.
        jvp_weight, vjp_weight: cost of derivatives, in evaluations.
    """

    nfe: int
    planned: int | None
    cost: Cost
    batch: int
    jvp_weight: float
    vjp_weight: float

    @property
    def calls(self) -> int:
        """Forward calls of the network."""
        return self.cost.calls

    @property
    def evaluations(self) -> float:
        """Forward row evaluations per sample."""
        return self.cost.evaluations(self.batch)

    @property
    def branches(self) -> float:
        """Row evaluations of the network per evaluation of the guided model."""
        return self.evaluations / self.nfe if self.nfe else 0.0

    @property
    def equivalents(self) -> float:
        """Row evaluations per sample, derivatives included at their weights."""
        return self.cost.equivalents(self.batch, self.jvp_weight, self.vjp_weight)


def count_evaluations(
    denoiser: Denoiser,
    sampler: str = "auto",
    *,
    guide: Callable[[Denoiser], Denoiser] | None = None,
    jvp_weight: float = JVP_WEIGHT,
    vjp_weight: float = VJP_WEIGHT,
    **arguments: Any,
) -> Evaluations:
    """Draw samples and count the calls of the network.

    Args:
        denoiser: the network; it is wrapped by a counter.
        sampler, arguments: as in ``fewstep.sample`` (one sample without n, seeds or a state).
        guide: function from the counted network to the model that is sampled, such as
            ``lambda den: CFG(den, 3.0)``.
        jvp_weight, vjp_weight: cost of derivatives, in evaluations.

    Raises ScoreError for negative weights and for a guide that does not call the network it is
    given.
    """
    for name, weight in (("jvp_weight", jvp_weight), ("vjp_weight", vjp_weight)):
        if not weight >= 0.0:
            raise ScoreError(f"{name}={weight!r}: must be >= 0")
    if "info" in arguments:
        raise ScoreError("info= is set by count_evaluations itself")
    counted = Counting(denoiser)
    x, info = sample(counted if guide is None else guide(counted), sampler, info=True, **arguments)
    if info.nfe and not counted.calls:
        raise ScoreError(
            "the guide never called the network it was given: it must wrap its argument"
        )
    planned = None if info.plan is None else info.plan.nfe
    return Evaluations(info.nfe, planned, counted.cost, x.shape[0], jvp_weight, vjp_weight)
