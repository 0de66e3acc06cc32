"""Train the classifier whose penultimate layer is a bundled feature extractor (``fd-mnist``).

    python -m fewstep.train.classifier --data mnist_train.npz --test mnist_test.npz --out models/bundled/features/mnist

Cross-entropy with label smoothing 0.05, AdamW, one-cycle learning rate; the images are shifted by up to two pixels. The weights are
written in float16 and the test accuracy is measured on what was written. Takes minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..models.classifier import FORMAT, Classifier, ClassifierConfig, load_classifier
from ..models.weights import CONFIG, WEIGHTS
from .data import Images, load_images, to_unit

SHIFT = 2
SMOOTHING = 0.05


def shifted(image: Tensor, generator: torch.Generator, most: int = SHIFT) -> Tensor:
    """Images (n, c, h, h), each moved by up to ``most`` pixels in both directions, filled with -1."""
    n, _, height, width = image.shape
    padded = nn.functional.pad(image, (most,) * 4, value=-1.0)
    moves = torch.randint(0, 2 * most + 1, (2, n), generator=generator)
    rows = moves[0][:, None] + torch.arange(height)
    columns = moves[1][:, None] + torch.arange(width)
    which = torch.arange(n)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def fit(network: Classifier, data: Images, *, epochs: float, batch: int, lr: float, seed: int) -> int:
    """Train in place; returns the number of steps."""
    generator = torch.Generator().manual_seed(seed)
    steps = max(round(epochs * len(data) / batch), 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.2)
    network.train()
    order = torch.empty(0, dtype=torch.int64)
    began = time.perf_counter()
    for step in range(steps):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(data), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        image = shifted(to_unit(data.image[chosen]), generator).contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(network(image), data.label[chosen], label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        cycle.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step + 1}/{steps} loss {loss.item():.4f} {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return steps


@torch.no_grad()
def accuracy(network: Classifier, data: Images, batch: int = 1000) -> float:
    """Share of images whose largest logit is their label."""
    network.eval()
    right = 0
    for i in range(0, len(data), batch):
        right += int((network(to_unit(data.image[i : i + batch])).argmax(1) == data.label[i : i + batch]).sum())
    return right / len(data)


def write(network: Classifier, folder: Path, config: dict[str, Any]) -> None:
    """``model.safetensors`` in float16 and ``config.json``, each under a temporary name, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = network.state_dict()
    tensors = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in kept.items()}
    save_file(tensors, folder / (WEIGHTS + ".tmp"), metadata={"format": "pt"})
    os.chmod(folder / (WEIGHTS + ".tmp"), 0o644)
    (folder / (WEIGHTS + ".tmp")).replace(folder / WEIGHTS)
    (folder / (CONFIG + ".tmp")).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / (CONFIG + ".tmp")).replace(folder / CONFIG)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(prog="python -m fewstep.train.classifier", description=__doc__, formatter_class=form)
    p.add_argument("--data", required=True, help="npz file or folder of images with labels")
    p.add_argument("--test", required=True, help="test images, the same form")
    p.add_argument("--out", required=True, type=Path, help="folder for config.json and model.safetensors")
    p.add_argument("--name", default="fd-mnist", help="what distances of these features are called")
    p.add_argument("--widths", type=int, nargs="+", default=[16, 32, 96])
    p.add_argument("--features", type=int, default=64)
    p.add_argument("--epochs", type=float, default=3.5)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    return p


def main(argv: list[str] | None = None) -> int:
    """Train, write, measure; returns the exit code."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        data, test = load_images(args.data), load_images(args.test)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 3
    _, channels, size, _ = data.image.shape
    shape = ClassifierConfig(size, channels, data.classes, tuple(args.widths), args.features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        network = Classifier(shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    began = time.perf_counter()
    steps = fit(network, data, epochs=args.epochs, batch=args.batch, lr=args.lr, seed=args.seed)
    recipe = {key: getattr(args, key) for key in ("epochs", "batch", "lr", "seed")} | {"shift": SHIFT, "label_smoothing": SMOOTHING}
    digest = hashlib.sha256(data.image.numpy().tobytes()).hexdigest()
    training = {"steps": steps, "seconds": round(time.perf_counter() - began), "recipe": recipe, "images": len(data), "data_sha256": digest}
    config = {"format": FORMAT, "name": args.name, "network": shape.to_dict(), "training": training}
    write(network, args.out, config)
    score = accuracy(load_classifier(args.out)[0], test)
    write(network, args.out, config | {"evaluation": {"accuracy": round(score, 4), "images": len(test)}})
    print(f"test accuracy {score:.4f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
