"""Draw samples from a model into a folder: one file a sample (or npz blocks), a grid picture and a
manifest.

    fewstep generate --out samples/demo
    fewstep generate --model mnist --out digits --seeds 0-999 --batch 100 --sampler unipc --nfe 8 -o
        order=3 --labels 7
    accelerate launch -m fewstep generate --out digits --seeds 0-49999

Run again after a stop, the same command goes on where it was: seeds are cut into blocks of --batch,
whole blocks are kept, and the bytes are those of an unbroken run. Several processes, as accelerate,
torchrun or mpirun start them, share the blocks.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, FewstepError, integer
from ..checks.answers import short_of_memory
from ..checks.commands import tell
from ..files import dumps, pieces, sha256
from .blocks import Block, Folder, cut
from .conditions import Conditions
from .devices import device_named as device_named
from .devices import move as move
from .options import parse_options, plain_option
from .pictures import is_image
from .processes import place
from .settings import FINALS, FORMATS, parse_seeds, parse_size, resolve

if TYPE_CHECKING:
    from ..engine.planning import Request
    from ..models.denoiser import Denoiser

HELP = "draw samples from a model into a folder"

#: states of a block that a run holds at least: the state, a prediction, one kept prediction, the
#: next state
STATES = 4

DEFAULTS: dict[str, Any] = {
    "model": "mnist",
    "seeds": "0-63",
    "batch": 64,
    "sampler": "dpmpp_2m",
    "steps": None,
    "nfe": None,
    "grid": "auto",
    "final": "zero",
    "option": {},
    "labels": "cycle",
    "cond": None,
    "size": None,
    "format": None,
    "device": "auto",
}


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The flags; a flag that is not given is None, so that a --config file can speak."""
    p.add_argument("--out", required=True, type=Path, help="the folder to write to")
    drawing_arguments(p)
    p.add_argument(
        "--format",
        choices=FORMATS,
        help="png: a file a sample; npz: one a block (default png for pictures)",
    )
    p.add_argument("--config", type=Path, help="YAML file of these settings; flags override it")
    p.add_argument("--json", action="store_true", help="print the manifest")


def drawing_arguments(
    p: argparse.ArgumentParser, seeds: str = "0-63", labels: str = "cycle"
) -> None:
    """The flags of what is drawn, from which model and how."""
    p.add_argument("--model", help="a bundled name, `mixture` (exact), or a folder (default mnist)")
    p.add_argument("--seeds", help=f"one a sample: 0-63, or 1,4,10-12 (default {seeds})")
    p.add_argument(
        "--batch",
        type=int,
        help="samples drawn together; part of what decides the bytes (default 64)",
    )
    p.add_argument("--sampler", help="see `fewstep samplers` (default dpmpp_2m)")
    p.add_argument("--steps", type=int, help="grid steps (default 20)")
    p.add_argument("--nfe", type=int, help="a budget of network calls instead of --steps")
    p.add_argument("--grid", help="time grid (default auto: the model's own)")
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
    p.add_argument("--device", help="where the network runs (default: a GPU if there is one)")


def execute(args: argparse.Namespace) -> int:
    """The command."""
    args.option = parse_options(args.option) if args.option else None
    settings = resolve(args, DEFAULTS)
    job = Job(settings, args.out)
    records = job.run(progress(len(job.blocks)))
    if records is None:
        tell(f"{args.out}: this process is done; others have blocks left")
        return 0
    manifest = job.folder.finish(job.blocks, records, job.facts)
    if args.json:
        print(dumps(manifest), end="")
    else:
        calls = "its own number of" if manifest["nfe"] is None else manifest["nfe"]
        print(
            f"{manifest['count']} samples of {settings['model']} by {manifest['sampler']}, "
            f"{calls} network calls each: {args.out}"
        )
        print(f"picture: {args.out / 'grid.png'}\nmanifest: {args.out / 'manifest.json'}")
    return 0


class Drawing:
    """What is drawn: everything is checked before the network is called."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Loads the model, builds the plan, cuts the blocks."""
        from .. import models
        from ..models.loading import classes_of

        name, size = str(settings["model"]), parse_size(settings.get("size"))
        place()  # refuses an environment without sense before anything is written
        self.device = device_named(str(settings["device"]))
        seeds, batch = parse_seeds(settings["seeds"]), positive("batch", settings["batch"])
        self.denoiser = models.load(name) if size is None else models.load(name, size=size)
        self.asked = _asked(settings, self.denoiser)
        shape = self.denoiser.shape
        if shape is None:
            raise ArgumentError(
                f"the model {settings['model']!r} does not know the shape of a sample: give --size"
            )
        self.shape = tuple(shape)
        refuse_large(self.shape, min(batch, len(seeds)))
        labels = _labels(
            "none" if settings.get("cond") else str(settings["labels"]),
            seeds,
            classes_of(self.denoiser),
        )
        self.blocks = cut(seeds, labels, batch)
        self.conditions = Conditions(settings.get("cond"), self.blocks, self.denoiser)
        self.hashes = _hashes(settings, self.asked) | self.conditions.hashes
        self.facts = {
            "model": str(settings["model"]),
            "sampler": self.asked.name,
            "nfe": _nfe(self.asked),
            **self.hashes,
        }
        self.moved = False

    def draw(self, block: Block) -> Any:
        """The samples of a block, a float array on the host."""
        from ..engine.sampling import execute, start_state

        if not self.moved:
            move(self.denoiser, self.device)
            self.moved = True
        cond = self.conditions.of(block, self.device)
        x = start_state(self.denoiser, self.asked.grid[0], block.seeds, device=self.device)
        try:
            return (
                execute(self.asked, self.denoiser, x, seeds=block.seeds, cond=cond)[0].cpu().numpy()
            )
        except RuntimeError as error:
            if isinstance(
                error, FewstepError | NotImplementedError | RecursionError
            ) or short_of_memory(error):
                raise
            raise ArgumentError(
                f"the model does not take samples of shape {self.shape}: "
                f"{str(error).splitlines()[0]}"
            ) from error


