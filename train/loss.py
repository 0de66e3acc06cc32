r"""The EDM objective of Karras et al. 2022, arXiv 2206.00364 (Table 1, last column, and Eq. 8).

A denoiser ``D(y; s) = c_skip y + c_out F(c_in y, c_noise)`` of ``y = x0 + s n`` with, for data of
standard deviation ``d``,

    c_skip = d^2 / (s^2 + d^2)        c_out = s d / sqrt(s^2 + d^2)
    c_in   = 1 / sqrt(s^2 + d^2)      c_noise = log(s) / 4

is trained on ``E lambda(s) |D - x0|^2`` with ``lambda = 1 / c_out^2`` and ``log s`` normal with
mean P_mean and deviation P_std. That is ``|F - (x0 - c_skip y) / c_out|^2``: a regression whose
target has variance one for data of deviation ``d``, so a network that answers 0 scores about 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .residual_loss import ResidualLoss

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class NetworkScales:
    """EDM coefficients of each noise level: shape (B, 1, 1, 1), ``c_noise`` (B,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def precondition(sigma: Tensor, sigma_data: float) -> NetworkScales:
    """Return the coefficients of table 1 at ``sigma`` (B,)."""
    s = sigma.reshape(-1, 1, 1, 1)
    total = s.square() + sigma_data**2
    return NetworkScales(
        sigma_data**2 / total, s * sigma_data / total.sqrt(), total.rsqrt(), sigma.log() / 4.0
    )


def draw_sigma(n: int, mean: float, std: float, generator: torch.Generator) -> Tensor:
    """Draw ``n`` log-normal noise levels, one from each of ``n`` equally likely intervals in random
    order (stratified, for less variance)."""
    u = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
    return torch.exp(mean + std * torch.special.ndtri(u.double().clamp(1e-7, 1.0 - 1e-7)).float())


def edm_loss(
    network: Network,
    x0: Tensor,
    sigma: Tensor,
    noise: Tensor,
    label: Tensor | None,
    sigma_data: float,
    weights: Sequence[float] = (),
    residual: ResidualLoss | None = None,
) -> Tensor:
    """Return ``lambda(sigma) (D - x0)^2`` averaged over the pixels of each image, (B,); ``network``
    is the raw F(x, c_noise, label). ``weights``: of the channels in that average (empty: all
    equal). ``residual``: a term that is added."""
    c = precondition(sigma, sigma_data)
    y = x0 + sigma.reshape(-1, 1, 1, 1) * noise
    answer = network(c.c_in * y, c.c_noise, label).float()
    error = (answer - (x0 - c.c_skip * y) / c.c_out).square().mean(dim=(2, 3))
    if weights:
        shares = torch.tensor(weights, dtype=error.dtype, device=error.device)
        loss = error @ (shares / shares.sum())
    else:
        loss = error.mean(dim=1)
    if residual is None:
        return loss

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        d = precondition(level, sigma_data)
        return d.c_skip * x + d.c_out * network(d.c_in * x, d.c_noise, label).float()

    return loss + residual(denoise, y, sigma, c.c_skip * y + c.c_out * answer).to(loss.dtype)
