"""Schedule configs and grids written by version 0.1 load for ever: ``golden/version_0_1``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from repository import ROOT

from fewstep.schedules import from_config, grid, names, to_config

ROWS: list[dict[str, Any]] = json.loads(
    (ROOT / "tests" / "golden" / "version_0_1" / "schedules.json").read_text()
)
OPTIONS: dict[str, dict[str, Any]] = {
    "auto": {},
    "karras": {"rho": 5.0},
    "logSNR": {"drop_last": True},
    "beta": {"a": 0.5, "b": 0.7},
}
#: names of version 0.1 that stand for another grid now
NOW = {"auto": "auto_0_1"}


def test_every_schedule_of_version_0_1_is_there() -> None:
    assert {row["config"]["schedule"] for row in ROWS} <= set(names()) and len(ROWS) == 14


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["config"]["schedule"])
def test_a_config_and_its_grids(row: dict[str, Any]) -> None:
    schedule = from_config(row["config"])
    assert json.loads(json.dumps(to_config(schedule))) == row["config"]
    for name, options in OPTIONS.items():
        times = grid(NOW.get(name, name), schedule, 3, **options).times
        assert times == pytest.approx([float(v) for v in row["grids"][name]], rel=1e-13, abs=1e-15)
