"""Folders of version 0.1: the same command finds them finished; with seeds added it goes on; other
commands are refused. What were the defaults then is named now."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from folder_hashes import tree
from repository import ROOT

import fewstep
from fewstep.cli import main
from fewstep.engine import plan as make_plan
from fewstep.jobs import feature_blocks, folder_settings, generation
from fewstep.jobs.drawing import Drawing, DrawingSettings
from fewstep.jobs.folder_settings import FORMER_GRIDS, FORMER_SAMPLER, adds_seeds, differences
from fewstep.jobs.plan_text import plan_text
from fewstep.schedules import EDM, VPLinear

GOLDEN = ROOT / "tests" / "golden" / "version_0_1"
FORMER = ["--sampler", FORMER_SAMPLER, "--grid", FORMER_GRIDS["auto"]]
BARE = ["--model", "mixture", "--steps", "4", "--batch", "4"]
DRAWN = [*BARE, *FORMER]
DIGITS = ["--sampler", "unipc", "--steps", "2", "--batch", "3", "-o", "order=2", *FORMER[2:]]
REMEDY = (
    "grid 'auto' was another rule in version 0.1: sampler='{0}', grid='auto_0_1' "
    "(--sampler {0} --grid auto_0_1) draws as it did, or give another folder"
)


def copied(name: str, tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / name, tmp_path / name)
    return tmp_path / name


def generate(out: Path, *arguments: str) -> int:
    return main(["generate", "--out", str(out), *arguments])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("drawn", [*DRAWN, "--seeds", "0-5"]), ("digits", [*DIGITS, "--seeds", "0-4"])],
)
def test_the_same_command_draws_nothing(name, arguments, tmp_path, monkeypatch):
    out = copied(name, tmp_path)
    before = tree(out)
    monkeypatch.setattr(Drawing, "draw", None)
    assert generate(out, *arguments) == 0
    assert tree(out) == before


@pytest.mark.parametrize(
    ("name", "arguments", "seeds", "kept"),
    [("drawn", DRAWN, "0-6", [0]), ("digits", DIGITS, "0-8", [0])],
)
def test_an_added_seed_goes_on(name, arguments, seeds, kept, tmp_path, monkeypatch):
    """Whole blocks are kept; the last one, which was shorter, is drawn again."""
    out = copied(name, tmp_path)
    drawn = []
    draw = Drawing.draw
    monkeypatch.setattr(
        Drawing, "draw", lambda self, block: (drawn.append(block.index), draw(self, block))[1]
    )
    assert generate(out, *arguments, "--seeds", seeds) == 0
    first = list(drawn)
    assert not set(kept) & set(first) and first
    alone = tmp_path / "alone"
    assert generate(alone, *arguments, "--seeds", seeds) == 0
    manifests = [json.loads((f / "manifest.json").read_text()) for f in (out, alone)]
    assert [m["count"] for m in manifests] == [int(seeds[2:]) + 1] * 2
    if name == "drawn":  # an exact model: the same bits on every machine
        assert tree(out) == tree(alone)
    assert json.loads((out / "settings.json").read_text())["seeds"] == seeds
    drawn.clear()
    assert generate(out, *arguments, "--seeds", seeds) == 0 and drawn == []


def test_a_folder_that_grows_is_unfinished_until_it_is_whole(tmp_path, monkeypatch):
    out = copied("drawn", tmp_path)

    def fail(self, block):
        raise MemoryError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Drawing, "draw", fail)
        assert generate(out, *DRAWN, "--seeds", "0-6") == 3
    assert not (out / "manifest.json").exists()
    assert generate(out, *DRAWN, "--seeds", "0-6") == 0
    assert json.loads((out / "manifest.json").read_text())["count"] == 7


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([*DRAWN, "--seeds", "0-4"], "seeds ('0-5' there, '0-4' now)"),
        ([*DRAWN, "--seeds", "1-6"], "seeds"),
        ([*DRAWN, "--seeds", "0-5", "--steps", "5"], "steps (4 there, 5 now)"),
        ([*DRAWN, "--seeds", "0-5", "--sampler", "ddim"], "sampler ('dpmpp_2m' there"),
        ([*DRAWN, "--seeds", "0-5", "--labels", "random"], "labels"),
        ([*DRAWN, "--seeds", "0-5", "--batch", "3"], "batch"),
        ([*BARE[2:], *FORMER, "--seeds", "0-5"], "model ('mixture' there"),
    ],
)
def test_other_commands_are_refused(arguments, word, tmp_path, capsys):
    out = copied("drawn", tmp_path)
    before = tree(out)
    assert generate(out, *arguments) == 3
    assert word in capsys.readouterr().err and tree(out) == before


@pytest.mark.parametrize(
    ("name", "arguments", "sampler"),
    [
        ("drawn", [*BARE, "--seeds", "0-5"], FORMER_SAMPLER),
        ("drawn", [*BARE, "--sampler", FORMER_SAMPLER, "--seeds", "0-5"], FORMER_SAMPLER),
        ("drawn", [*BARE, *FORMER[2:], "--seeds", "0-5"], FORMER_SAMPLER),
        ("digits", [*DIGITS[:-2], "--seeds", "0-4"], "unipc"),
    ],
    ids=["both defaults", "the grid", "the sampler", "the grid of a named sampler"],
)
def test_a_command_with_defaults_that_changed_is_told_the_former_ones(
    name, arguments, sampler, tmp_path, capsys, monkeypatch
):
    out = copied(name, tmp_path)
    before = tree(out)
    assert generate(out, *arguments) == 3
    error = capsys.readouterr().err
    assert REMEDY.format(sampler) in error and tree(out) == before
    monkeypatch.setattr(Drawing, "draw", None)
    assert generate(out, *arguments, "--sampler", sampler, "--grid", "auto_0_1") == 0


def test_the_former_defaults_are_named_for_folders_of_version_0_1_only(tmp_path, capsys):
    """On other grids only the sampler may have been the default; of a folder of today, and of one
    whose plan is another one, nothing is said."""
    karras = ["--sampler", FORMER_SAMPLER, "--grid", "karras", "--seeds", "0-1"]
    assert generate(tmp_path / "karras", *BARE, *karras) == 0
    assert generate(tmp_path / "karras", *BARE, *karras[2:]) == 3
    error = capsys.readouterr().err
    assert "sampler='dpmpp_2m' (--sampler dpmpp_2m) draws as it did" in error
    assert "grid 'auto'" not in error
    assert generate(tmp_path / "karras", *BARE, *karras, "--steps", "5") == 3
    assert "version 0.1" not in capsys.readouterr().err
    assert generate(tmp_path / "now", *BARE, "--seeds", "0-1") == 0
    assert generate(tmp_path / "now", *BARE, "--seeds", "0-1", "--steps", "5") == 3
    error = capsys.readouterr().err
    assert "steps (4 there, 5 now); give another folder" in error and "version 0.1" not in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "mixture", "--nfe", "4", "--batch", "4", *FORMER, "--seeds", "0,1,2-5"],
        [*DRAWN, "--seeds", "0-5", "-o", "lower_order_final=True"],
    ],
    ids=["the same plan and seeds in other words", "an option at its default"],
)
def test_what_draws_the_same_is_accepted(arguments, tmp_path, monkeypatch):
    out = copied("drawn", tmp_path)
    monkeypatch.setattr(Drawing, "draw", None)
    assert generate(out, *arguments) == 0


def test_a_model_that_was_moved_is_the_same_model(tmp_path, monkeypatch):
    """Its files decide, not its path."""
    out = copied("digits", tmp_path)
    source = Path(fewstep.models.__file__).parent / "bundled" / "mnist"
    shutil.copytree(source, tmp_path / "elsewhere")
    monkeypatch.setattr(Drawing, "draw", None)
    model = ["--model", str(tmp_path / "elsewhere")]
    assert generate(out, *DIGITS, "--seeds", "0-4", *model) == 0


def test_a_setting_that_the_folder_lacks_is_at_its_default(monkeypatch):
    there, now = {"seeds": "0-3"}, {"seeds": "0-3", "tiled": False}
    assert differences(there, now) == ["tiled (None there, False now)"]
    monkeypatch.setattr(folder_settings, "DEFAULTS", {**folder_settings.DEFAULTS, "tiled": False})
    assert differences(there, now) == [] == differences(now, there)
    assert differences(there, {**now, "tiled": True}) == ["tiled (False there, True now)"]


def test_a_setting_that_only_the_folder_has():
    """A later version wrote it: without a value it means nothing, otherwise it is refused."""
    assert differences({"a": 1, "later": None}, {"a": 1}) == []
    assert differences({"a": 1, "later": 2}, {"a": 1}) == ["later (2 there, None now)"]
    assert differences({"a": 1, "fewstep": "0.9"}, {"a": 1}) == []


def test_a_renamed_setting_is_mapped(monkeypatch):
    monkeypatch.setattr(folder_settings, "RENAMED", {"block": "batch"})
    assert differences({"block": 4}, {"batch": 4}) == []
    assert differences({"block": 4}, {"batch": 5}) == ["batch (4 there, 5 now)"]


def test_seeds_in_other_words():
    assert not differences({"seeds": "0-3"}, {"seeds": "0,1,2,3"})
    assert not differences({"seeds": "0-3"}, {"seeds": "0-3,9"})
    assert differences({"seeds": "0-3"}, {"seeds": "9,0-3"})
    assert differences({"seeds": "x"}, {"seeds": "0-3"})
    assert adds_seeds({"seeds": "0-3"}, {"seeds": "0-3,9"})
    assert not adds_seeds({"seeds": "0-3"}, {"seeds": "3,0-2"})


# --- hashes


def test_the_text_of_plans_is_that_of_version_0_1():
    """Of every plan that version 0.1 wrote down."""
    written = json.loads((GOLDEN / "plans.json").read_text())
    plans = list(texts(written))
    assert len(plans) > 3
    for text in plans:
        assert plan_text(fewstep.plans.Plan.from_json(text)) == text


def texts(value):
    """The plans somewhere below ``value``."""
    if isinstance(value, str) and value.startswith('{"format": "fewstep.plan/1"'):
        yield value
    elif isinstance(value, dict) and value.get("format") == "fewstep.plan/1":
        yield json.dumps(value)
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def test_different_plans_have_different_texts():
    schedule = EDM(0.002, 80.0)
    plans = [make_plan("ddim", schedule, steps=n) for n in (3, 4)]
    plans += [make_plan("ddim", schedule, steps=3, eta=0.5), make_plan("ddim", VPLinear(), steps=3)]
    assert len({plan_text(plan) for plan in plans}) == 4


DRIVER = {"model": "mixture", "seeds": "0-3", "sampler": "dpm_adaptive", "batch": 4}


def test_a_driver_in_a_folder_of_version_0_1(tmp_path, monkeypatch, capsys):
    """Its hash was of the names of options; the options themselves are compared now."""
    made = fewstep.jobs.generate(
        "mixture", tmp_path, seeds="0-3", batch=4, sampler="dpm_adaptive", grid="auto_0_1"
    )
    assert "plan_sha256" not in made.manifest and len(made.manifest["request_sha256"]) == 64
    path = tmp_path / "settings.json"
    settings = json.loads(path.read_text())
    del settings["request_sha256"]
    path.write_text(json.dumps({**settings, "grid": "auto", "plan_sha256": "of version 0.1"}))
    bare = ["--model", "mixture", "--seeds", "0-3", "--batch", "4", "--sampler", "dpm_adaptive"]
    command = [*bare, *FORMER[2:]]
    assert generate(tmp_path, *command, "-o", "rtol=0.5") == 3
    with monkeypatch.context() as patch:
        patch.setattr(Drawing, "draw", None)
        assert generate(tmp_path, *command) == 0
    assert generate(tmp_path, *command, "--grid", "karras") == 3
    capsys.readouterr()
    assert generate(tmp_path, *bare) == 3
    assert REMEDY.format("dpm_adaptive") in capsys.readouterr().err


def test_the_hash_of_a_driver_is_of_what_is_not_the_default():
    same = [DrawingSettings(**DRIVER), DrawingSettings(**DRIVER, option={"per_sample": False})]
    other = DrawingSettings(**DRIVER, option={"per_sample": True})
    hashes = [Drawing(settings).hashes["request_sha256"] for settings in (*same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_endless_options_of_a_driver_are_read_back():
    settings = DrawingSettings(**{**DRIVER, "sampler": "dpm_adaptive"})
    drawing = Drawing(settings)
    assert drawing.same_request(settings.record())
    assert not drawing.same_request({**settings.record(), "option": {"rtol": "inf"}})
    assert not drawing.same_request({**settings.record(), "option": [1]})
    assert not drawing.same_request({})


# --- features


def test_features_of_version_0_1_are_not_computed_again(tmp_path, monkeypatch, capsys):
    digits, out = copied("digits", tmp_path), copied("score", tmp_path)
    identity = out / "identity.json"
    identity.write_text(identity.read_text().replace("FOLDER", str(tmp_path.resolve())))
    for name, _, _, stamp in json.loads(identity.read_text())["source"]:
        os.utime(name, ns=(stamp, stamp))
    before = tree(out)
    monkeypatch.setattr(feature_blocks, "_compute", None)
    monkeypatch.setattr("fewstep.jobs.images.__version__", "9.9.9")
    command = ["score", str(digits), "--out", str(out), "--metrics", "fd,kid", "--json"]
    assert main(command) == 0
    record, want = (
        json.loads(capsys.readouterr().out),
        json.loads((GOLDEN / "score" / "score.json").read_text()),
    )
    for name in ("fd", "kid"):
        assert record["metrics"][name]["value"] == pytest.approx(
            want["metrics"][name]["value"], rel=1e-6
        )
    assert {name: hashed for name, hashed in tree(out).items() if name.startswith("features")} == {
        name: hashed for name, hashed in before.items() if name.startswith("features")
    }
    (digits / "samples" / "000004.png").touch()
    assert main(command) == 3
    assert "features of another request (other source)" in capsys.readouterr().err


def test_the_samples_of_version_0_1_are_drawn_again_to_the_same_numbers(tmp_path):
    """An exact model: to rounding."""
    made = generation.generate(
        "mixture",
        tmp_path,
        seeds=range(6),
        batch=4,
        sampler=FORMER_SAMPLER,
        grid="auto_0_1",
        steps=4,
    )
    for file in made.files:
        x, want = (
            np.load(f / file.relative_to(tmp_path))["x"] for f in (tmp_path, GOLDEN / "drawn")
        )
        np.testing.assert_allclose(x, want, rtol=1e-5, atol=1e-6)
