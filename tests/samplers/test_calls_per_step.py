"""Network calls that a step costs, as ``fewstep samplers`` says them, against the methods."""

from __future__ import annotations

import argparse
import json

import pytest

from fewstep.cli import samplers
from fewstep.samplers import names

#: one call a step, unless named here
CALLS = {
    **dict.fromkeys(
        (
            "heun",
            "dpm2",
            "dpm2_ancestral",
            "dpm_solver_2",
            "dpmpp_2s",
            "dpmpp_2s_ancestral",
            "dpmpp_2s_ancestral_cfg_pp",
            "rectified_cfg_pp",
            "dpmpp_sde",
            "edict",
            "seeds_2",
            "res_2s",
        ),
        2,
    ),
    **dict.fromkeys(
        ("midpoint", "pfgmpp", "restart", "interpolant_ode", "flow_heun", "flow_midpoint"), 2
    ),
    **dict.fromkeys(("dpm_solver_3", "dpmpp_3s", "seeds_3", "res_3s", "flow_heun3"), 3),
    **dict.fromkeys(("etdrk4", "flow_rk4"), 4),
    "skipped": 0.5,
}
APART = ("dpm_fast",)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, object]]:
    return {name: samplers.summary(name) for name in names()}


@pytest.mark.parametrize("name", [name for name in names() if name not in APART])
def test_calls_of_a_further_step(name: str, rows: dict[str, dict[str, object]]) -> None:
    row = rows[name]
    assert row["nfe_per_step"] == (None if row["form"] == "driver" else CALLS.get(name, 1))


def test_the_list_says_the_same(
    rows: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    samplers.add_arguments(parser)
    assert samplers.execute(parser.parse_args(["--json"])) == 0
    assert {row["name"]: row["nfe_per_step"] for row in json.loads(capsys.readouterr().out)} == {
        k: v["nfe_per_step"] for k, v in rows.items()
    }
