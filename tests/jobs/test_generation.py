"""``jobs.generate`` from Python: a denoiser object or a name, one result, exceptions, no output."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_hashes import tree

import fewstep
from fewstep import checks, jobs
from fewstep.cli import main
from fewstep.jobs.drawing import DrawingSettings
from fewstep.jobs.guidance import GuidanceSettings
from fewstep.jobs.hashes import denoiser_hash
from fewstep.jobs.settings import labels_text, parse_seeds, seeds_text, size_text
from fewstep.jobs.steering import SteeringSettings
from fewstep.schedules import VPLinear

QUICK = {"steps": 2, "batch": 4}


def mixture():
    return fewstep.models.load("mixture")


def test_a_denoiser_object_draws_what_sample_draws(tmp_path, capsys):
    seen = []
    made = jobs.generate(
        mixture(),
        tmp_path / "out",
        seeds=range(3, 9),
        labels=None,
        progress=lambda done, total: seen.append((done, total)),
        **QUICK,
    )
    want, info = fewstep.sample(mixture(), steps=2, n=6, seed=3, info=True)
    found = np.concatenate([np.load(file)["x"] for file in made.files])
    assert np.array_equal(found, want.numpy()) and seen == [(1, 2), (2, 2)]
    assert made.finished and made.picture.is_file() and made.manifest["nfe"] == info.nfe
    assert (made.manifest["sampler"], made.manifest["reason"]) == (info.plan.name, info.reason)
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["seeds"] == "3-8"
    assert made.manifest["model"] == "GaussianMixture"
    assert capsys.readouterr() == ("", "")


def test_a_second_call_goes_on_and_another_denoiser_is_refused(tmp_path):
    jobs.generate(mixture(), tmp_path, seeds=range(6), **QUICK)
    before = tree(tmp_path)
    (tmp_path / "samples" / "block-00001.npz").unlink()
    jobs.generate(mixture(), tmp_path, seeds=range(6), **QUICK)
    assert tree(tmp_path) == before
    other = mixture()
    other.means[0, 0] += 1e-3
    with pytest.raises(checks.FewstepError, match="model_sha256"):
        jobs.generate(other, tmp_path, seeds=range(6), **QUICK)
    assert tree(tmp_path) == before


def test_the_call_and_the_command_write_the_same_bytes(tmp_path):
    command = ["--seeds", "0-5", "--batch", "4", "--steps", "2", "--sampler", "unipc"]
    command += ["-o", "order=3", "--labels", "7,1"]
    assert main(["generate", "--out", str(tmp_path / "a"), "--model", "mixture", *command]) == 0
    made = jobs.generate(
        "mixture", tmp_path / "b", seeds=range(6), sampler="unipc", order=3, labels=[7, 1], **QUICK
    )
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert [row["label"] for row in made.manifest["samples"]] == [7, 1, 7, 1, 7, 1]


def test_a_process_that_is_not_the_last_has_no_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, finished in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        made = jobs.generate("mixture", tmp_path, seeds=range(8), **QUICK)
        assert made.finished is finished and len(made.files) == 2 * finished


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"stepss": 3}, "stepss"),
        ({"sampler": "dpmpp2m"}, "dpmpp_2m"),
        ({"batch": 0}, "batch=0"),
        ({"batch": "4"}, "batch='4'"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [0.5]}, "a seed=0.5"),
        ({"seeds": []}, "at least one"),
        ({"seeds": range(-3, 2)}, "a seed=-3"),
        ({"labels": [99]}, "0 to 7"),
        ({"format": "jpg"}, "png"),
        ({"size": (0, 8)}, "size=0"),
        ({"device": "abacus"}, "abacus"),
        ({"final": "Zero"}, "zero"),
        ({"sampler": "unipc", "order": {1: 2}}, "'order'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_errors_of_ours(wrong, word, tmp_path):
    with pytest.raises(checks.FewstepError, match=word):
        jobs.generate(mixture(), tmp_path / "out", **{**QUICK, **wrong})
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_none(tmp_path):
    with pytest.raises(checks.FewstepError, match="model=None"):
        jobs.generate(None, tmp_path / "out")
    with pytest.raises(checks.FewstepError):
        jobs.generate(torch.nn.Linear(2, 2), tmp_path / "out")
    with pytest.raises(checks.FewstepError, match="size=8"):
        jobs.generate(mixture(), tmp_path / "out", size=8)


def test_texts_of_settings():
    for seeds in (range(64), range(5, 6), [5, 1, 2, 3, 9], (4,), range(0, 9, 3), {7: 1}.keys()):
        assert parse_seeds(seeds_text(seeds)) == tuple(seeds)
    assert seeds_text(range(64)) == "0-63" and seeds_text([5, 1, 2, 3, 9]) == "5,1-3,9"
    assert seeds_text(np.arange(4)) == "0-3" and seeds_text("0-3,9") == "0-3,9"
    assert (size_text((64, 96)), size_text(64), size_text(None)) == ("64x96", 64, None)
    assert (labels_text([7, 1]), labels_text(None), labels_text("random")) == (
        "7,1",
        "none",
        "random",
    )


def test_settings_are_those_of_the_call():
    """``DrawingSettings`` has the defaults of ``generate``, but for the options."""
    of_call = inspect.signature(jobs.generate).parameters
    of_class = inspect.signature(DrawingSettings).parameters
    shared = of_call.keys() & of_class.keys() - {"seeds"}
    assert {name: of_call[name].default for name in shared} == {
        name: of_class[name].default for name in shared
    }
    assert set(of_class) - set(of_call) == {"option", "guide", "steering"}
    of_guide = inspect.signature(GuidanceSettings).parameters
    of_steering = inspect.signature(SteeringSettings).parameters
    assert all(of_call[name].default is None for name in (*of_guide, *of_steering))


# --- the hash of a denoiser object


def network(seed: int = 0) -> torch.nn.Module:
    net = torch.nn.Linear(3, 3)
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(torch.arange(p.numel()).reshape(p.shape) / 7 + k + seed)
    return net


def wrapped(seed: int = 0, prediction: str = "eps", schedule=None) -> fewstep.models.Denoiser:
    net = network(seed)
    return fewstep.models.wrap(
        lambda x, t, cond=None: net(x), schedule or VPLinear(), prediction, shape=(3,)
    )


def test_the_hash_of_a_denoiser_follows_its_numbers():
    assert denoiser_hash(wrapped()) == denoiser_hash(wrapped())
    others = [wrapped(1), wrapped(0, "v"), wrapped(0, "eps", VPLinear(0.2, 19.0)), mixture()]
    assert len({denoiser_hash(d) for d in (wrapped(), *others)}) == 5
    bundled = fewstep.models.load("mnist")
    before = denoiser_hash(bundled)
    fewstep.sample(bundled, steps=2, n=2)
    assert denoiser_hash(bundled) == before == denoiser_hash(copy.deepcopy(bundled)), (
        "a run changes nothing that is hashed"
    )
    with torch.no_grad():
        next(bundled.network.parameters()).view(-1)[0] += 1e-3
    assert denoiser_hash(bundled) != before


@pytest.mark.parametrize("sampler", ["unipc", "heun"])
def test_a_run_does_not_change_the_hash(sampler):
    """What a denoiser keeps for its next call is not hashed."""
    data = torch.arange(12.0).reshape(4, 3)
    kinds = [mixture(), fewstep.models.Empirical(data, VPLinear()), wrapped()]
    for den in kinds:
        before = denoiser_hash(den)
        fewstep.sample(den, n=2, sampler=sampler, nfe=12)
        assert denoiser_hash(den) == before


def test_a_denoiser_that_refers_to_itself():
    den = mixture()
    object.__setattr__(den, "me", den)
    assert denoiser_hash(den) == denoiser_hash(den) != denoiser_hash(mixture())


def test_the_hash_is_the_same_in_another_process(tmp_path):
    import subprocess
    import sys

    code = (
        "import fewstep\nfrom fewstep.jobs.hashes import denoiser_hash\n"
        "print(denoiser_hash(fewstep.models.load('mixture')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == denoiser_hash(mixture())


def test_paths_are_texts(tmp_path):
    model = Path(fewstep.models.__file__).parent / "bundled" / "mnist"
    made = jobs.generate(model, tmp_path / "a", seeds=[3], steps=1, labels=7)
    assert made.manifest["model"] == str(model) and made.manifest["samples"][0]["label"] == 7
