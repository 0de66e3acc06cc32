"""An exact network for scheduler classes, and the state that its probability-flow ODE reaches.

Data are independent pixels of three channels, a mixture of two Gaussians. In the coordinates
``y = cos(a) x0 + sin(a) eps`` the ODE is ``dy/da = v`` on every path, smooth at alpha = 0 and at
sigma = 0, so one reference serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers_loops import noise
from scipy.integrate import solve_ivp

from fewstep.models import GaussianMixture
from fewstep.schedules import Schedule, Trig

LAW = ([[-0.5, 0.3, 0.2], [0.6, -0.3, 0.4]], [0.5, 0.4], [0.4, 0.6])


def _pixels(x: torch.Tensor) -> torch.Tensor:
    return x.double().permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(pixels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    n, c, h, w = like.shape
    return pixels.reshape(n, h, w, c).permute(0, 3, 1, 2).to(like.dtype)


def network(
    schedule: Schedule, kind: str, scale: float = 1.0
) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """The exact prediction of ``kind`` at the network's time, ``scale`` times the schedule's."""
    law = GaussianMixture(*LAW, schedule, prediction=kind)
    return lambda x, t: _image(law(_pixels(x), t / scale), x)


def endpoint(x: torch.Tensor, start: Any, end: Any) -> torch.Tensor:
    """Where the ODE takes the state ``x`` at node ``start``, at node ``end``; float64."""
    law = GaussianMixture(*LAW, Trig(), prediction="v")
    a, b = (math.atan2(node.sigma, node.alpha) for node in (start, end))
    y = _pixels(x) / math.hypot(start.alpha, start.sigma)

    def velocity(angle: float, flat: Any) -> Any:
        state = torch.as_tensor(flat).reshape(y.shape)
        return law(state, max(angle, 1e-12) / (0.5 * math.pi)).reshape(-1).numpy()

    found = solve_ivp(
        velocity, (a, b), y.reshape(-1).numpy(), method="DOP853", rtol=1e-10, atol=1e-11
    )
    assert found.success
    return _image(torch.as_tensor(found.y[:, -1]).reshape(y.shape), x.double()) * math.hypot(
        end.alpha, end.sigma
    )


def error(
    scheduler: Any,
    net: Callable[[torch.Tensor, float], torch.Tensor],
    nodes: tuple[Any, Any],
    steps: int,
    **given: Any,
) -> float:
    """Largest distance of a run from its endpoint. ``nodes``: where it starts and ends; its states
    are scaled as the start says."""
    scheduler.set_timesteps(steps, **given)
    x = noise() * float(getattr(scheduler, "init_noise_sigma", 1.0))
    start = x.clone()
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(net(x_in, float(t)), t, x, return_dict=False)[0]
    return float((x.double() - endpoint(start, *nodes)).abs().max())
