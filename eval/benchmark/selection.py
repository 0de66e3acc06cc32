"""Best-of-n rows: n draws of nfe / n network calls each, of which the one with the largest reward
is kept, so that a row costs as much as one draw of nfe calls.

    best_of_n:particles=4,sampler=unipc,order=3

The reward of images is the log-probability of the most likely class, by the bundled network whose
features rate the samples; that of an exact mixture is the log density of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ...checks import integer
from ...engine.automatic import AUTO
from ...engine.information import SampleInfo
from ...engine.planning import Request
from ...engine.steering import steer
from ...models.denoiser import Denoiser
from ...models.mixture import GaussianMixture
from ..errors import ChoiceError
from ..features.loading import load_extractor

#: the name of such rows
NAME = "best_of_n"
Rating = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BestOf(Request):
    """The request of one draw, of which ``particles`` are made for each sample."""

    particles: int = 1

    @staticmethod
    def of(asked: Request, particles: int) -> BestOf:
        """``asked`` with ``particles`` draws."""
        own = {f.name: getattr(asked, f.name) for f in fields(asked)}
        return BestOf(**own, particles=particles)


def choice_of(options: Mapping[str, Any]) -> tuple[int, str, dict[str, Any]]:
    """Particles, sampler, and the sampler's options of a best-of-n row. ChoiceError for others."""
    own = dict(options)
    try:
        particles = integer("particles", own.pop("particles", 4), 2, 10_000)
    except ValueError as error:
        raise ChoiceError(f"{NAME}: {error}") from error
    sampler = own.pop("sampler", AUTO)
    if not isinstance(sampler, str) or sampler == NAME:
        raise ChoiceError(f"{NAME}: sampler={sampler!r} must be the name of a sampler")
    return particles, sampler, own


def share(budget: int, particles: int) -> int:
    """Network calls of one draw. ChoiceError where none is left."""
    if budget < particles:
        raise ChoiceError(
            f"{NAME}: {particles} particles cannot share {budget} network calls; each needs one"
        )
    return budget // particles


def rating_of(denoiser: Denoiser, features: str | None) -> Rating | None:
    """The reward of a model's samples; ``features``: the bundled network of images. None where
    there is none."""
    if isinstance(denoiser, GaussianMixture):
        end = denoiser.schedule.t_min
        return lambda x: denoiser.log_prob(x, end)
    if features is None:
        return None
    network = load_extractor(features, logits=True)

    def confidence(x: Tensor) -> Tensor:
        logits = network.features(x, value_range=(-1.0, 1.0))
        return logits.log_softmax(1).amax(1)

    return confidence


def draw_best(
    asked: BestOf, denoiser: Denoiser, rating: Rating, seeds: Sequence[int], cond: Tensor | None
) -> tuple[Tensor, SampleInfo]:
    """Draw the best of the particles of each seed."""
    options = {f.name: getattr(asked.options, f.name) for f in fields(asked.options)}
    x, info = steer(
        denoiser,
        rating,
        method=NAME,
        sampler=asked.name,
        sampler_options=options,
        grid=asked.grid,
        particles=asked.particles,
        seeds=seeds,
        cond=cond,
    )
    calls = asked.particles * info.nfe
    facts = SampleInfo(
        calls, info.plan, tuple(seeds), info.seconds, 0.0, rows=info.rows, calls=float(calls)
    )
    return x, facts
