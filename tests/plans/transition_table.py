"""Transition densities of every sampler against the joint normal law of its states on Gaussian
data; and the table of docs/transitions.md.

    python tests/plans/transition_table.py

writes the table anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from repository import ROOT

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans import Plan
from fewstep.plans.instructions import Combine, Evaluate
from fewstep.samplers import get, names
from fewstep.schedules import Flow, Schedule, VPLinear

PAGE = ROOT / "docs" / "transitions.md"
BEGIN, END = (
    "<!-- table of tests/plans/transition_table.py -->",
    "<!-- end of the table -->",
)
STEPS = 6
MEANS, STDS = (0.7, -0.4), (0.5, 0.3)
PATHS: dict[str, Schedule] = {"vp": VPLinear(), "flow": Flow()}


class Case(NamedTuple):
    """A sampler with options under which it draws noise."""

    name: str
    options: Mapping[str, Any]

    @property
    def path(self) -> Schedule:
        return PATHS[get(self.name).on[0]]

    @property
    def plan(self) -> Plan:
        return fewstep.plan(self.name, self.path, grid="lam", steps=STEPS, **self.options)

    @property
    def label(self) -> str:
        return self.name + "".join(f" {key}={value!r}" for key, value in self.options.items())


def cases() -> tuple[Case, ...]:
    """Every sampler with its defaults and its variants, where that draws noise."""
    every = (Case(name, options) for name in names("plan") for options in ({}, *get(name).variants))
    return tuple(case for case in every if case.plan.stochastic)


#: every sampler and variant that draws noise
CASES = cases()


class Channels(GaussianMixture):
    """The exact model with channels that all read the same."""

    channels = ("main", "cond", "uncond")

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        assert channel in self.channels
        return super().coefficients(t)


def model(path: Schedule, prediction: str = "v") -> GaussianMixture:
    means, stds = (torch.tensor([row], dtype=torch.float64) for row in (MEANS, STDS))
    return Channels(means, stds, [1.0], path, prediction)


def prediction(kind: str, alpha: float, sigma: float, node: Any, m: float, s: float) -> Any:
    """(gain, offset) of the exact prediction on N(m, s^2), from x0 = m + K (x - alpha m)."""
    gain = alpha * s * s / (alpha * alpha * s * s + sigma * sigma)
    data = np.array([gain, m * (1.0 - alpha * gain)])
    noise = np.array([sigma, -sigma * alpha * m]) / (alpha * alpha * s * s + sigma * sigma)
    return {
        "x0": lambda: data,
        "eps": lambda: noise,
        "score": lambda: -noise / sigma,
        "v": lambda: alpha * noise - sigma * data,
        "velocity": lambda: node.dalpha * data + node.dsigma * noise,
    }[kind]()


def joint_law(plan: Plan, m: float, s: float) -> np.ndarray:
    """Rows of x_0, ..., x_nfe over (1, x_0, z_0, z_1, ...) for data N(m, s^2): every prediction is
    affine in its state, so every state is affine in the start and the noises."""
    width = 2 + len(plan.draws)
    unit = np.eye(width)
    values, states = {0: unit[1]}, []
    for i in plan.code:
        if isinstance(i, Combine):
            row = np.zeros(width)
            for value, c in i.terms:
                row = row + c * values[value]
            for key, c in i.noise:
                row = row + c * unit[2 + key]
            values[i.out] = row
        elif isinstance(i, Evaluate):
            states.append(values[i.state])
            for value, kind, _ in i.outs:
                gain, offset = prediction(kind, i.node.alpha, i.node.sigma, i.node, m, s)
                values[value] = gain * values[i.state] + offset * unit[0]
    rows = np.array([*states, values[plan.result]])
    first = rows[0].copy()  # start = (x_0 - the rest) / factor
    factor, first[1] = first[1], 0.0
    scale = rows[:, 1] / factor
    rows = rows - np.outer(scale, first)
    rows[:, 1] = scale
    return rows


def densities(plan: Plan, x: np.ndarray, m: float, s: float) -> np.ndarray:
    """``log p(x_{k+1} | x_0, ..., x_k)`` (K, B) of the states ``x`` (nfe + 1, B) that are not
    determined by the states before, by the Cholesky factor of their joint covariance."""
    rows = joint_law(plan, m, s)
    mean = rows[:, :1] + rows[:, 1:2] * x[0]
    noisy: list[int] = []
    for k in range(1, len(rows)):
        known = rows[noisy, 2:]
        row = rows[k, 2:]
        rest = row - (np.linalg.lstsq(known.T, row, rcond=None)[0] @ known if noisy else 0.0)
        if np.linalg.norm(rest) > 1e-9 * max(1.0, float(np.linalg.norm(row))):
            noisy.append(k)
    lower = np.linalg.qr(rows[noisy, 2:].T)[1].T
    xi = np.linalg.solve(lower, (x - mean)[noisy])
    stds = np.abs(np.diag(lower))[:, None]
    return -0.5 * xi**2 - np.log(stds) - 0.5 * math.log(2.0 * math.pi)


def distance_of(plan: Plan, path: Schedule, states: torch.Tensor) -> tuple[float, int]:
    """The largest difference of the log-densities at ``states`` from the closed form, relative to
    1 + |log p|, and the number of noisy steps."""
    found = fewstep.transition_log_prob(plan, model(path), states).numpy()
    wanted = sum(
        densities(plan, states[:, :, j].numpy(), MEANS[j], STDS[j]) for j in range(len(MEANS))
    )
    assert found.shape == np.shape(wanted)
    return float((np.abs(found - wanted) / (1.0 + np.abs(wanted))).max()), len(found)


def distance(plan: Plan, path: Schedule) -> tuple[float, int]:
    """``distance_of`` the states of a run."""
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return distance_of(plan, path, recorded(plan, model(path), plan.start.sigma * x, range(3)))


def error(case: Case) -> tuple[float, int]:
    """``distance`` for a case."""
    return distance(case.plan, case.path)


def recorded(plan: Plan, denoiser: Any, x: torch.Tensor, seeds: Any) -> torch.Tensor:
    """The states of a run, by the loop's own callback."""
    states: list[torch.Tensor] = []

    def keep(step: Any) -> None:
        states.extend((step.x,) if step.index == 0 else ())
        states.append(step.x_next)

    fewstep.run(plan, denoiser, x, seeds=seeds, on_step=keep)
    return torch.stack(states)


