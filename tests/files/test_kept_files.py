"""What is kept on disk and read again: records of a bench, files on systems without links or locks,
folders that are no one source."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scoring_material import normal, pictures, save_pictures

import fewstep
import fewstep.eval as E
from fewstep.checks import ArgumentError
from fewstep.eval.benchmark.rows import columns
from fewstep.eval.benchmark.store import Store, key_of
from fewstep.files import remove_partials, write
from fewstep.files.atomic import create
from fewstep.files.pictures import read_picture
from fewstep.plans.densities import KNOWN_NOISE, transitions
from fewstep.plans.instructions import Combine
from fewstep.schedules import VPLinear

# --- records of a bench

ERROR = {
    **dict.fromkeys(columns("error")),
    "nfe": 8,
    "steps": 4,
    "call": "'ddim'",
    "stochastic": False,
    "rmse": 0.25,
    "squares": [0.5, 0.25],
}
FACTS = {"model": "mixture", "nfe": 8}


def test_a_record_comes_back_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep("error", FACTS, ERROR)
    (path,) = (tmp_path / "rows").iterdir()
    assert path.name == f"error-{key_of(FACTS)}.json" and store.record("error", FACTS) == ERROR
    assert (
        store.record("error", {**FACTS, "nfe": 9}) is None
        and store.record("quality", FACTS) is None
    )
    assert (
        Store().record("error", FACTS) is None
        and Store(tmp_path / "other").record("error", FACTS) is None
    )
    whole = json.loads(path.read_text())
    for change in ({"rmse": 0.26}, {"nfe": 9}, {"squares": [0.25, 0.5]}):
        path.write_text(json.dumps({**whole, "record": {**ERROR, **change}}))
        assert store.record("error", FACTS) is None
    path.write_text(json.dumps({**whole, "record": dict(reversed(ERROR.items()))}))
    assert store.record("error", FACTS) == ERROR


@pytest.mark.parametrize(
    "change",
    [
        {"nfe": True},
        {"rmse": "0.25"},
        {"rmse": [0.25]},
        {"unknown": 1.0},
        {"steps": ...},
        {"call": ...},
    ],
)
def test_a_record_of_another_form_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    store, made = Store(tmp_path), {**ERROR, **change}
    store.keep("error", FACTS, {k: v for k, v in made.items() if v is not ...})
    assert store.record("error", FACTS) is None
    store.keep("error", FACTS, {**ERROR, "rmse": None})
    assert store.record("error", FACTS) == {**ERROR, "rmse": None}


def test_the_key_of_a_record_stays() -> None:
    """Another key means that nothing that was measured before is found again: that is a
    decision."""
    assert key_of({"a": 1}) == key_of({"a": 1}) != key_of({"a": 2}) and len(key_of({"a": 1})) == 24
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"version": 2, "a": 1}) != key_of({"a": 1}) == key_of({"version": 1, "a": 1})


def test_where_references_lie(tmp_path: Path) -> None:
    x = {"end": torch.arange(3.0)}
    for store, folder in (
        (Store(tmp_path / "a"), tmp_path / "a" / "cache"),
        (Store(tmp_path / "b", tmp_path / "c"), tmp_path / "c"),
    ):
        assert store.arrays("reference", FACTS) is None
        store.keep_arrays("reference", FACTS, x, {"nfe": "3"})
        found = store.arrays("reference", FACTS)
        assert (
            found is not None
            and torch.equal(found[0]["end"], x["end"])
            and found[1] == {"nfe": "3"}
        )
        assert [path.name for path in folder.iterdir()] == [
            f"reference-{key_of(FACTS)}.safetensors"
        ]
        store.forget_arrays("reference", FACTS)
        store.forget_arrays("reference", FACTS)
        assert store.arrays("reference", FACTS) is None


# --- file systems that lack something


def test_a_name_is_given_once_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert create(tmp_path / "x", b"one") is True and create(tmp_path / "x", b"two") is False
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert create(tmp_path / "dangling", b"three") is False
    assert (tmp_path / "x").read_bytes() == b"one" and {p.name for p in tmp_path.iterdir()} == {
        "x",
        "dangling",
    }


def test_files_are_written_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write(tmp_path / "x", b"one")
    (tmp_path / "y.1-00.partial").write_bytes(b"of whom nobody knows")
    remove_partials(tmp_path)
    assert (tmp_path / "x").read_bytes() == b"one" and (tmp_path / "y.1-00.partial").exists()


# --- sources of pictures


def test_folders_that_are_no_one_source(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    save_pictures(mixed, pictures(2))
    np.savez(mixed / "a.npz", image=np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(E.ScoreError, match="mixes pictures and npz files"):
        E.open_source(mixed)
    begun = tmp_path / "begun"
    save_pictures(begun / "samples", pictures(2))
    (begun / "settings.json").write_text("{}")
    with pytest.raises(E.ScoreError, match="unfinished run"):
        E.open_source(begun)
    np.savez(tmp_path / "none.npz", images=np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(E.ScoreError, match=r"\['images'\]; it must hold 'image'"):
        E.open_source(tmp_path / "none.npz")


def test_pictures_of_two_sizes_are_refused_by_name(tmp_path: Path) -> None:
    for name, side in (("a", 8), ("b", 8), ("c", 9)):
        Image.fromarray(np.zeros((side, 8), np.uint8)).save(tmp_path / f"{name}.png")
    source = E.open_source(tmp_path)
    assert source.read(0, 2).image.shape == (2, 1, 8, 8)
    with pytest.raises(E.ScoreError, match=r"c\.png.* is \(1, 9, 8\), .*a\.png.* is \(1, 8, 8\)"):
        source.read(0, 3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_png_is_read_by_its_chunks() -> None:
    out = io.BytesIO()
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(image).save(out, format="PNG")
    data = out.getvalue()
    assert np.array_equal(read_picture(data), image[None])
    bad = {
        "header is too short": data[:8] + chunk(b"IHDR", data[16:28]) + data[33:],
        "0 x 8 pixels": data[:8] + chunk(b"IHDR", b"\0\0\0\0" + data[20:29]) + data[33:],
        "16 bits": data[:8] + chunk(b"IHDR", data[16:24] + b"\x10" + data[25:29]) + data[33:],
        "animated": data[:33] + chunk(b"acTL", b"\0\0\0\2\0\0\0\0") + data[33:],
        "transparent colour": data[:33] + chunk(b"tRNS", b"\0\1") + data[33:],
        "checksum": data[:29] + b"\0\0\0\0" + data[33:],
        "cut off": data[:-4],
        "cut off in its chunk 'IDAT'": data[:45],
    }
    for words, made in bad.items():
        with pytest.raises(ArgumentError, match=words):
            read_picture(made)


# --- scores without a network, plans with one noise twice


def test_a_score_wants_a_network() -> None:
    images = torch.zeros(4, 1, 8, 8)
    with pytest.raises(E.ScoreError, match="no extractor and no reference"):
        E.score(images, None, metrics="is")
    flat = E.FeatureExtractor(lambda image: image.float().flatten(1), "flat", "0")
    with pytest.raises(E.ScoreError, match="give logits="):
        E.score(images, None, metrics="is", extractor=flat)
    unknown = E.FeatureSet(E.FeatureStats.from_features(normal(20, 2, 0)), None)
    with pytest.raises(E.ScoreError, match="name that network"):
        E.score(images, unknown, metrics="fd")


def test_one_noise_in_two_steps_is_one_transition() -> None:
    plan = fewstep.plan("ddim", VPLinear(), steps=3, eta=1.0)
    assert len(transitions(plan)) == 2
    code = tuple(
        dataclasses.replace(i, noise=((0, c) for _, c in i.noise)) if isinstance(i, Combine) else i
        for i in plan.code
    )
    code = tuple(
        dataclasses.replace(i, noise=tuple(i.noise)) if isinstance(i, Combine) else i for i in code
    )
    found = transitions(dataclasses.replace(plan, code=code))
    assert [t.index for t in found] == [0] and found[0].shared
    assert dict(found.none)[1] == KNOWN_NOISE
