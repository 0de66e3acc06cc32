"""What a recipe is, and which model calls begin a step."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

from golden_cases import Case, same


class Recipe(NamedTuple):
    """A replay: registered name, options, and the numbers of the model calls that are grid nodes (a
    float is the node's rho itself)."""

    sampler: str
    options: dict[str, Any]
    where: tuple[int | float, ...]


class LeftOut(ValueError):
    """No sampler of ours does this; the message says which feature is missing."""


def each(case: Case, stages: int = 1) -> tuple[int, ...]:
    """Every call begins a step, or every ``stages``-th."""
    return tuple(range(0, len(case.calls), stages))


def fresh(case: Case) -> tuple[int, ...]:
    """Calls at a level where the call before was not."""
    return tuple(
        i
        for i, call in enumerate(case.calls)
        if i == 0 or not same(call.rho, case.calls[i - 1].rho, 1e-8)
    )


def runge_kutta_start(case: Case) -> tuple[int, ...]:
    """Three steps of four calls, then one a step."""
    return (0, 4, 8, *range(12, len(case.calls)))


def repeated_second(case: Case) -> tuple[int, ...]:
    """The second level is called twice, as the end of the first step and as the start of the
    second."""
    return (0, *range(2, len(case.calls)))


def blocks(case: Case, orders: tuple[int, ...]) -> tuple[int, ...]:
    """Steps of ``orders`` calls."""
    return tuple(accumulate((0, *orders[:-1])))


def churned(case: Case, sampler: str, options: dict[str, float]) -> Recipe:
    """Steps begin above their nodes, so the calls do not show these: they are Karras levels (arXiv
    2206.00364, eq. 5) from 80 to 0.002."""
    high, low = 80.0 ** (1 / 7), 0.002 ** (1 / 7)
    return Recipe(
        sampler,
        options,
        tuple((high + i / (case.steps - 1) * (low - high)) ** 7 for i in range(case.steps)),
    )


DATA_FORM = {1: "ddim", 2: "dpmpp_2m", 3: "dpmpp_3m_compat"}
NOISE_FORM = {1: "dpm_solver_1", 2: "dpm_solver_2m", 3: "dpm_solver_3m"}
SINGLE = {
    ("++", 2): "dpmpp_2s",
    ("", 2): "dpm_solver_2",
    ("++", 3): "dpmpp_3s",
    ("", 3): "dpm_solver_3",
}


def dpm_multistep(case: Case, form: str, order: int, lower: bool) -> Recipe:
    """DPM-Solver(++) multistep of any order."""
    name = (DATA_FORM if form else NOISE_FORM)[order]
    return Recipe(name, {} if order == 1 else {"lower_order_final": lower}, each(case))