def _row(case: Case) -> str:
    plan, found = case.plan, case.plan.transitions
    options = ", ".join(f"`{key}={value!r}`" for key, value in case.options.items())
    cells = (
        f"`{case.name}`",
        options,
        f"{len(found)} of {plan.nfe}",
        str(max(t.depth for t in found)),
        str(max(t.memory for t in found)),
        "yes" if any(t.shared for t in found) else "",
    )
    return "| " + " | ".join(cells) + " |"


def text() -> str:
    """The text between the marks of docs/transitions.md."""
    served = {case.name for case in CASES}
    others = [name for name in names("plan") if name not in served]
    return "\n".join(
        [
            BEGIN,
            "",
            f"{len(served)} samplers. The numbers are those of {STEPS} grid steps to sigma = 0: "
            "noisy steps of all network calls, the states and the predictions that a mean reads "
            "(1: the last), and whether a later step reads a noise again.",
            "",
            "| sampler | options | noisy steps | states | predictions | noise read again |",
            "|---|---|---|---|---|---|",
            *map(_row, CASES),
            "",
            "These samplers draw no noise, with no options that are tested, so their states have "
            f"no density: {', '.join(f'`{name}`' for name in others)}.",
            "",
            "These are drivers, whose steps depend on the data, so there is no plan to rate by: "
            f"{', '.join(f'`{name}`' for name in names('driver'))}.",
            "",
            END,
        ]
    )


def written() -> str:
    """The table that docs/transitions.md holds."""
    page = PAGE.read_text(encoding="utf-8")
    return page[page.index(BEGIN) : page.index(END) + len(END)]


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").replace(written(), text()), encoding="utf-8")
