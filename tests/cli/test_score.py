"""``fewstep score``: the same score from any source and any number of processes, a run that is
killed and goes on, and what is refused."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scoring_material import network, pictures, save_pictures

import fewstep.eval as E
from fewstep.cli import main
from fewstep.jobs import feature_blocks
from fewstep.jobs.labels import labels_of, mixed
from fewstep.jobs.processes import machines, place
from fewstep.jobs.samples import balanced


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """Work folders of these tests lie in a folder of their own, which must be empty after every
    success."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return network(tmp_path_factory.mktemp("networks") / "tiny")


@pytest.fixture(scope="module")
def reference(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    np.savez(folder / "data.npz", image=pictures(120, seed=1))
    command = [
        "ref",
        str(folder / "data.npz"),
        "--extractor",
        str(tiny),
        "--features",
        "--out",
        str(folder / "ref.safetensors"),
    ]
    assert main(command) == 0
    return folder / "ref.safetensors"


@pytest.fixture
def folder(tmp_path):
    return save_pictures(tmp_path / "pictures", pictures(50, light=15.0))


METRICS = "fd,fd_infinity,kid,is,precision,recall,density,coverage,cmmd,memorization"


@pytest.fixture
def scored(tiny, reference, capsys):
    """The record of a score."""

    def run(source, *flags, metrics="fd"):
        command = [
            "score",
            *([str(source)] if source else []),
            "--ref",
            str(reference),
            "--extractor",
            str(tiny),
            "--metrics",
            metrics,
        ]
        assert main([*command, "--json", "--resamples", "20", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def numbers(record):
    return {
        name: (rating["value"], rating["low"], rating["high"])
        for name, rating in record["metrics"].items()
    }


# --- one score, whatever the source


def test_a_folder_is_scored_as_the_library_scores_it(folder, scored, tiny, reference, tmp_path):
    record = scored(folder, metrics=METRICS)
    assert record["generated"]["quantize"] is None, "pictures are grey levels already"
    extractor = E.load_extractor(tiny)
    image = torch.from_numpy(pictures(50, light=15.0)).permute(0, 3, 1, 2)
    want = E.frechet_distance(E.load_stats(reference), extractor.stats(image, batch=64))
    assert record["metrics"]["fd"]["value"] == pytest.approx(want, rel=1e-12)
    assert (
        set(record["metrics"]) == set(METRICS.split(","))
        and record["count"] == 50
        and record["skipped"] == []
    )
    assert (
        record["generated"]["extractor"] == f"tiny sha256:{extractor.digest}"
        and len(record["generated"]["data"]) == 64
    )
    assert record["reference"]["extractor"] == record["generated"]["extractor"]
    assert record["settings"]["batch"] == 64 and record["options"]["level"] == 0.95
    assert not list((tmp_path / "temporary").iterdir()), "nothing is left behind"


def test_npz_shards_npy_files_and_pictures_give_one_score(folder, scored, tmp_path):
    pixels = pictures(50, light=15.0)
    (tmp_path / "shards").mkdir()
    (tmp_path / "npy").mkdir()
    np.savez(tmp_path / "shards" / "a.npz", image=pixels[:17], label=np.zeros(17))
    np.savez_compressed(tmp_path / "shards" / "b.npz", image=pixels[17:, :, :, 0])
    for i, one in enumerate(pixels):
        np.save(
            tmp_path / "npy" / f"{i:04d}.npy",
            one[..., 0] if i % 2 else np.moveaxis(one, -1, 0).astype(np.float32) / 127.5 - 1.0,
        )
    want = scored(folder)
    for name in ("shards", "npy"):
        found = scored(tmp_path / name)
        assert (
            numbers(found) == numbers(want)
            and found["generated"]["data"] == want["generated"]["data"]
        )


def test_a_jpeg_stream_is_read(scored, tmp_path):
    files = []
    for one in pictures(20, channels=3):
        out = io.BytesIO()
        Image.fromarray(one).save(out, format="JPEG", quality=95)
        files.append(out.getvalue())
    offset = np.cumsum([0, *map(len, files)])
    np.savez(
        tmp_path / "stream.npz", jpeg=np.frombuffer(b"".join(files), dtype=np.uint8), offset=offset
    )
    source = E.open_source(tmp_path / "stream.npz")
    assert (source.count, source.shape) == (20, (3, 8, 8))
    assert np.array_equal(
        source.read(7, 8).image[0].permute(1, 2, 0).numpy(),
        np.asarray(Image.open(io.BytesIO(files[7]))),
    )


def test_a_model_is_scored_as_the_folder_it_would_write(tmp_path, capsys):
    flags = ["--steps", "2", "--seeds", "3-8", "--batch", "4", "--labels", "7"]
    assert main(["generate", "--out", str(tmp_path / "out"), "--model", "mnist", *flags]) == 0
    capsys.readouterr()
    found = []
    for source in ([str(tmp_path / "out"), "--batch", "4"], ["--model", "mnist", *flags]):
        assert main(["score", *source, "--metrics", "fd,is", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert numbers(found[0]) == numbers(found[1])
    assert found[0]["generated"]["data"] == found[1]["generated"]["data"]
    assert (
        found[0]["reference"]["name"] == "mnist:train"
        and found[0]["metrics"]["fd"]["name"] == "FD-mnist"
    )
    assert main(["score", str(tmp_path / "out"), "--batch", "4", "--metrics", "fd,kid"]) == 0
    said = capsys.readouterr().out
    assert (
        "against mnist:train" in said
        and "FD-mnist" in said
        and "KID-mnist" in said
        and "FID" not in said
        and "few for 64 dimensions" in said
    )


def test_evenly_dealt_classes_are_said_to_be_so():
    assert (
        balanced([0, 1, 2, 0, 1])
        and not balanced([0, 1, 1, 1])
        and not balanced([3, 3])
        and not balanced([None, None])
        and not balanced([])
    )
    labels = labels_of("random", range(20_000), 10)
    assert labels[:5] == labels_of("random", range(5), 10), "a label belongs to its seed"
    counts = np.bincount(labels, minlength=10)
    assert not balanced(labels) and 2.0 < float((((counts - 2000.0) ** 2) / 2000.0).sum()) < 25.0, (
        "chi-squared with 9 degrees of freedom"
    )
    assert mixed(0) == 0xE220A8397B1DCDAF, "the first output of SplitMix64 seeded with 0"


# --- any number of processes, and a run that stops


def test_three_processes_give_the_score_of_one_to_the_last_bit(
    folder, scored, tiny, reference, tmp_path, monkeypatch, capsys
):
    flags = ("--batch", "7")
    want = scored(folder, *flags, metrics=METRICS)
    for world in (2, 3):
        monkeypatch.setenv("WORLD_SIZE", str(world))
        for rank in range(world - 1, 0, -1):
            monkeypatch.setenv("RANK", str(rank))
            command = [
                "score",
                str(folder),
                "--ref",
                str(reference),
                "--extractor",
                str(tiny),
                "--metrics",
                METRICS,
                *flags,
            ]
            assert main([*command, "--resamples", "20", "--json"]) == 0
            assert capsys.readouterr().out == "", "the main process speaks alone"
        monkeypatch.setenv("RANK", "0")
        found = scored(folder, *flags, metrics=METRICS)
        assert found == want
        assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setenv("WORLD_SIZE", "9")
    monkeypatch.setenv("RANK", "8")
    assert (
        main(["score", str(folder), "--ref", str(reference), "--extractor", str(tiny), *flags]) == 0
    )
    assert not list((tmp_path / "temporary").iterdir()), "a process without a block leaves nothing"


def launched(command, cwd):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": str(cwd),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_launched_processes_give_the_score_of_one(folder, tiny, reference, tmp_path):
    """World sizes 1, 2 and 3 by torchrun, and accelerate's own launcher, each a set of real
    processes."""
    pytest.importorskip("accelerate")
    command = [
        "-m",
        "fewstep",
        "score",
        str(folder),
        "--ref",
        str(reference),
        "--extractor",
        str(tiny),
    ]
    command += ["--metrics", METRICS, "--batch", "7", "--resamples", "20", "--json"]
    one = json.loads(launched([sys.executable, *command], tmp_path))
    for world in (2, 3):
        run = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            str(world),
            "--master_port",
            "0",
        ]
        assert json.loads(launched([*run, *command], tmp_path)) == one
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    # torchrun underneath; no GPU is asked for
    many = [*launch, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    for run in ([*launch, "--cpu", "--num_processes", "1"], many):
        assert json.loads(launched([*run, *command], tmp_path)) == one
    assert not list(tmp_path.glob("fewstep-*")), "no work folder is left"


@pytest.mark.slow
def test_launched_processes_generate_the_bytes_of_one(tmp_path):
    pytest.importorskip("accelerate")
    command = [
        "-m",
        "fewstep",
        "generate",
        "--model",
        "mnist",
        "--steps",
        "2",
        "--seeds",
        "0-10",
        "--batch",
        "3",
    ]
    launched([sys.executable, *command, "--out", "one"], tmp_path)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "3",
        "--main_process_port",
        "0",
    ]
    launched([*launch, *command, "--out", "three"], tmp_path)
    trees = [
        {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}
        for root in (tmp_path / "one", tmp_path / "three")
    ]
    assert trees[0] == trees[1] and len(trees[0]) > 11


def test_features_that_are_there_are_not_computed_again(folder, scored, tmp_path, monkeypatch):
    out = tmp_path / "out"
    want = scored(folder, "--batch", "7", "--out", str(out))
    first = {file.name: file.stat().st_mtime_ns for file in (out / "features").iterdir()}
    assert len(first) == 8
    (out / "features" / "00002.safetensors").write_bytes(b"half a fi")
    damaged = out / "features" / "00005.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(bytes(data))
    assert scored(folder, "--batch", "7", "--out", str(out)) == want
    again = {file.name: file.stat().st_mtime_ns for file in (out / "features").iterdir()}
    assert {name for name in first if again[name] != first[name]} == {
        "00002.safetensors",
        "00005.safetensors",
    }
    monkeypatch.setattr(feature_blocks, "_compute", None)
    more = scored(folder, "--batch", "7", "--out", str(out), metrics="fd,kid,coverage")
    assert more["metrics"]["fd"] == want["metrics"]["fd"]
    assert json.loads((out / "score.json").read_text()) == more
    assert json.loads((out / "settings.json").read_text())["metrics"] == "fd,kid,coverage"


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_score(folder, tiny, reference, tmp_path):
    flags = [
        "--ref",
        str(reference),
        "--extractor",
        str(tiny),
        "--metrics",
        METRICS,
        "--batch",
        "1",
        "--resamples",
        "20",
        "--json",
    ]
    command = [sys.executable, "-m", "fewstep", "score", str(folder), *flags]
    running = subprocess.Popen(
        [*command, "--out", "broken"], stdout=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        while (
            running.poll() is None
            and len(list((tmp_path / "broken").glob("features/*.safetensors"))) < 5
        ):
            time.sleep(0.002)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert 5 <= len(list((tmp_path / "broken").glob("features/*.safetensors"))) < 50, (
        "it was to be killed in the middle"
    )
    assert not (tmp_path / "broken" / "score.json").exists()
    assert json.loads(launched([*command, "--out", "broken"], tmp_path)) == json.loads(
        launched([*command, "--out", "whole"], tmp_path)
    )


posix = pytest.mark.skipif(os.name != "posix", reason="owners and rights are POSIX's")


@posix
@pytest.mark.parametrize(
    "what",
    ["a link to a folder", "a link to nothing", "a file", "open to others", "readable by others"],
)
def test_a_work_folder_that_is_not_the_users_own_is_refused(what, tmp_path):
    """Its name can be guessed, and other users may write where temporary files lie."""
    made = feature_blocks.open_work(None, {"a": 1})
    assert (made.root.lstat().st_mode & 0o777, made.lasting) == (0o700, False)
    assert feature_blocks.open_work(None, {"a": 1}).root == made.root, (
        "the same request finds it again"
    )
    feature_blocks.clear(made)
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    if what.startswith("a link"):
        made.root.symlink_to(victim if what == "a link to a folder" else tmp_path / "nothing")
    elif what == "a file":
        made.root.write_bytes(b"")
    else:
        made.root.mkdir()
        made.root.chmod(0o777 if what == "open to others" else 0o755)
    with pytest.raises(ValueError, match="is not a folder but a link|is open to others"):
        feature_blocks.open_work(None, {"a": 1})
    assert not list(victim.iterdir()) and not (tmp_path / "nothing").exists()


@posix
def test_a_work_folder_of_another_user_is_refused(monkeypatch):
    made = feature_blocks.open_work(None, {"a": 1})
    owner = made.root.lstat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    made.root.rename(
        made.root.with_name(made.root.name.replace(f"fewstep-{owner}-", f"fewstep-{owner + 1}-"))
    )
    with pytest.raises(ValueError, match="belongs to someone else"):
        feature_blocks.open_work(None, {"a": 1})


def test_a_block_of_another_form_is_computed_again(folder, scored, tmp_path):
    out = tmp_path / "out"
    want = scored(folder, "--batch", "25", "--out", str(out))
    file = out / "features" / "00001.safetensors"
    for facts in (
        "[" * 100_000,
        "[]",
        "3",
        json.dumps({"bad": [], "sha256": "0"}),
        json.dumps({"bad": 3, "values": 3, "sha256": "0"}),
    ):
        save_file(load_file(file), file, {"facts": facts})
        assert scored(folder, "--batch", "25", "--out", str(out)) == want


def test_places_come_from_the_launcher(monkeypatch):
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
    ):
        monkeypatch.delenv(name, raising=False)
    assert (place(), machines()) == ((0, 1), 1)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert place() == (1, 4)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "6")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert (place(), machines()) == ((2, 6), 2)
    with pytest.raises(ValueError, match="give a folder"):
        feature_blocks.open_work(None, {})
    monkeypatch.setenv("RANK", "6")
    with pytest.raises(ValueError, match="the rank must be from 0 to 5"):
        place()


# --- what is wrong is said


def refused(capsys, *command):
    assert main(["score", *map(str, command)]) == 3
    return capsys.readouterr().err


def test_corrupt_images_are_named_and_left_out_only_when_asked(
    folder, scored, tiny, reference, tmp_path, capsys
):
    (folder / "0003.png").write_bytes(b"no picture")
    (folder / "0020.png").write_bytes((folder / "0020.png").read_bytes()[:60])
    said = refused(capsys, folder, "--ref", reference, "--extractor", tiny)
    assert (
        "2 of 50 images cannot be read" in said
        and "0003.png" in said
        and "0020.png" in said
        and "--skip-corrupt" in said
    )
    record = scored(folder, "--skip-corrupt", metrics="fd,kid")
    assert record["count"] == 48 and [Path(row["file"]).name for row in record["skipped"]] == [
        "0003.png",
        "0020.png",
    ]
    whole = np.delete(pictures(50, light=15.0), [3, 20], axis=0)
    want = scored(save_pictures(tmp_path / "whole", whole), metrics="fd")
    assert record["metrics"]["fd"]["value"] == pytest.approx(
        want["metrics"]["fd"]["value"], rel=1e-6
    )
    assert record["generated"]["data"] == want["generated"]["data"]
    assert (
        main(
            [
                "score",
                str(folder),
                "--ref",
                str(reference),
                "--extractor",
                str(tiny),
                "--skip-corrupt",
            ]
        )
        == 0
    )
    assert "2 images could not be read and are left out" in capsys.readouterr().out


def test_a_damaged_npz_file_is_named(scored, tmp_path, tiny, reference, capsys):
    np.savez(tmp_path / "a.npz", image=pictures(20))
    (tmp_path / "b.npz").write_bytes(b"no archive")
    (tmp_path / "shards").mkdir()
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).rename(tmp_path / "shards" / name)
    assert "b.npz: not an npz file" in refused(
        capsys, tmp_path / "shards", "--ref", reference, "--extractor", tiny
    )
    assert scored(tmp_path / "shards", "--skip-corrupt")["count"] == 20


def test_mixed_sizes_and_channels_are_refused(folder, tiny, reference, tmp_path, capsys):
    flags = ("--ref", reference, "--extractor", tiny)
    Image.new("L", (9, 8)).save(folder / "0010.png")
    said = refused(capsys, folder, *flags)
    assert "0010.png" in said and "(1, 8, 9)" in said and "(1, 8, 8)" in said and "one size" in said
    Image.new("RGB", (8, 8)).save(folder / "0010.png")
    assert "(3, 8, 8)" in refused(capsys, folder, *flags)
    Image.new("RGBA", (8, 8)).save(folder / "0010.png")
    assert "0010.png: transparent" in refused(capsys, folder, *flags)
    big = save_pictures(tmp_path / "big", np.zeros((3, 12, 12, 1), dtype=np.uint8))
    assert "tiny takes images of (1, 8, 8)" in refused(capsys, big, *flags)


def test_other_networks_and_rules_are_refused_unless_asked(
    folder, scored, tiny, reference, tmp_path, capsys
):
    other = network(tmp_path / "other", seed=1)
    flags = (folder, "--ref", reference, "--extractor", other)
    said = refused(capsys, *flags)
    assert (
        "statistics of different rules" in said
        and "--allow-mismatch" in said
        and "strict=" not in said
    )
    assert main(["score", *map(str, flags), "--allow-mismatch"]) == 0
    capsys.readouterr()
    stats = E.load_stats(reference)
    rules = E.Provenance(stats.provenance.data, stats.provenance.extractor, "tf1 bilinear 299")
    E.save_stats(
        E.FeatureStats.from_moments(stats.mean, stats.cov, stats.count, rules),
        tmp_path / "resized.npz",
    )
    assert "resize 'tf1 bilinear 299' and 'none'" in refused(
        capsys, folder, "--ref", tmp_path / "resized.npz", "--extractor", tiny
    )
    wide = network(tmp_path / "wide", features=9)
    assert "dimensions" in refused(
        capsys, folder, "--ref", reference, "--extractor", wide, "--allow-mismatch"
    )


def test_nan_features_are_refused(folder, tiny, reference, monkeypatch, capsys):
    from fewstep.models.classifier import Classifier

    monkeypatch.setattr(
        Classifier, "features", lambda self, x: torch.full((len(x), 6), float("nan"))
    )
    assert "NaN or infinity" in refused(capsys, folder, "--ref", reference, "--extractor", tiny)


def test_empty_folders_few_samples_and_unfinished_runs_are_refused(
    folder, tiny, reference, tmp_path, capsys
):
    flags = ("--ref", reference, "--extractor", tiny)
    (tmp_path / "empty").mkdir()
    assert "no images" in refused(capsys, tmp_path / "empty", *flags)
    assert "no images at" in refused(capsys, tmp_path / "nowhere", *flags)
    one = save_pictures(tmp_path / "one", pictures(1))
    assert "fd: 1 samples, must be at least 2" in refused(capsys, one, *flags)
    five = save_pictures(tmp_path / "five", pictures(5))
    assert "recall: 5 samples, must be at least 6" in refused(
        capsys, five, *flags, "--metrics", "fd,recall"
    )
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "settings.json").write_text("{}")
    assert "unfinished run" in refused(capsys, tmp_path / "run", *flags)
    np.savez(tmp_path / "vectors.npz", x=np.zeros((4, 2)))
    assert "must hold 'image'" in refused(capsys, tmp_path / "vectors.npz", *flags)
    assert "no pictures" in refused(capsys, "--model", "mixture", *flags)
    assert "mixes pictures and npz" in refused(capsys, tmp_path, *flags)
    for name in (b"\x80\x04no", b""):
        (tmp_path / "bad" / "x.npy").parent.mkdir(exist_ok=True)
        (tmp_path / "bad" / "x.npy").write_bytes(name)
        assert "no image that can be read" in refused(capsys, tmp_path / "bad", *flags)


def test_requests_that_make_no_sense_are_refused(folder, tiny, reference, tmp_path, capsys):
    flags = ("--ref", reference, "--extractor", tiny)
    assert "does not say which model" in refused(capsys, folder)
    assert "name that network" in refused(capsys, folder, "--ref", reference)
    assert "did you mean 'mnist:test'" in refused(capsys, folder, "--ref", "mnist:tst")
    assert "did you mean 'kid'" in refused(capsys, folder, *flags, "--metrics", "fd,kd")
    assert "nothing to score" in refused(capsys)
    assert "not both" in refused(capsys, folder, "--model", "mnist", *flags)
    assert "batch=0" in refused(capsys, folder, *flags, "--batch", "0")
    assert "level=1.5" in refused(capsys, folder, *flags, "--level", "1.5")
    assert "fewstep ref DATA --features" in refused(
        capsys, "--model", "mnist", "--metrics", "density", "--ref", "mnist:test"
    )
    assert main(["score", str(folder), *map(str, flags), "--out", str(tmp_path / "out")]) == 0
    assert "features of another request (other source)" in refused(
        capsys, *[save_pictures(tmp_path / "b", pictures(9)), *flags], "--out", tmp_path / "out"
    )


def test_a_manifest_says_what_belongs_to_a_run_and_a_changed_picture_is_corrupt(tmp_path, capsys):
    flags = ["--steps", "2", "--seeds", "0-2", "--batch", "2"]
    for name, form in (("out", "png"), ("npz", "npz")):
        assert main(["generate", "--out", str(tmp_path / name), *flags, "--format", form]) == 0
    capsys.readouterr()
    png, npz = (E.open_source(tmp_path / name) for name in ("out", "npz"))
    assert png.count == npz.count == 3 and len(npz.parts) == 2, "the grid picture is no sample"
    assert torch.equal(png.read(0, 3).image, npz.read(0, 3).image)
    Image.new("L", (28, 28)).save(tmp_path / "out" / "samples" / "000001.png")
    assert "000001.png: its SHA-256 is not the manifest's" in refused(capsys, tmp_path / "out")


def test_a_config_file_speaks_and_flags_override_it(folder, tiny, reference, tmp_path, capsys):
    text = (
        f"source: {folder}\nref: {reference}\nextractor: {tiny}\nmetrics: fd,kid\nresamples: "
        "20\nbatch: 9\n"
    )
    (tmp_path / "score.yaml").write_text(text)
    command = ["score", "--config", str(tmp_path / "score.yaml"), "--metrics", "fd", "--json"]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert (
        list(record["metrics"]) == ["fd"]
        and record["settings"]["batch"] == 9
        and record["settings"]["metrics"] == "fd"
    )


def test_out_is_no_folder_of_generate(tmp_path, capsys):
    """Its settings.json, without which the run could not go on, is left alone."""
    folder = tmp_path / "g"
    assert main(["generate", "--out", str(folder), "--seeds", "0-3", "--steps", "2"]) == 0
    before = (folder / "settings.json").read_bytes()
    assert main(["score", str(folder), "--out", str(folder), "--metrics", "is"]) == 3
    assert (
        "give another folder" in capsys.readouterr().err
        and (folder / "settings.json").read_bytes() == before
    )
