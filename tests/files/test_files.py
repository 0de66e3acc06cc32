"""``files``: whole or not at all, also where several processes write at once, and one hash."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fewstep.checks import ArgumentError
from fewstep.files import (
    dumps,
    file_hash,
    read_json,
    remove_partials,
    sha256,
    write,
    write_tensors,
    writing,
)


def partials(folder: Path) -> list[Path]:
    return list(folder.rglob("*.partial"))


def test_write_makes_folders_and_replaces(tmp_path):
    target = tmp_path / "a" / "b.bin"
    write(target, b"one")
    write(target, b"two")
    assert target.read_bytes() == b"two" and [p.name for p in target.parent.iterdir()] == ["b.bin"]


def test_an_error_in_the_block_leaves_the_old_file_alone(tmp_path):
    target = tmp_path / "b.bin"
    write(target, b"one")
    half = writing(target)
    half.__enter__().write(b"half")
    assert len(partials(tmp_path)) == 1
    assert half.__exit__(KeyError, KeyError("stop"), None) is not True
    assert target.read_bytes() == b"one" and not partials(tmp_path)


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*b\.bin"):
        write(tmp_path / "b.bin", b"one")
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_must_be(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ArgumentError, match="not a folder"):
        write(tmp_path / "a" / "b" / "c", b"one")


def test_partials_of_killed_processes_go_and_those_in_use_stay(tmp_path):
    left = tmp_path / "x.npz.77.partial"
    left.write_bytes(b"left by a killed run")
    with writing(tmp_path / "y") as file:
        file.write(b"kept")
        remove_partials(tmp_path)
        assert not left.exists() and len(partials(tmp_path)) == 1
    assert (tmp_path / "y").read_bytes() == b"kept" and not partials(tmp_path)


def _write_many(folder: str, text: bytes, times: int) -> None:
    for _ in range(times):
        write(Path(folder) / "same", text)
        remove_partials(folder)


def test_processes_that_write_and_clear_at_once(tmp_path):
    texts = [bytes([65 + i]) * 4096 for i in range(4)]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_write_many, args=(str(tmp_path), text, 40)) for text in texts
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert (tmp_path / "same").read_bytes() in texts and not partials(tmp_path)


def test_hashes_of_parts_texts_arrays_and_files(tmp_path):
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    want = hashlib.sha256("ü".encode() + b"ab" + array.tobytes()).hexdigest()
    assert sha256("ü", b"ab", array) == want
    assert sha256() == sha256(np.empty((0, 3))) == hashlib.sha256().hexdigest()
    write(tmp_path / "f", b"x" * 3_000_000)
    assert file_hash(tmp_path / "f") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_tensors_keep_values_and_open_rights(tmp_path):
    wanted = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.ones((), dtype=torch.bfloat16)}
    write_tensors(tmp_path / "w.safetensors", wanted, {"k": "v"})
    found = load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in wanted.items())
    (tmp_path / "plain").touch()
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "text", [b"[1]", b"{", b"\xff{}", b"[" * 100_000, b'{"a": ' * 100_000, b""]
)
def test_json_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(ArgumentError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_json_comes_back(tmp_path):
    value = {"a": [1, 2.5, None, "ü"], "b": {}}
    write(tmp_path / "x.json", dumps(value).encode())
    assert read_json(tmp_path / "x.json") == value
    with pytest.raises(ValueError, match="Out of range"):
        dumps({"a": float("nan")})
