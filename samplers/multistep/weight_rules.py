"""Rules that compute the weights of a multistep method.

A rule is given the step and the nodes of the predictions (``recurrence.Rule``) and returns one
weight per prediction:

    Interpolation    exact kernel on a polynomial in lam, rho, t or the angle
    ExtendedSDE      the same in rho, for a diffusion that depends on the noise level
    UniformAdams     Adams-Bashforth weights of uniform grids in rho
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...plans.weights.exponential import Map, adams, weights
from ...plans.weights.lagrange import Weights
from ...plans.weights.noise_scale import NoiseScale, noise_scale_weights
from ...schedules.node import Node

#: ``correction`` -> the second moment of ``plans.weights.exponential``
MOMENTS = {"exact": None, "midpoint": "half", "bh1": "bh1", "linear": "linear"}


@dataclass(frozen=True)
class Interpolation:
    """Exponential-Lagrange weights: the polynomial through the predictions, integrated against the
    exact kernel (``plans.weights.exponential``).

    Attributes:
        kind: kind of prediction that is interpolated: x0, eps, v or velocity.
        variable: interpolation variable: lam, rho, t or angle.
        tau: diffusion strength over the step, 0 for the ODE.
        correction: second moment of two nodes: ``exact``, or a replacement, ``midpoint``
            (mu_0 / 2), ``bh1`` or ``linear`` (``plans.weights.exponential``).
        t_of_lam: the schedule's map from lam to t; required for ``variable="t"``.
    """

    kind: str = "x0"
    variable: str = "lam"
    tau: float = 0.0
    correction: str = "exact"
    t_of_lam: Map | None = None

    @property
    def noisy(self) -> bool:
        """True if tau > 0."""
        return self.tau > 0.0

    def weights(self, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """See ``recurrence.Rule``."""
        return weights(
            s,
            t,
            nodes,
            self.kind,
            variable=self.variable,
            tau=self.tau,
            t_of_lam=self.t_of_lam,
            moment=MOMENTS[self.correction] if len(nodes) == 2 else None,
        )


@dataclass(frozen=True)
class ExtendedSDE:
    """Weights on x0 predictions for the extended reverse SDE of a noise scale
    (``plans.weights.noise_scale``)."""

    scale: NoiseScale
    kind: str = "x0"

    @property
    def noisy(self) -> bool:
        """True if the noise scale is that of an SDE."""
        return self.scale.noisy

    def weights(self, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """See ``recurrence.Rule``."""
        return noise_scale_weights(s, t, nodes, self.scale)


@dataclass(frozen=True)
class Transfer:
    """Base of rules with exact transfer along a combined slope,
    ``x_t = alpha_t (x / alpha_s + (rho_t - rho_s) e)``.

    ``e`` is a combination of past noise predictions; subclasses define its ``coefficients``.
    """

    kind = "eps"
    noisy = False

    def coefficients(self, s: Node, t: Node, nodes: Sequence[Node]) -> Sequence[float]:
        """Coefficients of the combination, newest first."""
        raise NotImplementedError

    def weights(self, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """See ``recurrence.Rule``."""
        length = t.alpha * (t.rho - s.rho)
        values = tuple(c * length for c in self.coefficients(s, t, nodes))
        return Weights(t.alpha / s.alpha, values, 0.0)


@dataclass(frozen=True)
class UniformAdams(Transfer):
    """Adams-Bashforth coefficients of uniform grids, used for steps of any length."""

    def coefficients(self, s: Node, t: Node, nodes: Sequence[Node]) -> Sequence[float]:
        """Coefficients (1,), (3/2, -1/2), (23/12, -16/12, 5/12), ..."""
        return adams(len(nodes))
