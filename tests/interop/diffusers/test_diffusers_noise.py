"""``add_noise``, ``scale_noise`` and ``get_velocity``: the times that they take, and the ones that
they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import noise, ours, theirs

from fewstep.checks import ArgumentError

#: diffusers hands numpy functions a torch tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
SVD = {
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "use_karras_sigmas": True,
}
#: name, config, good times, bad times
PATHS: dict[str, tuple[str, dict[str, Any], list[float], list[float]]] = {
    "table": ("DDPM", {}, [0, 10, 500, 999], [1000, 1500, -1, -2, 10**9]),
    "levels": ("DPMSolverMultistep", {}, [0, 10, 500, 999], [1000, -1]),
    "sigmas": ("EulerDiscrete", {}, [0, 10.5, 500, 999], [999.5, 1000, 2000, -0.5]),
    "flow": ("FlowMatchEulerDiscrete", {"shift": 3.0}, [0, 10.5, 500, 1000], [1000.5, 1001, -1]),
    "edm": ("EDMEuler", {}, [-1.5, -0.25, 0.25, 1.0], [1.2, -1.7, 10.0, 999.0]),
    "svd": ("EulerDiscrete", SVD, [-1.5, -0.25, 0.25, 1.6], [1.7, -1.7, 999.0]),
    "trig": ("IPNDM", {}, [0.0, 0.25, 0.5, 1.0], [1.5, -0.1, 999.0]),
}
METHODS = {
    "add_noise": lambda s, x, z, t: s.add_noise(x, z, t),
    "scale_noise": lambda s, x, z, t: s.scale_noise(x, t, z),
    "get_velocity": lambda s, x, z, t: s.get_velocity(x, z, t),
}


def made(kind: str) -> Any:
    name, config, _, _ = PATHS[kind]
    return ours(name, config)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", PATHS)
def test_times_outside_of_the_path_are_refused_by_their_value(kind, method):
    s, call, x, z = made(kind), METHODS[method], noise(1, 4), noise(2, 4)
    good, bad = PATHS[kind][2:]
    assert torch.isfinite(call(s, x, z, torch.tensor(good))).all()
    for value in [*bad, float("nan"), math.inf]:
        shown = "nan" if math.isnan(value) else "inf" if math.isinf(value) else str(value)
        for times in (torch.tensor([good[0], good[1], value, good[2]]), value, [value]):
            if kind not in ("edm", "svd") or not isinstance(value, int):
                with pytest.raises(ArgumentError, match=shown[:3]):
                    call(s, x, z, times)


@pytest.mark.parametrize("kind", PATHS)
def test_the_ends_of_the_path_and_the_times_of_a_run_are_in_it(kind):
    s, x, z = made(kind), noise(1, 4), noise(2, 4)
    for steps in (1, 7, 40):
        s.set_timesteps(steps)
        for t, node in zip(s.timesteps, (e.node for e in s.plan.evaluations), strict=True):
            for given in (t, float(t), t.reshape(1), t.double(), t.repeat(4)):
                assert torch.allclose(
                    s.add_noise(x, z, given), node.alpha * x + node.sigma * z, atol=1e-5
                )


@pytest.mark.parametrize("kind", ["edm", "svd"])
def test_integers_are_no_times_of_a_path_in_log_sigma(kind):
    s, x, z = made(kind), noise(1, 4), noise(2, 4)
    for times in (torch.tensor([0, 10, 300, 999]), torch.tensor([0, 1, 0, 1]), 0, np.arange(4)):
        with pytest.raises(ArgumentError, match="int64"):
            s.add_noise(x, z, times)


def test_a_time_is_one_or_one_a_sample():
    s, x, z = made("table"), noise(1, 4), noise(2, 4)
    whole = s.add_noise(x, z, torch.tensor([10, 10, 10, 10]))
    for times in (
        10,
        10.0,
        np.int64(10),
        np.array([10]),
        [10],
        torch.tensor(10),
        torch.tensor([[10], [10], [10], [10]]),
    ):
        assert torch.equal(s.add_noise(x, z, times), whole)
    for times in (torch.zeros(3), torch.zeros(2, 4), torch.zeros(0), [1, 2], np.zeros(5)):
        with pytest.raises(ArgumentError, match="for 4 samples"):
            s.add_noise(x, z, times)
    for times, word in (
        ("10", "'10'"),
        (None, "None"),
        (True, "bool"),
        (torch.tensor(1j), "complex"),
        ([1, [2]], "must be"),
    ):
        with pytest.raises(ArgumentError, match=word):
            s.add_noise(x, z, times)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.int32,
        torch.int16,
        torch.uint8,
    ],
)
def test_times_of_any_dtype(dtype):
    s, x, z = made("table"), noise(1, 2), noise(2, 2)
    assert torch.equal(
        s.add_noise(x, z, torch.tensor([7, 200]).to(dtype)),
        s.add_noise(x, z, torch.tensor([7, 200])),
    )
    flow = made("flow")
    flow.set_timesteps(9)
    if dtype.is_floating_point:  # the times of a run in a narrower dtype are still that run's
        for t, node in zip(flow.timesteps, (e.node for e in flow.plan.evaluations), strict=True):
            assert torch.allclose(
                flow.add_noise(x, z, t.to(dtype)), node.alpha * x + node.sigma * z, atol=1e-6
            )


def test_ends_in_half_precision_are_ends():
    s, x, z = made("edm"), noise(1, 2), noise(2, 2)
    end = torch.tensor([math.log(80.0) / 4.0, math.log(0.002) / 4.0])
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert torch.allclose(
            s.add_noise(x, z, end.to(dtype)), s.add_noise(x, z, end.double()), atol=2e-2
        )
    table = made("table")  # bfloat16 holds 999 as 1000
    assert torch.equal(
        table.add_noise(x, z, torch.tensor([999, 3]).to(torch.bfloat16)),
        table.add_noise(x, z, torch.tensor([999, 3])),
    )
    with pytest.raises(ArgumentError, match="1000"):
        table.add_noise(x, z, torch.tensor([1000.0, 3.0]).to(torch.float16))


@pytest.mark.parametrize("kind", ["table", "flow", "edm", "trig"])
def test_it_is_one_graph_whose_times_are_checked_by_an_assertion(kind):
    s, x, z = made(kind), noise(1, 4), noise(2, 4)
    good, bad = (torch.tensor(times) for times in PATHS[kind][2:])
    if kind != "trig":
        s.set_timesteps(5)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda a, b, t: s.add_noise(a, b, t) + s.get_velocity(a, b, t),
        fullgraph=True,
        backend="eager",
    )
    assert torch.allclose(
        compiled(x, z, good), s.add_noise(x, z, good) + s.get_velocity(x, z, good), atol=1e-6
    )
    with pytest.raises(RuntimeError, match="timesteps outside"):
        compiled(x, z, torch.cat([good[:3], bad[:1]]))
    torch._dynamo.reset()


@pytest.mark.cuda
@pytest.mark.parametrize("kind", PATHS)
def test_nothing_waits_for_a_device(kind):
    s, x, z = made(kind), noise(1, 4).cuda(), noise(2, 4).cuda()
    good = torch.tensor(PATHS[kind][2])
    wanted = s.add_noise(x.cpu(), z.cpu(), good)
    s.add_noise(x, z, good.cuda())  # copies the tables
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [s.add_noise(x, z, times) for times in (good.cuda(non_blocking=True), good)]
        s.get_velocity(x, z, good)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.allclose(f.cpu(), wanted, atol=1e-5) for f in found)


@pytest.mark.parametrize("name", ["DDPM", "DDIM"])
def test_noise_and_velocity_are_theirs(name):
    a, b, x, z = theirs(name, {}), ours(name, {}), noise(1, 4), noise(2, 4)
    t = torch.tensor([0, 10, 500, 999])
    assert torch.allclose(b.add_noise(x, z, t), a.add_noise(x, z, t), atol=2e-6)
    if hasattr(a, "get_velocity"):
        assert torch.allclose(b.get_velocity(x, z, t), a.get_velocity(x, z, t), atol=2e-6)
