"""Grid ``"auto"``: one choice per schedule, measured by ``benchmarks/grid_choice.py`` (whole tables
in ``docs/grids.md``).

Error of the end point against the exact probability-flow ODE, on three mixtures of image-like
scale, 256 start states, several samplers and 5 to 20 evaluations; geometric means, as multiples of
the error with the choice.

    schedule     choice      best other grid,     best other grid,     worst grid
                             multisteps           all samplers
    VPLinear     power 3*    power 2*      1.21   power 2*      0.96   beta     11.0
    VPCosine     lam*        power 2*      0.81   beta_t        0.81   beta     8.6
    VPSigmoid    lam*        quadratic     0.80   polyexp 0.8   1.00   beta     9.8
    SubVP        power 2*    power 3*      0.93   sgm_uniform   0.91   beta     9.0
    DiscreteVP   lam*        power 3*      0.85   power 2*      0.91   beta     6.3
    VE           lam*        uniform       1.10   polyexp 0.8   0.98   beta     7.8
    EDM          lam*        polyexp 0.8   1.07   polyexp 0.8   0.97   uniform  8.4
    Flow         quadratic   beta_t        0.93   beta_t        1.03   beta     10.9
    Trig         quadratic   beta_t        0.92   beta_t        1.05   beta     15.4

    *: with drop_last

No grid is best for both: multistep samplers need other steps than Heun. ``drop_last`` matters most:
at few evaluations a node at t_min right before sigma = 0 is wasted.
"""

from __future__ import annotations

from ..base import Schedule

#: schedule class -> (grid name, its options)
AUTO: dict[str, tuple[str, dict[str, float]]] = {
    "VPLinear": ("power", {"power": 3.0, "drop_last": True}),
    "VPCosine": ("lam", {"drop_last": True}),
    "VPSigmoid": ("lam", {"drop_last": True}),
    "SubVP": ("power", {"power": 2.0, "drop_last": True}),
    "DiscreteVP": ("lam", {"drop_last": True}),
    "VE": ("lam", {"drop_last": True}),
    "EDM": ("lam", {"drop_last": True}),
    "Flow": ("quadratic", {}),
    "Trig": ("quadratic", {}),
}

#: for schedules of other classes
OTHERWISE: tuple[str, dict[str, float]] = ("lam", {"drop_last": True})


def auto_choice(schedule: Schedule) -> tuple[str, dict[str, float]]:
    """The grid name and options that ``"auto"`` stands for, by the nearest class of ``schedule`` in
    ``AUTO``."""
    return next((AUTO[c.__name__] for c in type(schedule).__mro__ if c.__name__ in AUTO), OTHERWISE)
