"""Posterior samples in folders: the library's samples, exact scores, runs that go on, and what is
refused before the network is called."""

from __future__ import annotations

import io
import json
import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folder_hashes import tree
from PIL import Image
from safetensors.torch import load_file, save_file

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError, FewstepError
from fewstep.eval.metrics.image_pairs import psnr, ssim
from fewstep.eval.metrics.perceptual import load_lpips
from fewstep.jobs import solve
from fewstep.jobs.measurements import read_measurement, read_truth

RING = fewstep.models.load("mixture")
ROW = G.operators.Matrix(torch.tensor([[1.0, 0.5]]))
Y = torch.tensor([[0.8], [-0.3], [0.1], [1.0], [-0.9]])
QUICK: dict[str, Any] = {"operator": ROW, "sigma_y": 0.1, "steps": 4, "batch": 2}


def values(made: fewstep.jobs.SolutionResult) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.load(file)["x"] for file in made.files]))


class Silent(type(RING)):
    """A model that must not be called."""

    def raws(self, *given: Any, **more: Any) -> Any:
        raise AssertionError("the network was called")


SILENT = Silent(RING.means, RING.stds, RING.weights, RING.schedule, RING.prediction)


def test_the_samples_are_those_of_the_library(tmp_path):
    given = {**QUICK, "method_option": {"iterations": 2}, "sampler": "heun"}
    made = solve(RING, tmp_path / "a", measurement=Y, labels=None, **given)
    assert [row["seed"] for row in made.manifest["samples"]] == [0, 1, 2, 3, 4]
    for rows in ([0, 1], [2, 3], [4]):
        law = G.Gaussian(ROW, Y[rows], 0.1)
        want, info = G.solve(
            RING, law, "mmps", iterations=2, sampler="heun", steps=4, seeds=rows, info=True
        )
        assert torch.equal(values(made)[rows], want)
        calls = made.manifest["samples"][rows[0]]["calls"]
        assert calls == {
            "network": info.counts.network,
            "vjp": info.counts.vjp,
            "operator": info.counts.operator,
            "adjoint": info.counts.adjoint,
        }
        assert info.counts == info.predicted
        found = [made.manifest["samples"][k]["misfit"] for k in rows]
        assert found == info.misfit.tolist()
    assert made.manifest["calls"] == calls
    assert not made.comparison.exists() and made.picture.exists()


@pytest.mark.parametrize("sigma_y", [0.1, 0.0])
@pytest.mark.parametrize("method", G.methods())
def test_every_method_draws_what_the_library_draws_or_is_refused(method, sigma_y, tmp_path):
    given = {**QUICK, "steps": 3, "sigma_y": sigma_y, "method": method}
    law = G.Gaussian(ROW, Y[:2], 0.1) if sigma_y else G.Constraint(ROW, Y[:2])
    try:
        want, info = G.solve(RING, law, method, steps=3, seeds=[0, 1], info=True)
    except FewstepError as refusal:
        said = re.escape(str(refusal))
        with pytest.raises(type(refusal), match=f"^{said}$"):
            solve(SILENT, tmp_path / "a", measurement=Y[:2], **given)
        assert not (tmp_path / "a").exists()
        return
    made = solve(RING, tmp_path / "a", measurement=Y[:2], **given)
    assert torch.equal(values(made), want)
    assert made.manifest["calls"]["network"] == info.counts.network
    assert made.manifest["sampler"] == info.sampler


def test_one_measurement_of_a_gaussian_gives_its_exact_posterior(tmp_path):
    """N(0, I), y = x + n: the posterior is N(y / (1 + s^2), s^2 / (1 + s^2))."""
    s, y, n = 0.5, torch.tensor([0.7, -1.2]), 400
    den = fewstep.models.GaussianMixture(
        torch.zeros(1, 2), 1.0, [1.0], fewstep.schedules.EDM(0.002, 80.0), "x0"
    )
    eye = G.operators.Matrix(torch.eye(2))
    made = solve(
        den,
        tmp_path / "a",
        operator=eye,
        measurement=y,
        sigma_y=s,
        seeds=range(n),
        batch=200,
        sampler="heun",
        steps=20,
    )
    x, width = values(made).double(), s / math.sqrt(1 + s * s)
    assert torch.allclose(x.mean(0), (y / (1 + s * s)).double(), atol=4 * width / math.sqrt(n))
    assert torch.allclose(x.std(0), torch.full((2,), width).double(), rtol=4 / math.sqrt(2 * n))
    residual = [row["residual"] for row in made.manifest["samples"]]
    want = (y - x).norm(dim=1) / (s * math.sqrt(2))
    assert residual == pytest.approx(want.tolist(), rel=1e-5)
    assert made.manifest["scores"]["residual"] == pytest.approx(np.mean(residual))


