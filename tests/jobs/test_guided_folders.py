"""Guidance as settings of jobs and of the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.cli import main
from fewstep.guidance import CFG, guide, names

DRAW = {
    "seeds": range(4),
    "sampler": "dpmpp_2m",
    "steps": 4,
    "format": "npz",
    "batch": 4,
    "grid": "lam",
}


def drawn(folder) -> np.ndarray:
    (file,) = folder.glob("samples/*.npz")
    with np.load(file) as parts:
        return parts["x"]


def test_a_guided_folder_holds_the_guided_samples(tmp_path):
    given = {
        "guidance": "cfg",
        "guidance_scale": 2.5,
        "guidance_interval": "0.2,5",
        "guidance_option": {"rescale": 0.5},
    }
    made = fewstep.jobs.generate("mixture", tmp_path / "a", **DRAW, **given)
    den = CFG(fewstep.models.load("mixture"), 2.5, interval=(0.2, 5.0), rescale=0.5)
    cond = torch.tensor([i % den.classes for i in range(4)])
    wanted = fewstep.sample(den, "dpmpp_2m", steps=4, grid="lam", n=4, cond=cond)
    assert np.array_equal(drawn(tmp_path / "a"), wanted.numpy())
    plain = fewstep.jobs.generate("mixture", tmp_path / "b", **DRAW)
    assert not np.array_equal(drawn(tmp_path / "a"), drawn(tmp_path / "b"))
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert settings["guidance"] == "cfg" and settings["guidance_interval"] == [0.2, 5.0]
    assert settings["guidance_option"] == {"rescale": 0.5} and settings["guidance_scale"] == 2.5
    assert made.manifest["plan_sha256"] == plain.manifest["plan_sha256"]
    # the same again, and with other guidance
    fewstep.jobs.generate("mixture", tmp_path / "a", **DRAW, **given)
    with pytest.raises(ArgumentError, match=r"guidance_scale \(2.5 there, 3 now\)"):
        fewstep.jobs.generate("mixture", tmp_path / "a", **DRAW, **{**given, "guidance_scale": 3})
    with pytest.raises(ArgumentError, match="guidance"):
        fewstep.jobs.generate("mixture", tmp_path / "a", **DRAW)


WRONG = [
    ({"guidance": "cgf", "guidance_scale": 2.0}, "unknown guidance 'cgf'; did you mean 'cfg'"),
    ({"guidance": "cfg"}, "without guidance_scale="),
    ({"guidance_scale": 2.0}, "guidance_scale= without guidance="),
    ({"guidance_interval": "0.2,1"}, "guidance_interval= without guidance="),
    ({"guidance_option": {"rescale": 0.5}}, "guidance_option= without guidance="),
    ({"sampler": "euler_cfg_pp"}, "euler_cfg_pp: unknown channel 'uncond'.*guidance.CFG"),
    ({"guidance": "cfg", "guidance_scale": float("nan")}, "guidance_scale=nan"),
    ({"guidance": "cfg", "guidance_scale": 2.0, "guidance_interval": "2"}, "guidance_interval='2'"),
    ({"guidance": "cfg", "guidance_scale": 2.0, "guidance_interval": "2,1"}, "lo <= hi"),
    (
        {"guidance": "cfg", "guidance_scale": 2.0, "guidance_option": {"rescal": 0.5}},
        "did you mean 'rescale'",
    ),
    ({"guidance": "cfg", "guidance_scale": 2.0, "labels": "none"}, "needs a condition"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_settings_are_refused_before_the_folder(given, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        fewstep.jobs.generate("mixture", tmp_path / "a", **{**DRAW, **given})
    assert not (tmp_path / "a").exists()


def test_the_command(tmp_path, capsys):
    words = [
        "--model",
        "mixture",
        "--seeds",
        "0-3",
        "--steps",
        "4",
        "--sampler",
        "dpmpp_2m",
        "--grid",
        "lam",
    ]
    guided = ["--guidance", "cfg", "--scale", "2.5", "--interval", "0.2,5", "-g", "rescale=0.5"]
    assert main(["generate", "--out", str(tmp_path / "a"), "--batch", "4", *words, *guided]) == 0
    given = {
        "guidance": "cfg",
        "guidance_scale": 2.5,
        "guidance_interval": "0.2,5",
        "guidance_option": {"rescale": 0.5},
    }
    fewstep.jobs.generate("mixture", tmp_path / "b", **DRAW, **given)
    assert np.array_equal(drawn(tmp_path / "a"), drawn(tmp_path / "b"))
    capsys.readouterr()
    assert (
        main(
            ["generate", "--out", str(tmp_path / "c"), *words, "--guidance", "cgf", "--scale", "2"]
        )
        == 3
    )
    assert "did you mean 'cfg'" in capsys.readouterr().err
    config = tmp_path / "guided.yaml"
    config.write_text(
        "guidance: cfg\nguidance_scale: 2.5\nguidance_interval: [0.2, 5]\nguidance_option: {rescale: 0.5}\n"
    )
    out = [
        "generate",
        "--out",
        str(tmp_path / "d"),
        "--batch",
        "4",
        *words,
        "--config",
        str(config),
    ]
    assert main(out) == 0
    assert np.array_equal(drawn(tmp_path / "a"), drawn(tmp_path / "d"))


def test_every_named_method_is_made_by_its_name():
    den = fewstep.models.load("mixture")
    for name in names():
        # the mixture is on EDM, where no step can stand still
        options = {"zero_steps": 0} if name == "cfg_zero" else {}
        made = guide(den, name, 2.0, interval=(0.1, 3.0), options=options)
        assert made.guided and made.channels[:1] == ("main",)
        with pytest.raises(ArgumentError, match="unknown option 'no_option'"):
            guide(den, name, 2.0, options={"no_option": 1})
