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
    from collections.abc import Callable
    from dataclasses import replace
    from pathlib import Path
    from typing import Any

    import torch

    from ..checks import ArgumentError, UsageError, choice, integer, number
    from ..checks.commands import guarded, tell
    from ..models.weights import names
    from .arguments import add_arguments
    from .data import Images, load_images
    from .evaluate import main as evaluate
    from .export import export, merge_log, start_from
    from .fields import Fields, load_fields
    from .loop import STATE, Recipe, begin, network_of, resume, train
    from .recipes import RECIPES
    from .residual_loss import ResidualLoss
except KeyboardInterrupt:  # these imports take seconds; no work has started yet
    sys.exit(130)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(
        prog="python -m fewstep.train", description=__doc__, formatter_class=form
    )
    add_arguments(p)
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


def run(args: argparse.Namespace, residual: Callable[[Recipe], ResidualLoss] | None = None) -> int:
    """Run the command; ``residual`` makes the residual loss of the run's recipe. Raises
    ArgumentError for unusable arguments."""
    recipe = RECIPES[choice("--model", args.model, RECIPES)]
    folder = args.folder or Path("checkpoints") / args.model
    check(args)
    if args.export:
        return write_model(args, folder, recipe)
    if args.data is None:
        raise UsageError("--data is needed")
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
    if residual is not None:
        recipe = replace(recipe, residual=residual(recipe))
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
