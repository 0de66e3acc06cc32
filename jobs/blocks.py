"""A folder of samples: fixed blocks of seeds, each complete or absent, and a manifest.

    OUT/settings.json           settings that decide the bytes, and hashes; written first
    OUT/samples/000017.png      one file a sample, or OUT/samples/block-00003.npz one a block
    OUT/blocks/00003.json       seeds of the block and SHA-256 of its files; written last, which
                                marks the block as finished
    OUT/manifest.json           seed, label, file and hash of every sample; and OUT/grid.png, a
                                picture of the first ones; written when all blocks are finished

Every file is written under a temporary name and renamed, so a killed run leaves no partial file
under a final name. A second run skips the blocks whose record and files are intact and draws the
others again entirely, so the bytes are those of an unbroken run. Seeds added at the end are also
drawn; a last block that was shorter is drawn again.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import ArgumentError
from ..files import create, dumps, file_hash, read_json, remove_partials, sha256, write
from . import pictures
from .folder_settings import Former, adds_seeds, differences


@dataclass(frozen=True)
class Block:
    """One batch of samples.

    Attributes:
        index: place of the block in the whole run.
        seeds: one a sample.
        labels: one a sample; None for no class.
    """

    index: int
    seeds: tuple[int, ...]
    labels: tuple[int | None, ...]


def cut(seeds: Sequence[int], labels: Sequence[int | None], size: int) -> list[Block]:
    """Blocks of ``size`` samples; the last one may be shorter."""
    starts = range(0, len(seeds), size)
    return [
        Block(k, tuple(seeds[i : i + size]), tuple(labels[i : i + size]))
        for k, i in enumerate(starts)
    ]


@dataclass(frozen=True)
class Folder:
    """An output folder; ``format`` is png or npz, ``shape`` the shape of one sample; ``noted``: a
    record without notes is none."""

    root: Path
    format: str
    shape: tuple[int, ...]
    noted: bool = False

    def open(
        self,
        settings: Mapping[str, Any],
        same_request: Callable[[Mapping[str, Any]], bool] | None = None,
        former: Former | None = None,
    ) -> None:
        """Take the folder for ``settings``; seeds may be added to those of the folder.

        Raises ArgumentError if it holds samples made with other settings, OSError if it cannot be
        written. ``same_request`` as for ``folder_settings.differences``; ``former``: what to say of
        a folder that was made with former defaults.
        """
        path, text = self.root / "settings.json", dumps(dict(settings))
        # settings.json is looked for again: another process may have written both in between
        if (
            not os.path.lexists(path)
            and _holds_files(self.root / "samples")
            and not os.path.lexists(path)
        ):
            raise ArgumentError(
                f"{str(self.root)!r} holds samples, but no settings.json that says how they "
                "were made; give another folder"
            )
        if not os.path.lexists(path) and create(path, text.encode()):
            return
        found, wanted = _read(path), json.loads(text)
        if found is None:
            raise ArgumentError(
                f"{str(path)!r} is damaged; give another folder, or remove this one"
            )
        differ = differences(found, wanted, same_request)
        if differ:
            remedy = None if former is None else former(found)
            raise ArgumentError(
                f"{str(self.root)!r} holds samples made with other settings: "
                f"{', '.join(differ[:3])}; {f'{remedy}, or ' if remedy else ''}give another folder"
            )
        if adds_seeds(found, wanted):
            # until the new blocks are there the folder is unfinished, and has no manifest
            (self.root / "manifest.json").unlink(missing_ok=True)
            write(path, text.encode())

    def names(self, block: Block) -> list[str]:
        """The files of a block in the order of its samples (npz: one file for all)."""
        if self.format == "png":
            return [f"samples/{seed:06d}.png" for seed in block.seeds]
        return [f"samples/block-{block.index:05d}.npz"]

    def record(self, block: Block) -> dict[str, Any] | None:
        """The record of a finished block whose files are unchanged; None if the block must be
        drawn.

        A record is valid only if it is what ``save`` writes for this block, in any order of keys;
        files that it names beside those of the block are never opened.
        """
        found = _read(self._record_path(block))
        names = self.names(block)
        if found is None or any(found.get(key) != value for key, value in _identity(block).items()):
            return None
        files = found.get("files")
        if not isinstance(files, dict) or set(files) != set(names):
            return None
        notes = found.get("notes")
        if notes is None and self.noted:
            return None
        if notes is not None and not (isinstance(notes, list) and len(notes) == len(block.seeds)):
            return None
        if not all(_hash(self.root / name) == files[name] for name in names):
            return None
        more = {} if notes is None else {"notes": notes}
        return {**_identity(block), "files": {name: files[name] for name in names}, **more}

    def _record_path(self, block: Block) -> Path:
        return self.root / "blocks" / f"{block.index:05d}.json"

    def save(self, block: Block, x: Any, notes: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Write the samples ``x`` (B, *shape), then the record. ``notes``: facts of each sample for
        the manifest."""
        if self.format == "png":
            bodies = [pictures.png(pictures.picture(p)) for p in pictures.to_pixels(x)]
        else:
            bodies = [_npz(block, x, self.shape)]
        files = dict(zip(self.names(block), bodies, strict=True))
        for name, data in files.items():
            write(self.root / name, data)
        record = {**_identity(block), "files": {name: sha256(data) for name, data in files.items()}}
        record |= {} if notes is None else {"notes": [dict(note) for note in notes]}
        write(self._record_path(block), dumps(record).encode())

    def finish(
        self,
        blocks: Sequence[Block],
        records: Sequence[Mapping[str, Any]],
        facts: Mapping[str, Any],
        most: int = 100,
    ) -> dict[str, Any]:
        """Write the picture of the first ``most`` samples, and the manifest, which is returned."""
        for folder in (self.root, self.root / "samples", self.root / "blocks"):
            remove_partials(folder)
        write(self.root / "grid.png", pictures.png(self._picture(blocks, most)))
        rows = []
        for block, record in zip(blocks, records, strict=True):
            names = self.names(block) * (1 if self.format == "png" else len(block.seeds))
            notes = record.get("notes") or [{}] * len(block.seeds)
            rows += [
                {
                    "seed": seed,
                    "label": label,
                    "file": name,
                    "sha256": record["files"][name],
                    **note,
                }
                for seed, label, name, note in zip(
                    block.seeds, block.labels, names, notes, strict=True
                )
            ]
        manifest = {**facts, "count": len(rows), "samples": rows}
        write(self.root / "manifest.json", dumps(manifest).encode())
        return manifest

    def _picture(self, blocks: Sequence[Block], most: int) -> Any:
        """The grid picture, from the files."""
        if len(self.shape) != 3:
            return pictures.scatter(self.values(blocks, None))
        return pictures.image_grid(self.pixels(blocks, most))

    def pixels(self, blocks: Sequence[Block], most: int) -> Any:
        """The first ``most`` samples of three axes as uint8 (n, h, w, c), from the files; those
        that are no pictures as ``pictures.field_pixels``."""
        if self.format == "png":
            seeds = [seed for block in blocks for seed in block.seeds][:most]
            return np.stack([self._pixels(f"samples/{seed:06d}.png") for seed in seeds])
        found = self.values(blocks, most)
        return found if pictures.is_image(self.shape) else pictures.field_pixels(found)

    def values(self, blocks: Sequence[Block], most: int | None) -> Any:
        """The first ``most`` samples (None: all) in npz files: pixels of pictures, else values."""
        key, parts, count = "image" if pictures.is_image(self.shape) else "x", [], 0
        for block in blocks:
            if most is not None and count >= most:
                break
            with np.load(self.root / self.names(block)[0], allow_pickle=False) as file:
                parts.append(file[key])
            count += len(block.seeds)
        return np.concatenate(parts)[:most]

    def _pixels(self, name: str) -> Any:
        """The pixels of a file, (h, w, c)."""
        from ..files.pictures import read_picture

        return np.moveaxis(read_picture((self.root / name).read_bytes()), 0, -1)


def _npz(block: Block, x: Any, shape: tuple[int, ...]) -> bytes:
    """An npz file with ``seed``, ``label`` (-1: none) and ``image`` uint8 (B, h, w, c), or ``x``
    float32 (B, *shape) for samples that are no pictures."""
    label = np.array([-1 if k is None else k for k in block.labels], dtype=np.int64)
    body = (
        {"image": pictures.to_pixels(x)}
        if pictures.is_image(shape)
        else {"x": np.asarray(x, dtype=np.float32)}
    )
    out = io.BytesIO()
    np.savez(
        out, allow_pickle=False, seed=np.array(block.seeds, dtype=np.uint64), label=label, **body
    )
    return out.getvalue()


def _identity(block: Block) -> dict[str, Any]:
    """The part of a record that names its block, as JSON has it."""
    return {"block": block.index, "seeds": list(block.seeds), "labels": list(block.labels)}


def _holds_files(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _hash(path: Path) -> str | None:
    try:
        return file_hash(path)
    except OSError:
        return None
