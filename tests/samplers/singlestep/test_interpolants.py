"""Diffusion strengths of stochastic interpolants as published, and the steps that use them, written
out."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.models import GaussianMixture
from fewstep.samplers.singlestep.interpolants import InterpolantSDE, diffusion_of_tau
from fewstep.schedules import EDM, Flow, Trig, VPLinear, grid

#: w at the time r from data (0) to noise (1) and noise scale sigma; SiT's code counts the other
#: way, 1 - r
PUBLISHED = {
    "constant": lambda c, r, sigma: c,
    "sigma": lambda c, r, sigma: c * sigma,
    "linear": lambda c, r, sigma: c * r,
    "decreasing": lambda c, r, sigma: 0.25 * (c * math.cos(math.pi * (1.0 - r)) + 1.0) ** 2,
    "increasing_decreasing": lambda c, r, sigma: c * math.sin(math.pi * (1.0 - r)) ** 2,
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("c", [1.0, 0.4, 2.0])
def test_the_published_strengths(name: str, c: float) -> None:
    options = InterpolantSDE(diffusion=name, scale=c)
    for schedule in (Flow(), Trig(), EDM(0.01, 5.0), VPLinear()):
        top = schedule.t_max
        for r in (0.05, 0.3, 0.5, 0.8, 1.0):
            node = schedule.node(r * top)
            assert options.at(schedule, node, node) == pytest.approx(
                PUBLISHED[name](c, r, node.sigma) / top, rel=1e-12, abs=1e-30
            )


def test_decreasing_is_strong_at_the_noise_and_gone_at_the_data() -> None:
    at = InterpolantSDE(diffusion="decreasing").at
    values = [at(Flow(), Flow().node(t), Flow().node(t)) for t in (1.0, 0.75, 0.5, 0.25, 1e-9)]
    assert values == pytest.approx(
        [1.0, 0.25 * (1 + math.sqrt(0.5)) ** 2, 0.25, 0.25 * (1 - math.sqrt(0.5)) ** 2, 0.0],
        abs=1e-12,
    )


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.7])
def test_the_strength_of_a_tau(tau: float) -> None:
    """``tau^2 sigma^2 |dlam/dt|``: on the flow ``tau^2 t / (1 - t)``, on EDM ``tau^2 sigma``; at
    alpha = 0 over the next alpha."""
    flow = Flow()
    for t in (0.2, 0.7):
        assert diffusion_of_tau(tau, flow.node(t), flow.node(0.1)) == pytest.approx(
            tau**2 * t / (1.0 - t), rel=1e-12
        )
        assert InterpolantSDE(scale=tau**2).at(flow, flow.node(t), flow.node(0.1)) == pytest.approx(
            tau**2 * t / (1.0 - t), rel=1e-12
        )
    assert diffusion_of_tau(tau, flow.node(1.0), flow.node(0.8)) == pytest.approx(
        tau**2 / 0.2, rel=1e-12
    )
    assert diffusion_of_tau(tau, EDM().node(3.0), EDM().node(2.0)) == pytest.approx(
        tau**2 * 3.0, rel=1e-12
    )
    for t in (0.2, 0.9):
        vp = VPLinear()
        want = tau**2 * vp.sigma(t) ** 2 * -vp.dlam(t)
        assert diffusion_of_tau(tau, vp.node(t), vp.node(0.1)) == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("last", ["tweedie", "euler", "mean"])
@pytest.mark.parametrize("method", ["em", "heun"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_steps_written_out(name: str, method: str, last: str) -> None:
    """Euler-Maruyama, and Heun with all the noise at once, on the flow; the last step without noise
    in its three forms."""
    flow, c = Flow(), 0.6
    model = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], flow, "v")
    path = grid("custom", flow, times=[0.9, 0.6, 0.35, 0.0])
    plan = fewstep.plan(
        "interpolant_sde", flow, grid=path, diffusion=name, scale=c, method=method, last=last
    )
    x = start = torch.tensor([[0.7, -1.2], [-0.4, 0.9]], dtype=torch.float64)
    z = [
        torch.tensor([[0.3, -0.8], [1.1, 0.2]], dtype=torch.float64) * (k + 1)
        for k in range(len(plan.draws))
    ]

    def pair(y: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        v = model(y, t)
        node = flow.node(t)
        r2 = node.alpha**2 + node.sigma**2
        data, eps = (node.alpha * y - node.sigma * v) / r2, (node.sigma * y + node.alpha * v) / r2
        return data, eps

    def drift(y: torch.Tensor, t: float, w: float) -> torch.Tensor:
        data, eps = pair(y, t)
        return eps - data + w / t * eps

    key = 0
    for s, t in zip(path.times, path.times[1:], strict=False):
        w, h = PUBLISHED[name](c, s, s), s - t
        if t == 0.0:
            x = (
                pair(x, s)[0]
                if last == "tweedie"
                else x - h * drift(x, s, w if last == "mean" else 0.0)
            )
            continue
        fresh = math.sqrt(2.0 * w * h) * z[key]
        key += 1
        if method == "em":
            x = x - h * drift(x, s, w) + fresh
        else:
            up = x + fresh
            first = drift(up, s, w)
            x = up - 0.5 * h * (first + drift(up - h * first, t, PUBLISHED[name](c, t, t)))
    torch.testing.assert_close(fewstep.run(plan, model, start, noise=z), x, rtol=1e-11, atol=1e-11)
