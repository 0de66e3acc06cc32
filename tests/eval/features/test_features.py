"""Feature extractors: grey levels, any module, the bundled network and its statistics, the recipe
that made it, and what is refused."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import fewstep
from fewstep.eval import (
    FeatureStats,
    ProvenanceError,
    ScoreError,
    bundled_stats,
    data_hash,
    finite_sample_bias,
    frechet_distance,
    inception_score,
    load_extractor,
    to_uint8,
    wrap_extractor,
)
from fewstep.eval.features import bundling
from fewstep.models import ModelError
from fewstep.models.classifier import (
    Classifier,
    ClassifierConfig,
    bundled_classifiers,
    load_classifier,
)
from fewstep.train import classifier

BUNDLED = Path(fewstep.models.__file__).parent / "bundled" / "features" / "mnist"


class Shrink(nn.Module):
    """Mean colour and its square: features that can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(2, 3)) * self.scale
        return torch.cat([mean, mean.square()], dim=1)


def images(n: int, c: int = 1, size: int = 28, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (n, c, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def digits(folder: Path, name: str, n: int, seed: int = 0) -> Path:
    """A toy set that a network learns at once: class k is k shades bright."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 10
    image = rng.integers(0, 30, (n, 12, 12)) + 24 * label[:, None, None]
    np.savez(folder / name, image=image.astype(np.uint8), label=label.astype(np.uint8))
    return folder / name


# --- grey levels


def test_grey_levels_round_or_fall():
    x = torch.tensor([-1.5, -1.0, -0.001, 0.0, 0.999, 1.0, 3.0]).view(1, 1, 1, 7)
    assert to_uint8(x).flatten().tolist() == [0, 0, 127, 128, 255, 255, 255]
    assert to_uint8(x, "floor").flatten().tolist() == [0, 0, 127, 127, 254, 255, 255]
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(levels.float() / 127.5 - 1.0), levels)
    assert torch.equal(to_uint8(levels), levels)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 28, 28), "n, c, h, w"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int64), "int64"),
        (
            torch.stack([torch.zeros(1, 4, 4), torch.full((1, 4, 4), math.nan)]),
            r"1 images hold NaN or infinity, first \[1\]",
        ),
    ],
)
def test_bad_images_are_refused(bad, message):
    with pytest.raises(ScoreError, match=message):
        to_uint8(bad)


# --- any module


def test_a_module_of_yours():
    extractor = wrap_extractor(Shrink().eval(), "shrink")
    x = images(300, 3, 8)
    by_hand = x.float().mean(dim=(2, 3)) / 127.5 - 1.0
    torch.testing.assert_close(
        extractor.features(x, batch=7), torch.cat([by_hand, by_hand**2], dim=1)
    )
    stats = extractor.stats(x.split(50), data=data_hash(x))
    np.testing.assert_allclose(
        stats.cov,
        np.cov(extractor.features(x).double().numpy(), rowvar=False),
        rtol=1e-9,
        atol=1e-15,
    )
    assert stats.count == 300 and stats.provenance.data == data_hash(x)
    assert stats.provenance.extractor == f"shrink sha256:{extractor.digest}"


def test_other_weights_are_another_extractor():
    one, other = Shrink().eval(), Shrink().eval()
    with torch.no_grad():
        other.scale.fill_(2.0)
    x = images(20, 3, 8)
    a, b = (wrap_extractor(module, "shrink").stats(x) for module in (one, other))
    with pytest.raises(ProvenanceError, match="extractor"):
        frechet_distance(a, b)
    assert wrap_extractor(one, "shrink").digest == wrap_extractor(Shrink().eval(), "shrink").digest


def test_rules_of_size_and_of_rounding_are_kept():
    half = lambda x: nn.functional.avg_pool2d(x.float() / 127.5 - 1.0, 2)  # noqa: E731
    small = wrap_extractor(Shrink().eval(), "shrink", prepare=half, resize="mean of 2x2")
    x = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with pytest.raises(ProvenanceError, match="resize 'none' and 'mean of 2x2'"):
        frechet_distance(wrap_extractor(Shrink().eval(), "shrink").stats(x), small.stats(x))
    a, b = (wrap_extractor(Shrink().eval(), "shrink", quantize=rule) for rule in ("round", "floor"))
    with pytest.raises(ProvenanceError, match="quantize"):
        frechet_distance(a.stats(x), b.stats(x))
    # nothing was rounded there
    assert frechet_distance(a.stats(to_uint8(x)), b.stats(to_uint8(x))) < 1e-9


class Bad(nn.Module):
    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x, "must give"),
        (lambda x: x.flatten(1)[:1], "must give"),
        (lambda x: x.flatten(1) * math.nan, "NaN or infinity"),
    ],
)
def test_bad_networks_are_refused(answer, message):
    with pytest.raises(ScoreError, match=message):
        wrap_extractor(Bad(answer).eval(), "bad").features(images(3))


def test_training_mode_wrong_sizes_and_nothing_are_refused():
    with pytest.raises(ScoreError, match="eval"):
        wrap_extractor(Shrink(), "shrink")
    extractor = wrap_extractor(Shrink().eval(), "shrink", shape=(3, 8, 8))
    for bad in (
        images(2, 1, 8),
        images(2, 3, 9),
        [images(2, 3, 8), images(2, 3, 9)],
        5,
        images(0, 3, 8),
        [],
    ):
        with pytest.raises(ScoreError):
            extractor.features(bad)
    with pytest.raises(ScoreError, match="1 samples"):
        extractor.stats(images(1, 3, 8))


# --- the bundled network


#: bundled network -> least test accuracy, most bytes of the network, most bytes of the folder
LEAST = {"mnist": (0.99, 400_000, 1_000_000), "cifar10": (0.88, 4_000_000, 6_000_000)}
PRESENT = tuple(LEAST)


@pytest.mark.parametrize("name", PRESENT)
def test_bundled_networks_are_small_and_say_what_they_can(name):
    folder = BUNDLED.parent / name
    config = json.loads((folder / "config.json").read_text())
    accuracy, network, all_files = LEAST[name]
    assert (
        config["name"] == {"mnist": "fd-mnist", "cifar10": "fd-cifar"}[name]
        and config["evaluation"]["accuracy"] >= accuracy
    )
    assert config["evaluation"]["images"] == 10_000
    assert (folder / "model.safetensors").stat().st_size <= network
    assert sum(path.stat().st_size for path in folder.iterdir()) < all_files
    kinds = {value.dtype for value in load_file(folder / "model.safetensors").values()}
    assert kinds == {torch.float16, torch.int64}


@pytest.mark.parametrize("name", PRESENT)
def test_bundled_features_have_full_rank(name):
    """Of 2,000 samples too: no feature is dead, none the sum of others."""
    stats = bundled_stats(name, "test")
    spread = torch.linalg.eigvalsh(stats.cov)
    assert 64 <= stats.dim <= 256 and float(spread[0]) > 1e-9 * float(spread[-1])


def test_bundled_features_do_not_depend_on_the_batch():
    extractor = load_extractor("mnist")
    x = images(64)
    torch.testing.assert_close(
        extractor.features(x, batch=64), extractor.features(x, batch=5), rtol=1e-4, atol=1e-4
    )
    assert extractor.features(x).shape == (64, 64)
    with pytest.raises(ScoreError, match=r"fd-mnist takes images of \(1, 28, 28\)"):
        extractor.features(images(2, 3))


def test_the_network_runs_where_it_is_told_to():
    from fewstep.eval.scoring.scores import extractors

    plain, told = load_extractor("mnist"), load_extractor("mnist", device="cpu")
    assert (
        plain.device == told.device == torch.device("cpu")
        and plain.provenance() == told.provenance()
    )
    assert torch.equal(plain.features(images(3)), told.features(images(3)))
    both = extractors("mnist", None, True, device="meta")
    assert [found.device.type for found in both if found is not None] == ["meta", "meta"]
    with pytest.raises(ScoreError, match="device='nowhere'"):
        load_extractor("mnist", device="nowhere")


@pytest.mark.cuda
def test_features_on_a_gpu_are_those_of_the_cpu():
    found = load_extractor("mnist", device="cuda").features(images(16))
    assert found.device.type == "cpu"
    torch.testing.assert_close(
        found, load_extractor("mnist").features(images(16)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("name", PRESENT)
def test_bundled_statistics_fit_the_network(name):
    train, test = bundled_stats(name, "train"), bundled_stats(name, "test")
    extractor = load_extractor(name)
    assert (train.count, test.count, train.dim) == (
        {"mnist": 60_000, "cifar10": 50_000}[name],
        10_000,
        test.dim,
    )
    assert (
        train.provenance.extractor
        == test.provenance.extractor
        == f"{extractor.name} sha256:{extractor.digest}"
    )
    assert train.provenance.data != test.provenance.data


def test_digits_of_the_two_splits_are_as_far_apart_as_samples_of_one_law():
    """Within a third."""
    assert bundled_classifiers()["fd-mnist"] == "mnist"
    train, test = bundled_stats("mnist", "train"), bundled_stats("mnist", "test")
    floor = finite_sample_bias(train, 10_000) + finite_sample_bias(train, 60_000)
    assert frechet_distance(train, test) == pytest.approx(floor, rel=1 / 3)
    with pytest.raises(ScoreError, match="split='valid'"):
        bundled_stats("mnist", "valid")


def test_noise_is_far_from_digits_and_the_bundled_model_is_near():
    extractor, reference = load_extractor("mnist"), bundled_stats("mnist")
    drawn = fewstep.sample(fewstep.models.load("mnist"), steps=8, n=128, seed=0)
    noise, good = (frechet_distance(reference, extractor.stats(x)) for x in (images(128), drawn))
    assert good < 0.4 * noise
    score = inception_score(load_extractor("mnist", logits=True).features(drawn), splits=1).value
    assert 3.0 < score <= 10.0


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESENT)
def test_measured_accuracy_is_the_recorded_one(name):
    """Needs the test images, in the folder that FEWSTEP_DATA names."""
    import os

    path = Path(os.environ.get("FEWSTEP_DATA", "")) / f"{name}_test.npz"
    if not path.is_file():
        pytest.skip(f"FEWSTEP_DATA names no folder with {name}_test.npz")
    from fewstep.train.data import load_images

    network, config, _ = load_classifier(name)
    assert classifier.accuracy(network, load_images(path)) == pytest.approx(
        config["evaluation"]["accuracy"], abs=2e-4
    )


# --- the recipe


def test_the_recipe_learns_writes_and_repeats_itself(tmp_path, capsys):
    train, test = digits(tmp_path, "train.npz", 400), digits(tmp_path, "test.npz", 100, seed=1)
    options = [
        "--data",
        str(train),
        "--test",
        str(test),
        "--widths",
        "8",
        "16",
        "--features",
        "6",
        "--epochs",
        "12",
        "--batch",
        "40",
    ]
    state = torch.random.get_rng_state()
    for out in ("a", "b"):
        assert classifier.main([*options, "--out", str(tmp_path / out), "--name", "fd-toy"]) == 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (
        tmp_path / "b/model.safetensors"
    ).read_bytes()
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["evaluation"]["accuracy"] > 0.5 and config["evaluation"]["images"] == 100
    assert config["network"]["image_size"] == 12 and config["training"]["steps"] == 120
    extractor = load_extractor(tmp_path / "a")
    assert (extractor.name, extractor.shape) == ("fd-toy", (1, 12, 12))
    assert extractor.features(images(5, 1, 12)).shape == (5, 6)
    assert "test accuracy" in capsys.readouterr().err


def colours(folder: Path, name: str, n: int, seed: int = 0) -> Path:
    """A toy set in colour: class k has its own mixture of three channels."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 4
    base = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [150, 150, 30]])[label]
    image = rng.integers(-25, 25, (n, 16, 16, 3)) + base[:, None, None, :]
    np.savez(folder / name, image=image.astype(np.uint8), label=label.astype(np.uint8))
    return folder / name


