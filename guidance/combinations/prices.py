"""Prices of call options and the volatility of a noising path, for concept blending."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...checks import choice
from ...schedules.base import Schedule
from ...schedules.discrete import DiscreteVP

#: weights w(d) of the two terms
PRICINGS = ("phi", "code")
#: steps of a path in continuous time that the volatility counts, as many as a usual table has
STEPS = 1000


def call_price(
    spot: Tensor, strike: float, rate: float, volatility: float, tau: float, pricing: str = "phi"
) -> Tensor:
    """Return the price of a call option (Black & Scholes 1973, J. Political Economy 81, eq. 13).

        S w(d1) - K e^(-R tau) w(d2)
        d1 = (log(S / K) + (R + vol^2 / 2) tau) / (vol sqrt(tau)),    d2 = d1 - vol sqrt(tau)

    ``pricing``: "phi", w is the distribution function of N(0, 1), as in the formula; "code", w =
    exp(-d^2 / 2), as in the code of Kothandaraman et al. 2024 (arXiv 2405.13685). ``spot`` S > 0 of
    any shape, ``strike`` K > 0, ``volatility`` and ``tau`` > 0.
    """
    choice("pricing", pricing, PRICINGS)
    root = volatility * math.sqrt(tau)
    d1 = (torch.log(spot / strike) + (rate + 0.5 * volatility**2) * tau) / root
    first, second = (_weight(d, pricing) for d in (d1, d1 - root))
    return spot * first - strike * math.exp(-rate * tau) * second


def _weight(d: Tensor, pricing: str) -> Tensor:
    return torch.special.ndtr(d) if pricing == "phi" else torch.exp(-0.5 * d * d)


def path_volatility(schedule: Schedule, t: float) -> float:
    """Return the standard deviation of one ancestral step from t + h to t (Ho et al. 2020, arXiv
    2006.11239, eq. 7).

        vol^2 = (1 - b_t) / (1 - b_s) (1 - b_s / b_t),    s = t + h,  b = alpha^2 / (alpha^2 +
        sigma^2)

    h = 1 for a table of times (``DiscreteVP``), else (t_max - t_min) / 1000. b depends on the noise
    level rho only, so that the volatility does not depend on the scale of the path. Next to t_max
    the step ends there.
    """
    h = 1.0 if isinstance(schedule, DiscreteVP) else (schedule.t_max - schedule.t_min) / STEPS
    s = min(t + h, schedule.t_max)
    own, noisier = (_signal(schedule, v) for v in (s - h if s < t + h else t, s))
    return math.sqrt((1.0 - own) / (1.0 - noisier) * (1.0 - noisier / own))


def _signal(schedule: Schedule, t: float) -> float:
    """``alpha^2 / (alpha^2 + sigma^2)`` at ``t``."""
    node = schedule.node(t)
    return node.alpha**2 / (node.alpha**2 + node.sigma**2)
