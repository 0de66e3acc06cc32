"""Scheduler configs that version 0.1 saved still load, and their runs are the same."""

from __future__ import annotations

import json
from math import copysign, cos, isinf

import pytest
from repository import ROOT

from fewstep import FewstepScheduler

FOLDER = ROOT / "tests" / "golden" / "version_0_1"
CONFIGS = json.loads((FOLDER / "schedulers.json").read_text(encoding="utf-8"))
#: times, network calls and a weighted sum of all coefficients of a run of six steps
RUNS = json.loads((FOLDER / "scheduler_runs.json").read_text(encoding="utf-8"))


def weighted_sum(numbers):
    """``sum w x`` and ``sum |w x|`` with weights that no two numbers share."""
    terms = [
        cos(1.7 * k) * (copysign(1000.0, x) if isinf(x) else x) for k, x in enumerate(numbers, 1)
    ]
    return sum(terms), sum(map(abs, terms))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_version_0_1_gives_its_run(name, tmp_path):
    config, run = CONFIGS[name], RUNS[name]
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    for scheduler in (
        FewstepScheduler.from_config(config),
        FewstepScheduler.from_pretrained(tmp_path),
    ):
        scheduler.set_timesteps(6, **({"mu": 0.8} if config.get("use_dynamic_shifting") else {}))
        assert scheduler.timesteps.tolist() == run["timesteps"]
        assert scheduler.nfe == run["nfe"]
        total, size = weighted_sum(scheduler.plan.coefficients)
        assert total == pytest.approx(run["coefficients"][0], abs=1e-12 * size)
        assert size == pytest.approx(run["coefficients"][1], rel=1e-12)


def test_every_config_has_a_run():
    assert len(CONFIGS) >= 13 and CONFIGS.keys() == RUNS.keys()


#: options of every sampler, as version 0.1 saved them, on two bases
OPTIONS = json.loads((FOLDER / "scheduler_options.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", OPTIONS["runs"])
def test_options_of_version_0_1_give_their_run(name):
    kept = OPTIONS["runs"][name]
    scheduler = FewstepScheduler.from_config({**OPTIONS["bases"][kept["base"]], **kept["config"]})
    scheduler.set_timesteps(6)
    assert scheduler.nfe == kept["nfe"]
    total, size = weighted_sum(scheduler.plan.coefficients)
    assert total == pytest.approx(kept["coefficients"][0], abs=1e-12 * size)
    assert size == pytest.approx(kept["coefficients"][1], rel=1e-12)
