"""What floating point images mean: one score whatever their convention, where it is named; refused
where none is named and another is seen; a coarse sampler's values are clamped and counted, never
refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scoring_material import network, pictures, save_pictures
from torch import nn

import fewstep
import fewstep.eval as E
from fewstep.cli import main
from fewstep.eval.features.value_range import Values, check_range
from fewstep.jobs.pictures import to_pixels

UINT8 = torch.from_numpy(pictures(60, seed=3)).permute(0, 3, 1, 2).contiguous()
#: the same pictures in each convention, and what names it
CONVENTIONS = {
    "-1..1": (UINT8.float() / 127.5 - 1.0, None),
    "-1..1, named": (UINT8.float() / 127.5 - 1.0, (-1, 1)),
    "-1..1 in float64": (UINT8.double() / 127.5 - 1.0, None),
    "0..1": (UINT8.float() / 255.0, (0, 1)),
    "0..1 as a text": (UINT8.float() / 255.0, "0,1"),
    "0..255": (UINT8.float(), (0.0, 255.0)),
    "0..255 in float16": (UINT8.half(), [0, 255]),
    "-0.5..0.5": (UINT8.float() / 255.0 - 0.5, (-0.5, 0.5)),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return network(tmp_path_factory.mktemp("networks") / "tiny")


@pytest.fixture(scope="module")
def extractor(tiny):
    return E.load_extractor(tiny)


@pytest.fixture(scope="module")
def reference(extractor):
    return E.FeatureSet(extractor.stats(torch.from_numpy(pictures(80, seed=1)).permute(0, 3, 1, 2)))


def scored(images, extractor, reference, **options):
    return E.score(
        images, reference, extractor=extractor, options=E.RatingOptions(resamples=0), **options
    )


@pytest.mark.parametrize("name", CONVENTIONS)
def test_one_distance_in_every_convention(name, extractor, reference):
    images, limits = CONVENTIONS[name]
    want = scored(UINT8, extractor, reference)["fd"].value
    whole = scored(images, extractor, reference, value_range=limits)
    assert whole["fd"].value == want and whole.values["clamped"] == 0.0
    assert scored(list(images.split(7)), extractor, reference, value_range=limits, batch=7)[
        "fd"
    ].value == pytest.approx(want, rel=1e-6)
    assert torch.equal(E.to_uint8(images, value_range=check_range(limits)), UINT8)
    assert torch.equal(extractor.features(images, value_range=limits), extractor.features(UINT8))
    assert torch.equal(extractor.stats(images, value_range=limits).cov, extractor.stats(UINT8).cov)


@pytest.mark.parametrize(
    "images",
    [
        UINT8.float() / 255.0,
        UINT8.float(),
        UINT8.half(),
        torch.zeros(4, 1, 8, 8),
        UINT8.float() / 100.0,
    ],
)
def test_another_convention_is_refused_at_every_door(images, extractor, reference):
    doors = [
        lambda x: scored(x, extractor, reference),
        extractor.features,
        extractor.stats,
        lambda x: list(extractor.batches(x)),
    ]
    for door in doors:
        for given in (images, images.numpy(), list(images.split(2))):
            with pytest.raises(E.ScoreError, match=r"none below 0.*value_range=\((0, 1|0, 255)\)"):
                door(given)
        door(2.0 * images / max(float(images.max()), 1.0) - 1.0)


def test_the_whole_source_is_judged_and_never_an_image(extractor, reference):
    images = UINT8.float() / 127.5 - 1.0
    images[:20] = images[:20].abs()  # the first batches have no value below 0
    images[0] = 3.0
    assert scored(images, extractor, reference, batch=10).values["least"] < 0.0
    assert scored(list(images.split(10)), extractor, reference).count == 60
    bright = 0.2 + 1.2 * torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert bright.min() > 0.0 and 1.0 < bright.max() < 1.5, "bright pictures of a sampler"
    assert scored(bright, extractor, reference).count == 50
    rounded = UINT8.float() / 255.0
    rounded[0, 0, 0, 0], rounded[0, 0, 0, 1] = -1e-7, 1.0 + 1e-6
    with pytest.raises(E.ScoreError, match="none below 0"):
        scored(rounded, extractor, reference)


def test_what_lies_outside_is_clamped_and_counted(extractor, reference):
    images = UINT8.float() / 127.5 - 1.0
    flat = images.view(-1)
    flat[:96], flat[96:192] = 9.0, -9.0
    found = scored(images, extractor, reference)
    assert found.values == {
        "range": [-1.0, 1.0],
        "least": -9.0,
        "greatest": 9.0,
        "clamped": 192 / images.numel(),
    }
    assert found["fd"].value == scored(images.clamp(-1.0, 1.0), extractor, reference)["fd"].value
    assert found.to_dict()["values"] == found.values
    assert scored(UINT8, extractor, reference).to_dict()["values"] is None


def test_few_steps_reach_far_and_are_scored(extractor):
    x = fewstep.sample(fewstep.models.load("mnist"), sampler="euler", steps=2, n=20, seed=0)
    found = E.score(3.0 * x, "mnist:train", options=E.RatingOptions(resamples=0))
    assert (
        found.values["clamped"]
        == pytest.approx(float(((3.0 * x).abs() > 1.0).double().mean()), abs=1e-12)
        and found.values["clamped"] > 0.1
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(bad, extractor, reference):
    images = UINT8.float() / 127.5 - 1.0
    images[3, 0, 1, 1] = bad
    for door in (
        lambda x: scored(x, extractor, reference),
        extractor.features,
        extractor.stats,
        E.to_uint8,
    ):
        with pytest.raises(E.ScoreError, match=r"1 images hold NaN or infinity, first \[3\]"):
            door(images)


@pytest.mark.parametrize(
    "given",
    [
        (1, 0),
        (0, 0),
        (0,),
        (0, 1, 2),
        "0",
        "a,b",
        255,
        (0, float("nan")),
        (0, float("inf")),
        (False, True),
        {0: 1},
        "",
    ],
)
def test_ranges_that_are_none(given, extractor, reference):
    with pytest.raises(E.ScoreError, match="value_range="):
        scored(UINT8.float(), extractor, reference, value_range=given)


def test_texts_that_are_ranges():
    assert (
        check_range("0,255")
        == check_range("[0, 255]")
        == check_range("0 255")
        == check_range("0:255")
        == (0.0, 255.0)
    )
    assert (
        check_range(np.array([-1.0, 1.0]).tolist())
        == check_range((np.float32(-1), np.int64(1)))
        == (-1.0, 1.0)
    )
    assert check_range(None) is None


def test_a_range_that_says_nothing_is_refused(extractor, reference):
    with pytest.raises(E.ScoreError, match="none of the images is floating point"):
        scored(UINT8, extractor, reference, value_range=(0, 1))


def test_what_is_no_image_is_refused(extractor, reference):
    for given in (
        "folder",
        b"x",
        {"image": UINT8},
        3,
        None,
        [[UINT8, 3]],
        ["folder"],
        torch.zeros(()),
        UINT8.long(),
        UINT8 > 3,
        UINT8[:, 0],
    ):
        with pytest.raises(E.ScoreError, match="images must be"):
            scored(given, extractor, reference)


def test_a_network_of_any_module_takes_the_range():
    extractor = E.wrap_extractor(nn.Flatten().eval(), "flat", prepare=lambda x: x.float())
    images = UINT8.float() / 255.0
    with pytest.raises(E.ScoreError, match="none below 0"):
        extractor.features(images)
    assert torch.equal(extractor.features(images, value_range=(0, 1)), UINT8.flatten(1).float())


def test_values_add_up():
    x = torch.tensor([[-3.0, 0.5], [1.0, 2.0]])
    parts = Values.of(x[0]) + Values.of(x[1])
    assert parts == Values.of(x) == Values(4, 2, -3.0, 2.0)
    assert (
        parts.clamped == 0.5
        and parts.text() == "50 % of the values (from -3 to 2) lay outside [-1, 1] and were clamped"
    )
    assert Values().text() == "" and Values().to_dict() is None and Values.of(UINT8) == Values()


# --- files


def saved(folder, images):
    folder.mkdir()
    for i, one in enumerate(images.numpy()):
        np.save(folder / f"{i:04d}.npy", one)
    return folder


@pytest.fixture
def run(tiny, tmp_path, capsys):
    """The record of a score against a reference of other pictures; an error's text where ``code``
    is not 0."""
    reference = tmp_path / "ref.safetensors"
    assert (
        main(
            [
                "ref",
                str(save_pictures(tmp_path / "real", pictures(40, seed=1))),
                "--extractor",
                str(tiny),
                "--out",
                str(reference),
            ]
        )
        == 0
    )

    def score(folder, *flags, code=0):
        command = [
            "score",
            str(folder),
            "--ref",
            str(reference),
            "--extractor",
            str(tiny),
            "--resamples",
            "0",
            "--batch",
            "7",
            *flags,
        ]
        capsys.readouterr()
        assert main(command) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return score


def test_folders_of_arrays_give_the_distance_of_the_pictures(run, tmp_path):
    want = json.loads(run(save_pictures(tmp_path / "png", pictures(60, seed=3)), "--json"))[
        "metrics"
    ]
    for i, (name, flags) in enumerate(
        (
            ("-1..1", []),
            ("-1..1", ["--value-range=-1,1"]),
            ("0..1", ["--value-range", "0,1"]),
            ("0..255", ["--value-range=0,255"]),
        )
    ):
        found = json.loads(run(saved(tmp_path / f"npy{i}", CONVENTIONS[name][0]), "--json", *flags))
        assert found["metrics"] == want and found["values"]["clamped"] == 0.0, name
    (tmp_path / "score.yaml").write_text("value_range: [0, 255]\n")
    assert (
        json.loads(run(tmp_path / "npy3", "--json", "--config", str(tmp_path / "score.yaml")))[
            "metrics"
        ]
        == want
    )


def test_a_folder_in_another_convention_is_refused(run, tmp_path, tiny, capsys):
    folder = saved(tmp_path / "npy", UINT8.float() / 255.0)
    assert "none below 0" in run(folder, code=3) and "--value-range=0,1" in run(folder, code=3)
    with pytest.raises(E.ScoreError, match="value-range"):
        E.open_source(folder)
    command = ["ref", str(folder), "--extractor", str(tiny), "--out", str(tmp_path / "x.npz")]
    assert main(command) == 3 and "--value-range=0,1" in capsys.readouterr().err
    assert main([*command, "--value-range=0,1"]) == 0
    assert E.load_stats(tmp_path / "x.npz").count == 60
    assert torch.equal(E.open_source(folder, (0, 1)).read(0, 60).image, UINT8)


def test_one_file_of_a_folder_is_not_judged(run, tmp_path):
    images = UINT8[:20].float() / 127.5 - 1.0
    images[0], images[5] = 2.0, 0.5
    folder = saved(tmp_path / "npy", images)
    (folder / "0001.npy").write_bytes(b"no array")
    text = run(folder, "--skip-corrupt")
    assert "19 images" in text and "lay outside [-1, 1] and were clamped" in text
    record = json.loads(run(folder, "--skip-corrupt", "--json"))
    outside = 64 / (19 * 64)
    assert record["values"] == {
        "range": [-1.0, 1.0],
        "least": -1.0,
        "greatest": 2.0,
        "clamped": outside,
    }


def test_a_range_for_pictures_is_refused(run, tmp_path):
    folder = save_pictures(tmp_path / "png", pictures(9))
    assert "no floating point npy file" in run(folder, "--value-range=0,1", code=3)
    assert "value_range='0'" in run(folder, "--value-range=0", code=3)


def test_a_model_of_few_steps_says_what_it_clamps(capsys):
    command = [
        "score",
        "--model",
        "mnist",
        "--sampler",
        "euler",
        "--steps",
        "2",
        "--seeds",
        "0-7",
        "--batch",
        "4",
        "--resamples",
        "0",
    ]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["values"]
    assert (
        found["range"] == [-1.0, 1.0] and 0.0 < found["clamped"] < 1.0 and found["greatest"] > 1.0
    )
    assert main(command) == 0
    assert "% of the values (from " in capsys.readouterr().out
    assert main([*command, "--value-range=0,1"]) == 3
    assert "value_range=" in capsys.readouterr().err


def test_pixels_of_nan_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        to_pixels(np.full((1, 1, 2, 2), np.nan, np.float32))
    assert to_pixels(np.array([[[[-np.inf, np.inf]]]])).ravel().tolist() == [0, 255]
