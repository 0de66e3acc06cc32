"""Flags that several commands share. A flag that is not given is None, so that a --config file can
set it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..jobs.settings import FINALS, FORMATS

VALUE_RANGE = (
    "black and white in floating point npy files, such as --value-range=0,1 or =0,255 (default: "
    "-1,1, and they are checked)"
)


def add_drawing(
    p: argparse.ArgumentParser,
    seeds: str = "0-63",
    labels: str = "cycle",
    sampler: str = "auto",
) -> None:
    """What is drawn, from which model and how."""
    p.add_argument("--model", help="a bundled name, `mixture` (exact), or a folder (default mnist)")
    p.add_argument("--seeds", help=f"one a sample: 0-63, or 1,4,10-12 (default {seeds})")
    add_batch(p, "samples drawn together; part of what decides the bytes (default 64)")
    p.add_argument("--sampler", help=f"see `fewstep samplers` (default {sampler})")
    p.add_argument("--steps", type=int, help="grid steps (default 20)")
    p.add_argument("--nfe", type=int, help="a budget of network calls instead of --steps")
    p.add_argument("--grid", help="time grid (default auto; see `fewstep plan --help`)")
    p.add_argument("--final", choices=FINALS, help="where the grid ends (default zero)")
    p.add_argument(
        "-o",
        "--option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of the sampler; may be repeated",
    )
    p.add_argument(
        "--labels",
        help="classes: cycle (seed modulo classes), random, none, or a list such as 7 or 0,1 "
        f"(default {labels})",
    )
    p.add_argument(
        "--cond",
        help="safetensors file of the model's conditions by name, one row for all samples or one "
        "a sample",
    )
    p.add_argument(
        "--size",
        help="of a sample in the network's own units, such as 64 or 64x96, for networks from "
        "diffusers",
    )
    add_guidance(p)
    add_device(p)


def add_guidance(p: argparse.ArgumentParser) -> None:
    """How the model is guided by its conditions."""
    p.add_argument("--guidance", help="method, such as cfg; an unknown name lists all of them")
    p.add_argument(
        "--scale",
        dest="guidance_scale",
        type=float,
        help="of the guidance; 1 is the conditional prediction",
    )
    p.add_argument(
        "--interval",
        dest="guidance_interval",
        metavar="LO,HI",
        help="noise levels rho = sigma / alpha outside of which the scale is 1, such as 0.2,2",
    )
    p.add_argument(
        "-g",
        "--guidance-option",
        action="append",
        metavar="KEY=VALUE",
        help="a further option of the guidance, such as rescale=0.7; may be repeated",
    )


def add_steering(p: argparse.ArgumentParser) -> None:
    """How samples are chosen by a reward."""
    p.add_argument("--steer", help="method, such as smc; an unknown name lists all of them")
    p.add_argument(
        "--reward",
        metavar="WHERE:FUNCTION",
        help="function of a batch of samples that returns a number each: package.module:function "
        "or file.py:function, which is imported",
    )
    p.add_argument("--particles", type=int, help="runs for each sample (default 16)")
    p.add_argument(
        "--steer-option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of the method, such as temperature=0.5; may be repeated",
    )


def add_images(p: argparse.ArgumentParser) -> None:
    """How image files are read."""
    p.add_argument(
        "--skip-corrupt",
        action="store_true",
        default=None,
        help="leave out images that cannot be read, and count them",
    )
    p.add_argument("--value-range", metavar="=LOW,HIGH", help=VALUE_RANGE)


def add_batch(p: argparse.ArgumentParser, text: str) -> None:
    """--batch."""
    p.add_argument("--batch", type=int, help=text)


def add_device(p: argparse.ArgumentParser) -> None:
    """--device."""
    p.add_argument("--device", help="where the network runs (default: a GPU if there is one)")


def add_format(p: argparse.ArgumentParser) -> None:
    """--format of drawn samples."""
    p.add_argument(
        "--format",
        choices=FORMATS,
        help="png: a file a sample; npz: one a block (default png for pictures)",
    )


def add_config(p: argparse.ArgumentParser, json: str) -> None:
    """--config and --json, which prints ``json``."""
    p.add_argument("--config", type=Path, help="YAML file of these settings; flags override it")
    add_json(p, json)


def add_json(p: argparse.ArgumentParser, json: str) -> None:
    """--json, which prints ``json``."""
    p.add_argument("--json", action="store_true", help=json)
