"""Features of images in a work folder, block by block, computed by any number of processes.

    WORK/identity.json          what decides the features
    WORK/features/00003.safetensors     features, logits if needed, places and digests of the
                                        images, and the images that could not be read

A block that is complete is not computed again. The first process waits for all blocks and adds
them up in their order, so the sums have the same bits for any number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checks import ArgumentError, parse_json
from ..eval.features.extractors import FeatureExtractor
from ..eval.features.image_sources import Batch, Unreadable, image_digests, joint_digest
from ..eval.features.value_range import Values
from ..eval.scoring.features import Collected
from ..files import dumps, read_json, sha256, write, write_tensors
from .folder_settings import adds_seeds, differences
from .processes import machines, place
from .samples import Samples

if TYPE_CHECKING:
    from .drawing import Drawing

#: seconds without a new block after which the first process stops waiting for the others
PATIENCE = 3600.0
PAUSE = 0.1


@dataclass(frozen=True, eq=False)
class Found:
    """Features of all images.

    Attributes:
        collected: moments, and the features that were kept.
        data: hash of all images.
        bad: images that could not be read.
        values: range of the floating point images.
    """

    collected: Collected
    data: str
    bad: tuple[Unreadable, ...]
    values: Values


@dataclass(frozen=True, eq=False)
class Loaded:
    """A block as read from its file."""

    tensors: dict[str, Tensor]
    bad: tuple[Unreadable, ...]
    values: Values


@dataclass(frozen=True)
class Work:
    """A work folder; ``lasting`` is False for a temporary one."""

    root: Path
    lasting: bool

    def file(self, block: int) -> Path:
        """The file of a block."""
        return self.root / "features" / f"{block:05d}.safetensors"

    def save(self, block: int, tensors: Mapping[str, Tensor], batch: Batch) -> None:
        """Write a block's tensors, the facts about its images, and the hash of both."""
        v = batch.values
        values = [v.count, v.outside, v.least, v.greatest] if v.count else []
        facts: dict[str, Any] = {
            "bad": [[one.index, one.name, one.why] for one in batch.bad],
            "values": values,
        }
        write_tensors(
            self.file(block),
            tensors,
            {"facts": json.dumps(facts | {"sha256": _hash(tensors, facts)})},
        )

    def load(self, block: int, places: range, with_logits: bool) -> Loaded | None:
        """The block if it is complete and holds the features of these places; None if it must be
        computed."""
        try:
            with safe_open(self.file(block), "pt") as file:
                facts = parse_json((file.metadata() or {})["facts"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            bad = tuple(Unreadable(*row) for row in facts["bad"])
            whole = sorted([*tensors["index"].tolist(), *(one.index for one in bad)]) == list(
                places
            )
            there = (
                whole
                and facts.pop("sha256") == _hash(tensors, facts)
                and ("logits" in tensors or not with_logits)
            )
            return Loaded(tensors, bad, Values(*facts["values"])) if there else None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
            return None


def idle(samples: Samples) -> bool:
    """True if there are more processes than blocks and this one has none."""
    rank, _ = place()
    return rank > 0 and rank >= samples.blocks


def open_work(
    out: Path | None,
    identity: Mapping[str, Any],
    drawing: Drawing | None = None,
) -> Work:
    """The folder ``out``, or a temporary one whose name is made of the request, so that the same
    request finds it again. ``drawing``: that of samples that are drawn. Raises ArgumentError if
    ``out`` holds the features of another request, or if several machines share no folder."""
    text = dumps(dict(identity))
    if out is None:
        if machines() > 1:
            raise ArgumentError(
                "processes on several machines share their work in a folder: give a folder (out)"
            )
        user = os.getuid() if hasattr(os, "getuid") else 0
        work = Work(Path(tempfile.gettempdir()) / f"fewstep-{user}-{sha256(text)[:24]}", False)
        _own(work.root)
    else:
        work = Work(out, True)
    file = work.root / "identity.json"
    if not file.exists():
        write(file, text.encode())
        return work
    try:
        found = read_json(file)
    except (OSError, ValueError):
        raise ArgumentError(
            f"{str(file)!r} is damaged; give another folder, or remove this one"
        ) from None
    wanted = json.loads(text)
    same_request = None if drawing is None else drawing.same_request
    differ = [text.partition(" (")[0] for text in differences(found, wanted, same_request)]
    if differ or adds_seeds(found, wanted):
        remedy = None if drawing is None else drawing.former(found)
        raise ArgumentError(
            f"{str(out)!r} holds features of another request (other "
            f"{', '.join(differ) or 'seeds'}); {f'{remedy}, or ' if remedy else ''}give another "
            "folder"
        )
    return work


def _own(root: Path) -> None:
    """Make ``root``, or check that it is a folder (not a link) of this user that nobody else can
    open: others can guess its name, and may write to the folder of temporary files."""
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        found = root.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ArgumentError(
                f"{str(root)!r} is not a folder but a link or a file: remove it, or give a "
                "folder (out)"
            ) from None
        if hasattr(os, "getuid") and found.st_uid != os.getuid():
            raise ArgumentError(
                f"{str(root)!r} belongs to someone else: give a folder (out)"
            ) from None
        if os.name == "posix" and found.st_mode & 0o077:
            rights = f"{found.st_mode & 0o777:o}"
            raise ArgumentError(
                f"{str(root)!r} is open to others (mode {rights}, must be 700): remove it, "
                "or give a folder (out)"
            ) from None


def collect(
    samples: Samples,
    network: FeatureExtractor,
    logits: FeatureExtractor | None,
    work: Work,
    keep: int,
    progress: Callable[[int, int], None],
) -> Found | None:
    """Compute the blocks of this process. The first process waits for the others and returns the
    sum; the others return None."""
    rank, world = place()
    mine = range(rank, samples.blocks, world)
    for done, block in enumerate(mine, 1):
        if work.load(block, samples.places(block), logits is not None) is None:
            _compute(samples, block, network, logits, work)
        progress(done, len(mine))
    if rank:
        return None
    collected = Collected(keep)
    digests: list[Tensor] = []
    bad: list[Unreadable] = []
    values = Values()
    for block in range(samples.blocks):
        found = _wait(work, block, samples.places(block), logits is not None)
        tensors = found.tensors
        collected.add(
            tensors["features"],
            tensors["logits"] if logits is not None else None,
            tensors["index"].tolist(),
        )
        digests.append(tensors["digest"])
        bad.extend(found.bad)
        values += found.values
    return Found(collected, joint_digest(digests), tuple(bad), values)


def clear(work: Work) -> None:
    """Remove a temporary work folder."""
    if not work.lasting:
        shutil.rmtree(work.root, ignore_errors=True)


def _compute(
    samples: Samples,
    block: int,
    network: FeatureExtractor,
    logits: FeatureExtractor | None,
    work: Work,
) -> None:
    batch = samples.read(block)
    tensors = {
        "index": torch.tensor(batch.index, dtype=torch.int64),
        "digest": image_digests(batch.image),
    }
    some = len(batch.image) > 0
    tensors["features"] = (
        network.features(batch.image, len(batch.image)) if some else torch.empty(0, 1)
    )
    if logits is not None:
        tensors["logits"] = (
            logits.features(batch.image, len(batch.image)) if some else torch.empty(0, 1)
        )
    work.save(block, tensors, batch)


def _wait(work: Work, block: int, places: range, with_logits: bool) -> Loaded:
    """The block, once another process has written it."""
    since = time.monotonic()
    seen = -1
    while (found := work.load(block, places, with_logits)) is None:
        done = len(list(work.root.glob("features/*.safetensors")))
        if done != seen:
            seen, since = done, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            raise ArgumentError(
                f"block {block} of {str(work.root)!r} did not come from its process; run the "
                "same command again to go on"
            )
        time.sleep(PAUSE)
    return found


def _hash(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    parts: list[Any] = [json.dumps(facts, sort_keys=True)]
    for key, value in sorted(tensors.items()):
        parts += [f"{key} {value.dtype} {tuple(value.shape)}", value.contiguous().numpy()]
    return sha256(*parts)
