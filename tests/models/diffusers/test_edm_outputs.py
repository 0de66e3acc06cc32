"""EDM networks of any sigma_data, on x0-like and v-like outputs: c_skip and c_out of Karras et al.
2022, table 1, through the scheduler."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import distance, noise, ours, sample, theirs

from fewstep.models.diffusers.folders import VelocityPreconditioning
from fewstep.models.preconditioning import EDMPreconditioning, VEPreconditioning, VPPreconditioning
from fewstep.schedules import EDM, VPLinear


def output(x: torch.Tensor, t: float) -> torch.Tensor:
    return torch.tanh(1.3 * x) * math.cos(t) + 0.2


def by_hand(config: dict[str, Any], steps: int) -> torch.Tensor:
    """Euler in sigma on ``D = c_skip y + c_out F(c_in y; log(sigma) / 4)``, float64."""
    d, sign = config["sigma_data"], -1.0 if config["prediction_type"] == "v_prediction" else 1.0
    low, high = config.get("sigma_min", 0.002), config.get("sigma_max", 80.0)
    sigmas = [
        (high ** (1 / 7) + i / (steps - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7
        for i in range(steps)
    ] + [0.0]
    y = noise().double() * math.sqrt(high**2 + 1.0)
    for s, t in pairwise(sigmas):
        r = math.sqrt(s * s + d * d)
        data = (d / r) ** 2 * y + sign * s * d / r * output(y / r, 0.25 * math.log(s))
        y = data + t / s * (y - data)
    return y


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("data", [0.5, 0.7, 1.0, 1.6])
def test_the_scheduler_reads_the_output_by_its_kind_and_sigma_data(data: float, kind: str) -> None:
    config = {"sigma_data": data, "prediction_type": kind}
    scheduler = ours("EDMEuler", config)
    scheduler.set_timesteps(6)
    x = noise().double() * float(scheduler.init_noise_sigma)
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t)
        x = scheduler.step(output(x_in, float(t)), t, x, return_dict=False)[0]
    wanted = by_hand(config, 6)
    assert float((x - wanted).abs().max()) <= 2e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("data", [0.5, 1.0, 1.6])
def test_the_numbers_of_table_1(data: float) -> None:
    for sigma in (0.002, 0.3, 1.0, 7.0, 80.0):
        r = math.hypot(sigma, data)
        found = EDMPreconditioning(data).numbers(EDM().node(sigma))
        assert found == pytest.approx(
            (1 / r, data**2 / r**2, sigma * data / r, 0.25 * math.log(sigma)), rel=1e-12, abs=1e-15
        )
        velocity = VelocityPreconditioning(data).numbers(EDM().node(sigma))
        assert velocity == pytest.approx(
            (1 / r, data**2 / r**2, -sigma * data / r, 0.25 * math.log(sigma)), rel=1e-12, abs=1e-15
        )
        vp = VPLinear().node_at_rho(sigma)  # the same network on another path: y = x / alpha
        scaled = EDMPreconditioning(data).numbers(vp)
        assert scaled == pytest.approx(
            (
                1 / (vp.alpha * r),
                data**2 / (vp.alpha * r**2),
                sigma * data / r,
                0.25 * math.log(sigma),
            ),
            rel=1e-9,
        )


def test_the_other_columns() -> None:
    """VP: unit input and ``(M - 1) sigma^{-1}(rho)``; VE: ``F = -eps`` on ``x / alpha`` and
    ``log(rho / 2)``."""
    for rho in (0.02, 0.9, 12.0):
        node = VPLinear().node_at_rho(rho)
        assert node.t is not None
        assert VPPreconditioning(VPLinear()).numbers(node) == pytest.approx(
            (1.0, 0.0, 1.0, 999.0 * node.t), rel=1e-9
        )
        edm = EDM().node(rho)
        assert VPPreconditioning(VPLinear(), 10.0).numbers(edm) == pytest.approx(
            (1.0 / math.hypot(1.0, rho), 0.0, 1.0, 10.0 * node.t), rel=1e-9
        )
        assert VEPreconditioning().numbers(node) == pytest.approx(
            (1.0 / node.alpha, 0.0, -1.0, math.log(0.5 * rho)), rel=1e-9
        )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("data", [0.7, 1.0])
@pytest.mark.parametrize("name", ["EDMEuler", "EDMDPMSolverMultistep"])
def test_the_latents_are_those_of_the_class(name: str, data: float, kind: str) -> None:
    config = {"sigma_data": data, "prediction_type": kind}
    (x, _), (y, _) = (sample(make(name, config), 6) for make in (theirs, ours))
    assert distance(y, x) < 5e-6
