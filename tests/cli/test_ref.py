"""``fewstep ref``: what a reference file carries, the features that it may keep, and what is
refused."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import pytest
import torch
from scoring_material import network, normal, pictures, save_pictures

import fewstep.eval as E
from fewstep.cli import main


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return network(tmp_path_factory.mktemp("networks") / "tiny")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_file_carries_what_it_was_made_of(tiny, tmp_path, capsys, suffix):
    pixels = pictures(90)
    np.savez(tmp_path / "data.npz", image=pixels)
    out = tmp_path / f"ref{suffix}"
    assert (
        main(
            [
                "ref",
                str(tmp_path / "data.npz"),
                "--extractor",
                str(tiny),
                "--out",
                str(out),
                "--features",
                "--json",
            ]
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    extractor = E.load_extractor(tiny)
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    want, stats = extractor.stats(image, batch=64), E.load_stats(out)
    torch.testing.assert_close(stats.mean, want.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(stats.cov, want.cov, rtol=0, atol=1e-12)
    assert stats.count == 90 == record["count"] == record["features"]
    assert (stats.provenance.extractor, stats.provenance.resize, stats.provenance.dtype) == (
        f"tiny sha256:{extractor.digest}",
        "none",
        "float32",
    )
    assert stats.provenance.note == "data.npz" and len(stats.provenance.data) == 64
    torch.testing.assert_close(E.load_features(out), extractor.features(image, 64), rtol=0, atol=0)
    assert json.loads((tmp_path / f"ref{suffix}.settings.json").read_text())["batch"] == 64
    assert not list((tmp_path / "temporary").iterdir())


def test_folders_and_npz_files_of_the_same_images_have_one_hash(tiny, tmp_path):
    pixels = pictures(70)
    np.savez(tmp_path / "data.npz", image=pixels)
    for half, name in ((pixels[:30], "a"), (pixels[30:], "b")):
        save_pictures(tmp_path / "pictures" / name, half)
    found = []
    for source, batch in (("data.npz", "64"), ("pictures", "11")):
        out = tmp_path / f"{source}.safetensors"
        assert (
            main(
                [
                    "ref",
                    str(tmp_path / source),
                    "--extractor",
                    str(tiny),
                    "--out",
                    str(out),
                    "--batch",
                    batch,
                ]
            )
            == 0
        )
        found.append(E.load_stats(out))
    assert found[0].provenance.data == found[1].provenance.data
    torch.testing.assert_close(found[0].mean, found[1].mean, rtol=1e-5, atol=1e-5)
    assert E.load_features(tmp_path / "pictures.safetensors") is None


def test_a_subset_of_features_and_the_moments_of_all(tiny, tmp_path):
    np.savez(tmp_path / "data.npz", image=pictures(100))
    for name, flags in (("all", []), ("some", ["--keep", "30"])):
        out = tmp_path / f"{name}.npz"
        assert (
            main(
                [
                    "ref",
                    str(tmp_path / "data.npz"),
                    "--extractor",
                    str(tiny),
                    "--features",
                    "--out",
                    str(out),
                    *flags,
                ]
            )
            == 0
        )
    some, everything = tmp_path / "some.npz", tmp_path / "all.npz"
    assert E.load_features(some).shape == (30, 6) and E.load_features(everything).shape == (100, 6)
    assert torch.equal(E.load_stats(some).cov, E.load_stats(everything).cov)


def test_damaged_images_and_bad_requests(tiny, tmp_path, capsys):
    folder = save_pictures(tmp_path / "pictures", pictures(20))
    (folder / "0007.png").write_bytes(b"no picture")
    out = tmp_path / "ref.safetensors"

    def refused(*command):
        assert main(["ref", *map(str, command)]) == 3
        assert not out.exists()
        return capsys.readouterr().err

    assert "0007.png" in refused(folder, "--extractor", tiny, "--out", out)
    assert "allowed are .npz and .safetensors" in refused(
        folder, "--extractor", tiny, "--out", tmp_path / "ref.pt"
    )
    assert "no folder" in refused(
        folder, "--extractor", tiny, "--out", tmp_path / "nowhere" / "ref.npz"
    )
    assert "extractor= must be given" in refused(folder, "--out", out)
    assert "give a folder" in refused("--out", out, "--extractor", tiny)
    assert "no images at" in refused(tmp_path / "nothing", "--extractor", tiny, "--out", out)
    assert "mnst" in refused(folder, "--extractor", "mnst", "--out", out)
    assert (
        main(["ref", str(folder), "--extractor", str(tiny), "--out", str(out), "--skip-corrupt"])
        == 0
    )
    assert "1 images could not be read" in capsys.readouterr().out
    assert E.load_stats(out).count == 19
    assert main(["ref", str(folder)]) == 2


def test_features_beside_statistics_must_fit(tmp_path):
    stats = E.FeatureStats.from_features(normal(20, 3, 0))
    with pytest.raises(E.ScoreError, match="features.*3 dimensions"):
        E.save_stats(stats, tmp_path / "x.npz", normal(20, 4, 0))
    with pytest.raises(E.ScoreError, match="NaN"):
        E.save_stats(stats, tmp_path / "x.npz", torch.full((2, 3), float("nan")))
    assert not list(tmp_path.glob("x*"))
    E.save_stats(stats, tmp_path / "x.safetensors", normal(20, 3, 0))
    E.save_stats(stats, tmp_path / "y.safetensors", normal(20, 3, 0))
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()
    assert torch.equal(E.load_features(tmp_path / "x.safetensors"), normal(20, 3, 0).float())
    assert torch.equal(E.load_stats(tmp_path / "x.safetensors").cov, stats.cov)
