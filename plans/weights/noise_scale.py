"""Weights of the extended reverse-time SDE, whose noise strength is a function of the
noise-to-signal ratio (Cui et al. 2023, arXiv 2309.06169).

With a noise scale ``Phi(rho) = rho G(rho)``, G non-decreasing, a step from s to t on x0
predictions is

    x_t = carry x_s + sum_j values_j D_j + noise z,
    carry = (sigma_t / sigma_s) G_t / G_s,    noise = sigma_t sqrt(1 - (G_t / G_s)^2),
    values_j = alpha_t Phi_t int_{rho_t}^{rho_s} l_j(rho) d(-1 / Phi)

with l_j the Lagrange basis in rho. It is the SDE of ``exponential`` with
``1 + tau^2 = d log Phi / d log rho``; Phi = rho^p has the constant ``tau^2 = p - 1``: rho is the
probability-flow ODE, rho^2 the reversed forward SDE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...checks import ArgumentError
from ...schedules.node import Node
from .exponential import Basis, Weights
from .node_distances import lam_gap
from .phi import kernel_means

#: e^-45 of the kernel's peak is below rounding
_WINDOW = 45.0


@dataclass(frozen=True, slots=True)
class NoiseScale:
    """``Phi(rho) = rho G(rho)`` by ``log_g = log G`` and
    ``excess = d log G / d log rho = tau^2 >= 0``, on numbers and on float64 arrays; ``noisy`` is
    False for G = 1, the ODE."""

    log_g: Callable[[Any], Any]
    excess: Callable[[Any], Any]
    noisy: bool = True


def power(p: float) -> NoiseScale:
    """``Phi = rho^p``, p >= 1."""
    if not 1.0 <= p < math.inf:
        raise ArgumentError(
            f"p={p!r}: allowed 1 <= p < inf, otherwise the step would have to remove noise"
        )
    return NoiseScale(
        lambda rho: (p - 1.0) * np.log(rho), lambda rho: np.full_like(rho, p - 1.0), p > 1.0
    )


#: above this rho the slope of ``rho^0.9 log10(1 + 100 rho^1.5)`` would fall below that of rho: G
#: stays as it is there
_LOG_TOP = 1021.0


def _log_g_log(rho: Any) -> Any:
    low = np.minimum(rho, _LOG_TOP)
    return np.log(np.log1p(100.0 * low**1.5)) - 0.1 * np.log(low)


def _excess_log(rho: Any) -> Any:
    u = 100.0 * np.minimum(rho, _LOG_TOP) ** 1.5
    return np.where(rho < _LOG_TOP, 1.5 * u / ((1.0 + u) * np.log1p(u)) - 0.1, 0.0)


def _excess_exp(rho: Any) -> Any:
    q = rho**0.3
    return 0.3 * q / (1.0 + 10.0 * np.exp(-q))


#: the published noise scales, by the names of the authors' code
NOISE_SCALES: dict[str, NoiseScale] = {
    "ode": NoiseScale(np.zeros_like, np.zeros_like, noisy=False),
    "sde": power(2.0),
    "sde_1": NoiseScale(
        lambda rho: np.log(np.exp(-1.0 / rho) + 10.0),
        lambda rho: np.exp(-1.0 / rho) / rho / (np.exp(-1.0 / rho) + 10.0),
    ),
    "sde_2": power(1.5),
    "sde_3": power(2.5),
    "sde_4": NoiseScale(_log_g_log, _excess_log),
    "sde_5": NoiseScale(lambda rho: np.logaddexp(rho**0.3, math.log(10.0)), _excess_exp),
}


def noise_scale_weights(s: Node, t: Node, nodes: Sequence[Node], scale: NoiseScale) -> Weights:
    """Weights of the step from s (0 < rho < inf) to t, toward data, for x0 predictions made at
    ``nodes`` (1 to 6, finite rho).

    At sigma_t = 0 all the weight is on the first node. ValueError for a step toward noise, from
    alpha = 0 or from sigma = 0.
    """
    h = lam_gap(s, t)
    if not h > 0.0 or s.alpha == 0.0:
        raise ArgumentError(
            "a step of the extended SDE leads from finite rho toward data, got "
            f"rho={s.rho!r} to {t.rho!r}"
        )
    if t.sigma == 0.0:
        return Weights(0.0, (t.alpha, *(0.0,) * (len(nodes) - 1)), 0.0)
    log_g = scale.log_g(np.float64(t.rho))
    gain = float(log_g - scale.log_g(np.float64(s.rho)))
    carry, total = t.sigma / s.sigma * math.exp(gain), -t.alpha * math.expm1(gain - h)
    noise = t.sigma * math.sqrt(-math.expm1(2.0 * gain)) if gain < 0.0 else 0.0
    if len(nodes) == 1:
        return Weights(carry, (total,), noise)
    basis = Basis.of(s, t, nodes, "rho")

    def values(y: Any) -> Any:
        rho = t.rho * np.exp(y)
        density = np.exp(log_g - scale.log_g(rho)) * (1.0 + scale.excess(rho))
        return basis.at(s.rho * np.expm1(y - h) / basis.step) * density

    return Weights(
        carry,
        tuple(float(total * share) for share in kernel_means(values, 1.0, min(h, _WINDOW))),
        noise,
    )
