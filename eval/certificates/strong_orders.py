"""Strong-order certificates of registered stochastic samplers: the slope of ``strong_errors``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...samplers import registry
from ...samplers.registry import SamplerError
from .certification import home_schedule
from .problem import smooth_grid
from .strong import strong_errors

#: step counts
STEPS = (40, 80, 160, 320)
#: no final step of lower order, or without noise (noise missing from the path gives strong order
#: 1/2)
ENDS = {"lower_order_final": False, "end_noise": True}
#: smallest slope that counts as convergence on the path: 1/2, as Euler-Maruyama with general noise
CONVERGES = 0.5


@dataclass(frozen=True)
class StrongCertificate:
    """Strong order of one sampler with one set of options.

    Attributes:
        measured: strong order with one Brownian path per sample.
        independent: the same slope with independent noise, a control of about 0.
        errors: (steps, RMS error) pairs on the path.
    """

    name: str
    options: Mapping[str, Any]
    measured: float
    independent: float
    errors: tuple[tuple[int, float], ...]

    @property
    def passed(self) -> bool:
        """Whether the error converges on the path and does not for independent noise."""
        return self.measured >= CONVERGES and abs(self.independent) < 0.5 * CONVERGES


def no_strong_order(sampler: str, chosen: Any) -> str:
    """Why the sampler has no strong order; empty where it has one."""
    entry = registry.get(sampler)
    tau = entry.tau_of(chosen)
    if entry.form == "driver":
        return "a driver has no fixed plan"
    if not tau:
        return "it draws no noise"
    if not entry.order_of(chosen):
        return "it declares no order"
    if hasattr(chosen, "decay"):
        return "its strength varies with the noise level"
    plan = registry.build(sampler, smooth_grid(home_schedule(sampler), STEPS[0]), chosen)
    if any(draw.end.rho >= draw.start.rho for draw in plan.draws):
        return "its noise comes in jumps to a higher level, which are not increments of a path"
    return ""


def certify_strong(sampler: str, **options: Any) -> StrongCertificate:
    """Measure the strong order of ``sampler`` with ``options`` (lower-order final steps off) on
    Gaussian data.

    Raises SamplerError, with the reason of ``no_strong_order``, where it has none.
    """
    entry = registry.get(sampler)
    fields = {f.name for f in dataclasses.fields(entry.options)}
    chosen = registry.make_options(
        entry, {**{key: value for key, value in ENDS.items() if key in fields}, **options}
    )
    if reason := no_strong_order(sampler, chosen):
        raise SamplerError(f"{sampler} {dict(options)} has no strong order: {reason}")
    schedule, tau = home_schedule(sampler), entry.tau_of(chosen)

    def found(noise: str) -> Any:
        return strong_errors(
            lambda n: registry.build(sampler, smooth_grid(schedule, n), chosen),
            schedule,
            tau,
            steps=STEPS,
            noise=noise,
        )

    on_path = found("brownian")
    return StrongCertificate(
        sampler, options, on_path.slope, found("independent").slope, on_path.errors
    )
