"""Training with a residual loss: points on the unit circle, whose equation is |x|^2 - 1 = 0.

    python docs/examples/residual_training.py [--steps 4000] [--write]

A small network learns 10,000 points of the circle with the plain loss, and with the residual loss
of physics-informed diffusion models (arXiv 2403.14404), estimated by the denoiser's answer or by
four steps of DDIM. Printed for 20,000 samples each (dpmpp_2m, 30 steps): the mean |residual|, and
how evenly the samples lie on the circle: the emptiest and the fullest of 16 equal arcs, where 1 is
an even share. Minutes on two cores. ``--write`` writes the table into docs/physics.md.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

import fewstep
from fewstep.engine.sample_estimate import sample_estimate
from fewstep.train.loss import draw_sigma, precondition
from fewstep.train.residual_loss import ResidualLoss

PAGE = Path(__file__).resolve().parent.parent / "physics.md"
BEGIN, END = "<!-- table of docs/examples/residual_training.py -->", "<!-- end of the table -->"
SIGMA_DATA = math.sqrt(0.5)


class Network(nn.Module):
    """A perceptron of three hidden layers on the plane, each modulated by the noise level."""

    def __init__(self, width: int = 128) -> None:
        """``width`` of the hidden layers."""
        super().__init__()
        sizes = [2, width, width, width]
        self.layers = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))
        self.modulate = nn.ModuleList(nn.Linear(8, 2 * width) for _ in self.layers)
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """(B, 2), (B,) -> (B, 2)."""
        angle = c_noise[:, None] * 2.0 ** torch.arange(4).to(x)
        level = torch.cat([angle.sin(), angle.cos()], 1)
        for layer, modulate in zip(self.layers, self.modulate, strict=True):
            scale, shift = modulate(level).chunk(2, 1)
            x = nn.functional.silu(layer(x) * (1.0 + scale) + shift)
        return self.last(x)


def residual(x: Tensor) -> Tensor:
    """|x|^2 - 1, (B,)."""
    return x.square().sum(1) - 1.0


def denoise(network: Network, x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x], (B, 2)."""
    c = precondition(sigma, SIGMA_DATA)
    skip, out, scale = (v.reshape(-1, 1) for v in (c.c_skip, c.c_out, c.c_in))
    return skip * x + out * network(scale * x, c.c_noise)


def trained(loss: ResidualLoss | None, steps: int, seed: int = 0) -> Network:
    """A network after ``steps`` steps of Adam on batches of 128; the average of its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network()
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(10_000, generator=generator)
    data = torch.stack([angle.cos(), angle.sin()], 1)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        x0 = data[torch.randint(len(data), (128,), generator=generator)]
        sigma = draw_sigma(128, -1.2, 1.4, generator)
        x = x0 + sigma[:, None] * torch.randn(x0.shape, generator=generator)
        answer = denoise(network, x, sigma)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        total = (weight * (answer - x0).square().mean(1)).mean()
        if loss is not None:
            total = total + loss(lambda y, s: denoise(network, y, s), x, sigma, answer).mean()
        adam.zero_grad(set_to_none=True)
        total.backward()
        adam.step()
        rate.step()
        average.update_parameters(network)
    return average.module.eval()


def measure(network: Network, n: int = 20_000) -> tuple[float, float, float]:
    """Mean |residual| of samples, and the emptiest and the fullest arc."""
    den = fewstep.models.wrap(
        network, fewstep.schedules.EDM(), "x0", precondition="edm", time="c_noise",
        shape=(2,), sigma_data=SIGMA_DATA,
    )  # fmt: skip
    with torch.no_grad():
        x = fewstep.sample(den, sampler="dpmpp_2m", steps=30, n=n, seed=0)
    arcs = torch.histc(torch.atan2(x[:, 1], x[:, 0]), 16, -math.pi, math.pi) * 16 / n
    return float(residual(x).abs().mean()), float(arcs.min()), float(arcs.max())


def rows(steps: int) -> list[str]:
    """The table's lines."""
    settings: list[tuple[str, ResidualLoss | None]] = [("plain", None)]
    for c in (1e-2, 1e-1, 1.0):
        settings.append((f"one step, c = {c:g}", ResidualLoss(residual, c)))
        ddim = sample_estimate("ddim", 4)
        settings.append((f"DDIM, c = {c:g}", ResidualLoss(residual, c, ddim)))
    lines = [
        "| training | mean abs. residual | emptiest arc | fullest arc |",
        "|---|---|---|---|",
        "| data | 0 | 1 | 1 |",
    ]
    for name, loss in settings:
        r, low, high = measure(trained(loss, steps))
        lines.append(f"| {name} | {r:.4f} | {low:.2f} | {high:.2f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Print the table; write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = rows(args.steps)
    if args.write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text("\n".join([before + BEGIN, *lines, END + rest.split(END)[1]]))


if __name__ == "__main__":
    main()
