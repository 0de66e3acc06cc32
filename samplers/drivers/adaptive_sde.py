"""Adaptive steps for the reverse SDE along one Brownian path.

In ``y = x / alpha`` and lam the reverse SDE of strength tau (Xue et al. 2023, arXiv 2309.05019, eq.
8) is, with g = sqrt(2) tau rho,

    dy = f dlam + g dW,   f = -(1 + tau^2)(y - D)

Its noise is additive, so schemes that use the space-time area H of the path have strong order 3/2.
A step of length h from s to t:

    shark   k1 = f(s, y + g_s H)    k2 = f(s + 5h/6, y + 5h/6 k1 + g_s (5/6 W + H))
            weights 2/5, 3/5
    sra1    k1 = f(s, y)            k2 = f(s + 3h/4, y + 3h/4 k1 + g_s (3/4 W + 3/2 H))
            weights 1/3, 2/3

    y_t = y + h (b1 k1 + b2 k2) + g_s W + (g_t - g_s)(W/2 - H),   error = h b2 (k2 - k1)

(Foster, dos Reis & Strange 2023, arXiv 2210.17543, eq. 6.1; Roessler 2010, SIAM J. Numer. Anal. 48,
p. 922). The path is a function of its seed and the interval only. After a rejection the driver
requests a shorter interval of the same path, so rejections do not bias the law, and runs with
different tolerances follow the same path. Errors are measured in x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ...checks import choice, flag, number
from ...plans.builder import Expression, PlanBuilder
from ...plans.instructions import PlanError
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register
from .driver import Drive, Driven, Fragment, Raws, StepSizeError, fragment
from .end_points import end_of, from_zero_signal, to_zero
from .single_samples import by_sample
from .step_control import PI, rms, scale


class Scheme(NamedTuple):
    """Coefficients of a scheme: ``c`` of the second stage, its factors of W and H, the factor of H
    in the first stage, and the weights."""

    c: float
    w: float
    h: float
    first_h: float
    b1: float
    b2: float


SCHEMES = {
    "shark": Scheme(5 / 6, 5 / 6, 1.0, 1.0, 2 / 5, 3 / 5),
    "sra1": Scheme(3 / 4, 3 / 4, 3 / 2, 0.0, 1 / 3, 2 / 3),
}


@dataclass(frozen=True)
class AdaptiveSDE(Driven):
    """Options of ``adaptive_sde``.

    ``tau``: diffusion strength, 1 for the reversed forward SDE; ``scheme``: shark or sra1;
    ``rtol``, ``atol``: tolerances; ``h0``: first step in lam; ``per_sample``: each sample has its
    own steps.
    """

    tau: float = 1.0
    scheme: str = "shark"
    rtol: float = 0.02
    atol: float = 0.01
    h0: float = 0.05
    per_sample: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("scheme", self.scheme, tuple(SCHEMES))
        flag("per_sample", self.per_sample)
        for name, low, high in (
            ("tau", 1e-6, 10.0),
            ("rtol", 1e-10, 1.0),
            ("atol", 1e-10, 10.0),
            ("h0", 1e-6, 10.0),
        ):
            number(name, getattr(self, name), low, high)


def stochastic_step(grid: Grid, s: Node, t: Node, options: AdaptiveSDE) -> Fragment:
    """One step as a fragment that keeps the error in x. Its draws are ``W / sqrt(h)`` and
    ``H sqrt(12 / h)``, both unit normal."""
    scheme = SCHEMES[options.scheme]
    b = PlanBuilder((s, t), "asymptotic")
    x, h, kappa, size = (
        b.start(s),
        t.lam - s.lam,
        1.0 + options.tau**2,
        math.sqrt(2.0) * options.tau,
    )
    w, area = math.sqrt(h) * b.noise(s, t), math.sqrt(h / 12.0) * b.noise(s, t)
    y, g = x / s.alpha, size * s.rho

    def slope(state: Expression, node: Node) -> Expression:
        return (b.evaluate(state, node, "x0") - state / node.alpha) * kappa

    first = b.at(s, (y + scheme.first_h * g * area) * s.alpha) if scheme.first_h else x
    k1 = slope(first, s)
    node = grid.at_lam(s.lam + scheme.c * h)
    k2 = slope(
        b.at(node, (y + scheme.c * h * k1 + g * (scheme.w * w + scheme.h * area)) * node.alpha),
        node,
    )
    rise = size * t.rho - g
    end = b.at(
        t, (y + h * (scheme.b1 * k1 + scheme.b2 * k2) + g * w + rise * (0.5 * w - area)) * t.alpha
    )
    return fragment(b, end, b.value(h * scheme.b2 * t.alpha * (k2 - k1)))


def integrate(drive: Drive, grid: Grid, options: AdaptiveSDE) -> Tensor:
    """Integrate from the grid's first node to its end."""
    path = drive.path
    if path is None:
        raise PlanError("adaptive_sde follows a Brownian path: seeds must be given")
    from_zero_signal(drive, grid)
    end, control, h = end_of(grid), PI(1.5, integral=0.4, proportional=0.1, high=5.0), options.h0
    known: Raws | None = None
    while drive.node != end:
        s = drive.node
        left = end.lam - s.lam
        if h <= 1e-10:
            raise StepSizeError(drive.x, s.t, drive.nfe)
        t = end if left - h <= 1e-6 else grid.at_lam(s.lam + h)
        length = t.lam - s.lam
        w, area = path(s.lam, t.lam, drive.x)
        units = (w / math.sqrt(length), area * math.sqrt(12.0 / length))
        ran = drive.run(stochastic_step(grid, s, t, options), known=known, noise=units)
        (error,) = ran.kept
        fits, factor = control.next(
            drive.read(rms(error / scale(drive.x, ran.x, options.atol, options.rtol)))
        )
        h = factor * min(h, left)
        known = None
        if fits:
            drive.accept(ran.x, t, ran.first)
        else:
            drive.rejected += 1
            known = ran.first if options.scheme == "sra1" else None
    return to_zero(drive, grid)


@register(
    "adaptive_sde",
    order=1.5,
    source="Foster, dos Reis & Strange 2023, arXiv 2210.17543, eq. 6.1; Jelincic et al. 2024, "
    "arXiv 2405.06464",
    tau=lambda o: o.tau,
    form="driver",
    free=True,
    brownian=True,
    variants=({"scheme": "sra1"}, {"tau": 0.5}, {"per_sample": True}),
)
def adaptive_sde(drive: Drive, grid: Grid, options: AdaptiveSDE) -> Tensor:
    """The reverse SDE with adaptive steps along a Brownian path that does not depend on
    rejections."""
    if options.per_sample:
        return by_sample(drive, lambda one: integrate(one, grid, options))
    return integrate(drive, grid, options)