def test_measurements_of_the_truth_have_noise_of_their_own_seeds(tmp_path):
    truth = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    made = solve(RING, tmp_path / "a", truth=truth, noise_seed=7, **QUICK)
    kept = load_file(tmp_path / "a" / "measurement.safetensors")
    want = [ROW.simulate(truth[k : k + 1], 0.1, 7 + k) for k in range(3)]
    assert torch.equal(kept["y"], torch.cat(want)) and torch.equal(kept["truth"], truth)
    rmse = [row["rmse"] for row in made.manifest["samples"]]
    assert rmse == pytest.approx((values(made) - truth).square().mean(1).sqrt().tolist(), rel=1e-6)
    assert made.manifest["scores"]["rmse"] == pytest.approx(np.mean(rmse))
    again = solve(
        RING, tmp_path / "b", measurement=tmp_path / "a" / "measurement.safetensors", **QUICK
    )
    assert torch.equal(values(again), values(made)), "the measurement alone draws the same"
    one = solve(RING, tmp_path / "c", truth=truth[:1], noise_seed=7, seeds="0-4", **QUICK)
    assert one.manifest["count"] == 5
    assert torch.allclose(values(one)[0], values(made)[0], atol=1e-4)


def test_pictures_of_a_trained_model_and_their_scores(tmp_path):
    fewstep.jobs.generate("mnist", tmp_path / "digits", seeds=range(3), steps=3)
    given = {"task": "inpaint-box", "task_option": {"box": 10}, "method": "pigdm", "steps": 3}
    made = solve("mnist", tmp_path / "a", truth=tmp_path / "digits", **given)
    truth = read_truth(tmp_path / "digits", (1, 28, 28))
    operator = G.operators.Inpaint.box((28, 28), 10)
    y = torch.cat([operator.simulate(truth[k : k + 1], 0.1, k) for k in range(3)])
    den = fewstep.models.load("mnist")
    x = G.solve(den, G.Gaussian(operator, y, 0.1), "pigdm", steps=3, seeds=range(3))
    rows = made.manifest["samples"]
    cut = x.clamp(-1, 1).double(), truth.double()
    for name, score in (("psnr", psnr), ("ssim", ssim)):
        want = score(*cut, data_range=2.0).tolist()
        assert [row[name] for row in rows] == pytest.approx(want, rel=1e-6)
    seen = 28 * 28 - 100
    misfit = ((y - operator(x)).flatten(1).norm(dim=1) / (0.1 * math.sqrt(seen))).tolist()
    assert [row["residual"] for row in rows] == pytest.approx(misfit, rel=1e-5)
    with Image.open(made.comparison) as picture:
        pixels = np.asarray(picture)
    factor = pixels.shape[0] // (2 * 29 - 1)
    small = pixels[::factor, ::factor]
    shown = ((y[0, 0].clamp(-1, 1) + 1) * 127.5).round().numpy()
    true = ((truth[0, 0] + 1) * 127.5).round().numpy()
    assert np.abs(small[:28, :28] - shown).max() <= 1, "the measurement is on the left"
    assert np.abs(small[:28, 58:86] - true).max() <= 1, "the truth is on the right"
    with Image.open(made.files[0]) as sample:
        assert np.array_equal(small[:28, 29:57], np.asarray(sample))


@pytest.mark.skipif(find_spec("torchmetrics") is None, reason="its heads are in torchmetrics")
def test_lpips_with_weights_of_the_user(tmp_path):
    generator, state, inputs = torch.Generator().manual_seed(0), {}, 3
    for at, (width, side) in zip(
        (0, 3, 6, 8, 10), ((64, 11), (192, 5), (384, 3), (256, 3), (256, 3)), strict=True
    ):
        drawn = torch.randn(width, inputs, side, side, generator=generator)
        state[f"features.{at}.weight"] = drawn / math.sqrt(inputs * side * side)
        state[f"features.{at}.bias"] = torch.zeros(width)
        inputs = width
    torch.save(state, tmp_path / "alex.pth")
    den = fewstep.models.GaussianMixture(
        torch.zeros(1, 3, 32, 32), 0.4, [1.0], fewstep.schedules.EDM(0.002, 80.0), "x0"
    )
    truth = torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    given = {"task": "inpaint-half", "method": "dps", "steps": 2, "truth": truth}
    plain = solve(den, tmp_path / "plain", **given)
    made = solve(den, tmp_path / "a", lpips=str(tmp_path / "alex.pth"), format="npz", **given)
    distance = load_lpips(tmp_path / "alex.pth")
    law = G.Gaussian(
        G.operators.Inpaint.half((32, 32)),
        load_file(tmp_path / "a" / "measurement.safetensors")["y"],
        0.1,
    )
    x = G.solve(den, law, "dps", steps=2, seeds=[0])
    want = distance(x.clamp(-1, 1), truth).tolist()
    assert [row["lpips"] for row in made.manifest["samples"]] == pytest.approx(want, rel=1e-4)
    assert "lpips" not in plain.manifest["scores"] and made.manifest["scores"]["lpips"] > 0
    assert made.manifest["lpips_sha256"] == distance.digest
    with pytest.raises(ArgumentError, match="at least 31"):
        solve(
            SILENT,
            tmp_path / "b",
            lpips=str(tmp_path / "alex.pth"),
            truth=Y.new_zeros(1, 2),
            **QUICK,
        )


