"""Samplers compared on physical fields: exact denoisers of solutions have small errors at many
network calls and the data's distance; a collapsed one is told apart; the command."""

from __future__ import annotations

import json

import pytest

from fewstep import cli
from fewstep.checks import ArgumentError
from fewstep.eval.errors import ScoreError
from fewstep.eval.physics import darcy
from fewstep.eval.physics.tasks.measures import MEASURES, Reference
from fewstep.eval.physics.tasks.runner import bench_task
from fewstep.eval.physics.tasks.settings import PRESETS, TaskSettings
from fewstep.eval.physics.tasks.table import record, table
from fewstep.eval.physics.tasks.task import TASKS
from fewstep.models import Empirical, FieldMap, FieldMaps, wrap
from fewstep.schedules import EDM

MAPS = FieldMaps((FieldMap("a", 0.2, -1.5), FieldMap("u", 115.0, -0.9)))
SIZE = 12


def quick(sampler, *nfes):
    return TaskSettings((sampler,), nfes=nfes, samples=32, reference=64, batch=16)


def solutions(n, seed=0):
    return darcy.draw(n, SIZE, seed)


def model(n, seed=0):
    return Empirical(MAPS.channels(solutions(n, seed).fields), EDM(0.002, 80.0))


@pytest.fixture(scope="module")
def reference():
    return Reference(TASKS["darcy"], MAPS, solutions(128, 500))


@pytest.fixture(scope="module")
def found():
    return bench_task("darcy", model(256), MAPS, settings=quick("heun", 2, 30))


def test_solutions_have_no_error(reference):
    m = reference.ratings(MAPS.channels(solutions(32, 900).fields))
    assert tuple(m) == MEASURES
    assert m["relative_residual"].value < 1e-9 and m["relative_l2"].value < 1e-9
    assert m["boundary_error"].value == 0.0 and 0.5 < m["spread"].value < 2.0
    assert m["energy_distance"].low < 0.05


def test_measures_are_those_of_the_formulas(reference):
    fields, spacing, params = solutions(8, 900)
    fields = {"a": fields["a"] + 0.5, "u": 1.1 * fields["u"]}
    m = reference.ratings(MAPS.channels(fields))
    r = darcy.residual(fields, spacing, params).square().mean((1, 2)).sqrt().mean()
    assert m["relative_residual"].value == pytest.approx(float(r), rel=1e-6)
    assert m["relative_l2"].value == pytest.approx(0.1, rel=1e-6)
    assert m["relative_residual"].low < m["relative_residual"].value


def test_a_collapsed_distribution_is_told_by_its_coverage(reference):
    m = reference.ratings(MAPS.channels(solutions(1, 900).fields).expand(32, -1, -1, -1))
    assert m["relative_residual"].value < 1e-9 and m["relative_l2"].value < 1e-9
    assert m["spread"].value < 1e-12 and m["energy_distance"].value > 0.3


def test_more_calls_have_smaller_errors(found):
    few, many = (row.measures for row in found.rows)
    assert [row.nfe for row in found.rows] == [1, 29]
    assert many["relative_l2"].value < 0.02 < few["relative_l2"].value
    for name in ("relative_residual", "energy_distance"):
        assert many[name].value < few[name].value
    assert found.data["relative_residual"].value < 1e-4
    assert found.data["relative_l2"].value < 1e-6


def test_tables_and_records_hold_every_row(found):
    text, kept = table(found), record(found, "fewstep bench")
    assert text.count("\n| heun") == 2 and "| data (float32) |" in text
    assert [row["relative_l2"] for row in kept["rows"]] == [
        row.measures["relative_l2"].value for row in found.rows
    ]
    assert json.loads(json.dumps(kept, allow_nan=False))["settings"]["samples"] == 32


def test_a_refused_case_is_a_row_that_says_why():
    result = bench_task("darcy", model(64), MAPS, settings=quick("ode45", 1))
    assert result.rows[0].measures is None and "max_nfe=1" in result.rows[0].skipped
    assert "skipped" in table(result)


def test_presets_are_valid():
    assert {name: TaskSettings(**values).samples for name, values in PRESETS.items()}["quick"] == 32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bench_task("darzy"), ArgumentError, "did you mean 'darcy'"),
        (lambda: bench_task("darcy", model(8)), ScoreError, "both or neither"),
        (lambda: TaskSettings(samples=2), ArgumentError, "samples=2"),
        (lambda: TaskSettings(samplers=("heum",)), ArgumentError, "heun"),
        (
            lambda: bench_task("darcy", model(8), FieldMaps((FieldMap("a"), FieldMap("v")))),
            ScoreError,
            "needs",
        ),
        (
            lambda: bench_task(
                "darcy", wrap(lambda x, t: x, EDM(0.002, 80.0), prediction="x0"), MAPS
            ),
            ScoreError,
            "one channel a field",
        ),
    ],
)
def test_bad_settings_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--task", "darzy"], 3, "did you mean 'darcy'"),
        (["--task", "darcy", "--tolerance", "1e-3"], 2, "takes no --tolerance"),
        (["--task", "darcy", "--budget", "8"], 2, "takes no --budget"),
        (["--task", "darcy", "--models", "mnist", "cifar10"], 2, "on one model"),
        (["--task", "darcy", "--preset", "quik"], 3, "quick"),
        (["--task", "darcy", "--models", "mnist"], 3, "models no physical fields"),
    ],
)
def test_the_command_refuses(flags, code, message, capsys, tmp_path):
    assert cli.main(["bench", *flags, "--out", str(tmp_path)]) == code
    assert message in capsys.readouterr().err
