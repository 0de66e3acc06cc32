"""Whole runs by triton's kernel: the results of the torch form, one launch a call, noise drawn in
the launch."""

from __future__ import annotations

import pytest
import torch

import fewstep
from fewstep.fused import linear_backend, noise_backend
from fewstep.fused.linear import device
from fewstep.models import GaussianMixture, wrap
from fewstep.plans import lower
from fewstep.plans.running.loop import Cursor
from fewstep.schedules import VPLinear

F32, BF16, F64 = torch.float32, torch.bfloat16, torch.float64
#: bfloat16: each of the 6 steps may differ by one unit in the last place of values below 4
NEAR = {F32: 5e-6, F64: 1e-13, BF16: 6 * 2.0**-6}


def model():
    return GaussianMixture([[-1.0, 0.5], [1.0, 0.0]], [0.3, 0.5], [0.4, 0.6], VPLinear())


@pytest.fixture
def launches(monkeypatch):
    """The variants of the launches of a test."""
    seen = []

    def noted(variant, *args):
        seen.append(variant)
        return launch(variant, *args)

    launch = device.launch
    monkeypatch.setattr(device, "launch", noted)
    return seen


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("dpmpp_2m", F32),
        ("dpmpp_2m", BF16),
        ("unipc", F32),
        ("dpmpp_2m_sde", F32),
        ("sa_solver", F64),
        *(
            pytest.param(name, dtype, marks=pytest.mark.slow)
            for name in ("heun", "unipc", "dpmpp_2m_sde", "ddpm", "sa_solver")
            for dtype in (BF16, F64)
        ),
    ],
)
def test_a_run_is_that_of_the_torch_form(name, dtype, place, launches):
    den = model()
    plan = fewstep.plan(name, den.schedule, steps=6)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, dtype=F64, generator=generator).to(dtype).to(place)
    noise = fewstep.fused.SeededNoise((0, 1, 2, 3, 4))
    with linear_backend("torch"):
        wanted = fewstep.run(plan, den, x, noise=noise)
    assert not launches
    with linear_backend("triton"):
        found = fewstep.run(plan, den, x, noise=noise)
    program = lower(plan, den)
    assert float((found - wanted).abs().max()) <= NEAR[dtype]
    assert len(launches) == sum(1 for x in program.launches if x.outs)
    drawn = sum(sum(t is None for t in variant.ins) for variant in launches)
    once = [
        key
        for key, k in program.noise_until.items()
        if sum(key in noises(x) for x in program.launches) == 1
    ]
    assert drawn == len(once) and (drawn > 0) == name.endswith(("sde", "solver", "ddpm"))


def noises(launch):
    return {o.number for o in launch.operands if o.kind == "noise"}


def test_a_network_of_low_precision_and_a_scaled_input(place, launches):
    """bfloat16 outputs of the network, an input of its own scale: more outputs, mixed dtypes."""
    den = wrap(lambda x, t: (0.1 * x).to(BF16), fewstep.schedules.EDM(), "x0", precondition="edm")
    x = torch.linspace(-80.0, 80.0, 24, device=place).view(2, 3, 4)
    plan = fewstep.plan("dpmpp_2m", den.schedule, steps=4)
    made = []
    for backend in ("torch", "triton"):
        with linear_backend(backend):
            made.append(fewstep.run(plan, den, x))
    assert torch.allclose(*made, rtol=1e-5, atol=1e-4)
    assert any(len(variant.outs) > 1 for variant in launches)
    assert any(BF16 in variant.ins for variant in launches)


def test_rows_are_chosen_between_steps(place):
    den = model()
    plan = fewstep.plan("sa_solver", den.schedule, steps=5)
    x = torch.linspace(-1.0, 1.0, 8, device=place).view(4, 2)
    made = []
    for backend in ("torch", "triton"):
        with linear_backend(backend):
            cursor = Cursor(plan, den, x, fewstep.fused.SeededNoise((5, 6, 7, 8)))
            for k in range(3):
                cursor.step(den.raws(cursor.x_in, cursor.node.t, None))
                if k == 1:
                    cursor.select(torch.tensor([2, 0, 0, 3], device=place))
            made.append(cursor.x.clone())
    assert torch.allclose(*made, rtol=0, atol=1e-5)


def test_gradients_through_a_run(place):
    den = model()
    grads = []
    for backend in ("torch", "triton"):
        x = torch.linspace(-1.0, 1.0, 8, device=place).view(4, 2).requires_grad_()
        with linear_backend(backend):
            y = fewstep.sample(den, "dpmpp_2m", steps=4, x=x, grad="full")
        grads.append(torch.autograd.grad(y.square().sum(), x)[0])
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-5) and bool(grads[0].any())


def test_start_noise_and_steps_by_seed(place):
    den = model()
    made = []
    for backend in ("torch", "triton"):
        with linear_backend(backend), noise_backend("numpy" if backend == "torch" else backend):
            made.append(fewstep.sample(den, "ddpm", steps=4, n=3, seed=9, device=place))
    assert torch.allclose(*made, rtol=0, atol=1e-5)
