"""Trains the classifier whose penultimate layer is a bundled feature extractor (``fd-mnist``,
``fd-cifar``).

    python -m fewstep.train.classifier --recipe mnist --data mnist_train.npz --test mnist_test.npz
        --out models/bundled/features/mnist
    python -m fewstep.train.classifier --recipe cifar10 --data cifar10_train.npz --test
        cifar10_test.npz --out FOLDER

Cross-entropy with label smoothing under a one-cycle learning rate; each image is shifted by up to
two pixels. ``mnist``: AdamW. ``cifar10``: Nesterov momentum, mirrored images in every other epoch,
bfloat16 autocast if the CPU has AVX-512. The first steps may use smaller images (bilinear,
antialiased). The weights are written in float16, and the test accuracy is that of the written
weights on images without augmentation. With ``--checkpoint`` an interrupted run continues from its
last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..checks import ArgumentError
from ..files import sha256, write_tensors
from ..models.classifier import FORMAT, PATCH, Classifier, ClassifierConfig, load_classifier
from ..models.weights import WEIGHTS
from .augmentation import mirrored, shifted
from .data import Images, load_images, to_unit
from .export import write_config
from .loop import fast_bfloat16
from .recipes.classifiers import CLASSIFIERS, ClassifierRecipe

#: added to the variance of a principal axis before it is scaled to one: limits the gain of noise
WHITEN_FLOOR = 5e-3


@torch.no_grad()
def whiten(network: Classifier, image: Tensor, most: int = 5000) -> None:
    """Set the stem to the principal axes of the patches of ``image`` uint8 (n, c, h, h):
    ``e_i / sqrt(l_i + floor)`` and the negatives.

    Uses up to ``most`` images spread over the whole set, because the set may be sorted by class.
    """
    stem: Any = network.get_submodule("body.0.0")
    some = image[:: max(len(image) // most, 1)][:most]
    patches = nn.functional.unfold(to_unit(some), PATCH).transpose(1, 2).flatten(0, 1).double()
    mean = patches.mean(dim=0)
    values, axes = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    half = stem.out_channels // 2
    kernels = (axes / (values + WHITEN_FLOOR).sqrt()).T.flip(0)[:half]
    stem.weight.copy_(torch.cat([kernels, -kernels]).reshape(stem.weight.shape))
    stem.bias.copy_(torch.cat([-kernels @ mean, kernels @ mean]))


class Run:
    """Training in progress: network, optimiser, learning rate, and the order of the images."""

    def __init__(self, network: Classifier, data: Images, recipe: ClassifierRecipe) -> None:
        self.network, self.data, self.recipe = network, data, recipe
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.steps = max(round(recipe.epochs * len(data) / recipe.batch), 1)
        learned = [value for value in network.parameters() if value.requires_grad]
        if recipe.optimizer == "nesterov":
            flat = [v for v in learned if v.ndim < 2]
            groups: Any = [
                {"params": [v for v in learned if v.ndim > 1]},
                {"params": flat, "weight_decay": 0.0},
            ]
            self.optimizer: Any = torch.optim.SGD(
                groups, lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.decay
            )
        else:
            self.optimizer = torch.optim.AdamW(learned, lr=recipe.lr, weight_decay=recipe.decay)
        kind: Any = {"nesterov": {"cycle_momentum": False, "anneal_strategy": "linear"}}.get(
            recipe.optimizer, {}
        )
        self.cycle = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.lr, total_steps=self.steps, pct_start=0.2, **kind
        )
        self.order = torch.empty(0, dtype=torch.int64)
        self.half = (
            torch.rand(len(data), generator=self.generator) < 0.5
            if recipe.mirror
            else torch.zeros(len(data), dtype=torch.bool)
        )
        self.step = 0

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next images, augmented, and their labels."""
        recipe, data = self.recipe, self.data
        while len(self.order) < recipe.batch:
            self.order = torch.cat(
                [self.order, torch.randperm(len(data), generator=self.generator)]
            )
        chosen, self.order = self.order[: recipe.batch], self.order[recipe.batch :]
        image = shifted(to_unit(data.image[chosen]), self.generator, recipe.shift, recipe.fill)
        if recipe.mirror:
            odd = self.step * recipe.batch // len(data) % 2 == 1
            image = mirrored(image, self.half[chosen] ^ odd)
        if self.step < recipe.small_share * self.steps:
            image = nn.functional.interpolate(
                image, (recipe.small,) * 2, mode="bilinear", antialias=True
            )
        return image.contiguous(memory_format=torch.channels_last), data.label[chosen]

    def advance(self) -> float:
        """Make one step; return the loss."""
        image, label = self.batch()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = self.network(image).float()
        loss = nn.functional.cross_entropy(
            logits, label, label_smoothing=self.recipe.label_smoothing
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.cycle.step()
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write the complete state of the run to one safetensors file."""
        state = self.optimizer.state_dict()
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {
            f"optimizer.{i}.{key}": value
            for i, kept in state["state"].items()
            for key, value in kept.items()
        }
        tensors |= {"generator": self.generator.get_state(), "order": self.order, "half": self.half}
        run = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "cycle": self.cycle.state_dict(),
            "groups": state["param_groups"],
        }
        write_tensors(path, tensors, {"run": json.dumps(run)})

    def resume(self, path: Path) -> None:
        """Load the state that ``save`` wrote. Raises ValueError if the file is damaged or belongs
        to another recipe or network."""
        try:
            with safe_open(path, framework="pt") as archive:
                run = json.loads((archive.metadata() or {})["run"])
                tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
            if run["recipe"] != asdict(self.recipe):
                raise ArgumentError(
                    f"it belongs to another recipe, {run['recipe']}: give its options"
                )
            self.network.load_state_dict(
                {key[8:]: value for key, value in tensors.items() if key.startswith("network.")}
            )
            kept: dict[int, dict[str, Tensor]] = {}
            for name in (key for key in tensors if key.startswith("optimizer.")):
                _, i, key = name.split(".")
                kept.setdefault(int(i), {})[key] = tensors[name]
            self.optimizer.load_state_dict({"state": kept, "param_groups": run["groups"]})
            self.cycle.load_state_dict(run["cycle"])
            self.generator.set_state(tensors["generator"])
            self.order, self.half, self.step = tensors["order"], tensors["half"], run["step"]
        except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ArgumentError(
                f"the checkpoint {str(path)!r} cannot be used (remove it to start again): {error}"
            ) from error


def first(shape: ClassifierConfig, data: Images, seed: int) -> Classifier:
    """Return a network with random initial weights, and a whitened stem if its kind has one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(shape)
    if shape.kind == "whitened":
        whiten(network, data.image)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def continued(folder: Path, shape: ClassifierConfig) -> Classifier:
    """Load the network of a folder for further training. Raises ValueError if its architecture
    differs."""
    network = load_classifier(folder)[0]
    if network.config != shape:
        raise ArgumentError(f"{str(folder)!r} holds {network.config}, the recipe needs {shape}")
    for name, value in network.named_parameters():
        value.requires_grad_(not (shape.kind == "whitened" and name == "body.0.0.weight"))
    return network


def begun(folder: Path) -> dict[str, Any]:
    """Return the training record, accuracy and SHA-256 of the model folder that this run
    continues."""
    _, config, digest = load_classifier(folder)
    return {
        **config.get("training", {}),
        "accuracy": config.get("evaluation", {}).get("accuracy"),
        "sha256": digest,
    }


def fit(
    network: Classifier, data: Images, recipe: ClassifierRecipe, checkpoint: Path | None = None
) -> int:
    """Train in place; return the number of steps. ``checkpoint`` is written every 50 steps and
    loaded if it exists."""
    run = Run(network, data, recipe)
    if checkpoint is not None and checkpoint.is_file():
        run.resume(checkpoint)
    network.train()
    began = time.perf_counter()
    while run.step < run.steps:
        loss = run.advance()
        if run.step % 50 == 1 or run.step == run.steps:
            print(
                f"step {run.step}/{run.steps} loss {loss:.4f} {time.perf_counter() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        if checkpoint is not None and run.step % 50 == 0:
            run.save(checkpoint)
    return run.steps


@torch.no_grad()
def accuracy(network: Classifier, data: Images, batch: int = 1000) -> float:
    """Fraction of images whose largest logit is their label."""
    network.eval()
    right = 0
    for i in range(0, len(data), batch):
        right += int(
            (
                network(to_unit(data.image[i : i + batch])).argmax(1) == data.label[i : i + batch]
            ).sum()
        )
    return right / len(data)


def write(network: Classifier, folder: Path, config: dict[str, Any]) -> None:
    """Write ``model.safetensors`` in float16 and ``config.json``."""
    kept = network.state_dict()
    tensors = {
        key: value.half() if value.is_floating_point() else value for key, value in kept.items()
    }
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    write_config(folder, config)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; defaults come from the recipe."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(
        prog="python -m fewstep.train.classifier", description=__doc__, formatter_class=form
    )
    p.add_argument("--data", required=True, help="npz file or folder of images with labels")
    p.add_argument("--test", required=True, help="test images, the same form")
    p.add_argument(
        "--out", required=True, type=Path, help="folder for config.json and model.safetensors"
    )
    p.add_argument("--recipe", default="mnist", choices=sorted(CLASSIFIERS))
    p.add_argument(
        "--name",
        help="name of distances in these features (default: the recipe's, such as fd-mnist)",
    )
    p.add_argument("--widths", type=int, nargs="+")
    p.add_argument("--features", type=int)
    p.add_argument(
        "--start",
        type=Path,
        help="folder of a network of this shape: continue its training with a new cycle of the "
        "learning rate",
    )
    p.add_argument(
        "--checkpoint",
        type=Path,
        help="file from which an interrupted run is resumed; removed at the end",
    )
    p.add_argument("--threads", type=int, default=1)
    for item in fields(ClassifierRecipe):
        if item.name not in ("optimizer", "fill", "mirror", "bfloat16"):
            p.add_argument(
                f"--{item.name.replace('_', '-')}", type=float if item.type == "float" else int
            )
    return p


def main(argv: list[str] | None = None) -> int:
    """Train, write and measure; return the exit code."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    recipe = recipe_of(args)
    try:
        data, test = load_images(args.data), load_images(args.test)
        for path, read in ((args.data, data), (args.test, test)):
            if read.left_out:
                print(f"{path}: {read.left_out}", file=sys.stderr)
        shape = shape_of(args, data)
        began = time.perf_counter()
        network = (
            first(shape, data, recipe.seed) if args.start is None else continued(args.start, shape)
        )
        steps = fit(network, data, recipe, args.checkpoint)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 3
    training = {
        "steps": steps,
        "seconds": round(time.perf_counter() - began),
        "recipe": asdict(recipe),
        "images": len(data),
        "data_sha256": sha256(data.image.numpy()),
    }
    if args.start is not None:
        training["start"] = begun(args.start)
    config = {
        "format": FORMAT,
        "name": args.name or CLASSIFIERS[args.recipe][2],
        "network": shape.to_dict(),
        "training": training,
    }
    score = write_measured(network, args.out, config, test)
    if args.checkpoint is not None:
        args.checkpoint.unlink(missing_ok=True)
    print(f"test accuracy {score:.4f}", file=sys.stderr)
    return 0


def recipe_of(args: argparse.Namespace) -> ClassifierRecipe:
    """Return the named recipe, changed by the options of the command line."""
    recipe = CLASSIFIERS[args.recipe][0]
    given = {item.name: getattr(args, item.name, None) for item in fields(ClassifierRecipe)}
    recipe = replace(recipe, **{key: value for key, value in given.items() if value is not None})
    return replace(recipe, bfloat16=recipe.bfloat16 and fast_bfloat16(torch.device("cpu")))


def shape_of(args: argparse.Namespace, data: Images) -> ClassifierConfig:
    """Return the network's architecture for these images."""
    widths, features, kind = CLASSIFIERS[args.recipe][1]
    _, channels, size, _ = data.image.shape
    widths = args.widths or widths
    features = args.features or features
    return ClassifierConfig(size, channels, data.classes, tuple(widths), features, kind)


def write_measured(
    network: Classifier, folder: Path, config: dict[str, Any], test: Images
) -> float:
    """Write the network, measure the accuracy of the written weights, and add it to the
    configuration; return the accuracy."""
    write(network, folder, config)
    score = accuracy(load_classifier(folder)[0], test)
    evaluation = {"accuracy": round(score, 4), "images": len(test)}
    write(network, folder, config | {"evaluation": evaluation})
    return score


if __name__ == "__main__":
    sys.exit(main())
