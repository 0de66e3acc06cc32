"""Train a bundled model, or one of your own, on a CPU or a GPU.

    python -m fewstep.train --model mnist --data mnist_train.npz --hours 1
    python -m fewstep.train --model cifar10 --data cifar10_train.npz --hours 1 --resume
    python -m fewstep.train --model darcy --data darcy_train.npz --hours 1
    python -m fewstep.train --model cifar10 --export models/bundled/cifar10 --test cifar10_test.npz
        --log docs/training/cifar10.csv

Checkpoints and the loss log go to checkpoints/MODEL; a run may be stopped and resumed at any time,
and exported while it runs.
"""

from __future__ import annotations

import sys

try:
    import argparse
    from dataclasses import replace
    from pathlib import Path
    from typing import Any

    import torch

    from ..checks import ArgumentError, integer, number
    from ..checks.commands import guarded, tell
    from ..models.weights import names
    from .data import Images, load_images
    from .evaluate import main as evaluate
    from .export import export, merge_log, start_from
    from .fields import Fields, load_fields
    from .loop import STATE, Recipe, begin, network_of, resume, train
    from .recipes import RECIPES
except KeyboardInterrupt:  # these imports take seconds; no work has started yet
    sys.exit(130)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(
        prog="python -m fewstep.train", description=__doc__, formatter_class=form
    )
    p.add_argument("--model", default="mnist", choices=sorted(RECIPES), help="the recipe")
    p.add_argument("--data", help="npz or folder of images (class sub-folders), or npz of fields")
    p.add_argument("--size", type=int, help="crop and resize the images of a folder to this size")
    p.add_argument(
        "--hours",
        type=float,
        default=1.0,
        help="length of this run; the learning rate reaches zero at its end",
    )
    p.add_argument("--steps", type=int, help="stop after this many steps")
    p.add_argument(
        "--folder", type=Path, help="checkpoints and loss log (default checkpoints/MODEL)"
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="resume from the checkpoint, else from the bundled weights",
    )
    p.add_argument("--lr", type=float, help="learning rate instead of the recipe's")
    p.add_argument("--batch", type=int, help="batch size instead of the recipe's")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, help="CPU threads")
    p.add_argument("--device", default="cpu")
    p.add_argument(
        "--export",
        type=Path,
        metavar="OUT",
        help="write the averaged weights (config.json, model.safetensors) to OUT and stop",
    )
    p.add_argument(
        "--test", help="with --export: test images; their loss is recorded in config.json"
    )
    p.add_argument("--log", type=Path, help="with --export: update this loss log")
    return p


def write_model(args: argparse.Namespace, folder: Path, recipe: Recipe) -> int:
    """Run the command --export."""
    recipe = replace(recipe, network=network_of(folder))
    state = begin(recipe, args.seed)
    resume(state, folder)
    export(state, recipe, args.export)
    if args.log:
        merge_log(folder / "loss.csv", args.log)
    if args.test:
        return evaluate(["--model", str(args.export), "--data", args.test, "--record"])
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return guarded(lambda: run(parser().parse_args(argv)), "fewstep.train", process=argv is None)


def run(args: argparse.Namespace) -> int:
    """Run the command. Raises ArgumentError for unusable arguments."""
    folder = args.folder or Path("checkpoints") / args.model
    recipe = RECIPES[args.model]
    check(args)
    if args.export:
        return write_model(args, folder, recipe)
    if args.data is None:
        parser().error("--data is needed")
    data = read_data(args, recipe)
    if data.left_out:
        tell(f"{args.data}: {data.left_out}")
    shape: dict[str, Any] = {
        "image_size": data.image.shape[2],
        "channels": data.image.shape[1],
        "classes": data.classes,
    }
    given = {key: value for key in ("lr", "batch") if (value := getattr(args, key)) is not None}
    recipe = replace(recipe, network=replace(recipe.network, **shape), **given)
    state = begin(recipe, args.seed, args.device)
    if args.resume and (folder / STATE).exists():
        resume(state, folder)
    elif args.resume and args.model in names():
        start_from(state, args.model)
    if isinstance(data, Fields):
        state.provenance = data.provenance
    train(state, recipe, data, args.hours * 3600, folder, args.seed, steps=args.steps, report=tell)
    return 0


def read_data(args: argparse.Namespace, recipe: Recipe) -> Images | Fields:
    """Read --data: physical fields if the recipe has maps for them, else images."""
    if recipe.fields is None:
        return load_images(args.data, args.size)
    if args.size is not None:
        raise ArgumentError(f"--size {args.size}: fields are not resized; make them of that size")
    return load_fields(args.data, recipe.fields)


def check(args: argparse.Namespace) -> None:
    """Raise ArgumentError for unusable numbers or devices before any file is read."""
    for name in ("size", "steps", "batch", "threads"):
        if getattr(args, name) is not None:
            integer(f"--{name}", getattr(args, name), 1)
    integer("--seed", args.seed, 0, 2**40)
    number("--hours", args.hours, 0.0, 1e6)
    if args.lr is not None:
        number("--lr", args.lr, 1e-12, 1e3)
    try:
        torch.zeros(1, device=args.device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ArgumentError(
            f"--device {args.device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "the CPU is cpu"
        ) from None
    if args.threads:
        torch.set_num_threads(args.threads)


if __name__ == "__main__":
    sys.exit(main())
