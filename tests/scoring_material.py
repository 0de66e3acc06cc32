"""What the tests of scoring share: images of a known law, a small feature network in a folder, and
features of known Gaussians."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from fewstep.models.classifier import Classifier, ClassifierConfig

SIZE = 8


def normal(m: int, q: int, seed: int) -> Tensor:
    return torch.randn(m, q, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pictures(n: int, seed: int = 0, channels: int = 1, light: float = 0.0) -> np.ndarray:
    """(n, 8, 8, channels) uint8: a smooth blob and noise."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(-1.0, 1.0, SIZE)
    at = rng.uniform(-0.5, 0.5, (n, 2))
    blob = np.exp(
        -4.0
        * (
            (grid[None, :, None] - at[:, :1, None]) ** 2
            + (grid[None, None, :] - at[:, 1:, None]) ** 2
        )
    )
    noisy = 200.0 * blob[..., None] + rng.normal(20.0 + light, 10.0, (n, SIZE, SIZE, channels))
    return np.clip(noisy, 0.0, 255.0).astype(np.uint8)


def save_pictures(folder: Path, pixels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, one in enumerate(pixels):
        Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one).save(folder / f"{i:04d}.png")
    return folder


def network(folder: Path, seed: int = 0, features: int = 6) -> Path:
    """A classifier folder of 8 x 8 grey images, untrained."""
    config = ClassifierConfig(
        image_size=SIZE, channels=1, classes=4, widths=(4, 8), features=features
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    made = Classifier(config)
    torch.random.set_rng_state(state)
    folder.mkdir(parents=True)
    save_file(
        {
            key: 3.0 * v if v.is_floating_point() and v.ndim > 1 else v
            for key, v in made.state_dict().items()
        },
        folder / "model.safetensors",
    )
    text = {"format": "fewstep-classifier", "name": "tiny", "network": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(text))
    return folder
