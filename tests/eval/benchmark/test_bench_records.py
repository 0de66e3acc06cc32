"""Records of a benchmark: those of version 0.1 and of older plan formats, new columns, and what
stops a run or becomes a row."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import fewstep
from fewstep import cli
from fewstep.checks import FewstepError
from fewstep.eval import bench
from fewstep.eval.benchmark.rows import NUMBERS, SHOWN, Row, columns
from fewstep.eval.benchmark.store import LEFT_OUT, NEEDED, Store, key_of, missing
from fewstep.files import sha256
from fewstep.jobs.folder_settings import FORMER_GRIDS
from fewstep.models.errors import ModelError
from fewstep.plans.instructions import Combine
from fewstep.plans.plan import Plan

GOLDEN = Path(__file__).parents[2] / "golden" / "version_0_1" / "bench"
WHOLE = json.loads((GOLDEN / "bench.json").read_text())
SETTINGS = WHOLE["settings"]
#: the rows, by today's names of the grids
OLD = [{**row, "grid": FORMER_GRIDS.get(row["grid"], row["grid"])} for row in WHOLE["rows"]]
GIVEN = {k: SETTINGS[k] for k in ("samplers", "nfes", "n")}
GIVEN["grids"] = [FORMER_GRIDS.get(name, name) for name in SETTINGS["grids"]]


@pytest.fixture
def kept(tmp_path) -> Path:
    """The folder of a benchmark that version 0.1 made."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "bench"))


def old_columns(folder: Path) -> list[dict]:
    """The rows of today's benchmark in that folder, as far as version 0.1 had their columns."""
    rows = bench("mixture", out=folder, **GIVEN).rows
    return [{k: row.numbers()[k] for k in old} for row, old in zip(rows, OLD, strict=True)]


def rewrite(path: Path, change) -> None:
    """Change a record and its hash, and name its file by its facts."""
    whole = json.loads(path.read_text())
    change(whole)
    whole["sha256"] = sha256(json.dumps(whole["record"], sort_keys=True))
    path.unlink()
    kind = path.name.partition("-")[0]
    path.with_name(f"{kind}-{key_of(whole['facts'])}.json").write_text(json.dumps(whole))


# --- old records


def test_rows_of_version_0_1_are_taken(kept):
    """Every column that they have; that the wall times are equal shows that none was replaced."""
    assert old_columns(kept) == OLD and all(row["milliseconds"] > 0.0 for row in OLD)


def test_rows_on_the_grid_auto_of_version_0_1_are_not_those_of_today(kept):
    """They are measured, and lie beside the old ones; those on other grids are taken."""
    files = {path.name: path.read_bytes() for path in (kept / "rows").iterdir()}
    assert "auto" in SETTINGS["grids"]
    rows = bench("mixture", out=kept, **{**GIVEN, "grids": SETTINGS["grids"]}).rows
    for row, old in zip(rows, OLD, strict=True):
        same = row.numbers()["milliseconds"] == old["milliseconds"]
        assert same == (row.grid != "auto")
        assert row.stochastic or (row.rmse == old["rmse"]) == same
    assert files.items() <= {p.name: p.read_bytes() for p in (kept / "rows").iterdir()}.items()
    assert old_columns(kept) == OLD


def test_a_record_does_not_depend_on_the_words_of_a_reason(tmp_path, monkeypatch):
    settings = {"samplers": ["auto"], "grids": ["auto"], "nfes": [6], "n": 2}
    (first,) = bench("mixture", out=tmp_path, **settings).rows
    monkeypatch.setattr("fewstep.engine.planning.auto_reason", lambda *given: "other words")
    assert bench("mixture", out=tmp_path, **settings).rows == (first,)
    named = {**settings, "samplers": [first.ran.partition("(")[2][:-1].replace(", ", ":", 1)]}
    (row,) = bench("mixture", out=tmp_path, **named).rows
    assert row.milliseconds == first.milliseconds and len(list((tmp_path / "rows").iterdir())) == 1


