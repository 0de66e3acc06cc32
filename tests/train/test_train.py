"""The training room: data forms, the EDM loss against its definition, the loop, checkpoints, export
and the documented number."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from fewstep.models.unet import Block, UNet, UNetConfig
from fewstep.models.weights import load_network
from fewstep.train import __main__ as cli
from fewstep.train import curve
from fewstep.train import evaluate as score
from fewstep.train.data import DataError, Images, load_images, to_unit
from fewstep.train.export import export, merge_log, start_from
from fewstep.train.loop import (
    STATE,
    Recipe,
    State,
    average,
    begin,
    network_of,
    rate,
    resume,
    save,
    train,
    train_step,
)
from fewstep.train.loss import draw_sigma, edm_loss, precondition
from fewstep.train.loss_log import write_row
from fewstep.train.recipes import RECIPES

TINY = UNetConfig(8, 1, 3, widths=(16, 32), blocks=(1, 1), embedding=16, head=16)
RECIPE = Recipe(TINY, lr=3e-3, batch=16, warmup=5, labels=("a", "b", "c"))


def toy(n: int = 48) -> Images:
    """Three kinds of 8 x 8 pictures: left half, top half, all white."""
    image = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    label = torch.arange(n) % 3
    image[label == 0, :, :, :4] = 255
    image[label == 1, :, :4] = 255
    image[label == 2] = 255
    return Images(image, label, 3)


def save_npz(path: Path, n: int = 48) -> Path:
    """The toy set as an npz file."""
    data = toy(n)
    np.savez(path, image=data.image[:, 0].numpy(), label=data.label.numpy().astype(np.uint8))
    return path


# --- data


def test_npz_of_images(tmp_path: Path) -> None:
    """Grey and colour arrays become (n, c, h, w)."""
    data = load_images(save_npz(tmp_path / "a.npz"))
    assert (
        torch.equal(data.image, toy().image)
        and torch.equal(data.label, toy().label)
        and data.classes == 3
    )
    colour = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "b.npz", image=colour)
    data = load_images(tmp_path / "b.npz")
    assert data.image.shape == (5, 3, 4, 4) and data.classes == 0
    assert np.array_equal(data.image[2].permute(1, 2, 0).numpy(), colour[2])


def test_npz_of_jpeg_bytes(tmp_path: Path) -> None:
    """One stream of files with offsets decodes to what PIL makes of each file."""
    files = []
    for shade in (10, 128, 250):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (shade, 0, 255 - shade)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    offset = np.cumsum([0] + [len(file) for file in files]).astype(np.uint32)
    stream = np.frombuffer(b"".join(files), dtype=np.uint8)
    np.savez(
        tmp_path / "j.npz",
        jpeg=stream,
        offset=offset,
        label=np.array([2, 0, 1], np.uint8),
        classes=np.array(["x", "y", "z"]),
    )
    data = load_images(tmp_path / "j.npz")
    want = np.asarray(Image.open(io.BytesIO(files[1])).convert("RGB"))
    assert np.array_equal(data.image[1].permute(1, 2, 0).numpy(), want) and data.label.tolist() == [
        2,
        0,
        1,
    ]


def test_folder_of_classes(tmp_path: Path) -> None:
    """Sub-folders are classes in order of name; a size crops the centre and resizes."""
    for name, shade in (("cat", 30), ("ape", 200)):
        (tmp_path / name).mkdir()
        Image.new("L", (10, 8), shade).save(tmp_path / name / "1.png")
    data = load_images(tmp_path, size=4)
    assert data.image.shape == (2, 1, 4, 4) and data.label.tolist() == [0, 1] and data.classes == 2
    assert bool((data.image[0] == 200).all())


def test_bad_data_is_refused(tmp_path: Path) -> None:
    """Pickles, wrong keys, wrong shapes, mixed folders, missing files: each with its own
    message."""
    np.savez(tmp_path / "pickle.npz", image=np.array([{}], dtype=object))
    np.savez(tmp_path / "keys.npz", pixels=np.zeros(3))
    np.savez(tmp_path / "shape.npz", image=np.zeros((2, 4, 5), np.uint8))
    np.savez(tmp_path / "labels.npz", image=np.zeros((2, 4, 4), np.uint8), label=np.zeros(3))
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "zip.npz").write_bytes(save_npz(tmp_path / "whole.npz").read_bytes()[:300])
    np.savez(tmp_path / "stream.npz", jpeg=np.arange(9, dtype=np.uint8), offset=np.array([0, 9]))
    for name, match in (
        ("pickle", "plain arrays"),
        ("keys", "pixels"),
        ("shape", r"\(2, 4, 5\)"),
        ("labels", "labels"),
        ("stream", "decoded"),
    ):
        with pytest.raises(DataError, match=match):
            load_images(tmp_path / f"{name}.npz")
    for name in ("text", "zip"):
        with pytest.raises(DataError, match="not an npz file"):
            load_images(tmp_path / f"{name}.npz")
    with pytest.raises(DataError, match="no training data"):
        load_images(tmp_path / "none.npz")
    folder = tmp_path / "mixed"
    (folder / "a").mkdir(parents=True)
    for file in (folder / "1.png", folder / "a" / "2.png"):
        Image.new("L", (4, 4)).save(file)
    with pytest.raises(DataError, match="holds both images and class folders"):
        load_images(folder)


def test_pixels_map_to_the_unit_range() -> None:
    """0 -> -1 and 255 -> 1."""
    assert to_unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


# --- loss


def test_loss_is_the_weighted_denoising_error() -> None:
    """The regression on F equals lambda |D - x0|^2 with D = c_skip y + c_out F, for a network that
    answers something."""
    g = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(6, 1, 8, 8, generator=g), torch.randn(6, 1, 8, 8, generator=g)
    sigma, d = torch.tensor([0.002, 0.1, 0.5, 1.0, 9.0, 80.0]), 0.7

    def network(x: Tensor, c_noise: Tensor, label: Tensor | None) -> Tensor:
        return torch.sin(3.0 * x) + c_noise.reshape(-1, 1, 1, 1)

    s = sigma.double().reshape(-1, 1, 1, 1)
    y = x0.double() + s * noise
    f = torch.sin(3.0 * y / (s**2 + d**2).sqrt()) + s.log() / 4
    denoised = d**2 / (s**2 + d**2) * y + s * d / (s**2 + d**2).sqrt() * f
    weight = (s**2 + d**2) / (s * d) ** 2
    want = (weight * (denoised - x0) ** 2).mean(dim=(1, 2, 3))
    got = edm_loss(network, x0, sigma, noise, None, d).double()
    assert torch.allclose(got[1:], want[1:], rtol=1e-4), (got, want)
    # float32 cancellation of x0 - c_skip y at the smallest noise
    assert torch.allclose(got[:1], want[:1], rtol=2e-2)


def test_zero_network_scores_one() -> None:
    """On data of deviation sigma_data the target has variance one at every noise level."""
    g = torch.Generator().manual_seed(0)
    x0 = 0.5 * torch.randn(4000, 1, 4, 4, generator=g)
    for level in (0.05, 0.5, 5.0):
        noise = torch.randn(x0.shape, generator=g)
        loss = edm_loss(
            lambda x, c, y: torch.zeros_like(x), x0, torch.full((4000,), level), noise, None, 0.5
        )
        assert abs(float(loss.mean()) - 1.0) < 0.02


def test_preconditioning_limits() -> None:
    """Little noise: D is its input; much noise: the input has unit variance."""
    c = precondition(torch.tensor([1e-4, 1e4]), 0.5)
    assert float(c.c_skip[0]) == pytest.approx(1.0, abs=1e-6) and float(
        c.c_out[0]
    ) == pytest.approx(1e-4, rel=1e-5)
    assert float(c.c_in[1]) == pytest.approx(1e-4, rel=1e-5) and float(
        c.c_noise[1]
    ) == pytest.approx(math.log(1e4) / 4)


def test_noise_levels_are_stratified_lognormal() -> None:
    """One level from each slice of the distribution, in shuffled order."""
    sigma = draw_sigma(64, -1.2, 1.2, torch.Generator().manual_seed(3))
    slices = (torch.special.ndtr((sigma.double().log() + 1.2) / 1.2) * 64).floor().long()
    assert sorted(slices.tolist()) == list(range(64)) and slices.tolist() != sorted(slices.tolist())


# --- loop


def trained(tmp_path: Path, steps: int) -> State:
    """A short run on the toy set."""
    return train(begin(RECIPE, 0), RECIPE, toy(), 3600.0, tmp_path, steps=steps)


def test_training_learns_and_logs(tmp_path: Path) -> None:
    """Eighty steps bring the loss on the toy set to less than half; the log has its header and a
    last row for the last step."""
    before = score.evaluate(begin(RECIPE, 0).ema, toy(), images=48)
    state = trained(tmp_path, 80)
    after = score.evaluate(state.ema, toy(), images=48)
    assert before.loss == pytest.approx(before.zero, rel=1e-6)  # a fresh network answers 0
    assert after.loss < 0.5 * before.loss
    rows = (tmp_path / "loss.csv").read_text().splitlines()
    assert rows[0] == "step,images,seconds,lr,loss" and rows[-1].startswith("80,1280,")
    assert any(
        not torch.equal(a, b)
        for a, b in zip(state.ema.parameters(), state.network.parameters(), strict=True)
    )


def test_resume_restores_everything(tmp_path: Path) -> None:
    """The next step after a resume is bit for bit the step the interrupted run would have made."""
    state = trained(tmp_path, 3)
    again = begin(RECIPE, 7)
    resume(again, tmp_path)
    assert (again.step, again.images) == (3, 48) and network_of(tmp_path) == TINY
    for run in (state, again):
        run.optimizer.param_groups[0]["lr"] = 1e-3
        train_step(run, RECIPE, toy(16).image, toy(16).label, torch.Generator().manual_seed(5))
    for part in ("network", "ema"):
        for a, b in zip(
            getattr(state, part).parameters(), getattr(again, part).parameters(), strict=True
        ):
            assert torch.equal(a, b)
    with pytest.raises(ValueError, match="another network"):
        resume(begin(replace(RECIPE, network=replace(TINY, classes=2)), 0), tmp_path)


def test_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    """Half a file, another form of its JSON, missing tensors: one kind of error, and nothing of the
    state is a surprise."""
    state, path = begin(RECIPE, 0), tmp_path / STATE
    save(state, tmp_path)
    whole = path.read_bytes()
    tensors = load(whole)
    with safe_open(path, "pt") as archive:
        meta = archive.metadata()
    resume(state, tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be used"):
        resume(state, tmp_path)
    for wrong in (
        {},
        meta | {"network": "[]"},
        meta | {"network": "[" * 100_000},
        meta | {"counters": "3"},
        meta | {"counters": "{}"},
    ):
        save_file(tensors, path, wrong or None)
        with pytest.raises(ValueError, match="cannot be used"):
            resume(state, tmp_path)
    save_file(
        {key: value for key, value in tensors.items() if not key.startswith("ema.")}, path, meta
    )
    with pytest.raises(ValueError, match="cannot be used: Error"):
        resume(state, tmp_path)
    with pytest.raises(ValueError, match="no checkpoint"):
        network_of(tmp_path / "nowhere")


def test_fresh_weights_depend_on_the_seed_only() -> None:
    """Same seed, same weights; the global generator is left alone."""
    torch.manual_seed(11)
    want = torch.rand(1)
    torch.manual_seed(11)
    a, b, c = (begin(RECIPE, seed).network.enter.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), want) and torch.equal(a, b) and not torch.equal(a, c)


def test_dropped_labels_teach_the_null_row_only() -> None:
    """With every label dropped no class row gets a gradient, with none dropped the null row gets
    none."""
    for share, silent in ((1.0, slice(0, 3)), (0.0, slice(3, 4))):
        state = begin(RECIPE, 0)
        torch.nn.init.normal_(state.network.leave.weight)
        for module in state.network.modules():
            if isinstance(module, Block):
                torch.nn.init.normal_(module.conv2.weight)
        recipe = replace(RECIPE, dropout_label=share)
        train_step(state, recipe, toy(16).image, toy(16).label, torch.Generator().manual_seed(0))
        grad = state.network.embed.label.weight.grad  # type: ignore[union-attr]
        assert grad is not None and bool((grad[silent] == 0).all()) and float(grad.abs().sum()) > 0


def test_learning_rate_follows_the_run() -> None:
    """Warm-up from lr / warmup, a plateau, zero at the end."""
    assert rate(RECIPE, 0, 0.0) == pytest.approx(RECIPE.lr / 5)
    assert rate(RECIPE, 50, 0.2) == pytest.approx(RECIPE.lr)
    assert rate(RECIPE, 50, 0.65) == pytest.approx(RECIPE.lr / 2)
    assert rate(RECIPE, 50, 1.0) == pytest.approx(0.0, abs=1e-12) == rate(RECIPE, 50, 1.5)


def test_average_has_the_power_profile() -> None:
    """After n steps weight k counts as k^gamma-ish: the mean step of a ramp is (gamma+1)/(gamma+2)
    of n."""
    state = begin(RECIPE, 0)
    (first, *_), (ema, *_) = state.network.parameters(), state.ema.parameters()
    with torch.no_grad():
        for step in range(1, 2001):
            state.step = step
            first.fill_(float(step))
            average(state, 4.0)
    assert float(ema.flatten()[0]) / 2000 == pytest.approx(5 / 6, rel=2e-3)


# --- export and the documented number


def test_export_round_trip(tmp_path: Path) -> None:
    """The folder holds the averaged weights to float16, loads without the recipe, and starts a new
    run."""
    state = trained(tmp_path / "run", 4)
    export(state, RECIPE, tmp_path / "out")
    loaded = load_network(tmp_path / "out")
    assert (
        loaded.network.config == TINY
        and loaded.config["labels"] == ["a", "b", "c"]
        and loaded.sigma_data == 0.5
    )
    for key, value in state.ema.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value.half().float())
    again = begin(RECIPE, 9)
    start_from(again, tmp_path / "out")
    assert (again.step, again.images) == (4, 64)
    assert torch.equal(again.network.enter.weight, loaded.network.enter.weight)
    with pytest.raises(ValueError, match="another network"):
        start_from(begin(RECIPES["mnist"], 0), tmp_path / "out")


def test_merged_logs_keep_the_old_rows(tmp_path: Path) -> None:
    """Rows before the new log's first step stay, later ones are replaced."""
    new, old = tmp_path / "new.csv", tmp_path / "docs" / "old.csv"
    new.write_text("step,loss\n1,0.9\n5,0.5\n")
    merge_log(new, old)
    assert old.read_text() == "step,loss\n1,0.9\n5,0.5\n"
    new.write_text("step,loss\n4,0.4\n9,0.2\n")
    merge_log(new, old)
    assert old.read_text() == "step,loss\n1,0.9\n4,0.4\n9,0.2\n"


