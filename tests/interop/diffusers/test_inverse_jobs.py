"""Jobs and ``fewstep invert`` with an inverse scheduler of diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError, ConfigError
from fewstep.cli import main
from fewstep.eval.solver.counting import Counting
from fewstep.interop.diffusers import invert
from fewstep.models import GaussianMixture
from fewstep.schedules import DiscreteVP

diffusers = pytest.importorskip("diffusers")

TABLE = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000).tolist())


def model() -> GaussianMixture:
    return GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.5, [0.5, 0.5], TABLE)


@pytest.fixture
def points(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A folder of six drawn points, and these."""
    given = {"steps": 4, "seeds": range(6), "batch": 6, "labels": "none"}
    fewstep.jobs.generate("mixture", tmp_path / "data", **given)
    (file,) = (tmp_path / "data" / "samples").glob("*.npz")
    return tmp_path / "data", torch.from_numpy(np.load(file)["x"])


@pytest.mark.parametrize("name", ["DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"])
def test_an_object_a_config_a_file_and_a_folder(points: Any, tmp_path: Path, name: str) -> None:
    folder, x0 = points
    own = {"clip_sample": False} if name == "DDIMInverseScheduler" else {}
    scheduler = getattr(diffusers, name)(**own)
    scheduler.save_pretrained(tmp_path / "scheduler")
    file = tmp_path / "scheduler" / "scheduler_config.json"
    config = {**scheduler.config, "_class_name": name}
    noise, info = invert(scheduler, model(), x0[:4], 8, info=True)
    found = []
    for i, given in enumerate((scheduler, config, file, str(tmp_path / "scheduler"))):
        out = tmp_path / str(i)
        made = fewstep.jobs.invert(model(), folder, out, batch=4, steps=8, scheduler=given)
        assert made.record["sampler"] == name and made.record["nfe"] == 8
        assert made.record["count"] == 6 and made.record["method"] == "reversed"
        found.append(made.arrays())
        assert np.array_equal(found[i]["noise"][:4], noise.numpy())
        assert np.array_equal(found[i]["reconstruction"][:4], info.reconstruction.numpy())
        settings = json.loads((out / "settings.json").read_text())
        assert settings["scheduler"]["_class_name"] == name and settings["steps"] == 8
        # the same settings go on in the folder; another config does not
        again = fewstep.jobs.invert(model(), folder, out, batch=4, steps=8, scheduler=config)
        assert again.record == made.record
        other = {**config, "timestep_spacing": "trailing"}
        with pytest.raises(ArgumentError, match=r"other settings \(scheduler\)"):
            fewstep.jobs.invert(model(), folder, out, batch=4, steps=8, scheduler=other)


INVERSE = {"_class_name": "DDIMInverseScheduler", "clip_sample": False}
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"scheduler": INVERSE}, ArgumentError, "needs steps="),
    ({"scheduler": INVERSE, "steps": 5, "sampler": "ddim"}, ArgumentError, "sampler='ddim' with"),
    ({"scheduler": INVERSE, "steps": 5, "prior": 0.1}, ArgumentError, "prior=0.1 with"),
    ({"scheduler": INVERSE, "steps": 5, "eta": 0.0}, ArgumentError, "option="),
    ({"scheduler": {**INVERSE, "clip_sample": True}, "steps": 5}, ConfigError, "clips its"),
    ({"scheduler": {"_class_name": "DDIMScheduler"}, "steps": 5}, ConfigError, "DDIMInverse"),
    ({"scheduler": {**INVERSE, "beta_end": 0.03}, "steps": 5}, ArgumentError, "has not the level"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG)
def test_refused_before_anything_is_written(
    points: Any, tmp_path: Path, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    den = Counting(model())
    with pytest.raises(error, match=message):
        fewstep.jobs.invert(den, points[0], tmp_path / "out", **given)
    assert den.calls == 0 and not (tmp_path / "out").exists()


def test_the_command(points: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "inverse.json"
    file.write_text(json.dumps(INVERSE))
    command = ["invert", str(points[0]), "--out", str(tmp_path / "out"), "--model", "mixture"]
    assert main([*command, "--scheduler", str(file), "--steps", "5"]) in (2, 3)
    assert "which has not the level of the DDIMInverseScheduler" in capsys.readouterr().err
    assert main([*command, "--scheduler", str(file)]) in (2, 3)
    assert "needs steps=" in capsys.readouterr().err
    assert main([*command, "--scheduler", str(tmp_path / "none.json"), "--steps", "5"]) in (2, 3)
    assert "none.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
