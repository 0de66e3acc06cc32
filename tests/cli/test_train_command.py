"""``fewstep train``: a run with the residual of an equation in the loss, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fewstep.cli import main
from fewstep.eval import physics
from fewstep.models.field_maps import FieldMap, FieldMaps
from fewstep.models.unet import UNetConfig
from fewstep.train import recipes
from fewstep.train.loop import Recipe

TINY = Recipe(
    UNetConfig(8, 2, 0, widths=(16, 32), blocks=(1, 1), embedding=16, head=16),
    batch=4,
    fields=FieldMaps((FieldMap("a", 0.2, -1.5), FieldMap("u", 115.0, -0.9))),
)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A file of eight solutions; the recipe of darcy is a small one."""
    monkeypatch.setitem(recipes.RECIPES, "darcy", TINY)
    fields = physics.darcy.draw(8, 8).fields
    np.savez(tmp_path / "d.npz", **{k: v.float().numpy() for k, v in fields.items()})
    return str(tmp_path / "d.npz")


def exported(folder):
    assert (
        main(["train", "--model", "darcy", "--folder", str(folder), "--export", f"{folder}-out"])
        == 0
    )
    return json.loads((folder.parent / f"{folder.name}-out" / "config.json").read_text())


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([], None),
        (["--residual", "darcy"], "darcy, weight 0.001, one_call"),
        (
            ["--residual", "darcy", "--residual-weight", "0.5", "--estimate", "ddim",
             "--estimate-steps", "2", "--spacing", "x=0.25,y=0.25", "--param", "source=2"],
            "darcy, weight 0.5, ddim 2",
        ),
    ],
)  # fmt: skip
def test_a_run_and_its_record(data, tmp_path, flags, name):
    folder = tmp_path / "run"
    line = ["train", "--model", "darcy", "--data", data, "--folder", str(folder), "--steps", "2"]
    assert main([*line, *flags]) == 0
    assert exported(folder)["training"].get("residual_loss") == name


def test_the_flags_reach_the_residual(data, tmp_path, monkeypatch):
    seen = []
    real = physics.darcy.residual

    def residual(fields, spacing, params):
        seen.append((dict(spacing), dict(params), fields["u"].dtype))
        return real(fields, spacing, params)

    monkeypatch.setattr(physics.darcy, "residual", residual)
    line = ["train", "--model", "darcy", "--data", data, "--folder", str(tmp_path), "--steps", "1"]
    assert main([*line, "--residual", "darcy", "--spacing", "x=0.5,y=0.25"]) == 0
    assert main([*line, "--residual", "darcy"]) == 0
    given, default = seen
    assert given[0] == {"x": 0.5, "y": 0.25} and given[2] == torch.float64
    assert default[0] == {"x": 1 / 7, "y": 1 / 7}


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--residual", "darci"], 3, "did you mean 'darcy'"),
        (["--residual", "darcy", "--estimate", "dim"], 3, "unknown sampler 'dim'"),
        (["--residual", "darcy", "--estimate", "ddpm"], 3, "draws noise"),
        (["--residual", "darcy", "--residual-weight", "-1"], 3, "weight=-1"),
        (["--residual", "darcy", "--estimate-steps", "3"], 2, "one_call has none"),
        (["--residual", "darcy", "--spacing", "x=0.1"], 3, "'y' missing"),
        (["--estimate", "ddim"], 2, "--estimate is about --residual"),
        (["--residual", "darcy", "--export", "o"], 2, "--export does not train"),
        (["--residual", "darcy", "--model", "mnist"], 3, "Fields|images|npz"),
        (["--model", "darc"], 3, "did you mean 'darcy'"),
    ],
)
def test_refusals(data, tmp_path, capsys, flags, code, message):
    line = ["train", "--model", "darcy", "--data", data, "--folder", str(tmp_path), "--steps", "1"]
    assert main([*line, *flags]) == code
    said = capsys.readouterr().err
    assert message in said or any(part in said for part in message.split("|")), said
    assert not (tmp_path / "state.safetensors").exists()
