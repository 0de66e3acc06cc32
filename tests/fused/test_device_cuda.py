"""The kernels on a CUDA device: what the interpreter cannot tell. Skipped without one."""

from __future__ import annotations

import warnings

import pytest
import torch

import fewstep
from fewstep.fused import SeededNoise, devices, linear_backend, linear_step
from fewstep.fused.linear import device
from fewstep.models import GaussianMixture
from fewstep.schedules import VPLinear

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda", 0)


def test_triton_is_automatic_and_passes_its_check():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert linear_backend(device="cuda") == "triton"
        den = GaussianMixture([[-1.0, 0.5], [1.0, 0.0]], [0.3, 0.5], [0.4, 0.6], VPLinear())
        for name in ("dpmpp_2m", "unipc", "dpmpp_2m_sde"):
            there = fewstep.sample(den, name, steps=8, n=64, device="cuda")
            assert torch.allclose(there.cpu(), fewstep.sample(den, name, steps=8, n=64), atol=1e-4)
    assert devices.failure(CUDA) is None and devices._verified


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_large_steps(dtype):
    """Many programs; bfloat16 is rounded to nearest, not cut."""
    inputs = [torch.randn(8, 3, 255, 257, device=CUDA).to(dtype) for _ in range(5)]
    rows, made = [[0.5, -1.0, 2.0, 0.25, 1.5]], []
    for backend in ("triton", "torch"):
        out = torch.empty_like(inputs[0])
        with linear_backend(backend):
            linear_step([out], inputs, rows)
        made.append(out)
    far = (made[0] - made[1]).abs().double()
    assert float(far.max()) <= 64.0 * torch.finfo(dtype).eps
    assert dtype == torch.float64 or float((far > 0).double().mean()) < 0.2


def test_a_graph_of_one_step_serves_all_steps():
    x, z = torch.randn(4, 3, 32, 32, device=CUDA), SeededNoise((1, 2, 3, 4))
    table = torch.rand(6, 2, 1, device=CUDA)
    draws = torch.arange(24, device=CUDA).view(6, 4)
    index, out = torch.zeros(1, dtype=torch.int64, device=CUDA), torch.empty_like(x)
    inputs = [x, z.later(0, x)]
    side = torch.cuda.Stream()
    with linear_backend("triton"), torch.cuda.stream(side):
        assert device.device_table([out], inputs, table, index, draws)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with linear_backend("triton"), torch.cuda.graph(graph):
        assert device.device_table([out], inputs, table, index, draws)
    for k in range(6):
        index.fill_(k)
        graph.replay()
        c = table[k, :, 0].tolist()
        assert torch.allclose(out, c[0] * x + c[1] * z(int(draws[k, 0]), x), atol=1e-5)


def test_while_a_graph_is_recorded_nothing_is_checked(monkeypatch):
    monkeypatch.setattr(devices, "_verified", set())
    monkeypatch.setattr(device, "wrong", lambda *_: pytest.fail("a check"))
    x, out = torch.ones(2, 8, device=CUDA), torch.zeros(2, 8, device=CUDA)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        linear_step([out], [x], [[2.0]])
    graph.replay()
    torch.cuda.synchronize()
    assert bool((out == 2.0).all())


def test_beyond_two_to_the_thirty_one():
    size = (1 << 31) + 1024
    if torch.cuda.mem_get_info()[0] < 3 * 2 * size:
        pytest.skip("too little memory")
    x = torch.zeros(1, size, dtype=torch.bfloat16, device=CUDA)
    x[0, -3:] = 1.0
    out = torch.empty_like(x)
    with linear_backend("triton"):
        linear_step([out], [x], [[2.0]])
    assert out[0, -4:].tolist() == [0.0, 2.0, 2.0, 2.0] and not out[0, :4].any()
