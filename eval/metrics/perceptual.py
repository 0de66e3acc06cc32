"""LPIPS: the distance of two images in the features of a network trained on ImageNet (Zhang et al.
2018, arXiv 1801.03924, eq. 1).

    d(a, b) = sum over layers l of the mean over positions of sum_c w_lc (f_lc(a) - f_lc(b))^2,
    f_l = F_l / sqrt(sum_c F_lc^2 + 1e-8)

F_l is a layer's output after its ReLU, for images in [-1, 1] shifted and scaled per channel; the
weights w are those of version 0.1. The network's weights (torchvision's state dict of ``alexnet``
or ``vgg16``) come from a local file and are never downloaded; the small heads w come from
torchmetrics' package or a file of the user. The layers are built here because torchmetrics' own
make torchvision download them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import unknown
from ...models.errors import ModelError
from ..errors import ScoreError
from ..features.extractors import module_hash, to_signed
from ..features.inception import read_state

#: a convolution (channels, side, stride, padding), or a maximum pool (side, stride)
Layer = tuple[int, ...]
_ALEX: tuple[Layer, ...] = (
    (64, 11, 4, 2),
    (3, 2),
    (192, 5, 1, 2),
    (3, 2),
    (384, 3, 1, 1),
    (256, 3, 1, 1),
    (256, 3, 1, 1),
)
_VGG: tuple[Layer, ...] = tuple(
    layer
    for width, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for layer in (*[(width, 3, 1, 1)] * times, (2, 2))
)[:-1]
#: network -> layers, indices of the ReLUs whose outputs are compared, smallest side of an image
NETS: dict[str, tuple[tuple[Layer, ...], tuple[int, ...], int]] = {
    "alex": (_ALEX, (1, 4, 7, 9, 11), 31),
    "vgg": (_VGG, (3, 8, 15, 22, 29), 16),
}
#: channels of the compared outputs
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True, eq=False)
class Lpips:
    """The LPIPS distance with its weights, called on two batches of images. ``digest`` is the
    SHA-256 of all weights."""

    network: nn.Sequential
    heads: tuple[Tensor, ...]
    taps: tuple[int, ...]
    least: int
    name: str
    digest: str

    @torch.no_grad()
    def __call__(self, a: Any, b: Any) -> Tensor:
        """Distance of each pair, (n,), of images (n, 3 or 1, h, w), uint8 or floating point in
        [-1, 1]. ScoreError for others."""
        x, y = self._ready(a), self._ready(b)
        if x.shape != y.shape or not len(x):
            raise ScoreError(
                f"pairs of shapes {tuple(x.shape)} and {tuple(y.shape)}: must be equal, "
                "non-empty and (n, c, h, w)"
            )
        total = torch.zeros(len(x), device=x.device)
        taken = 0
        for index, layer in enumerate(self.network):
            x, y = layer(x), layer(y)
            if index in self.taps:
                total += (
                    (self.heads[taken] * (_normalised(x) - _normalised(y)).square())
                    .sum(dim=1)
                    .mean(dim=(1, 2))
                )
                taken += 1
        return total

    def _ready(self, images: Any) -> Tensor:
        given = torch.as_tensor(images).detach()
        if given.ndim != 4 or given.shape[1] not in (1, 3) or min(given.shape[2:]) < self.least:
            raise ScoreError(
                f"images {tuple(given.shape)}: {self.name} takes (n, 3 or 1, h, w) with sides >= "
                f"{self.least}"
            )
        if not (given.dtype == torch.uint8 or given.is_floating_point()):
            raise ScoreError(
                f"images must be uint8 or floating point in [-1, 1], got {given.dtype}"
            )
        x = to_signed(given) if given.dtype == torch.uint8 else given.to(torch.float32)
        if not bool(torch.isfinite(x).all()) or float(x.abs().max() if x.numel() else 0.0) > 1.01:
            raise ScoreError("images must be finite and in [-1, 1]")
        shift, scale = (
            torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (SHIFT, SCALE)
        )
        return (x.expand(-1, 3, -1, -1) - shift) / scale


def load_lpips(weights: str | Path, net: str = "alex", heads: str | Path | None = None) -> Lpips:
    """Load LPIPS on ``net`` (``alex`` or ``vgg``).

    Args:
        weights: file with torchvision's state dict of ``alexnet`` or ``vgg16``.
        net: ``alex`` or ``vgg``.
        heads: file with ``lin0.model.1.weight`` and so on; default the one in torchmetrics'
            package.

    Raises ModelError for an unknown network, and for files that are missing or hold something else
    (they are read as tensors alone, never unpickled).
    """
    if net not in NETS:
        raise ModelError(unknown("LPIPS network", net, NETS))
    layers, taps, least = NETS[net]
    network = _network(layers, read_state(weights), weights)
    rows = _heads(_heads_file(net) if heads is None else Path(heads), WIDTHS[net])
    whole = nn.Module()
    whole.network = network
    for index, row in enumerate(rows):
        whole.register_buffer(f"head{index}", row)
    return Lpips(network, tuple(rows), taps, least, f"lpips-{net}", module_hash(whole))


def _network(
    layers: tuple[Layer, ...], state: dict[str, Tensor], path: str | Path
) -> nn.Sequential:
    """The convolutional layers, numbered as in torchvision."""
    made: list[nn.Module] = []
    inputs = 3
    for layer in layers:
        if len(layer) == 2:
            made.append(nn.MaxPool2d(*layer))
            continue
        outputs, side, stride, padding = layer
        made += [nn.Conv2d(inputs, outputs, side, stride, padding), nn.ReLU()]
        inputs = outputs
    network = nn.Sequential(*made)
    found = {
        key.removeprefix("features."): value.float()
        for key, value in state.items()
        if key.startswith("features.")
    }
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        what = "; ".join(str(error).split("\n")[1:3]).replace("\t", "")
        raise ModelError(
            f"{str(path)!r} is not torchvision's state dict of that network: {what[:300]}"
        ) from error
    return network.eval().requires_grad_(False)


def _heads_file(net: str) -> Path:
    found = find_spec("torchmetrics")
    places = (
        [] if found is None else [Path(place) for place in found.submodule_search_locations or ()]
    )
    files = [place / "functional" / "image" / "lpips_models" / f"{net}.pth" for place in places]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ModelError(
            f"LPIPS' heads for {net!r} come with torchmetrics (pip install torchmetrics), or "
            "give a file of them: heads="
        )
    return file


def _heads(path: Path, widths: tuple[int, ...]) -> list[Tensor]:
    state = read_state(path)
    rows = [
        next(
            (
                state[key]
                for key in (f"lin{i}.model.1.weight", f"lin{i}.model.0.weight")
                if key in state
            ),
            None,
        )
        for i in range(len(widths))
    ]
    wrong = [
        i for i, row in enumerate(rows) if row is None or tuple(row.shape) != (1, widths[i], 1, 1)
    ]
    if wrong:
        raise ModelError(
            f"{str(path)!r} does not hold LPIPS' heads: lin{wrong[0]}.model.1.weight must be (1, "
            f"{widths[wrong[0]]}, 1, 1)"
        )
    return [row.float() for row in rows if row is not None]


def _normalised(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
