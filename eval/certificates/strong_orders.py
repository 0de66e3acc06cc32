"""Strong-order certificates: the slope of ``strong.strong_errors`` for a registered stochastic
sampler."""

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
#: no step at the end is of lower order, or without its noise (which would be missing from the path:
#: strong order 1/2)
ENDS = {"lower_order_final": False, "end_noise": True}
#: where a slope counts as convergence on the path: half an order or more, as Euler-Maruyama for
#: general noise
CONVERGES = 0.5


@dataclass(frozen=True)
class StrongCertificate:
    """``measured``: strong order on one Brownian path a sample; ``independent``: the same slope
    with noise that follows no path, the control, which is about 0; ``errors``: (steps, root mean
    square error) on the path."""

    name: str
    options: Mapping[str, Any]
    measured: float
    independent: float
    errors: tuple[tuple[int, float], ...]

    @property
    def passed(self) -> bool:
        """The path is followed, and nothing else is."""
        return self.measured >= CONVERGES and abs(self.independent) < 0.5 * CONVERGES


def no_strong_order(sampler: str, chosen: Any) -> str:
    """Why there is nothing to measure, empty where there is."""
    entry = registry.get(sampler)
    tau = entry.tau_of(chosen)
    if entry.form == "driver":
        return "a driver has no fixed plan"
    if not tau:
        return "it draws no noise"
    if not entry.order_of(chosen):
        return "it claims no order"
    if hasattr(chosen, "decay"):
        return "its strength varies with the noise level"
    plan = registry.build(sampler, smooth_grid(home_schedule(sampler), STEPS[0]), chosen)
    if any(draw.end.rho >= draw.start.rho for draw in plan.draws):
        return "its noise comes in jumps to a higher level, which are no increments of a path"
    return ""


def certify_strong(sampler: str, **options: Any) -> StrongCertificate:
    """Measure the strong order of ``sampler`` with ``options`` (lower-order ends switched off) on
    Gaussian data.

    Raises SamplerError where there is none, with the reason of ``no_strong_order``.
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
