"""End points of drivers that pick their own nodes: the step from alpha = 0, the last level, and the
step to sigma = 0."""

from __future__ import annotations

from torch import Tensor

from ...plans.builder import PlanBuilder
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from .driver import Drive, Raws, fragment


def end_of(grid: Grid) -> Node:
    """Node where a driver that picks its own nodes stops: the grid's end, or the last level before
    sigma = 0.

    That level is the grid's node before its end or the schedule's ``t_min``, whichever has less
    noise (``lam_end`` if t_min itself is sigma = 0).
    """
    if grid[-1].sigma > 0.0:
        return grid[-1]
    schedule = grid.schedule
    last = schedule.node(schedule.t_min)
    if last.sigma == 0.0:
        last = schedule.node_at_lam(schedule.lam_end)
    return min((last, grid[-2]), key=lambda node: node.rho) if len(grid) > 2 else last


def to_zero(drive: Drive, grid: Grid, known: Raws | None = None) -> Tensor:
    """Make the last step of a grid that ends at sigma = 0 from the accepted state: one evaluation,
    ``x = alpha D``."""
    end = grid[-1]
    if end.sigma > 0.0:
        return drive.x
    b = PlanBuilder((drive.node, end), "exact")
    x = b.start(drive.node)
    ran = drive.run(
        fragment(b, b.at(end, end.alpha * b.evaluate(x, drive.node, "x0"))), known=known
    )
    drive.accept(ran.x, end, ran.first)
    return drive.x


def from_zero_signal(drive: Drive, grid: Grid) -> None:
    """Step from alpha = 0, where lam and rho are infinite, to the schedule's ``lam_start`` by one
    x0-kind step."""
    start = grid[0]
    if start.alpha > 0.0:
        return
    first = grid.schedule.node_at_lam(grid.schedule.lam_start)
    b = PlanBuilder((start, first), "exact")
    ran = drive.run(fragment(b, b.prologue(start, first)))
    drive.accept(ran.x, first, ran.first)
