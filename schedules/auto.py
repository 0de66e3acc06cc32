"""Grid ``"auto"``: one choice per schedule.

PROVISIONAL: the choices below follow the papers that introduced each path (Karras et al. 2022 for VE and EDM, uniform half log-SNR
for the variance-preserving ones after Lu et al. 2022, uniform t for flows); they are to be replaced by a measurement.
"""

from __future__ import annotations

from .base import Schedule

#: schedule class -> (grid name, its options)
AUTO: dict[str, tuple[str, dict[str, float]]] = {
    "VPLinear": ("lam", {}),
    "VPCosine": ("lam", {}),
    "VPSigmoid": ("lam", {}),
    "SubVP": ("lam", {}),
    "DiscreteVP": ("lam", {}),
    "VE": ("karras", {"rho": 7.0}),
    "EDM": ("karras", {"rho": 7.0}),
    "Flow": ("uniform", {}),
    "Trig": ("uniform", {}),
}

#: for schedules of other classes
OTHERWISE: tuple[str, dict[str, float]] = ("lam", {})


def auto_choice(schedule: Schedule) -> tuple[str, dict[str, float]]:
    """The grid name and options that ``"auto"`` stands for, by the nearest class of ``schedule`` in ``AUTO``."""
    return next((AUTO[c.__name__] for c in type(schedule).__mro__ if c.__name__ in AUTO), OTHERWISE)
