"""Signal and noise at the network's times, on the device of the sample and without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .diffusers_config import Settings
from .diffusers_program import Compiled


def levels(settings: Settings, run: Compiled | None, timesteps: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """``(alpha, sigma)`` at ``timesteps``, shaped to multiply ``like``. Times of the run that is set up have exactly its values."""
    wide = torch.float32 if like.device.type == "mps" else torch.float64
    t = torch.as_tensor(timesteps).to(like.device, wide).flatten()
    alpha, sigma = settings.schedule.alpha(t / settings.scale), settings.schedule.sigma(t / settings.scale)
    if run is not None:
        nodes = [e.node for e in run.plan.evaluations]
        table = torch.tensor([run.labels, [n.alpha for n in nodes], [n.sigma for n in nodes]], dtype=wide).to(like.device)
        same = t[:, None] == table[0].to(torch.float32).to(wide)
        where = same.to(torch.uint8).argmax(1)
        found = same.any(1)
        alpha, sigma = (torch.where(found, row[where], value) for row, value in ((table[1], alpha), (table[2], sigma)))
    shape = (-1, *(1,) * (like.ndim - 1))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return alpha.to(dtype).reshape(shape), sigma.to(dtype).reshape(shape)


def add_noise(x: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """``alpha x0 + sigma noise``."""
    return alpha * x + sigma * noise


def velocity(x: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """``alpha noise - sigma x0``."""
    return alpha * noise - sigma * x
