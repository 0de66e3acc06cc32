"""Training on physical fields: the data, the symmetries, the weights of channels, the exported
maps, and a run from the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.engine.sample_estimate import sample_estimate
from fewstep.eval.physics import channel_residual
from fewstep.models import FieldMap, FieldMaps, fields_of
from fewstep.models.unet import UNetConfig
from fewstep.train import __main__ as cli
from fewstep.train import evaluate as score
from fewstep.train.augmentation import square_symmetry
from fewstep.train.data import DataError
from fewstep.train.export import export, start_from
from fewstep.train.fields import Fields, load_fields
from fewstep.train.loop import STATE, Recipe, begin, resume, save, train, train_step
from fewstep.train.loss import edm_loss, precondition
from fewstep.train.recipes import RECIPES
from fewstep.train.residual_loss import ResidualLoss, step_variance

TINY = UNetConfig(8, 2, 0, widths=(16, 32), blocks=(1, 1), embedding=16, head=16)
MAPS = FieldMaps((FieldMap("a", 0.2, -1.5), FieldMap("u", 115.0, -0.9)))
RECIPE = Recipe(TINY, batch=8, warmup=5, square=True, weights=(1.0, 3.0), fields=MAPS)


def arrays(n=12):
    rng = np.random.default_rng(0)
    a = np.where(rng.random((n, 8, 8)) < 0.5, 3.0, 12.0).astype(np.float32)
    return {"a": a, "u": a / 1000, "provenance": np.array("by hand")}


def test_fields_become_channels_of_unit_range(tmp_path):
    np.savez(tmp_path / "d.npz", **arrays())
    data = load_fields(tmp_path / "d.npz", MAPS)
    assert data.image.shape == (12, 2, 8, 8) and data.image.dtype == torch.float32
    assert data.provenance == "by hand" and data.classes == 0 and len(data) == 12
    physical = MAPS.physical(data.image)
    torch.testing.assert_close(physical["u"], torch.from_numpy(arrays()["u"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": None}, r"\['u'\] must be there too"),
        ({"u": np.ones((3, 8, 8))}, "different shapes"),
        ({"u": np.ones((12, 8, 7))}, r"\(n, h, h\)"),
        ({"u": np.ones((12, 8, 8), np.uint8)}, "uint8"),
        ({"a": np.full((12, 8, 8), np.nan)}, "NaN"),
    ],
)
def test_bad_fields_are_refused(tmp_path, change, message):
    found = {key: value for key, value in (arrays() | change).items() if value is not None}
    np.savez(tmp_path / "d.npz", **found)
    with pytest.raises(DataError, match=message):
        load_fields(tmp_path / "d.npz", MAPS)
    with pytest.raises(DataError, match="no training data"):
        load_fields(tmp_path / "none.npz", MAPS)


def test_the_eight_symmetries_are_equally_likely():
    x = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(4000, 2, 1, 1)
    out = square_symmetry(x, torch.Generator().manual_seed(0))
    assert torch.equal(out[:, 0], out[:, 1])
    found, counts = out[:, 0].flatten(1).unique(dim=0, return_counts=True)
    wanted = [f for r in range(4) for f in (x[0, 0].rot90(r), x[0, 0].rot90(r).flip(-1))]
    assert torch.equal(found, torch.stack(wanted).flatten(1).unique(dim=0))
    assert ((counts - 500).abs() < 5 * 21).all()


def test_weights_of_channels_average_their_losses():
    x0 = torch.stack([torch.ones(1, 4, 4), 2 * torch.ones(1, 4, 4)], dim=1)
    zero = lambda x, c, y: torch.zeros_like(x)  # noqa: E731
    args = (x0, torch.tensor([1.0]), torch.zeros_like(x0), None, 0.5)
    first, second = (float(edm_loss(zero, *args, weights=w)) for w in ((1, 0), (0, 1)))
    assert second == pytest.approx(4 * first)
    assert float(edm_loss(zero, *args, weights=(1, 3))) == pytest.approx((first + 3 * second) / 4)
    assert float(edm_loss(zero, *args)) == pytest.approx((first + second) / 2)


def test_floats_are_trained_as_they_are():
    state, x0 = begin(RECIPE, 0), torch.full((8, 2, 8, 8), 3.0)
    loss = train_step(state, RECIPE, x0, torch.zeros(8).long(), torch.Generator().manual_seed(0))
    uint8 = train_step(
        begin(RECIPE, 0),
        RECIPE,
        torch.full((8, 2, 8, 8), 255, dtype=torch.uint8),
        torch.zeros(8).long(),
        torch.Generator().manual_seed(0),
    )
    assert float(loss) > 2 * float(uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": (1.0,)}, "one for each of the 2 channels"),
        ({"weights": (1.0, -1.0)}, "must be >= 0"),
        ({"fields": FieldMaps((FieldMap("a"),))}, "one for each of the 2 channels"),
    ],
)
def test_recipes_must_fit_their_network(change, message):
    with pytest.raises(ArgumentError, match=message):
        replace(RECIPE, **change)


def test_provenance_goes_through_checkpoint_and_export(tmp_path):
    state = begin(RECIPE, 0)
    state.provenance = "by hand"
    save(state, tmp_path)
    found = begin(RECIPE, 1)
    resume(found, tmp_path)
    export(found, RECIPE, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["data"] == "by hand" and fields_of(tmp_path / "model") == MAPS
    assert config["training"]["recipe"]["square"] is True
    again = begin(RECIPE, 2)
    start_from(again, tmp_path / "model")
    assert again.provenance == "by hand"


def test_from_an_npz_to_a_model_with_its_number(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "darcy", RECIPE)
    np.savez(tmp_path / "d.npz", **arrays())
    folder, out = tmp_path / "run", tmp_path / "model"
    argv = ["--model", "darcy", "--folder", str(folder)]
    data = ["--data", str(tmp_path / "d.npz")]
    assert cli.main([*argv, *data, "--steps", "3"]) == 0
    assert (folder / STATE).exists()
    assert cli.main([*argv, "--export", str(out), "--test", str(tmp_path / "d.npz")]) == 0
    capsys.readouterr()
    assert score.main(["--model", str(out), *data, "--check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 12 and found["loss"] == pytest.approx(found["documented"], abs=1e-4)
    assert cli.main([*argv, *data, "--size", "8"]) == 3
    assert "fields are not resized" in capsys.readouterr().err


def test_the_levels_of_the_test_loss_are_those_of_the_training():
    recipe = {"p_mean": -0.7, "p_std": 1.5}
    assert score.trained_levels({"training": {"recipe": recipe}}) == (-0.7, 1.5)
    assert score.trained_levels({}) == (score.P_MEAN, score.P_STD)


def test_the_residual_loss_is_added_and_recorded(tmp_path):
    """On a = 1 the equation -div(a grad u) = 1 is linear in u, and the term is that of its square
    at the denoiser's answer."""
    spacing = {"x": 1 / 7, "y": 1 / 7}
    residual = channel_residual("darcy", MAPS, spacing, {})
    state = begin(RECIPE, 0)
    x0, noise = torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 0.5, 2.0])
    args = (state.network, x0, sigma, noise, None, 0.5)
    term = ResidualLoss(residual, 1e-3, name="darcy, weight 0.001")
    found = edm_loss(*args, residual=term) - edm_loss(*args)
    c = precondition(sigma, 0.5)
    y = x0 + sigma[:, None, None, None] * noise
    answer = c.c_skip * y + c.c_out * state.network(c.c_in * y, c.c_noise, None)
    wanted = 1e-3 * residual(answer).square().mean((1, 2)) / (2 * step_variance(sigma).double())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    sample = ResidualLoss(residual, 1e-3, sample_estimate("ddim", 2))
    before = [p.clone() for p in state.network.parameters()]
    recipe = replace(RECIPE, residual=sample, batch=4)
    data = Fields(torch.randn(8, 2, 8, 8), torch.zeros(8, dtype=torch.long))
    train(state, replace(recipe, residual=term), data, 60.0, tmp_path, steps=1)
    train(state, recipe, data, 60.0, tmp_path, steps=1)
    assert any((p != q).any() for p, q in zip(before, state.network.parameters(), strict=True))
    export(state, RECIPE, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["training"]["residual_loss"] == "residual loss"
    again = begin(RECIPE, 0)
    resume(again, tmp_path)
    assert again.residual == "residual loss"
