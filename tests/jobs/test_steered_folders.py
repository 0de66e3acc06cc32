"""Folders of samples that a reward chose: contents, resumption, and what is refused before the folder
is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import Reward, steer
from fewstep.jobs import generate
from fewstep.jobs.rewards import load_reward, reward_hash, reward_name

DEN = fewstep.models.load("mixture")


def right(x: torch.Tensor) -> torch.Tensor:
    """The first coordinate."""
    return x[:, 0]


def drawn(out: Path, **given: Any) -> Any:
    return generate(
        DEN,
        out,
        **{"seeds": range(6), "labels": None, "steps": 5, "steer": "smc", "reward": right}
        | {"particles": 4, "format": "npz"}
        | given,
    )


def samples(made: Any) -> np.ndarray:
    return np.concatenate([np.load(file)["x"] for file in made.files])


def test_the_folder_holds_what_steer_returns(tmp_path):
    made = drawn(tmp_path / "a", steer_option={"temperature": 0.5})
    x, info = steer(DEN, right, method="smc", steps=5, particles=4, seeds=range(6), temperature=0.5)
    assert np.array_equal(samples(made), x.numpy())
    rows = made.manifest["samples"]
    assert [row["reward"] for row in rows] == info.rewards.tolist()
    assert [row["log_evidence"] for row in rows] == info.log_evidence.tolist()
    assert made.manifest["particles"] == 4 and made.manifest["sampler"] == "ddim"
    assert made.manifest["reward"].endswith(":right")


def test_blocks_do_not_change_an_exact_model_and_a_killed_run_goes_on(tmp_path):
    whole, cut = drawn(tmp_path / "a"), drawn(tmp_path / "b", batch=2)
    assert np.array_equal(samples(whole), samples(cut))
    (tmp_path / "b" / "blocks" / "00001.json").unlink()
    before = {file: file.read_bytes() for file in cut.files}
    again = drawn(tmp_path / "b", batch=2)
    assert {file: file.read_bytes() for file in again.files} == before
    assert again.manifest == cut.manifest


def test_a_changed_reward_is_another_folder(tmp_path):
    file = tmp_path / "rewards.py"
    file.write_text("def one(x):\n    return x[:, 0]\n")
    name = f"{file}:one"
    drawn(tmp_path / "a", reward=name)
    drawn(tmp_path / "a", reward=name, seeds=range(8))
    file.write_text("def one(x):\n    return -x[:, 0]\n")
    with pytest.raises(ArgumentError, match="other settings: reward"):
        drawn(tmp_path / "a", reward=name)
    with pytest.raises(ArgumentError, match="reward"):
        drawn(tmp_path / "a", reward=right)
    with pytest.raises(ArgumentError, match="particles"):
        drawn(tmp_path / "a", particles=8)


def test_functions_of_one_file_and_what_they_take_have_hashes_of_their_own():
    first = Reward(lambda x: x[:, 0])
    second = Reward(lambda x: -x[:, 0])
    hashes = {reward_hash(r) for r in (first, second, Reward(second.function, takes="numpy"))}
    assert len(hashes) == 3


def test_folders_without_a_reward_are_as_before(tmp_path):
    plain = generate(DEN, tmp_path / "a", seeds=range(2), labels=None, steps=3, format="npz")
    assert "reward" not in plain.manifest["samples"][0]
    settings = tmp_path / "a" / "settings.json"
    old = json.loads(settings.read_text())
    for key in ("steer", "reward", "particles", "steer_option"):
        del old[key]
    settings.write_text(json.dumps(old))
    generate(DEN, tmp_path / "a", seeds=range(2), labels=None, steps=3, format="npz")


def test_rewards_by_name(tmp_path, monkeypatch):
    file = tmp_path / "my_rewards.py"
    file.write_text(
        "from fewstep.guidance import Reward\n"
        "def one(x):\n    return x[:, 0]\n"
        "pictures = Reward(lambda images: [1.0] * len(images), takes='pil')\n"
    )
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert load_reward(f"{file}:one")(x).tolist() == [1.0, 3.0]
    monkeypatch.chdir(tmp_path)
    assert load_reward("my_rewards:one")(x).tolist() == [1.0, 3.0]
    assert load_reward(f"{file}:pictures").takes == "pil"
    own = Reward(right)
    assert load_reward(own) is own
    assert reward_name(own) == f"{__name__}:right"
    hashes = {reward_hash(load_reward(f"{file}:{name}")) for name in ("one", "pictures")}
    assert len({*hashes, reward_hash(own)}) == 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"steer": "smz"}, "did you mean 'smc'"),
    ({"reward": None}, "without reward="),
    ({"steer": None}, "reward= without steer="),
    ({"steer": None, "reward": None}, "particles= without steer="),
    ({"particles": 0}, "particles=0"),
    ({"sampler": "unipc"}, "adds none"),
    ({"steer_option": {"temprature": 1.0}}, "did you mean 'temperature'"),
    ({"reward": "rewards"}, "package.module:function"),
    ({"reward": "no_such_file.py:f"}, "there is no file"),
    ({"reward": "no_such_module:f"}, "cannot be imported"),
    ({"reward": "fewstep.jobs.rewards:load_rewards"}, "did you mean 'load_reward'"),
    ({"reward": 3}, "must be a function"),
]


@pytest.mark.parametrize(("given", "text"), BAD)
def test_what_cannot_be_steered_is_refused_before_the_folder_is_made(tmp_path, given, text):
    with pytest.raises(ArgumentError, match=text):
        drawn(tmp_path / "a", **given)
    assert not (tmp_path / "a").exists()


def test_a_broken_file_is_told(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import no_such_thing\n")
    with pytest.raises(ArgumentError, match="cannot be run: ModuleNotFoundError"):
        drawn(tmp_path / "a", reward=f"{file}:f")
