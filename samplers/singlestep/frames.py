"""Frames of Runge-Kutta steps on the probability-flow ODE.

A frame defines the integration variable, the nodes of the stages, and the transfer of a state along
slopes:

    RhoFrame      dy/drho = eps(alpha y),    y = x / alpha            Karras et al. 2022, arXiv
                                             2206.00364, eq. 4; DEIS rho-RK, arXiv 2204.13902
    TimeFrame     dx/dt = velocity(x, t)                              Lipman et al. 2022, arXiv
                                                                      2210.02747, eq. 3
    AngleFrame    dw/dphi = v / r,           w = x / r                Song et al. 2021, arXiv
                                             2011.13456, eq. 13; Salimans & Ho 2022, arXiv
                                             2202.00512, app. D
    LabelFrame    as RhoFrame, with stages at fractions of t          Liu et al. 2022, arXiv
                                                                      2202.09778, eqs. 11-12

with ``r = hypot(alpha, sigma)`` and ``phi = atan2(sigma, alpha)``. In the angle all quantities stay
finite at alpha = 0 (phi = pi/2) and sigma = 0.
"""

from __future__ import annotations

import math
from typing import Protocol

from ...plans.builder import Expression
from ...plans.instructions import PlanError
from ...schedules.grids.construction import Grid
from ...schedules.node import Node


class Frame(Protocol):
    """Protocol of frames: the nodes of stages and the transfer of the state in a step from s to
    t."""

    @property
    def kind(self) -> str:
        """Kind of prediction that the slope is computed from."""
        ...

    def stage(self, s: Node, t: Node, c: float) -> Node:
        """Node at fraction ``c`` of the step."""
        ...

    def reaches(self, s: Node, t: Node, c: float) -> bool:
        """True if the schedule has a node at fraction ``c`` of the step. A table has none between
        its first entry and sigma = 0."""
        ...

    def slope(self, m: Expression, node: Node) -> Expression:
        """Slope for the prediction ``m`` at ``node``."""
        ...

    def move(
        self, x: Expression, s: Node, t: Node, to: Node, c: float, slopes: Expression
    ) -> Expression:
        """State at ``to``, fraction ``c`` of the step. ``slopes`` is the tableau's weighted sum of
        slopes, in units of the whole step."""
        ...


class RhoFrame:
    """Steps of ``y = x / alpha`` in rho; the slope is eps."""

    kind = "eps"

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def stage(self, s: Node, t: Node, c: float) -> Node:
        """The node at ``rho_s + c (rho_t - rho_s)``."""
        return self.grid.at_rho(s.rho + c * (t.rho - s.rho))

    def reaches(self, s: Node, t: Node, c: float) -> bool:
        """See ``Frame``."""
        schedule = self.grid.schedule
        return s.rho + c * (t.rho - s.rho) >= schedule.node(schedule.t_low).rho

    def slope(self, m: Expression, node: Node) -> Expression:
        """Return eps unchanged."""
        return m

    def move(
        self, x: Expression, s: Node, t: Node, to: Node, c: float, slopes: Expression
    ) -> Expression:
        """``alpha_to (x / alpha_s + (rho_t - rho_s) slopes)``."""
        return (to.alpha / s.alpha) * x + (to.alpha * (t.rho - s.rho)) * slopes


class TimeFrame:
    """Steps of ``x`` in t; the slope is the velocity."""

    kind = "velocity"

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def stage(self, s: Node, t: Node, c: float) -> Node:
        """The node at ``t_s + c (t_t - t_s)``."""
        a, b = finite_time(s), finite_time(t)
        return self.grid.at_t(a + c * (b - a))

    def reaches(self, s: Node, t: Node, c: float) -> bool:
        """See ``Frame``."""
        a, b = finite_time(s), finite_time(t)
        return a + c * (b - a) >= self.grid.schedule.t_low

    def slope(self, m: Expression, node: Node) -> Expression:
        """Return the velocity unchanged."""
        return m

    def move(
        self, x: Expression, s: Node, t: Node, to: Node, c: float, slopes: Expression
    ) -> Expression:
        """``x + (t_t - t_s) slopes``."""
        return x + (finite_time(t) - finite_time(s)) * slopes


class AngleFrame:
    """Steps of ``w = x / r`` in the angle; the slope is ``v / r``."""

    kind = "v"

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def stage(self, s: Node, t: Node, c: float) -> Node:
        """The node at ``phi_s + c (phi_t - phi_s)``."""
        return at_angle(self.grid, angle(s) + c * (angle(t) - angle(s)))

    def reaches(self, s: Node, t: Node, c: float) -> bool:
        """See ``Frame``."""
        schedule = self.grid.schedule
        return angle(s) + c * (angle(t) - angle(s)) >= angle(schedule.node(schedule.t_low))

    def slope(self, m: Expression, node: Node) -> Expression:
        """``v / r``."""
        return m / radius(node)

    def move(
        self, x: Expression, s: Node, t: Node, to: Node, c: float, slopes: Expression
    ) -> Expression:
        """``r_to (x / r_s + (phi_t - phi_s) slopes)``."""
        return (x / radius(s) + slopes * (angle(t) - angle(s))) * radius(to)


class LabelFrame(RhoFrame):
    """Steps in rho with stages at fractions of the time. A stage moves the state to the rho of its
    node, along the mean slope."""

    def stage(self, s: Node, t: Node, c: float) -> Node:
        """The node at ``(1 - c) t_s + c t_t``."""
        return self.grid.at_t((1.0 - c) * finite_time(s) + c * finite_time(t))

    def move(
        self, x: Expression, s: Node, t: Node, to: Node, c: float, slopes: Expression
    ) -> Expression:
        """``alpha_to (x / alpha_s + (rho_to - rho_s) slopes / c)``."""
        return (to.alpha / s.alpha) * x + (to.alpha * (to.rho - s.rho)) * (slopes / c)


def finite_time(node: Node) -> float:
    """The time of ``node``. Raises PlanError if it has none or an infinite one."""
    if node.t is None or math.isinf(node.t):
        raise PlanError(f"{node} has no finite time; a step in t needs one")
    return node.t


def angle(node: Node) -> float:
    """Angle of a node, ``phi = atan2(sigma, alpha)``."""
    return math.atan2(node.sigma, node.alpha)


def radius(node: Node) -> float:
    """Radius of a node, ``r = hypot(alpha, sigma)``."""
    return math.hypot(node.alpha, node.sigma)


def at_angle(grid: Grid, phi: float) -> Node:
    """Node at angle ``phi`` in (0, pi/2)."""
    return grid.at_rho(math.tan(phi))