def whitened_options(tmp_path: Path) -> list[str]:
    train, test = colours(tmp_path, "train.npz", 240), colours(tmp_path, "test.npz", 80, seed=1)
    shape = [
        "--widths",
        "8",
        "8",
        "12",
        "--small-share",
        "0.4",
        "--features",
        "12",
        "--small",
        "12",
        "--epochs",
        "15",
        "--batch",
        "40",
        "--lr",
        "0.2",
    ]
    return ["--recipe", "cifar10", "--data", str(train), "--test", str(test), *shape]


def test_the_colour_recipe_learns_and_goes_on_after_a_stop(tmp_path, monkeypatch):
    """Stopped in the middle and gone on with, a run gives the bytes of a run that was not."""
    options, stopped = whitened_options(tmp_path), tmp_path / "state.safetensors"
    assert classifier.main([*options, "--out", str(tmp_path / "a")]) == 0
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert (
        config["name"] == "fd-cifar"
        and config["evaluation"]["accuracy"] > 0.9
        and config["training"]["steps"] == 90
    )
    assert (
        config["training"]["recipe"]["optimizer"] == "nesterov"
        and config["network"]["kind"] == "whitened"
    )
    step = classifier.Run.advance

    def stop(run: classifier.Run) -> float:
        if run.step == 61:
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(classifier.Run, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        classifier.main([*options, "--out", str(tmp_path / "b"), "--checkpoint", str(stopped)])
    monkeypatch.setattr(classifier.Run, "advance", step)
    assert stopped.is_file() and not (tmp_path / "b").exists()
    for other in (["--lr", "0.1"], ["--widths", "8", "8", "8", "--features", "8"]):
        assert (
            classifier.main(
                [*options, "--out", str(tmp_path / "b"), "--checkpoint", str(stopped), *other]
            )
            == 3
        )
    whole = stopped.read_bytes()
    stopped.write_bytes(whole[:-100])
    assert (
        classifier.main([*options, "--out", str(tmp_path / "b"), "--checkpoint", str(stopped)]) == 3
    )
    stopped.write_bytes(whole)
    assert (
        classifier.main([*options, "--out", str(tmp_path / "b"), "--checkpoint", str(stopped)]) == 0
    )
    assert (tmp_path / "a/model.safetensors").read_bytes() == (
        tmp_path / "b/model.safetensors"
    ).read_bytes()
    assert not stopped.exists()


def test_a_network_is_trained_on(tmp_path):
    """A second cycle begins at the first one's weights, leaves the stem alone, and says what it
    began with."""
    options = [*whitened_options(tmp_path), "--epochs", "4"]
    assert classifier.main([*options, "--out", str(tmp_path / "a")]) == 0
    assert (
        classifier.main(
            [*options, "--out", str(tmp_path / "b"), "--start", str(tmp_path / "a"), "--lr", "0.05"]
        )
        == 0
    )
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert torch.equal(before["body.0.0.weight"], after["body.0.0.weight"])
    moved = (before["head.weight"] - after["head.weight"]).abs().max()
    assert 0.0 < float(moved) < 0.5
    config = json.loads((tmp_path / "b/config.json").read_text())
    assert config["training"]["start"]["sha256"] == load_classifier(tmp_path / "a")[2]
    assert (
        config["training"]["start"]["recipe"]["lr"] == 0.2
        and config["training"]["recipe"]["lr"] == 0.05
    )
    shape = ["--widths", "8", "8", "8", "--features", "8"]
    assert (
        classifier.main(
            [*options, *shape, "--out", str(tmp_path / "c"), "--start", str(tmp_path / "a")]
        )
        == 3
    )


def test_the_stem_makes_patches_white():
    """Outputs of the first half, before their ReLU, are uncorrelated, centred, and of variance l /
    (l + floor)."""
    config = ClassifierConfig(16, 3, 4, (8, 8), 8, "whitened")
    network = Classifier(config)
    x = (
        nn.functional.interpolate(images(200, 3, 5).float(), (16, 16), mode="bicubic")
        .clamp(0, 255)
        .to(torch.uint8)
    )
    classifier.whiten(network, x)
    stem = network.get_submodule("body.0.0")
    inner = nn.functional.conv2d(x.float() / 127.5 - 1.0, stem.weight, stem.bias)
    rows = inner.detach().permute(0, 2, 3, 1).reshape(-1, 8).double()
    cov = torch.cov(rows[:, :4].T, correction=0)
    assert (
        float((cov - torch.diag(cov.diagonal())).abs().max()) < 1e-3
        and float(rows.mean(dim=0).abs().max()) < 1e-3
    )
    assert bool((cov.diagonal() > 0.8).all() and (cov.diagonal() < 1.0).all())
    torch.testing.assert_close(rows[:, 4:], -rows[:, :4], rtol=1e-4, atol=1e-4)
    assert not stem.weight.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "white"}, "allowed are strided, whitened"),
        ({"widths": (8,)}, "then blocks"),
        ({"widths": (7, 8)}, "even number of channels"),
        ({"widths": (26, 8)}, "at most 24"),
        ({"features": 9}, "must be 8, the last of widths"),
        ({"image_size": 2}, "at least 3"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(change, message):
    good = {
        "image_size": 16,
        "channels": 3,
        "classes": 4,
        "widths": (8, 8),
        "features": 8,
        "kind": "whitened",
    }
    assert Classifier(ClassifierConfig.from_dict(good))(torch.zeros(2, 3, 16, 16)).shape == (2, 4)
    with pytest.raises(ModelError, match=message):
        ClassifierConfig.from_dict(good | change)


def test_shifts_move_whole_images():
    x = torch.full((50, 1, 6, 6), -1.0)
    x[:, :, 2:4, 2:4] = 1.0
    moved = classifier.shifted(x, torch.Generator().manual_seed(0))
    assert torch.equal(moved.sum(dim=(1, 2, 3)), x.sum(dim=(1, 2, 3)))
    assert len(moved.unique(dim=0)) > 10


def test_shifts_may_reflect_and_mirrors_exchange_left_and_right():
    flat = torch.full((20, 3, 6, 6), 0.3)
    assert torch.equal(
        classifier.shifted(flat, torch.Generator().manual_seed(0), fill="reflect"), flat
    )
    x = images(3, 2, 4).float()
    found = classifier.mirrored(x, torch.tensor([True, False, True]))
    assert (
        torch.equal(found[1], x[1])
        and torch.equal(found[0], x[0].flip(2))
        and torch.equal(found[2, :, :, 0], x[2, :, :, 3])
    )


def test_statistics_are_bundled_by_one_command(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "toy"
    train, test = digits(tmp_path, "train.npz", 60), digits(tmp_path, "test.npz", 40, seed=1)
    config = ClassifierConfig(12, 1, 10, (4, 8), 5)
    classifier.write(
        Classifier(config),
        folder,
        {"format": "fewstep-classifier", "name": "fd-toy", "network": config.to_dict()},
    )
    assert bundling.main([str(folder), "--train", str(train), "--test", str(test)]) == 0
    assert "train against test" in capsys.readouterr().err
    stats = bundled_stats(str(folder), "test")
    assert isinstance(stats, FeatureStats) and stats.count == 40
    assert stats.provenance.data == data_hash(bundling.read_images(test))
    assert (
        bundling.main([str(folder), "--train", str(tmp_path / "gone.npz"), "--test", str(test)])
        == 3
    )


def test_jpeg_streams_are_bundled_too(tmp_path):
    files = []
    for k in range(4):
        buffer = io.BytesIO()
        Image.fromarray(images(1, 3, 12, seed=k)[0].permute(1, 2, 0).numpy()).save(buffer, "jpeg")
        files.append(buffer.getvalue())
    offset = np.cumsum([0, *map(len, files)]).astype(np.uint32)
    np.savez(tmp_path / "a.npz", jpeg=np.frombuffer(b"".join(files), dtype=np.uint8), offset=offset)
    found = bundling.read_images(tmp_path / "a.npz")
    wanted = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), wanted)
    broken = b"".join([files[0], b"\0" * len(files[1]), *files[2:]])
    np.savez(tmp_path / "b.npz", jpeg=np.frombuffer(broken, dtype=np.uint8), offset=offset)
    with pytest.raises(ScoreError, match=r"b.npz\[1\]' cannot be read"):
        bundling.read_images(tmp_path / "b.npz")


# --- damaged folders


def test_unknown_and_damaged_networks_are_refused(tmp_path):
    for name in ("imagenet", "../mnist", tmp_path):
        with pytest.raises(ModelError, match=r"bundled: [\w, ]*mnist"):
            load_extractor(name)
    folder = tmp_path / "copy"
    shutil.copytree(BUNDLED, folder)
    config = json.loads((folder / "config.json").read_text())

    def refused(change: dict, message: str) -> None:
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=message):
            load_extractor(folder)

    refused({"format": "other"}, "format 'other'")
    refused({"network": 3}, "lacks 'network'")
    refused({"network": config["network"] | {"depth": 3}}, "depth")
    refused({"network": config["network"] | {"features": 32}}, "neck.weight has shape")
    refused({"network": config["network"] | {"features": 0}}, "features=0")
    refused({"network": config["network"] | {"widths": []}}, "widths")
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "neck.bias"}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"neck.bias is missing"):
        load_extractor(folder)
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="safetensors"):
        load_extractor(folder)
