"""``fewstep invert``: whole runs, a run that goes on, and what must be refused before anything is
written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_hashes import tree
from PIL import Image

import fewstep
from fewstep.cli import main
from fewstep.jobs import InversionResult, invert

POINTS = ["--model", "mixture", "--batch", "4", "--steps", "6"]


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> Path:
    """Ten samples of the mixture, in blocks of four."""
    out = tmp_path_factory.mktemp("drawn") / "points"
    given = {"steps": 4, "seeds": range(10), "batch": 4, "labels": "none"}
    fewstep.jobs.generate("mixture", out, **given)
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "digits"
    fewstep.jobs.generate("mnist", out, seeds=range(3), nfe=3)
    return out


def drawn(folder: Path) -> torch.Tensor:
    files = sorted((folder / "samples").glob("*.npz"))
    return torch.from_numpy(np.concatenate([np.load(file)["x"] for file in files]))


def test_points_of_a_generated_folder(points, tmp_path, capsys):
    out = tmp_path / "noise"
    assert main(["invert", str(points), "--out", str(out), *POINTS, "--sampler", "edict"]) == 0
    said = capsys.readouterr().out
    assert "10 samples inverted by edict (exact), 11 network calls each" in said
    record = json.loads((out / "inversion.json").read_text())
    made = InversionResult(out, record)
    found = made.arrays()
    den, x0 = fewstep.models.load("mixture"), drawn(points)
    for start in (0, 4, 8):
        own = x0[start : start + 4]
        z, info = fewstep.invert(den, own, "edict", steps=6, info=True)
        rows = slice(start, start + 4)
        assert np.array_equal(found["noise"][rows], z.numpy())
        assert np.array_equal(found["partner"][rows], info.partners[0].numpy())
        assert np.array_equal(found["reconstruction"][rows], info.reconstruction.numpy())
    assert np.allclose(found["reconstruction"], x0.numpy(), atol=1e-4)
    assert [row["error"] for row in record["images"]] == found["error"].astype(float).tolist()
    assert record["largest_error"] == float(found["error"].max()) and record["count"] == 10
    assert not (out / "reconstruction").exists()  # no pictures


def test_a_run_goes_on_with_the_blocks_that_are_missing(points, tmp_path, capsys):
    out = tmp_path / "noise"
    command = ["invert", str(points), "--out", str(out), *POINTS, "--json"]
    assert main(command) == 0
    record, whole = json.loads(capsys.readouterr().out), tree(out)
    assert record["method"] == "reversed" and record["nfe"] == 6
    kept = (out / "noise" / "block-00000.npz").stat().st_mtime_ns
    (out / "noise" / "block-00001.npz").unlink()
    (out / "inversion.json").unlink()
    assert main(command) == 0
    assert tree(out) == whole
    assert (out / "noise" / "block-00000.npz").stat().st_mtime_ns == kept


def test_pictures_with_the_labels_of_the_source(digits, tmp_path):
    given = {"steps": 4, "sampler": "belm"}
    made = invert("mnist", digits, tmp_path / "a", **given)
    assert made.record["error"] < 1e-3 and made.record["nfe"] == 4
    data, back = (
        np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])
        for folder in (digits / "samples", tmp_path / "a" / "reconstruction")
    )
    assert np.array_equal(data, back)
    without = invert("mnist", digits, tmp_path / "b", labels="none", **given)
    same = invert("mnist", digits, tmp_path / "c", labels=[0, 1, 2], **given)
    assert not np.allclose(made.arrays()["noise"], without.arrays()["noise"], atol=1e-3)
    assert np.array_equal(made.arrays()["noise"], same.arrays()["noise"])
    # bare pictures have no labels
    bare = invert("mnist", digits / "samples", tmp_path / "d", **given)
    assert np.array_equal(bare.arrays()["noise"], without.arrays()["noise"])


def test_guidance_and_a_config_file(digits, tmp_path, capsys):
    config = tmp_path / "set.yaml"
    config.write_text("sampler: belm\nsteps: 5\nguidance: cfg\nguidance_scale: 2.0\n")
    out = tmp_path / "a"
    assert main(["invert", str(digits), "--out", str(out), "--config", str(config), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["sampler"] == "belm" and record["method"] == "exact"
    settings = json.loads((out / "settings.json").read_text())
    assert settings["guidance"] == "cfg" and settings["steps"] == 5


def test_the_prior_term_of_newton(points, tmp_path, capsys):
    errors = []
    for i, more in enumerate(([], ["--prior", "0"], ["--prior", "0.01"])):
        out = tmp_path / str(i)
        given = [*POINTS, "--sampler", "ddim", "--inversion", "newton", *more, "--json"]
        assert main(["invert", str(points), "--out", str(out), *given]) == 0
        errors.append(json.loads(capsys.readouterr().out)["error"])
    assert errors[0] == errors[1] < errors[2] < 1.0
    assert json.loads((out / "settings.json").read_text())["prior"] == 0.01


REFUSED = [
    (["--inversion", "newtn"], "did you mean 'newton'"),
    (["--inversion", "exact"], "not exactly invertible"),
    (["--sampler", "dpmpp_2m", "--inversion", "newton"], "uses predictions of earlier steps"),
    (["--sampler", "ddpm"], "draws noise"),
    (["--sampler", "nosuch"], "nosuch"),
    (["--iterations", "3"], "only fixed_point and newton iterate"),
    (["--prior", "0.1"], "only newton has a prior term"),
    (["-o", "eta=1.0", "--sampler", "ddim"], "draws noise"),
    (["-o", "steps=3"], "an argument of its own"),
    (["--labels", "12"], "labels"),
    (["--model", "mnist"], "holds samples of shape"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED)
def test_refused_before_anything_is_written(points, tmp_path, capsys, flags, message):
    out = tmp_path / "noise"
    assert main(["invert", str(points), "--out", str(out), *POINTS, *flags]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_folders_of_something_else_are_refused(points, tmp_path, capsys):
    out = tmp_path / "noise"
    command = ["invert", str(points), "--out", str(out), *POINTS]
    assert main(command) == 0
    before = tree(out)
    assert main([*command, "--sampler", "ddim", "--inversion", "newton"]) == 3
    assert "other settings (inversion, sampler)" in capsys.readouterr().err
    assert tree(out) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert main(["invert", str(points), "--out", str(tmp_path / "full"), *POINTS]) == 3
    assert "holds other files" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert main(["invert", str(tmp_path / "none"), "--out", str(tmp_path / "x"), *POINTS]) == 3
    assert main(["invert", "--out", str(tmp_path / "x"), *POINTS]) == 3
    assert not (tmp_path / "x").exists()


def test_a_picture_that_cannot_be_read_is_named(digits, tmp_path, capsys):
    source = tmp_path / "pictures"
    source.mkdir()
    for path in (digits / "samples").glob("*.png"):
        (source / path.name).write_bytes(path.read_bytes())
    (source / "zz.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    assert main(["invert", str(source), "--out", str(tmp_path / "x"), "--steps", "2"]) == 3
    assert "zz.png" in capsys.readouterr().err
