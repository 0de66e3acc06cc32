"""Grid ``"auto"``: the grid ``logistic`` with numbers that depend on the number of steps, the kind
of sampler, and the scale and shape of the data: levels ``rho = sigma / alpha`` at

    log rho(u) = log(center sigma_data) + spread log(u / (1 - u)),    u falling linearly to 0.

The rule is this package's own. ``benchmarks/grid_choice.py`` fits the numbers and
``benchmarks/default_call.py`` checks them on other problems; docs/grids.md has the tables.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...checks import ArgumentError, choice, instance, number
from ..base import Schedule

#: one network call a step, or more, with steps made of eps (or v) or of x0; noise added
Kind = Literal["multistep", "multistep_x0", "singlestep", "singlestep_x0", "stochastic"]
SAMPLER_KINDS: tuple[Kind, ...] = (
    "multistep", "multistep_x0", "singlestep", "singlestep_x0", "stochastic"
)  # fmt: skip
#: assumed standard deviation of data of unknown scale: that of images in [-1, 1]
SIGMA_DATA = 0.5
#: classes of the schedules that the rule was fitted or checked on, those of the benchmarks
FITTED = ("VPLinear", "VPCosine", "DiscreteVP", "EDM", "Flow")


class Numbers(NamedTuple):
    """``center`` and ``spread`` of the grid for a number of steps."""

    steps: int
    center: float
    spread: float


#: (kind, samples with spatial axes) -> numbers by steps; between them, log center and spread are
#: interpolated linearly in log steps. "guided": of guided models and latents.
RULE: Mapping[tuple[str, bool], tuple[Numbers, ...]] = {
    ("multistep", False): (
        Numbers(5, 0.75, 1.6), Numbers(7, 0.9, 1.65), Numbers(10, 1.05, 1.5), Numbers(20, 1.05, 1.3)
    ),
    ("multistep", True): (Numbers(10, 5.0, 1.9), Numbers(20, 2.6, 1.8)),
    ("multistep guided", False): (Numbers(5, 0.85, 1.3),),
    ("multistep guided", True): (Numbers(5, 5.0, 1.5), Numbers(20, 4.0, 1.55)),
    ("multistep_x0", False): (Numbers(3, 0.8, 1.25), Numbers(5, 0.5, 1.33), Numbers(20, 0.6, 1.4)),
    ("multistep_x0", True): (
        Numbers(5, 5.0, 1.9), Numbers(10, 3.2, 1.9), Numbers(20, 1.7, 2.1)
    ),
    ("multistep_x0 guided", False): (Numbers(5, 0.6, 1.3),),
    ("multistep_x0 guided", True): (Numbers(5, 3.5, 1.3), Numbers(10, 2.5, 1.45)),
    ("singlestep", False): (Numbers(3, 3.5, 1.6), Numbers(5, 2.0, 1.6), Numbers(10, 1.2, 1.6)),
    ("singlestep", True): (Numbers(5, 7.0, 1.6), Numbers(10, 6.0, 1.8)),
    ("singlestep_x0", False): (
        Numbers(3, 0.85, 2.0), Numbers(5, 0.65, 1.8), Numbers(10, 0.65, 1.6)
    ),
    ("singlestep_x0", True): (Numbers(5, 5.0, 2.0), Numbers(10, 4.0, 2.0)),
    ("stochastic", False): (Numbers(5, 1.1, 1.05), Numbers(10, 0.7, 1.05), Numbers(40, 0.6, 1.3)),
    ("stochastic", True): (
        Numbers(5, 2.5, 1.35), Numbers(10, 2.5, 1.35), Numbers(20, 2.0, 1.6), Numbers(40, 1.8, 1.8)
    ),
}  # fmt: skip

#: what ``"auto"`` was in version 0.1: schedule class -> (grid name, its options)
FORMER: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "VPLinear": ("power", {"power": 3.0, "drop_last": True}),
    "SubVP": ("power", {"power": 2.0, "drop_last": True}),
    "Flow": ("quadratic", {}),
    "Trig": ("quadratic", {}),
}
#: the same for all other schedules
FORMER_OTHERWISE: tuple[str, Mapping[str, Any]] = ("lam", {"drop_last": True})


@dataclass(frozen=True)
class DataFacts:
    """What the automatic choices know about a model and its data.

    Attributes:
        sigma_data: standard deviation of the data, in units of x0; None: unknown, and then 0.5 is
            assumed.
        spatial: True for samples with spatial axes (images, fields, sequences), whose spectra are
            broad; False for vectors; None: unknown, and the numbers are midway.
        guided: True for a guided model.
        latent: True if samples are latents of an autoencoder.
    """

    sigma_data: float | None = None
    spatial: bool | None = None
    guided: bool = False
    latent: bool = False

    @property
    def cautious(self) -> bool:
        """True for guided models and for latents, which are nearly always guided: samplers of high
        order on wide grids diverge under strong guidance."""
        return self.guided or self.latent

    @property
    def samples(self) -> str:
        """What the samples are, for a sentence."""
        data = {True: "samples with spatial axes", False: "vectors", None: "samples of any shape"}
        caution = " of a guided model" if self.guided else ", latents" if self.latent else ""
        return data[self.spatial] + caution

    def __post_init__(self) -> None:
        if self.sigma_data is not None and not 0.0 < number("sigma_data", self.sigma_data) < (
            math.inf
        ):
            raise ArgumentError(f"sigma_data={self.sigma_data!r}: allowed 0 < sigma_data < inf")


#: see ``_raised``
SHARE = 0.3
#: first rho in units of sigma_data above which ``"singlestep"`` samplers keep the former grid
WIDE = 2000.0
#: nothing is known
UNKNOWN = DataFacts()


def auto_options(
    steps: int, kind: Kind, facts: DataFacts, ends: tuple[float, float] = (math.inf, 0.0)
) -> dict[str, float]:
    """The options of the grid ``logistic`` that ``"auto"`` stands for.

    ``ends``: rho at the first node, and the least rho above 0 that the path has (0 if it has
    none, or if the grid ends there).
    """
    choice("kind", kind, SAMPLER_KINDS)
    instance("facts", facts, DataFacts, "DataFacts")
    key = f"{kind} guided" if kind.startswith("multistep") and facts.cautious else kind
    spaces = (False, True) if facts.spatial is None else (facts.spatial,)
    found = [_interpolated(RULE[key, spatial], steps) for spatial in spaces]
    center = math.prod(c for c, _ in found) ** (1.0 / len(found))
    spread = sum(s for _, s in found) / len(found)
    scale = SIGMA_DATA if facts.sigma_data is None else facts.sigma_data
    if kind == "multistep" and steps > 1 and ends[1] > 0.0:
        relative = (ends[0] / scale, ends[1] / scale)
        center, spread = _raised(center, spread, steps, relative)
    return {"sigma_data": float(scale), "center": center, "spread": spread}


def _raised(
    center: float, spread: float, steps: int, ends: tuple[float, float]
) -> tuple[float, float]:
    """``center`` and ``spread`` with which the last node before sigma = 0 is not below the least
    level ``ends[1]`` of the path; both levels are in units of sigma_data.

    Adams-Bashforth weights of equal steps extrapolate over the last step to sigma = 0. Nodes that
    are crowded above the least level make that step many times longer than the one before. A larger
    center takes ``SHARE`` of the change in log rho of the last node, a smaller spread the rest.
    """
    start_center, start_spread = center, spread
    for _ in range(8):  # the first probability depends a little on both numbers
        first = 1.0 / (1.0 + (center / ends[0]) ** (1.0 / spread))
        odds = math.log(steps / first - 1.0)
        gap = math.log(ends[1] / start_center) + start_spread * odds
        if gap <= 0.0:
            return center, spread
        center = start_center * math.exp(SHARE * gap)
        spread = start_spread - (1.0 - SHARE) * gap / odds
    return center, spread


def _interpolated(rows: Sequence[Numbers], steps: int) -> tuple[float, float]:
    """``center`` and ``spread`` at ``steps``; constant beyond the rows."""
    at = bisect([row.steps for row in rows], steps)
    if at in (0, len(rows)) or rows[at - 1].steps == steps:
        return rows[max(at - 1, 0)][1:]
    low, high = rows[at - 1], rows[at]
    w = math.log(steps / low.steps) / math.log(high.steps / low.steps)
    center = low.center ** (1.0 - w) * high.center**w
    return center, (1.0 - w) * low.spread + w * high.spread


def too_wide(kind: Kind, facts: DataFacts, first: float) -> bool:
    """True for a ``"singlestep"`` sampler on a path that begins at a huge finite rho ``first``.

    Its first step averages the slopes eps at both ends over an interval that is thousands of times
    longer than the lower level; the rule's second level is too low for that.
    """
    scale = SIGMA_DATA if facts.sigma_data is None else facts.sigma_data
    return kind == "singlestep" and WIDE < first / scale < math.inf


def auto_reason(
    schedule: Schedule, steps: int, kind: Kind, facts: DataFacts, options: Mapping[str, Any]
) -> str:
    """A sentence that says which grid ``"auto"`` stands for, and why. ``options``: of the grid that
    was made."""
    for_what = f"for {steps} steps of a {kind} sampler and {facts.samples}"
    if "center" not in options:
        text = f"grid auto: {former_choice(schedule)[0]}, as auto_0_1 (a huge first level)"
        return "; ".join([text, for_what, *not_fitted(schedule)])
    scale = "given by the model" if facts.sigma_data is not None else "unknown, assumed"
    if options["sigma_data"] != (facts.sigma_data or SIGMA_DATA):
        scale = "given as an option"
    text = (
        f"grid auto: logistic, center {options['center']:.3g}, spread {options['spread']:.3g}, "
        f"sigma_data {options['sigma_data']:.3g} ({scale})"
    )
    return "; ".join([text, for_what, *not_fitted(schedule)])


def not_fitted(schedule: Schedule) -> list[str]:
    """One remark if the automatic choices were not fitted on the class of ``schedule``, else
    none."""
    if type(schedule).__name__ in FITTED:
        return []
    return [f"not fitted on {type(schedule).__name__}: compare with other grids"]


def former_choice(schedule: Schedule) -> tuple[str, dict[str, Any]]:
    """The grid name and options that ``"auto"`` was in version 0.1, by the nearest class of
    ``schedule``."""
    names = [c.__name__ for c in type(schedule).__mro__]
    name, options = next((FORMER[n] for n in names if n in FORMER), FORMER_OTHERWISE)
    return name, dict(options)
