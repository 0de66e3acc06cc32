"""Runs in folders: --out anywhere, two commands at once, damaged records, a full disk; nothing that
was made is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from folder_hashes import tree

import fewstep
from fewstep import files
from fewstep.cli import main
from fewstep.files import atomic, create
from fewstep.jobs import blocks
from fewstep.jobs.blocks import Block, Folder
from fewstep.models.loading import files_of

BUNDLED = Path(fewstep.models.__file__).parent / "bundled" / "mnist"
DIGITS = ["--seeds", "0-3", "--batch", "2", "--steps", "1"]
POINTS = ["--model", "mixture", "--seeds", "0-5", "--batch", "2", "--steps", "2"]


def generate(out: Path, *arguments: str) -> int:
    return main(["generate", "--out", str(out), *arguments])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run that draws pictures."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert generate(out, *DIGITS) == 0
    return out


# --- where a run may write


@pytest.mark.parametrize("inside", ["samples", "."])
def test_a_run_inside_its_models_folder_is_found_again(tmp_path, inside):
    model = tmp_path / "model"
    shutil.copytree(BUNDLED, model)
    assert generate(model / inside, "--model", str(model), *DIGITS) == 0
    before = tree(model)
    assert generate(model / inside, "--model", str(model), *DIGITS) == 0
    assert tree(model) == before


def test_the_hash_of_a_model_is_of_the_files_that_are_loaded(tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "m")
    assert files_of(tmp_path / "m") == [
        tmp_path / "m" / "config.json",
        tmp_path / "m" / "model.safetensors",
    ]
    assert files_of("mixture") == []
    found = (
        generate(tmp_path / "a", "--model", str(tmp_path / "m"), *DIGITS),
        json.loads((tmp_path / "a" / "manifest.json").read_text()),
    )
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "labels": []}))
    again = (
        generate(tmp_path / "b", "--model", str(tmp_path / "m"), *DIGITS),
        json.loads((tmp_path / "b" / "manifest.json").read_text()),
    )
    assert found[0] == again[0] == 0 and found[1]["model_sha256"] != again[1]["model_sha256"]


def test_the_files_of_a_diffusers_folder(tmp_path):
    """A pipeline: its list of parts, its scheduler, its network with all shards; neither other
    parts nor what a run wrote."""
    (tmp_path / "model_index.json").write_text(
        json.dumps(
            {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
        )
    )
    wanted = ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"]
    wanted += [
        f"unet/diffusion_pytorch_model{end}"
        for end in ("-1.safetensors", ".safetensors", ".safetensors.index.json")
    ]
    others = [
        "vae/config.json",
        "unet/settings.json",
        "unet/blocks/00000.json",
        "unet/ref.safetensors",
        "unet/diffusion_pytorch_model.bin",
    ]
    for name in [*wanted[1:], *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [str(file.relative_to(tmp_path)) for file in files_of(tmp_path)] == wanted


def test_out_that_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere" / "deep")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "lost"):
        assert generate(tmp_path / name, *POINTS) == 3
        assert repr(str(tmp_path / name)) in capsys.readouterr().err
    assert main(["generate", "--out", "", *POINTS]) == 3
    assert "out is empty" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"
    assert generate(tmp_path / "link", *POINTS) == 0
    assert (tmp_path / "real" / "manifest.json").exists()


@pytest.mark.parametrize("option", ["skip_corrector=(0, 1)", "order=3"])
def test_the_same_command_goes_on_whatever_its_options_are(tmp_path, option):
    """JSON has lists where Python has tuples: both are the same settings."""
    command = [*POINTS, "--sampler", "unipc", "-o", option]
    assert generate(tmp_path / "o", *command) == 0
    assert generate(tmp_path / "o", *command) == 0


def test_endless_numbers_are_words_in_the_settings(tmp_path):
    command = [*POINTS, "--sampler", "heun", "-o", "s_churn=1.0", "-o", "s_tmax=1e999"]
    assert generate(tmp_path / "o", *command) == generate(tmp_path / "o", *command) == 0
    assert json.loads((tmp_path / "o" / "settings.json").read_text())["option"] == {
        "s_churn": 1.0,
        "s_tmax": "inf",
    }


# --- two commands at once


def test_one_that_ends_while_the_other_writes(tmp_path, monkeypatch):
    """The first to end clears away what killed runs left, at the very moment at which the second
    has written a file and not named it."""
    folder, block = Folder(tmp_path, "npz", (2,)), Block(0, (0, 1), (None, None))
    folder.open({"a": 1})
    folder.save(block, np.zeros((2, 2), np.float32))
    before, ended = tree(tmp_path), []
    real = os.fsync

    def between(fd: int) -> None:
        real(fd)
        if not ended:
            ended.append(True)
            folder.finish([block], [folder.record(block)], {})

    monkeypatch.setattr(blocks.os, "fsync", between)
    folder.save(block, np.zeros((2, 2), np.float32))
    assert (
        ended
        and {name: hashed for name, hashed in tree(tmp_path).items() if name in before} == before
    )


def test_equal_commands_in_threads_end_alike(tmp_path):
    assert generate(tmp_path / "alone", *POINTS) == 0
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(generate(tmp_path / "both", *POINTS)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0] and tree(tmp_path / "both") == tree(tmp_path / "alone")


def test_of_two_different_commands_one_gets_the_folder(tmp_path):
    """Both find it empty; the second to write its settings must not replace the first's."""
    first, second = Folder(tmp_path, "npz", (2,)), Folder(tmp_path, "npz", (2,))
    start, refused = threading.Barrier(2), []

    def take(folder: Folder, settings: dict[str, int]) -> None:
        start.wait()
        try:
            folder.open(settings)
        except ValueError:
            refused.append(settings)

    for k in range(20):
        shutil.rmtree(tmp_path)
        pair = [
            threading.Thread(target=take, args=(folder, {"a": n}))
            for folder, n in ((first, 1), (second, 2))
        ]
        for thread in pair:
            thread.start()
        for thread in pair:
            thread.join()
        assert len(refused) == k + 1, "one, and one only, is refused"
        assert json.loads((tmp_path / "settings.json").read_text()) != refused[-1]


