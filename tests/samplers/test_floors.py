"""The error that samplers which step in t keep on a table: stated, warned of where it bites,
measured."""

from __future__ import annotations

import warnings

import pytest
from repository import ROOT

import fewstep
from fewstep.cli.certify_tables import TABLES
from fewstep.eval.certificates.table_floors import FloorCertificate, certify_floor
from fewstep.samplers.floors import FLOORS, FloorWarning
from fewstep.schedules import DiscreteVP, VPLinear

TABLE = DiscreteVP.from_betas([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)])


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOORS)
def test_the_floor_is_where_it_is_said_to_be(name):
    found = certify_floor(name)
    assert found.passed and found.stated == fewstep.samplers.describe(name)["table_floor"]
    by_order = found.errors[0][1] * (found.errors[0][0] / found.errors[2][0]) ** found.order
    assert found.errors[2][1] > by_order / 2.0, (
        "640 steps would be below the floor by the order alone"
    )


def test_a_verdict_has_two_sides():
    def at(error):
        return FloorCertificate(
            "flow_heun", 2.0, 1e-4, ((40, 1e-3), (160, error), (640, 1e-5))
        ).passed

    assert at(1e-4) and at(4.9e-4) and at(2.1e-5) and not at(5.1e-4) and not at(1.9e-5)


def test_others_have_none():
    with pytest.raises(fewstep.FewstepError, match="flow_heun"):
        certify_floor("heun")


def test_the_page_has_every_floor():
    page = (ROOT / "docs/certificates.md").read_text(encoding="utf-8")
    assert TABLES["floors"].preface in page
    section = page.split(TABLES["floors"].preface)[1].splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in section[3:]] == list(FLOORS)
    assert all(line.endswith("| pass |") for line in section[3:])


@pytest.mark.parametrize(
    ("name", "steps", "schedule", "warned"),
    [
        ("flow_heun", 41, TABLE, True),
        ("flow_heun", 40, TABLE, False),
        ("flow_heun", 80, VPLinear(), False),
        ("heun", 80, TABLE, False),
    ],
)
def test_the_warning_comes_where_it_bites(name, steps, schedule, warned):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fewstep.plan(name, schedule, steps=steps, grid="uniform")
    assert [w.category for w in seen] == [FloorWarning] * warned
