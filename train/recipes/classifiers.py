"""Recipes of the classifiers whose penultimate layers are the bundled features."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassifierRecipe:
    """Settings of a classifier's training; the first ``small_share`` of the steps uses images of
    side ``small`` (0: full size)."""

    epochs: float = 3.5
    batch: int = 128
    lr: float = 4e-3
    decay: float = 1e-2
    optimizer: str = "adamw"
    shift: int = 2
    fill: str = "black"
    mirror: bool = False
    label_smoothing: float = 0.05
    small: int = 0
    small_share: float = 0.0
    seed: int = 0
    bfloat16: bool = False


#: recipe and shape (widths, features, kind) of each bundled network
CLASSIFIERS: dict[str, tuple[ClassifierRecipe, tuple[list[int], int, str], str]] = {
    "mnist": (ClassifierRecipe(), ([16, 32, 96], 64, "strided"), "fd-mnist"),
    "cifar10": (
        ClassifierRecipe(
            16.0,
            512,
            0.5,
            1e-3,
            "nesterov",
            fill="reflect",
            mirror=True,
            label_smoothing=0.1,
            bfloat16=True,
        ),
        ([24, 64, 128, 256], 256, "whitened"),
        "fd-cifar",
    ),
}