def test_create_leaves_what_is_there(tmp_path, monkeypatch):
    assert create(tmp_path / "a", b"one") and not create(tmp_path / "a", b"two")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    assert not create(tmp_path / "lost", b"x")

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert not create(tmp_path / "a", b"two") and create(tmp_path / "b", b"two")
    assert (tmp_path / "a").read_bytes() == b"one" and (tmp_path / "b").read_bytes() == b"two"
    assert not list(tmp_path.glob("*.partial"))


# --- damage


def _names(record):
    return record["files"]


DAMAGE = {
    "fewer": lambda r, out: _names(r).pop("samples/000003.png"),
    "more": lambda r, out: _names(r).update(
        {"samples/000000.png": files.file_hash(out / "samples/000000.png")}
    ),
    "order": lambda r, out: r.update(files=dict(reversed(list(_names(r).items())))),
    "outside": lambda r, out: _names(r).update(
        {"../secret": files.file_hash(out.parent / "secret")}
    ),
    "absolute": lambda r, out: _names(r).update(
        {str(out.parent / "secret"): files.file_hash(out.parent / "secret")}
    ),
    "swapped": lambda r, out: r.update(
        files=dict(zip(_names(r), reversed(list(_names(r).values())), strict=True))
    ),
    "hash": lambda r, out: _names(r).update({"samples/000002.png": "0" * 64}),
    "no text": lambda r, out: _names(r).update({"samples/000002.png": None}),
    "list": lambda r, out: r.update(files=list(_names(r))),
    "another": lambda r, out: r.update(json.loads((out / "blocks/00000.json").read_text())),
    "index": lambda r, out: r.update(block=7),
    "labels": lambda r, out: r.update(labels=[None, None]),
    "keys": lambda r, out: [r.update({key: r.pop(key)}) for key in list(r)[:2]],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_made_again(whole, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (tmp_path / "secret").write_text("of someone else")
    record = json.loads((out / "blocks/00001.json").read_text())
    damage(record, out)
    (out / "blocks/00001.json").write_text(json.dumps(record))
    assert generate(out, *DIGITS) == 0
    found, wanted = tree(out), tree(whole)
    kept = {name for name in wanted if not name.startswith("blocks/")}
    assert {name: found[name] for name in kept} == {name: wanted[name] for name in kept}
    assert (tmp_path / "secret").read_text() == "of someone else"


def test_a_block_of_pictures_with_one_bad_file_is_made_again_whole(whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "samples/000002.png").write_bytes(b"half")
    (out / "manifest.json").write_text("[" * 100_000)
    (out / "grid.png").unlink()
    stamp = {name: (out / f"samples/{name}.png").stat().st_ino for name in ("000000", "000003")}
    assert generate(out, *DIGITS) == 0
    assert tree(out) == tree(whole)
    assert (out / "samples/000000.png").stat().st_ino == stamp["000000"] and (
        out / "samples/000003.png"
    ).stat().st_ino != stamp["000003"]


# --- a full disk


@pytest.mark.parametrize("room", range(9))
def test_a_disk_that_is_full_at_any_write(tmp_path, monkeypatch, capsys, room):
    """The disk takes ``room`` files: exit 3, no part of a file, and the same command goes on to the
    right bytes."""
    assert generate(tmp_path / "alone", *POINTS) == 0
    real, written = os.fsync, []

    def fsync(fd: int) -> None:
        written.append(fd)
        if len(written) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    assert generate(tmp_path / "full", *POINTS) == 3
    said = capsys.readouterr().err
    assert (
        "No space left on device" in said
        and "run the same command again" in said
        and said.count("\n") == 1
    )
    assert not list(tmp_path.rglob("*.partial"))
    assert len([path for path in (tmp_path / "full").rglob("*") if path.is_file()]) == room
    monkeypatch.undo()
    assert generate(tmp_path / "full", *POINTS) == 0
    assert tree(tmp_path / "full") == tree(tmp_path / "alone")
