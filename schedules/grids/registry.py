"""The named grids: their spacing, their options with defaults, and other programs' names for
them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import spacings as s


@dataclass(frozen=True)
class Entry:
    """A named grid. ``in_t``: laid out in t, so that a flow's shift moves it."""

    spacing: Callable[[s.Frame, s.Options], list[float]]
    options: s.Options = field(default_factory=dict)
    in_t: bool = False


GRIDS: dict[str, Entry] = {
    "uniform": Entry(s.uniform, {"drop_last": False}, in_t=True),
    "linspace": Entry(s.linspace, {"drop_last": False}, in_t=True),
    "leading": Entry(s.leading, {"offset": 0, "drop_last": False}, in_t=True),
    "trailing": Entry(s.trailing, in_t=True),
    "quadratic": Entry(s.quadratic, in_t=True),
    "power": Entry(s.power, {"power": 2.0, "drop_last": False}, in_t=True),
    "lam": Entry(s.lam, {"drop_last": False}),
    "karras": Entry(s.karras, {"rho": 7.0, "drop_last": False}),
    "exponential": Entry(s.lam, {"drop_last": False}),
    "polyexponential": Entry(s.polyexponential, {"power": 1.0, "drop_last": False}),
    "beta": Entry(s.beta, {"a": 0.6, "b": 0.6}),
    "beta_t": Entry(s.beta_t, {"a": 0.6, "b": 0.6}, in_t=True),
    "ays": Entry(s.ays, {"table": "sd15"}),
    "oss": Entry(s.oss, {"table": "flux"}),
    "simple": Entry(s.simple, in_t=True),
    "normal": Entry(s.uniform, in_t=True),
    "sgm_uniform": Entry(s.sgm_uniform, in_t=True),
    "ddim_uniform": Entry(s.ddim_uniform, in_t=True),
    "kl_optimal": Entry(s.kl_optimal),
    "linear_quadratic": Entry(s.linear_quadratic, {"threshold": 0.025}, in_t=True),
}

ALIASES: dict[str, str] = {
    "logsnr": "lam",
    "logSNR": "lam",
    "time_uniform": "uniform",
    "time_quadratic": "quadratic",
    "polynomial": "polyexponential",
    "align_your_steps": "ays",
    "optimal_steps": "oss",
}
