"""The one path of a launch: the same bits with and without buffers, checks of raw outputs, the
finite check, and the memory of ``lower``."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.plans import Cursor, NumericalError, lower, run_plan
from fewstep.plans.running.finiteness import Watch
from fewstep.plans.running.program import Call
from fewstep.schedules import VPLinear

VP = VPLinear()


class Network:
    prediction, shape, schedule = "v", None, VP

    def __init__(self, scale: float = 1.0, q: float = 0.7) -> None:
        self.scale, self.q = scale, q

    def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
        return (torch.tanh(x_in),)

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        return 0.1, (self.q,)

    def input_scale(self, t: float) -> float:
        return self.scale

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        raise AssertionError("plans ask for raw outputs")


def start(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["ddim", "unipc", "heun", "dpmpp_2m_sde"])
def test_buffers_and_new_tensors_give_the_same_bits(name: str, dtype: torch.dtype) -> None:
    plan = fewstep.plan(name, VP, steps=5)
    noise = [start(dtype) * (k + 1) for k in range(len(plan.draws))]
    denoiser, x = Network(0.5), start(dtype)
    out = run_plan(plan, denoiser, x, noise=noise)
    for fresh in (False, True):
        cursor = Cursor(plan, denoiser, x, noise, fresh=fresh)
        while (call := cursor.call) is not None:
            cursor.step(denoiser.raws(cursor.x_in, call.node.t))
        assert torch.equal(cursor.result, out) and cursor.result.dtype == dtype
    assert torch.equal(x, start(dtype))


def test_raw_outputs_that_are_buffers_of_the_run_are_refused() -> None:
    """An input may be given back at once, and not at a later call."""
    plan = fewstep.plan("dpmpp_2m", VP, steps=6)
    kept: list[Tensor] = []

    class Late(Network):
        def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
            kept.append(x_in)
            return (kept[max(0, len(kept) - 3)],)

    with pytest.raises(ValueError, match="memory of this run"):
        run_plan(plan, Late(0.5), start())


@pytest.mark.parametrize("fresh", [False, True])
def test_a_cursor_checks_what_it_is_given(fresh: bool) -> None:
    cursor = Cursor(fewstep.plan("ddim", VP, steps=3), Network(), start(), fresh=fresh)
    for raws in ((), (start(), start()), (None,), start()):
        with pytest.raises(ValueError, match="raw outputs"):
            cursor.step(raws)
    if not fresh:  # with new tensors, shapes are the caller's to check
        with pytest.raises(ValueError, match=r"shape \(2, 4\)"):
            cursor.step((torch.zeros(2, 4),))
        with pytest.raises(ValueError, match="real numbers"):
            cursor.step((torch.zeros(2, 3, dtype=torch.complex64),))
    assert cursor.index == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_bad_number_is_found_wherever_it_is(bad: float, dtype: torch.dtype, device: str) -> None:
    """With a state on the CPU by the sum of a call, elsewhere by the marks of its samples."""
    calls = [Call(k, VP.node(0.5), 0, 0, 1.0) for k in range(2)]
    for place in range(0, 600, 7):
        raw = torch.randn(3, 200, generator=torch.Generator().manual_seed(place)).to(dtype)
        raw.view(-1)[place] = bad
        watch = Watch(calls, torch.zeros(3, 200, device=device))
        watch.see([torch.zeros(3, 200)])
        with pytest.raises(NumericalError) as error:  # noqa: PT012 (at once, or when it is over)
            watch.see([torch.zeros(3, 200), raw])
            watch.close(torch.zeros(3, 200))
        assert (error.value.step, error.value.t, error.value.samples) == (1, 0.5, (place // 200,))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_finite_numbers_whose_sum_overflows_are_finite(device: str) -> None:
    watch = Watch([Call(0, VP.node(0.5), 0, 0, 1.0)], torch.zeros(1, 4, device=device))
    watch.see([torch.full((1, 4), 3e38), torch.full((1, 4), 60000.0, dtype=torch.float16)])
    watch.see([torch.full((1, 4), 2**30, dtype=torch.int32)])
    watch.close(torch.full((1, 4), -3e38))


def test_a_program_is_found_again_by_its_plan_and_the_numbers() -> None:
    plan = fewstep.plan("dpmpp_2m", VP, steps=4)
    denoiser = Network()
    program = lower(plan, denoiser)
    assert lower(plan, denoiser) is program and lower(plan, Network()) is program
    for other in (Network(0.5), Network(1.0, 0.8)):
        assert lower(plan, other) != program
    assert lower(plan, denoiser, keep=(1,)) != program
    denoiser.q = 0.9  # a denoiser whose numbers change is asked again
    assert lower(plan, denoiser) is not program
    assert lower(plan, denoiser) == lower(plan, Network(1.0, 0.9))
    twin = fewstep.plans.Plan.from_json(plan.to_json())
    assert twin == plan and lower(twin, Network()) == program
