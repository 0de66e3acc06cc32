"""``fewstep generate``: whole runs, a run that is killed and goes on, several processes, and
everything that must be refused."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_hashes import tree
from PIL import Image

import fewstep
from fewstep.cli import main
from fewstep.jobs.blocks import Block, Folder, cut
from fewstep.jobs.settings import parse_seeds

QUICK = ["--model", "mixture", "--steps", "3"]


def generate(out: Path, *arguments: str) -> int:
    return main(["generate", "--out", str(out), *QUICK, *arguments])


def test_the_samples_are_those_of_the_library(tmp_path, capsys):
    assert (
        generate(tmp_path / "a", "--seeds", "3-12", "--batch", "4", "--labels", "none", "--json")
        == 0
    )
    manifest = json.loads(capsys.readouterr().out)
    want = fewstep.sample(fewstep.models.load("mixture"), steps=3, n=10, seed=3).numpy()
    files = dict.fromkeys(row["file"] for row in manifest["samples"])
    found = [np.load(tmp_path / "a" / name) for name in files]
    assert np.array_equal(np.concatenate([f["x"] for f in found]), want)
    assert [row["seed"] for row in manifest["samples"]] == list(range(3, 13))
    assert manifest["count"] == 10
    assert manifest["nfe"] == 3
    for row in manifest["samples"]:
        assert (
            hashlib.sha256((tmp_path / "a" / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        )
    with Image.open(tmp_path / "a" / "grid.png") as picture:
        assert len(set(picture.convert("L").get_flattened_data())) > 1, "the picture shows nothing"


def test_a_run_again_does_nothing_and_a_lost_or_damaged_file_is_made_again(tmp_path):
    out = tmp_path / "out"
    assert generate(out, "--seeds", "0-11", "--batch", "4") == 0
    whole = tree(out)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "samples").iterdir()}
    assert generate(out, "--seeds", "0-11", "--batch", "4") == 0
    assert tree(out) == whole
    assert {path: path.stat().st_mtime_ns for path in (out / "samples").iterdir()} == stamps
    (out / "samples" / "block-00001.npz").write_bytes(b"half a fi")
    (out / "blocks" / "00002.json").write_text("{")
    (out / "samples" / "block-00002.npz.77.partial").write_bytes(b"left by a killed run")
    assert generate(out, "--seeds", "0-11", "--batch", "4") == 0
    assert tree(out) == whole


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    """kill -9 when some blocks are done and others are not; the second run ends with the bytes of
    an unbroken one."""
    flags = [
        "--model",
        "mixture",
        "--seeds",
        "0-399",
        "--batch",
        "2",
        "--steps",
        "40",
        "--sampler",
        "ddim",
        "-o",
        "eta=1.0",
    ]
    command = [
        sys.executable,
        "-m",
        "fewstep",
        "generate",
        "--out",
        str(tmp_path / "broken"),
        *flags,
    ]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        for _ in range(6000):
            done = len(list((tmp_path / "broken").glob("blocks/*.json")))
            if done >= 5 or running.poll() is not None:
                break
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert 5 <= len(list((tmp_path / "broken").glob("blocks/*.json"))) < 200, (
        "it was to be killed in the middle"
    )
    assert not (tmp_path / "broken" / "manifest.json").exists()
    for name in ("broken", "whole"):
        assert main(["generate", "--out", str(tmp_path / name), *flags]) == 0
    assert tree(tmp_path / "broken") == tree(tmp_path / "whole")


def test_three_processes_share_the_blocks(tmp_path, monkeypatch, capsys):
    flags = ("--seeds", "0-18", "--batch", "4")
    assert generate(tmp_path / "one", *flags) == 0
    for rank in ("2", "0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "3")
        assert generate(tmp_path / "three", *flags) == 0
        assert (tmp_path / "three" / "manifest.json").exists() == (rank == "1"), (
            "the last process writes the manifest"
        )
    assert "others have blocks left" in capsys.readouterr().err
    assert tree(tmp_path / "one") == tree(tmp_path / "three")


def test_the_bundled_model_draws_digits(tmp_path):
    assert (
        main(
            [
                "generate",
                "--out",
                str(tmp_path / "out"),
                "--seeds",
                "0-2",
                "--steps",
                "2",
                "--labels",
                "7,1",
            ]
        )
        == 0
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [(row["file"], row["label"]) for row in manifest["samples"]] == [
        ("samples/000000.png", 7),
        ("samples/000001.png", 1),
        ("samples/000002.png", 7),
    ]
    den = fewstep.models.load("mnist")
    x = fewstep.sample(den, steps=2, n=3, seed=0, cond=torch.tensor([7, 1, 7]))
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()[:, 0]
    for i in range(3):
        with Image.open(tmp_path / "out" / f"samples/{i:06d}.png") as picture:
            off = np.abs(np.asarray(picture).astype(int) - pixels[i].astype(int))
        assert off.max() <= 1, "rounding between float32 and float64 pixels at most"


def test_a_config_file_speaks_and_flags_override_it(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "model: mixture\nsteps: 3\nsampler: unipc\noption: {order: 3}\nseeds: 0-3\n"
    )
    assert (
        main(
            [
                "generate",
                "--out",
                str(tmp_path / "out"),
                "--config",
                str(tmp_path / "run.yaml"),
                "--steps",
                "4",
            ]
        )
        == 0
    )
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert {k: settings[k] for k in ("model", "steps", "sampler", "option", "seeds", "grid")} == {
        "model": "mixture",
        "steps": 4,
        "sampler": "unipc",
        "option": {"order": 3},
        "seeds": "0-3",
        "grid": "auto",
    }


REFUSED = [
    (["--sampler", "dpmpp2m"], 3, "did you mean 'dpmpp_2m'"),
    (["--grid", "karas"], 3, "did you mean 'karras'"),
    (["--model", "mnst"], 3, "did you mean 'mnist'"),
    (["--sampler", "unipc", "-o", "ordr=3"], 3, "did you mean 'order'"),
    (["-o", "order"], 3, "KEY=VALUE"),
    (["--steps", "0"], 3, ">= 1"),
    (["--nfe", "4", "--steps", "4"], 3, "one of them"),
    (["--batch", "0"], 3, "batch=0"),
    (["--seeds", "9-3"], 3, "backwards"),
    (["--seeds", "1,1"], 3, "twice"),
    (["--seeds", "x"], 3, "0-63"),
    (["--labels", "11"], 3, "0 to 7"),
    (["--labels", "cat"], 3, "cycle"),
    (["--format", "png"], 3, "no pictures"),
    (["--device", "abacus"], 3, "abacus"),
    (["--steps", "two"], 2, "invalid int"),
    (["--sede", "3"], 2, "unrecognized"),
]


@pytest.mark.parametrize(
    ("flags", "code", "message"), REFUSED, ids=[" ".join(f) for f, _, _ in REFUSED]
)
def test_bad_input_is_refused_before_anything_is_written(flags, code, message, tmp_path, capsys):
    arguments = ["--model", "mixture"] if "--model" not in flags else []
    assert main(["generate", "--out", str(tmp_path / "out"), *arguments, *flags]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_settings_do_not_touch_what_is_there(tmp_path, capsys):
    assert generate(tmp_path / "out", "--seeds", "0-3") == 0
    before = tree(tmp_path / "out")
    assert generate(tmp_path / "out", "--seeds", "4-7") == 3
    assert "seeds ('0-3' there, '4-7' now)" in capsys.readouterr().err
    (tmp_path / "foreign" / "samples").mkdir(parents=True)
    (tmp_path / "foreign" / "samples" / "000000.png").write_bytes(b"someone's")
    assert generate(tmp_path / "foreign") == 3
    assert "settings.json" in capsys.readouterr().err
    assert tree(tmp_path / "out") == before


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert generate(tmp_path / "file" / "out") == 3
    assert "file" in capsys.readouterr().err


def test_nan_ends_with_the_step_the_time_and_the_seed_and_keeps_what_is_done(
    tmp_path, capsys, monkeypatch
):
    """The second block's network call 1 answers NaN for its third sample."""
    calls = []

    class Broken(type(fewstep.models.load("mixture"))):
        def raws(self, x_in, t, cond=None):
            (raw,) = super().raws(x_in, t, cond)
            calls.append(float(t))
            if len(calls) == 5:
                raw[2] = float("nan")
            return (raw,)

    good = fewstep.models.load("mixture")
    broken = Broken(good.means, good.stds, good.weights, good.schedule, good.prediction)
    monkeypatch.setattr(fewstep.models, "load", lambda name: broken)
    assert generate(tmp_path / "out", "--seeds", "10-17", "--batch", "4") == 4
    said = capsys.readouterr().err
    assert "evaluation 1" in said and f"t={calls[4]}" in said and "seeds [16]" in said
    assert [path.name for path in (tmp_path / "out" / "blocks").iterdir()] == ["00000.json"]
    monkeypatch.undo()
    assert generate(tmp_path / "out", "--seeds", "10-17", "--batch", "4") == 0


