"""Blocks of samples in a folder: a record counts only where every one of its files is as it was
written; labels belong to seeds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.jobs.blocks import Block, Folder, cut
from fewstep.jobs.labels import labels_of, mixed
from fewstep.jobs.pictures import field_pixels, image_grid, scatter, to_pixels
from fewstep.jobs.settings import parse_seeds, parse_size

BLOCK = Block(2, (40, 41, 42, 43), (0, 1, 2, 3))


def pictures(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (4, 1, 5, 6))


def digest(folder: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted((folder / "samples").iterdir())
    }


@pytest.mark.parametrize("bad", [0, 1, 3])
@pytest.mark.parametrize("how", ["changed", "cut", "missing", "swapped"])
def test_one_bad_picture_makes_its_whole_block_again(how: str, bad: int, tmp_path: Path) -> None:
    folder = Folder(tmp_path, "png", (1, 5, 6))
    folder.save(BLOCK, pictures())
    record, whole = folder.record(BLOCK), digest(tmp_path)
    assert record is not None
    assert list(record["files"]) == [f"samples/0000{seed}.png" for seed in BLOCK.seeds]
    assert {Path(name).name: value for name, value in record["files"].items()} == whole
    path = tmp_path / f"samples/0000{BLOCK.seeds[bad]}.png"
    if how == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:20])
    elif how == "missing":
        path.unlink()
    else:
        path.write_bytes((tmp_path / f"samples/0000{BLOCK.seeds[bad - 1]}.png").read_bytes())
    assert folder.record(BLOCK) is None
    folder.save(BLOCK, pictures())
    assert digest(tmp_path) == whole
    assert folder.record(BLOCK) is not None


@pytest.mark.parametrize(
    "other",
    [
        Block(2, (40, 41, 42, 44), BLOCK.labels),
        Block(2, BLOCK.seeds, (0, 1, 2, 4)),
        Block(1, BLOCK.seeds, BLOCK.labels),
    ],
)
def test_a_record_of_another_block_is_none(other: Block, tmp_path: Path) -> None:
    folder = Folder(tmp_path, "png", (1, 5, 6))
    folder.save(BLOCK, pictures())
    assert folder.record(other) is None


def test_a_record_without_files_is_none(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "png", (1, 5, 6))
    folder.save(BLOCK, pictures())
    path = tmp_path / "blocks" / "00002.json"
    found = json.loads(path.read_text())
    for files in ({}, None, []):
        path.write_text(json.dumps({**found, "files": files}))
        assert folder.record(BLOCK) is None


def test_a_resumed_run_makes_the_block_with_the_bad_picture_again(tmp_path: Path) -> None:
    from fewstep.cli import main

    run = [
        "generate",
        "--out",
        str(tmp_path),
        "--model",
        "mnist",
        "--steps",
        "1",
        "--seeds",
        "5-8",
        "--batch",
        "2",
        "--sampler",
        "euler",
    ]
    assert main(run) == 0
    whole = digest(tmp_path)
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "samples").iterdir()}
    (tmp_path / "samples" / "000008.png").write_bytes(b"half")
    assert main(run) == 0
    assert digest(tmp_path) == whole
    again = {
        p.name for p in (tmp_path / "samples").iterdir() if p.stat().st_mtime_ns != stamps[p.name]
    }
    assert again == {"000007.png", "000008.png"}
    labels = {
        row["seed"]: row["label"]
        for row in json.loads((tmp_path / "manifest.json").read_text())["samples"]
    }
    assert labels == {5: 5, 6: 6, 7: 7, 8: 8}, "the class of a seed is the seed modulo the classes"


# --- labels


def test_labels_follow_seeds_and_not_places() -> None:
    seeds = (7, 8, 23, 5, 10**12 + 4)
    assert labels_of("cycle", seeds, 10) == [7, 8, 3, 5, 4]
    assert labels_of("cycle", seeds, 3) == [seed % 3 for seed in seeds]
    assert labels_of("random", seeds, 10) == [mixed(seed) % 10 for seed in seeds]
    assert labels_of("random", seeds[2:], 10) == labels_of("random", seeds, 10)[2:]
    for text in ("cycle", "random", "none"):
        assert labels_of(text, seeds, 0) == [None] * 5
    assert labels_of("none", seeds, 10) == [None] * 5


def test_a_list_of_labels_is_dealt_in_turn() -> None:
    assert labels_of("3,1", (7, 8, 23, 5, 6), 10) == [3, 1, 3, 1, 3]
    assert labels_of("0,9", (7, 8), 10) == [0, 9]
    for bad in ("10", "-1", "0,10", "x", "1,"):
        with pytest.raises(ValueError, match="labels="):
            labels_of(bad, (1, 2), 10)
    with pytest.raises(ValueError, match="labels="):
        labels_of("3", (1, 2), 0)


def test_mixed_is_splitmix64() -> None:
    """The first outputs of the published generator seeded with 0 (state advanced before each
    output)."""
    assert [mixed(k) for k in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    assert len({mixed(k) % 1000 for k in range(200)}) > 150


# --- seeds, sizes, pixels


def test_seeds_as_written() -> None:
    assert parse_seeds("5-8") == (5, 6, 7, 8)
    assert parse_seeds("9") == parse_seeds(9) == (9,)
    assert parse_seeds("7-7,1, 4 ,10-12") == (7, 1, 4, 10, 11, 12)
    for bad in ("8-5", "1,1", "0-3,2", "a", "-3", "1-", ""):
        with pytest.raises(ValueError, match="seeds"):
            parse_seeds(bad)
    assert (parse_size("64"), parse_size("64x96"), parse_size(None)) == (64, (64, 96), None)
    for bad in ("0", "64x0", "6x6x6", "x", "-4"):
        with pytest.raises(ValueError, match="size="):
            parse_size(bad)


def test_blocks_are_cut_in_order() -> None:
    blocks = cut((5, 6, 7, 8, 9), (None, 1, 2, 3, 4), 2)
    assert blocks == [Block(0, (5, 6), (None, 1)), Block(1, (7, 8), (2, 3)), Block(2, (9,), (4,))]
    assert cut((5, 6), (None, None), 2) == [Block(0, (5, 6), (None, None))]


def test_pixels() -> None:
    """-1 is 0, 1 is 255, 0 the even one of 127 and 128; beyond is clipped; channels last."""
    x = np.array([[[[-1.0, 1.0], [0.0, -3.0]], [[5.0, 0.5], [-0.5, 0.1]]]])
    assert to_pixels(x).tolist() == [[[[0, 255], [255, 191]], [[128, 64], [0, 140]]]]
    assert to_pixels(x).dtype == np.uint8


def test_the_grid_of_pictures_row_by_row() -> None:
    n, h, w = 5, 4, 6
    pixels = np.stack([np.full((h, w, 1), 10 * (i + 1), np.uint8) for i in range(n)])
    sheet = np.asarray(image_grid(pixels, least=1))
    assert sheet.shape == (2 * (h + 1) - 1, 3 * (w + 1) - 1)
    for i in range(n):
        top, left = i // 3 * (h + 1), i % 3 * (w + 1)
        assert (sheet[top : top + h, left : left + w] == 10 * (i + 1)).all()
    assert (
        (sheet[h] == 128).all()
        and (sheet[:, w] == 128).all()
        and (sheet[h + 1 :, 2 * (w + 1) :] == 128).all()
    )
    large = image_grid(pixels, least=100)
    assert large.size == tuple(side * 5 for side in Image.fromarray(sheet).size)


def test_the_channels_of_a_field_stand_side_by_side() -> None:
    x = np.random.default_rng(1).uniform(-1, 1, size=(3, 2, 4, 5))
    beside = np.concatenate([x[:, 0], x[:, 1]], axis=2)[:, None]
    wanted = image_grid(to_pixels(beside))
    assert wanted.mode == "L" and np.array_equal(
        np.asarray(image_grid(field_pixels(x))), np.asarray(wanted)
    )


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_scatter_shows_the_first_two_coordinates(width: int) -> None:
    points = np.random.default_rng(1).normal(size=(6, width))
    padded = np.concatenate([points, np.zeros((6, 1))], axis=1)[:, :2]
    assert np.array_equal(np.asarray(scatter(points)), np.asarray(scatter(padded)))
