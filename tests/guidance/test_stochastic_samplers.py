"""Weights hold for every stochastic sampler: the evidence of small populations is unbiased, with and
without a proposal, whatever the sampler keeps from step to step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from problems import F64
from tilted import mixture, reward
from torch import Tensor

import fewstep
from fewstep.guidance import steer
from fewstep.samplers import registry
from fewstep.schedules import Flow, VPLinear

#: options that make a sampler stochastic, where its defaults are not
NOISY: dict[str, dict[str, Any]] = {
    "ddim": {"eta": 0.7},
    "euler": {"s_churn": 2.0},
    "heun": {"s_churn": 2.0},
    "dpm_fast": {"eta": 0.5},
    "restart": {"intervals": ((3, 2, 0.6, 3.0),)},
}


def cases() -> list[tuple[str, str]]:
    """(sampler, path) of the stochastic samplers with a plan and one channel."""
    found = []
    for name in registry.names("plan"):
        entry = registry.get(name)
        tau = entry.tau_of(registry.make_options(entry, NOISY.get(name, {})))
        noisy = tau > 0.0 or name in NOISY
        if noisy and not entry.guided and not name.startswith("mr_"):  # its own schedule
            found.append((name, entry.on[0]))
    return found


def moved(x: Tensor, t: float, x0: Tensor) -> Tensor:
    """A proposal towards 1, less where the noise of a step is small: the weights have a mean that
    2,000 populations find."""
    return x0 + 0.2 * t * t * torch.tanh(1.0 - x0)


def test_there_are_many():
    names = {name for name, _ in cases()}
    assert len(names) > 25
    assert {
        "ddim",
        "dpmpp_2m_sde",
        "sa_solver",
        "seeds_3",
        "er_sde",
        "flow_sde",
        "restart",
    } <= names


@pytest.mark.parametrize(("name", "path"), cases(), ids=lambda v: v)
def test_the_evidence_is_unbiased(name, path):
    den = mixture(Flow(), "velocity") if path == "flow" else mixture(VPLinear(), "v")
    given = {"steps": 4, "grid": "trailing", "dtype": F64}
    options = NOISY.get(name, {})
    base = torch.exp(
        reward(fewstep.sample(den, name, n=20_000, seed=10**6, **given, **options)) / 2
    )
    wanted, error = float(base.mean()), float(base.std()) / math.sqrt(len(base))
    for more in ({"threshold": 0.8}, {"proposal": moved}):
        _, info = steer(
            den, reward, sampler=name, sampler_options=options, temperature=2.0, particles=3,
            n=2000, **given, **more,
        )  # fmt: skip
        z = info.log_evidence.exp()
        spread = math.hypot(float(z.std()) / math.sqrt(len(z)), error)
        assert abs(float(z.mean()) - wanted) < 4.0 * spread
        assert info.rows == info.predicted.rows