def test_command_line_from_data_to_checked_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train, resume, export with a recorded number, check it; other weights fail the check; bad
    input exits with 3."""
    monkeypatch.setitem(RECIPES, "mnist", RECIPE)
    data, run, out = str(save_npz(tmp_path / "d.npz")), str(tmp_path / "run"), str(tmp_path / "out")
    go = ["--model", "mnist", "--data", data, "--folder", run, "--steps", "2"]
    assert cli.main(go) == 0 and cli.main([*go, "--resume"]) == 0
    assert (
        cli.main(
            [
                "--model",
                "mnist",
                "--folder",
                run,
                "--export",
                out,
                "--test",
                data,
                "--log",
                str(tmp_path / "log.csv"),
            ]
        )
        == 0
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["training"]["step"] == 4 and config["evaluation"]["images"] == 48
    assert (tmp_path / "log.csv").read_text().count("\n") == 3
    check = ["--model", out, "--data", data, "--check", "--json"]
    capsys.readouterr()
    assert score.main(check) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (
        printed["loss"] == pytest.approx(printed["documented"], abs=1e-4)
        and printed["zero"] > printed["loss"]
    )
    config["evaluation"]["loss"] += 0.01
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    assert score.main(check) == 5
    assert score.main(["--model", out, "--data", str(tmp_path / "none.npz")]) == 3
    assert cli.main(["--model", "mnist", "--data", str(tmp_path / "none.npz")]) == 3


def test_score_does_not_depend_on_the_batch() -> None:
    """The same images, levels and noise whatever the batch: equal up to rounding."""
    network = UNet(TINY).eval()
    torch.nn.init.normal_(network.leave.weight)
    a, b = (score.evaluate(network, toy(), images=48, batch=batch) for batch in (48, 16))
    assert a.loss == pytest.approx(b.loss, rel=1e-5) and a.zero == pytest.approx(b.zero, rel=1e-5)
    assert score.evaluate(network, toy(), images=48, seed=1).loss != pytest.approx(a.loss, rel=1e-3)


def test_curve_is_drawn_where_the_log_says(tmp_path: Path) -> None:
    """A falling log makes a line from upper left to lower right; one row is refused."""
    log = tmp_path / "x.csv"
    log.write_text(
        "step,images,seconds,lr,loss\n1,1000,1,0.1,1.0\n2,4000,2,0.1,0.5\n3,64000,3,0.1,0.125\n"
    )
    assert curve.main([str(log), str(tmp_path / "x.png")]) == 0
    pixels = np.asarray(Image.open(tmp_path / "x.png").convert("RGB")).astype(int)
    rows, columns = np.nonzero((np.abs(pixels - np.array(curve.LINE)).sum(-1)) < 30)
    assert (
        abs(columns.min() - curve.LEFT) < 4 and abs(columns.max() - (curve.WIDTH - curve.RIGHT)) < 4
    )
    left, right = rows[columns < columns.min() + 9].mean(), rows[columns > columns.max() - 9].mean()
    assert left < curve.TOP + 30 and right > curve.HEIGHT - curve.BOTTOM - 30
    with pytest.raises(ValueError, match="at least two rows; it has 1"):
        curve.draw([1.0], [1.0], "x")


def test_half_a_row_of_the_loss_log(tmp_path):
    """What a full disk or a kill left of a last row is not read, and is cut off before the next
    one."""
    log, target = tmp_path / "loss.csv", tmp_path / "merged.csv"
    write_row(log, (1, 10, 0.5, 1e-3, 2.0))
    write_row(log, (2, 20, 1.0, 1e-3, 1.5))
    whole = log.read_text()
    for half in ("3,30", "3,30,1.5,0.001,1."):
        log.write_text(whole + half)
        assert curve.read_log(log) == ([10.0, 20.0], [2.0, 1.5])
        merge_log(log, target)
        assert target.read_text() == whole
        write_row(log, (3, 30, 1.5, 1e-3, 1.25))
        assert log.read_text() == whole + "3,30,1.5,0.001,1.25\n"
    log.write_text("step,ima")
    write_row(log, (1, 10, 0.5, 1e-3, 2.0))
    write_row(log, (2, 20, 1.0, 1e-3, 1.5))
    assert log.read_text() == whole


def test_an_interrupt_during_the_imports(tmp_path):
    """Ctrl-C while the command's modules are loaded ends it with 130 and no traceback."""
    code = (
        "import builtins, runpy\nown = builtins.__import__\n"
        "def imports(name, *rest, **more):\n"
        "    if name == 'torch':\n        raise KeyboardInterrupt\n"
        "    return own(name, *rest, **more)\n"
        "builtins.__import__ = imports\nrunpy.run_module('fewstep.train', run_name='__main__')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (ended.returncode, ended.stderr) == (130, "")