def test_a_damaged_model_is_refused(tmp_path, capsys):
    source = Path(fewstep.models.__file__).parent / "bundled" / "mnist"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    assert main(["generate", "--out", str(tmp_path / "out"), "--model", str(folder)]) == 3
    assert "model.safetensors" in capsys.readouterr().err
    (folder / "model.safetensors").write_bytes(
        (source / "model.safetensors").read_bytes()[:100_000]
    )
    assert main(["generate", "--out", str(tmp_path / "out"), "--model", str(folder)]) == 3
    assert "safetensors" in capsys.readouterr().err


def test_nothing_is_printed_on_stderr_where_it_is_no_terminal(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fewstep",
        "generate",
        "--out",
        str(tmp_path / "out"),
        *QUICK,
        "--seeds",
        "0-3",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 samples of mixture" in done.stdout


def test_blocks_do_not_depend_on_what_was_asked_before():
    blocks = cut(tuple(range(10)), (None,) * 10, 4)
    assert [block.seeds for block in blocks] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert parse_seeds("5, 1-3,9") == (5, 1, 2, 3, 9)


def test_a_record_of_other_seeds_is_no_record(tmp_path):
    folder = Folder(tmp_path, "npz", (2,))
    folder.save(Block(0, (1, 2), (None, None)), np.zeros((2, 2)))
    assert folder.record(Block(0, (1, 2), (None, None))) is not None
    assert folder.record(Block(0, (1, 3), (None, None))) is None
    assert folder.record(Block(0, (1, 2), (0, 0))) is None


def test_steering_by_a_function_in_a_file(tmp_path, capsys):
    file = tmp_path / "rewards.py"
    file.write_text("def right(x):\n    return x[:, 0]\n")
    flags = ["--steer", "svdd", "--reward", f"{file}:right", "--particles", "3"]
    flags += ["--steer-option", "temperature=0", "--seeds", "0-3", "--labels", "none"]
    assert generate(tmp_path / "a", *flags) == 0
    said = capsys.readouterr().out
    assert "4 samples of mixture by ddim, 3 network calls for each particle" in said
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    rewards = [row["reward"] for row in manifest["samples"]]
    assert f"largest {max(rewards):.6g}" in said
    config = tmp_path / "config.yaml"
    config.write_text(
        f"steer: svdd\nreward: {file}:right\nparticles: 3\nsteer_option: {{temperature: 0}}\n"
        "labels: none\nseeds: 0-3\n"
    )
    assert generate(tmp_path / "b", "--config", str(config), "--json") == 0
    assert [row["reward"] for row in json.loads(capsys.readouterr().out)["samples"]] == rewards
    assert generate(tmp_path / "c", *flags[:2], "--seeds", "0") == 3
    assert "without reward=" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
