"""Recipes of the bundled models: the network's architecture and the training settings.

``mnist`` is small enough for two CPU cores (1.8M parameters; the digits are sharp after an hour).
``cifar10`` (4.5M parameters) is meant to be resumed several times, or trained for half an hour on a
data-centre GPU.
"""

from __future__ import annotations

from ...models.unet import UNetConfig
from ..loop import Recipe

DIGITS = tuple("0123456789")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

RECIPES: dict[str, Recipe] = {
    "mnist": Recipe(
        UNetConfig(28, 1, 10, widths=(64, 96), blocks=(1, 2), attention=(1,)),
        lr=1.5e-3,
        labels=DIGITS,
    ),
    "cifar10": Recipe(
        UNetConfig(32, 3, 10, widths=(96, 128, 128), blocks=(1, 2, 1), attention=(1, 2)),
        lr=1e-3,
        batch=64,
        flip=True,
        labels=CIFAR,
    ),
}