def test_rows_whose_plan_was_written_otherwise_are_taken(kept):
    """Another order of keys, and coefficients that differ by rounding, as a later format or another
    order of sums would make them; a plan that differs by more is another plan."""

    def reformatted(whole) -> None:
        whole["facts"]["plan"] = json.dumps(
            dict(reversed(json.loads(whole["facts"]["plan"]).items()))
        )

    def rounded(whole, by: float = 1.0 + 2.0**-52) -> None:
        plan = json.loads(whole["facts"]["plan"])
        step = next(i for i in plan["code"] if "combine" in i)
        step["terms"][0][1] *= by
        whole["facts"]["plan"] = json.dumps(plan)

    names = {path.name for path in (kept / "rows").iterdir()}
    for k, path in enumerate(sorted((kept / "rows").iterdir())):
        rewrite(path, reformatted if k % 2 else rounded)
    assert not names & {path.name for path in (kept / "rows").iterdir()}
    assert old_columns(kept) == OLD
    for path in sorted((kept / "rows").iterdir()):
        rewrite(path, lambda whole: rounded(whole, by=1.0 + 1e-9))
    for new, old in zip(old_columns(kept), OLD, strict=True):
        assert new["milliseconds"] != old["milliseconds"] and new["nfe"] == old["nfe"]


def test_a_record_with_other_facts_is_another_record(kept):
    (path, *_) = sorted((kept / "rows").iterdir())
    facts = json.loads(path.read_text())["facts"]
    store = Store(kept)
    assert store.record("error", facts) is not None
    spaced = {**facts, "plan": facts["plan"] + " "}
    assert store.record("error", spaced) == store.record("error", facts)
    for change in ({"n": 9}, {"final": "sigma_min"}, {"weights": "x"}, {"new": 1}):
        assert store.record("error", {**spaced, **change}) is None
    assert store.record("quality", spaced) is None
    other = Plan.from_json(facts["plan"]).renamed("other").to_json()
    assert store.record("error", {**facts, "plan": other}) is None
    assert store.record("error", {**facts, "plan": "('ode45', ODE45(), (1.0, 0.0))"}) is None
    assert any(isinstance(i, Combine) for i in Plan.from_json(facts["plan"]).code)


def test_a_solver_error_is_shared_by_runs_with_and_without_quality(kept):
    """The metric does not decide it; records of version 0.1 that name the metric are taken too."""
    rows = bench("mixture", out=kept, samples=200, top=1, **GIVEN).rows
    assert [row.milliseconds for row in rows] == [row["milliseconds"] for row in OLD]
    assert any(row.quality is not None for row in rows)

    def named(whole) -> None:
        whole["facts"]["metric"] = "SW2"

    for path in sorted((kept / "rows").glob("error-*")):
        rewrite(path, named)
    assert old_columns(kept) == OLD


def test_a_driver_is_found_by_the_text_of_its_options(tmp_path):
    """A driver has no plan to be compared."""
    settings = {"samplers": ["ode45"], "grids": ["auto"], "nfes": [400], "n": 2}
    (first,) = bench("mixture", out=tmp_path, **settings).rows
    assert first.rmse is not None
    (path,) = (tmp_path / "rows").iterdir()
    rewrite(path, lambda whole: whole["facts"].update(metric="SW2"))
    (again,) = bench("mixture", out=tmp_path, **settings).rows
    assert again.milliseconds == first.milliseconds


# --- columns


def test_columns_follow_from_the_fields_of_a_row():
    asked = {"model", "sampler", "grid", "budget"}
    ranks = {"rank", "tied", "quality_rank", "quality_tied", "skipped"}
    measured = {*columns("error"), *columns("quality")}
    assert {f.name for f in fields(Row)} == asked | ranks | measured
    assert not (asked | ranks) & measured and not {*columns("error")} & {*columns("quality")}
    for kind in ("error", "quality"):
        assert NEEDED[kind] <= set(columns(kind)) and set(LEFT_OUT[kind]) <= set(columns(kind))
    hidden = {"picture", "points", "squares"}
    assert set(SHOWN) == {f.name for f in fields(Row)} - hidden
    assert {*columns("error"), *columns("quality")} - NUMBERS == hidden | {"call", "stochastic"}


def test_a_column_that_a_record_lacks_is_measured_and_the_others_stay(kept):
    """As if the column had been added after the record was written."""

    def older(whole) -> None:
        del whole["record"]["milliseconds"]
        whole["record"]["relative"] = 0.125  # as it was measured then

    for path in sorted((kept / "rows").iterdir()):
        rewrite(path, older)
    result = bench("mixture", out=kept, **GIVEN)
    assert all(row.milliseconds > 0.0 and row.relative == 0.125 for row in result.rows)
    assert [row.rmse for row in result.rows] == [row["rmse"] for row in OLD]
    found = [json.loads(path.read_text()) for path in (kept / "rows").iterdir()]
    # files whose plan is written in the format of version 0.1 stay beside those of today
    now = [each["record"] for each in found if "fewstep.plan/1" not in each["facts"]["plan"]]
    assert len(now) == len(found) / 2 > 0
    for record in now:
        assert set(record) == set(columns("error")) and not missing("error", record)
    assert missing("error", {"nfe": 1}) == set(columns("error")) - {"nfe"}


