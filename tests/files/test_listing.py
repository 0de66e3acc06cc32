"""Folders of data: what is read, in which order, and what is left out, counted and named; the same
for score, ref and train."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scoring_material import network, pictures, save_pictures

import fewstep.eval as E
from fewstep.checks import ArgumentError
from fewstep.cli import main
from fewstep.files.listing import list_files
from fewstep.train import __main__ as training
from fewstep.train.data import DataError, load_images


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def listed(root):
    files, left = list_files(root, (".png",))
    return [file.relative_to(root).as_posix() for file in files], left


def test_hidden_files_and_what_systems_leave_are_no_data(tmp_path):
    touch(
        tmp_path,
        "b/2.PNG",
        "a/1.png",
        "._a.png",
        ".cache/x/1.png",
        ".cache/2.png",
        "a/.ipynb_checkpoints/1.png",
        "__MACOSX/a/._1.png",
    )
    touch(tmp_path, "Thumbs.db", "a/desktop.ini", ".DS_Store", "a/@eaDir/1.png")
    found, left = listed(tmp_path)
    assert found == ["a/1.png", "b/2.PNG"]
    assert left.counts == {"hidden": 9}, "a folder counts its files"
    assert {"._a.png", ".cache/", "a/.ipynb_checkpoints/", "__MACOSX/", "a/@eaDir/"} <= set(
        left.names["hidden"]
    )
    assert left.text() == "left out: 9 hidden (.DS_Store, ._a.png, .cache/, ...)"


def test_files_of_other_kinds_are_counted_and_named(tmp_path):
    touch(tmp_path, "1.png", *(f"{i:02d}.gif" for i in range(30)))
    found, left = listed(tmp_path)
    assert found == ["1.png"] and left.count == 30 and len(left.names["other"]) == 10
    assert left.text() == "left out: 30 of other kinds (00.gif, 01.gif, 02.gif, ...)"
    assert left.to_dict() == {
        "count": 30,
        "other": {"count": 30, "files": [f"{i:02d}.gif" for i in range(10)]},
    }


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    _, left = listed(touch(tmp_path, "a/1.png"))
    assert left.text() == "" and left.to_dict() == {"count": 0}


def test_a_folder_that_is_itself_hidden_is_read_where_it_is_named(tmp_path):
    touch(tmp_path, ".data/1.png")
    assert listed(tmp_path / ".data")[0] == ["1.png"]


@pytest.fixture
def link():
    def make(place, target):
        try:
            Path(place).symlink_to(target)
        except OSError:
            pytest.skip("no symbolic links here")

    return make


def test_linked_folders_and_files_are_read(tmp_path, link):
    touch(tmp_path, "far/x/1.png", "far/2.png", "one.png", "near/3.png")
    link(tmp_path / "near" / "far", tmp_path / "far")
    link(tmp_path / "near" / "one.png", tmp_path / "one.png")
    assert listed(tmp_path / "near")[0] == ["3.png", "far/2.png", "far/x/1.png", "one.png"]
    link(tmp_path / "name", tmp_path / "near")
    assert listed(tmp_path / "name")[0] == ["3.png", "far/2.png", "far/x/1.png", "one.png"], (
        "the folder may be a link too"
    )


def test_loops_end_and_no_file_counts_twice(tmp_path, link):
    root = touch(tmp_path / "root", "z/1.png", "z/deep/2.png")
    link(root / "a", root / "z")  # a second name, which comes first
    link(root / "z" / "up", root)
    link(root / "z" / "deep" / "out", tmp_path)
    link(root / "gone.png", tmp_path / "nothing.png")
    link(root / "self", root / "self")
    found, left = listed(root)
    assert found == ["z/1.png", "z/deep/2.png"]
    assert left.counts == {"links": 3, "broken": 2}
    assert left.names["links"] == ["a", "z/deep/out", "z/up"]
    touch(tmp_path, "far/3.png")
    for name in ("b", "c"):
        link(root / name, tmp_path / "far")
    assert listed(root)[0] == ["b/3.png", "z/1.png", "z/deep/2.png"], "once, under its first name"


@pytest.mark.skipif(
    os.name != "posix" or not hasattr(os, "mkfifo"), reason="pipes have names on POSIX"
)
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "1.png")
    assert listed(tmp_path)[1].counts == {"broken": 1}


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the administrator may open everything"
)
def test_a_folder_that_cannot_be_opened_is_an_error(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b").chmod(0)
    try:
        with pytest.raises(ArgumentError, match="cannot be opened"):
            list_files(tmp_path, (".png",))
    finally:
        (tmp_path / "b").chmod(0o700)


def test_a_folder_that_goes_away_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match="nowhere"):
        list_files(tmp_path / "nowhere", (".png",))


# --- the doors


@pytest.fixture
def folder(tmp_path):
    """Four pictures in each of two classes, and what a notebook and macOS leave behind."""
    root = tmp_path / "data"
    for name, seed in (("ape", 0), ("cat", 1)):
        save_pictures(root / name, pictures(4, seed=seed))
    for name in (".ipynb_checkpoints", "ape/.ipynb_checkpoints", "__MACOSX"):
        save_pictures(root / name, pictures(2, seed=9))
    touch(root, "._x.png", "notes.txt")
    return root


def test_score_and_ref_say_what_they_leave_out(folder, tmp_path, capsys):
    tiny, out = network(tmp_path / "tiny"), tmp_path / "ref.safetensors"
    assert E.open_source(folder).count == 8 and E.open_source(folder).left_out.counts == {
        "hidden": 7,
        "other": 1,
    }
    command = ["ref", str(folder), "--extractor", str(tiny), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert (
        "8 images" in said
        and "left out: 7 hidden (" in said
        and "1 of other kinds (notes.txt)" in said
    )
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"]["hidden"]["count"] == 7
    command = [
        "score",
        str(folder),
        "--ref",
        str(out),
        "--extractor",
        str(tiny),
        "--resamples",
        "0",
    ]
    assert main(command) == 0
    assert "left out: 7 hidden (" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (
        record["count"] == 8
        and record["left_out"]["count"] == 8
        and record["left_out"]["other"]["files"] == ["notes.txt"]
    )
    assert record["metrics"]["fd"]["value"] == pytest.approx(0.0, abs=1e-6)


def test_train_leaves_out_the_same(folder, capsys):
    data = load_images(folder)
    assert len(data) == 8 and data.classes == 2 and data.label.tolist() == [0] * 4 + [1] * 4
    assert data.left_out.startswith("left out: 7 hidden (")
    assert (
        training.main(
            [
                "--model",
                "mnist",
                "--data",
                str(folder),
                "--steps",
                "1",
                "--folder",
                str(folder.parent / "run"),
            ]
        )
        == 0
    )
    assert "left out: 7 hidden (" in capsys.readouterr().err


def test_a_folder_of_hidden_files_alone_is_empty(tmp_path):
    save_pictures(tmp_path / ".ipynb_checkpoints", pictures(2))
    with pytest.raises(
        E.ScoreError, match=r"no images .*left out: 2 hidden \(.ipynb_checkpoints/\)"
    ):
        E.open_source(tmp_path)
    with pytest.raises(DataError, match=r"no images .*left out: 2 hidden"):
        load_images(tmp_path)


def test_train_resizes_grey_and_colour(tmp_path):
    for name, image in (
        ("grey", np.full((10, 8), 7, np.uint8)),
        ("colour", np.full((10, 8, 3), (1, 2, 3), np.uint8)),
    ):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "1.png")
        found = load_images(tmp_path / name, 4).image[0]
        assert found.shape == (1 if name == "grey" else 3, 4, 4) and found[:, 0, 0].tolist() == (
            [7] if name == "grey" else [1, 2, 3]
        )


@pytest.mark.parametrize("size", [0, -4, 2.5, True, 10**9])
def test_sizes_that_are_none(tmp_path, size):
    save_pictures(tmp_path / "a", pictures(2))
    with pytest.raises(DataError, match=f"size={size}"):
        load_images(tmp_path, size)


def test_a_size_is_for_folders(tmp_path):
    np.savez(tmp_path / "a.npz", image=pictures(3))
    assert len(load_images(tmp_path / "a.npz")) == 3
    with pytest.raises(DataError, match="size=4"):
        load_images(tmp_path / "a.npz", 4)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX")
def test_names_that_are_no_text(tmp_path, capsys):
    folder = save_pictures(tmp_path / "im", pictures(9))
    Path(os.fsdecode(os.fsencode(folder) + b"/.\xff\n.png")).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"x")
    assert (
        main(
            [
                "ref",
                str(folder),
                "--extractor",
                str(network(tmp_path / "tiny")),
                "--out",
                str(tmp_path / "r.npz"),
                "--skip-corrupt",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert r"left out: 1 hidden (.\udcff\n.png)" in said
    said.encode("utf-8")
