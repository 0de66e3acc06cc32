"""What a sampler, with or without guidance, asks of the network: calls, row evaluations, and
derivatives.

The rule: one evaluation is one forward pass of one sample. Classifier-free guidance costs two an
evaluation of the guided model, whether in one call of twice the rows or in two calls; a
forward-mode product costs one more, a reverse pass two more (``counting``); steps that an adaptive
solver rejects count; what is kept from earlier costs nothing.
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
    """The price of ``batch`` samples.

    Attributes:
        nfe: evaluations of the (guided) model that the sampler reports: ``plan.nfe``, or a driver's
            own count.
        planned: ``plan.nfe``, known without a network; None for a driver.
        cost: calls, rows and derivatives at the network itself.
        batch: samples drawn.
        jvp_weight, vjp_weight: prices of derivatives, in evaluations.
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
        """Forward row evaluations a sample."""
        return self.cost.evaluations(self.batch)

    @property
    def branches(self) -> float:
        """Row evaluations of the network for each evaluation of the guided model."""
        return self.evaluations / self.nfe if self.nfe else 0.0

    @property
    def equivalents(self) -> float:
        """Row evaluations a sample with derivatives at their prices."""
        return self.cost.equivalents(self.batch, self.jvp_weight, self.vjp_weight)


def count_evaluations(
    denoiser: Denoiser,
    sampler: str = "dpmpp_2m",
    *,
    guide: Callable[[Denoiser], Denoiser] | None = None,
    jvp_weight: float = JVP_WEIGHT,
    vjp_weight: float = VJP_WEIGHT,
    **arguments: Any,
) -> Evaluations:
    """Draw samples with a counter next to the network.

    Args:
        denoiser: the network; the counter wraps it.
        sampler, arguments: as in ``fewstep.sample`` (one sample where neither n, seeds nor a state
            says how many).
        guide: makes the model that is sampled from the counted network, such as
            ``lambda den: CFG(den, 3.0)``.
        jvp_weight, vjp_weight: prices of derivatives, in evaluations.

    Raises ScoreError for weights below 0 and for a guide that does not use the network that it is
    given.
    """
    for name, weight in (("jvp_weight", jvp_weight), ("vjp_weight", vjp_weight)):
        if not weight >= 0.0:
            raise ScoreError(f"{name}={weight!r}: a number of at least 0 is wanted")
    if "info" in arguments:
        raise ScoreError("info= is set by count_evaluations itself")
    counted = Counting(denoiser)
    x, info = sample(counted if guide is None else guide(counted), sampler, info=True, **arguments)
    if info.nfe and not counted.calls:
        raise ScoreError(
            "the guide made no call of the network that it was given: wrap its argument, not "
            "another network"
        )
    planned = None if info.plan is None else info.plan.nfe
    return Evaluations(info.nfe, planned, counted.cost, x.shape[0], jvp_weight, vjp_weight)