@pytest.mark.parametrize(
    ("task", "option", "columns"),
    [
        ("super-resolution", {}, 3),
        ("phase-retrieval", {}, 2),
        ("ct", {"angles": 4}, 3),
        ("hdr", {}, 3),
    ],
)
def test_the_picture_shows_what_there_is(task, option, columns, tmp_path):
    truth = torch.zeros(1, 1, 28, 28)
    given = {"task": task, "task_option": option, "method": "dps", "nfe": 1}
    made = solve("mnist", tmp_path / "a", truth=truth, **given)
    with Image.open(made.comparison) as picture:
        assert picture.width * 28 == picture.height * (columns * 29 - 1)


def test_a_run_that_was_cut_goes_on_to_the_same_bytes(tmp_path):
    class Cut(type(RING)):
        calls = 0

        def raws(self, *given: Any, **more: Any) -> Any:
            Cut.calls += 1
            if Cut.calls > 6:  # in the second block
                raise KeyboardInterrupt
            return super().raws(*given, **more)

    cut = Cut(RING.means, RING.stds, RING.weights, RING.schedule, RING.prediction)
    given = {**QUICK, "measurement": Y, "sampler": "ddim", "option": {"eta": 1.0}}
    with pytest.raises(KeyboardInterrupt):
        solve(cut, tmp_path / "cut", **given)
    assert sorted(path.name for path in (tmp_path / "cut" / "blocks").iterdir()) == ["00000.json"]
    assert not (tmp_path / "cut" / "manifest.json").exists()
    Cut.calls = -100
    first = (tmp_path / "cut" / "samples" / "block-00000.npz").stat().st_mtime_ns
    solve(cut, tmp_path / "cut", **given)
    solve(cut, tmp_path / "whole", **given)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert (tmp_path / "cut" / "samples" / "block-00000.npz").stat().st_mtime_ns == first
    (tmp_path / "cut" / "samples" / "block-00001.npz").write_bytes(b"half a fi")
    record = tmp_path / "cut" / "blocks" / "00000.json"
    said = json.loads(record.read_text())
    del said["notes"]
    record.write_text(json.dumps(said))
    solve(cut, tmp_path / "cut", **given)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_two_processes_share_the_blocks(tmp_path, monkeypatch):
    solve(RING, tmp_path / "one", measurement=Y, **QUICK)
    monkeypatch.setenv("WORLD_SIZE", "2")
    finished = []
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        finished.append(solve(RING, tmp_path / "two", measurement=Y, **QUICK).finished)
    assert finished == [False, True]
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_seeds_may_be_added_to_those_of_one_measurement(tmp_path):
    solve(RING, tmp_path / "a", measurement=Y[0], seeds="0-2", **QUICK)
    more = solve(RING, tmp_path / "a", measurement=Y[0], seeds="0-5", **QUICK)
    whole = solve(RING, tmp_path / "b", measurement=Y[0], seeds="0-5", **QUICK)
    assert torch.equal(values(more), values(whole)) and more.manifest == whole.manifest


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"sigma_y": 0.2}, "sigma_y"),
    ({"method": "pigdm"}, "method"),
    ({"method_option": {"iterations": 1}}, "method_option"),
    ({"operator": G.operators.Matrix(torch.tensor([[1.0, 0.6]]))}, "operator_sha256"),
    ({"measurement": -Y}, "measurement"),
    ({"steps": 5}, "steps"),
    ({"labels": 2}, "labels"),
    ({"model": fewstep.models.GaussianMixture([[0.0, 0.0]], 1.0, [1.0], RING.schedule)}, "model"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("solved") / "a"
    solve(RING, out, measurement=Y, **QUICK)
    return out


@pytest.mark.parametrize(("given", "name"), OTHER, ids=[name for _, name in OTHER])
def test_a_folder_of_other_settings_is_refused(finished, given, name):
    before = tree(finished)
    asked = {"model": RING, **QUICK, "measurement": Y, **given}
    with pytest.raises(ArgumentError, match=f"other settings: .*{name}"):
        solve(asked.pop("model"), finished, **asked)
    assert tree(finished) == before


def test_generate_does_not_go_on_with_such_a_folder(finished):
    with pytest.raises(ArgumentError, match="other settings"):
        fewstep.jobs.generate(RING, finished, seeds=range(5), batch=2, steps=4, labels=None)


def test_a_file_that_was_moved_is_the_same_measurement(tmp_path):
    for name in ("one.npy", "two.npy"):
        np.save(tmp_path / name, Y.numpy())
    solve(RING, tmp_path / "a", measurement=str(tmp_path / "one.npy"), **QUICK)
    before = tree(tmp_path / "a")
    solve(RING, tmp_path / "a", measurement=str(tmp_path / "two.npy"), **QUICK)
    assert {**tree(tmp_path / "a"), "manifest.json": ""} == {**before, "manifest.json": ""}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"operator": None, "task": "inpaint-randm"}, "did you mean 'inpaint-random'"),
    ({"method": "pigmd"}, "did you mean 'pigdm'"),
    ({"method_option": {"iteration": 3}}, "did you mean 'iterations'"),
    ({"sampler": "dpmpp2m"}, "did you mean 'dpmpp_2m'"),
    ({"option": {"ordr": 3}}, "option"),
    ({"task_option": {"keep": 0.5}}, "takes no options"),
    ({"operator": None}, "give a forward model"),
    ({"task": "hdr"}, "task= and operator= exclude each other"),
    ({"measurement": None}, "give the data"),
    ({"truth": torch.zeros(1, 2)}, "measurement= and truth= exclude each other"),
    ({"noise_seed": 1}, "belongs to truth="),
    ({"lpips": "alex.pth"}, "belongs to truth="),
    ({"sigma_y": -0.1}, "sigma_y=-0.1"),
    ({"measurement": torch.tensor([[math.nan], [0.0]])}, "1 of 2 values are NaN"),
    ({"measurement": torch.zeros(2, 3)}, "y has shape (2, 3)"),
    ({"measurement": torch.zeros(1, dtype=torch.complex64)}, "real numbers"),
    ({"measurement": "no_such_file.npy"}, "there is no file"),
    ({"seeds": range(3)}, "3 samples, and there are 5 measurements"),
    ({"measurement": None, "truth": torch.zeros(2, 3)}, "those of the model have (2,)"),
    ({"measurement": None, "truth": torch.full((1, 2), math.inf)}, "2 of 2 values are NaN"),
    ({"measurement": None, "truth": torch.zeros(1, 2), "lpips": "no.pth"}, "no.pth"),
    ({"operator": "no_such_file.py:f"}, "there is no file"),
    ({"operator": 3}, "operator=3"),
    ({"operator": None, "task": "blur"}, "for images"),
    ({"sigma_y": 0.0, "operator": torch.sin}, "is not linear"),
    ({"steps": 3, "nfe": 3}, "one of them"),
    ({"labels": "cat"}, "cycle"),
    ({"format": "png"}, "no pictures"),
    ({"batch": 0}, "batch=0"),
]


