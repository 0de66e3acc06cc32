"""Computes the test loss that verifies a trained model: ``python -m fewstep.train.evaluate --model
mnist --data mnist_test.npz``.

The EDM loss ``lambda(s) |D(x0 + s n; s) - x0|^2`` per pixel (Karras et al. 2022, arXiv 2206.00364,
Eq. 8) over the first 2,000 test images with their labels, or over fields, in float32. Sample i gets
noise level ``exp(P_mean + P_std q)``, with the mean and deviation of the model's training, at a
fixed quantile of the normal distribution, and fixed noise, both from seed 0, so that the same
weights give the same loss on any machine, up to rounding. The loss of a network that returns F = 0
is printed for comparison.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import integer
from ..checks.commands import guarded, tell
from ..models.field_maps import FieldMaps
from ..models.unet import UNet
from ..models.weights import load_network, locate
from .data import DataError, Images, load_images, to_unit
from .export import write_config
from .fields import Fields, load_fields
from .loss import edm_loss

P_MEAN, P_STD = -1.2, 1.2


@dataclass(frozen=True)
class Score:
    """Losses of the network (``loss``) and of a network that returns 0 (``zero``), over ``images``
    images with noise from ``seed``."""

    loss: float
    zero: float
    images: int
    seed: int


def fixed_sigma(n: int, mean: float = P_MEAN, std: float = P_STD) -> Tensor:
    """Return the ``n`` mid-quantiles of the log-normal distribution, ascending, (n,)."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.exp(mean + std * torch.special.ndtri(u)).float()


def evaluate(
    network: UNet,
    data: Images | Fields,
    sigma_data: float = 0.5,
    images: int = 2000,
    seed: int = 0,
    batch: int = 100,
    levels: tuple[float, float] = (P_MEAN, P_STD),
) -> Score:
    """Return the loss of ``network`` on the first ``images`` samples of ``data`` at the
    log-normal ``levels`` (mean, deviation); deterministic."""
    n = min(images, len(data))
    generator = torch.Generator().manual_seed(seed)
    sigma = fixed_sigma(n, *levels)[torch.randperm(n, generator=generator)]
    total, zero = 0.0, 0.0
    with torch.inference_mode():
        for i in range(0, n, batch):
            x0, s = to_unit(data.image[i : min(n, i + batch)]), sigma[i : i + batch]
            label = data.label[i : i + len(x0)] if network.config.classes else None
            noise = torch.randn(x0.shape, generator=generator)
            total += edm_loss(network, x0, s, noise, label, sigma_data).double().sum().item()
            zero += (
                edm_loss(lambda x, c, y: torch.zeros_like(x), x0, s, noise, label, sigma_data)
                .double()
                .sum()
                .item()
            )
    return Score(total / n, zero / n, n, seed)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m fewstep.train.evaluate", description=__doc__)
    p.add_argument("--model", default="mnist", help="bundled name or model folder")
    p.add_argument("--data", required=True, help="npz file or folder of test images or fields")
    p.add_argument("--images", type=int, default=2000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", action="store_true", help="one JSON object on stdout")
    p.add_argument(
        "--record", action="store_true", help="write the loss into the model's config.json"
    )
    p.add_argument(
        "--check",
        action="store_true",
        help="exit with 5 if the loss differs from config.json's by more than 1e-3",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0 ok, 3 bad model or data, 5 the loss differs from the
    documented one."""
    return guarded(
        lambda: run(parser().parse_args(argv)), "fewstep.train.evaluate", process=argv is None
    )


def documented(config: Mapping[str, Any]) -> float | None:
    """Return the loss recorded in config.json; None if there is none."""
    found = config.get("evaluation")
    loss = found.get("loss") if isinstance(found, dict) else None
    return float(loss) if isinstance(loss, int | float) and not isinstance(loss, bool) else None


def trained_levels(config: Mapping[str, Any]) -> tuple[float, float]:
    """Return mean and deviation of log sigma in the training that config.json describes."""
    recipe = config.get("training", {}).get("recipe", {})
    return float(recipe.get("p_mean", P_MEAN)), float(recipe.get("p_std", P_STD))


def test_data(path: str, config: Mapping[str, Any]) -> Images | Fields:
    """Read fields for a model of physical fields, else images."""
    if "fields" in config:
        return load_fields(path, FieldMaps.from_list(config["fields"]))
    return load_images(path)


def check_fit(network: UNet, data: Images | Fields) -> None:
    """Raise DataError if the network does not accept these images and labels."""
    config = network.config
    wanted, found = (
        (config.channels, config.image_size, config.image_size),
        tuple(data.image.shape[1:]),
    )
    if wanted != found:
        raise DataError(f"the network takes images of shape {wanted}, the data have shape {found}")
    if config.classes and data.classes > config.classes:
        raise DataError(f"the network has {config.classes} classes, the data {data.classes}")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    images = integer("--images", args.images, 1)
    loaded = load_network(args.model)
    data = test_data(args.data, loaded.config)
    if data.left_out:
        tell(f"{args.data}: {data.left_out}")
    check_fit(loaded.network, data)
    score = evaluate(
        loaded.network,
        data,
        loaded.sigma_data,
        images,
        integer("--seed", args.seed, 0, 2**63 - 1),
        levels=trained_levels(loaded.config),
    )
    known = documented(loaded.config)
    if args.json:
        print(json.dumps(asdict(score) | {"documented": known}, allow_nan=False))
    else:
        print(
            f"EDM loss {score.loss:.5f}  (F = 0 gives {score.zero:.5f}; {score.images} "
            f"images, seed {score.seed})"
        )
        if known is not None:
            print(f"documented {known:.5f}  difference {score.loss - known:+.1e}")
    if args.record:
        rounded = asdict(score) | {"loss": round(score.loss, 5), "zero": round(score.zero, 5)}
        write_config(locate(args.model), dict(loaded.config) | {"evaluation": rounded})
    if args.check and (known is None or not abs(score.loss - known) <= 1e-3):
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
