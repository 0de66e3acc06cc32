"""Buffers are freed at a value's last use: a network may hand back the very tensor that it was
given, at every call of every sampler."""

from __future__ import annotations

import pytest
import torch

import fewstep
from fewstep.models import BaseDenoiser
from fewstep.samplers import get, names
from fewstep.schedules import Flow, VPLinear

CASES = [(name, options) for name in names("plan") for options in ({}, *get(name).variants)]
IDS = [name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in CASES]


class Echo(BaseDenoiser):
    """A network that answers with its input: the same tensor, or a copy."""

    shape = None
    prediction = "v"
    channels = ("main", "cond", "uncond")

    def __init__(self, schedule: object, scale: float, copies: bool) -> None:
        self.schedule, self.scale, self.copies = schedule, scale, copies
        self.preserves_input = True  # the loop's buffer itself is given and returned

    def input_scale(self, t: float) -> float:
        return self.scale

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.05, (0.3 + 0.1 * float(t),)

    def raws(self, x_in: torch.Tensor, t: float, cond: object = None) -> tuple[torch.Tensor, ...]:
        return (x_in.clone() if self.copies else x_in,)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_network_may_return_its_input(name: str, options: dict[str, object]) -> None:
    schedule = Flow() if get(name).on[0] == "flow" else VPLinear()
    plan = fewstep.plan(name, schedule, steps=7, final="sigma_min", **options)
    draws = [
        torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        for k in range(len(plan.draws))
    ]
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(99))
    for scale in (1.0, 0.5):
        same, copied = (
            fewstep.run(plan, Echo(schedule, scale, copies), x.clone(), noise=draws)
            for copies in (False, True)
        )
        assert torch.equal(same, copied), scale
