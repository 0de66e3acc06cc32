"""Certificates of drivers, which have no fixed plan and hence no order in steps.

Adaptive drivers: slope of the error against the tolerance, on the exact mixture (probability flow)
or on Gaussian data along one Brownian path (SDE). Picard and predictor-corrector: largest
difference from the plan that they reduce to (tol = 0; no corrector); DPM-Solver-v3 for each
coordinate: from the plan of one number. Denoising MCMC: variance of its chain at one level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...checks import unknown
from ...engine import sample
from ...models import GaussianMixture
from ...samplers import SamplerError
from ...samplers.drivers.end_points import end_of
from ...schedules import VPLinear
from ...schedules.grids.construction import Grid, grid
from .gaussian import MEAN, STD
from .problem import exact_states, mixture, smooth_grid
from .slopes import slope
from .strong import exact_end

SEEDS = tuple(range(16))


@dataclass(frozen=True)
class DriverCertificate:
    """A measured quantity of a driver and its allowed range.

    Attributes:
        name: of the driver.
        quantity: description of the measured quantity.
        found: its value.
        wanted: smallest and largest allowed value.
        errors: (tolerance, error) pairs, for adaptive drivers.
    """

    name: str
    quantity: str
    found: float
    wanted: tuple[float, float]
    errors: tuple[tuple[float, float], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the value lies in the allowed range."""
        return self.wanted[0] <= self.found <= self.wanted[1]


def certify_driver(name: str) -> DriverCertificate:
    """Measure the driver ``name``. SamplerError for a driver without a certificate."""
    if name not in MEASURES:
        raise SamplerError(unknown("driver with a certificate", name, MEASURES))
    return MEASURES[name](name)


def _against_tolerance(
    name: str, error: Callable[[float], float], tolerances: tuple[float, ...], low: float
) -> DriverCertificate:
    errors = tuple((tol, error(tol)) for tol in tolerances)
    return DriverCertificate(
        name, "slope of error against tolerance", -slope(errors), (low, 1.3), errors
    )


def _flow(name: str) -> DriverCertificate:
    """Adaptive ODE drivers on the whole VP path; steps have order 5 or 8 (DPM-Solver-23: order 3,
    with the error estimate of order 2)."""
    schedule = VPLinear()
    start, end = schedule.node(schedule.t_max), end_of(grid("lam", schedule, 3))
    path = Grid.from_nodes([start, end], schedule)

    def error(tol: float) -> float:
        out = sample(
            mixture(schedule, "v"), name, grid=path, x=exact_states(start), rtol=tol, atol=tol
        )
        return float((out - exact_states(end)).abs().max())

    loose = name == "dpm_adaptive"
    tolerances = (
        (1e-2, 1e-3, 1e-4, 1e-5, 1e-6) if loose else (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
    )
    return _against_tolerance(name, error, tolerances, 0.7 if loose else 0.85)


def _path(name: str) -> DriverCertificate:
    """Adaptive SDE driver: RMS error against the exact strong solution, tau = 1."""
    schedule = VPLinear()
    inner = smooth_grid(schedule, 2)
    start, end = inner[0], inner[-1]
    z = torch.randn(len(SEEDS), 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = start.alpha * MEAN + math.hypot(start.alpha * STD, start.sigma) * z
    ones = torch.ones(1, 64, dtype=torch.float64)
    model = GaussianMixture(MEAN * ones, STD, torch.ones(1), schedule)
    exact = exact_end(start, end, x, SEEDS, 1.0)

    def error(tol: float) -> float:
        out = sample(
            model,
            name,
            grid=Grid.from_nodes([start, end], schedule),
            x=x,
            seeds=SEEDS,
            rtol=tol,
            atol=tol,
        )
        return float((out - exact).square().mean().sqrt())

    return _against_tolerance(name, error, (0.3, 0.1, 0.03, 0.01), 0.7)


def _as_plan(name: str) -> DriverCertificate:
    """Difference of ``picard`` with tol = 0, of ``sada`` without skips, or of ``pc`` without a
    corrector, from the equal plan."""
    model = mixture(VPLinear(), "v")
    if name in ("picard", "sada"):
        none = {"tol": 0.0} if name == "picard" else {"most": 0}
        ours = sample(model, name, method="dpmpp_2m", steps=12, n=8, dtype=torch.float64, **none)
        plan = sample(model, "dpmpp_2m", steps=12, n=8, dtype=torch.float64)
    else:
        ours = sample(
            model,
            "pc",
            predictor="euler_maruyama",
            corrector="none",
            steps=12,
            n=8,
            dtype=torch.float64,
        )
        plan = sample(model, "euler_maruyama", steps=12, n=8, dtype=torch.float64)
    return DriverCertificate(
        name, "difference from its plan", float((ours - plan).abs().max()), (0.0, 1e-12)
    )


def _as_one_number(name: str) -> DriverCertificate:
    """Difference of DPM-Solver-v3 for each coordinate, with constants and a corrector, from the
    plan of ``dpm_solver_v3``."""
    ours, plan = (
        sample(
            mixture(VPLinear(), "v"),
            each,
            l=0.5,
            s=-0.3,
            corrector="equal",
            steps=12,
            n=8,
            dtype=torch.float64,
        )
        for each in (name, "dpm_solver_v3")
    )
    return DriverCertificate(
        name, "difference from its plan", float((ours - plan).abs().max()), (0.0, 1e-12)
    )


def _chain(name: str) -> DriverCertificate:
    """Variance of Langevin steps at one level of Gaussian data over its closed form
    ``v / (1 - eta rho^2 / (4 v))``, mapped by the linear last step."""
    ones, rho, eta = torch.ones(1, 64, dtype=torch.float64), 0.5, 0.4
    model = GaussianMixture(MEAN * ones, STD, torch.ones(1), VPLinear())
    out = sample(
        model,
        name,
        steps=1,
        n=256,
        levels=1,
        high=rho,
        jump=rho,
        eta=eta,
        burn_in=40,
        sweeps=1,
        finish="ddim",
        finish_steps=1,
    )
    v = STD**2 + rho**2
    wanted = (STD**2 / v) ** 2 * v / (1.0 - eta * rho**2 / (4.0 * v))
    found = float((out.double() - MEAN).square().mean()) / wanted
    return DriverCertificate(
        name, "variance of the chain over its closed form", found, (0.965, 1.035)
    )


MEASURES: dict[str, Callable[[str], DriverCertificate]] = {
    "ode45": _flow,
    "ode853": _flow,
    "dpm_adaptive": _flow,
    "adaptive_sde": _path,
    "dpm_solver_v3_elementwise": _as_one_number,
    "picard": _as_plan,
    "sada": _as_plan,
    "pc": _as_plan,
    "dmcmc": _chain,
}