class Job(Drawing):
    """One run into a folder, which is taken before the network is called."""

    def __init__(self, settings: Mapping[str, Any], out: Path) -> None:
        """Checks and takes the folder."""
        super().__init__(settings)
        if not str(out).strip() or out == Path():
            raise ArgumentError("--out is empty: the name of a folder is wanted")
        kind = settings["format"] or ("png" if is_image(self.shape) else "npz")
        if kind == "png" and not is_image(self.shape):
            raise ArgumentError(
                f"--format png: samples of shape {self.shape} are no pictures; allowed: npz"
            )
        self.folder = Folder(out, kind, self.shape)
        chosen = {k: v for k, v in settings.items() if k not in ("device", "format")}
        option = {key: plain_option(value) for key, value in (chosen["option"] or {}).items()}
        self.folder.open({**chosen, "option": option, "format": kind, **self.hashes})

    def run(self, report: Callable[[int], None]) -> list[dict[str, Any]] | None:
        """Make the missing blocks of this process; the records of all blocks, or None while other
        processes have some left."""
        rank, world = place()
        for block in self.blocks[rank::world]:
            if self.folder.record(block) is None:
                self.folder.save(block, self.draw(block))
            report(block.index)
        records = [self.folder.record(block) for block in self.blocks]
        return (
            None
            if any(record is None for record in records)
            else [r for r in records if r is not None]
        )


def _asked(settings: Mapping[str, Any], denoiser: Denoiser) -> Request:
    from ..engine.planning import request

    names = ("steps", "nfe", "grid", "final")
    return request(
        settings["sampler"],
        denoiser.schedule,
        settings["option"] or {},
        **{name: settings[name] for name in names},
    )


def _nfe(asked: Request) -> int | None:
    """Network calls of each block; None for a driver, whose steps depend on the block's data."""
    return None if asked.driver else asked.plan().nfe


def _labels(text: str, seeds: Sequence[int], classes: int) -> list[int | None]:
    """One label a seed; None for no class."""
    if text == "none" or (text in ("cycle", "random") and classes == 0):
        return [None] * len(seeds)
    if text == "cycle":
        return [seed % classes for seed in seeds]
    if text == "random":
        return [mixed(seed) % classes for seed in seeds]
    if classes == 0:
        raise ArgumentError(f"--labels {text!r}: the model takes no classes; allowed: none")
    try:
        given = [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(
            f"--labels {text!r}: allowed are cycle, random, none, or numbers below {classes} "
            "such as 0,1,2"
        ) from None
    if not all(0 <= k < classes for k in given):
        raise ArgumentError(f"--labels {text!r}: allowed are 0 to {classes - 1}")
    return [given[i % len(given)] for i in range(len(seeds))]


def mixed(seed: int) -> int:
    """64 bits that look random: SplitMix64's output for ``seed`` (Steele, Lea & Flood 2014, doi
    10.1145/2660193.2660195)."""
    mask = 2**64 - 1
    z = ((seed + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def _hashes(settings: Mapping[str, Any], asked: Request) -> dict[str, str]:
    """SHA-256 of the plan (of a driver: of its name, options and grid) and of the model's weights
    (of its name where it has no file)."""
    from ..models.loading import files_of

    name = str(settings["model"])
    files = files_of(name)
    what = (
        repr((asked.name, asked.options, asked.grid.times))
        if asked.driver
        else asked.plan().to_json()
    )
    return {
        "plan_sha256": sha256(what),
        "model_sha256": sha256(*(chunk for file in files for chunk in pieces(file)))
        if files
        else name,
    }


def refuse_large(shape: Sequence[int], batch: int) -> None:
    """ArgumentError where the states of one block are larger than this machine's memory."""
    wanted, there = 4 * STATES * batch * math.prod(shape), memory()
    if there is not None and wanted > there:
        sizes = (
            f"{wanted / 1e9:.3g} GB for {STATES} states of {batch} samples of shape "
            f"{tuple(shape)}, of {there / 1e9:.3g} GB here"
        )
        raise ArgumentError(
            f"the memory does not hold one block: {sizes}; give a smaller --batch or --size"
        )


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def positive(what: str, value: Any) -> int:
    """``value`` if it is an integer of at least 1. Raises ValueError."""
    return integer(what, value, 1)


def progress(total: int) -> Callable[[int], None]:
    """A line on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        return lambda index: None
    return lambda index: tell(
        f"\rblock {index + 1}/{total}", end="\n" if index + 1 == total else ""
    )