@pytest.mark.parametrize(
    ("given", "text"), BAD, ids=[f"{i}-{[*g][-1]}" for i, (g, _) in enumerate(BAD)]
)
def test_bad_input_is_refused_before_the_first_call(given, text, tmp_path):
    with pytest.raises(FewstepError) as raised:
        solve(SILENT, tmp_path / "a", **{**QUICK, "measurement": Y, **given})
    assert text in str(raised.value)
    assert not (tmp_path / "a").exists()


def test_every_kind_of_file_holds_the_same_measurement(tmp_path):
    y = torch.tensor([[0, 255, 51]], dtype=torch.uint8)
    want = y[None] / 127.5 - 1.0
    np.save(tmp_path / "y.npy", want.numpy())
    np.savez(tmp_path / "only.npz", anything=want.numpy())
    np.savez(tmp_path / "named.npz", y=want.numpy(), other=np.zeros(2))
    save_file({"y": want, "truth": torch.zeros(1)}, tmp_path / "y.safetensors")
    Image.fromarray(y.numpy()).save(tmp_path / "y.png")
    for file in ("y.npy", "only.npz", "named.npz", "y.safetensors", "y.png"):
        assert torch.equal(read_measurement(tmp_path / file), want), file
    np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
    body = io.BytesIO()
    torch.save(want, body)
    (tmp_path / "y.pt").write_bytes(body.getvalue())
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    for file, text in (
        ("two.npz", "holds the arrays a, b"),
        ("y.pt", "allowed are .npy"),
        ("pickled.npy", "never read"),
    ):
        with pytest.raises(ArgumentError, match=text):
            read_measurement(tmp_path / file)


def test_settings_are_written_as_they_were_understood(finished):
    said = json.loads((finished / "settings.json").read_text())
    assert said["operator"] == "Matrix" and said["measurement"] is None
    assert said["seeds"] == "0-4" and said["sigma_y"] == 0.1 and said["noise_seed"] is None
