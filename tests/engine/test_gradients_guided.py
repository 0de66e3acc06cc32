"""Gradients of runs of guided models: those that draw numbers by the seed and the noise level can be
called again, those that keep values between calls cannot."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import pytest
import torch
from test_gradients import F64, PATHS, Net, distance, gradients, inputs, wrapped

import fewstep
from fewstep.engine.gradients import GradientError
from fewstep.guidance import APG, CFG, ICG, TSG, BlackScholes, CFGZero, Contrast
from fewstep.models import BaseDenoiser
from fewstep.schedules import VPLinear

MODES = ("checkpoint", "checkpoint:sqrt", "truncated:9")
UNCOND = torch.zeros(1, 3, dtype=F64)
REPEATABLE: dict[str, Callable[[BaseDenoiser], BaseDenoiser]] = {
    "icg": lambda den: ICG(den, 2.0),
    "icg_std": lambda den: ICG(den, 3.0, std=0.5, interval=(0.0, 20.0)),
    "tsg": lambda den: TSG(den, 2.0, 0.05),
    "cfg_of_tsg": lambda den: CFG(TSG(den, 2.0, 0.05), 1.5, UNCOND),
    "contrast": lambda den: Contrast(ICG(den, 2.0), TSG(den, 2.0, 0.1), 1.5),
}


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun", "dpmpp_2m_sde"])
@pytest.mark.parametrize("name", REPEATABLE)
def test_numbers_drawn_by_seed_and_level_are_drawn_again(name: str, sampler: str) -> None:
    for path in ("vp", "edm"):
        net = Net()
        den = REPEATABLE[name](wrapped(path, net))
        plan = fewstep.plan(sampler, PATHS[path], steps=4, grid="lam")
        wanted = gradients(den, plan, "full")
        assert len(wanted) >= 5 and all(bool((g != 0.0).any()) for g in wanted)
        for mode in MODES:
            found = gradients(den, plan, mode)
            skip = 1 if mode.startswith("truncated") else 0  # nothing is earlier: x counts too
            assert distance(found[skip:], wanted[skip:]) < 1e-12, (path, mode)


@pytest.mark.parametrize("name", REPEATABLE)
def test_undone_runs_draw_them_again_too(name: str) -> None:
    den = REPEATABLE[name](wrapped("vp"))
    plan = fewstep.plan("belm", PATHS["vp"], steps=8, grid="lam")
    assert distance(gradients(den, plan, "reversible"), gradients(den, plan, "full")) < 1e-10


def test_the_numbers_are_those_of_the_run_without_gradients() -> None:
    (x, cond), given = inputs(), {"steps": 5, "seeds": [7, 8]}
    for make in (REPEATABLE["icg"], REPEATABLE["tsg"]):
        den = make(wrapped("vp"))
        plain = fewstep.sample(den, "ddim", x=x.detach(), cond=cond.detach(), **given)
        for mode in ("full", "checkpoint"):
            out = fewstep.sample(den, "ddim", x=x, cond=cond, grad=mode, **given)
            assert torch.equal(out.detach(), plain)
        other = fewstep.sample(den, "ddim", steps=5, seeds=[8, 7], x=x.detach(), cond=cond.detach())
        assert not torch.allclose(other, plain)


class Counting:
    """A denoiser of a user, whose copy for a run scales its output by the number of the call."""

    prediction, shape = "eps", (3,)

    def __init__(self) -> None:
        self.schedule, self.calls = VPLinear(), 0

    def for_run(self, facts: Any) -> Counting:
        made = copy(self)
        made.calls = 0
        return made

    def raws(self, x_in: torch.Tensor, t: Any, cond: Any = None) -> tuple[torch.Tensor, ...]:
        self.calls += 1
        return (torch.tanh(x_in) / self.calls,)

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    def input_scale(self, t: float) -> float:
        return 1.0

    __call__ = raws


class Repeating(Counting):
    """One that keeps nothing, and says so."""

    joinable = True

    def raws(self, x_in: torch.Tensor, t: Any, cond: Any = None) -> tuple[torch.Tensor, ...]:
        return (torch.tanh(x_in),)


def keeping() -> dict[str, Any]:
    net = wrapped("vp")
    flow = wrapped("flow")
    concepts = [UNCOND, UNCOND + 1.0]
    return {
        "apg": APG(net, 2.0, UNCOND, momentum=-0.5),
        "contrast": Contrast(APG(net, 2.0, UNCOND, momentum=-0.5), net, 1.5),
        "cfg_zero": CFGZero(flow, 2.0, UNCOND),
        "black_scholes": BlackScholes(net, concepts, lambda x0, i: x0.square().sum(1) + 1.0),
        "own": Counting(),
    }


@pytest.mark.parametrize("name", keeping())
def test_models_that_keep_values_are_refused_before_the_first_call(name: str) -> None:
    den = keeping()[name]
    x, cond = inputs()
    sampler = "flow_euler" if name == "cfg_zero" else "ddim"
    plan = fewstep.plan(sampler, den.schedule, steps=4, grid="lam")
    given = {"cond": None if name in ("black_scholes", "own") else cond}
    for mode in ("checkpoint", "checkpoint:sqrt", "reversible"):
        with pytest.raises(GradientError, match="keeps values between the calls.*grad='full'"):
            fewstep.run(plan, den, x, grad=mode, **given)
    assert fewstep.run(plan, den, x, grad="full", **given).requires_grad


def test_without_what_they_keep_they_are_served() -> None:
    x = inputs()[0]
    for den in (APG(wrapped("vp"), 2.0, UNCOND), CFGZero(wrapped("vp"), 2.0, UNCOND, zero_steps=0)):
        plan = fewstep.plan("ddim", VPLinear(), steps=4, grid="lam")
        wanted = gradients(den, plan, "full")
        assert distance(gradients(den, plan, "checkpoint"), wanted) < 1e-12
    found = []
    for mode in ("full", "checkpoint"):
        out = fewstep.sample(Repeating(), "ddim", steps=4, x=x, grad=mode)
        found.append(torch.autograd.grad(out.sum(), x)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)
