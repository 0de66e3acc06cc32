"""The flags of a training run."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Add them to ``p``."""
    p.add_argument("--model", default="mnist", help="the recipe (default mnist)")
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
