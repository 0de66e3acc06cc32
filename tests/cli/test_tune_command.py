"""``fewstep tune``: files of a folder, a run that goes on, and what is refused."""

from __future__ import annotations

import json

import pytest

import fewstep
from fewstep.checks import ArgumentError
from fewstep.cli import main
from fewstep.engine import Tuned

QUICK = ["--model", "mixture", "--trajectories", "16", "--fine-steps", "64", "--sampler", "unipc"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "tuned"
    given = {"trajectories": 16, "fine_steps": 64, "sampler": "unipc"}
    fewstep.jobs.tune("mixture", out, nfes=[3], **given)
    return out


def test_the_command_goes_on_and_its_plans_are_used(folder, capsys, tmp_path):
    before = (folder / "3.json").read_bytes()
    assert main(["tune", "--out", str(folder), "--nfe", "3", "4", "--budget", "2min", *QUICK]) == 0
    said, shown = capsys.readouterr()
    first, second = said.splitlines()
    assert "3.json: 3 network calls, median error" in first
    assert first.endswith("(was there)")
    assert "4.json: 4 network calls" in second
    assert "joint: validation error" in shown
    assert (folder / "3.json").read_bytes() == before
    assert Tuned.load(folder / "4.json").plan.nfe == 4
    made = ["generate", "--model", "mixture", "--sampler", f"file:{folder / '4.json'}"]
    assert main([*made, "--seeds", "0-3", "--out", str(tmp_path / "drawn")]) == 0
    assert "4 network calls each" in capsys.readouterr().out


def test_reports_as_json(folder, capsys):
    assert main(["tune", "--out", str(folder), "--nfe", "3", "--json", *QUICK]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report == Tuned.load(folder / "3.json").report
    assert report["settings"]["sampler"] == "unipc"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--seed", "1"], "tuned with another seed"),
        (["--what", "times"], "tuned with another what"),
        (["--nfe", "3", "3"], "each once"),
        (["--nfe", "0"], "nfes=0 must be an integer >= 1"),
        (["--labels", "none"], "tuned with another labels"),
    ],
)
def test_what_does_not_fit_the_folder_is_refused(folder, given, sentence, capsys):
    before = sorted(path.name for path in folder.iterdir())
    assert main(["tune", "--out", str(folder), "--nfe", "3", *QUICK, *given]) == 3
    assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_file_for_another_model_is_refused(folder):
    den = fewstep.guidance.CFG(fewstep.models.load("mixture"), 2.0)
    given = {"trajectories": 16, "fine_steps": 64, "sampler": "unipc"}
    with pytest.raises(ArgumentError, match="tuned with another model"):
        fewstep.jobs.tune(den, folder, nfes=[3], labels="none", **given)


def test_a_budget_that_is_no_time_is_refused_before_anything_is_made(tmp_path, capsys):
    assert main(["tune", "--out", str(tmp_path / "t"), "--budget", "5 minutes", *QUICK]) == 3
    assert "budget='5 minutes'" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


LOSSES = """
import torch


def spread(x, cond):
    return (x.std(0) - 1.0).square().mean()


def broken(x, cond):
    return torch.full((len(x),), float("nan"))
"""


def test_a_plan_is_distilled_to_a_loss_of_a_file(tmp_path, capsys):
    file, out = tmp_path / "losses.py", tmp_path / "out"
    file.write_text(LOSSES)
    given = ["tune", "--out", str(out), "--nfe", "3", "--what", "search", *QUICK]
    assert main([*given, "--loss", f"{file}:spread"]) == 0
    said = Tuned.load(out / "3.json").report
    assert said["loss"]["name"] == "spread"
    assert said["settings"]["loss"][0] == f"{file}:spread"
    capsys.readouterr()
    assert main(given) == 3  # without the loss it is another plan
    assert "was tuned with another loss" in capsys.readouterr().err
    file.write_text(LOSSES.replace("1.0", "2.0"))
    assert main([*given, "--loss", f"{file}:spread"]) == 3  # and so it is with another text
    assert "was tuned with another loss" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("spraed", "'spread'"), ("broken", "is no number"), ("", "loss=")],
)
def test_losses_that_cannot_be_used_are_refused(name, said, tmp_path, capsys):
    file = tmp_path / "losses.py"
    file.write_text(LOSSES)
    given = ["tune", "--out", str(tmp_path / "out"), "--nfe", "3", "--what", "search", *QUICK]
    assert main([*given, "--loss", f"{file}:{name}"]) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "3.json").exists()
