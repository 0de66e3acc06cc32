"""Grid ``"auto"``: one choice per schedule, measured by ``benchmarks/grid_choice.py`` (whole tables in ``docs/grids.md``).

Error of the end point against the exact probability-flow ODE, on three mixtures of image-like scale, several samplers and 5 to 20
evaluations; geometric means, as multiples of the error with the choice. The least, or uniform lam where it is within 6 % of that.

    schedule     choice                  best other grid                 worst
    VPLinear     power 3, drop_last      power 2, drop_last      1.08    beta      14.4
    VPCosine     lam, drop_last          beta_t                  0.96    beta      11.3
    VPSigmoid    lam, drop_last          polyexponential 0.8     1.00    beta      11.3
    SubVP        power 2, drop_last      sgm_uniform             1.02    beta      10.8
    DiscreteVP   lam, drop_last          power 3, drop_last      0.95    beta      8.4
    VE           lam, drop_last          karras 7, drop_last     1.11    beta      10.4
    EDM          lam, drop_last          polyexponential 0.8     0.95    uniform   10.4
    Flow         quadratic               beta_t                  1.14    beta      22.1
    Trig         quadratic               beta_t                  1.09    beta      26.8

Where the best other grid is below 1 the choice is not settled: 16 start states cannot tell, and other ones favoured that grid.
``drop_last`` matters most: at few evaluations a node at t_min right before sigma = 0 is a wasted one. Uniform lam with it is the choice
for tables although power 3 is a little better on the linear ones, because on cosine-like paths power 3 is much worse.
"""

from __future__ import annotations

from .base import Schedule

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
    """The grid name and options that ``"auto"`` stands for, by the nearest class of ``schedule`` in ``AUTO``."""
    return next((AUTO[c.__name__] for c in type(schedule).__mro__ if c.__name__ in AUTO), OTHERWISE)
