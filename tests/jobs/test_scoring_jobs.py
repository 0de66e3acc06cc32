"""``jobs.score`` and ``jobs.reference`` from Python: the numbers and files of the commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scoring_material import network, pictures, save_pictures

import fewstep
import fewstep.eval as E
from fewstep import checks, jobs
from fewstep.cli import main
from fewstep.cli.score import text
from fewstep.jobs import feature_blocks
from fewstep.jobs.folder_settings import FORMER_GRIDS, FORMER_SAMPLER


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return network(tmp_path_factory.mktemp("networks") / "tiny")


@pytest.fixture(scope="module")
def ref(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    np.savez(folder / "data.npz", image=pictures(120, seed=1))
    made = jobs.reference(
        folder / "data.npz", folder / "ref.safetensors", extractor=tiny, features=True
    )
    assert made.stats.count == made.features == 120 and made.images.skipped == ()
    return made.file


def test_a_reference_is_that_of_the_command(ref, tiny, tmp_path):
    data = ref.parent / "data.npz"
    command = ["ref", str(data), "--extractor", str(tiny), "--features"]
    assert main([*command, "--out", str(tmp_path / "ref.safetensors")]) == 0
    assert (tmp_path / "ref.safetensors").read_bytes() == ref.read_bytes()
    names = ("ref.safetensors.settings.json",) * 2
    a, b = (
        json.loads((f / n).read_text()) for f, n in zip((tmp_path, ref.parent), names, strict=True)
    )
    assert a == b


def test_a_score_is_that_of_the_command(ref, tiny, tmp_path, capsys):
    folder = save_pictures(tmp_path / "pictures", pictures(50, light=15.0))
    seen = []
    result = jobs.score(
        folder,
        ref=ref,
        extractor=tiny,
        metrics=["fd", "kid"],
        resamples=20,
        batch=20,
        out=tmp_path / "out",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)] and capsys.readouterr() == ("", "")
    assert result["fd"].value == result.scores["fd"].value > 0 and result.scores.count == 50
    assert json.loads((tmp_path / "out" / "score.json").read_text()) == result.record()
    command = ["score", str(folder), "--ref", str(ref), "--extractor", str(tiny), "--json"]
    command += ["--metrics", "fd,kid", "--resamples", "20", "--batch", "20"]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert {**record, "settings": None} == {**result.record(), "settings": None}


def test_samples_of_a_denoiser_are_scored():
    result = jobs.score(
        model=fewstep.models.load("mnist"),
        seeds=range(6),
        steps=1,
        ref="mnist:test",
        extractor="mnist",
        metrics="is",
    )
    by_name = jobs.score(model="mnist", seeds="0-5", steps=1, metrics="is")
    assert result["is"].value == by_name["is"].value >= 1.0
    _, info = fewstep.sample(fewstep.models.load("mnist"), steps=1, info=True)
    assert by_name.record()["reason"] == by_name.reason == info.reason
    assert by_name.images.name == f"mnist by {info.plan.name}" and info.reason in text(by_name)
    named = jobs.score(
        model="mnist", seeds="0-5", steps=1, metrics="is", sampler="ddim", grid="karras"
    )
    assert named.reason == "" and "reason" not in named.record()


def test_wrong_arguments_are_errors_of_ours(ref, tiny, tmp_path):
    folder = save_pictures(tmp_path / "pictures", pictures(9))
    wrong = [
        ({"metrics": "fd,kd"}, "kid"),
        ({"level": 1.5}, "level=1.5"),
        ({"keep": 0}, "keep=0"),
        ({"skip_corrupt": 1}, "skip_corrupt=1"),
        ({"held_out": tmp_path / "none"}, "none"),
        ({"model": "mnist"}, "not both"),
        ({"value_range": (1.0, 0.0)}, "value_range"),
    ]
    for arguments, word in wrong:
        with pytest.raises((checks.FewstepError, OSError), match=word):
            jobs.score(folder, **{"ref": ref, "extractor": tiny, **arguments})
    with pytest.raises(checks.FewstepError, match="nothing to score"):
        jobs.score()
    with pytest.raises(checks.FewstepError, match="no folder"):
        jobs.reference(folder, tmp_path / "a" / "b.npz", extractor=tiny)
    one = save_pictures(tmp_path / "one", pictures(1))
    with pytest.raises(E.ScoreError, match="at least 2"):
        jobs.score(one, ref=ref, extractor=tiny)


def test_an_option_is_no_parameter_of_the_job(tmp_path, capsys):
    """``-o steps=3`` is refused: steps= is no option of a sampler."""
    command = ["generate", "--model", "mixture", "--out", str(tmp_path / "o"), "-o", "steps=3"]
    assert main(command) == 3
    assert "no option of a sampler" in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_no_sampler_has_an_option_that_a_job_takes_itself():
    import dataclasses
    import inspect

    from fewstep.samplers import registry

    own = {
        name
        for job in (jobs.generate, jobs.score)
        for name, p in inspect.signature(job).parameters.items()
        if p.kind is not p.VAR_KEYWORD
    }
    for name in registry.names():
        options = registry.make_options(registry.get(name), {})
        assert not {field.name for field in dataclasses.fields(options)} & own, name


def test_features_of_the_defaults_of_version_0_1_are_found_by_their_names(tmp_path, monkeypatch):
    """Its grid ``auto`` is ``auto_0_1`` now; the bare command is told so."""
    bare = {"model": "mnist", "seeds": "0-3", "steps": 1, "metrics": "is", "out": tmp_path}
    former = {"sampler": FORMER_SAMPLER, "grid": FORMER_GRIDS["auto"]}
    first = jobs.score(**bare, **former)
    identity = tmp_path / "identity.json"
    made = json.loads(identity.read_text())
    identity.write_text(json.dumps({**made, "grid": "auto"}))
    monkeypatch.setattr(feature_blocks, "_compute", None)
    words = "other sampler.*grid='auto_0_1' .--sampler dpmpp_2m --grid auto_0_1. draws as it did"
    with pytest.raises(checks.FewstepError, match=words):
        jobs.score(**bare)
    assert jobs.score(**bare, **former)["is"].value == first["is"].value