# --- errors


class Failing(torch.nn.Module):
    """E[x0 | x] of a Gaussian; raises ``error`` once it was called ``after`` times."""

    def __init__(self, error: BaseException, after: int) -> None:
        super().__init__()
        self.error, self.after, self.calls = error, after, 0

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > self.after:
            raise self.error
        return 0.25 * x / (0.25 + t.view(-1, 1, 1, 1) ** 2)


def failing(error: BaseException, after: int = 10**9):
    schedule = fewstep.schedules.EDM(0.02, 20.0)
    return fewstep.models.wrap(Failing(error, after), schedule, "x0", time="sigma", shape=(1, 4, 4))


SMALL = {"samplers": ["ddim", "heun"], "grids": ["auto"], "nfes": [3, 5], "n": 2, "tolerance": 0.5}


@pytest.mark.parametrize(
    "error", [ValueError("bug"), TypeError("bug"), KeyError("bug"), OSError(5)]
)
def test_a_bug_stops_the_run_and_finished_rows_are_kept(error, tmp_path):
    whole = failing(error)
    first = bench({"m": whole}, out=tmp_path / "whole", **SMALL)
    calls = whole.network.calls
    model = failing(error, calls - 4)  # inside the last row
    with pytest.raises(type(error)) as raised:
        bench({"m": model}, out=tmp_path / "stopped", **SMALL)
    assert raised.value is error and raised.traceback[-1].name == "forward"
    rows = sorted((tmp_path / "stopped" / "rows").iterdir())
    assert len(rows) == 3
    model.network.after = 10**9
    second = bench({"m": model}, out=tmp_path / "stopped", **SMALL)
    assert [row.rmse for row in second.rows] == [row.rmse for row in first.rows]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        ModelError("the network refuses"),
    ],
)
def test_an_out_of_memory_or_a_refusal_is_a_row_that_is_tried_again(error, tmp_path):
    model = failing(error)
    bench({"m": model}, out=tmp_path / "whole", **SMALL)
    stopped = failing(error, model.network.calls - 4)
    first = bench({"m": stopped}, out=tmp_path / "rows", **SMALL)
    *done, last = first.rows
    assert all(row.rmse is not None and row.skipped is None for row in done)
    assert last.rmse is None and last.nfe is None and last.rank is None
    text = str(error).splitlines()[0] if str(error) else ""
    assert text in last.skipped and "more" not in last.skipped
    assert last.skipped.startswith("out of memory") != isinstance(error, FewstepError)
    stopped.network.after = 10**9
    again = bench({"m": stopped}, out=tmp_path / "rows", **SMALL)
    assert all(row.rmse is not None for row in again.rows)


def test_memory_that_ends_at_the_quality_leaves_the_solver_error(monkeypatch):
    def rate(self, material):
        raise MemoryError

    monkeypatch.setattr("fewstep.eval.benchmark.subject.Subject.rate", rate)
    settings = {**SMALL, "samplers": ["ddim"], "nfes": [3]}
    (row,) = bench("mixture", samples=200, top=1, **settings).rows
    assert row.rmse is not None and row.quality is None
    assert row.skipped == "quality: out of memory"


def test_a_network_that_gives_nan_late_is_a_row_that_says_so():
    calls = {"n": 0}

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls["n"] += 1
        y = 0.25 * x / (0.25 + t.view(-1, 1, 1, 1) ** 2)
        return y * float("nan") if calls["n"] > calls.get("most", 10**9) else y

    def model():
        schedule = fewstep.schedules.EDM(0.02, 20.0)
        return fewstep.models.wrap(network, schedule, "x0", time="sigma", shape=(1, 4, 4))

    bench({"m": model()}, **SMALL)
    calls.update(most=calls["n"] - 4, n=0)
    *done, last = bench({"m": model()}, **SMALL).rows
    assert all(row.skipped is None for row in done)
    assert last.rmse is None and "not finite" in last.skipped


def test_a_bug_at_the_command_line_shows_its_traceback(tmp_path, capsys, monkeypatch):
    def draw(*arguments: object) -> None:
        raise AttributeError("planted")

    monkeypatch.setattr("fewstep.eval.benchmark.subject.Subject.draw", draw)
    flags = ["--samplers", "ddim", "--nfe", "2", "--seeds", "2", "--tolerance", "0.5"]
    argv = ["bench", "--models", "mixture", *flags, "--out", str(tmp_path)]
    assert cli.main(argv) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "AttributeError: planted" in said
    assert not (tmp_path / "bench.md").exists()
